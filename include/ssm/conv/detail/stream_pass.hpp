#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

#include "ssm/conv/detail/long_conv_pass.hpp"
#include "ssm/conv/detail/stream_head.hpp"
#include "ssm/conv/detail/stream_level.hpp"
#include "ssm/conv/detail/stream_partition.hpp"
#include "ssm/conv/fft.hpp"
#include "ssm/conv/stream_conv_types.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/view.hpp"

namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// Numbers of each part of a state.
struct StreamSizes {
  Index past = 0, head = 0, spectra = 0, outputs = 0;

  StreamSizes& operator+=(const StreamSizes& more) noexcept {
    past += more.past;
    head += more.head;
    spectra += more.spectra;
    outputs += more.outputs;
    return *this;
  }
};

/// Where the parts of a block of channels are.
template <class T>
struct StreamMemory {
  T *past, *head, *spectra, *outputs;
};

/// The convolution of a stream of one channel, or of a channel in each lane: a head, and partitions
/// of each size.
template <class T>
class StreamPass {
 public:
  static constexpr Index W = lanes<T>;

  StreamPass(Index taps, Lanes order, const StreamConvOptions& options)
      : order_(order), width_(order == Lanes::times ? 1 : W), taps_(taps) {
    const Index shortest = (std::max)(options.shortest, shortest_partition<T>(order));
    const Index longest =
        (std::max)(shortest, options.longest > 0 ? options.longest : longest_partition);
    const StreamPlan plan =
        plan_stream_conv<T>(taps, order, shortest, longest, options.shortest > 0);
    head_ = plan.head;
    const Index group = head_steps<T>(order);
    ring_ = (taps + group - 1) / group * group;
    for (const StreamPartition& partition : plan.partitions) {
      levels_.emplace_back(partition, order);
      // A window is loaded while the next block comes in.
      const Index n = partition.steps;
      ring_ = (std::max)(3 * n, (taps + n - 1) / n * n);
    }
    sizes_ = {ring_ * width_, head_ * width_, 0, 0};
    for (const StreamLevel<T>& level : levels_) {
      sizes_.spectra += level.spectra_size();
      sizes_.outputs += level.outputs_size();
    }
  }

  [[nodiscard]] Lanes order() const noexcept { return order_; }
  [[nodiscard]] const StreamSizes& sizes() const noexcept { return sizes_; }
  [[nodiscard]] const std::vector<StreamLevel<T>>& levels() const noexcept { return levels_; }
  [[nodiscard]] Index head() const noexcept { return head_; }
  [[nodiscard]] Index kernel_size() const noexcept {
    Index size = head_kernel_size();
    for (const StreamLevel<T>& level : levels_) size += level.kernel_size();
    return size;
  }

  /// The scratch memory that load_kernel needs.
  [[nodiscard]] Index scratch_size() const noexcept {
    return levels_.empty() ? 0 : levels_.back().transform_size();
  }

  /// Makes a block's kernels ready.
  void load_kernel(const StreamConvInputs<T>& inputs, const LongConvBlock& block, T* kernel,
                   T* scratch) const {
    const auto tap = [&](Index l, Index lane) {
      if (lane >= block.used || l >= taps_) return T(0);
      const Index c = block.channel + lane;
      const T k = inputs.kernel(c, l);
      return l == 0 && inputs.D ? k + inputs.D(c) : k;
    };
    T* to = kernel;
    if (order_ == Lanes::times)
      for (Index l = head_ - W; l < head_; ++l) *to++ = tap(l, 0);
    for (Index l = 0; l < head_; ++l)
      for (Index lane = 0; lane < width_; ++lane) *to++ = tap(l, lane);
    for (const StreamLevel<T>& level : levels_) {
      level.load_kernel(tap, to, scratch);
      to += level.kernel_size();
    }
  }

