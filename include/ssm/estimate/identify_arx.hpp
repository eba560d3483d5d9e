#pragma once

#include <algorithm>
#include <concepts>
#include <string>
#include <string_view>
#include <type_traits>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/index.hpp"
#include "ssm/system/companion.hpp"
#include "ssm/system/state_space.hpp"
#include "ssm/system/transfer_function.hpp"

SSM_BEGIN_COMPILED

/// The coefficients of an ARX model, and what is left of the output.
struct ArxFit {
  RealVector a;  // (order + 1), a(0) = 1
  RealMatrix b;  // (input_order, inputs)
  double variance;
  RealVector a_error;  // standard errors of a and b
  RealMatrix b_error;
};

/// @throws ShapeError, DomainError as arx does
[[nodiscard]] ArxFit fit_arx(std::string_view function, const RealMatrix& u, const RealMatrix& y,
                             Index order, Index input_order, Index delay);

/// Throws DomainError for data that are not finite, ShapeError for lengths that differ.
void check_data(std::string_view function, const RealMatrix& u, const RealMatrix& y);

/// Powers of two that bring the columns to a root mean square near 1; 1 for columns of zeros.
[[nodiscard]] RealVector units_of_columns(const RealMatrix& data);

SSM_END_COMPILED

namespace ssm {

/// The orders of an ARX model.
struct ArxOrders {
  Index order = 1;        ///< past outputs, n_a ≥ 0
  Index input_order = 1;  ///< values of each input, n_b ≥ 1
  Index delay = 1;  ///< samples until an input first acts, n_k ≥ 0; 0 for one that acts at once
};

/// An autoregressive model with inputs of one output,
///
///   y_t + a_1 y_{t−1} + … + a_{n_a} y_{t−n_a} = Σ_i Σ_{k < n_b} b_{ki} u_i(t − n_k − k) + e_t.
template <std::floating_point T>
struct ArxModel {
  Eigen::Matrix<T, Eigen::Dynamic, 1> a;  ///< (n_a + 1), a(0) = 1
  Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>
      b;        ///< (n_b, inputs), b(k, i) of u_i(t − n_k − k)
  Index delay;  ///< n_k, samples
  T delta;      ///< Δ, s
  T variance;   ///< of e: its sum of squares over the samples less the coefficients
  Eigen::Matrix<T, Eigen::Dynamic, 1> a_error;  ///< (n_a + 1), the standard error of each of a
  Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>
      b_error;  ///< (n_b, inputs), the standard error of each of b

  /// From one input to y, in z: z^(…) Σ_k b_k z^{−n_k − k} / Σ_k a_k z^{−k}, highest power first.
  /// @param input which one
  /// @throws ShapeError when there is no such input
  [[nodiscard]] TransferFunction<T> transfer_function(Index input = 0) const {
    if (input < 0 || input >= b.cols())
      detail::throw_shape("transfer_function", "input", std::to_string(input),
                          "below " + std::to_string(b.cols()));
    return {in_powers_of_z(b.col(input), delay), in_powers_of_z(a, 0)};
  }

  /// The discrete system of max(n_a, n_b + n_k − 1) states, read before the step, in the form of
  /// companion.
  [[nodiscard]] DiscreteStateSpace<T, Dynamic, Dynamic, 1> state_space() const {
    const auto form = companion(in_powers_of_z(a, 0), in_powers_of_z(b, delay));
    return {form.A(), form.B(), form.C(), form.D(), delta};
  }

 private:
  /// Coefficients of z^{−late}, z^{−late−1}, … as those of z^n … z⁰, the highest first.
  template <class Coefficients>
  [[nodiscard]] auto in_powers_of_z(const Coefficients& coefficients, Index late) const {
    const Index states = (std::max)(a.size() - 1, b.rows() + delay - 1);
    Eigen::Matrix<T, Eigen::Dynamic, Coefficients::ColsAtCompileTime> result =
        Eigen::Matrix<T, Eigen::Dynamic, Coefficients::ColsAtCompileTime>::Zero(
            states + 1, coefficients.cols());
    for (Index j = 0; j < coefficients.cols(); ++j)
      for (Index k = 0; k < coefficients.rows(); ++k) result(late + k, j) = coefficients(k, j);
    return result;
  }
};

/// An ARX model of what was measured, by least squares (Ljung, System Identification, 2nd ed.,
/// section 10.1): exact for data without noise, consistent where the noise e is white; where it is
/// not, the sensor's noise on y itself among it, estimates are biased and `moesp` is the better
/// choice. Data with a mean: subtract it first.
///
/// Standard errors are those of least squares, the roots of the diagonal of variance (Φᵀ Φ)⁻¹, Φ
/// the past that each sample is explained by (Ljung, equation 9.42 for white e).
///
/// @param u (length, inputs), the inputs at the samples
/// @param y (length) or (length, 1), the output at the samples
/// @param delta Δ, s
/// @param orders n_a, n_b, n_k
/// @throws ShapeError when u and y differ in length, y has several columns, or there are too few
///   samples: fewer equations than coefficients
/// @throws DomainError when a value is not finite, an order is negative, Δ is not positive and
///   finite, or the data are not persistently exciting: they do not tell the coefficients apart,
///   because the input is too simple, or because without noise the orders are higher than the
///   system's
/// Cost: length · (n_a + n_b inputs)²; in double for float as well. Powers of two in the units of
/// inputs and outputs change no digit.
template <class DU, class DY>
[[nodiscard]] ArxModel<typename DU::Scalar> arx(const Eigen::MatrixBase<DU>& u,
                                                const Eigen::MatrixBase<DY>& y,
                                                std::type_identity_t<typename DU::Scalar> delta,
                                                const ArxOrders& orders = {}) {
  using T = typename DU::Scalar;
  detail::check_sampling("arx", delta);
  const bool row = DY::RowsAtCompileTime == 1;
  if (!row && y.cols() != 1)
    detail::throw_shape(
        "arx", "y", "of " + std::to_string(y.cols()) + " columns",
        "one output, (" + std::to_string(y.rows()) + ", 1): arx is of one at a time");
  detail::RealMatrix column(y.size(), 1);
  for (Index t = 0; t < y.size(); ++t) column(t, 0) = static_cast<double>(row ? y(0, t) : y(t, 0));
  const auto fit = detail::fit_arx("arx", detail::RealMatrix(u), column, orders.order,
                                   orders.input_order, orders.delay);
  return {detail::to_eigen<Eigen::Matrix<T, Eigen::Dynamic, 1>>(fit.a),
          detail::to_eigen<Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>>(fit.b),
          orders.delay,
          delta,
          static_cast<T>(fit.variance),
          detail::to_eigen<Eigen::Matrix<T, Eigen::Dynamic, 1>>(fit.a_error),
          detail::to_eigen<Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>>(fit.b_error)};
}

}  // namespace ssm

#if !SSM_DECLARE_ONLY
#include "ssm/estimate/detail/identify_arx_impl.hpp"
#endif
