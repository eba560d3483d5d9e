#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>

#include "ssm/core/detail/dense_algebra.hpp"
#include "ssm/core/error.hpp"
#include "ssm/estimate/identify_arx.hpp"

SSM_BEGIN_COMPILED

SSM_INLINE void check_data(std::string_view function, const RealMatrix& u, const RealMatrix& y) {
  if (u.rows() != y.rows())
    throw_shape(function, "y", std::to_string(y.rows()) + " samples long",
                std::to_string(u.rows()) + " as u is");
  if (!u.all_finite()) throw_domain(function, "u", "not finite", "finite");
  if (!y.all_finite()) throw_domain(function, "y", "not finite", "finite");
}

SSM_INLINE RealVector units_of_columns(const RealMatrix& data) {
  RealVector units(data.cols());
  for (Index j = 0; j < data.cols(); ++j) {
    double largest = 0;
    for (Index i = 0; i < data.rows(); ++i) largest = (std::max)(largest, std::abs(data(i, j)));
    units(j) = largest > 0 ? std::ldexp(1.0, std::ilogb(largest)) : 1;
  }
  return units;
}

SSM_INLINE ArxFit fit_arx(std::string_view function, const RealMatrix& u, const RealMatrix& y,
                          Index order, Index input_order, Index delay) {
  check_data(function, u, y);
  if (order < 0) throw_domain(function, "order", std::to_string(order), ">= 0");
  if (input_order < 1) throw_domain(function, "input_order", std::to_string(input_order), ">= 1");
  if (delay < 0) throw_domain(function, "delay", std::to_string(delay), ">= 0");
  if ((std::max)({order, input_order, delay}) > y.rows())
    throw_shape(function, "u", std::to_string(u.rows()) + " samples long",
                "more samples than orders and delay");
  const Index inputs = u.cols(), unknowns = order + input_order * inputs;
  const Index first = (std::max)(order, delay + input_order - 1), rows = y.rows() - first;
  if (rows < unknowns + 1)
    throw_shape(function, "u", std::to_string(u.rows()) + " samples long",
                "at least " + std::to_string(first + unknowns + 1) + " for these orders");

  const RealVector unit_u = units_of_columns(u), unit_y = units_of_columns(y);
  RealMatrix regressors(rows, unknowns), target(rows, 1);
  for (Index t = 0; t < rows; ++t) {
    target(t, 0) = y(first + t, 0) / unit_y(0);
    for (Index k = 0; k < order; ++k) regressors(t, k) = -y(first + t - 1 - k, 0) / unit_y(0);
    for (Index i = 0; i < inputs; ++i)
      for (Index k = 0; k < input_order; ++k)
        regressors(t, order + i * input_order + k) = u(first + t - delay - k, i) / unit_u(i);
  }
  triangularize(regressors, target);
  RealMatrix R(unknowns, unknowns);
  for (Index j = 0; j < unknowns; ++j)
    for (Index i = 0; i <= j; ++i) R(i, j) = regressors(i, j);
  if (unknowns > 0) {
    const RealVector sigma = singular_values(R).sigma;
    const double rounding = 100 * static_cast<double>(unknowns) * epsilon_of<double>;
    if (!(sigma(unknowns - 1) > rounding * sigma(0)))
      throw_domain(function, "the data", "not persistently exciting",
                   "inputs and outputs that tell " + std::to_string(unknowns) +
                       " coefficients apart: a richer input, or lower orders");
  }
  RealVector theta(unknowns);
  for (Index i = unknowns; i-- > 0;) {
    double sum = target(i, 0);
    for (Index j = i + 1; j < unknowns; ++j) sum -= R(i, j) * theta(j);
    theta(i) = sum / R(i, i);
  }
  double squares = 0;
  for (Index t = unknowns; t < rows; ++t) squares += target(t, 0) * target(t, 0);

  const double variance = squares / static_cast<double>(rows - unknowns);
  ArxFit fit{RealVector(order + 1), RealMatrix(input_order, inputs),
             variance * unit_y(0) * unit_y(0), RealVector(order + 1),
             RealMatrix(input_order, inputs)};
  // (Φᵀ Φ)⁻¹ = R⁻¹ R⁻ᵀ: its diagonal is that of the squares of the rows of R⁻¹
  const RealMatrix inverse = DenseLu(R).solve(RealMatrix::Identity(unknowns, unknowns));
  const auto error_of = [&](Index k) {
    return std::sqrt(variance) * inverse.block(k, 0, 1, unknowns).norm();
  };
  for (Index k = 0; k < order; ++k) fit.a_error(k + 1) = error_of(k);
  for (Index i = 0; i < inputs; ++i)
    for (Index k = 0; k < input_order; ++k)
      fit.b_error(k, i) = error_of(order + i * input_order + k) / unit_u(i) * unit_y(0);
  fit.a(0) = 1;
  for (Index k = 0; k < order; ++k) fit.a(k + 1) = theta(k);
  for (Index i = 0; i < inputs; ++i)
    for (Index k = 0; k < input_order; ++k)
      fit.b(k, i) = theta(order + i * input_order + k) / unit_u(i) * unit_y(0);
  return fit;
}

SSM_END_COMPILED
