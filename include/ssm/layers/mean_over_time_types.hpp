#pragma once

#include <array>
#include <string_view>

#include "ssm/core/checks.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"

namespace ssm {

/// What mean_over_time reads.
template <class T, class Space = Host>
struct MeanOverTimeInputs {
  View<const T, 3, Space> x;        ///< (batch, length, width), elements of a row adjacent;
                                    ///< backward reads only its extents
  Sequences<Space> sequences = {};  ///< packed sequences; the direction of time has no effect
};

/// There is nothing to choose.
struct MeanOverTimeOptions {};

/// What mean_over_time writes.
template <class T, class Space = Host>
struct MeanOverTimeOutputs {
  View<T, 2, Space> y;  ///< (sequences, width), elements of a row adjacent
};

/// The gradient of a scalar loss with respect to the output, which mean_over_time_backward reads.
template <class T, class Space = Host>
struct MeanOverTimeOutputGradients {
  View<const T, 2, Space> y;  ///< (sequences, width), elements of a row adjacent
};

/// The gradients that mean_over_time_backward writes.
template <class T, class Space = Host>
struct MeanOverTimeInputGradients {
  View<T, 3, Space> x;  ///< (batch, length, width), elements of a row adjacent, overwritten; may be
                        ///< the memory of x
};

/// Scratch memory of mean_over_time; empty with one cpu.
template <class T, class Space = Host>
struct MeanOverTimeScratch {};

template <class T>
struct MeanOverTimeScratch<T, Host> {
  Tensor<T, 3> shares;   ///< (pieces, sequences, width), where time lies in several
  Tensor<T, 2> sum, dy;  ///< (sequences, width)
};

namespace detail {

/// (sequences, width)
template <class T, class Space>
[[nodiscard]] std::array<Index, 2> mean_extents(const MeanOverTimeInputs<T, Space>& in) noexcept {
  return {in.sequences.count(in.x.extent(0)), in.x.extent(2)};
}

template <class T, class Space>
void check_mean_over_time(std::string_view function, const MeanOverTimeInputs<T, Space>& in) {
  check_rows(function, "x", in.x, in.x.extents());
  check_sequences(function, in.sequences, in.x.extent(0), in.x.extent(1));
}

}  // namespace detail
}  // namespace ssm
