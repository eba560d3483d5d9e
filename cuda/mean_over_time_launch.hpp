#pragma once

#include "row_sequences.hpp"
#include "rows.hpp"
#include "ssm/cuda/mean_over_time.hpp"

namespace ssm {
namespace kernels {

/// Sequences as arrays have them: in the order of memory, as the direction of time has no effect.
inline RowSequences in_memory(const Sequences<Device>& sequences, Index length) {
  return RowSequences(Sequences<Device>{sequences.offsets, false}, length);
}

/// 1/steps, and 0 for no step.
template <class T>
SSM_DEVICE T share_of(Index steps) {
  return steps > 0 ? T(1) / static_cast<T>(steps) : T(0);
}

/// A block for each sequence and 32 channels; a warp takes every eighth step.
template <class T>
struct MeanOverTime {
  static constexpr int most_threads = 256, each = most_threads / warp;
  Array<const T, 3> x;
  Array<T, 2> y;
  RowSequences sequences;
  Index width, panels;

  SSM_DEVICE void operator()(Block& block) const {
    const Shared<T> room = block.shared<T>(most_threads);
    const Index s = block.index() / panels,
                c = block.index() % panels * warp + block.thread() % warp;
    const bool packed = sequences.offsets != nullptr;
    const Index row = packed ? 0 : s, k = packed ? s : 0;
    const Index begin = sequences.start(k);
    const Index end = k + 1 < sequences.count ? sequences.start(k + 1) : sequences.length;
    T sum = 0;
    SSM_UNROLL_BY(8)
    for (Index t = begin + block.thread() / warp; c < width && t < end; t += each)
      sum += x(row, t, c);
    room[block.thread()] = sum;
    block.sync();
    if (block.thread() >= warp || c >= width) return;
    T total = 0;
    for (int w = 0; w < each; ++w) total += room[w * warp + block.thread()];
    y(s, c) = total * share_of<T>(end - begin);
  }
};

template <class T>
struct MeanOverTimeBackward {
  using Value = T;
  Array<const T, 2> dy;
  Array<T, 3> dx;
  RowSequences sequences;

  SSM_DEVICE T load(Index r, Index c) const {
    const Index row = r / sequences.length, t = r % sequences.length;
    const Index k = sequences.before(t + 1);
    const Index end = k + 1 < sequences.count ? sequences.start(k + 1) : sequences.length;
    return dy(sequences.number(row, k), c) * share_of<T>(end - sequences.start(k));
  }
  SSM_DEVICE void store(Index r, Index c, T value) const {
    dx(r / sequences.length, r % sequences.length, c) = value;
  }
};

}  // namespace kernels

template <class T>
void mean_over_time(const Cuda& backend, const MeanOverTimeInputs<T, Device>& inputs,
                    const MeanOverTimeOptions&,
                    const std::type_identity_t<MeanOverTimeOutputs<T, Device>>& outputs,
                    MeanOverTimeScratch<T, Device>&) {
  using namespace kernels;
  const char* function = "mean_over_time";
  const auto& x = inputs.x;
  const auto& y = outputs.y;
  ssm::detail::check_mean_over_time(function, inputs);
  ssm::detail::check_output_rows(function, "y", y, ssm::detail::mean_extents(inputs));
  ssm::detail::check_no_overlap(function, "y", y, "x", x);
  const Index width = x.extent(2), panels = (width + warp - 1) / warp;
  using Kernel = MeanOverTime<T>;
  launch(backend, function, y.extent(0) * panels, Kernel::most_threads,
         shared_size<T>(Kernel::most_threads),
         Kernel{Array<const T, 3>(x), Array<T, 2>(y), in_memory(inputs.sequences, x.extent(1)),
                width, panels});
}

template <class T>
void mean_over_time_backward(
    const Cuda& backend, const MeanOverTimeInputs<T, Device>& inputs, const MeanOverTimeOptions&,
    const std::type_identity_t<MeanOverTimeOutputGradients<T, Device>>& output_gradients,
    const std::type_identity_t<MeanOverTimeInputGradients<T, Device>>& input_gradients,
    MeanOverTimeScratch<T, Device>&) {
  using namespace kernels;
  const char* function = "mean_over_time_backward";
  const auto& x = inputs.x;
  const auto& dy = output_gradients.y;
  const auto& dx = input_gradients.x;
  ssm::detail::check_mean_over_time(function, inputs);
  ssm::detail::check_rows(function, "the gradient of y", dy, ssm::detail::mean_extents(inputs));
  ssm::detail::check_output_rows(function, "the gradient of x", dx, x.extents());
  ssm::detail::check_no_overlap(function, "the gradient of x", dx, "the gradient of y", dy);
  launch_rows(backend, function, x.extent(0) * x.extent(1), x.extent(2), false,
              MeanOverTimeBackward<T>{Array<const T, 2>(dy), Array<T, 3>(dx),
                                      in_memory(inputs.sequences, x.extent(1))});
}

}  // namespace ssm
