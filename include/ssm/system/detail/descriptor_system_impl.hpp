#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ssm/core/error.hpp"
#include "ssm/system/descriptor_system.hpp"
#include "ssm/system/detail/invertible.hpp"
#include "ssm/system/detail/staircase.hpp"
#include "ssm/system/frequency_response.hpp"
#include "ssm/system/poles_zeros.hpp"

SSM_BEGIN_COMPILED

SSM_INLINE DescriptorParts descriptor_parts(std::string_view function, RealMatrix E,
                                            Quadruple system, double tolerance) {
  const double error = error_of_data(function, tolerance);
  if (!E.all_finite() || !system.all_finite())
    throw_domain(function, "the system", "not finite", "finite");
  const Index n = E.rows(), m = system.B.cols(), p = system.C.rows();
  // Equations and states of E in units that even it out, which no unit of theirs changes.
  Quadruple only{RealMatrix(0, 0), RealMatrix(0, n), RealMatrix(n, 0), std::move(E)};
  const Units units = to_own_units(only);
  const RealVector equations = inverse_of(units.outputs);
  system.A = scale_columns(scale_rows(equations, system.A), units.inputs);
  system.B = scale_rows(equations, system.B);
  system.C = scale_columns(system.C, units.inputs);
  const Uncertain whole(std::move(only.D), error);
  const auto [right, rank] = row_space(whole);  // E right = [M 0]
  const Uncertain M = turn_columns(whole, right).block(0, 0, n, rank);
  const RealMatrix left = row_space(M.transpose()).V;  // leftᵀ M = [E11; 0]
  const RealMatrix E11 = (left.transpose() * M.value).block(0, 0, rank, rank);
  const Index rest = n - rank;

  const RealMatrix A = left.transpose() * system.A * right;
  const RealMatrix B = left.transpose() * system.B, C = system.C * right;
  RealMatrix drive(rank, rest + m);
  drive.set_block(0, 0, A.block(0, rank, rank, rest));
  drive.set_block(0, rest, B.block(0, 0, rank, m));
  DescriptorParts parts;
  parts.algebraic = rest;
  const DenseLu lu(E11);
  parts.system.A = lu.solve(A.block(0, 0, rank, rank));
  parts.system.B = lu.solve(std::move(drive));
  parts.system.C = RealMatrix(rest + p, rank);
  parts.system.C.set_block(0, 0, A.block(rank, 0, rest, rank));
  parts.system.C.set_block(rest, 0, C.block(0, 0, p, rank));
  parts.system.D = RealMatrix(rest + p, rest + m);
  parts.system.D.set_block(0, 0, A.block(rank, rank, rest, rest));
  parts.system.D.set_block(0, rest, B.block(rank, 0, rest, m));
  parts.system.D.set_block(rest, 0, C.block(0, rank, p, rest));
  parts.system.D.set_block(rest, rest, system.D);
  if (rest > 0 && normal_rank(constraints_of(parts), error) < rest)
    throw_domain(function, "the pencil lambda E - A", "singular",
                 "one that some lambda makes invertible, as else no state follows from the inputs");
  return parts;
}

SSM_INLINE Quadruple constraints_of(const DescriptorParts& parts) {
  const auto& [A, B, C, D] = parts.system;
  const Index k = parts.algebraic, n = A.rows();
  return {A, B.block(0, 0, n, k), C.block(0, 0, k, n), D.block(0, 0, k, k)};
}

/// x' = A x + B v + in (u, u', u'', …), 0 = C x + D v + …, y = … of parts whose constraints are
/// differentiated as long as they do not determine v.
struct DifferentiatedParts {
  RealMatrix A, B, in;                ///< x'
  RealMatrix bound, inner, bound_in;  ///< the constraints
  RealMatrix C, D, out;               ///< y

  DifferentiatedParts(const DescriptorParts& parts) {
    const auto& [a, b, c, d] = parts.system;
    const Index k = parts.algebraic, n = a.rows(), m = b.cols() - k, p = c.rows() - k;
    A = a;
    B = b.block(0, 0, n, k);
    in = b.block(0, k, n, m);
    bound = c.block(0, 0, k, n);
    inner = d.block(0, 0, k, k);
    bound_in = d.block(0, k, k, m);
    C = c.block(k, 0, p, n);
    D = d.block(k, 0, p, k);
    out = d.block(k, k, p, m);
  }

