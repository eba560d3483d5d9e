#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <cstddef>
#include <string_view>
#include <type_traits>
#include <vector>

#include "ssm/conv/detail/dplr_powers.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/detail/two_directions.hpp"
#include "ssm/layers/layer.hpp"
#include "ssm/layers/s4_weights.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// Runs an S4 layer step by step. It holds the sampled system of every channel in double, and
/// refers to the layer, whose D it reads and which must outlive it.
template <class T>
class S4Stepper {
 public:
  /// Makes `layer` ready to step `batch` sequences at once.
  /// Cost: O(state³ log length) for each channel.
  /// @throws ShapeError; DomainError for a bidirectional layer, for sequences that are packed or
  /// run
  ///   backward, and for a rate that is not above 0 and finite
  S4Stepper(const S4<T>& layer, Index batch, const LayerOptions<>& options = {})
      : config_(layer.config), batch_(batch), rate_(options.rate) {
    constexpr std::string_view function = "S4Stepper";
    detail::check_s4_config(function, config_);
    detail::check_one_direction(function, config_);
    detail::check_step_options(function, options);
    detail::check_rate(function, rate_);
    steps_.assign(static_cast<std::size_t>(config_.width),
                  DplrStep<double>(config_.modes(), config_.rank));
    outputs_.resize({config_.width, config_.state});
    x_.resize({config_.modes()});
    model_ = detail::S4ChannelModel(config_.modes(), config_.rank);
    powers_.resize(config_.state, 3);
    update(layer);
  }
  S4Stepper(const S4<T>&&, Index, const LayerOptions<>& = {}) = delete;

  /// Takes over the weights of `layer` after they have changed. Its configuration is that of the
  /// layer before, except for the length, which s4_double_length may have changed. Allocates
  /// nothing. Cost: O(state³ log length) for each channel.
  /// @throws ShapeError for another configuration
  void update(const S4<T>& layer) {
    constexpr std::string_view function = "S4Stepper";
    S4Config config = config_;
    config.length = layer.config.length;
    if (!(layer.config == config))
      detail::throw_shape(function, "layer", "of another configuration", "that of the first");
    detail::check_s4(function, layer);
    config_ = config;
    layer_ = &layer;
    for (Index c = 0; c < config_.width; ++c) make(c);
  }
  void update(const S4<T>&&) = delete;

  /// How many sequences step at once.
  [[nodiscard]] Index batch() const noexcept { return batch_; }

  /// One step of every sequence; see step.
  void operator()(const View<const T, 2>& input, S4State<T>& state,
                  const View<T, 2>& output) noexcept {
    const Tensor<T, 1>& D = layer_->D;
    const Index width = config_.width;
    detail::check_or_terminate([&] {
      constexpr std::string_view function = "S4 step";
      const std::array<Index, 2> extents{batch_, width};
      detail::check_shape(function, "input", input, extents);
      detail::check_shape(function, "output", output, extents);
      detail::check_shape(function, "state", state.x,
                          std::array<Index, 3>{batch_, width, config_.modes()});
      detail::check_shape(function, "D", D, std::array<Index, 1>{width});
    });
    for (Index c = 0; c < width; ++c)
      for (Index b = 0; b < batch_; ++b)
        output(b, c) = step_channel(c, D(c), input(b, c), &state.x(b, c, 0));
  }

 private:
  /// C h + D u of a channel whose state (state/2) moves from h to where u takes it.
  T step_channel(Index channel, T D, T u, std::complex<T>* h) noexcept {
    std::copy_n(h, x_.size(), x_.data());
    steps_[static_cast<std::size_t>(channel)](static_cast<double>(u), x_.data());
    const double y = detail::dot_rows(config_.state, &outputs_(channel, 0),
                                      reinterpret_cast<const double*>(x_.data()));
    for (Index n = 0; n < x_.size(); ++n) h[n] = std::complex<T>(x_(n));
    return static_cast<T>(y + static_cast<double>(D) * static_cast<double>(u));
  }

  void make(Index channel) noexcept {
    auto& step = steps_[static_cast<std::size_t>(channel)];
    const double delta = std::exp(static_cast<double>(layer_->log_delta(channel)));
    model_.load(*layer_, channel);
    step.assign(model_.lambda, model_.P, model_.B, delta);
    double* const c = &outputs_(channel, 0);
    for (Index n = 0; n < x_.size(); ++n) {
      c[2 * n] = 2 * static_cast<double>(layer_->C(0, channel, n, 0));
      c[2 * n + 1] = -2 * static_cast<double>(layer_->C(0, channel, n, 1));
    }
    powers_.untruncate(step, config_.length, c);
    if (rate_ != 1) step.assign(model_.lambda, model_.P, model_.B, rate_ * delta);
  }

  S4Config config_;
  Index batch_;
  double rate_;
  const S4<T>* layer_ = nullptr;
  std::vector<DplrStep<double>> steps_;  // (width)
  Tensor<double, 2> outputs_;            // (width, state): 2 Re C, −2 Im C
  Tensor<std::complex<double>, 1> x_;    // (state/2)
  detail::S4ChannelModel model_;
  detail::DplrPowers powers_;
};

/// One step of every sequence on the calling thread; `state` moves on. The result is that of
/// forward with length 1 and the options of the stepper. Allocates nothing. A shape that does not
/// fit ends the program with an error message. To keep steps fast while a state decays to zero, see
/// FlushDenormals.
///
/// Cost: about (6 + 4 rank) · width · state multiply-adds for each sequence.
/// @param input, output (batch, width), may be the same memory
template <class T>
void step(S4Stepper<T>& stepper, const std::type_identity_t<View<const T, 2>>& input,
          S4State<T>& state, const std::type_identity_t<View<T, 2>>& output) noexcept {
  stepper(input, state, output);
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE S4Stepper<float>::S4Stepper(const S4<float>&, Index, const LayerOptions<>&);
SSM_INSTANCE void S4Stepper<float>::update(const S4<float>&);
SSM_INSTANCE void S4Stepper<float>::operator()(const View<const float, 2>&, S4State<float>&,
                                               const View<float, 2>&) noexcept;
SSM_INSTANCE S4Stepper<double>::S4Stepper(const S4<double>&, Index, const LayerOptions<>&);
SSM_INSTANCE void S4Stepper<double>::update(const S4<double>&);
SSM_INSTANCE void S4Stepper<double>::operator()(const View<const double, 2>&, S4State<double>&,
                                                const View<double, 2>&) noexcept;
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
