#pragma once

#include "ssm/core/index.hpp"
#include "ssm/core/view.hpp"

namespace ssm {

/// The kernels that a StreamConv is made of.
template <class T, class Space = Host>
struct StreamConvInputs {
  View<const T, 2, Space> kernel;  ///< K (channels, taps); tap 0 multiplies the present input; at
                                   ///< least one tap
  View<const T, 1, Space> D = {};  ///< (channels), optional: no feedthrough when absent
};

/// How the kernels are cut into partitions. All cuts give the same result up to rounding.
struct StreamConvOptions {
  Index shortest =
      0;              ///< steps of the shortest partition, a power of two; where a transform can
                      ///< not be so short, the shortest that there is; 0: what takes the least time
  Index longest = 0;  ///< no partition is longer, as far as there are shorter ones; a power of two;
                      ///< 0: no limit. Where it is `shortest`, all partitions are of one size
};

/// What a stream carries from step to step: a plain value, which may be copied and set back later.
/// make_state makes it, for the beginning of a stream.
template <class T, class Space = Host>
struct StreamConvState;

}  // namespace ssm
