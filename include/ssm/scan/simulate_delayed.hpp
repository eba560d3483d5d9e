#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string_view>
#include <type_traits>
#include <vector>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
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
template <int N, int M>
class StepsByLength {
 public:
  template <class System>
  const RampStep<double, N, M>& at(const System& system, InputHold hold, double length,
                                   double rounding) {
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
      const auto held = held_step<double>("simulate", system, length);
      steps_.push_back({held.A_bar, held.B_bar,
                        Eigen::Matrix<double, N, M>::Zero(system.states(), system.inputs())});
    }
    return steps_.back();
  }

 private:
  static constexpr std::size_t most = 64;
  std::vector<double> lengths_;
  std::vector<RampStep<double, N, M>> steps_;
};

/// What each delayed input is between two events: the sample that it has reached, −1 for none.
struct DelayedInputs {
  const Simulation<double>::Rows& u;
  const Eigen::VectorXd& t;
  const Eigen::VectorXd& delay;
  InputHold hold;
  std::vector<Index> reached;

  /// The value of input i at a time of the interval that begins with its sample.
  [[nodiscard]] double at(Index i, double time) const {
    const Index k = reached[static_cast<std::size_t>(i)];
    if (k < 0) return 0;
    if (hold == InputHold::zero_order || k + 1 == t.size()) return u(k, i);
    const double share = (time - delay(i) - t(k)) / (t(k + 1) - t(k));
    return u(k, i) + std::clamp(share, 0.0, 1.0) * (u(k + 1, i) - u(k, i));
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
  using Kind = detail::DelayEvent::Kind;
  using Wide = StateSpace<double, N, M, P>;
  Simulation<T> result;
  result.t = detail::VectorArgument<T, Dynamic>(time).vector();
  const Index length = result.t.size();
  detail::check_increasing("simulate", View<const T, 1>(result.t.data(), {length}));
  const Wide system(
      delayed.system().A().template cast<double>(), delayed.system().B().template cast<double>(),
      delayed.system().C().template cast<double>(), delayed.system().D().template cast<double>());
  const Index inputs = system.inputs(), outputs = system.outputs();
  const Simulation<double>::Rows rows =
      detail::input_rows<T>(u, result.t, inputs).template cast<double>();
  Eigen::VectorXd x = detail::start_of(x0, system.states()).template cast<double>();
  result.y.setZero(length, outputs);
  result.x.setZero(length, system.states());
  if (length == 0) return result;

  const Eigen::VectorXd t = result.t.template cast<double>();
  const Eigen::VectorXd in_delay = delayed.input_delay().template cast<double>();
  const Eigen::VectorXd out_delay = delayed.output_delay().template cast<double>();
  const double first = t(0), last = t(length - 1);
  const double rounding = 8 * static_cast<double>(std::numeric_limits<T>::epsilon()) *
                          (std::max)(std::abs(first), std::abs(last));
  std::vector<detail::DelayEvent> events;
  for (Index k = 0; k < length; ++k) {
    events.push_back({t(k), Kind::state, k, 0});
    for (Index i = 0; i < inputs; ++i) events.push_back({t(k) + in_delay(i), Kind::input, k, i});
    for (Index j = 0; j < outputs; ++j) events.push_back({t(k) - out_delay(j), Kind::output, k, j});
  }
  std::erase_if(events, [&](const auto& event) {
    return event.time < first - rounding || event.time > last + rounding;
  });
  std::stable_sort(events.begin(), events.end(),
                   [](const auto& a, const auto& b) { return a.time < b.time; });

  detail::DelayedInputs v{rows, t, in_delay, hold,
                          std::vector<Index>(static_cast<std::size_t>(inputs), -1)};
  detail::StepsByLength<N, M> steps;
  double now = first;
  Eigen::VectorXd start(inputs), end(inputs);
  for (std::size_t e = 0; e < events.size();) {
    const double next = events[e].time;
    if (next - now > rounding) {
      for (Index i = 0; i < inputs; ++i) {
        start(i) = v.at(i, now);
        end(i) = v.at(i, next);
      }
      const auto& step = steps.at(system, hold, next - now, rounding);
      x = (step.A_bar * x + step.B_start * start + step.B_end * end).eval();
      now = next;
    }
    std::size_t after = e;
    while (after < events.size() && events[after].time - now <= rounding) ++after;
    for (std::size_t i = e; i < after; ++i)
      if (events[i].kind == Kind::input) {
        Index& reached = v.reached[static_cast<std::size_t>(events[i].channel)];
        reached = (std::max)(reached, events[i].sample);
      }
    for (Index i = 0; i < inputs; ++i) start(i) = v.at(i, now);
    for (std::size_t i = e; i < after; ++i) {
      const auto& [when, kind, sample, channel] = events[i];
      if (kind == Kind::state)
        result.x.row(sample) = x.transpose().template cast<T>();
      else if (kind == Kind::output)
        result.y(sample, channel) =
            static_cast<T>(system.C().row(channel).dot(x) + system.D().row(channel).dot(start));
    }
    e = after;
  }
  return result;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
