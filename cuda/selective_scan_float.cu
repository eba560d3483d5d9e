#include "selective_scan.hpp"

SSM_SELECTIVE_SCAN(float, float)
SSM_SELECTIVE_SCAN(float, std::complex<float>)
