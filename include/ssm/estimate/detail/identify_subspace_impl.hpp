#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <string>
#include <utility>

#include "ssm/core/detail/dense_algebra.hpp"
#include "ssm/core/error.hpp"
#include "ssm/estimate/detail/identify_arx_impl.hpp"
#include "ssm/estimate/identify_subspace.hpp"

SSM_BEGIN_COMPILED

/// Where the singular values, the largest first, fall most; what is below rounding has fallen.
SSM_INLINE Index order_of(const RealVector& sigma, Index most, double rounding) {
  const double floor = rounding * sigma(0);
  Index order = 0;
  double deepest = 0;
  for (Index k = 1; k <= most && sigma(k - 1) > floor; ++k) {
    const double next = k < sigma.size() ? (std::max)(sigma(k), floor) : floor;
    const double fall = sigma(k - 1) / next;
    if (fall > deepest) {
      deepest = fall;
      order = k;
    }
  }
  return order;
}

/// x_0, B and D by least squares on y = C A^t x_0 + Σ C A^{t−1−k} B u_k + D u_t, and what is left.
SSM_INLINE void fit_inputs(SubspaceFit& fit, const RealMatrix& u, const RealMatrix& y) {
  const Index n = fit.A.rows(), m = u.cols(), p = y.cols(), states = n * (1 + m);
  // What grows is followed no further than its digits reach.
  double radius = 0;
  for (const auto& pole : real_eigenvalues("moesp", fit.A))
    radius = (std::max)(radius, std::abs(pole));
  Index length = y.rows();
  if (radius > 1)
    length = (std::min)(length, static_cast<Index>(18 / std::log(radius)) + 2 * states / p + 10);
  const Index unknowns = states + p * m;
  RealMatrix response(length * p, unknowns), target(length * p, 1);
  // Column k of the state is that of x_0 = e_k; column n + j n + k that of B = e_k for input j.
  RealMatrix x(n, states);
  for (Index k = 0; k < n; ++k) x(k, k) = 1;
  for (Index t = 0; t < length; ++t) {
    const RealMatrix seen = fit.C * x;
    for (Index i = 0; i < p; ++i) {
      for (Index k = 0; k < states; ++k) response(t * p + i, k) = seen(i, k);
      for (Index j = 0; j < m; ++j) response(t * p + i, states + i * m + j) = u(t, j);
      target(t * p + i, 0) = y(t, i);
    }
    x = fit.A * x;
    for (Index j = 0; j < m; ++j)
      for (Index k = 0; k < n; ++k) x(k, n + j * n + k) += u(t, j);
  }
  RealVector unit(unknowns);
  for (Index k = 0; k < unknowns; ++k) {
    double squares = 0;
    for (Index t = 0; t < response.rows(); ++t) squares += response(t, k) * response(t, k);
    unit(k) = squares > 0 ? std::sqrt(squares) : 1;
    for (Index t = 0; t < response.rows(); ++t) response(t, k) /= unit(k);
  }
  const RealMatrix theta = least_squares(response, target);
  fit.initial_state = RealVector(n);
  fit.B = RealMatrix(n, m);
  fit.D = RealMatrix(p, m);
  for (Index k = 0; k < n; ++k) fit.initial_state(k) = theta(k, 0) / unit(k);
  for (Index j = 0; j < m; ++j)
    for (Index k = 0; k < n; ++k) fit.B(k, j) = theta(n + j * n + k, 0) / unit(n + j * n + k);
  for (Index i = 0; i < p; ++i)
    for (Index j = 0; j < m; ++j)
      fit.D(i, j) = theta(states + i * m + j, 0) / unit(states + i * m + j);
  const RealMatrix explained = response * theta;
  fit.residual_covariance = RealMatrix(p, p);
  for (Index t = 0; t < length; ++t)
    for (Index i = 0; i < p; ++i)
      for (Index j = 0; j < p; ++j)
        fit.residual_covariance(i, j) += (target(t * p + i, 0) - explained(t * p + i, 0)) *
                                         (target(t * p + j, 0) - explained(t * p + j, 0)) /
                                         static_cast<double>(length);
}

