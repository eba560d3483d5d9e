#pragma once

#include "ssm/core/tensor.hpp"

namespace ssm {

/// Room in the scratch of an operation for what a backend hands from one piece of time to the next,
/// where pieces lie apart. Empty with other backends.
template <class K>
struct PassedStates {
  Tensor<K, 1> arrived;  ///< the state before the first step of this piece, kept for backward
  Tensor<K, 1> leaving;  ///< what goes on to a neighbour
};

}  // namespace ssm
