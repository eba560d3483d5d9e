#pragma once

#include <algorithm>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/view.hpp"
#include "ssm/scan/linear_scan_types.hpp"

/// The linear scan in pieces of channels and of time.
namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// How a linear scan is cut into pieces. It depends on the shape alone, so that the bits do not
/// depend on the number of threads.
struct LinearScanPlan {
  Index block, blocks;  ///< channels of a piece, and pieces over the channels
  Index chunk, chunks;  ///< steps of a piece, and pieces over time
};

/// Time is cut only when batch and channels alone keep few threads busy, as a cut scan reads its
/// inputs twice, and never into chunks too short to pay for a carry.
inline LinearScanPlan plan_linear_scan(Index batch, Index length, Index channels) {
  constexpr Index block = 256, enough_pieces = 32, shortest_chunk = 256;
  const Index blocks = (channels + block - 1) / block;
  const Index pieces = (std::max<Index>)(1, batch * blocks);
  const Index cuts = (std::min)((enough_pieces + pieces - 1) / pieces, length / shortest_chunk);
  const Index chunk = cuts <= 1 ? (std::max<Index>)(1, length) : (length + cuts - 1) / cuts;
  return {block, blocks, chunk, (std::max<Index>)(1, (length + chunk - 1) / chunk)};
}

/// The same run of channels at every step of one sequence, in the order of time.
template <class K, int Width>
struct ScanRows {
  using Array = Eigen::Array<std::remove_const_t<K>, Width, 1>;
  using Row = Eigen::Map<std::conditional_t<std::is_const_v<K>, const Array, Array>>;
  /// Where a running row lives: a narrow one in registers, a wide one in its memory.
  using Running = std::conditional_t<Width == Eigen::Dynamic, Row, Array>;

  K* data;
  Index stride, width;

  ScanRows(const View<K, 3>& view, Index sequence, Index channel, Index count)
      : data(view.size() > 0 ? view.data() + sequence * view.stride(0) + channel : nullptr),
        stride(view.stride(1)),
        width(count) {}

  [[nodiscard]] Row operator()(Index step) const { return Row(data + step * stride, width); }
};

/// The recurrence of the linear scan, x_t = a_t x_{t−1} + b_t, or, with Adjoint, that of its
/// gradient walked back in time, x_t = conj(a_{t−1}) x_{t−1} + b_t with a_{−1} = 1.
template <bool Adjoint, class K, int Width>
struct LinearRecurrence {
  ScanRows<const K, Width> a, b;

  LinearRecurrence(const View<const K, 3>& a_view, const View<const K, 3>& b_view, Index sequence,
                   Index channel, Index count)
      : a(a_view, sequence, channel, count), b(b_view, sequence, channel, count) {}

  template <class Previous, class Next>
  void step(Index t, const Previous& previous, Next&& next) const {
    if constexpr (!Adjoint)
      next = a(t) * previous + b(t);
    else if (t == 0)
      next = previous + b(t);
    else
      next = a(t - 1).conjugate() * previous + b(t);
  }

  template <class Product>
  void decay(Index t, Product&& product) const {
    if constexpr (!Adjoint)
      product *= a(t);
    else if (t > 0)
      product *= a(t - 1).conjugate();
  }
};

/// Calls body(width, sequence, channel, count) for the runs of channels of one piece: the whole
/// row, or each channel by itself where a row is too narrow for vectors.
template <class Body>
void for_runs(const LinearScanPlan& plan, Index piece, Index channels, const Body& body) {
  constexpr Index narrow = 8;
  const Index sequence = piece / plan.blocks, channel = piece % plan.blocks * plan.block;
  const Index count = (std::min)(plan.block, channels - channel);
  if (count >= narrow)
    body(std::integral_constant<int, Eigen::Dynamic>(), sequence, channel, count);
  else
    for (Index c = 0; c < count; ++c)
      body(std::integral_constant<int, 1>(), sequence, channel + c, Index(1));
}

/// Runs the recurrence over views whose first step in time is their first in memory.
///
/// Three passes over fixed pieces: every chunk of time finds its decay and its end state from zero;
/// the carry runs over the chunks; every chunk runs again from the state that enters it. A single
/// chunk needs the last pass only. `emit(width, sequence, channel, count, t)` follows every row.
template <bool Adjoint, class K, class Emit>
void scan_pieces(const Cpu& backend, const View<const K, 3>& a, const View<const K, 3>& b,
                 const View<const K, 2>& initial_state, const View<K, 3>& x,
                 LinearScanScratch<K>& scratch, const Emit& emit) {
  const Index batch = x.extent(0), length = x.extent(1), channels = x.extent(2);
  const LinearScanPlan plan = plan_linear_scan(batch, length, channels);
  scratch.carry.resize({batch, plan.chunks, channels});
  scratch.decay.resize({batch, plan.chunks, channels});
  const View<K, 3> carries = scratch.carry, decays = scratch.decay;
  const Index pieces = batch * plan.blocks;

  parallel_for(backend, pieces * (plan.chunks - 1), [&](Index i) {
    const Index chunk = i / pieces;
    for_runs(plan, i % pieces, channels, [&](auto width, Index sequence, Index channel, Index n) {
      using Rows = ScanRows<K, width>;
      const LinearRecurrence<Adjoint, K, width> recurrence(a, b, sequence, channel, n);
      const Rows carry(carries, sequence, channel, n), decay(decays, sequence, channel, n);
      typename Rows::Running state = carry(chunk + 1), product = decay(chunk + 1);
      state.setZero();
      product.setOnes();
      for (Index t = chunk * plan.chunk; t < (chunk + 1) * plan.chunk; ++t) {
        recurrence.step(t, state, state);
        recurrence.decay(t, product);
      }
      carry(chunk + 1) = state;
      decay(chunk + 1) = product;
    });
  });

  parallel_for(backend, batch, [&](Index sequence) {
    for (Index c = 0; c < channels; ++c) {
      carries(sequence, 0, c) = initial_state ? initial_state(sequence, c) : K(0);
      for (Index chunk = 1; chunk < plan.chunks; ++chunk)
        carries(sequence, chunk, c) += decays(sequence, chunk, c) * carries(sequence, chunk - 1, c);
    }
  });

  parallel_for(backend, pieces * plan.chunks, [&](Index i) {
    const Index chunk = i / pieces;
    const Index begin = chunk * plan.chunk, end = (std::min)(length, begin + plan.chunk);
    for_runs(plan, i % pieces, channels, [&](auto width, Index sequence, Index channel, Index n) {
      using Rows = ScanRows<K, width>;
      const LinearRecurrence<Adjoint, K, width> recurrence(a, b, sequence, channel, n);
      const Rows rows(x, sequence, channel, n);
      const auto entering = Rows(carries, sequence, channel, n)(chunk);
      if constexpr (width == Eigen::Dynamic) {
        for (Index t = begin; t < end; ++t) {
          recurrence.step(t, t == begin ? entering : rows(t - 1), rows(t));
          emit(width, sequence, channel, n, t);
        }
      } else {
        typename Rows::Running state = entering;
        for (Index t = begin; t < end; ++t) {
          recurrence.step(t, state, state);
          rows(t) = state;
          emit(width, sequence, channel, n, t);
        }
      }
    });
  });
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
