#include "selective_launch.hpp"

SSM_SELECTIVE_SCAN(float, float)
SSM_SELECTIVE_SCAN(float, std::complex<float>)
