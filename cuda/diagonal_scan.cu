#include "diagonal_launch.hpp"

SSM_DIAGONAL_SCAN(float, float)
SSM_DIAGONAL_SCAN(double, double)
SSM_DIAGONAL_SCAN(float, std::complex<float>)
SSM_DIAGONAL_SCAN(double, std::complex<double>)
