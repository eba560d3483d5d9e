#pragma once

#include <array>
#include <cmath>
#include <complex>
#include <cstddef>
#include <numbers>
#include <utility>
#include <vector>

#include "ssm/conv/detail/lane_splits.hpp"
#include "ssm/core/detail/complex_vec.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/detail/simd_lanes.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/tensor.hpp"

namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// The spectrum of real sequences of up to 2n numbers, many at once: of x as the polynomial
/// Σ x_t X^t mod X^{2n} + 1, whose values at the roots of X^n = i say it all. The product of two
/// spectra is that of x * y, where what passes 2n comes back with its sign changed.
///
/// The remainder mod X^n − i, Σ_{t<n} (x_t + i x_{t+n}) X^t, is divided on and on, mod X^m − c into
/// mod X^{m/4} − c^{1/4} and its three fellows (the remainder tree: Fiduccia 1972, Bernstein 2007),
/// until the values are left, in an order that products do not ask for. A node has one constant
/// for all its numbers, and a node's subtree is finished before the next one's, in the cache.
///
/// Memory is a list of points, each the real parts in all lanes, then the imaginary parts. Lanes
/// hold different sequences (Lanes::sequences; then t numbers the points), or neighbouring numbers
/// of one sequence (Lanes::times; point p holds the numbers from p · lanes on): then lanes and
/// points change places for the last divisions.
enum class Lanes { sequences, times };

template <class T>
struct LaneTransformParts;

template <class T>
class LaneTransform {
 public:
  /// The smallest 2n ≥ least that there is: n = r 2^k, with r = 1, 3 or 5, and a multiple of
  /// lanes².
  [[nodiscard]] static constexpr Index size_for(Index least) noexcept {
    Index best = 0;
    for (const Index r : {1, 3, 5}) {
      Index size = 2 * r * lanes<T> * lanes<T>;
      while (size < least) size *= 2;
      if (best == 0 || size < best) best = size;
    }
    return best;
  }

  /// @param size 2n, one that size_for gives
  LaneTransform(Index size, Lanes order) : n_(size / 2), order_(order) {
    Index left = n_;
    std::vector<Angle> nodes{{1, 4}};  // of i
    for (const Index r : {3, 5})
      if (left % r == 0) {
        root_radix_ = r;
        left /= r;
        nodes = children(nodes, r);
        for (Index j = 0; j < r; ++j)
          for (Index q = 0; q < r; ++q)
            root_.push_back(unit({nodes[at(j)].turns * q, nodes[at(j)].of}));
      }
    // The last levels make up a vector, so that they alone need lanes and points to change places.
    const auto add_levels = [&](Index size_of_all) {
      for (Index rest = size_of_all; rest > 1;) {
        const Index radix = is_power_of_4(rest) ? 4 : 2;
        Level level{radix, {}};
        for (const Angle& node : nodes) {
          const Angle s{node.turns, node.of * radix};
          level.twiddles.push_back({unit(s), unit({2 * s.turns, s.of})});
        }
        levels_.push_back(std::move(level));
        nodes = children(nodes, radix);
        rest /= radix;
      }
    };
    add_levels(left / lanes<T>);
    first_of_tail_ = levels_.size();
    add_levels(lanes<T>);
    if (order == Lanes::times) make_tail(n_ / lanes<T>);
  }

  [[nodiscard]] Index size() const noexcept { return 2 * n_; }
  [[nodiscard]] Lanes order() const noexcept { return order_; }
  [[nodiscard]] Index points() const noexcept {
    return order_ == Lanes::sequences ? n_ : n_ / lanes<T>;
  }
  /// The numbers in memory of `points`.
  [[nodiscard]] Index memory() const noexcept { return points() * step; }

  /// Fills points with one vector a number: row(t) is that of number t < 2n. For Lanes::sequences.
  template <class Row>
  void load_rows(const Row& row, T* points) const {
    for (Index t = 0; t < n_; ++t) {
      Vec<T>(row(t)).store(points + t * step);
      Vec<T>(row(t + n_)).store(points + t * step + lanes<T>);
    }
  }
  /// The vector of number t < 2n of such points.
  [[nodiscard]] Vec<T> row(const T* points, Index t) const noexcept {
    return Vec<T>::load(t < n_ ? points + t * step : points + (t - n_) * step + lanes<T>);
  }

