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
/// without noise is when it is read again at once. Where such a reading is not what was known, by
/// more than rounding, its residual is not zero: one of two that are certain is wrong.
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

/// Of outputs that told nothing: the residual becomes what the others leave of it, and zero where
/// that is within rounding, of numbers of `size_of(i)` and of a variance `variance_of(i)` that is
/// known no better than ε.
template <class T, int N, int P, class Seen, class Gain, class Size, class Variance>
void settle_residual(Innovation<T, N, P>& innovation, const Seen& C, const Gain& K,
                     const Size& size_of, const Variance& variance_of) {
  auto& r = innovation.residual;
  const double count = 16 * static_cast<double>(C.cols() + 1);
  const double rounding = count * static_cast<double>(std::numeric_limits<T>::epsilon());
  for (Index i = 0; i < r.size(); ++i) {
    if (innovation.covariance(i, i) != 0 || r(i) == T(0)) continue;
    double rest = static_cast<double>(r(i)), size = size_of(i);
    for (Index j = 0; j < r.size(); ++j)
      for (Index k = 0; innovation.covariance(j, j) != 0 && k < C.cols(); ++k) {
        const double part =
            static_cast<double>(C(i, k)) * static_cast<double>(K(k, j)) * static_cast<double>(r(j));
        rest -= part;
        size += std::abs(part);
      }
    const double within = rounding * size + 8 * std::sqrt(rounding * variance_of(i));
    r(i) = std::abs(rest) <= within ? T(0) : static_cast<T>(rest);
  }
}

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
    for (Index i = 0; i < off.size(); ++i)  // what cannot be
      if (!factor.told(i) && !(innovation.residual(i) == T(0)))
        off(i) = std::numeric_limits<double>::infinity();
    if (!factor.definite()) off.setConstant(std::numeric_limits<double>::quiet_NaN());
  }
};

}  // namespace detail

/// rᵀ S⁻¹ r of an innovation, the squared distance of Mahalanobis: of expectation (outputs that
/// were read) while the model is right. Readings far above the χ² quantile of so many outputs are
/// outliers; see chi_squared_quantile. Infinite where a meter without noise contradicts what is
/// certain.
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
/// where nothing was read, −∞ where a meter without noise contradicts what is certain. Their sum is
/// the log-likelihood of the model.
template <class T, int N, int P>
[[nodiscard]] T log_likelihood(const Innovation<T, N, P>& innovation) {
  constexpr double log_two_pi = 1.8378770664093454836;
  const detail::WeighedInnovation<T, N, P> weighed(innovation);
  const Index read = outputs_read(innovation);
  if (std::isinf(weighed.off.squaredNorm())) return -std::numeric_limits<T>::infinity();
  if (read == 0) return T(0);
  return static_cast<T>(-(weighed.off.squaredNorm() + weighed.factor.log_determinant() +
                          static_cast<double>(read) * log_two_pi) /
                        2);
}

}  // namespace ssm
