#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ssm/core/error.hpp"
#include "ssm/system/detail/lyapunov_impl.hpp"
#include "ssm/system/detail/staircase.hpp"

SSM_BEGIN_COMPILED

SSM_INLINE Uncertain::Uncertain(RealMatrix matrix, double relative)
    : value(std::move(matrix)), variance(value.rows(), value.cols()) {
  RealVector row(rows()), column(cols());
  double total = 0;
  for (Index j = 0; j < cols(); ++j)
    for (Index i = 0; i < rows(); ++i) {
      const double square = value(i, j) * value(i, j);
      row(i) += square;
      column(j) += square;
      total += square;
    }
  if (!(total > 0)) return;
  const double factor = relative * relative;
  for (Index j = 0; j < cols(); ++j)
    for (Index i = 0; i < rows(); ++i)
      variance(i, j) = factor * (value(i, j) * value(i, j) + row(i) * (column(j) / total));
}

SSM_INLINE Uncertain Uncertain::block(Index i, Index j, Index rows, Index cols) const {
  return {value.block(i, j, rows, cols), variance.block(i, j, rows, cols)};
}

SSM_INLINE Uncertain Uncertain::transpose() const {
  return {value.transpose(), variance.transpose()};
}

SSM_INLINE void Uncertain::set_block(Index i, Index j, const Uncertain& block) {
  value.set_block(i, j, block.value);
  variance.set_block(i, j, block.variance);
}

SSM_INLINE RealMatrix squares_of(RealMatrix M) {
  for (Index i = 0; i < M.size(); ++i) M.data()[i] *= M.data()[i];
  return M;
}

SSM_INLINE Uncertain turn_rows(const RealMatrix& V, const Uncertain& M) {
  const RealMatrix weights = squares_of(V.transpose());
  RealMatrix variance = M.variance + (epsilon_of<double> * epsilon_of<double>)*squares_of(M.value);
  return {V.transpose() * M.value, weights * variance};
}

SSM_INLINE Uncertain turn_columns(const Uncertain& M, const RealMatrix& V) {
  const RealMatrix weights = squares_of(V);
  RealMatrix variance = M.variance + (epsilon_of<double> * epsilon_of<double>)*squares_of(M.value);
  return {M.value * V, variance * weights};
}

inline constexpr double rank_doubt = 30;  // errors are this much smaller than what is not one

SSM_INLINE ColumnSpace row_space(const Uncertain& M) {
  RealVector unit(M.rows());  // of each row: its error
  for (Index i = 0; i < M.rows(); ++i) {
    double sum = 0;
    for (Index j = 0; j < M.cols(); ++j) sum += M.variance(i, j);
    unit(i) = sum > 0 ? 1 / std::sqrt(sum) : 0;
  }
  SingularValues svd = singular_values(scale_rows(unit, M.value));
  const double error = rank_doubt * std::sqrt(static_cast<double>(M.rows()));
  Index rank = 0;
  while (rank < (std::min)(M.rows(), M.cols()) && svd.sigma(rank) > error) ++rank;
  return {std::move(svd.V), rank};
}

SSM_INLINE double error_of_data(std::string_view function, double tolerance) {
  if (!(tolerance >= 0 && tolerance < 1))
    throw_domain(function, "tolerance", detail::number(tolerance), "at least 0 and below 1");
  return (std::max)(tolerance, epsilon_of<double>);
}

/// Left eigenvectors as rows and right ones as columns, y_i* x_i = 1.
struct Eigenvectors {
  ComplexMatrix left, right;
};
/// Of an upper triangular T without equal eigenvalues.
SSM_INLINE Eigenvectors eigenvectors_of(const ComplexMatrix& T) {
  using Complex = std::complex<double>;
  const Index n = T.rows();
  Eigenvectors e{ComplexMatrix(n, n), ComplexMatrix(n, n)};
  for (Index k = 0; k < n; ++k) {
    e.left(k, k) = e.right(k, k) = 1;
    for (Index i = k; i-- > 0;) {
      Complex sum = 0;
      for (Index j = i + 1; j <= k; ++j) sum += product_of(T(i, j), e.right(j, k));
      e.right(i, k) = sum / (T(k, k) - T(i, i));
    }
    for (Index j = k + 1; j < n; ++j) {
      Complex sum = 0;
      for (Index i = k; i < j; ++i) sum += product_of(e.left(k, i), T(i, j));
      e.left(k, j) = sum / (T(k, k) - T(j, j));
    }
  }
  return e;
}

SSM_INLINE RealMatrix moduli_of(const ComplexMatrix& M) {
  RealMatrix result(M.rows(), M.cols());
  for (Index i = 0; i < M.size(); ++i) result.data()[i] = std::abs(M.data()[i]);
  return result;
}