  /// The largest row of the constraints, to which errors of all of them are relative: they were
  /// turned into each other.
  [[nodiscard]] double size_of_constraints() const {
    double largest = 0;
    for (Index i = 0; i < inner.rows(); ++i)
      largest = (std::max)({largest, inner.block(i, 0, 1, inner.cols()).norm(),
                            bound_in.block(i, 0, 1, bound_in.cols()).norm(),
                            bound.block(i, 0, 1, bound.cols()).norm()});
    return largest;
  }

  /// Replaces the constraints in which no v stands, 0 = c x + e (u, …), by their derivatives, and
  /// takes the states that they bind out: x = V (x_r, x_a), c V = (0, c_a).
  /// @return false where they bind nothing
  [[nodiscard]] bool differentiate(Index m) {
    const Index k = inner.rows(), n = A.rows();
    Uncertain uncertain{inner, RealMatrix(k, k)};
    const double error = epsilon_of<double> * size_of_constraints();
    for (Index i = 0; i < k * k; ++i) uncertain.variance.data()[i] = error * error;
    const auto [turn, rank] = row_space(uncertain.transpose());
    const Index free = k - rank;  // constraints without v: the last after the turn
    if (free == 0 || free > n) return false;
    const RealMatrix turned = turn.transpose();
    bound = turned * bound;
    inner = turned * inner;
    bound_in = turned * bound_in;
    const RealMatrix c = bound.block(rank, 0, free, n);
    const SingularValues svd = singular_values(c);  // c V = W
    const double least = svd.sigma(free - 1);
    if (!(least > 1e3 * error)) return false;
    RealMatrix V(n, n);  // what is bound last
    V.set_block(0, 0, svd.V.block(0, free, n, n - free));
    V.set_block(0, n - free, svd.V.block(0, 0, n, free));
    const Index rest = n - free, width = in.cols();
    // x_a = bind (u, …)
    RealMatrix bind =
        DenseLu(svd.W.block(0, 0, free, free)).solve(-bound_in.block(rank, 0, free, width));
    A = V.transpose() * A * V;
    B = V.transpose() * B;
    in = V.transpose() * in;
    bound = bound * V;
    C = C * V;
    const auto take_out = [&](RealMatrix& from, RealMatrix& inputs) {
      const Index rows = from.rows();
      inputs += from.block(0, rest, rows, free) * bind;
      from = from.block(0, 0, rows, rest);
    };
    take_out(A, in);
    take_out(C, out);
    take_out(bound, bound_in);
    // 0 = x_a' − bind (u', …), with another derivative of u
    for (RealMatrix* wider : {&in, &bound_in, &out}) {
      RealMatrix more(wider->rows(), width + m);
      more.set_block(0, 0, *wider);
      *wider = std::move(more);
    }
    RealMatrix derivative(free, width + m);
    derivative.set_block(0, m, -bind);
    bound.set_block(rank, 0, A.block(rest, 0, free, rest));
    inner.set_block(rank, 0, B.block(rest, 0, free, k));
    bound_in.set_block(rank, 0, in.block(rest, 0, free, width + m) + derivative);
    A = A.block(0, 0, rest, rest);
    B = B.block(0, 0, rest, k);
    in = in.block(0, 0, rest, width + m);
    return true;
  }
};

SSM_INLINE Quadruple without_algebraic(std::string_view function, const DescriptorParts& parts) {
  DifferentiatedParts q(parts);
  const Index k = parts.algebraic, m = q.in.cols(), p = q.C.rows();
  std::optional<RealMatrix> v;  // of x and (u, …)
  for (;;) {
    const Index n = q.A.rows(), width = q.in.cols();
    RealMatrix right(k, n + width);
    right.set_block(0, 0, q.bound);
    right.set_block(0, n, q.bound_in);
    RealMatrix sizes = moduli_of(q.inner);
    for (Index i = 0; i < sizes.size(); ++i) sizes.data()[i] += q.size_of_constraints();
    v = solve_invertible(q.inner, std::move(right), std::move(sizes));
    if (v) break;
    if (!q.differentiate(m))
      throw_domain(function, "the constraints", "too nearly singular",
                   "constraints that, differentiated, determine the states without a derivative");
  }
  const Index n = q.A.rows(), width = q.in.cols();
  const RealMatrix v_x = v->block(0, 0, k, n), v_u = v->block(0, n, k, width);
  const RealMatrix A = q.A - q.B * v_x, C = q.C - q.D * v_x;
  RealMatrix in = q.in - q.B * v_u, out = q.out - q.D * v_u;
  RealMatrix size = moduli_of(q.out) + moduli_of(q.D) * moduli_of(v_u);
  // x = z + b u^(k−1) takes what b brings into x' at u^(k) into z' at u^(k−1) and into y.
  for (Index at = width - m; at > 0; at -= m) {
    const RealMatrix b = in.block(0, at, n, m), through = C * b;
    in.set_block(0, at - m, in.block(0, at - m, n, m) + A * b);
    out.set_block(0, at - m, out.block(0, at - m, p, m) + through);
    size.set_block(0, at - m, size.block(0, at - m, p, m) + moduli_of(C) * moduli_of(b));
  }
  constexpr double rounding = 1e4 * epsilon_of<double>;
  for (Index j = m; j < width; ++j)
    for (Index i = 0; i < p; ++i)
      if (!(std::abs(out(i, j)) <= rounding * size(i, j)))
        throw_domain(function, "the transfer function",
                     "improper: output " + std::to_string(i) + " holds the derivative of input " +
                         std::to_string(j % m),
                     "a proper one, which a StateSpace can have");
  return {A, in.block(0, 0, n, m), C, out.block(0, 0, p, m)};
}

