#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <cstddef>
#include <utility>

#include "ssm/core/detail/complex_vec.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/scan/dplr_scan_types.hpp"

namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// How the sampled systems of a block of channels, one in every lane, lie in memory: for every mode
/// the vectors
///
///   E, b, C′: real and imaginary parts; then for every rank R and G likewise,
///
/// of the step s = R h, h⁺ = h + E h + G s + b u, y = C′ h⁺ (real dot products over parts), and
/// after the modes D. With κ = 2/Δ, W = (κ − Λ)⁻¹, Q = W P, M = (I + P* W P)⁻¹:
///
///   E = 2 Λ W,  b = 2 (W B − Q M R B),  C′ = (2 Re C, −2 Im C),  R = 2 P* W,  G = −2 κ Q M.
///
/// with the Λ, P, B and κ of a unit of time near Δ, in which these are Λ Δ, P √Δ, B Δ and about 2.
/// E is A_bar's diagonal less 1, as the step of a slow mode differs from 1 by little.
struct DplrLayout {
  Index modes, rank;

  static constexpr Index E = 0, b = 2, C = 4;
  [[nodiscard]] static constexpr Index R(Index a) noexcept { return 6 + 4 * a; }
  [[nodiscard]] static constexpr Index G(Index a) noexcept { return 8 + 4 * a; }
  /// Vectors of a mode.
  [[nodiscard]] Index row() const noexcept { return 6 + 4 * rank; }
  /// Vectors of a block.
  [[nodiscard]] Index vectors() const noexcept { return modes * row() + 1; }
  /// Vectors of a state.
  [[nodiscard]] Index state() const noexcept { return 2 * modes; }
};

/// Samples systems by the bilinear map, and turns the gradients of the result back. Computes in
/// double, as many channels at once as vectors have lanes.
template <class T>
class DplrSampling {
  using V = Vec<double>;
  using Z = ComplexVec<double>;
  /// Re(conj(a) b).
  static V dot(Z a, Z b) noexcept { return a.re * b.re + a.im * b.im; }
  static V two() noexcept { return V(2.0); }

 public:
  DplrSampling(const DplrScanInputs<T>& in, const DplrLayout& layout, Tensor<double, 1>& room)
      : in_(in), layout_(layout) {
    const Index modes = layout.modes, rank = layout.rank;
    // Λ, W, B, dΛ, dW, dB; P, Q, R, dP, dQ, dR; S, M, dM, dX; t, w, dt, dw
    room.resize({lanes<double> * (12 * modes + 12 * modes * rank + 4 * rank * rank + 4 * rank)});
    Index used = 0;
    const auto take = [&](Index numbers) {
      double* const p = room.data() + used * lanes<double>;
      used += numbers;
      return p;
    };
    for (double** p : {&lambda_, &W_, &B_, &dlambda_, &dW_, &dB_}) *p = take(2 * modes);
    for (double** p : {&P_, &Q_, &R_, &dP_, &dQ_, &dR_}) *p = take(2 * modes * rank);
    for (double** p : {&S_, &M_, &dM_, &dX_}) *p = take(rank * rank);
    for (double** p : {&t_, &w_, &dt_, &dw_}) *p = take(rank);
  }

  /// Writes the table of the channels from `first` on. Lanes beyond the last repeat it.
  void sample(Index first, T* table) noexcept {
    for (Index lane = 0; lane < lanes<T>; lane += lanes<double>) {
      load(first + lane);
      solve();
      for (Index n = 0; n < layout_.modes; ++n) {
        T* const to = table + n * layout_.row() * lanes<T> + lane;
        const Z lambda = z(lambda_, n), W = z(W_, n);
        Z b = W * z(B_, n);
        for (Index a = 0; a < rank(); ++a) b = b - v(w_, a) * z(Q_, at(n, a));
        store(to, DplrLayout::E, two() * (lambda * W));
        store(to, DplrLayout::b, two() * b);
        store(to, DplrLayout::C,
              gather([&](Index c) { return 2.0 * conj_of(in_.C, c, n); }, first + lane));
        for (Index a = 0; a < rank(); ++a) {
          store(to, DplrLayout::R(a), two() * z(R_, at(n, a)));
          store(to, DplrLayout::G(a), -two() * kappa_ * QM(n, a));
        }
      }
      T* const D = table + layout_.modes * layout_.row() * lanes<T> + lane;
      const V feed = gather(
                         [&](Index c) {
                           return std::complex<double>(in_.D ? static_cast<double>(in_.D(c)) : 0.0);
                         },
                         first + lane)
                         .re;
      for (Index i = 0; i < lanes<double>; ++i) D[i] = static_cast<T>(element(feed, i));
    }
  }