SSM_INLINE SubspaceFit fit_subspace(const RealMatrix& given_u, const RealMatrix& given_y,
                                    const SubspaceOptions& options) {
  constexpr std::string_view function = "moesp";
  check_data(function, given_u, given_y);
  const Index m = given_u.cols(), p = given_y.cols(), length = given_y.rows();
  if (p < 1) throw_shape(function, "y", "without outputs", "one or more");
  if (options.order < 0) throw_domain(function, "order", std::to_string(options.order), ">= 0");
  if (options.horizon < 0)
    throw_domain(function, "horizon", std::to_string(options.horizon), ">= 0");
  if ((std::max)(options.order / p, options.horizon) > length)
    throw_shape(function, "y", std::to_string(length) + " samples long",
                "more samples than order and horizon");
  const Index needed = options.order / p + 1;  // the least horizon with (horizon − 1) p ≥ order
  const Index least = options.order > 0 ? (options.order + p - 1) / p + 1 : 2;
  // 2 horizon (inputs + outputs) rows of data need as many columns
  const Index reach = (length + 1) / (2 * (m + p) + 2);
  Index horizon = options.horizon;
  if (horizon == 0) horizon = (std::min)((std::max<Index>)(2 * needed, 10), reach);
  if (options.horizon > 0 && horizon < least)
    throw_domain(function, "horizon", std::to_string(horizon),
                 "at least " + std::to_string(least) + " for this order");
  if (horizon > reach || horizon < least)
    throw_shape(function, "y", std::to_string(length) + " samples long",
                "at least " + std::to_string((std::max)(horizon, least) * (2 * (m + p) + 2) - 1) +
                    " for this horizon");

  const RealVector unit_u = units_of_columns(given_u), unit_y = units_of_columns(given_y);
  const RealMatrix u = scale_columns(given_u, inverse_of(unit_u));
  const RealMatrix y = scale_columns(given_y, inverse_of(unit_y));

  // Columns: future inputs, past inputs, past outputs, future outputs, a row for each time.
  const Index rows = length - 2 * horizon + 1, ins = horizon * m, outs = horizon * p;
  RealMatrix data(rows, 2 * (ins + outs)), none(rows, 0);
  const auto put = [&](const RealMatrix& from, Index late, Index at) {
    for (Index k = 0; k < horizon; ++k)
      for (Index j = 0; j < from.cols(); ++j)
        for (Index t = 0; t < rows; ++t) data(t, at + k * from.cols() + j) = from(late + k + t, j);
  };
  put(u, horizon, 0);
  put(u, 0, ins);
  put(y, 0, 2 * ins);
  put(y, horizon, 2 * ins + outs);
  triangularize(data, none);
  const auto upper = [&](Index row, Index col, Index height, Index width) {
    RealMatrix block(height, width);
    for (Index j = 0; j < width; ++j)
      for (Index i = 0; i < height; ++i)
        if (row + i <= col + j) block(i, j) = data(row + i, col + j);
    return block;
  };
  if (m > 0) {
    const RealVector sigma = singular_values(upper(0, 0, 2 * ins, 2 * ins)).sigma;
    const double rounding = 100 * static_cast<double>(2 * ins) * epsilon_of<double>;
    if (!(sigma(2 * ins - 1) > rounding * sigma(0)))
      throw_domain(function, "u", "not persistently exciting",
                   "an input rich enough for " + std::to_string(2 * horizon) +
                       " values in a row, or a shorter horizon");
  }
  // What past data say of future outputs beside future inputs: its columns span observability.
  const RealMatrix known = upper(ins, 2 * ins + outs, ins + outs, outs).transpose();
  const SingularValues svd = singular_values(known);
  SubspaceFit fit;
  fit.sigma = RealVector(outs);
  for (Index k = 0; k < (std::min)(outs, svd.sigma.size()); ++k) fit.sigma(k) = svd.sigma(k);
  const Index most = (horizon - 1) * p;
  const double rounding = 100 * static_cast<double>(2 * (ins + outs)) * epsilon_of<double>;
  // Beside what the output is as a whole: a static system leaves rounding alone.
  const double whole = upper(0, 2 * ins + outs, 2 * (ins + outs), outs).norm();
  Index order = options.order;
  if (!(svd.sigma(0) > rounding * whole)) {
    if (order > 0)
      throw_domain(function, "y", "without a trace of a state",
                   "an output of a system with states");
  } else if (order == 0) {
    order = order_of(fit.sigma, most, (std::max)(rounding, rounding * whole / fit.sigma(0)));
  }
  if (order > 0 && !(fit.sigma(order - 1) > 0))
    throw_domain(function, "order", std::to_string(order), "at most the rank of the data");

  RealMatrix observability(outs, order);
  for (Index k = 0; k < order; ++k)
    for (Index i = 0; i < outs; ++i) observability(i, k) = svd.W(i, k) / std::sqrt(svd.sigma(k));
  fit.C = observability.block(0, 0, p, order);
  fit.A = order == 0 ? RealMatrix(0, 0)
                     : least_squares(observability.block(0, 0, most, order),
                                     observability.block(p, 0, most, order));
  fit_inputs(fit, u, y);
  fit.B = scale_columns(fit.B, inverse_of(unit_u));
  fit.C = scale_rows(unit_y, fit.C);
  fit.D = scale_rows(unit_y, scale_columns(fit.D, inverse_of(unit_u)));
  fit.residual_covariance = scale_rows(unit_y, scale_columns(fit.residual_covariance, unit_y));
  return fit;
}

SSM_END_COMPILED
