#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ssm/conv/detail/lane_transform.hpp"
#include "ssm/conv/detail/lane_transform_parts.hpp"
#include "ssm/conv/detail/stream_partition.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/index.hpp"

namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// Partitions of one size N, for one channel or a channel in each lane. While block q of N inputs
/// comes in, the window of the blocks q − 2 and q − 1 is transformed, multiplied with the spectra
/// of the partitions, as the windows before it, and transformed back: that gives y of block q + 1.
/// All of it is cut into small items, of which every step does its share, whatever else is done.
template <class T>
class StreamLevel {
 public:
  using Transform = LaneTransform<T>;
  using Parts = LaneTransformParts<T>;
  static constexpr Index W = lanes<T>, step = Transform::step, tile = stream_tile * step;

  StreamLevel(const StreamPartition& partition, Lanes order)
      : partition_(partition),
        shift_(std::countr_zero(static_cast<std::uint64_t>(partition.steps))),
        transform_(2 * partition.steps, order),
        work_(stream_work<T>(partition, order)),
        cost_(work_.back().end) {}

  [[nodiscard]] Index steps() const noexcept { return partition_.steps; }
  [[nodiscard]] Index parts() const noexcept { return partition_.parts; }

  ///@{
  /// Numbers in memory: of a transform, of the spectra of the kernel, of those of the inputs, and
  /// of the outputs.
  [[nodiscard]] Index transform_size() const noexcept { return transform_.memory(); }
  [[nodiscard]] Index kernel_size() const noexcept { return parts() * transform_size(); }
  [[nodiscard]] Index spectra_size() const noexcept { return kernel_size(); }
  [[nodiscard]] Index outputs_size() const noexcept { return 2 * transform_size(); }
  ///@}

  /// Writes the spectra of a kernel: tap(l, lane) is tap l of the channel in a lane (of
  /// Lanes::times there is one, 0), and 0 beyond the last.
  /// @param spectrum scratch memory of the size of a transform
  template <class Tap>
  void load_kernel(const Tap& tap, T* kernel, T* spectrum) const {
    const bool times = transform_.order() == Lanes::times;
    const T scale = T(1) / static_cast<T>(steps());
    for (Index part = 0; part < parts(); ++part) {
      const Index first = (2 + part) * steps();
      for (Index p = 0; p < transform_.points(); ++p)
        for (Index lane = 0; lane < W; ++lane) {
          spectrum[p * step + lane] =
              scale * (times ? tap(first + p * W + lane, Index{0}) : tap(first + p, lane));
          spectrum[p * step + W + lane] = T(0);
        }
      transform_.forward(spectrum);
      for (Index i = 0; i < transform_.points() / stream_tile; ++i)
        std::copy_n(spectrum + i * tile, tile, kernel + (i * parts() + parts() - 1 - part) * tile);
    }
  }

  /// The share of the steps [time, time + count), which lie in one block.
  /// @param past the inputs, in a ring of `ring` steps
  void work(Index time, Index count, const T* past, Index ring, const T* kernel, T* spectra,
            T* outputs) const noexcept {
    const Index block = time >> shift_, in_block = time - (block << shift_);
    const Index slot = block % parts();
    const Index from = done_by(in_block), to = done_by(in_block + count);
    T* const window = outputs + block % 2 * transform_size();
    for (const StreamWork& w : work_) {
      if (w.begin >= to) break;
      if (w.end <= from) continue;
      const Index begin = items(w, from), end = items(w, to);
      if (begin >= end) continue;
      switch (w.task) {
        case StreamTask::load:
          load(block, past, ring, window, begin, end);
          break;
        case StreamTask::split:
          Parts::split(transform_, window, w.level, begin, end);
          break;
        case StreamTask::turn_forward:
          Parts::turn_forward(transform_, window, begin, end);
          break;
        case StreamTask::multiply:
          multiply(kernel, spectra, slot, window, begin, end);
          break;
        case StreamTask::turn_back:
          Parts::turn_back(transform_, window, begin, end);
          break;
        case StreamTask::join:
          Parts::join(transform_, window, w.level, begin, end);
          break;
      }
    }
  }

  /// What these partitions give to the steps from `time` on, as far as they lie in one vector.
  [[nodiscard]] const T* output(Index time, const T* outputs) const noexcept {
    const Index block = time >> shift_, in_block = time - (block << shift_);
    const Index point = transform_.order() == Lanes::times ? in_block / W : in_block;
    return outputs + (block + 1) % 2 * transform_size() + point * step + W;
  }

 private:
  /// The cost of the work of so many steps of a block.
  [[nodiscard]] Index done_by(Index in_block) const noexcept {
    const Index each = cost_ >> shift_;  // in two terms, as the whole product may be too large
    return each * in_block + ((cost_ - (each << shift_)) * in_block >> shift_);
  }
  [[nodiscard]] static Index items(const StreamWork& w, Index cost) noexcept {
    return std::clamp<Index>((cost - w.begin) / w.cost, 0, w.count);
  }

  /// Overlap-save: the block before the last, then the last one, of which the outputs are right.
  void load(Index block, const T* past, Index ring, T* window, Index begin,
            Index end) const noexcept {
    const Index blocks = ring >> shift_, size = transform_.points() * W;
    const T* const before = past + (block + blocks - 2) % blocks * size;
    const T* const last = past + (block + blocks - 1) % blocks * size;
    for (Index p = begin; p < end; ++p) {
      Vec<T>::load(before + p * W).store(window + p * step);
      Vec<T>::load(last + p * W).store(window + p * step + W);
    }
  }

  /// Some tiles of a window's spectrum X_q go to those of the windows before it, and in their place
  /// comes Σ_p K_p X_{q − p}. In memory, the spectra of a tile follow each other: those of the
  /// windows in a ring, those of the kernel from the last partition to the first.
  void multiply(const T* kernel, T* spectra, Index slot, T* window, Index begin,
                Index end) const noexcept {
    const Index all = parts() * tile;
    for (Index i = begin; i < end; ++i) {
      T *const at = window + i * tile, *const ring = spectra + i * all,
               *const now = ring + slot * tile;
      std::copy_n(at, tile, now);
      std::array<ComplexVec<T>, stream_tile> sum;
      sum.fill({Vec<T>(T(0)), Vec<T>(T(0))});
      const T* k = kernel + i * all;
      const auto add = [&](const T* x, const T* last) {
        for (; x < last; x += tile, k += tile)
          unroll<static_cast<int>(stream_tile)>([&](auto p) {
            auto& s = sum[static_cast<std::size_t>(p())];
            s = add_times(s, ComplexVec<T>::load(k + p() * step),
                          ComplexVec<T>::load(x + p() * step));
          });
      };
      add(now + tile, ring + all);  // the oldest first
      add(ring, now + tile);
      for (Index p = 0; p < stream_tile; ++p) sum[static_cast<std::size_t>(p)].store(at + p * step);
    }
  }

  StreamPartition partition_;
  int shift_;  // steps = 2^shift
  Transform transform_;
  std::vector<StreamWork> work_;
  Index cost_;
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