  /// Writes the gradients of the channels from `first` to `end` from those of their table.
  void turn_back(Index first, Index end, const T* dtable, const DplrScanInputGradients<T>& to) {
    for (Index lane = 0; lane < lanes<T>; lane += lanes<double>) {
      const Index from = first + lane;
      if (from >= end) return;
      load(from);
      solve();
      const V dkappa = turn_back(dtable + lane);
      scatter(from, end, dkappa, dtable + lane, to);
    }
  }

 private:
  [[nodiscard]] Index rank() const noexcept { return layout_.rank; }
  [[nodiscard]] Index at(Index n, Index a) const noexcept { return n * layout_.rank + a; }
  [[nodiscard]] static V v(const double* from, Index i) noexcept {
    return V::load(from + i * lanes<double>);
  }
  static void set(double* to, Index i, V value) noexcept { value.store(to + i * lanes<double>); }
  [[nodiscard]] static Z z(const double* from, Index i) noexcept {
    return {v(from, 2 * i), v(from, 2 * i + 1)};
  }
  static void set(double* to, Index i, Z value) noexcept {
    set(to, 2 * i, value.re);
    set(to, 2 * i + 1, value.im);
  }
  static double element(V value, Index lane) noexcept {
    std::array<double, static_cast<std::size_t>(lanes<double>)> all;
    value.store(all.data());
    return all[static_cast<std::size_t>(lane)];
  }
  template <class Source>
  [[nodiscard]] static std::complex<double> conj_of(const Source& view, Index c, Index n) noexcept {
    return std::conj(std::complex<double>(view(c, n)));
  }
  /// The number of each channel.
  template <class Source>
  [[nodiscard]] Z gather(const Source& of, Index first) const noexcept {
    std::array<double, static_cast<std::size_t>(lanes<double>)> re, im;
    for (Index i = 0; i < lanes<double>; ++i) {
      const std::complex<double> value = of((std::min)(first + i, in_.delta.extent(0) - 1));
      re[static_cast<std::size_t>(i)] = value.real();
      im[static_cast<std::size_t>(i)] = value.imag();
    }
    return {V::load(re.data()), V::load(im.data())};
  }
  static void store(T* to, Index i, Z value) noexcept {
    for (Index lane = 0; lane < lanes<double>; ++lane) {
      to[i * lanes<T> + lane] = static_cast<T>(element(value.re, lane));
      to[(i + 1) * lanes<T> + lane] = static_cast<T>(element(value.im, lane));
    }
  }
  [[nodiscard]] static V loaded(const T* from, Index i) noexcept {
    std::array<double, static_cast<std::size_t>(lanes<double>)> all;
    for (Index lane = 0; lane < lanes<double>; ++lane)
      all[static_cast<std::size_t>(lane)] = static_cast<double>(from[i * lanes<T> + lane]);
    return V::load(all.data());
  }
  [[nodiscard]] static Z loaded_pair(const T* from, Index i) noexcept {
    return {loaded(from, i), loaded(from, i + 1)};
  }

  /// 2^k with 4^k next to Δ. As the unit of time of its channel 4^k keeps every number of a usual
  /// size, whatever the units of Δ and Λ, and rounds none.
  [[nodiscard]] static double root_of_unit(double delta) noexcept {
    constexpr int most = 510;  // so that 4^k and 4^−k are normal
    return std::ldexp(1.0, std::clamp(std::ilogb(delta) / 2, -most, most));
  }

  /// Λ, P, B and κ with 4^k s as the unit of time.
  void load(Index first) noexcept {
    using Wide = std::complex<double>;
    const Z units = gather(
        [&](Index c) {
          const double root = root_of_unit(static_cast<double>(in_.delta(c)));
          return Wide(root, root * root);
        },
        first);
    root_ = units.re;
    unit_ = units.im;
    kappa_ = two() * unit_ /
             gather([&](Index c) { return Wide(static_cast<double>(in_.delta(c))); }, first).re;
    for (Index n = 0; n < layout_.modes; ++n) {
      set(lambda_, n, unit_ * gather([&](Index c) { return Wide(in_.lambda(c, n)); }, first));
      set(B_, n, unit_ * gather([&](Index c) { return Wide(in_.B(c, n)); }, first));
      for (Index a = 0; a < rank(); ++a)
        set(P_, at(n, a), root_ * gather([&](Index c) { return Wide(in_.P(c, n, a)); }, first));
    }
  }

