#pragma once

#include <cmath>
#include <concepts>
#include <cstdlib>
#include <numbers>
#include <string>
#include <string_view>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {

/// What a HiPPO state remembers: the coefficients of the past u(t − s) in a basis, best under a
/// measure of s (Gu, Dao, Ermon, Rudra & Ré 2020; Gu, Johnson, Timalsina, Rudra & Ré 2022).
enum class Hippo {
  legs,     ///< Legendre in e^{−s}, measure e^{−s}: all of the past, ever more coarsely
  legt,     ///< Legendre on a sliding window
  lmu,      ///< legt with the basis scaled to P_n (Voelker, Kajić & Eliasmith 2019)
  lagt,     ///< Laguerre, e^{−s/2} L_n(s)
  fourier,  ///< Fourier on a sliding window; window 2 is the `fout` of the S4 repository
  fourier_decaying,  ///< Fourier with the weak boundary term ½ of `fourier` of window 2
  fourier_diagonal   ///< Fourier under e^{−s/2}, a diagonal plus skew A (`foud`)
};

namespace detail {

inline void check_hippo(std::string_view function, Index state, double window) {
  constexpr Index most = 32'768;  // 8 GB of A in double
  if (state < 1 || state > most)
    throw_domain(function, "state", detail::number(state), "1 to " + detail::number(most));
  if (!(window > 0)) throw_domain(function, "window", detail::number(window), "> 0");
}

/// √(2n + 1), the norm of P_n over the unit interval, inverted.
inline double legendre_scale(Index n) { return std::sqrt(2.0 * static_cast<double>(n) + 1.0); }

/// b = [1, 0, √2, 0, √2, …], the values at 0 of the Fourier basis.
inline double fourier_at_zero(Index n) {
  return n % 2 == 1 ? 0.0 : (n == 0 ? 1.0 : std::numbers::sqrt2);
}

/// J[2k, 2k + 1] = −k, J[2k + 1, 2k] = k: the derivative of the Fourier basis, over 2π.
inline double fourier_turn(Index row, Index col) {
  if (row / 2 != col / 2 || row == col) return 0.0;
  const auto k = static_cast<double>(row / 2);
  return row < col ? -k : k;
}

inline double hippo_a(Hippo measure, Index n, Index k) {
  const auto row = static_cast<double>(n);
  const bool even = (n - k) % 2 == 0;
  switch (measure) {
    case Hippo::legs:
      return n < k ? 0.0 : (n == k ? -(row + 1) : -legendre_scale(n) * legendre_scale(k));
    case Hippo::legt:
      return -legendre_scale(n) * legendre_scale(k) * (k <= n || even ? 1.0 : -1.0);
    case Hippo::lmu:
      return (2 * row + 1) * (n < k || even ? -1.0 : 1.0);
    case Hippo::lagt:
      return n < k ? 0.0 : (n == k ? -0.5 : -1.0);
    case Hippo::fourier:
      return 2 * std::numbers::pi * fourier_turn(n, k) -
             2 * fourier_at_zero(n) * fourier_at_zero(k);
    case Hippo::fourier_decaying:
      return std::numbers::pi * fourier_turn(n, k) - 0.5 * fourier_at_zero(n) * fourier_at_zero(k);
    case Hippo::fourier_diagonal:
      return 2 * std::numbers::pi * fourier_turn(n, k) - (n == k ? 0.5 : 0.0);
  }
  std::abort();
}

inline double hippo_b(Hippo measure, Index n) {
  switch (measure) {
    case Hippo::legs:
    case Hippo::legt:
      return legendre_scale(n);
    case Hippo::lmu:
      return (n % 2 == 0 ? 1.0 : -1.0) * (2 * static_cast<double>(n) + 1);
    case Hippo::lagt:
      return 1.0;
    case Hippo::fourier:
      return 2 * fourier_at_zero(n);
    case Hippo::fourier_decaying:
      return 0.5 * fourier_at_zero(n);
    case Hippo::fourier_diagonal:
      return fourier_at_zero(n);
  }
  std::abort();
}

/// P_0 … P_{N−1} at x by (n + 1) P_{n+1} = (2n + 1) x P_n − n P_{n−1}.
template <class T>
Eigen::Matrix<T, Eigen::Dynamic, 1> legendre(Index state, T x) {
  Eigen::Matrix<T, Eigen::Dynamic, 1> p(state);
  p(0) = T(1);
  if (state > 1) p(1) = x;
  for (Index n = 1; n + 1 < state; ++n) {
    const auto k = static_cast<T>(n);
    p(n + 1) = ((2 * k + 1) * x * p(n) - k * p(n - 1)) / (k + 1);
  }
  return p;
}

/// L_0 … L_{N−1} at x by (n + 1) L_{n+1} = (2n + 1 − x) L_n − n L_{n−1}.
template <class T>
Eigen::Matrix<T, Eigen::Dynamic, 1> laguerre(Index state, T x) {
  Eigen::Matrix<T, Eigen::Dynamic, 1> p(state);
  p(0) = T(1);
  if (state > 1) p(1) = T(1) - x;
  for (Index n = 1; n + 1 < state; ++n) {
    const auto k = static_cast<T>(n);
    p(n + 1) = ((2 * k + 1 - x) * p(n) - k * p(n - 1)) / (k + 1);
  }
  return p;
}

}  // namespace detail

