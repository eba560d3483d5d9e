#pragma once

#include <algorithm>
#include <array>
#include <complex>
#include <cstddef>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/scan/detail/dplr_tables.hpp"

namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// Steps between the states that forward keeps.
inline constexpr Index dplr_segment = 64;
/// Steps whose gradients backward sums at once; divides a segment.
inline constexpr Index dplr_tile = 16;

/// The recurrence of a block of channels, a channel in each lane, and its adjoint. The rank is
/// FixedRank, or any where that is negative.
template <class T, int FixedRank>
class DplrLanes {
  using V = Vec<T>;
  static constexpr Index W = lanes<T>;
  using Layout = DplrLayout;

 public:
  /// @param table of the channels from `first` on, by DplrSampling
  /// @param backward whether there is room for the adjoint too
  DplrLanes(const Layout& layout, const T* table, Index first, Index count, bool backward,
            Tensor<T, 1>& room)
      : layout_(layout), table_(table), first_(first), count_(count) {
    const Index state = layout.state() + 2, rank = layout.rank;
    const Index segment = backward ? dplr_segment : 0, tile = backward ? dplr_tile : 0;
    room.resize({W * ((segment + tile + 2) * state + (segment + 2) * (2 * rank + 2))});
    Index used = 0;
    const auto take = [&](Index vectors) {
      T* const p = room.data() + used * W;
      used += vectors;
      return p;
    };
    h_ = take((segment + 1) * state);
    g_ = take((tile + 1) * state);
    s_ = take((segment + 1) * rank);
    spare_ = take(rank);
    ds_ = take((segment + 1) * rank);
    u_ = take(segment + 1);
    dy_ = take(segment + 1);
  }

  /// Runs one sequence.
  /// @param kept where the states at the start of every segment go; null: nowhere
  void forward(const View<const T, 3>& u, const View<const std::complex<T>, 3>& initial,
               const View<T, 3>& y, const View<std::complex<T>, 3>& final, Index sequence,
               const SequenceSpan& span, bool reversed, T* kept) noexcept {
    const Index state = layout_.state() * W;
    load_state(initial, sequence, h_);
    project(h_, s_);
    const V D = V::load(feedthrough(table_));
    for (Index t = 0; t < span.length(); ++t) {
      if (kept && t % dplr_segment == 0) std::copy_n(h_, state, kept + t / dplr_segment * state);
      const Index at = span.step(t, reversed);
      const V input = load(u, span.row, at);
      store(y, span.row, at, fma(D, input, advance(h_, h_, s_, s_, input)));
    }
    store_state(h_, final, sequence);
  }

  /// Adds the gradients of one sequence to `sums`, which is laid out as the table.
  /// @param kept what forward left of this sequence
  void backward(const View<const T, 3>& u, const View<const T, 3>& dy,
                const View<const std::complex<T>, 3>& dfinal, const View<T, 3>& du,
                const View<std::complex<T>, 3>& dinitial, Index sequence, const SequenceSpan& span,
                bool reversed, const T* kept, T* sums) noexcept {
    const Index state = layout_.state() * W, pitch = pitch_of_states(), rank = layout_.rank * W;
    const Index length = span.length();
    const V D = V::load(feedthrough(table_));
    load_state(dfinal, sequence, g_);
    for (Index begin = (length - 1) / dplr_segment * dplr_segment; length > 0 && begin >= 0;
         begin -= dplr_segment) {
      const Index steps = (std::min)(dplr_segment, length - begin);
      const bool last = begin + steps == length;
      std::copy_n(kept + begin / dplr_segment * state, state, h_);
      project(h_, s_);
      for (Index i = 0; i < steps; ++i) {
        const Index at = span.step(begin + i, reversed);
        const V input = load(u, span.row, at);
        input.store(u_ + i * W);
        load(dy, span.row, at).store(dy_ + i * W);
        advance(h_ + i * pitch, h_ + (i + 1) * pitch, s_ + i * rank, s_ + (i + 1) * rank, input);
      }
      std::copy_n(ds_, rank, ds_ + steps * rank);
      for (Index end = steps; end > 0;) {
        const Index from = (end - 1) / dplr_tile * dplr_tile;
        std::copy_n(g_, state, g_ + (end - from) * pitch);  // of the step after the tile
        for (Index i = end - 1; i >= from; --i) {
          T* const g = g_ + (i - from) * pitch;
          T* const ds = ds_ + i * rank;
          const V slope = V::load(dy_ + i * W);
          const V by_u = last && i + 1 == steps
                             ? turn_back<true>(g + pitch, ds + rank, slope, g, ds)
                             : turn_back<false>(g + pitch, ds + rank, slope, g, ds);
          if (du) store(du, span.row, span.step(begin + i, reversed), fma(D, slope, by_u));
        }
        sum_tile(from, end - from, sums);
        end = from;
      }
    }
    if (!dinitial) return;
    if (length > 0) turn_back<false>(g_, ds_, V(T(0)), g_, s_);
    store_state(g_, dinitial, sequence);
  }

