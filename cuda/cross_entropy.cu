#include "cross_entropy_launch.hpp"

SSM_CROSS_ENTROPY(float)
SSM_CROSS_ENTROPY(double)
