#pragma once

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/layer.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// A stepper for any layer: a step is a forward pass of length 1 on the calling thread. It owns the
/// scratch of that pass, and refers to the layer, which must outlive it.
template <class L>
class StepByForward {
 public:
  using T = typename L::value_type;  ///< type of an element

  /// Makes `layer` ready to step `batch` sequences at once.
  /// @throws what forward throws, and DomainError for sequences that are packed or run backward
  StepByForward(const L& layer, Index batch, const OptionsOf<L>& options) : batch_(batch) {
    detail::check_step_options("StepByForward", options);
    options_.rate = options.rate;
    options_.keep = false;
    update(layer);
    // All room is made by a step of zeros.
    auto state = make_state(layer, batch);
    const Tensor<T, 3> input({batch, 1, width_of(layer.config)});
    Tensor<T, 3> output(input.extents());
    forward(cpu(1), layer, InputOf<L>(input), Maybe<StateOf<L>>(state), OutputOf<L>(output),
            options_, scratch_);
  }
  StepByForward(const L&&, Index, const OptionsOf<L>&) = delete;

  /// Takes over the weights of `layer`, which has the configuration of the layer before.
  void update(const L& layer) noexcept { layer_ = &layer; }
  void update(const L&&) = delete;

  /// One step of every sequence; `state` moves on. It allocates nothing if the layer's forward pass
  /// allocates nothing once its scratch is large enough. A shape that does not fit ends the program
  /// with an error message.
  /// @param input, output (batch, width)
  void operator()(const View<const T, 2>& input, StateOf<L>& state,
                  const View<T, 2>& output) noexcept {
    detail::check_or_terminate([&] {
      detail::check_step_call("step", *layer_, batch_, input, output);
      forward(cpu(1), *layer_, one_step(input), Maybe<StateOf<L>>(state), one_step(output),
              options_, scratch_);
    });
  }

 private:
  /// (batch, width) as (batch, 1, width).
  template <class U>
  [[nodiscard]] static View<U, 3> one_step(const View<U, 2>& row) noexcept {
    return {row.data(),
            {row.extent(0), 1, row.extent(1)},
            {row.stride(0), row.extent(1) * row.stride(1), row.stride(1)}};
  }

  const L* layer_ = nullptr;
  Index batch_;
  OptionsOf<L> options_ = {};
  ScratchOf<L> scratch_;
};

/// One step of every sequence, by a forward pass of length 1; see StepByForward.
template <class L>
void step(StepByForward<L>& stepper,
          const std::type_identity_t<View<const typename L::value_type, 2>>& input,
          StateOf<L>& state,
          const std::type_identity_t<View<typename L::value_type, 2>>& output) noexcept {
  stepper(input, state, output);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
