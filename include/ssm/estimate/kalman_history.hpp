#pragma once

#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/error.hpp"
#include "ssm/estimate/kalman.hpp"

namespace ssm {

/// A filter for readings that come late, each with the time that it belongs to. It keeps its last
/// events, which are readings and changes of the input; what arrives late is put in its place and
/// all after it is filtered again, so that the belief is that of the same events in their order.
///
/// No allocation after it is made, for fixed sizes.
template <std::floating_point T, int States = Dynamic, int Inputs = Dynamic, int Outputs = Dynamic>
class KalmanHistory {
 public:
  /// The system that is filtered.
  using Noisy = NoisyStateSpace<T, States, Inputs, Outputs>;
  /// What is known of the state.
  using Known = Belief<T, States>;
  /// Which outputs were measured.
  using Measured = Eigen::Array<bool, Outputs, 1>;

  /// @param noisy the system; its input is 0 until steer says otherwise
  /// @param start the belief at the start
  /// @param time of the start, s
  /// @param capacity the number of events that are kept, from 1 to 10⁸
  /// @throws ShapeError
  /// @throws DomainError when the time is not finite or the capacity not from 1 to 10⁸
  KalmanHistory(Noisy noisy, const Known& start, T time, Index capacity)
      : noisy_(std::move(noisy)), capacity_(static_cast<std::size_t>(capacity)) {
    detail::check_belief(name, "start", start, noisy_.system().states());
    check_time(time);
    if (capacity < 1 || capacity > 100'000'000)
      detail::throw_domain(name, "capacity", detail::number(capacity), "from 1 to 10^8");
    events_.reserve(capacity_ + 2);
    Event first;
    first.time = time;
    first.u.setZero(noisy_.system().inputs());
    first.y.setZero(noisy_.system().outputs());
    first.measured.setConstant(noisy_.system().outputs(), false);
    first.known = start;
    events_.push_back(first);
  }

  /// Says that from a time on the input is u, until what is said of a later time.
  ///
  /// @param time s, not before oldest()
  /// @param u (inputs); a number for one input
  /// @throws ShapeError, DomainError; nothing has changed then
  void steer(T time, const detail::VectorArgument<T, Inputs>& u) {
    const auto input = u.vector();
    detail::check_dynamic(name, "u", input, noisy_.system().inputs(), 1);
    check_finite("u", input);
    const std::size_t at = place_of(time);
    Event event = events_[at - 1];
    event.time = time;
    event.u = input;
    event.steers = true;
    event.measured.setConstant(false);
    insert(at, event);
  }

  /// Takes a reading of all outputs, and gives what it told when it was taken in its place.
  ///
  /// @param time that the reading belongs to, s, not before oldest()
  /// @param y (outputs); a number for one output
  /// @throws ShapeError, DomainError; nothing has changed then
  /// Cost: a prediction over any Δ and a correction for each event that is later.
  Innovation<T, States, Outputs> read(T time, const detail::VectorArgument<T, Outputs>& y) {
    Measured all;
    all.setConstant(noisy_.system().outputs(), true);
    return read(time, y, all);
  }
  /// The same of those outputs that were measured; what stands for the others has no effect.
  Innovation<T, States, Outputs> read(T time, const detail::VectorArgument<T, Outputs>& y,
                                      const Measured& measured) {
    const auto reading = y.vector();
    detail::check_dynamic(name, "y", reading, noisy_.system().outputs(), 1);
    detail::check_dynamic(name, "measured", measured.matrix(), noisy_.system().outputs(), 1);
    const std::size_t at = place_of(time);
    Event event = events_[at - 1];
    event.time = time;
    event.steers = false;
    event.measured = measured;
    for (Index i = 0; i < reading.size(); ++i) event.y(i) = measured(i) ? reading(i) : T(0);
    check_finite("y", event.y);
    return insert(at, event);
  }

  /// The time of the last event, s.
  [[nodiscard]] T time() const noexcept { return events_.back().time; }
  /// The earliest time that a late event may have, s.
  [[nodiscard]] T oldest() const noexcept { return events_.front().time; }
  /// What is known at time().
  [[nodiscard]] const Known& belief() const noexcept { return events_.back().known; }

  /// What is known of the state at any time from time() on.
  ///
  /// @param time s
  /// @throws DomainError when it lies before time() or is not finite
  [[nodiscard]] Known predicted(T time) const {
    check_time(time);
    if (time < this->time())
      detail::throw_domain(name, "time", detail::number(time),
                           "at least " + detail::number(this->time()) + ", that of the last event");
    Known known = belief();
    kalman_predict(noisy_, time - this->time(), events_.back().u, known);
    return known;
  }

 private:
  static constexpr std::string_view name = "KalmanHistory";

  struct Event {
    T time;
    bool steers = false;
    Eigen::Matrix<T, Inputs, 1> u;   // from this event on
    Eigen::Matrix<T, Outputs, 1> y;  // what of it was measured
    Measured measured;
    Known known;  // after this event
  };

  static void check_time(T time) {
    if (!std::isfinite(time)) detail::throw_domain(name, "time", detail::number(time), "finite");
  }
  template <class Vector>
  static void check_finite(std::string_view argument, const Vector& vector) {
    for (Index i = 0; i < vector.size(); ++i)
      if (!std::isfinite(vector(i))) detail::throw_domain(name, argument, "not finite", "finite");
  }

  /// Where an event of this time stands: after all that are not later.
  [[nodiscard]] std::size_t place_of(T time) const {
    check_time(time);
    if (time < oldest())
      detail::throw_domain(name, "time", detail::number(time),
                           "at least " + detail::number(oldest()) + ", the oldest that is kept");
    std::size_t at = events_.size();
    while (at > 1 && events_[at - 1].time > time) --at;
    return at;
  }

  Innovation<T, States, Outputs> insert(std::size_t at, const Event& event) {
    Event followed = event;  // before it is inserted, as a prediction may overflow
    const auto told = follow(events_[at - 1], followed);
    events_.insert(events_.begin() + static_cast<std::ptrdiff_t>(at), followed);
    for (std::size_t k = at + 1; k < events_.size(); ++k) follow(events_[k - 1], events_[k]);
    if (events_.size() > capacity_ + 1) events_.erase(events_.begin());
    return told;
  }

  /// Filters an event from the one before it.
  Innovation<T, States, Outputs> follow(const Event& before, Event& event) const {
    event.known = before.known;
    kalman_predict(noisy_, event.time - before.time, before.u, event.known);
    if (!event.steers) event.u = before.u;
    return kalman_update(noisy_, event.u, event.y, event.measured, event.known);
  }

  Noisy noisy_;
  std::size_t capacity_;
  std::vector<Event> events_;
};

}  // namespace ssm