/// True when every mode is reached by more than the errors of A and B, to first order, could undo.
SSM_INLINE bool reaches_each_mode(const Uncertain& A, const Uncertain& B) {
  const Index n = A.rows();
  const SchurForm schur("the eigenvalues of A", A.value);
  const ComplexMatrix& T = schur.T();
  for (Index i = 0; i < n; ++i)
    for (Index k = 0; k < i; ++k)
      if (T(i, i) == T(k, k)) return false;
  const RealVector inverse = inverse_of(schur.scale());
  const Eigenvectors e = eigenvectors_of(T);
  const ComplexMatrix left = e.left * adjoint(schur.U()), right = schur.U() * e.right;
  const RealMatrix rebuilt = real_part(schur.U() * T * adjoint(schur.U()));
  RealMatrix error(n, n), input_error = B.variance;
  for (Index j = 0; j < n; ++j)
    for (Index i = 0; i < n; ++i)
      error(i, j) = std::abs(rebuilt(i, j) - schur.balanced()(i, j)) +
                    std::sqrt(A.variance(i, j)) * inverse(i) * schur.scale()(j);
  for (Index i = 0; i < input_error.size(); ++i)
    input_error.data()[i] = std::sqrt(input_error.data()[i]);
  const RealMatrix weight = moduli_of(left), links = weight * error * moduli_of(right);
  const RealMatrix reach = moduli_of(left * to_complex(scale_rows(inverse, B.value)));
  const RealMatrix direct = weight * scale_rows(inverse, input_error);
  for (Index i = 0; i < n; ++i) {
    bool reached = false;
    for (Index k = 0; k < n; ++k) {
      const double gap = std::abs(T(i, i) - T(k, k)) / rank_doubt;
      if (k != i && !(gap > (std::max)(links(i, i) + links(k, k),
                                       std::sqrt(links(i, k)) * std::sqrt(links(k, i)))))
        return false;
    }
    for (Index j = 0; j < B.cols() && !reached; ++j) {
      double moved = direct(i, j);
      for (Index k = 0; k < n; ++k)
        if (k != i) moved += links(i, k) * reach(k, j) / std::abs(T(i, i) - T(k, k));
      reached = reach(i, j) > rank_doubt * moved;
    }
    if (!reached) return false;
  }
  return true;
}

/// Real and imaginary part, as rows, of a left eigenvector that no input moves, for some
/// A and B within their errors; nothing when there is none near λ.
SSM_INLINE std::optional<RealMatrix> unreached_mode(const Uncertain& A, const Uncertain& B,
                                                    std::complex<double> lambda) {
  const Index n = A.rows(), m = B.cols(), width = n + m;
  RealVector column(width), row(n);
  const auto variance = [&](Index i, Index j) {
    return j < n ? A.variance(i, j) : B.variance(i, j - n);
  };
  for (Index j = 0; j < width; ++j) {
    for (Index i = 0; i < n; ++i) column(j) += variance(i, j);
    column(j) = column(j) > 0 ? 1 / std::sqrt(column(j)) : 0;
  }
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j < width; ++j) row(i) += variance(i, j) * column(j) * column(j);
    row(i) = row(i) > 0 ? 1 / std::sqrt(row(i)) : 1;
  }
  const bool real = lambda.imag() == 0;
  RealVector y(n), z(n);
  for (int turn = 0; turn < 3; ++turn) {
    const Index wide = real ? n : 2 * n;
    RealMatrix pencil((real ? 1 : 2) * width, wide);  // transposed; [Re, −Im; Im, Re]
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < width; ++j) {
        const double unit = row(i) * column(j);
        const double part =
            j < n ? A.value(i, j) - (i == j ? lambda.real() : 0) : B.value(i, j - n);
        pencil(j, i) = part * unit;
        if (real) continue;
        pencil(width + j, n + i) = part * unit;
        if (i == j) {
          pencil(j, n + i) = lambda.imag() * unit;
          pencil(width + j, i) = -lambda.imag() * unit;
        }
      }
    const RealMatrix V = singular_values(pencil).V;
    std::complex<double> moved = 0;
    double total = 0;
    for (Index i = 0; i < n; ++i) {
      y(i) = row(i) * V(i, wide - 1);
      z(i) = real ? 0 : row(i) * V(n + i, wide - 1);
    }
    for (Index j = 0; j < n; ++j) {  // y* A y / y* y in the units of the rows
      std::complex<double> sum = 0;
      for (Index i = 0; i < n; ++i) sum += std::complex<double>(y(i), z(i)) * A.value(i, j);
      const double unit = 1 / (row(j) * row(j));
      moved += sum * std::complex<double>(y(j), -z(j)) * unit;
      total += (y(j) * y(j) + z(j) * z(j)) * unit;
    }
    bool cut = true;
    for (Index j = 0; j < width && cut; ++j) {
      std::complex<double> left = 0;
      double error = 0;
      for (Index i = 0; i < n; ++i) {
        const std::complex<double> weight(y(i), z(i));
        left += weight * (j < n ? A.value(i, j) : B.value(i, j - n));
        if (i == j) left -= weight * lambda;
        error += std::norm(weight) * variance(i, j);
      }
      cut = std::abs(left) <= rank_doubt * std::sqrt(error);
    }
    if (cut) {
      RealMatrix parts(real ? 1 : 2, n);
      for (Index i = 0; i < n; ++i) {
        parts(0, i) = y(i);
        if (!real) parts(1, i) = z(i);
      }
      return parts;
    }
    lambda = real ? moved.real() / total : moved / total;
  }
  return std::nullopt;
}