  /// (Q M) of a mode.
  [[nodiscard]] Z QM(Index n, Index a) const noexcept {
    Z sum{V(0.0), V(0.0)};
    for (Index k = 0; k < rank(); ++k) sum = sum + v(M_, at(k, a)) * z(Q_, at(n, k));
    return sum;
  }

  /// W, Q, R, M, t = R B and w = M t.
  void solve() noexcept {
    const Index modes = layout_.modes, r = rank();
    for (Index n = 0; n < modes; ++n) {
      const Z lambda = z(lambda_, n), d{kappa_ - lambda.re, -lambda.im};
      const V scale = V(1.0) / dot(d, d);
      const Z W = scale * conjugate(d);
      set(W_, n, W);
      for (Index a = 0; a < r; ++a) {
        set(Q_, at(n, a), W * z(P_, at(n, a)));
        set(R_, at(n, a), conjugate(W) * z(P_, at(n, a)));
      }
    }
    for (Index a = 0; a < r; ++a) {
      V t(0.0);
      for (Index n = 0; n < modes; ++n) t = t + dot(z(R_, at(n, a)), z(B_, n));
      set(t_, a, two() * t);
      for (Index k = 0; k < r; ++k) {
        V x(0.0);
        for (Index n = 0; n < modes; ++n) x = x + dot(z(P_, at(n, a)), z(Q_, at(n, k)));
        set(S_, at(a, k), V(a == k ? 1.0 : 0.0) + two() * x);
        set(M_, at(a, k), V(a == k ? 1.0 : 0.0));
      }
    }
    invert();
    for (Index a = 0; a < r; ++a) {
      V w(0.0);
      for (Index k = 0; k < r; ++k) w = w + v(M_, at(a, k)) * v(t_, k);
      set(w_, a, w);
    }
  }

  /// M = S⁻¹, of M = I; destroys S. The symmetric part of S is at least I where Λ is stable, but
  /// beside a large skew part only the largest pivots keep the digits.
  void invert() noexcept {
    const Index r = rank();
    for (Index lane = 0; lane < lanes<double>; ++lane) {
      const auto element = [&](double* m, Index i, Index j) -> double& {
        return m[at(i, j) * lanes<double> + lane];
      };
      for (Index k = 0; k < r; ++k) {
        Index pivot = k;
        for (Index i = k + 1; i < r; ++i)
          if (std::abs(element(S_, i, k)) > std::abs(element(S_, pivot, k))) pivot = i;
        const double inverse = 1 / element(S_, pivot, k);
        for (double* m : {S_, M_})
          for (Index j = 0; j < r; ++j) {
            std::swap(element(m, k, j), element(m, pivot, j));
            element(m, k, j) *= inverse;
          }
        for (Index i = 0; i < r; ++i) {
          if (i == k) continue;
          const double factor = element(S_, i, k);
          for (double* m : {S_, M_})
            for (Index j = 0; j < r; ++j) element(m, i, j) -= factor * element(m, k, j);
        }
      }
    }
  }

