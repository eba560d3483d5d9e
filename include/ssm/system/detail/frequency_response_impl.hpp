#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "ssm/core/balance.hpp"
#include "ssm/core/detail/dense_algebra.hpp"
#include "ssm/core/error.hpp"
#include "ssm/system/frequency_response.hpp"

SSM_BEGIN_COMPILED

SSM_INLINE Quadruple hessenberg_response(Quadruple system) {
  if (!system.A.all_finite()) throw_domain("FrequencyResponse", "A", "not finite", "finite");
  const RealVector scale = balance(system.A);
  const RealMatrix Q = to_hessenberg(system.A, true);
  system.B = Q.transpose() * scale_rows(inverse_of(scale), system.B);
  system.C = scale_columns(system.C, scale) * Q;
  return system;
}

/// Complex numbers of as many points as a vector has lanes.
struct ResponseLanes {
  using Lanes [[gnu::vector_size(tile_lanes * sizeof(double))]] = double;
  Lanes real, imag;
};

/// Solves M X = B for M = point I − A, A in Hessenberg form, at a lane's worth of points. Rotations
/// of columns make M upper triangular from its last column on, and what they leave behind is used
/// at once (Henry 1994), so that a column and the rotations are all there is to store.
class HessenbergSolver {
 public:
  explicit HessenbergSolver(const Quadruple& system)
      : system_(system),
        n_(system.A.rows()),
        m_(system.B.cols()),
        memory_(static_cast<std::size_t>(n_ * ((m_ + 2) * vector_size + tile_lanes) + tile_lanes)) {
    void* start = memory_.data();  // a vector across two lines of the cache takes twice as long
    std::size_t room = memory_.size() * sizeof(double);
    start_ = static_cast<double*>(std::align(sizeof(Lanes), room - sizeof(Lanes), start, room));
  }

  /// Writes G for up to tile_lanes points, one after the other.
  void solve(const std::complex<double>* points, Index count, std::complex<double>* G) {
    const auto& [A, B, C, D] = system_;
    ResponseLanes point;
    for (Index lane = 0; lane < tile_lanes; ++lane) {
      const std::complex<double> s = points[(std::min)(lane, count - 1)];
      point.real[lane] = s.real();
      point.imag[lane] = s.imag();
    }
    const Lanes zero = {};
    for (Index j = 0; j < m_; ++j)
      for (Index i = 0; i < n_; ++i) put(X(i, j), {zero + B(i, j), zero});
    for (Index i = 0; i < n_; ++i) put(column(i), {zero - A(i, n_ - 1), zero});
    if (n_ > 0) {
      ResponseLanes last = get(column(n_ - 1));
      last.real += point.real;
      last.imag += point.imag;
      put(column(n_ - 1), last);
    }
    for (Index k = n_ - 1; k > 0; --k) eliminate(k, point);
    if (n_ > 0) {
      const ResponseLanes inverse = inverse_of_lanes(get(column(0)));
      for (Index j = 0; j < m_; ++j) put(X(0, j), product(inverse, get(X(0, j))));
    }
    for (Index k = 1; k < n_; ++k) {  // the rotations, the last of them first
      const ResponseLanes a = get(turn(k));
      Lanes b;
      std::memcpy(&b, beside(k), sizeof(b));
      for (Index j = 0; j < m_; ++j) {
        const ResponseLanes x = get(X(k - 1, j)), y = get(X(k, j));
        put(X(k - 1, j), {a.real * x.real - a.imag * x.imag + b * y.real,
                          a.real * x.imag + a.imag * x.real + b * y.imag});
        put(X(k, j), {a.real * y.real + a.imag * y.imag - b * x.real,
                      a.real * y.imag - a.imag * y.real - b * x.imag});
      }
    }
    const Index p = C.rows();
    const auto write = [&](const ResponseLanes& sum, Index i, Index j) {
      for (Index lane = 0; lane < count; ++lane)
        G[(lane * m_ + j) * p + i] = {sum.real[lane], sum.imag[lane]};
    };
    for (Index j = 0; j < m_; ++j)
      for (Index i = 0; i < p; i += 2) {  // two outputs at once, as sums wait for themselves
        const Index other = (std::min)(i + 1, p - 1);
        ResponseLanes one{zero + D(i, j), zero}, two{zero + D(other, j), zero};
        for (Index k = 0; k < n_; ++k) {
          const ResponseLanes x = get(X(k, j));
          one.real += C(i, k) * x.real;
          one.imag += C(i, k) * x.imag;
          two.real += C(other, k) * x.real;
          two.imag += C(other, k) * x.imag;
        }
        write(one, i, j);
        if (other > i) write(two, other, j);
      }
  }

