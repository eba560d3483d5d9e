#include "selective_launch.hpp"

SSM_SELECTIVE_SCAN(ssm::Half, std::complex<float>)
SSM_SELECTIVE_SCAN(ssm::Bfloat16, std::complex<float>)
