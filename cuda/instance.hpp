#pragma once

// Instances of operations of one type, in the files that define them.

#define SSM_FORWARD(op, Op, T)                                                         \
  template void ssm::op(const Cuda&, const Op##Inputs<T, Device>&, const Op##Options&, \
                        const Op##Outputs<T, Device>&, Op##Scratch<T, Device>&);
#define SSM_OPERATION(op, Op, T)                                                                  \
  SSM_FORWARD(op, Op, T)                                                                          \
  template void ssm::op##_backward(const Cuda&, const Op##Inputs<T, Device>&, const Op##Options&, \
                                   const Op##OutputGradients<T, Device>&,                         \
                                   const Op##InputGradients<T, Device>&, Op##Scratch<T, Device>&);