 private:
  /// What a loop over modes sums for every rank.
  struct Sums {
    std::array<V, static_cast<std::size_t>(FixedRank > 0 ? FixedRank : 1)> re, im;
    T* to;  // (rank), where the rank is any

    Sums(Index rank, T* result) noexcept : to(result) {
      re.fill(V(T(0)));
      im.fill(V(T(0)));
      if constexpr (FixedRank < 0) std::fill_n(to, rank * W, T(0));
    }
    void add(Index a, const T* row, V x, V y) noexcept {
      const V p = V::load(row), q = V::load(row + W);
      if constexpr (FixedRank < 0) {
        fma(q, y, fma(p, x, V::load(to + a * W))).store(to + a * W);
      } else {
        const auto i = static_cast<std::size_t>(a);
        re[i] = fma(p, x, re[i]);
        im[i] = fma(q, y, im[i]);
      }
    }
    void store(Index rank) const noexcept {
      if constexpr (FixedRank >= 0)
        for (Index a = 0; a < rank; ++a)
          (re[static_cast<std::size_t>(a)] + im[static_cast<std::size_t>(a)]).store(to + a * W);
    }
  };

  /// Vectors that follow each other in memory.
  template <std::size_t Count>
  struct Parts : std::array<V, Count> {
    void load(const T* from) noexcept {
      for (std::size_t k = 0; k < Count; ++k)
        (*this)[k] = V::load(from + static_cast<Index>(k) * W);
    }
    void store(T* to) const noexcept {
      for (std::size_t k = 0; k < Count; ++k) (*this)[k].store(to + static_cast<Index>(k) * W);
    }
  };

  /// The distance of states in a segment: not a power of two, so that the same mode of many steps
  /// does not fall on the same lines of the cache.
  [[nodiscard]] Index pitch_of_states() const noexcept { return (layout_.state() + 2) * W; }
  [[nodiscard]] Index rank() const noexcept {
    if constexpr (FixedRank >= 0) return FixedRank;
    return layout_.rank;
  }
  [[nodiscard]] const T* row(Index n) const noexcept { return table_ + n * (6 + 4 * rank()) * W; }
  template <class P>
  [[nodiscard]] P* feedthrough(P* table) const noexcept {
    return table + layout_.modes * layout_.row() * W;
  }

  /// s = R h.
  void project(const T* h, T* s) const noexcept {
    Sums sums(rank(), s);
    for (Index n = 0; n < layout_.modes; ++n)
      for (Index a = 0; a < rank(); ++a)
        sums.add(a, row(n) + Layout::R(a) * W, V::load(h + 2 * n * W),
                 V::load(h + (2 * n + 1) * W));
    sums.store(rank());
  }

