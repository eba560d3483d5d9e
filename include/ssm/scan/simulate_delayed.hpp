#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <type_traits>
#include <utility>
#include <vector>

#include "ssm/core/detail/dense.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/view.hpp"
#include "ssm/discretize/first_order_hold.hpp"
#include "ssm/discretize/zero_order_hold.hpp"
#include "ssm/scan/simulate.hpp"
#include "ssm/scan/simulation.hpp"
#include "ssm/system/delay.hpp"
#include "ssm/system/detail/vector_argument.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// What happens at a time: an input reaches a sample, an output is read, or the state is.
struct DelayEvent {
  enum class Kind { input, output, state };
  double time;
  Kind kind;
  Index sample, channel;
};

/// The steps of one system by their length. Lengths that differ by the rounding of the times that
/// they lie between are one.
class StepsByLength {
 public:
  template <class System>
  const RampStep<double>& at(const System& system, InputHold hold, double length, double rounding) {
    for (std::size_t i = 0; i < lengths_.size(); ++i)
      if (std::abs(lengths_[i] - length) <= rounding) return steps_[i];
    if (lengths_.size() >= most) {
      lengths_.clear();
      steps_.clear();
    }
    lengths_.push_back(length);
    if (hold == InputHold::first_order) {
      steps_.push_back(ramp_step(system, length));
    } else {
      auto held = held_step<double>("simulate", system, length);
      steps_.push_back({std::move(held.A_bar), std::move(held.B_bar),
                        Eigen::MatrixXd::Zero(system.states(), system.inputs())});
    }
    return steps_.back();
  }

 private:
  static constexpr std::size_t most = 64;
  std::vector<double> lengths_;
  std::vector<RampStep<double>> steps_;
};

/// simulate of a DelayedSystem, in double and of any sizes: compiled once.
template <class System>
struct DelayedRun {
  using Rows = Simulation<double>::Rows;

  const System& system;
  const Eigen::VectorXd &t, &in_delay, &out_delay;
  const Rows& u;
  InputHold hold;
  Eigen::VectorXd x;
  double rounding;
  Rows states, outputs;
  std::vector<Index> reached;  // the sample that each input has reached, −1 for none

  /// The value of input i at a time of the interval that begins with its sample.
  [[nodiscard]] double input(Index i, double time) const {
    const Index k = reached[static_cast<std::size_t>(i)];
    if (k < 0) return 0;
    if (hold == InputHold::zero_order || k + 1 == t.size()) return u(k, i);
    const double share = (time - in_delay(i) - t(k)) / (t(k + 1) - t(k));
    return u(k, i) + std::clamp(share, 0.0, 1.0) * (u(k + 1, i) - u(k, i));
  }

  /// Everything that happens, in the order of time.
  [[nodiscard]] std::vector<DelayEvent> events() const {
    using Kind = DelayEvent::Kind;
    const double first = t(0), last = t(t.size() - 1);
    std::vector<DelayEvent> all;
    const auto add = [&](double time, Kind kind, Index sample, Index channel) {
      if (time >= first - rounding && time <= last + rounding)
        all.push_back({time, kind, sample, channel});
    };
    for (Index k = 0; k < t.size(); ++k) {
      add(t(k), Kind::state, k, 0);
      for (Index i = 0; i < in_delay.size(); ++i) add(t(k) + in_delay(i), Kind::input, k, i);
      for (Index j = 0; j < out_delay.size(); ++j) add(t(k) - out_delay(j), Kind::output, k, j);
    }
    std::stable_sort(all.begin(), all.end(),
                     [](const auto& a, const auto& b) { return a.time < b.time; });
    return all;
  }