  /// From the gradients of a table to dΛ, dP, dB. Returns that by κ. A gradient by a complex k is
  /// ∂/∂Re k + i ∂/∂Im k.
  V turn_back(const T* dtable) noexcept {
    const Index modes = layout_.modes, r = rank();
    const auto from = [&](Index n) { return dtable + n * layout_.row() * lanes<T>; };
    V dkappa(0.0);
    for (Index a = 0; a < r; ++a) {
      V dw(0.0);
      for (Index n = 0; n < modes; ++n)
        dw = dw - dot(z(Q_, at(n, a)), loaded_pair(from(n), DplrLayout::b));
      set(dw_, a, two() * dw);
    }
    for (Index k = 0; k < r; ++k) {
      V dt(0.0);
      for (Index a = 0; a < r; ++a) {
        dt = dt + v(M_, at(a, k)) * v(dw_, a);
        V dM = v(dw_, a) * v(t_, k);  // of M(a, k)
        V by_G(0.0);
        for (Index n = 0; n < modes; ++n)
          by_G = by_G + dot(z(Q_, at(n, a)), loaded_pair(from(n), DplrLayout::G(k)));
        set(dM_, at(a, k), dM - two() * kappa_ * by_G);
      }
      set(dt_, k, dt);
    }
    // dX = −Mᵀ dM Mᵀ, by way of S_ = Mᵀ dM
    const auto product = [&](const double* x, bool turn_x, const double* y, bool turn_y, double* to,
                             V sign) {
      for (Index i = 0; i < r; ++i)
        for (Index j = 0; j < r; ++j) {
          V sum(0.0);
          for (Index k = 0; k < r; ++k)
            sum = sum + v(x, turn_x ? at(k, i) : at(i, k)) * v(y, turn_y ? at(j, k) : at(k, j));
          set(to, at(i, j), sign * sum);
        }
    };
    product(M_, true, dM_, false, S_, V(1.0));
    product(S_, false, M_, true, dX_, V(-1.0));
    for (Index n = 0; n < modes; ++n) {
      const T* const d = from(n);
      const Z dE = loaded_pair(d, DplrLayout::E), db = loaded_pair(d, DplrLayout::b);
      const Z W = z(W_, n), B = z(B_, n), lambda = z(lambda_, n);
      Z dW = two() * (conjugate(B) * db) + two() * (conjugate(lambda) * dE);
      Z dB = two() * (conjugate(W) * db);
      for (Index a = 0; a < r; ++a) {
        const Z P = z(P_, at(n, a));
        Z dQ{V(0.0), V(0.0)};
        for (Index k = 0; k < r; ++k) dQ = dQ + v(M_, at(a, k)) * loaded_pair(d, DplrLayout::G(k));
        dkappa = dkappa - two() * dot(QM(n, a), loaded_pair(d, DplrLayout::G(a)));
        dQ = -two() * (kappa_ * dQ) - two() * v(w_, a) * db;
        const Z dR = two() * loaded_pair(d, DplrLayout::R(a)) + two() * v(dt_, a) * B;
        dB = dB + two() * v(dt_, a) * z(R_, at(n, a));
        dW = dW + conjugate(P) * dQ + conjugate(dR) * P;
        Z dP = conjugate(W) * dQ + W * dR;
        for (Index k = 0; k < r; ++k) {
          const Z other = z(P_, at(n, k));
          const V ak = v(dX_, at(a, k)), ka = v(dX_, at(k, a));
          dW = dW + two() * ak * (P * conjugate(other));
          dP = dP + two() * ak * (W * other) + two() * ka * (other * conjugate(W));
        }
        set(dP_, at(n, a), dP);
      }
      const Z by_inverse = conjugate(W * W) * dW;
      dkappa = dkappa - by_inverse.re;
      set(dlambda_, n, two() * (conjugate(W) * dE) + by_inverse);
      set(dB_, n, dB);
    }
    return dkappa;
  }

  void scatter(Index first, Index end, V dkappa, const T* dtable,
               const DplrScanInputGradients<T>& to) const noexcept {
    const V ddelta = V(-0.5) * kappa_ * kappa_ * dkappa / unit_;
    for (Index lane = 0; lane < lanes<double> && first + lane < end; ++lane) {
      const Index c = first + lane;
      const auto number = [&](Z value) {
        return std::complex<T>(static_cast<T>(element(value.re, lane)),
                               static_cast<T>(element(value.im, lane)));
      };
      if (to.delta) to.delta(c) = static_cast<T>(element(ddelta, lane));
      if (to.D) to.D(c) = dtable[layout_.modes * layout_.row() * lanes<T> + lane];
      for (Index n = 0; n < layout_.modes; ++n) {
        const T* const dC = dtable + (n * layout_.row() + DplrLayout::C) * lanes<T> + lane;
        if (to.lambda) to.lambda(c, n) = number(unit_ * z(dlambda_, n));
        if (to.B) to.B(c, n) = number(unit_ * z(dB_, n));
        if (to.C) to.C(c, n) = {2 * dC[0], -2 * dC[lanes<T>]};
        for (Index a = 0; to.P && a < rank(); ++a) to.P(c, n, a) = number(root_ * z(dP_, at(n, a)));
      }
    }
  }

  const DplrScanInputs<T>& in_;
  DplrLayout layout_;
  V kappa_{0.0}, unit_{1.0}, root_{1.0};
  double *lambda_, *W_, *B_, *dlambda_, *dW_, *dB_;  // complex (modes)
  double *P_, *Q_, *R_, *dP_, *dQ_, *dR_;            // complex (modes, rank)
  double *S_, *M_, *dM_, *dX_;                       // (rank, rank)
  double *t_, *w_, *dt_, *dw_;                       // (rank)
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
