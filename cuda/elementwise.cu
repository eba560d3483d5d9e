#include "elementwise_launch.hpp"
#include "instance.hpp"

#define SSM_ELEMENTWISE(T)            \
  SSM_FORWARD(add, Add, T)            \
  SSM_FORWARD(copy_rows, CopyRows, T) \
  SSM_OPERATION(gelu, Gelu, T)        \
  SSM_OPERATION(glu, Glu, T)          \
  SSM_OPERATION(swiglu, Swiglu, T)    \
  SSM_OPERATION(dropout, Dropout, T)  \
  SSM_OPERATION(decay, Decay, T)
SSM_ELEMENTWISE(float)
SSM_ELEMENTWISE(double)