  void run() {
    using Kind = DelayEvent::Kind;
    const Index n = system.states(), inputs = system.inputs();
    reached.assign(static_cast<std::size_t>(inputs), -1);
    states.setZero(t.size(), n);
    outputs.setZero(t.size(), system.outputs());
    StepsByLength steps;
    const std::vector<DelayEvent> all = events();
    double now = t(0);
    Eigen::VectorXd next_x(n);
    for (std::size_t e = 0; e < all.size();) {
      const double next = all[e].time;
      if (next - now > rounding) {
        const RampStep<double>& step = steps.at(system, hold, next - now, rounding);
        next_x.setZero();
        for (Index k = 0; k < n; ++k)
          for (Index i = 0; i < n; ++i) next_x(i) += step.A_bar(i, k) * x(k);
        for (Index k = 0; k < inputs; ++k) {
          const double start = input(k, now), end = input(k, next);
          for (Index i = 0; i < n; ++i)
            next_x(i) += step.B_start(i, k) * start + step.B_end(i, k) * end;
        }
        x = next_x;
        now = next;
      }
      std::size_t after = e;
      for (; after < all.size() && all[after].time - now <= rounding; ++after)
        if (all[after].kind == Kind::input) {
          Index& sample = reached[static_cast<std::size_t>(all[after].channel)];
          sample = (std::max)(sample, all[after].sample);
        }
      for (; e < after; ++e) {
        const auto& [when, kind, sample, channel] = all[e];
        if (kind == Kind::state)
          for (Index i = 0; i < n; ++i) states(sample, i) = x(i);
        if (kind != Kind::output) continue;
        double sum = 0;
        for (Index i = 0; i < n; ++i) sum += system.C()(channel, i) * x(i);
        for (Index k = 0; k < inputs; ++k) sum += system.D()(channel, k) * input(k, now);
        outputs(sample, channel) = sum;
      }
    }
  }
};

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// The output and the state of a system with delays at given times, exact for an input that is
/// held: `simulate(delayed, times, u).y`. Delays of any length are taken as they are, whole steps
/// or not: the state goes from each time at which a delayed input changes or an output was read to
/// the next. Before the first time inputs and outputs are 0.
///
/// @param delayed the system and its delays
/// @param time the times of the samples, s, increasing, of any spacing, as a vector of Eigen or
///   std::vector
/// @param u the input at those times, as for simulate of a system without delays
/// @param x0 (states), the state at the first time; zero when absent
/// @param hold how the input runs from sample to sample
/// @throws ShapeError
/// @throws DomainError when the times do not increase or are not finite, or e^{ΔA} overflows
/// Cost: length · (1 + inputs + outputs) steps of (states + inputs)², and a hold for each new
/// length; in double.
template <class T, int N, int M, int P, class Times, class U>
[[nodiscard]] Simulation<T> simulate(
    const DelayedSystem<T, N, M, P>& delayed, const Times& time, const U& u,
    const std::type_identity_t<detail::VectorArgument<T, N>>& x0 = {},
    InputHold hold = InputHold::zero_order) {
  using Rows = typename Simulation<T>::Rows;
  Simulation<T> result;
  result.t = detail::VectorArgument<T, Dynamic>(time).vector();
  const Index length = result.t.size();
  detail::check_increasing("simulate", View<const T, 1>(result.t.data(), {length}));
  const auto& given = delayed.system();
  const StateSpace<double> system(
      given.A().template cast<double>(), given.B().template cast<double>(),
      given.C().template cast<double>(), given.D().template cast<double>());
  const Rows rows = detail::input_rows<T>(u, result.t, system.inputs());
  const auto start = detail::start_of(x0, system.states());
  result.y.setZero(length, system.outputs());
  result.x.setZero(length, system.states());
  if (length == 0) return result;
  const Eigen::VectorXd t = result.t.template cast<double>();
  const Eigen::VectorXd in_delay = delayed.input_delay().template cast<double>();
  const Eigen::VectorXd out_delay = delayed.output_delay().template cast<double>();
  const Simulation<double>::Rows wide = rows.template cast<double>();
  detail::DelayedRun<StateSpace<double>> run{
      system,
      t,
      in_delay,
      out_delay,
      wide,
      hold,
      start.template cast<double>(),
      8 * detail::epsilon_of<T> * (std::max)(std::abs(t(0)), std::abs(t(length - 1))),
      {},
      {},
      {}};
  run.run();
  result.y = run.outputs.template cast<T>();
  result.x = run.states.template cast<T>();
  return result;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
