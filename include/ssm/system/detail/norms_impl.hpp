#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

#include "ssm/core/error.hpp"
#include "ssm/system/frequency_response.hpp"
#include "ssm/system/gramian.hpp"
#include "ssm/system/norms.hpp"

SSM_BEGIN_COMPILED

SSM_INLINE double h2_norm_of(std::string_view function, Time time, const Quadruple& system) {
  if (!system.all_finite()) throw_domain(function, "the system", "not finite", "finite");
  const double through = system.D.norm();
  const double carried =
      system.A.rows() == 0 ? 0
                           : (system.C * gramian_factor(function, time, system.A, system.B)).norm();
  if (time == Time::discrete) return std::hypot(carried, through);
  return through > 0 ? std::numeric_limits<double>::infinity() : carried;
}

/// The largest singular value of a complex matrix, from that of [Re, −Im; Im, Re].
SSM_INLINE double largest_gain(const ComplexMatrix& G) {
  const Index p = G.rows(), m = G.cols();
  if (p == 0 || m == 0) return 0;
  if (p == 1 && m == 1) return std::abs(G(0, 0));
  RealMatrix parts(2 * p, 2 * m);
  for (Index j = 0; j < m; ++j)
    for (Index i = 0; i < p; ++i) {
      parts(i, j) = parts(p + i, m + j) = G(i, j).real();
      parts(p + i, j) = G(i, j).imag();
      parts(i, m + j) = -G(i, j).imag();
    }
  if (!parts.all_finite()) return std::numeric_limits<double>::infinity();
  return singular_values(p < m ? parts.transpose() : parts).sigma(0);
}

/// The frequencies at which some gain of a continuous system may be γ: eigenvalues near the
/// imaginary axis of the Hamiltonian matrix of Boyd, Balakrishnan & Kabamba (1989).
SSM_INLINE std::vector<double> crossings(std::string_view function, const Quadruple& q,
                                         double gamma) {
  constexpr double nearness = 1e-4;  // candidates only: each is then tried
  const Index n = q.A.rows(), m = q.B.cols(), p = q.C.rows();
  const RealMatrix D = (1 / gamma) * q.D, B = (1 / gamma) * q.B;  // G/γ has the gain 1
  const DenseLu R(RealMatrix::Identity(m, m) - D.transpose() * D);
  const RealMatrix F = q.A + B * R.solve(D.transpose() * q.C);
  const RealMatrix drive = B * R.solve(B.transpose());
  const RealMatrix inner = RealMatrix::Identity(p, p) + D * R.solve(D.transpose());
  RealMatrix H(2 * n, 2 * n);
  H.set_block(0, 0, F);
  H.set_block(0, n, drive);
  H.set_block(n, 0, -(q.C.transpose() * inner * q.C));
  H.set_block(n, n, -F.transpose());
  std::vector<double> omegas;
  if (!H.all_finite()) return omegas;
  for (const std::complex<double>& lambda : grouped_eigenvalues(function, std::move(H)))
    if (lambda.imag() >= 0 && std::abs(lambda.real()) <= nearness * std::abs(lambda.imag()))
      omegas.push_back(lambda.imag());
  std::sort(omegas.begin(), omegas.end());
  return omegas;
}

SSM_INLINE Peak peak_of(std::string_view function, Time time, Quadruple q, double tolerance) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  if (!(tolerance > 0 && tolerance < 1))
    throw_domain(function, "tolerance", detail::number(tolerance), "above 0 and below 1");
  if (!q.all_finite()) throw_domain(function, "the system", "not finite", "finite");
  const Index n = q.A.rows();
  if (n == 0) return {largest_gain(to_complex(q.D)), 0};
  if (!SchurForm(function, q.A).stable(time))
    throw_domain(function, "the system", "unstable", "stable");
  // In units of inputs and outputs in which B, C and D are of size 1 or less.
  const int of_inputs = take_exponent(q.B);
  int exponent = take_exponent(q.C) + of_inputs;
  RealMatrix through = q.D;
  if (const int direct = take_exponent(through); !through.is_zero() && direct > exponent) {
    q.C = times_power(std::move(q.C), exponent - direct);
    exponent = direct;
  }
  q.D = times_power(std::move(q.D), -exponent);
  const Quadruple response = hessenberg_response(q);
  const bool discrete = time == Time::discrete;
  const auto angle = [&](double omega) { return discrete ? 2 * std::atan(omega) : omega; };
  Peak best{0, 0};
  const auto gain_at = [&](double omega) {
    if (std::isinf(omega) && !discrete) return largest_gain(to_complex(q.D));
    const double theta = angle(omega);
    return largest_gain(
        response_at(response, discrete ? std::polar(1.0, theta) : std::complex<double>(0, theta)));
  };
  const auto try_at = [&](double omega) {
    const double gain = gain_at(omega);
    if (gain > best.gain) best = {gain, omega};
  };

  Quadruple flat = q;  // a discrete one by z = (1 + s)/(1 − s): the same gains at other frequencies
  if (discrete) {
    const RealMatrix identity = RealMatrix::Identity(n, n);
    const DenseLu sum(q.A + identity);
    flat.A = sum.solve(q.A - identity);
    flat.B = sum.solve(q.B);
    const RealMatrix turned = DenseLu((q.A + identity).transpose()).solve(q.C.transpose());
    flat.C = 2 * turned.transpose();
    flat.D = q.D - q.C * flat.B;
  }
  try_at(0);
  try_at(infinity);
  for (const std::complex<double>& pole : grouped_eigenvalues(function, flat.A))
    if (pole.imag() >= 0) {
      try_at(std::abs(pole));
      if (pole.imag() > 0) try_at(pole.imag());
    }
  const auto climb = [&] {  // golden section in log ω around the best
    if (best.frequency == 0 || std::isinf(best.frequency)) return;
    constexpr double ratio = 0.6180339887498949;
    double low = best.frequency, high = best.frequency, step = 1e-3;
    const double middle = best.frequency;
    low = middle * (1 - step);
    high = middle * (1 + step);
    for (int turn = 0; turn < 40 && high - low > 1e-9 * middle; ++turn) {
      const double a = high - ratio * (high - low), b = low + ratio * (high - low);
      const double left = gain_at(a), right = gain_at(b);
      if (left > best.gain) best = {left, a};
      if (right > best.gain) best = {right, b};
      if (left < right)
        low = a;
      else
        high = b;
    }
  };
  for (int step = 0; step < 60; ++step) {
    if (!(best.gain > 0)) break;
    const double before = best.gain;
    const std::vector<double> omegas = crossings(function, flat, before * (1 + tolerance));
    for (std::size_t i = 0; i < omegas.size(); ++i) {
      try_at(omegas[i]);
      if (i > 0) try_at(0.5 * (omegas[i - 1] + omegas[i]));
      if (i > 0) try_at(std::sqrt(omegas[i - 1] * omegas[i]));
    }
    if (!(best.gain > before * (1 + 0.5 * tolerance))) break;
  }
  climb();
  return {std::ldexp(best.gain, exponent), angle(best.frequency)};
}

SSM_END_COMPILED