  /// One step from h and s to `to` and the s of the next, both of which may be in place where the
  /// rank is fixed. Returns C′ h⁺.
  V advance(const T* h, T* to, const T* s, T* next, V u) noexcept {
    const Index modes = layout_.modes;
    T* const sum_to = FixedRank < 0 && next == s ? spare_ : next;
    Sums sums(rank(), sum_to);
    std::array<V, static_cast<std::size_t>(FixedRank > 0 ? FixedRank : 1)> now;
    if constexpr (FixedRank > 0)
      for (Index a = 0; a < rank(); ++a) now[static_cast<std::size_t>(a)] = V::load(s + a * W);
    const auto of = [&](Index a) {
      if constexpr (FixedRank > 0) return now[static_cast<std::size_t>(a)];
      return V::load(s + a * W);
    };
    V re(T(0)), im(T(0));
    for (Index n = 0; n < modes; ++n) {
      const T* const p = row(n);
      const V x = V::load(h + 2 * n * W), y = V::load(h + (2 * n + 1) * W);
      const V Er = V::load(p + Layout::E * W), Ei = V::load(p + (Layout::E + 1) * W);
      V zr = fma(V::load(p + Layout::b * W), u, x),
        zi = fma(V::load(p + (Layout::b + 1) * W), u, y);
      for (Index a = 0; a < rank(); ++a) {
        zr = fma(V::load(p + Layout::G(a) * W), of(a), zr);
        zi = fma(V::load(p + (Layout::G(a) + 1) * W), of(a), zi);
      }
      zr = fma(-Ei, y, fma(Er, x, zr));
      zi = fma(Ei, x, fma(Er, y, zi));
      zr.store(to + 2 * n * W);
      zi.store(to + (2 * n + 1) * W);
      re = fma(V::load(p + Layout::C * W), zr, re);
      im = fma(V::load(p + (Layout::C + 1) * W), zi, im);
      for (Index a = 0; a < rank(); ++a) sums.add(a, p + Layout::R(a) * W, zr, zi);
    }
    sums.store(rank());
    if (sum_to != next) std::copy_n(sum_to, rank() * W, next);
    return re + im;
  }

  /// The gradient g of a step's state from that of the next (Last: from what else is known of it),
  /// g = next + conj(E) next + R dnext + C′ dy, and ds = G g. Returns b g.
  template <bool Last>
  V turn_back(const T* next, const T* dnext, V dy, T* g, T* ds) noexcept {
    const Index modes = layout_.modes;
    std::array<V, static_cast<std::size_t>(FixedRank > 0 ? FixedRank : 1)> now;
    if constexpr (FixedRank > 0 && !Last)
      for (Index a = 0; a < rank(); ++a) now[static_cast<std::size_t>(a)] = V::load(dnext + a * W);
    const auto of = [&](Index a) {
      if constexpr (FixedRank > 0) return now[static_cast<std::size_t>(a)];
      return V::load(dnext + a * W);
    };
    Sums sums(rank(), ds);
    V re(T(0)), im(T(0));
    for (Index n = 0; n < modes; ++n) {
      const T* const p = row(n);
      const V x = V::load(next + 2 * n * W), y = V::load(next + (2 * n + 1) * W);
      V zr = fma(V::load(p + Layout::C * W), dy, x),
        zi = fma(V::load(p + (Layout::C + 1) * W), dy, y);
      if constexpr (!Last) {
        const V Er = V::load(p + Layout::E * W), Ei = V::load(p + (Layout::E + 1) * W);
        zr = fma(Ei, y, fma(Er, x, zr));
        zi = fma(-Ei, x, fma(Er, y, zi));
        for (Index a = 0; a < rank(); ++a) {
          zr = fma(V::load(p + Layout::R(a) * W), of(a), zr);
          zi = fma(V::load(p + (Layout::R(a) + 1) * W), of(a), zi);
        }
      }
      zr.store(g + 2 * n * W);
      zi.store(g + (2 * n + 1) * W);
      re = fma(V::load(p + Layout::b * W), zr, re);
      im = fma(V::load(p + (Layout::b + 1) * W), zi, im);
      for (Index a = 0; a < rank(); ++a) sums.add(a, p + Layout::G(a) * W, zr, zi);
    }
    sums.store(rank());
    return re + im;
  }

