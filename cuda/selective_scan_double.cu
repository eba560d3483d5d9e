#include "selective_scan.hpp"

SSM_SELECTIVE_SCAN(double, double)
SSM_SELECTIVE_SCAN(double, std::complex<double>)