/// Turns the reached states so that the last of them are those along the rows of `left`, and counts
/// these no longer.
SSM_INLINE void cut_off(Staircase& form, const RealMatrix& left) {
  const Index n = form.A.rows(), at = form.reached;
  const RealMatrix first = singular_values(left).V;
  const Index width = left.rows(), rest = at - width;
  RealMatrix V(at, at);
  V.set_block(0, 0, first.block(0, width, at, rest));
  V.set_block(0, rest, first.block(0, 0, at, width));
  form.A.set_block(0, 0, turn_rows(V, form.A.block(0, 0, at, n)));
  form.A.set_block(0, 0, turn_columns(form.A.block(0, 0, n, at), V));
  form.B.set_block(0, 0, turn_rows(V, form.B.block(0, 0, at, form.B.cols())));
  form.Q.set_block(0, 0, form.Q.block(0, 0, n, at) * V);
  form.A.value.set_block(rest, 0, RealMatrix(width, rest));
  form.B.value.set_block(rest, 0, RealMatrix(width, form.B.cols()));
  form.reached = rest;
}

/// Cuts off one mode of what was reached that errors alone may have reached.
SSM_INLINE bool cut_off_a_mode(Staircase& form) {
  constexpr double hardly_any =
      0.05;  // how much of what it could be a mode's reach is, to be in doubt
  constexpr double real_below = 1e-8;
  const Index at = form.reached, m = form.B.cols();
  if (at == 0) return false;
  const Uncertain A = form.A.block(0, 0, at, at), B = form.B.block(0, 0, at, m);
  const SchurForm schur("the eigenvalues of A", A.value);
  ComplexMatrix T = schur.T();
  double size = T.norm();
  for (Index i = 0; i < at; ++i)  // equal eigenvalues have some eigenvectors too
    for (Index k = 0; k < i; ++k)
      if (T(i, i) == T(k, k)) T(i, i) += epsilon_of<double> * static_cast<double>(i + 1) * size;
  const ComplexMatrix left = eigenvectors_of(T).left * adjoint(schur.U());
  const RealMatrix inputs = scale_rows(inverse_of(schur.scale()), B.value);
  const RealMatrix reach = moduli_of(left * to_complex(inputs));
  std::vector<std::pair<double, Index>> doubtful;
  for (Index i = 0; i < at; ++i) {
    if (schur.T()(i, i).imag() < -real_below * std::abs(schur.T()(i, i))) continue;
    double most = 0;
    for (Index j = 0; j < m; ++j) {
      const double could = left.block(i, 0, 1, at).norm() * inputs.block(0, j, at, 1).norm();
      if (could > 0) most = (std::max)(most, reach(i, j) / could);
    }
    if (!(most > hardly_any)) doubtful.emplace_back(most, i);
  }
  std::sort(doubtful.begin(), doubtful.end());
  for (const auto& [ratio, i] : doubtful) {
    std::complex<double> lambda = schur.T()(i, i);
    if (std::abs(lambda.imag()) <= real_below * std::abs(lambda)) lambda = lambda.real();
    if (const auto rows = unreached_mode(A, B, lambda)) {
      cut_off(form, *rows);
      return true;
    }
  }
  return false;
}

/// The staircase of the states that count as reached: what B reaches, then what that reaches in one
/// step, until nothing new is.
SSM_INLINE void climb(Staircase& form) {
  const Index n = form.A.rows(), m = form.B.cols(), most = form.reached;
  Index from = 0, width = 0;  // of the states reached last
  form.reached = 0;
  while (form.reached < most) {
    const Index at = form.reached, left = most - at;
    Uncertain& stage = at == 0 ? form.B : form.A;
    const Index beside = at == 0 ? m : at;
    const auto [V, rank] = row_space(
        (at == 0 ? stage.block(0, 0, left, m) : stage.block(at, from, left, width)).transpose());
    if (rank > 0) {
      form.A.set_block(at, 0, turn_rows(V, form.A.block(at, 0, left, n)));
      form.A.set_block(0, at, turn_columns(form.A.block(0, at, n, left), V));
      if (at == 0) form.B.set_block(0, 0, turn_rows(V, form.B.block(0, 0, left, m)));
      form.Q.set_block(0, at, form.Q.block(0, at, n, left) * V);
    }
    // errors, known no better than before
    stage.value.set_block(at + rank, 0, RealMatrix(left - rank, beside));
    if (rank == 0) break;
    from = at;
    width = rank;
    form.reached += rank;
  }
}

SSM_INLINE Staircase staircase(Uncertain A, Uncertain B) {
  const Index n = A.rows();
  Staircase form{n, RealMatrix::Identity(n, n), std::move(A), std::move(B)};
  if (n == 0 || (!form.B.value.is_zero() && reaches_each_mode(form.A, form.B))) return form;
  if (!form.B.value.is_zero())
    while (cut_off_a_mode(form)) {
    }
  climb(form);
  while (cut_off_a_mode(form)) {
  }
  return form;
}

SSM_END_COMPILED
