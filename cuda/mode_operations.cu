#include "instance.hpp"
#include "mode_operations_launch.hpp"

#define SSM_MODE_OPERATIONS(T)                  \
  SSM_OPERATION(sample_modes, SampleModes, T)   \
  SSM_OPERATION(input_matrix, InputMatrix, T)   \
  SSM_OPERATION(output_matrix, OutputMatrix, T) \
  SSM_OPERATION(feedthrough, Feedthrough, T)    \
  SSM_OPERATION(add_next, AddNext, T)           \
  SSM_OPERATION(add_readout, AddReadout, T)     \
  SSM_FORWARD(decay_gradient, DecayGradient, T)
SSM_MODE_OPERATIONS(float)
SSM_MODE_OPERATIONS(double)
