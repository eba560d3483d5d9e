#include "instance.hpp"
#include "rms_norm_launch.hpp"

SSM_OPERATION(rms_norm, RmsNorm, float)
SSM_OPERATION(rms_norm, RmsNorm, double)
