#include "sample_tokens_launch.hpp"

SSM_SAMPLE_TOKENS(float)
SSM_SAMPLE_TOKENS(double)
