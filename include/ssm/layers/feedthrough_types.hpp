#pragma once

#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"

namespace ssm {

/// What feedthrough reads.
template <class T, class Space = Host>
struct FeedthroughInputs {
  View<const T, 2, Space> u;  ///< (rows, width), elements of a row adjacent
  View<const T, 1, Space> D;  ///< (width), contiguous
};

/// There is nothing to choose.
struct FeedthroughOptions {};

/// What feedthrough writes.
template <class T, class Space = Host>
struct FeedthroughOutputs {
  View<T, 2, Space> y;  ///< (rows, width), added to; elements of a row adjacent
};

/// The gradient of a scalar loss with respect to the output, which feedthrough_backward reads.
template <class T, class Space = Host>
struct FeedthroughOutputGradients {
  View<const T, 2, Space> y;  ///< (rows, width), elements of a row adjacent
};

/// The gradients that feedthrough_backward writes.
template <class T, class Space = Host>
struct FeedthroughInputGradients {
  View<T, 2, Space> u;  ///< (rows, width), added to; elements of a row adjacent
  View<T, 1, Space> D;  ///< (width), overwritten
};

/// Scratch memory of feedthrough_backward. It grows to the largest call.
template <class T, class Space = Host>
struct FeedthroughScratch;

template <class T>
struct FeedthroughScratch<T, Host> {
  Tensor<T, 2> partials;  ///< (pieces, width): shares of the gradient of D
};

}  // namespace ssm
