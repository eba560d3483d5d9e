#include "causal_conv_launch.hpp"

SSM_CAUSAL_CONV(float)
SSM_CAUSAL_CONV(double)
SSM_CAUSAL_CONV(ssm::Half)
SSM_CAUSAL_CONV(ssm::Bfloat16)
