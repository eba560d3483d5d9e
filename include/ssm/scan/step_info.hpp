#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <concepts>
#include <cstddef>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/view.hpp"
#include "ssm/scan/simulate.hpp"
#include "ssm/scan/simulation.hpp"
#include "ssm/system/poles_zeros.hpp"
#include "ssm/system/polynomial.hpp"
#include "ssm/system/state_space.hpp"

namespace ssm {

/// What control engineers say of a step response. Times count from the first sample.
template <std::floating_point T>
struct StepInfo {
  T steady_state;  ///< the value that it settles to, y_∞
  T rise_time;  ///< s, from a tenth to nine tenths of the way to y_∞; NaN when it gets there never
  T settling_time;  ///< s, after which it stays within the band about y_∞; NaN when it never does
  T overshoot;      ///< percent of the way, beyond y_∞
  T undershoot;     ///< percent of the way, on the far side of where it began
  T peak;           ///< the value that is furthest from where it began
  T peak_time;      ///< s
};

/// Where to look at a step response.
struct StepInfoOptions {
  double band = 0.02;      ///< half the width of the settling band, of the way
  double rise_from = 0.1;  ///< of the way: where the rise begins
  double rise_to = 0.9;    ///< of the way: where it ends
  double start = 0;        ///< the output before the step; the way leads from there to y_∞
};

/// Rise and settling time, overshoot and peak of a response that was sampled, with straight lines
/// between the samples.
///
/// @param time (length), s, increasing
/// @param y (length), the response at those times
/// @param steady_state y_∞; the last sample when it is not given
/// @param options the bands
/// @throws ShapeError when time and y differ in length or are empty
/// @throws DomainError when the times do not increase, a value is not finite, or the options are
/// not
///   0 < band, 0 ≤ rise_from < rise_to ≤ 1 and finite
/// Cost: length.
template <class DT, class DY>
[[nodiscard]] StepInfo<typename DT::Scalar> step_info(
    const Eigen::MatrixBase<DT>& time, const Eigen::MatrixBase<DY>& y,
    std::optional<std::type_identity_t<typename DT::Scalar>> steady_state = {},
    const StepInfoOptions& options = {}) {
  using T = typename DT::Scalar;
  constexpr std::string_view function = "step_info";
  const Eigen::Matrix<T, Eigen::Dynamic, 1> t = time, values = y;
  const Index length = t.size();
  if (length == 0) detail::throw_shape(function, "time", "(0)", "one sample or more");
  detail::check_matrix(function, "y", values, length, 1);
  detail::check_increasing(function, View<const T, 1>(t.data(), {length}));
  for (Index k = 0; k < length; ++k)
    if (!std::isfinite(values(k)))
      detail::throw_domain(function, "y at " + std::to_string(k), "not finite", "finite");
  const T last = steady_state.value_or(values(length - 1));
  if (!std::isfinite(last)) detail::throw_domain(function, "steady_state", "not finite", "finite");
  if (!(options.band > 0 && std::isfinite(options.band)))
    detail::throw_domain(function, "band", std::to_string(options.band), "positive and finite");
  if (!(options.rise_from >= 0 && options.rise_from < options.rise_to && options.rise_to <= 1))
    detail::throw_domain(function, "rise_from", std::to_string(options.rise_from),
                         "in [0, rise_to), with rise_to at most 1");

  if (!std::isfinite(options.start))
    detail::throw_domain(function, "start", "not finite", "finite");

  constexpr T nan = std::numeric_limits<T>::quiet_NaN();
  const T first = static_cast<T>(options.start), way = last - first;
  StepInfo<T> info{last, nan, nan, 0, 0, first, 0};
  for (Index k = 0; k < length; ++k)
    if (std::abs(values(k) - first) > std::abs(info.peak - first)) {
      info.peak = values(k);
      info.peak_time = t(k) - t(0);
    }
  if (way == T(0)) {
    if (info.peak == first) info.rise_time = info.settling_time = 0;
    return info;
  }
  const auto share = [&](Index k) { return (values(k) - first) / way; };
  // The time at which the line between two samples is at a share of the way.
  const auto meets = [&](Index k, T level) {
    const T a = share(k - 1), b = share(k);
    return t(k - 1) + (level - a) / (b - a) * (t(k) - t(k - 1)) - t(0);
  };
  const auto reaches = [&](T level) {
    for (Index k = 0; k < length; ++k)
      if (share(k) >= level) return k == 0 ? T(0) : meets(k, level);
    return nan;
  };
  info.rise_time =
      reaches(static_cast<T>(options.rise_to)) - reaches(static_cast<T>(options.rise_from));
  const auto band = static_cast<T>(options.band);
  Index outside = length - 1;
  while (outside >= 0 && std::abs(share(outside) - 1) <= band) --outside;
  if (outside < 0)
    info.settling_time = 0;
  else if (outside + 1 < length)
    info.settling_time = meets(outside + 1, share(outside) > 1 ? 1 + band : 1 - band);
  for (Index k = 0; k < length; ++k) {
    info.overshoot = (std::max)(info.overshoot, 100 * (share(k) - 1));
    info.undershoot = (std::max)(info.undershoot, -100 * share(k));
  }
  return info;
}

namespace detail {

/// @throws DomainError when the system is not finite or not stable
template <LinearSystem System>
void check_stable(std::string_view function, const System& system) {
  if (!Quadruple(system).all_finite()) throw_domain(function, "the system", "not finite", "finite");
  if (!is_stable(system)) throw_domain(function, "the system", "not stable", "stable");
}

}  // namespace detail

/// The same of the unit step response of one channel of a stable continuous system, simulated
/// exactly until its slowest mode has decayed to 10⁻⁴: at 5000 samples or more, and 200 a period,
/// for each mode while that has not decayed, but at most 400 000 for one.
///
/// @param system A, B, C, D
/// @param output, input which channel
/// @param options the bands
/// @throws ShapeError when there is no such channel
/// @throws DomainError when the system is not finite or not stable, and as the other
/// Cost: that of poles, and 5000 to 400 000 steps of states² for each mode.
template <class T, int N, int M, int P>
[[nodiscard]] StepInfo<T> step_info(const StateSpace<T, N, M, P>& system, Index output = 0,
                                    Index input = 0, const StepInfoOptions& options = {}) {
  if (output < 0 || output >= system.outputs() || input < 0 || input >= system.inputs())
    detail::throw_shape(
        "step_info", "the channel", detail::to_string(std::array<Index, 2>{output, input}),
        "below " + detail::to_string(std::array<Index, 2>{system.outputs(), system.inputs()}));
  detail::check_stable("step_info", system);
  // Each mode asks for a step while it lasts; several last at a time, so the finest rules until its
  // mode has ended.
  struct Mode {
    double lasts, step;  // s
  };
  std::vector<Mode> modes;
  for (const auto& pole : poles(system)) {
    const double lasts = -9.3 / static_cast<double>(pole.real());
    const double turning = std::abs(static_cast<double>(pole.imag()));
    const double step = turning > 0 ? 6.283185307179586 / turning / 200 : lasts;
    modes.push_back({lasts, std::clamp(step, lasts / 4e5, lasts / 5000)});
  }
  if (modes.empty()) modes.push_back({1, 1});
  std::sort(modes.begin(), modes.end(),
            [](const Mode& a, const Mode& b) { return a.lasts < b.lasts; });
  for (std::size_t k = modes.size() - 1; k > 0; --k)
    modes[k - 1].step = (std::min)(modes[k - 1].step, modes[k].step);

  using Wide = detail::DoubleOf<T>;  // double, of T: compiled where it is asked for
  using Vector = Eigen::Matrix<Wide, Eigen::Dynamic, 1>;
  const auto wide = [](const auto& matrix) {
    return Eigen::Matrix<Wide, Eigen::Dynamic, Eigen::Dynamic>(matrix.template cast<Wide>());
  };
  const StateSpace<Wide> channel(wide(system.A()), wide(system.B().col(input)),
                                 wide(system.C().row(output)),
                                 wide(system.D().block(output, input, 1, 1)));
  std::vector<double> times, values;
  Vector state = Vector::Zero(system.states());
  double from = 0;
  for (const Mode& mode : modes) {
    const double length = mode.lasts - from;
    const auto steps = static_cast<Index>(std::ceil(length / mode.step));
    if (steps < 1 || !(length > 1e-12 * mode.lasts)) continue;  // ends with the one before
    const double step = length / static_cast<double>(steps);
    const auto part = simulate(channel, step, Vector::Ones(steps + 1).eval(), state);
    for (Index i = times.empty() ? 0 : 1; i <= steps; ++i) {
      times.push_back(from + static_cast<double>(i) * step);
      values.push_back(part.y(i, 0));
    }
    state = part.x.row(steps).transpose();
    from = mode.lasts;
  }
  const auto length = static_cast<Index>(times.size());
  const Eigen::Map<const Vector> t(times.data(), length), y(values.data(), length);
  const StepInfo<Wide> info = step_info(t, y, dc_gain(channel)(0, 0), options);
  const auto narrow = [](double value) { return static_cast<T>(value); };
  return {narrow(info.steady_state), narrow(info.rise_time),  narrow(info.settling_time),
          narrow(info.overshoot),    narrow(info.undershoot), narrow(info.peak),
          narrow(info.peak_time)};
}

/// The same of the unit step response of one channel of a stable discrete system, read before the
/// step, until its slowest mode has decayed to 10⁻⁴: every sample of the first 100 000, then every
/// second of as many, every fourth, and so on.
///
/// @param system A_bar, B_bar, C, D and Δ
/// @param output, input which channel
/// @param options the bands
/// @return times between samples are on the straight line between these
/// @throws ShapeError when there is no such channel
/// @throws DomainError when the system is not finite or not stable, and as the first
/// Cost: that of poles, and of states² a sample.
template <class T, int N, int M, int P>
[[nodiscard]] StepInfo<T> step_info(const DiscreteStateSpace<T, N, M, P>& system, Index output = 0,
                                    Index input = 0, const StepInfoOptions& options = {}) {
  constexpr std::string_view function = "step_info";
  if (output < 0 || output >= system.outputs() || input < 0 || input >= system.inputs())
    detail::throw_shape(
        function, "the channel", detail::to_string(std::array<Index, 2>{output, input}),
        "below " + detail::to_string(std::array<Index, 2>{system.outputs(), system.inputs()}));
  detail::check_stable(function, system);
  double slowest = 0;
  for (const auto& pole : poles(system))
    slowest = (std::max)(slowest, std::abs(std::complex<double>(pole)));
  const double length = static_cast<double>(system.states()) + 1 +
                        (slowest > 0 ? std::ceil(-9.3 / std::log(slowest)) : 0);
  // (x, 1) goes to (A x + B, 1), of which powers take several steps at once.
  using Wide = detail::DoubleOf<T>;  // double, of T: compiled where it is asked for
  using Matrix = Eigen::Matrix<Wide, Eigen::Dynamic, Eigen::Dynamic>;
  using Vector = Eigen::Matrix<Wide, Eigen::Dynamic, 1>;
  const Index n = system.states();
  Matrix step = Matrix::Zero(n + 1, n + 1);
  step.topLeftCorner(n, n) = system.A_bar().template cast<Wide>();
  step.col(n).head(n) = system.B_bar().col(input).template cast<Wide>();
  step(n, n) = 1;
  Eigen::Matrix<Wide, 1, Eigen::Dynamic> seen(n + 1);
  seen.head(n) = system.C().row(output).template cast<Wide>();
  seen(n) = static_cast<double>(system.D()(output, input));
  Vector state = Vector::Unit(n + 1, n), next(n + 1);
  const double delta = static_cast<double>(system.delta());
  constexpr int samples_of_a_stride = 100'000;
  std::vector<double> times, values;
  int samples = 0;
  for (double at = 0, stride = 1; at <= length; at += stride) {
    times.push_back(at * delta);
    values.push_back(seen.dot(state));
    if (++samples == samples_of_a_stride) {
      step = (step * step).eval();
      stride *= 2;
      samples = 0;
    }
    next.noalias() = step * state;
    state.swap(next);
  }
  const auto count = static_cast<Index>(times.size());
  const Eigen::Map<const Vector> t(times.data(), count), y(values.data(), count);
  const auto rest = dc_gain(system)(output, input);
  const StepInfo<Wide> info = step_info(t, y, static_cast<double>(rest), options);
  const auto narrow = [](double value) { return static_cast<T>(value); };
  return {narrow(info.steady_state), narrow(info.rise_time),  narrow(info.settling_time),
          narrow(info.overshoot),    narrow(info.undershoot), narrow(info.peak),
          narrow(info.peak_time)};
}

}  // namespace ssm
