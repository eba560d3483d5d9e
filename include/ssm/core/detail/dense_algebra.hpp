#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/dense.hpp"

SSM_BEGIN_COMPILED

/// Part of a column-major matrix of somebody else.
struct Tile {
  double* data;
  Index rows, cols, stride;
};
struct ConstTile {
  const double* data;
  Index rows, cols, stride;
};

/// C ← C + factor A B. C overlaps neither A nor B.
void add_product(const Tile& C, double factor, const ConstTile& A, const ConstTile& B);

/// C ← factor A B or, with `add`, C + factor A B, with B(k, j) at B[k B_down + j B_across].
void multiply_tiles(const Tile& C, bool add, double factor, const ConstTile& A, const double* B,
                    Index B_down, Index B_across);

[[nodiscard]] RealMatrix operator*(const RealMatrix& A, const RealMatrix& B);
[[nodiscard]] ComplexMatrix operator*(const ComplexMatrix& A, const ComplexMatrix& B);

/// P A = L U by partial pivoting, in blocks: A (n, n), column-major, becomes U and, below its
/// diagonal, L; row k was exchanged with row pivots[k].
void factor_lu(double* A, Index n, Index* pivots);
/// B ← A⁻¹ B for B (n, cols); not finite for a singular A.
void solve_lu(const double* lu, Index n, const Index* pivots, double* B, Index cols);

/// factor_lu of a matrix of its own.
class DenseLu {
 public:
  explicit DenseLu(RealMatrix A)
      : lu_(std::move(A)), pivots_(static_cast<std::size_t>(lu_.rows())) {
    factor_lu(lu_.data(), lu_.rows(), pivots_.data());
  }
  /// A⁻¹ B; not finite for a singular A.
  [[nodiscard]] RealMatrix solve(RealMatrix B) const {
    solve_lu(lu_.data(), lu_.rows(), pivots_.data(), B.data(), B.cols());
    return B;
  }

 private:
  RealMatrix lu_;
  std::vector<Index> pivots_;
};

/// A = L Lᵀ of a symmetric A.
class DenseCholesky {
 public:
  explicit DenseCholesky(RealMatrix A) : L_(std::move(A)) { factor(); }
  /// False when A is not positive definite.
  [[nodiscard]] bool definite() const noexcept { return definite_; }
  [[nodiscard]] const RealMatrix& L() const noexcept { return L_; }
  /// A⁻¹ B.
  [[nodiscard]] RealMatrix solve(RealMatrix B) const;

 private:
  void factor();

  RealMatrix L_;
  bool definite_ = true;
};

/// L⁻¹ B for a lower triangular L.
[[nodiscard]] RealMatrix solve_lower(const RealMatrix& L, RealMatrix B);

/// Makes A upper triangular by Householder reflections from the left, and B ← Qᵀ B with them.
void triangularize(RealMatrix& A, RealMatrix& B);

/// The X for which ‖A X − B‖ is least, for an A of full column rank.
[[nodiscard]] RealMatrix least_squares(RealMatrix A, RealMatrix B);

/// Replaces A by its Hessenberg form H, A = Q H Qᵀ, and gives Q, without elements unless wanted.
RealMatrix to_hessenberg(RealMatrix& A, bool want_Q);

/// Multiplies a matrix or vector by a power of two; exact but where it overflows or underflows.
template <class Matrix>
void multiply_by_power_of_two(Matrix& matrix, int exponent) {
  for (Index i = 0; i < matrix.size(); ++i) {
    auto& x = matrix.data()[i];
    if constexpr (std::is_same_v<std::remove_reference_t<decltype(x)>, double>)
      x = std::ldexp(x, exponent);  // the power itself may overflow
    else
      x = {std::ldexp(x.real(), exponent), std::ldexp(x.imag(), exponent)};
  }
}

/// Brings the largest element to [1, 2) by a power of two, of which it returns the exponent.
template <class Matrix>
int take_out_exponent(Matrix& matrix) {
  double largest = 0;
  for (Index i = 0; i < matrix.size(); ++i)
    largest = (std::max)(largest, std::abs(matrix.data()[i]));
  if (!(largest > 0 && std::isfinite(largest))) return 0;
  const int exponent = std::ilogb(largest);
  multiply_by_power_of_two(matrix, -exponent);
  return exponent;
}

/// A = U T U*, U unitary and T upper triangular: Hessenberg form by reflections, then shifted QR
/// steps by rotations (Golub & Van Loan, Matrix Computations, section 7.5).
/// @throws ConvergenceError
struct ComplexSchurForm {
  ComplexMatrix T, U;
};
[[nodiscard]] ComplexSchurForm complex_schur(std::string_view function, const RealMatrix& A);

/// A V = W, V orthogonal and the columns of W too, of lengths sigma, the longest first: one-sided
/// Jacobi rotations (Hestenes 1958), which keep small singular values' digits.
struct SingularValues {
  RealMatrix W, V;
  RealVector sigma;
};
[[nodiscard]] SingularValues singular_values(const RealMatrix& A);

/// The reflection I − factor v vᵀ, v(0) = 1, that brings x (size) to (beta, 0, …); x becomes (beta,
/// the rest of v), and the result is the factor.
[[nodiscard]] double make_reflection(double* x, Index size);

/// The eigenvalues of a real matrix, complex ones as neighbours of their exact conjugates: Francis'
/// double QR steps on its Hessenberg form (Martin, Peters & Wilkinson 1970, algorithm hqr).
/// @throws ConvergenceError
[[nodiscard]] ComplexVector real_eigenvalues(std::string_view function, RealMatrix A);
/// The same into `values`, as many as A has rows; false where the iteration does not end.
[[nodiscard]] bool find_real_eigenvalues(RealMatrix A, ComplexVector& values);

/// The finite λ at which A − λ B of two square matrices is singular, complex ones as neighbours of
/// their exact conjugates: QZ steps (Moler & Stewart 1973). Those beyond 1/ε of the sizes of A and
/// B are infinite. False where the iteration does not end.
[[nodiscard]] bool find_pencil_eigenvalues(RealMatrix A, RealMatrix B,
                                           std::vector<std::complex<double>>& finite);

SSM_END_COMPILED

#if !SSM_DECLARE_ONLY
#include "ssm/core/detail/dense_eigen_impl.hpp"
#include "ssm/core/detail/dense_pencil_impl.hpp"
#include "ssm/core/detail/dense_solve_impl.hpp"
#endif
