#pragma once

#include <array>
#include <complex>
#include <cstddef>

#include "ssm/core/detail/simd.hpp"
#include "ssm/core/index.hpp"

/// Cauchy sums at imaginary nodes z = iτ, in double, vectors over the nodes. Modes come in
/// conjugate pairs of which one is given. Arrays of nodes are padded to whole vectors.
namespace ssm::detail {

/// R_j = Σ_n v_n/(iτ_j − λ_n) + conj(v_n)/(iτ_j − conj(λ_n))
///     = Σ_n (α_n + iτ_j β_n)/(|λ_n|² − τ_j² − 2i Re(λ_n) τ_j),  α = −2 Re(v conj(λ)), β = 2 Re v,
/// of `Sums` weights v at once.
///
/// @param coefficients (modes, 2 + 2 Sums): |λ|², −2 Re λ, then every α, then every β
/// @param tau (nodes)
/// @param re, im (Sums, nodes), written
template <int Sums>
void cauchy_sums(Index modes, const double* coefficients, Index nodes, const double* tau,
                 double* re, double* im) noexcept {
  using V = Vec<double>;
  for (Index j = 0; j < nodes; j += lanes<double>) {
    const V t = V::load(tau + j), square = t * t;
    std::array<V, Sums> ap, bq, bp, aq;
    unroll<Sums>([&](auto s) { ap[s] = bq[s] = bp[s] = aq[s] = V(0.0); });
    const double* row = coefficients;
    for (Index n = 0; n < modes; ++n, row += 2 + 2 * Sums) {
      const V a = V(row[0]) - square, b = V(row[1]) * t;
      const V inverse = V(1.0) / fma(a, a, b * b);
      const V p = a * inverse, q = b * inverse;
      unroll<Sums>([&](auto s) {
        const V alpha(row[2 + s]), beta(row[2 + Sums + s]);
        ap[s] = fma(alpha, p, ap[s]);
        bq[s] = fma(beta, q, bq[s]);
        bp[s] = fma(beta, p, bp[s]);
        aq[s] = fma(alpha, q, aq[s]);
      });
    }
    unroll<Sums>([&](auto s) {
      fma(t, bq[s], ap[s]).store(re + s * nodes + j);
      fma(t, bp[s], -aq[s]).store(im + s * nodes + j);
    });
  }
}

/// The transpose: with D_j the gradient by R_j, p = Σ_j conj(D_j)/(iτ_j − λ) + D_j/(−iτ_j − λ)
///     = −2 Σ_j (λ Re D_j + τ_j Im D_j)/(λ² + τ_j²),
/// the conjugate of the gradient by v, and p′ = ∂p/∂λ, of `Sums` gradients at once.
///
/// @param tau (nodes)
/// @param re, im (Sums, nodes), zero in the padding
/// @param p, slope (Sums), written
template <int Sums>
void cauchy_transpose(std::complex<double> lambda, Index nodes, const double* tau, const double* re,
                      const double* im, std::complex<double>* p,
                      std::complex<double>* slope) noexcept {
  using V = Vec<double>;
  const std::complex<double> lambda_square = lambda * lambda;
  const V square_re(lambda_square.real()), square_im(lambda_square.imag());
  // Σ Re D, Σ τ Im D over (λ² + τ²) and over its square, each a complex number
  std::array<std::array<V, 8>, Sums> sums;
  unroll<Sums>([&](auto s) { sums[s].fill(V(0.0)); });
  for (Index j = 0; j < nodes; j += lanes<double>) {
    const V t = V::load(tau + j), a = fma(t, t, square_re);
    const V inverse = V(1.0) / fma(a, a, square_im * square_im);
    const V i_re = a * inverse, i_im = -(square_im * inverse);
    const V i2_re = fma(i_re, i_re, -(i_im * i_im)), i2_im = (i_re + i_re) * i_im;
    unroll<Sums>([&](auto s) {
      const V d = V::load(re + s * nodes + j), e = t * V::load(im + s * nodes + j);
      auto& sum = sums[s];
      sum[0] = fma(d, i_re, sum[0]);
      sum[1] = fma(d, i_im, sum[1]);
      sum[2] = fma(e, i_re, sum[2]);
      sum[3] = fma(e, i_im, sum[3]);
      sum[4] = fma(d, i2_re, sum[4]);
      sum[5] = fma(d, i2_im, sum[5]);
      sum[6] = fma(e, i2_re, sum[6]);
      sum[7] = fma(e, i2_im, sum[7]);
    });
  }
  for (std::size_t s = 0; s < Sums; ++s) {
    const auto total = [&](std::size_t i) {
      return std::complex<double>(sum(sums[s][i]), sum(sums[s][i + 1]));
    };
    p[s] = -2.0 * (lambda * total(0) + total(2));
    slope[s] = -2.0 * total(0) + 4.0 * lambda * (lambda * total(4) + total(6));
  }
}

}  // namespace ssm::detail
