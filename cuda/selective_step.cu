#include "selective_step_launch.hpp"

SSM_SELECTIVE_STEP(float, float)
SSM_SELECTIVE_STEP(double, double)
SSM_SELECTIVE_STEP(ssm::Half, float)
SSM_SELECTIVE_STEP(ssm::Bfloat16, float)
SSM_SELECTIVE_STEP(float, std::complex<float>)
SSM_SELECTIVE_STEP(double, std::complex<double>)
