#include "selective_launch.hpp"

SSM_SELECTIVE_SCAN(ssm::Half, float)
SSM_SELECTIVE_SCAN(ssm::Bfloat16, float)