/// The HiPPO system c' = A c + B u whose state is the memory itself (C = I, D = 0):
///
/// | measure          | A[n, k]                                          | B[n]          |
/// |------------------|--------------------------------------------------|---------------|
/// | legs             | −√((2n+1)(2k+1)), −(n+1), 0 for n >, =, < k      | √(2n+1)       |
/// | legt             | −√((2n+1)(2k+1)) · [1 if k ≤ n else (−1)^{n−k}]  | √(2n+1)       |
/// | lmu              | (2n+1) · [−1 if n < k else (−1)^{n−k+1}]         | (−1)^n (2n+1) |
/// | lagt             | −1, −½, 0 for n >, =, < k                        | 1             |
/// | fourier          | 2πJ − 2bbᵀ                                       | 2b            |
/// | fourier_decaying | πJ − ½bbᵀ                                        | ½b            |
/// | fourier_diagonal | 2πJ − ½I                                         | b             |
///
/// with J[2k, 2k+1] = −k, J[2k+1, 2k] = k and b = [1, 0, √2, 0, √2, …]; state 1 of the Fourier
/// family never moves (LegT, LagT and LegS: Gu et al. 2020, theorems 1 and 2; Fourier: Gu et al.
/// 2022, "How to train your HiPPO", and the public S4 repository).
///
/// @param measure which memory
/// @param state N ≥ 1
/// @param window θ, s: how long legt, lmu and fourier remember, and the unit of time of the rest;
///   both A and B are divided by it
/// @throws DomainError unless state ≥ 1 and window > 0
/// Cost: O(N²).
template <std::floating_point T>
[[nodiscard]] StateSpace<T, Dynamic, 1, Dynamic> hippo(Hippo measure, Index state,
                                                       T window = T(1)) {
  using Matrix = Eigen::Matrix<T, Dynamic, Dynamic>;
  const auto theta = static_cast<double>(window);
  detail::check_hippo("hippo", state, theta);
  Matrix A(state, state);
  Eigen::Matrix<T, Dynamic, 1> B(state);
  for (Index n = 0; n < state; ++n) {
    for (Index k = 0; k < state; ++k)
      A(n, k) = static_cast<T>(detail::hippo_a(measure, n, k) / theta);
    B(n) = static_cast<T>(detail::hippo_b(measure, n) / theta);
  }
  return {A, B, Matrix::Identity(state, state)};
}

