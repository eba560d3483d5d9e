#pragma once

#include <array>
#include <complex>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "ssm/layers/detail/step_checks.hpp"
#include "ssm/layers/s4_weights.hpp"

namespace ssm {

/// The recurrent form of an S4 layer of one direction: the steps of all channels and their true
/// C = C̃ (I − A_bar^length)⁻¹, in double. It belongs to the weights it was made from, at any
/// number of steps and any rate.
class S4Recurrence {
 public:
  /// @param rate Δ ← rate · Δ: 2 for a sequence sampled half as often as in training
  /// @throws ShapeError, DomainError for a rate that is not above 0 or two directions
  /// Cost: O(state³ log length) a channel.
  template <class T>
  explicit S4Recurrence(const S4Weights<T>& weights, double rate = 1) {
    constexpr std::string_view function = "S4Recurrence";
    const S4Shape s = detail::check_s4_weights(function, weights);
    if (!(rate > 0)) detail::throw_domain(function, "rate", std::to_string(rate), "above 0");
    detail::check_one_direction(function, s);
    for (Index c = 0; c < s.width; ++c) {
      const auto trained = detail::s4_channel_step(weights, c, 1);
      outputs_.push_back(s4_untruncate(trained, detail::s4_output(weights, 0, c), s.length));
      steps_.push_back(rate == 1 ? trained : detail::s4_channel_step(weights, c, rate));
      D_.push_back(static_cast<double>(weights.D(c)));
    }
  }

  [[nodiscard]] Index width() const noexcept { return static_cast<Index>(steps_.size()); }
  [[nodiscard]] Index modes() const noexcept { return steps_.empty() ? 0 : steps_[0].modes(); }

  /// One step on the calling thread; `state` (batch, width, state/2) is moved on in place. Nothing
  /// is allocated. A shape that does not fit ends the program with a ShapeError.
  /// @param input, output (batch, width)
  template <class T>
  void step(const View<const T, 2>& input, const View<std::complex<double>, 3>& state,
            const View<T, 2>& output) const noexcept {
    detail::check_or_terminate([&] {
      constexpr std::string_view function = "S4Recurrence::step";
      const std::array<Index, 2> extents{input.extent(0), width()};
      detail::check_shape(function, "input", input, extents);
      detail::check_shape(function, "output", output, extents);
      detail::check_shape(function, "state", state,
                          std::array<Index, 3>{input.extent(0), width(), modes()});
      detail::check_adjacent(function, "state", state);
    });
    for (Index b = 0; b < input.extent(0); ++b)
      for (Index c = 0; c < width(); ++c) {
        const auto i = static_cast<std::size_t>(c);
        const double u = static_cast<double>(input(b, c));
        std::complex<double>* const h = &state(b, c, 0);
        steps_[i](u, h);
        double y = D_[i] * u;
        for (Index n = 0; n < modes(); ++n) y += 2 * (outputs_[i](n) * h[n]).real();
        output(b, c) = static_cast<T>(y);
      }
  }

 private:
  using Vector = DplrStep<double>::Vector;

  std::vector<DplrStep<double>> steps_;
  std::vector<Vector> outputs_;
  std::vector<double> D_;
};

}  // namespace ssm
