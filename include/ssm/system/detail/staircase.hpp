#pragma once

#include <string_view>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/dense_algebra.hpp"
#include "ssm/system/detail/units.hpp"

SSM_BEGIN_COMPILED

/// A matrix of numbers that are known only so well: `variance` is the square of the error that each
/// may have, which rotations carry along. A rank is decided against the errors of the very block in
/// question, not against the largest element of the data.
struct Uncertain {
  RealMatrix value, variance;

  Uncertain() = default;
  /// Each element known to `relative` of itself and of what its row and its column, both, are large
  /// by: r_i c_j / ‖M‖, r and c being the norms of rows and columns.
  Uncertain(RealMatrix matrix, double relative);
  Uncertain(RealMatrix v, RealMatrix e) : value(std::move(v)), variance(std::move(e)) {}

  [[nodiscard]] Index rows() const noexcept { return value.rows(); }
  [[nodiscard]] Index cols() const noexcept { return value.cols(); }
  [[nodiscard]] Uncertain block(Index i, Index j, Index rows, Index cols) const;
  [[nodiscard]] Uncertain transpose() const;
  void set_block(Index i, Index j, const Uncertain& block);
};

/// Vᵀ M and M V of an orthogonal V.
[[nodiscard]] Uncertain turn_rows(const RealMatrix& V, const Uncertain& M);
[[nodiscard]] Uncertain turn_columns(const Uncertain& M, const RealMatrix& V);

/// The orthogonal V that brings M V to [columns that are not 0, columns of errors only], and how
/// many the former are.
struct ColumnSpace {
  RealMatrix V;
  Index rank;
};
[[nodiscard]] ColumnSpace row_space(const Uncertain& M);

/// The relative error that data are taken to have where a caller does not say: rounding.
[[nodiscard]] double error_of_data(std::string_view function, double tolerance);

/// Orthogonal coordinates in which the first `reached` states are those that inputs reach: Qᵀ A Q
/// is block upper triangular and Qᵀ B ends in zeros, which are set.
struct Staircase {
  Index reached = 0;
  RealMatrix Q;
  Uncertain A, B;  ///< Qᵀ A Q, Qᵀ B
};

/// Splits off what B reaches of matrices in units of their own.
///
/// First the modes are asked: where the left eigenvectors y, with the errors that A's give them,
/// all say y* B ≠ 0, everything is reached, however stiff A is. Else the staircase (Van Dooren
/// 1981) splits off what B reaches, then what that reaches in one step, until nothing new is; and
/// since many small steps may reach into what no input moves, each mode of what was reached must
/// then prove, by the test of Popov, Belevitch and Hautus, that no error of A and B that their own
/// sizes allow would cut it off.
[[nodiscard]] Staircase staircase(Uncertain A, Uncertain B);

SSM_END_COMPILED

#if !SSM_DECLARE_ONLY
#include "ssm/system/detail/staircase_impl.hpp"
#endif
