#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/error.hpp"
#include "ssm/estimate/kalman.hpp"
#include "ssm/estimate/smoother.hpp"

namespace ssm {

/// A filter that also says what it knows by now of the last so many steps: the smoother of Rauch,
/// Tung & Striebel over a window that moves with the readings (Anderson & Moore 1979, section 7.3,
/// ask for the same of a larger filter). A lag of a few time constants of the filter is as good as
/// all readings.
///
/// Each step has one predict, then any number of updates. No allocation after it is made, for fixed
/// sizes.
template <std::floating_point T, int States = Dynamic, int Inputs = Dynamic, int Outputs = Dynamic>
class FixedLagSmoother {
 public:
  /// The system that is filtered.
  using Noisy = NoisyStateSpace<T, States, Inputs, Outputs>;
  /// What is known of the state.
  using Known = Belief<T, States>;

  /// @param noisy the system
  /// @param start the belief before the first reading
  /// @param lag the number of steps that it looks back, from 0 to 10⁸
  /// @throws ShapeError
  /// @throws DomainError when the lag is not from 0 to 10⁸
  FixedLagSmoother(Noisy noisy, const Known& start, Index lag)
      : noisy_(std::move(noisy)), current_(start) {
    detail::check_belief("FixedLagSmoother", "start", start, noisy_.system().states());
    if (lag < 0 || lag > 100'000'000)
      detail::throw_domain("FixedLagSmoother", "lag", std::to_string(lag), "from 0 to 10^8");
    moves_.resize(static_cast<std::size_t>(lag));
  }

  /// Carries the belief over any Δ ≥ 0.
  ///
  /// @param delta Δ, s
  /// @param input u (inputs), constant over the step; a number for one input
  /// @throws DomainError, ShapeError as kalman_predict does; nothing has changed then
  void predict(std::type_identity_t<T> delta, const detail::VectorArgument<T, Inputs>& input) {
    detail::check_elapsed("FixedLagSmoother", delta);
    Move move{noisy_step(noisy_, delta), current_, current_};
    kalman_predict(move.step, input, move.predicted);
    current_ = move.predicted;
    if (moves_.empty()) return;
    moves_[next_] = std::move(move);
    next_ = (next_ + 1) % moves_.size();
    if (held_ < moves_.size()) ++held_;
  }

  /// Corrects the belief by a reading of all outputs, as kalman_update does.
  Innovation<T, States, Outputs> update(const detail::VectorArgument<T, Inputs>& u,
                                        const detail::VectorArgument<T, Outputs>& y) {
    return kalman_update(noisy_, u, y, current_);
  }
  /// Corrects the belief by those outputs of y that were measured.
  Innovation<T, States, Outputs> update(const detail::VectorArgument<T, Inputs>& u,
                                        const detail::VectorArgument<T, Outputs>& y,
                                        const Eigen::Array<bool, Outputs, 1>& measured) {
    return kalman_update(noisy_, u, y, measured, current_);
  }

  /// The steps that it can look back now: the lag, less at the start.
  [[nodiscard]] Index steps_back() const noexcept { return static_cast<Index>(held_); }
  /// What all readings so far say of the state now.
  [[nodiscard]] const Known& filtered() const noexcept { return current_; }

  /// What all readings so far say of the state so many steps ago.
  ///
  /// @param back from 0, the state now, to steps_back()
  /// @throws DomainError
  /// Cost: `back` steps of the smoother.
  [[nodiscard]] Known smoothed(Index back) const {
    if (back < 0 || back > steps_back())
      detail::throw_domain("FixedLagSmoother", "back", std::to_string(back),
                           "from 0 to " + std::to_string(steps_back()));
    Known known = current_;
    for (std::size_t k = 1; k <= static_cast<std::size_t>(back); ++k) {
      const Move& move = moves_[(next_ + moves_.size() - k) % moves_.size()];
      known = smooth_step(move.step, move.filtered, move.predicted, known);
    }
    return known;
  }
  /// The same of the state as long ago as it can look back.
  [[nodiscard]] Known smoothed() const { return smoothed(steps_back()); }

 private:
  /// From a belief to the next, and how.
  struct Move {
    NoisyStep<T, States, Inputs> step;
    Known filtered, predicted;
  };

  Noisy noisy_;
  Known current_;
  std::vector<Move> moves_;  // a ring; the newest stands before next_
  std::size_t next_ = 0, held_ = 0;
};

}  // namespace ssm