 private:
  using Lanes = ResponseLanes::Lanes;
  static constexpr Index vector_size = 2 * tile_lanes;

  // Memory is that of doubles: a reference to a type of vectors forgets how it is aligned.
  [[nodiscard]] double* column(Index i) { return start_ + i * vector_size; }
  [[nodiscard]] double* turn(Index k) { return column(n_ + k); }
  [[nodiscard]] double* X(Index i, Index j) { return column(2 * n_ + i * m_ + j); }
  [[nodiscard]] double* beside(Index k) { return column((2 + m_) * n_) + k * tile_lanes; }
  static ResponseLanes get(const double* from) {
    ResponseLanes lanes;  // part by part: compilers take a copy of both through the stack
    std::memcpy(&lanes.real, from, sizeof(Lanes));
    std::memcpy(&lanes.imag, from + tile_lanes, sizeof(Lanes));
    return lanes;
  }
  static void put(double* to, const ResponseLanes& lanes) {
    std::memcpy(to, &lanes.real, sizeof(Lanes));
    std::memcpy(to + tile_lanes, &lanes.imag, sizeof(Lanes));
  }
  static Lanes size_of(const Lanes& x) { return x < 0 ? -x : x; }
  static Lanes root_of(const Lanes& x) {
    Lanes root;
    Eigen::Array<double, tile_lanes, 1> values;
    std::memcpy(values.data(), &x, sizeof(x));
    values = values.sqrt().eval();
    std::memcpy(&root, values.data(), sizeof(x));
    return root;
  }
  static ResponseLanes product(const ResponseLanes& x, const ResponseLanes& y) {
    return {x.real * y.real - x.imag * y.imag, x.real * y.imag + x.imag * y.real};
  }
  /// 2^−k for each x ≥ 0 of 2^k and more but less than 2^(k + 1), or near that for an x near the
  /// ends of what double holds.
  static Lanes unit_for(const Lanes& x) {
    using Bits [[gnu::vector_size(tile_lanes * sizeof(double))]] = std::int64_t;
    constexpr std::int64_t exponent = std::int64_t{0x7FF} << 52, most = std::int64_t{0x7FD} << 52;
    Bits bits;
    std::memcpy(&bits, &x, sizeof(bits));
    bits &= exponent;
    bits = (std::int64_t{0x7FE} << 52) - (bits < most ? bits : Bits{} + most);
    Lanes unit;
    std::memcpy(&unit, &bits, sizeof(unit));
    return unit;
  }
  static Lanes larger(const Lanes& x, const Lanes& y) { return x > y ? x : y; }
  static ResponseLanes inverse_of_lanes(const ResponseLanes& z) {
    const Lanes unit = unit_for(larger(size_of(z.real), size_of(z.imag)));
    const Lanes re = z.real * unit, im = z.imag * unit, over = unit / (re * re + im * im);
    return {re * over, -im * over};
  }