SSM_INLINE std::vector<ComplexMatrix> descriptor_responses(
    const DescriptorParts& parts, const std::vector<std::complex<double>>& points) {
  const Quadruple hessenberg = hessenberg_response(parts.system);
  std::vector<ComplexMatrix> responses;
  for (const std::complex<double>& point : points) {
    const ComplexMatrix G = response_at(hessenberg, point);
    const Index k = parts.algebraic, p = G.rows() - k, m = G.cols() - k;
    // (0, y) = G (x2, u), solved for y: in real and imaginary parts
    RealMatrix inner(2 * k, 2 * k), right(2 * k, m);
    ComplexMatrix result(p, m);
    for (Index j = 0; j < k; ++j)
      for (Index i = 0; i < k; ++i) {
        inner(i, j) = inner(k + i, k + j) = G(i, j).real();
        inner(k + i, j) = G(i, j).imag();
        inner(i, k + j) = -G(i, j).imag();
      }
    for (Index j = 0; j < m; ++j)
      for (Index i = 0; i < k; ++i) {
        right(i, j) = G(i, k + j).real();
        right(k + i, j) = G(i, k + j).imag();
      }
    const RealMatrix x2 = DenseLu(std::move(inner)).solve(std::move(right));
    for (Index j = 0; j < m; ++j)
      for (Index i = 0; i < p; ++i) {
        result(i, j) = G(k + i, k + j);
        for (Index l = 0; l < k; ++l)
          result(i, j) -= G(k + i, l) * std::complex<double>(x2(l, j), x2(k + l, j));
      }
    responses.push_back(std::move(result));
  }
  return responses;
}

SSM_INLINE DescriptorRoots descriptor_roots(std::string_view function,
                                            const DescriptorParts& parts) {
  DescriptorRoots roots{zeros_of(function, parts.system), zeros_of(function, constraints_of(parts)),
                        0};
  // The gain follows from G at a real point amid the roots, and near none; those at 0 may be there
  // but for rounding.
  constexpr double nothing = 1e-13;
  double logs = 0, largest = 0;
  Index count = 0;
  const auto each = [&](const auto& act) {
    for (const auto& root : roots.zeros) act(root);
    for (const auto& root : roots.poles) act(root);
  };
  each([&](const std::complex<double>& root) { largest = (std::max)(largest, std::abs(root)); });
  each([&](const std::complex<double>& root) {
    if (std::abs(root) <= nothing * largest) return;
    logs += std::log(std::abs(root));
    ++count;
  });
  double point = count > 0 ? std::exp(logs / static_cast<double>(count)) : 1;
  for (bool clear = false; !clear;) {
    clear = true;
    each([&](const std::complex<double>& root) {
      if (std::abs(root - point) < 0.02 * point / static_cast<double>(count + 1)) clear = false;
    });
    if (!clear) point *= 1.07;
  }
  double magnitude = 0, sign = 1;  // of Π (point − zeros) / Π (point − poles), its logarithm
  const auto take = [&](const std::complex<double>& root, double power) {
    magnitude += power * std::log(std::abs(point - root));
    if (root.imag() == 0 && point < root.real()) sign = -sign;
  };
  for (const auto& zero : roots.zeros) take(zero, 1);
  for (const auto& pole : roots.poles) take(pole, -1);
  const double value = descriptor_responses(parts, {point}).front()(0, 0).real();
  roots.gain = value == 0 ? 0 : sign * value * std::exp(-magnitude);
  return roots;
}

SSM_END_COMPILED
