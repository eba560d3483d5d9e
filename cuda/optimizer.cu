#include "optimizer_launch.hpp"

SSM_UPDATE_PIECES(float)
SSM_UPDATE_PIECES(double)
