#pragma once

#include <array>
#include <complex>
#include <string_view>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/detail/two_directions.hpp"
#include "ssm/layers/layer.hpp"
#include "ssm/layers/linear.hpp"
#include "ssm/layers/s5_weights.hpp"
#include "ssm/layers/sample_modes.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// The modes of S5, each a group of its own as each has a Δ.
template <class T, class Space>
SampleModesInputs<T, Space> s5_modes_of(const S5<T, Space>& layer) noexcept {
  const Index modes = layer.config.modes();
  return {{layer.log_decay.data(), {modes, 1}},
          {layer.frequency.data(), {modes, 1}},
          layer.log_delta,
          {}};
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// Runs an S5 layer step by step. It holds the sampled modes and scratch memory, and refers to the
/// layer, whose B, C and D it reads and which must outlive it.
template <class T>
class S5Stepper {
 public:
  /// Makes `layer` ready to step `batch` sequences at once.
  /// @throws ShapeError; DomainError for a bidirectional layer, for sequences that are packed or
  ///   run backward, and for a rate that is not above 0 and finite
  S5Stepper(const S5<T>& layer, Index batch, const LayerOptions<>& options = {})
      : config_(layer.config), batch_(batch), rate_(options.rate) {
    constexpr std::string_view function = "S5Stepper";
    detail::check_s5_config(function, config_);
    detail::check_one_direction(function, config_);
    detail::check_step_options(function, options);
    detail::check_rate(function, rate_);
    a_bar_.resize({config_.modes(), 1});
    factor_.resize({config_.modes(), 1});
    states_.resize({config_.state});
    update(layer);
  }
  S5Stepper(const S5<T>&&, Index, const LayerOptions<>& = {}) = delete;

  /// Takes over the weights of `layer` after they have changed. Its configuration is that of the
  /// layer before. Allocates nothing. @throws ShapeError for another configuration
  void update(const S5<T>& layer) {
    constexpr std::string_view function = "S5Stepper";
    if (!(layer.config == config_))
      detail::throw_shape(function, "layer", "of another configuration", "that of the first");
    detail::check_parameters(function, layer);
    SampleModesScratch<T> scratch;
    sample_modes(cpu(1), detail::s5_modes_of(layer), {rate_, config_.method, 0},
                 {.a_bar = a_bar_, .b_bar = factor_}, scratch);
    layer_ = &layer;
  }
  void update(const S5<T>&&) = delete;

  /// How many sequences step at once.
  [[nodiscard]] Index batch() const noexcept { return batch_; }

  /// One step of every sequence; see step.
  void operator()(const View<const T, 2>& input, S5State<T>& state,
                  const View<T, 2>& output) noexcept {
    const S5<T>& layer = *layer_;
    const Index width = config_.width, modes = config_.modes();
    detail::check_or_terminate([&] {
      constexpr std::string_view function = "S5 step";
      const std::array<Index, 2> extents{batch_, width};
      detail::check_shape(function, "input", input, extents);
      detail::check_shape(function, "output", output, extents);
      detail::check_adjacent(function, "input", input);
      detail::check_adjacent(function, "output", output);
      detail::check_shape(function, "state", state.x, std::array<Index, 2>{batch_, modes});
      detail::check_shape(function, "B", layer.B, std::array<Index, 3>{modes, 2, width});
      detail::check_shape(function, "C", layer.C, std::array<Index, 3>{width, modes, 2});
      detail::check_shape(function, "D", layer.D, std::array<Index, 1>{width});
    });
    const View<const T, 2> B(layer.B.data(), {config_.state, width});
    const View<const T, 2> C(layer.C.data(), {width, config_.state});
    T* const states = states_.data();
    for (Index b = 0; b < batch_; ++b) {
      const T* const u = detail::at(input, b, 0);
      detail::multiply_vector<T>(B, u, states, Write::overwrite);
      for (Index n = 0; n < modes; ++n) {
        std::complex<T>& x = state.x(b, n);
        x = a_bar_(n, 0) * x + factor_(n, 0) * std::complex<T>(states[2 * n], states[2 * n + 1]);
        states[2 * n] = T(2) * x.real();
        states[2 * n + 1] = T(-2) * x.imag();
      }
      T* const y = detail::at(output, b, 0);
      for (Index c = 0; c < width; ++c) y[c] = layer.D(c) * u[c];
      detail::multiply_vector<T>(C, states, y, Write::accumulate);
    }
  }

 private:
  S5Config config_;
  Index batch_;
  double rate_;
  const S5<T>* layer_ = nullptr;
  Tensor<std::complex<T>, 2> a_bar_, factor_;  // (state/2, 1): ā, and B̄ = factor · B
  Tensor<T, 1> states_;                        // (state): B u, then [2 Re x, −2 Im x]
};

/// One step of every sequence on the calling thread; `state` moves on. The result is that of
/// forward with length 1 and the options of the stepper. Allocates nothing. A shape that does not
/// fit ends the program with an error message. To keep steps fast while a state decays to zero, see
/// FlushDenormals.
///
/// Cost: 2 · width · state multiply-adds for each sequence.
/// @param input, output (batch, width), rows contiguous; may be the same memory
template <class T>
void step(S5Stepper<T>& stepper, const std::type_identity_t<View<const T, 2>>& input,
          S5State<T>& state, const std::type_identity_t<View<T, 2>>& output) noexcept {
  stepper(input, state, output);
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE S5Stepper<float>::S5Stepper(const S5<float>&, Index, const LayerOptions<>&);
SSM_INSTANCE void S5Stepper<float>::update(const S5<float>&);
SSM_INSTANCE void S5Stepper<float>::operator()(const View<const float, 2>&, S5State<float>&,
                                               const View<float, 2>&) noexcept;
SSM_INSTANCE S5Stepper<double>::S5Stepper(const S5<double>&, Index, const LayerOptions<>&);
SSM_INSTANCE void S5Stepper<double>::update(const S5<double>&);
SSM_INSTANCE void S5Stepper<double>::operator()(const View<const double, 2>&, S5State<double>&,
                                                const View<double, 2>&) noexcept;
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
