#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/detail/simd_lanes.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/scan/detail/selective_scan_checks.hpp"
#include "ssm/scan/detail/selective_scan_kernel.hpp"
#include "ssm/scan/detail/selective_scan_lanes.hpp"
#include "ssm/scan/selective_scan_types.hpp"

namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// Whether there is vector code for these inputs: B and C vary, channels are contiguous.
template <class T, class K>
[[nodiscard]] bool is_fast_case(const SelectiveScanInputs<T, K>& in) noexcept {
  return in.B.varying && in.C.varying && is_contiguous_in_channels(in.u) &&
         is_contiguous_in_channels(in.delta) && is_contiguous_in_channels(in.z) &&
         is_contiguous_in_channels(in.B.varying) && is_contiguous_in_channels(in.C.varying) &&
         is_contiguous_in_channels(in.D) && is_contiguous_in_channels(in.delta_bias);
}

/// lanes<T> neighbouring channels of one group, fewer at the group's end.
struct ChannelBlock {
  Index first, count, group;
};

/// The elements of K as those of their real and imaginary parts.
template <class K>
[[nodiscard]] Real<K>* parts_of(K* p) noexcept {
  return reinterpret_cast<Real<K>*>(p);
}
template <class K>
[[nodiscard]] const Real<K>* parts_of(const K* p) noexcept {
  return reinterpret_cast<const Real<K>*>(p);
}

/// What both directions of the fast selective scan share: channels cut into blocks, with the
/// states of a block as (state, parts, lanes), and time made to run forward.
template <class K>
class SelectiveBlocks {
 protected:
  using T = Real<K>;
  static constexpr Index W = lanes<T>;
  static constexpr Index parts = state_parts<K>;

  SelectiveBlocks(const SelectiveScanInputs<T, K>& in, const SelectiveScanOptions& options,
                  const SelectiveSizes& sizes)
      : in_(in),
        options_(options),
        sizes_(sizes),
        blocks_per_group_((sizes.channels / sizes.groups + W - 1) / W),
        blocks_(blocks_per_group_ * sizes.groups),
        block_states_(sizes.state * parts * W) {}

  [[nodiscard]] bool is_exact() const noexcept { return options_.hold == Hold::zero_order; }

  /// As many threads as the work pays for, which is `passes` times that of a forward pass.
  [[nodiscard]] Cpu threads_worth(const Cpu& backend, double passes) const noexcept {
    constexpr double nanoseconds = 1.5;  // a vector of states, a step, roughly
    const double kind = (parts == 2 ? 2.5 : 1) * (is_exact() ? 1.5 : 1);
    return for_work(backend, passes * kind * nanoseconds *
                                 static_cast<double>(sizes_.batch * sizes_.length) *
                                 static_cast<double>(blocks_ * (sizes_.state + 3)));
  }

  [[nodiscard]] ChannelBlock block(Index b) const noexcept {
    const Index group = sizes_.groups == 1 ? 0 : b / blocks_per_group_;  // divisions take long
    const Index group_channels =
        sizes_.groups == 1 ? sizes_.channels : sizes_.channels / sizes_.groups;
    const Index within = (b - group * blocks_per_group_) * W;
    return {group * group_channels + within, (std::min)(W, group_channels - within), group};
  }

  /// Elements of a block's A, and of 1/A where the hold is exact.
  [[nodiscard]] Index block_rates() const noexcept {
    return is_exact() ? 2 * block_states_ : block_states_;
  }
  /// A of a block as (state, parts, lanes), zero in the lanes past a group's end; after it, for the
  /// exact hold, 1/A.
  void pack_rates(const ChannelBlock& at, T* to) const noexcept {
    load_states(in_.A.data() + at.first * in_.A.stride(0), in_.A.stride(0), in_.A.stride(1),
                at.count, to);
    if (is_exact()) invert_rates(to, to + block_states_);
  }
  /// The same of every block, into the scratch.
  void pack_rates(SelectiveScanScratch<T, K>& scratch) const {
    scratch.tiles.resize({blocks_ * block_rates()});
    for (Index b = 0; b < blocks_; ++b)
      pack_rates(block(b), scratch.tiles.data() + b * block_rates());
  }
  [[nodiscard]] const T* rates_of(Index b, const SelectiveScanScratch<T, K>& scratch) const {
    return scratch.tiles.data() + b * block_rates();
  }

