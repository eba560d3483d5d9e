#pragma once

#include <cmath>
#include <concepts>
#include <limits>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/detail/small_matrix.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {

/// What a reading told: y less what was expected, how far off it could be expected to be, and how
/// much of it was believed.
///
/// An output that told nothing has zeros in its rows and columns: one that was not measured, and
/// one that is known from the belief and the outputs before it to the last digit, as a meter
/// without noise is when it is read again at once.
template <std::floating_point T, int States = Dynamic, int Outputs = Dynamic>
struct Innovation {
  Eigen::Matrix<T, Outputs, 1> residual;               ///< y − C mean − D u
  Eigen::Matrix<double, Outputs, Outputs> covariance;  ///< S = C P Cᵀ + R
  Eigen::Matrix<T, States, Outputs> gain;              ///< the filter gain K = P Cᵀ S⁻¹
};

namespace detail {

/// S = L Lᵀ of an innovation. An output is left out, its row and column of S set to zero, where
/// what the others leave of its variance is within `doubt` of zero.
template <int Outputs>
class InnovationFactor {
 public:
  using Matrix = Eigen::Matrix<double, Outputs, Outputs>;
  using Vector = Eigen::Matrix<double, Outputs, 1>;

  InnovationFactor(Matrix& S, const Vector& doubt) : L_(S.rows(), S.cols()), told_(S.rows()) {
    const Index n = S.rows();
    for (Index j = 0; j < n; ++j) {
      double d = S(j, j);
      for (Index k = 0; k < j; ++k) d -= L_(j, k) * L_(j, k);
      told_(j) = !(std::abs(d) <= doubt(j));
      definite_ = definite_ && (!told_(j) || d > 0);
      L_(j, j) = told_(j) ? std::sqrt(d) : 1;
      if (!told_(j))
        for (Index i = 0; i < n; ++i) {
          S(i, j) = S(j, i) = 0;
          if (i < j) L_(j, i) = 0;
        }
      for (Index i = j + 1; i < n; ++i) {
        double rest = S(i, j);
        for (Index k = 0; k < j; ++k) rest -= L_(i, k) * L_(j, k);
        L_(i, j) = told_(j) ? rest / L_(j, j) : 0;
      }
    }
  }

  /// False when S is indefinite, and when it holds NaN.
  [[nodiscard]] bool definite() const noexcept { return definite_; }
  /// Whether an output told something.
  [[nodiscard]] bool told(Index i) const noexcept { return told_(i); }

  /// B ← L⁻¹ B, with zero rows for outputs that are left out.
  template <class B>
  void divide(B& b) const {
    for (Index j = 0; j < b.cols(); ++j)
      for (Index k = 0; k < b.rows(); ++k) {
        if (!told_(k)) b(k, j) = 0;
        b(k, j) /= L_(k, k);
        for (Index i = k + 1; i < b.rows(); ++i) b(i, j) -= L_(i, k) * b(k, j);
      }
  }
  /// B ← L⁻ᵀ B.
  template <class B>
  void divide_transposed(B& b) const {
    for (Index j = 0; j < b.cols(); ++j)
      for (Index k = b.rows(); k-- > 0;) {
        for (Index i = k + 1; i < b.rows(); ++i) b(k, j) -= L_(i, k) * b(i, j);
        b(k, j) /= L_(k, k);
      }
  }
  /// log det S of the outputs that told something.
  [[nodiscard]] double log_determinant() const {
    double sum = 0;
    for (Index i = 0; i < L_.rows(); ++i)
      if (told_(i)) sum += 2 * std::log(L_(i, i));
    return sum;
  }

 private:
  Matrix L_;
  Eigen::Matrix<bool, Outputs, 1> told_;
  bool definite_ = true;
};

/// The factor of an innovation that has left out what told nothing, and L⁻¹ times its residual.
template <class T, int N, int P>
struct WeighedInnovation {
  Eigen::Matrix<double, P, P> S;
  InnovationFactor<P> factor;
  Eigen::Matrix<double, P, 1> off;

  explicit WeighedInnovation(const Innovation<T, N, P>& innovation)
      : S(innovation.covariance),
        factor(S, Eigen::Matrix<double, P, 1>::Zero(S.rows())),
        off(innovation.residual.template cast<double>()) {
    factor.divide(off);
    if (!factor.definite()) off.setConstant(std::numeric_limits<double>::quiet_NaN());
  }
};

}  // namespace detail

/// rᵀ S⁻¹ r of an innovation, the squared distance of Mahalanobis: of expectation (outputs that
/// were read) while the model is right. Readings far above the χ² quantile of so many outputs are
/// outliers; see chi_squared_quantile.
template <class T, int N, int P>
[[nodiscard]] T squared_distance(const Innovation<T, N, P>& innovation) {
  return static_cast<T>(detail::WeighedInnovation<T, N, P>(innovation).off.squaredNorm());
}

/// The number of outputs that told something: those that were read.
template <class T, int N, int P>
[[nodiscard]] Index outputs_read(const Innovation<T, N, P>& innovation) {
  Index count = 0;
  for (Index i = 0; i < innovation.residual.size(); ++i)
    if (innovation.covariance(i, i) != 0) ++count;
  return count;
}

/// log p(y) of what was read given all before it: −(rᵀ S⁻¹ r + log det S + read · log 2π)/2, 0
/// where nothing was read. Their sum is the log-likelihood of the model.
template <class T, int N, int P>
[[nodiscard]] T log_likelihood(const Innovation<T, N, P>& innovation) {
  constexpr double log_two_pi = 1.8378770664093454836;
  const detail::WeighedInnovation<T, N, P> weighed(innovation);
  const Index read = outputs_read(innovation);
  if (read == 0) return T(0);
  return static_cast<T>(-(weighed.off.squaredNorm() + weighed.factor.log_determinant() +
                          static_cast<double>(read) * log_two_pi) /
                        2);
}

}  // namespace ssm