  /// Turns columns k − 1 and k so that M(k, k − 1) becomes 0, and takes X(k) out of the rows above.
  /// [column k − 1, column k] ← [them] [a b; −b ā], (a, b) along (M(k, k), M(k, k − 1)).
  void eliminate(Index k, const ResponseLanes& point) {
    const auto& A = system_.A;
    const ResponseLanes head = get(column(k));
    const Lanes below = Lanes{} - A(k, k - 1);
    const Lanes largest = larger(larger(size_of(head.real), size_of(head.imag)), size_of(below));
    const auto none = largest == 0;
    const Lanes unit = unit_for(largest);
    const Lanes x = head.real * unit, y = head.imag * unit, z = below * unit;
    const Lanes squares = x * x + y * y + z * z, one = Lanes{} + 1;
    const Lanes over = one / root_of(none ? one : squares);
    const ResponseLanes a{none ? one : x * over, y * over};
    const Lanes b = z * over, inverse_of_length = none ? one / Lanes{} : unit * over;
    put(turn(k), a);
    std::memcpy(beside(k), &b, sizeof(b));
    for (Index j = 0; j < m_; ++j) {
      ResponseLanes x = get(X(k, j));
      x.real *= inverse_of_length;
      x.imag *= inverse_of_length;
      put(X(k, j), x);
    }
    for (Index i = 0; i < k; ++i) {
      const double h = -A(i, k - 1);
      const ResponseLanes v = get(column(i));
      ResponseLanes left{a.real * h - b * v.real, a.imag * h - b * v.imag};
      ResponseLanes right{b * h + a.real * v.real + a.imag * v.imag,
                          a.real * v.imag - a.imag * v.real};
      if (i == k - 1) {  // the point stands beside −A on the diagonal
        const ResponseLanes turned = product(a, point);
        left.real += turned.real;
        left.imag += turned.imag;
        right.real += b * point.real;
        right.imag += b * point.imag;
      }
      put(column(i), left);
      double *x = X(i, 0), *known = X(k, 0);
      for (Index j = 0; j < m_; ++j, x += vector_size, known += vector_size) {
        Lanes re, im, known_re, known_im;
        std::memcpy(&re, x, sizeof(re));
        std::memcpy(&im, x + tile_lanes, sizeof(im));
        std::memcpy(&known_re, known, sizeof(re));
        std::memcpy(&known_im, known + tile_lanes, sizeof(im));
        re -= right.real * known_re - right.imag * known_im;
        im -= right.real * known_im + right.imag * known_re;
        std::memcpy(x, &re, sizeof(re));
        std::memcpy(x + tile_lanes, &im, sizeof(im));
      }
    }
  }

  const Quadruple& system_;
  Index n_, m_;
  std::vector<double> memory_;
  double* start_ = nullptr;  // of what is used of it
};

SSM_INLINE void responses_at(const Quadruple& system, const std::complex<double>* points,
                             Index count, std::complex<double>* G) {
  HessenbergSolver solver(system);
  const Index size = system.D.size();
  for (Index t = 0; t < count; t += tile_lanes)
    solver.solve(points + t, (std::min)(tile_lanes, count - t), G + t * size);
}

SSM_INLINE ComplexMatrix response_at(const Quadruple& system, std::complex<double> point) {
  ComplexMatrix G(system.C.rows(), system.B.cols());
  responses_at(system, &point, 1, G.data());
  return G;
}

SSM_INLINE double gain_amid_poles(const Quadruple& system, const ComplexVector& zeros,
                                  const ComplexVector& poles) {
  double exponents = 0, count = 0;
  for (Index i = 0; i < poles.size(); ++i)
    if (poles(i) != 0.0) {
      exponents += std::log2(std::abs(poles(i)));
      ++count;
    }
  const double radius = std::exp2(count > 0 ? std::round(exponents / count) : 0.0);
  // Of some points that far out the one farthest from its nearest root.
  std::complex<double> point;
  double distance = -1;
  for (const double angle : {0.3, 0.9, 1.6, 2.3}) {
    const std::complex<double> candidate = std::polar(radius, angle);
    double nearest = std::numeric_limits<double>::infinity();
    for (Index i = 0; i < poles.size(); ++i)
      nearest = (std::min)(nearest, std::abs(candidate - poles(i)));
    for (Index i = 0; i < zeros.size(); ++i)
      nearest = (std::min)(nearest, std::abs(candidate - zeros(i)));
    if (nearest > distance) {
      distance = nearest;
      point = candidate;
    }
  }
  // Products may leave the range of double on the way.
  std::complex<double> gain = response_at(hessenberg_response(system), point)(0, 0);
  int exponent = 0;
  const auto normalize = [&] {
    const double size = (std::max)(std::abs(gain.real()), std::abs(gain.imag()));
    if (!(size > 0) || !std::isfinite(size)) return;
    const int more = std::ilogb(size);
    gain = {std::ldexp(gain.real(), -more), std::ldexp(gain.imag(), -more)};
    exponent += more;
  };
  for (Index i = 0; i < (std::max)(poles.size(), zeros.size()); ++i) {
    normalize();
    if (i < poles.size()) gain *= point - poles(i);
    normalize();
    if (i < zeros.size()) gain /= point - zeros(i);
  }
  return std::ldexp(gain.real(), exponent);
}

SSM_END_COMPILED