  /// (channel, state) elements of K, `channels` of them, to (state, parts, lanes); zero in the rest
  /// and without `from`.
  void load_states(const K* from, Index channel_stride, Index state_stride, Index channels,
                   T* x) const noexcept {
    const Index rows = sizes_.state * parts;
    Index row = 0;
    if (from == nullptr || channels == 0) {
      std::fill_n(x, rows * W, T(0));
      return;
    }
    if (state_stride == 1 && channels == W) {
      for (; row + W <= rows; row += W) {
        Vec<T> matrix[W];
        unroll<W>([&](auto lane) {
          matrix[lane] = Vec<T>::load(parts_of(from + lane * channel_stride) + row);
        });
        transpose(matrix);
        unroll<W>([&](auto n) { matrix[n].store(x + (row + n) * W); });
      }
    }
    for (; row < rows; ++row)
      for (Index lane = 0; lane < W; ++lane)
        x[row * W + lane] =
            lane < channels
                ? parts_of(from + lane * channel_stride + row / parts * state_stride)[row % parts]
                : T(0);
  }
  void load_states(const View<const K, 3>& states, Index sequence, const ChannelBlock& at,
                   T* x) const noexcept {
    load_states(states ? states.data() + sequence * states.stride(0) + at.first * states.stride(1)
                       : nullptr,
                states ? states.stride(1) : 0, states ? states.stride(2) : 0, at.count, x);
  }
  void store_states(const View<K, 3>& states, Index sequence, const ChannelBlock& at,
                    const T* x) const noexcept {
    if (!states) return;
    const Index rows = sizes_.state * parts;
    K* const to = states.data() + sequence * states.stride(0) + at.first * states.stride(1);
    Index row = 0;
    if (states.stride(2) == 1 && at.count == W) {
      for (; row + W <= rows; row += W) {
        Vec<T> matrix[W];
        unroll<W>([&](auto n) { matrix[n] = Vec<T>::load(x + (row + n) * W); });
        transpose(matrix);
        unroll<W>(
            [&](auto lane) { matrix[lane].store(parts_of(to + lane * states.stride(1)) + row); });
      }
    }
    for (; row < rows; ++row)
      for (Index lane = 0; lane < at.count; ++lane)
        parts_of(to + lane * states.stride(1) + row / parts * states.stride(2))[row % parts] =
            x[row * W + lane];
  }

  /// Tiles before those of `sequence`; a packed sequence may start anywhere, so it gets its own.
  [[nodiscard]] Index first_tile(Index sequence) const noexcept {
    if (in_.sequences.offsets) return in_.sequences.offsets(sequence) / tile_steps + sequence;
    return sequence * ((sizes_.length + tile_steps - 1) / tile_steps);
  }
  [[nodiscard]] Index kept_tiles() const noexcept {
    if (in_.sequences.offsets) return sizes_.length / tile_steps + sizes_.sequences;
    return first_tile(sizes_.sequences);
  }

  /// The rows of a view from `first`, a channel or the number of a group, on.
  template <class U, std::size_t Rank>
  [[nodiscard]] Rows<U> rows(const View<U, Rank>& view, const SequenceSpan& span,
                             Index first) const noexcept {
    if (!view || span.length() == 0) return {};
    const Index start = in_.sequences.reversed ? span.end - 1 : span.begin;
    const Index sign = in_.sequences.reversed ? -1 : 1;
    return {view.data() + span.row * view.stride(0) + start * view.stride(1) +
                first * (Rank == 3 ? 1 : view.stride(2)),
            sign * view.stride(1)};
  }

  /// A block's rows of everything that has (batch, length, channels), and its coefficients.
  struct BlockInputs {
    Rows<const T> u, delta, z;
    Rows<const K> B, C;
    Vec<T> bias, D;
    const T *A, *inverse;

    [[nodiscard]] ScanChunk<K> chunk(Index n) const noexcept {
      return {A + n * parts * W, inverse + n * parts * W, B.shifted(n), C.shifted(n)};
    }
  };
  [[nodiscard]] BlockInputs block_inputs(const ChannelBlock& at, const SequenceSpan& span,
                                         Index begin, const T* rates) const {
    const auto vector = [&](const View<const T, 1>& view) {
      return view ? Vec<T>::load(view.data() + at.first, at.count) : Vec<T>(T(0));
    };
    return {rows(in_.u, span, at.first).from(begin),
            rows(in_.delta, span, at.first).from(begin),
            rows(in_.z, span, at.first).from(begin),
            rows(in_.B.varying, span, at.group).from(begin),
            rows(in_.C.varying, span, at.group).from(begin),
            vector(in_.delta_bias),
            vector(in_.D),
            rates,
            is_exact() ? rates + block_states_ : rates};
  }

  const SelectiveScanInputs<T, K>& in_;
  const SelectiveScanOptions& options_;
  SelectiveSizes sizes_;
  Index blocks_per_group_;
  Index blocks_;
  Index block_states_;  ///< elements of T

 private:
  /// 1/A, and in A itself what the exact hold can divide by.
  void invert_rates(T* A, T* inverse) const noexcept {
    constexpr T smallest = smallest_held_rate<T>;
    for (Index n = 0; n < sizes_.state; ++n)
      for (Index lane = 0; lane < W; ++lane) {
        T* const a = A + n * parts * W + lane;
        T* const to = inverse + n * parts * W + lane;
        if constexpr (parts == 1) {
          if (std::abs(*a) < smallest) *a = smallest;
          *to = 1 / *a;
        } else {
          if (std::abs(a[0]) < smallest && std::abs(a[W]) < smallest) a[0] = smallest, a[W] = 0;
          const K inverted = T(1) / K(a[0], a[W]);
          to[0] = inverted.real(), to[W] = inverted.imag();
        }
      }
  }
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
