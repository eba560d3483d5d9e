#pragma once

#include <string_view>
#include <type_traits>
#include <vector>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/index.hpp"
#include "ssm/estimate/identify_arx.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {

/// What moesp is told of the system.
struct SubspaceOptions {
  Index order = 0;    ///< states; 0: chosen from the singular values
  Index horizon = 0;  ///< samples that the past and the future are each, above order/outputs; 0:
                      ///< twice what the order needs and at least 10, as far as the data reach
};

}  // namespace ssm

SSM_BEGIN_COMPILED

struct SubspaceFit {
  RealMatrix A, B, C, D, residual_covariance;
  RealVector initial_state, sigma;
};

/// @throws ShapeError, DomainError as moesp does
[[nodiscard]] SubspaceFit fit_subspace(const RealMatrix& u, const RealMatrix& y,
                                       const SubspaceOptions& options);

SSM_END_COMPILED

namespace ssm {

/// A system that moesp has found in data.
template <std::floating_point T>
struct SubspaceModel {
  DiscreteStateSpace<T> system;                         ///< read before the step
  Eigen::Matrix<T, Eigen::Dynamic, 1> initial_state;    ///< (states), x_0
  Eigen::Matrix<T, Eigen::Dynamic, 1> singular_values;  ///< (horizon · outputs), whose fall shows
                                                        ///< the order
  Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>
      residual_covariance;  ///< (outputs, outputs), of y less the simulation of the model
};

/// A state-space model of what was measured, of any number of inputs and outputs: MOESP with past
/// inputs and outputs as instruments (Verhaegen 1994, "Identification of the deterministic part of
/// MIMO state space models given in innovations form from input-output data", PO-MOESP).
///
/// One triangular factor of the Hankel matrices of past and future data gives the range of the
/// extended observability matrix, whose shift gives A and C; B, D and the initial state follow from
/// least squares on the simulated output. Exact for data without noise; consistent with noise on
/// states and outputs that is independent of the input. The states are in coordinates of their own.
/// Data with a mean: subtract it first.
///
/// @param u (length, inputs), the inputs at the samples; inputs may be 0
/// @param y (length, outputs), the outputs at the samples
/// @param delta Δ, s
/// @param options the order and how far past and future reach, where they are known
/// @return the system, where it started, and how good it is; the order is where the singular values
///   fall most, unless it was given
/// @throws ShapeError when u and y differ in length, or there are too few samples
/// @throws DomainError when a value is not finite, Δ is not positive and finite, an option is
///   negative or does not fit another, u is not persistently exciting, or y holds no state at all
/// Cost: length · (2 horizon (inputs + outputs))²; in double for float as well. Powers of two in
/// the units of inputs and outputs change no digit.
template <class DU, class DY>
[[nodiscard]] SubspaceModel<typename DU::Scalar> moesp(
    const Eigen::MatrixBase<DU>& u, const Eigen::MatrixBase<DY>& y,
    std::type_identity_t<typename DU::Scalar> delta, const SubspaceOptions& options = {}) {
  using T = typename DU::Scalar;
  using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;
  using Vector = Eigen::Matrix<T, Eigen::Dynamic, 1>;
  detail::check_sampling("moesp", delta);
  const auto fit = detail::fit_subspace(detail::RealMatrix(u), detail::RealMatrix(y), options);
  return {DiscreteStateSpace<T>(detail::to_eigen<Matrix>(fit.A), detail::to_eigen<Matrix>(fit.B),
                                detail::to_eigen<Matrix>(fit.C), detail::to_eigen<Matrix>(fit.D),
                                delta),
          detail::to_eigen<Vector>(fit.initial_state), detail::to_eigen<Vector>(fit.sigma),
          detail::to_eigen<Matrix>(fit.residual_covariance)};
}

}  // namespace ssm

#if !SSM_DECLARE_ONLY
#include "ssm/estimate/detail/identify_subspace_impl.hpp"
#endif
