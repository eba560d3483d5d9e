#pragma once

#include <type_traits>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/parameters.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/attention.hpp"
#include "ssm/layers/causal_attention.hpp"
#include "ssm/layers/detail/product.hpp"
#include "ssm/layers/layer.hpp"
#include "ssm/layers/linear.hpp"
#include "ssm/layers/rotary.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// Runs an attention layer step by step. It holds memory for a batch, and refers to the layer,
/// which must outlive it. After the weights have changed, call update.
template <class T, class Matrix>
class AttentionStepper {
 public:
  /// Makes `layer` ready to step `batch` sequences at once.
  /// @throws ShapeError, and DomainError for options that a single step does not support
  explicit AttentionStepper(const Attention<T, Matrix>& layer, Index batch = 1,
                            const LayerOptions<>& options = {})
      : config_(layer.config),
        q_({batch, layer.config.heads, layer.config.size()}),
        k_({batch, layer.config.key_heads(), layer.config.size()}),
        v_(k_.extents()),
        y_(q_.extents()) {
    detail::check_no_rate("AttentionStepper", options);
    detail::check_step_options("AttentionStepper", options);
    update(layer);
  }
  AttentionStepper(const Attention<T, Matrix>&&, Index = 1, const LayerOptions<>& = {}) = delete;

  /// Takes over weights that have changed. @throws ShapeError for weights of other shapes
  void update(const Attention<T, Matrix>& layer) {
    detail::check_parameters("AttentionStepper", layer);
    if (!(layer.config == config_))
      detail::throw_shape("AttentionStepper", "layer", "of another configuration",
                          "that of the first");
    layer_ = &layer;
  }

  /// One step of every sequence of the batch, on the calling thread: `state` moves on, nothing is
  /// allocated. A shape that does not fit ends the program with an error message, and so does,
  /// without a window, a state whose capacity is used up.
  /// @param input, output (batch, width), rows contiguous
  friend void step(AttentionStepper& stepper, const std::type_identity_t<View<const T, 2>>& input,
                   AttentionState<T>& state,
                   const std::type_identity_t<View<T, 2>>& output) noexcept {
    stepper.advance(Cpu{1}, input, state, output);
  }
  /// The same with the products cut over the threads of a backend.
  friend void step(const Cpu& backend, AttentionStepper& stepper,
                   const std::type_identity_t<View<const T, 2>>& input, AttentionState<T>& state,
                   const std::type_identity_t<View<T, 2>>& output) noexcept {
    stepper.advance(backend, input, state, output);
  }

 private:
  /// (batch, heads, head_size) as (batch, heads · head_size).
  [[nodiscard]] static View<T, 2> rows(Tensor<T, 3>& heads) noexcept {
    return {heads.data(), {heads.extent(0), heads.extent(1) * heads.extent(2)}};
  }

  void advance(const Cpu& backend, const View<const T, 2>& input, AttentionState<T>& state,
               const View<T, 2>& output) noexcept {
    const Attention<T, Matrix>& layer = *layer_;
    const AttentionConfig& c = layer.config;
    const Index batch = q_.extent(0);
    detail::check_or_terminate([&] {
      constexpr std::string_view function = "step of Attention";
      detail::check_step_call(function, layer, batch, input, output);
      detail::check_attention_state<T, Host>(function, c, batch, "state", state);
    });
    linear_step(backend, detail::product<T, Host>(input, layer.q_proj), {}, rows(q_));
    linear_step(backend, detail::product<T, Host>(input, layer.k_proj), {}, rows(k_));
    linear_step(backend, detail::product<T, Host>(input, layer.v_proj), {}, rows(v_));
    if (c.rotary > 0) {
      const RotaryOptions options{.base = c.rotary};
      rotary_step(RotaryStepInputs<T>{q_, state.steps}, options, q_.view());
      rotary_step(RotaryStepInputs<T>{k_, state.steps}, options, k_.view());
    }
    causal_attention_step(CausalAttentionStepInputs<T>{q_, k_, v_}, {.window = c.window},
                          {state.k.view(), state.v.view(), state.steps.view()}, y_.view());
    linear_step(backend, detail::product<T, Host>(rows(y_), layer.o_proj), {}, output);
  }

  const Attention<T, Matrix>* layer_ = nullptr;
  AttentionConfig config_;
  Tensor<T, 3> q_, k_, v_, y_;
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
