#include "instance.hpp"
#include "products_launch.hpp"

SSM_OPERATION(linear, Linear, float)
SSM_OPERATION(linear, Linear, double)