  /// Fills points with x, of `count` numbers (over all lanes), preceded by `before` zeros.
  void load(const T* x, Index before, Index count, T* points) const noexcept {
    constexpr Index W = lanes<T>;
    const Index n = this->points() * W;
    for (Index f = 0; f < n; f += W) {
      part(x, before, count, f).store(points + 2 * f);
      part(x, before, count, f + n).store(points + 2 * f + W);
    }
  }
  /// Calls body(number, vector, lanes) for the `count` numbers from `from` on, in vectors of which
  /// the first `lanes` count, all but at both ends whole.
  template <class Body>
  void read(const T* points, Index from, Index count, const Body& body) const {
    constexpr Index W = lanes<T>;
    const Index n = this->points() * W;
    const auto vector = [&](Index f) { return f < n ? points + 2 * f : points + 2 * (f - n) + W; };
    Index at = from;
    const Index end = from + count;
    for (; at < end && at % W != 0; ++at) body(at - from, vector(at / W * W) + at % W, Index{1});
    for (; at + W <= end; at += W) body(at - from, vector(at), W);
    if (at < end) body(at - from, vector(at), end - at);
  }

  /// From points to their spectrum.
  void forward(T* points) const noexcept {
    visit<true, false>(points, [](T*, Index, Index) {});
  }
  /// From points to their spectrum, then change(part of the spectrum, its first value, values),
  /// then back, n times as large.
  template <class Change>
  void forward_and_back(T* points, const Change& change) const noexcept {
    visit<true, true>(points, change);
  }

  /// From a spectrum to points, n times as large.
  void back(T* points) const noexcept {
    visit<false, true>(points, [](T*, Index, Index) {});
  }

  /// The same for Lanes::sequences where of the 2n numbers only the first n differ from zero,
  /// row(t), and only the first n of the result are asked for: put(t, vector). The divisions at the
  /// root read and write them, without a pass of their own and without the zeros.
  template <class Row, class Change, class Put>
  void forward_and_back_rows(const Row& row, T* points, const Change& change,
                             const Put& put) const {
    split_rows(row, points);
    visit_children<true, true>(points, change);
    join_rows(points, put);
  }
  /// From such rows to their spectrum.
  template <class Row>
  void forward_rows(const Row& row, T* points) const {
    split_rows(row, points);
    visit_children<true, false>(points, [](T*, Index, Index) {});
  }

  static constexpr Index step = 2 * lanes<T>;  ///< numbers of a point

 private:
  friend LaneTransformParts<T>;

  /// The complex number of modulus 1 whose angle is turns / of.
  struct Angle {
    Index turns, of;
  };
  static constexpr std::size_t at(Index i) noexcept { return static_cast<std::size_t>(i); }
  static constexpr bool is_power_of_4(Index n) noexcept {
    while (n > 1 && n % 4 == 0) n /= 4;
    return n == 1;
  }
  [[nodiscard]] static std::complex<T> unit(Angle a) noexcept {
    // In the first octant, where sine and cosine lose nothing.
    const Index turns = 8 * (a.turns % a.of), octant = turns / a.of;
    const double rest = static_cast<double>(turns % a.of) / static_cast<double>(a.of);
    const double angle = std::numbers::pi / 4 * (octant % 2 == 0 ? rest : 1 - rest);
    double x = std::cos(angle), y = std::sin(angle);
    if (octant % 4 == 1 || octant % 4 == 2) std::swap(x, y);
    if (octant >= 2 && octant < 6) x = -x;
    if (octant >= 4) y = -y;
    return {static_cast<T>(x), static_cast<T>(y)};
  }
  /// The roots of the nodes, of each in the order in which a split leaves them.
  [[nodiscard]] static std::vector<Angle> children(const std::vector<Angle>& nodes, Index radix) {
    std::vector<Angle> roots;
    for (const Angle& node : nodes)
      for (Index j = 0; j < radix; ++j) {
        const Index turn = radix == 4 ? (j % 2) * 2 + j / 2 : j;
        roots.push_back({node.turns + turn * node.of, node.of * radix});
      }
    return roots;
  }

