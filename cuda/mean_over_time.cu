#include "instance.hpp"
#include "mean_over_time_launch.hpp"

SSM_OPERATION(mean_over_time, MeanOverTime, float)
SSM_OPERATION(mean_over_time, MeanOverTime, double)
