#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <cstddef>
#include <cstdio>
#include <string>
#include <vector>

#include "ssm/core/balance.hpp"
#include "ssm/core/detail/dense_algebra.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/phi.hpp"
#include "ssm/discretize/matrix_logarithm.hpp"

SSM_BEGIN_COMPILED

/// Six digits, in powers of ten where it is small or large.
SSM_INLINE std::string number_of(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

/// The principal square root of an upper triangular matrix: Björck & Hammarling (1983).
SSM_INLINE ComplexMatrix triangular_square_root(const ComplexMatrix& T) {
  const Index n = T.rows();
  ComplexMatrix R(n, n);
  for (Index j = 0; j < n; ++j) {
    R(j, j) = std::sqrt(T(j, j));
    for (Index i = j; i-- > 0;) {
      std::complex<double> rest = T(i, j);
      for (Index k = i + 1; k < j; ++k) rest -= product_of(R(i, k), R(k, j));
      R(i, j) = rest / (R(i, i) + R(j, j));
    }
  }
  return R;
}

/// log(I + X) of an upper triangular X, ‖X‖₁ ≤ 0.264: its [7/7] Padé approximant, in partial
/// fractions at the nodes x_j and weights w_j of Gauss and Legendre: Σ w_j X (I + x_j X)⁻¹ (Higham,
/// Functions of Matrices, eq. 11.18 and table 11.1).
SSM_INLINE ComplexMatrix logarithm_near_identity(const ComplexMatrix& X) {
  struct Node {
    double at, weight;  // on [−1, 1]
  };
  constexpr std::array<Node, 7> nodes{{{-0.94910791234275852453, 0.12948496616886969327},
                                       {-0.74153118559939443986, 0.27970539148927666790},
                                       {-0.40584515137739716691, 0.38183005050511894495},
                                       {0, 0.41795918367346938776},
                                       {0.40584515137739716691, 0.38183005050511894495},
                                       {0.74153118559939443986, 0.27970539148927666790},
                                       {0.94910791234275852453, 0.12948496616886969327}}};
  const Index n = X.rows();
  ComplexMatrix sum(n, n);
  for (const Node& node : nodes) {
    const double x = (node.at + 1) / 2;
    ComplexMatrix term = X;  // ← (I + x X)⁻¹ X
    for (Index j = 0; j < n; ++j)
      for (Index k = j + 1; k-- > 0;) {
        const std::complex<double> y = term(k, j) /= 1.0 + x * X(k, k), weight = x * y;
        for (Index i = 0; i < k; ++i) term(i, j) -= product_of(X(i, k), weight);
      }
    sum += node.weight / 2 * term;
  }
  return sum;
}

/// An order of rows and columns in which A is block upper triangular with blocks as small as they
/// can be, and where each block begins: the strongly connected parts of the graph of its elements
/// that are not 0 (Tarjan 1972).
struct BlockOrder {
  std::vector<Index> order, begins;  // begins has one entry more than there are blocks
};
SSM_INLINE BlockOrder triangular_blocks(const RealMatrix& A) {
  const Index n = A.rows();
  BlockOrder blocks{{}, {0}};
  std::vector<Index> seen(static_cast<std::size_t>(n), -1), low = seen, path, next(low.size(), 0);
  std::vector<Index> open;  // of the current depth-first walk, and of the blocks not yet complete
  std::vector<char> waits(low.size(), 0);
  Index count = 0;
  const auto at = [](auto& values, Index i) -> auto& {
    return values[static_cast<std::size_t>(i)];
  };
  for (Index root = 0; root < n; ++root) {
    if (at(seen, root) >= 0) continue;
    path.push_back(root);
    while (!path.empty()) {
      const Index i = path.back();
      if (at(seen, i) < 0) {
        at(seen, i) = at(low, i) = count++;
        open.push_back(i);
        at(waits, i) = 1;
      }
      Index& j = at(next, i);
      bool deeper = false;
      for (; j < n && !deeper; ++j) {  // column i feeds row j: a block after those that it feeds
        if (A(j, i) == 0 || j == i) continue;
        if (at(seen, j) < 0) {
          path.push_back(j);
          deeper = true;
        } else if (at(waits, j)) {
          at(low, i) = (std::min)(at(low, i), at(seen, j));
        }
      }
      if (deeper) continue;
      path.pop_back();
      if (!path.empty()) at(low, path.back()) = (std::min)(at(low, path.back()), at(low, i));
      if (at(low, i) != at(seen, i)) continue;
      for (Index k = -1; k != i;) {
        k = open.back();
        open.pop_back();
        at(waits, k) = 0;
        blocks.order.push_back(k);
      }
      blocks.begins.push_back(static_cast<Index>(blocks.order.size()));
    }
  }
  return blocks;
}

/// The largest 1-norm of a column of a diagonal block.
SSM_INLINE double block_norm(const RealMatrix& A, Index begin, Index end) {
  double norm = 0;
  for (Index j = begin; j < end; ++j) {
    double column = 0;
    for (Index i = begin; i < end; ++i) column += std::abs(A(i, j));
    norm = (std::max)(norm, column);
  }
  return norm;
}

SSM_INLINE RealMatrix principal_logarithm(std::string_view function, const RealMatrix& given,
                                          double epsilon) {
  const Index n = given.rows();
  const BlockOrder blocks = triangular_blocks(given);
  const auto place = [&](Index i) { return blocks.order[static_cast<std::size_t>(i)]; };
  RealMatrix A(n, n);
  for (Index j = 0; j < n; ++j)
    for (Index i = 0; i < n; ++i) A(i, j) = given(place(i), place(j));
  const RealVector scale = balance_in_own_units(A);
  const ComplexSchurForm schur = complex_schur(function, A);
  ComplexMatrix root = schur.T;

  ComplexVector logarithms(n);
  for (std::size_t block = 1; block < blocks.begins.size(); ++block) {
    const Index begin = blocks.begins[block - 1], end = blocks.begins[block];
    const double unit = static_cast<double>(end - begin) * block_norm(A, begin, end);
    const double noise = end - begin == 1 ? 0 : 64 * epsilon * unit;
    for (Index i = begin; i < end; ++i) {
      const std::complex<double> eigenvalue = root(i, i);
      if (std::abs(eigenvalue) <= noise)
        throw_domain(function, "an eigenvalue of A", number_of(std::abs(eigenvalue)),
                     "larger than " + number_of(noise) +
                         ", which is rounding: a mode that decays so far in a step is not known");
      if (eigenvalue.real() <= 0 && std::abs(eigenvalue.imag()) <= 4 * epsilon_of<double> * unit)
        throw_domain(function, "an eigenvalue of A", number_of(eigenvalue.real()),
                     "off the closed negative real axis");
      logarithms(i) = std::log(eigenvalue);
    }
  }

  // The diagonal of root − I comes from the logarithms, as subtracting 1 would cancel.
  ComplexMatrix X;
  double doubling = 1, size = 0;
  const auto subtract_identity = [&] {
    X = root;
    size = 0;
    for (Index j = 0; j < n; ++j) {
      const std::complex<double> z = logarithms(j) / doubling;
      X(j, j) = z * phi1(z);
      double column = 0;
      for (Index i = 0; i <= j; ++i) column += std::abs(X(i, j));
      size = (std::max)(size, column);
    }
  };
  subtract_identity();
  while (size > 0.25 && doubling < 0x1p200) {
    root = triangular_square_root(root);
    doubling *= 2;
    subtract_identity();
  }
  ComplexMatrix logarithm = doubling * logarithm_near_identity(X), U_adjoint = schur.U.transpose();
  for (Index i = 0; i < n; ++i) logarithm(i, i) = logarithms(i);
  for (Index i = 0; i < n * n; ++i) U_adjoint.data()[i] = std::conj(U_adjoint.data()[i]);
  const ComplexMatrix result = schur.U * logarithm * U_adjoint;
  RealMatrix real(n, n);
  for (Index j = 0; j < n; ++j)
    for (Index i = 0; i < n; ++i)
      real(place(i), place(j)) = rescaled(result(i, j).real(), scale(i), scale(j));
  return real;
}

SSM_END_COMPILED
