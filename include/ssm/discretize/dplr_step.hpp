#pragma once

#include <array>
#include <cassert>
#include <cmath>
#include <complex>
#include <concepts>
#include <string>
#include <string_view>
#include <utility>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {

/// The bilinear step of a diagonal plus low-rank system A = Λ − P P* in the coordinates of Dplr,
/// one of every conjugate pair, in O(state · rank): with E = 2/Δ + Λ, D = (2/Δ − Λ)⁻¹ and the real
/// M = (I + P* D P)⁻¹,
///
///   y = E h − P (P* h) + 2 B u,  h⁺ = D (y − P M (P* D y)),
///
/// where P* v stands for the sum over both halves, 2 Re Σ conj(P) v. It equals
/// h⁺ = A_bar h + B_bar u of `bilinear` (Gu, Goel & Ré 2022, appendix C.2).
template <std::floating_point T>
class DplrStep {
 public:
  /// One number for each mode.
  using Vector = Eigen::Matrix<std::complex<T>, Dynamic, 1>;
  /// A column for each rank.
  using Matrix = Eigen::Matrix<std::complex<T>, Dynamic, Dynamic>;
  /// The highest rank of P.
  static constexpr int highest_rank = 16;

  /// @param lambda Λ (state/2), 1/s
  /// @param P (state/2, rank), rank at most 16
  /// @param B (state/2)
  /// @param delta Δ, s, positive and finite
  /// @throws ShapeError, DomainError
  DplrStep(const Vector& lambda, const Matrix& P, const Vector& B, T delta)
      : DplrStep(lambda.size(), P.cols()) {
    constexpr std::string_view name = "DplrStep";
    detail::check_matrix(name, "P", P, modes(), P.cols());
    detail::check_matrix(name, "B", B, modes(), 1);
    detail::check_sampling(name, delta);
    assign(lambda, P, B, delta);
  }

  /// Room for `assign`: a step that leaves zeros.
  /// @throws DomainError for a rank above 16
  DplrStep(Index modes, Index rank)
      : P_(Matrix::Zero(modes, rank)),
        B_(Vector::Zero(modes)),
        E_(Vector::Zero(modes)),
        D_(Vector::Zero(modes)) {
    if (rank > highest_rank)
      detail::throw_domain("DplrStep", "rank", std::to_string(rank), "at most 16");
    M_.setZero(rank, rank);
  }

  /// Becomes the step of another system of the same sizes, which are asserted. No allocation, no
  /// exception.
  void assign(const Vector& lambda, const Matrix& P, const Vector& B, T delta) noexcept {
    assert(lambda.size() == modes() && B.size() == modes());
    assert(P.rows() == modes() && P.cols() == P_.cols());
    const Index rank = P.cols();
    const T rate = T(2) / delta;
    P_ = P;
    B_ = T(2) * B;
    E_ = lambda.array() + rate;
    D_ = (rate - lambda.array()).inverse();
    // M by elimination. P* D P has a positive real part when A is stable, but beside a large skew
    // part only the largest pivots keep the digits.
    M_.setIdentity(rank, rank);
    Small left(rank, rank);
    for (Index a = 0; a < rank; ++a)
      for (Index b = 0; b < rank; ++b)
        left(a, b) =
            (a == b ? T(1) : T(0)) +
            T(2) * (P.col(a).conjugate().array() * D_.array() * P.col(b).array()).sum().real();
    for (Index k = 0; k < rank; ++k) {
      Index pivot = k;
      for (Index i = k + 1; i < rank; ++i)
        if (std::abs(left(i, k)) > std::abs(left(pivot, k))) pivot = i;
      const T inverse = T(1) / left(pivot, k);
      for (Small* m : {&left, &M_})
        for (Index j = 0; j < rank; ++j) {
          std::swap((*m)(k, j), (*m)(pivot, j));
          (*m)(k, j) *= inverse;
        }
      for (Index i = 0; i < rank; ++i) {
        if (i == k) continue;
        const T factor = left(i, k);
        left.row(i) -= factor * left.row(k);
        M_.row(i) -= factor * M_.row(k);
      }
    }
  }

  /// state/2.
  [[nodiscard]] Index modes() const noexcept { return E_.size(); }

  /// Moves h (state/2) by one step under the input u. No allocation, no lock, no exception.
  void operator()(T u, std::complex<T>* h) const noexcept {
    const Index rank = P_.cols();
    std::array<T, highest_rank> dots, weights;
    const auto dot = [&](auto&& value) {
      for (Index a = 0; a < rank; ++a) {
        T sum(0);
        for (Index n = 0; n < modes(); ++n) {
          const std::complex<T> x = value(n);
          sum += P_(n, a).real() * x.real() + P_(n, a).imag() * x.imag();
        }
        dots[static_cast<std::size_t>(a)] = T(2) * sum;
      }
    };
    const auto correct = [&](std::complex<T> x, Index n, const auto& factors) {
      for (Index a = 0; a < rank; ++a) x -= P_(n, a) * factors[static_cast<std::size_t>(a)];
      return x;
    };
    dot([&](Index n) { return h[n]; });
    for (Index n = 0; n < modes(); ++n) h[n] = correct(E_(n) * h[n] + B_(n) * u, n, dots);
    dot([&](Index n) { return D_(n) * h[n]; });
    for (Index a = 0; a < rank; ++a) {
      T& weight = weights[static_cast<std::size_t>(a)] = T(0);
      for (Index b = 0; b < rank; ++b) weight += M_(a, b) * dots[static_cast<std::size_t>(b)];
    }
    for (Index n = 0; n < modes(); ++n) h[n] = D_(n) * correct(h[n], n, weights);
  }

 private:
  using Small = Eigen::Matrix<T, Dynamic, Dynamic, 0, highest_rank, highest_rank>;

  Matrix P_;
  Vector B_, E_, D_;  // B_ is 2 B
  Small M_;
};

/// A_bar of a DplrStep as a real matrix (state, state) on (Re h; Im h).
/// Cost: state steps.
template <std::floating_point T>
[[nodiscard]] Eigen::Matrix<T, Dynamic, Dynamic> transition_matrix(const DplrStep<T>& step) {
  const Index modes = step.modes();
  Eigen::Matrix<T, Dynamic, Dynamic> A_bar(2 * modes, 2 * modes);
  typename DplrStep<T>::Vector h(modes);
  for (Index k = 0; k < 2 * modes; ++k) {
    h.setZero();
    h(k % modes) = k < modes ? std::complex<T>(1, 0) : std::complex<T>(0, 1);
    step(T(0), h.data());
    A_bar.col(k).head(modes) = h.real();
    A_bar.col(k).tail(modes) = h.imag();
  }
  return A_bar;
}

}  // namespace ssm