  struct Scalars {
    std::complex<T> s, s2;
  };
  struct Level {
    Index radix;
    std::vector<Scalars> twiddles;  // of each node
  };
  [[nodiscard]] static ComplexVec<T> all_lanes(std::complex<T> a) noexcept {
    return {Vec<T>(a.real()), Vec<T>(a.imag())};
  }
  [[nodiscard]] static Twiddle<T> all_lanes(const Scalars& w) noexcept {
    return {all_lanes(w.s), all_lanes(w.s2)};
  }

  [[nodiscard]] static Vec<T> part(const T* x, Index before, Index count, Index f) noexcept {
    constexpr Index W = lanes<T>;
    const Index i = f - before;
    if (i >= 0 && i + W <= count) return Vec<T>::load(x + i);
    if (i + W <= 0 || i >= count) return Vec<T>(T(0));
    std::array<T, at(W)> buffer{};
    for (Index j = i < 0 ? -i : 0; j < W && i + j < count; ++j) buffer[at(j)] = x[i + j];
    return Vec<T>::load(buffer.data());
  }

  template <bool Forward, bool Back, class Change>
  void visit(T* x, const Change& change) const noexcept {
    const auto change_all = [&](T* part, Index first, Index count) {
      if (order_ == Lanes::sequences) return change(part, first, count);
      for (Index p = 0; p < count; p += lanes<T>) {
        T* const square = part + p * step;
        if constexpr (Forward) turn_forward(square, first + p);
        change(square, first + p, lanes<T>);
        if constexpr (Back) turn_back(square, first + p);
      }
    };
    const Index m = points() / root_radix_;
    if constexpr (Forward) pass_root<false>(x, m);
    for (Index j = 0; j < root_radix_; ++j)
      visit_node<Forward, Back>(x + j * m * step, 0, j, j * m, m, change_all);
    if constexpr (Back) pass_root<true>(x, m);
  }

  /// How many parts the division at the root has.
  [[nodiscard]] Index root_parts() const noexcept {
    return root_radix_ > 1 ? root_radix_ : levels_.front().radix;
  }
  /// All but the division at the root. For Lanes::sequences.
  template <bool Forward, bool Back, class Change>
  void visit_children(T* x, const Change& change) const noexcept {
    const Index parts = root_parts(), m = n_ / parts;
    for (Index j = 0; j < parts; ++j)
      visit_node<Forward, Back>(x + j * m * step, root_radix_ > 1 ? 0 : 1, j, j * m, m, change);
  }

  /// The division at the root of n real numbers.
  template <class Row>
  void split_rows(const Row& row, T* x) const {
    using V = Vec<T>;
    const Index parts = root_parts(), m = n_ / parts;
    const auto add_real = [](ComplexVec<T> a, ComplexVec<T> w, V b) -> ComplexVec<T> {
      return {fma(w.re, b, a.re), fma(w.im, b, a.im)};
    };
    if (root_radix_ > 1) {
      for (Index p = 0; p < m; ++p) {
        std::array<V, 5> a;
        for (Index q = 0; q < parts; ++q) a[at(q)] = row(q * m + p);
        for (Index j = 0; j < parts; ++j) {
          ComplexVec<T> sum{a[0], V(T(0))};
          for (Index q = 1; q < parts; ++q)
            sum = add_real(sum, all_lanes(root_[at(j * parts + q)]), a[at(q)]);
          sum.store(x + (j * m + p) * step);
        }
      }
      return;
    }
    const Twiddle<T> w = all_lanes(levels_.front().twiddles.front());
    const Index q = m * step;
    for (Index p = 0; p < m; ++p, x += step) {
      const ComplexVec<T> a0{row(p), V(T(0))}, a1{row(p + m), V(T(0))};
      if (parts == 2) {
        const auto c = add_real(a0, w.s, a1.re);
        c.store(x);
        twice_minus(a0, c).store(x + q);
        continue;
      }
      const V a2 = row(p + 2 * m), a3 = row(p + 3 * m);
      const auto b0 = add_real(a0, w.s2, a2), b1 = add_real(a1, w.s2, a3);
      const auto b2 = twice_minus(a0, b0), b3 = twice_minus(a1, b1);
      const auto c0 = add_times(b0, w.s, b1), c2 = add_times(b2, times_i(w.s), b3);
      c0.store(x);
      twice_minus(b0, c0).store(x + q);
      c2.store(x + 2 * q);
      twice_minus(b2, c2).store(x + 3 * q);
    }
  }
  /// And back, the real parts.
  template <class Put>
  void join_rows(const T* x, const Put& put) const {
    using V = Vec<T>;
    const Index parts = root_parts(), m = n_ / parts;
    const auto real_of_conj_times = [](ComplexVec<T> w, ComplexVec<T> a) {
      return fma(w.re, a.re, w.im * a.im);
    };
    if (root_radix_ > 1) {
      for (Index p = 0; p < m; ++p)
        for (Index q = 0; q < parts; ++q) {
          V sum(T(0));
          for (Index j = 0; j < parts; ++j)
            sum = sum + real_of_conj_times(all_lanes(root_[at(j * parts + q)]),
                                           ComplexVec<T>::load(x + (j * m + p) * step));
          put(q * m + p, sum);
        }
      return;
    }
    const Twiddle<T> w = all_lanes(levels_.front().twiddles.front());
    const Index q = m * step;
    for (Index p = 0; p < m; ++p, x += step) {
      const auto c0 = ComplexVec<T>::load(x), c1 = ComplexVec<T>::load(x + q);
      if (parts == 2) {
        put(p, c0.re + c1.re);
        put(p + m, real_of_conj_times(w.s, c0 - c1));
        continue;
      }
      const auto c2 = ComplexVec<T>::load(x + 2 * q), c3 = ComplexVec<T>::load(x + 3 * q);
      const auto b0 = c0 + c1, b1 = c0 - c1, b2 = c2 + c3, b3 = times_i(c2 - c3);
      put(p, b0.re + b2.re);
      put(p + m, real_of_conj_times(w.s, b1 - b3));
      put(p + 2 * m, real_of_conj_times(w.s2, b0 - b2));
      put(p + 3 * m, real_of_conj_times(w.s3, b1 + b3));
    }
  }

