#include "s4d_kernel_launch.hpp"

SSM_S4D_KERNEL(float)
SSM_S4D_KERNEL(double)