  /// Adds the gradients of the table from `count` steps of the segment, from the step `from` on.
  void sum_tile(Index from, Index count, T* sums) noexcept {
    constexpr Index together = FixedRank > 0 ? FixedRank : 0;  // ranks summed in the same loop
    const Index pitch = pitch_of_states(), width = layout_.rank * W;
    const T *const u = u_ + from * W, *const dy = dy_ + from * W;
    const T *const s = s_ + from * width, *const ds = ds_ + from * width;
    for (Index n = 0; n < layout_.modes; ++n) {
      const T *const h = h_ + from * pitch + 2 * n * W, *const g = g_ + 2 * n * W;
      T* const to = sums + n * layout_.row() * W;
      const auto add_rank = [&](auto& sum, V x, V y, V gr, V gi, Index i, Index a) {
        const V slope = V::load(ds + i * width + a * W), value = V::load(s + i * width + a * W);
        sum[0] = fma(x, slope, sum[0]);
        sum[1] = fma(y, slope, sum[1]);
        sum[2] = fma(gr, value, sum[2]);
        sum[3] = fma(gi, value, sum[3]);
      };
      Parts<6> sum;
      std::array<Parts<4>, static_cast<std::size_t>(together + 1)> of_ranks;
      sum.load(to);
      for (Index a = 0; a < together; ++a)
        of_ranks[static_cast<std::size_t>(a)].load(to + Layout::R(a) * W);
      V x = V::load(h), y = V::load(h + W);
      for (Index i = 0; i < count; ++i) {
        const V gr = V::load(g + i * pitch), gi = V::load(g + i * pitch + W);
        const V input = V::load(u + i * W), slope = V::load(dy + i * W);
        sum[0] = fma(x, gr, fma(y, gi, sum[0]));
        sum[1] = fma(x, gi, fma(-y, gr, sum[1]));
        sum[2] = fma(gr, input, sum[2]);
        sum[3] = fma(gi, input, sum[3]);
        for (Index a = 0; a < together; ++a)
          add_rank(of_ranks[static_cast<std::size_t>(a)], x, y, gr, gi, i, a);
        x = V::load(h + (i + 1) * pitch);
        y = V::load(h + (i + 1) * pitch + W);
        sum[4] = fma(x, slope, sum[4]);
        sum[5] = fma(y, slope, sum[5]);
      }
      sum.store(to);
      for (Index a = 0; a < together; ++a)
        of_ranks[static_cast<std::size_t>(a)].store(to + Layout::R(a) * W);
      for (Index a = together; a < rank(); ++a) {
        Parts<4>& one = of_ranks[0];
        one.load(to + Layout::R(a) * W);
        for (Index i = 0; i < count; ++i)
          add_rank(one, V::load(h + i * pitch), V::load(h + i * pitch + W), V::load(g + i * pitch),
                   V::load(g + i * pitch + W), i, a);
        one.store(to + Layout::R(a) * W);
      }
    }
    T* const to = feedthrough(sums);
    V sum = V::load(to);
    for (Index i = 0; i < count; ++i) sum = fma(V::load(u + i * W), V::load(dy + i * W), sum);
    sum.store(to);
  }

  [[nodiscard]] V load(const View<const T, 3>& from, Index row, Index t) const noexcept {
    const T* const p = &from(row, t, first_);
    if (from.stride(2) == 1) return V::load(p, count_);
    std::array<T, static_cast<std::size_t>(W)> all{};
    for (Index c = 0; c < count_; ++c) all[static_cast<std::size_t>(c)] = p[c * from.stride(2)];
    return V::load(all.data());
  }
  void store(const View<T, 3>& to, Index row, Index t, V value) const noexcept {
    T* const p = &to(row, t, first_);
    if (to.stride(2) == 1) return value.store(p, count_);
    std::array<T, static_cast<std::size_t>(W)> all;
    value.store(all.data());
    for (Index c = 0; c < count_; ++c) p[c * to.stride(2)] = all[static_cast<std::size_t>(c)];
  }
  void load_state(const View<const std::complex<T>, 3>& from, Index sequence, T* h) const noexcept {
    std::fill_n(h, layout_.state() * W, T(0));
    for (Index c = 0; from && c < count_; ++c)
      for (Index n = 0; n < layout_.modes; ++n) {
        const std::complex<T> x = from(sequence, first_ + c, n);
        h[2 * n * W + c] = x.real();
        h[(2 * n + 1) * W + c] = x.imag();
      }
  }
  void store_state(const T* h, const View<std::complex<T>, 3>& to, Index sequence) const noexcept {
    for (Index c = 0; to && c < count_; ++c)
      for (Index n = 0; n < layout_.modes; ++n)
        to(sequence, first_ + c, n) = {h[2 * n * W + c], h[(2 * n + 1) * W + c]};
  }

  Layout layout_;
  const T* table_;
  Index first_, count_;
  T *h_, *g_;  // the states of a segment; gradients by those of a tile, then of the next step
  T *s_, *ds_, *spare_;  // of a segment, with room for one step more
  T *u_, *dy_;           // of a segment
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