  /// The levels of a node of m points.
  template <bool Forward, bool Back, class Change>
  void visit_node(T* x, std::size_t level, Index node, Index first, Index m,
                  const Change& change) const noexcept {
    constexpr Index fits_cache = 16384 / static_cast<Index>(step * static_cast<Index>(sizeof(T)));
    const std::size_t end = order_ == Lanes::sequences ? levels_.size() : first_of_tail_;
    if (m > fits_cache && level < end) {
      const Index radix = levels_[level].radix, part = m / radix;
      if constexpr (Forward) pass<true>(x, level, node, part);
      for (Index j = 0; j < radix; ++j)
        visit_node<Forward, Back>(x + j * part * step, level + 1, node * radix + j,
                                  first + j * part, part, change);
      if constexpr (Back) pass<false>(x, level, node, part);
      return;
    }
    Index part = m, nodes = 1;
    std::size_t l = level;
    for (; l < end; ++l) {
      const Index radix = levels_[l].radix;
      part /= radix;
      if constexpr (Forward)
        for (Index j = 0; j < nodes; ++j)
          pass<true>(x + j * part * radix * step, l, node * nodes + j, part);
      nodes *= radix;
    }
    change(x, first, m);
    if constexpr (Back)
      while (l-- > level) {
        const Index radix = levels_[l].radix;
        nodes /= radix;
        for (Index j = 0; j < nodes; ++j)
          pass<false>(x + j * part * radix * step, l, node * nodes + j, part);
        part *= radix;
      }
  }

  /// The division of one node into parts of `part` points.
  template <bool Forward>
  void pass(T* x, std::size_t level, Index node, Index part) const noexcept {
    const Twiddle<T> w = all_lanes(levels_[level].twiddles[at(node)]);
    const Index q = part * step;
    if (levels_[level].radix == 4)
      for (T* p = x; p < x + q; p += step) Forward ? split_4(p, q, w) : join_4(p, q, w);
    else
      for (T* p = x; p < x + q; p += step) Forward ? split_2(p, q, w) : join_2(p, q, w);
  }

