#define SSM_INSTANCE template
#include "support/instances.hpp"
