#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <cstdio>
#include <string>

#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/dense_algebra.hpp"
#include "ssm/core/error.hpp"
#include "ssm/system/detail/riccati_equation.hpp"

SSM_BEGIN_COMPILED

/// What the matrices of an equation are called by who asks for its solution.
struct RiccatiNames {
  std::string A = "A", B = "B", Q = "Q";

  RiccatiNames(const RiccatiCaller& caller, Time time) {
    if (caller.purpose == RiccatiOf::regulator) return;
    B = "C";
    if (time == Time::discrete) {
      A += "_bar";
      Q += "_bar";
    }
  }
};

/// The least singular value of [A − λI; E], by its real form: 0 where E does not see a mode at λ
/// (Popov, Belevitch and Hautus).
SSM_INLINE double sight_of_mode(const RealMatrix& A, std::complex<double> lambda,
                                const RealMatrix& E) {
  const Index n = A.rows(), seen = n + E.rows();
  RealMatrix pencil(2 * seen, 2 * n);
  for (Index part = 0; part < 2; ++part) {
    pencil.set_block(part * seen, part * n, A);
    pencil.set_block(part * seen + n, part * n, E);
    for (Index i = 0; i < n; ++i) pencil(part * seen + i, part * n + i) -= lambda.real();
  }
  for (Index i = 0; i < n; ++i) {
    pencil(i, n + i) = lambda.imag();
    pencil(seen + i, i) = -lambda.imag();
  }
  return singular_values(pencil).sigma(2 * n - 1);
}

/// "the mode at -0.5" or "the mode at 0 +- 2i"
SSM_INLINE std::string words_of_mode(std::complex<double> lambda, double rounding) {
  const double re = std::abs(lambda.real()) <= rounding ? 0 : lambda.real();
  const double im = std::abs(lambda.imag()) <= rounding ? 0 : std::abs(lambda.imag());
  std::array<char, 80> text{};
  if (im == 0)
    std::snprintf(text.data(), text.size(), "the mode at %.6g", re);
  else
    std::snprintf(text.data(), text.size(), "the mode at %.6g +- %.6gi", re, im);
  return text.data();
}

/// Why an equation in its own units has no stabilizing solution, where that can be told: throws a
/// ConvergenceError that names the mode which nothing reaches or nothing sees.
SSM_INLINE void throw_unsolvable(const RiccatiCaller& caller, const RiccatiEquation& equation) {
  constexpr double tell = 1e-6;  // of the size of A: the eigenvalues of a twofold one are 1e-8 off
  const auto& [time, A, B, Q, R, N, singular] = equation;
  const bool filter = caller.purpose == RiccatiOf::filter, continuous = time == Time::continuous;
  const RiccatiNames names(caller, time);
  const double size = A.norm() > 0 ? A.norm() : 1;
  const auto sized = [&](RealMatrix matrix) {
    const double norm = matrix.norm();
    if (norm > 0) matrix *= size / norm;
    return matrix;
  };
  const auto excess = [&](std::complex<double> lambda) {
    return continuous ? lambda.real() : std::abs(lambda) - 1;
  };
  struct Suspect {
    double sight = 0;
    std::complex<double> lambda;
    bool found = false;
  };
  const auto search = [&](const RealMatrix& dynamics, const RealMatrix& eye, bool on_edge_only) {
    Suspect worst;
    const ComplexVector modes = real_eigenvalues(caller.function, dynamics);
    for (const std::complex<double> lambda : modes) {
      const double beyond = excess(lambda), doubt = 1e-3 * (continuous ? size : 1);
      if (beyond < -doubt || (on_edge_only && beyond > doubt)) continue;
      const double sight = sight_of_mode(dynamics, lambda, eye);
      if (sight <= tell * size && (!worst.found || sight < worst.sight))
        worst = {sight, lambda, true};
    }
    return worst;
  };
  const double rounding = tell * size;
  const Suspect unreached = search(A.transpose(), sized(B.transpose()), false);
  if (unreached.found)
    throw_convergence(caller.function, words_of_mode(unreached.lambda, rounding),
                      (filter ? "not seen by " : "not reached by ") + names.B,
                      filter ? "every mode that does not decay to be read by a meter"
                             : "every mode that does not decay to be reached by an input");
  RealMatrix dynamics = A, cost = Q;
  const DenseCholesky factor(R);
  if (factor.definite() && N.size() > 0) {
    const RealMatrix K = factor.solve(N.transpose());
    dynamics -= B * K;
    cost -= N * K;
  }
  const Suspect unseen = search(dynamics, sized(cost), true);
  const std::string circle = continuous ? "imaginary axis" : "unit circle";
  if (unseen.found)
    throw_convergence(
        caller.function, words_of_mode(unseen.lambda, rounding),
        (filter ? "not driven by " : "not seen by ") + names.Q,
        filter ? "noise on every mode that neither grows nor decays, as a constant bias has none"
               : "a cost of every mode that neither grows nor decays");
  if (!factor.definite())
    throw_convergence(caller.function, "R", "singular",
                      filter ? "noise on each meter or on what it reads"
                             : "a cost of each input or of what it moves");
  throw_convergence(caller.function, "no stabilizing solution", "found",
                    filter ? "every mode that does not decay read by a meter and driven by noise"
                           : "(A, B) stabilizable, Q positive semidefinite and R not too small "
                             "beside it for double");
}

SSM_END_COMPILED