  /// The division by three or five at the root, as the sum that it is.
  template <bool Back>
  void pass_root(T* x, Index m) const noexcept {
    const Index r = root_radix_;
    if (r == 1) return;
    for (Index p = 0; p < m; ++p) {
      std::array<ComplexVec<T>, 5> a, b;
      for (Index q = 0; q < r; ++q) a[at(q)] = ComplexVec<T>::load(x + (q * m + p) * step);
      for (Index j = 0; j < r; ++j) {
        b[at(j)] = a[0];
        if constexpr (Back) b[at(j)] = conj_times(all_lanes(root_[at(j)]), a[0]);
        for (Index q = 1; q < r; ++q) {
          const std::complex<T> w = root_[at(Back ? q * r + j : j * r + q)];
          b[at(j)] = add_times(b[at(j)], all_lanes(Back ? std::conj(w) : w), a[at(q)]);
        }
      }
      for (Index j = 0; j < r; ++j) b[at(j)].store(x + (j * m + p) * step);
    }
  }

  /// The twiddles of the last levels, with a node in every lane.
  void make_tail(Index points) {
    constexpr Index W = lanes<T>;
    for (Index first = 0; first < points; first += W) {
      Index nodes = 1;
      for (std::size_t l = first_of_tail_; l < levels_.size(); ++l) {
        for (Index j = 0; j < nodes; ++j) {
          std::array<T, at(4 * W)> w;
          for (Index lane = 0; lane < W; ++lane) {
            const Scalars& one = levels_[l].twiddles[at((first + lane) * nodes + j)];
            w[at(lane)] = one.s.real();
            w[at(W + lane)] = one.s.imag();
            w[at(2 * W + lane)] = one.s2.real();
            w[at(3 * W + lane)] = one.s2.imag();
          }
          tail_.insert(tail_.end(), w.begin(), w.end());
        }
        nodes *= levels_[l].radix;
      }
      tail_stride_ = static_cast<Index>(tail_.size()) / (first / W + 1);
    }
  }
  [[nodiscard]] static Twiddle<T> twiddle_at(const T* w) noexcept {
    return {ComplexVec<T>::load(w), ComplexVec<T>::load(w + step)};
  }

  /// The last levels of `lanes` points, each of them one node's numbers: afterwards a lane is a
  /// node and a point one of its values.
  void turn_forward(T* x, Index first) const noexcept {
    change_places(x);
    const T* w = tail_.data() + first / lanes<T> * tail_stride_;
    Index nodes = 1, part = lanes<T>;
    for (std::size_t l = first_of_tail_; l < levels_.size(); ++l) {
      const Index radix = levels_[l].radix;
      part /= radix;
      for (Index j = 0; j < nodes; ++j, w += 2 * step)
        for (Index p = 0; p < part; ++p) {
          T* const at = x + (j * part * radix + p) * step;
          radix == 4 ? split_4(at, part * step, twiddle_at(w))
                     : split_2(at, part * step, twiddle_at(w));
        }
      nodes *= radix;
    }
  }
  void turn_back(T* x, Index first) const noexcept {
    const T* w = tail_.data() + (first / lanes<T> + 1) * tail_stride_;
    Index nodes = lanes<T>, part = 1;
    for (std::size_t l = levels_.size(); l-- > first_of_tail_;) {
      const Index radix = levels_[l].radix;
      nodes /= radix;
      for (Index j = nodes; j-- > 0;) {
        w -= 2 * step;
        for (Index p = 0; p < part; ++p) {
          T* const at = x + (j * part * radix + p) * step;
          radix == 4 ? join_4(at, part * step, twiddle_at(w))
                     : join_2(at, part * step, twiddle_at(w));
        }
      }
      part *= radix;
    }
    change_places(x);
  }

  /// The transpose of a square of lanes and points, of both parts.
  static void change_places(T* x) noexcept {
    for (const Index half : {Index{0}, lanes<T>}) {
      Square<T> a;
      for (std::size_t i = 0; i < a.size(); ++i)
        a[i] = Vec<T>::load(x + static_cast<Index>(i) * step + half);
      a = transpose(a);
      for (std::size_t i = 0; i < a.size(); ++i)
        a[i].store(x + static_cast<Index>(i) * step + half);
    }
  }

  Index n_;
  Lanes order_;
  Index root_radix_ = 1;
  std::vector<std::complex<T>> root_;  // r × r
  std::vector<Level> levels_;
  std::size_t first_of_tail_ = 0;
  std::vector<T, AlignedAllocator<T>> tail_;  // of each `lanes` points, s and s² of each division
  Index tail_stride_ = 0;
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
