#include "linear_launch.hpp"

SSM_LINEAR_SCAN(float)
SSM_LINEAR_SCAN(double)
SSM_LINEAR_SCAN(std::complex<float>)
SSM_LINEAR_SCAN(std::complex<double>)