  /// The steps from `time` on.
  void run(Index time, const View<const T, 2>& u, const View<T, 2>& y, const LongConvBlock& block,
           const T* kernel, const StreamMemory<T>& memory) const noexcept {
    const Index length = u.extent(0);
    for (Index done = 0; done < length;) {
      const Index now = time + done;
      Index count = length - done;
      if (!levels_.empty()) {
        const Index n = levels_.front().steps();
        count = (std::min)(count, n - now % n);
      }
      const auto input = u.slice(0, done, count);
      const auto output = y.slice(0, done, count);
      if (order_ == Lanes::times)
        sum_times(now, input, output, block, kernel, memory);
      else
        sum_lanes(now, input, output, block, kernel, memory);
      const T* spectra_of_kernel = kernel + head_kernel_size();
      T *spectra = memory.spectra, *outputs = memory.outputs;
      for (const StreamLevel<T>& level : levels_) {
        level.work(now, count, memory.past, ring_, spectra_of_kernel, spectra, outputs);
        spectra_of_kernel += level.kernel_size();
        spectra += level.spectra_size();
        outputs += level.outputs_size();
      }
      done += count;
    }
  }

  /// The last taps − 1 inputs before `time`.
  void get_past(Index time, const T* past, const LongConvBlock& block,
                const View<T, 2>& to) const noexcept {
    const Index count = taps_ - 1;
    for (Index i = 0; i < count; ++i) {
      const Index at = (time % ring_ + ring_ - count + i) % ring_;
      for (Index c = 0; c < block.used; ++c) to(i, block.channel + c) = past[at * width_ + c];
    }
  }

 private:
  static constexpr Index longest_partition = longest_fft / 8;

  [[nodiscard]] Index head_kernel_size() const noexcept {
    return order_ == Lanes::times ? HeadOfTimes<T>::kernel_size(head_)
                                  : HeadOfLanes<T>::kernel_size(head_);
  }
  /// What the partitions give to the vector of steps that begins at `time`.
  [[nodiscard]] Vec<T> tail(Index time, const T* outputs) const noexcept {
    Vec<T> sum(T(0));
    for (const StreamLevel<T>& level : levels_) {
      sum = sum + Vec<T>::load(level.output(time, outputs));
      outputs += level.outputs_size();
    }
    return sum;
  }

  void sum_times(Index time, const View<const T, 2>& u, const View<T, 2>& y,
                 const LongConvBlock& block, const T* kernel,
                 const StreamMemory<T>& memory) const noexcept {
    const T* from = &u(0, block.channel);
    T* to = &y(0, block.channel);
    const Index end = time + u.extent(0);
    for (Index t = time; t < end;) {
      const Index vector = t - t % W, first = t - vector, last = (std::min)(W, end - vector);
      T* const inputs = memory.past + vector % ring_;
      for (Index i = first; i < last; ++i, from += u.stride(0)) inputs[i] = *from;
      const Vec<T> sum =
          HeadOfTimes<T>::step(kernel, head_, vector % head_, inputs, first, last, memory.head) +
          tail(vector, memory.outputs);
      std::array<T, static_cast<std::size_t>(W)> numbers;
      sum.store(numbers.data());
      for (Index i = first; i < last; ++i, to += y.stride(0))
        *to = numbers[static_cast<std::size_t>(i)];
      t = vector + last;
    }
  }

  void sum_lanes(Index time, const View<const T, 2>& u, const View<T, 2>& y,
                 const LongConvBlock& block, const T* kernel,
                 const StreamMemory<T>& memory) const noexcept {
    constexpr Index group = HeadOfLanes<T>::group;
    const BlockRows<const T> from(u, block);
    const BlockRows<T> to(y, block);
    std::array<T, static_cast<std::size_t>(group * W)> sums;
    const Index end = time + u.extent(0);
    for (Index t = time; t < end;) {
      const Index begin = t - t % group, first = t - begin, last = (std::min)(group, end - begin);
      T* const inputs = memory.past + begin % ring_ * W;
      for (Index i = first; i < last; ++i) from.load(begin + i - time).store(inputs + i * W);
      HeadOfLanes<T>::step(kernel, head_, begin % head_, inputs, first, last, memory.head,
                           sums.data());
      for (Index i = first; i < last; ++i)
        to.store(begin + i - time,
                 Vec<T>::load(sums.data() + i * W) + tail(begin + i, memory.outputs));
      t = begin + last;
    }
  }

  Lanes order_;
  Index width_, taps_, head_ = 0, ring_ = 0;
  std::vector<StreamLevel<T>> levels_;
  StreamSizes sizes_;
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