/// The P (state, rank) that makes A of `hippo` normal: A + P Pᵀ = c I + a skew matrix, with
///
///   legs  √(n + ½), c = −½/θ;  legt rank 2, √(2n + 1) of even n and of odd n, c = 0;
///   lagt  1/√2, c = 0;  fourier  √2 b, fourier_decaying  b/√2, c = 0;  fourier_diagonal  rank 0
///
/// for a window of 1 (Gu, Goel & Ré 2022, appendix C.1; for other windows over √θ).
///
/// @param measure which memory
/// @param state, window as for hippo
/// @throws DomainError as hippo, and for lmu, which has no such P
template <std::floating_point T>
[[nodiscard]] Eigen::Matrix<T, Dynamic, Dynamic> hippo_correction(Hippo measure, Index state,
                                                                  T window = T(1)) {
  detail::check_hippo("hippo_correction", state, static_cast<double>(window));
  if (measure == Hippo::lmu)
    detail::throw_domain("hippo_correction", "measure", "lmu", "one with a normal part");
  const Index rank = measure == Hippo::fourier_diagonal ? 0 : (measure == Hippo::legt ? 2 : 1);
  Eigen::Matrix<T, Dynamic, Dynamic> P = Eigen::Matrix<T, Dynamic, Dynamic>::Zero(state, rank);
  for (Index n = 0; n < state && rank > 0; ++n) {
    double p = std::sqrt(0.5);
    if (measure == Hippo::legs) p *= detail::legendre_scale(n);
    if (measure == Hippo::legt) p = detail::legendre_scale(n);
    if (measure == Hippo::fourier) p *= 2 * detail::fourier_at_zero(n);
    if (measure == Hippo::fourier_decaying) p *= detail::fourier_at_zero(n);
    P(n, rank == 2 ? n % 2 : 0) = static_cast<T>(p / std::sqrt(static_cast<double>(window)));
  }
  return P;
}

/// The basis g(s) by which a HiPPO state is read: u(t − s) ≈ Σ_n g_n(s) c_n(t), with
///
///   legs  √(2n+1) P_n(2e^{−s/θ} − 1);  legt  √(2n+1) P_n(1 − 2s/θ);  lmu  P_n(2s/θ − 1);
///   lagt  e^{−s/2θ} L_n(s/θ);  fourier  1, 0, √2 cos(2πks/θ), √2 sin(2πks/θ)
///
/// (Gu et al. 2022). Of what lies before their window legt, lmu and fourier know nothing.
///
/// @param measure which memory
/// @param state, window as for hippo
/// @param s how long ago, in the unit of the window: ≥ 0, and ≤ θ for legt, lmu and fourier
/// @throws DomainError as hippo, for an s outside these, and for fourier_decaying and
///   fourier_diagonal, whose bases are not orthogonal
/// Cost: O(N).
template <std::floating_point T>
[[nodiscard]] Eigen::Matrix<T, Dynamic, 1> hippo_basis(Hippo measure, Index state, T window, T s) {
  detail::check_hippo("hippo_basis", state, static_cast<double>(window));
  const bool ends = measure == Hippo::legt || measure == Hippo::lmu || measure == Hippo::fourier;
  if (!(s >= T(0) && (!ends || s <= window)))
    detail::throw_domain("hippo_basis", "s", detail::number(s), ends ? "in [0, window]" : ">= 0");
  Eigen::Matrix<T, Dynamic, 1> g(state);
  const T at = s / window;
  switch (measure) {
    case Hippo::legs:
      g = detail::legendre(state, T(2) * std::exp(-at) - T(1));
      break;
    case Hippo::legt:
      g = detail::legendre(state, T(1) - T(2) * at);
      break;
    case Hippo::lmu:
      return detail::legendre(state, T(2) * at - T(1));
    case Hippo::lagt:
      return std::exp(-at / T(2)) * detail::laguerre(state, at);
    case Hippo::fourier:
      for (Index n = 0; n < state; ++n) {
        const T angle = T(2) * std::numbers::pi_v<T> * static_cast<T>(n / 2) * at;
        g(n) = n < 2 ? static_cast<T>(1 - n)
                     : std::numbers::sqrt2_v<T> * (n % 2 == 0 ? std::cos(angle) : std::sin(angle));
      }
      return g;
    case Hippo::fourier_decaying:
    case Hippo::fourier_diagonal:
      detail::throw_domain("hippo_basis", "measure", "one of a skewed basis",
                           "legs, legt, lmu, lagt or fourier");
  }
  for (Index n = 0; n < state; ++n) g(n) *= static_cast<T>(detail::legendre_scale(n));
  return g;
}

}  // namespace ssm
