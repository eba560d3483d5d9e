#include "selective_launch.hpp"

SSM_SELECTIVE_SCAN(double, double)
SSM_SELECTIVE_SCAN(double, std::complex<double>)
