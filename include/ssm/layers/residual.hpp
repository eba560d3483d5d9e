#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/fields.hpp"
#include "ssm/layers/add.hpp"
#include "ssm/layers/copy_rows.hpp"
#include "ssm/layers/detail/product.hpp"
#include "ssm/layers/detail/rows.hpp"
#include "ssm/layers/layer.hpp"
#include "ssm/layers/rms_norm.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

template <class Layer>
class ResidualStepper;

/// The configuration of a residual block.
template <class Layer>
struct ResidualConfig {
  typename Layer::Config mixer = {};  ///< of the layer inside
  double epsilon = 1e-5;              ///< ε of the norm

  /// The number of channels that it reads and writes.
  [[nodiscard]] constexpr Index width() const noexcept { return width_of(mixer); }
  friend bool operator==(const ResidualConfig&, const ResidualConfig&) = default;
};

/// Calls visit(name, member) for every field of a configuration; see ssm/core/fields.hpp.
template <class Layer, class Visit>
void fields(ResidualConfig<Layer>& c, Visit&& visit) {
  visit("mixer", c.mixer);
  visit("epsilon", c.epsilon);
}

/// What a forward pass of a residual block leaves for backward, and room for both; rows = batch ·
/// length.
template <class Layer>
struct ResidualScratch {
  /// @cond internal
  using T = typename Layer::value_type;
  using Space = typename Layer::space;

  TensorIn<T, 2, Space> normed, mixed;    ///< (rows, width)
  TensorIn<T, 2, Space> dnormed, dmixed;  ///< their gradients
  typename Layer::Scratch mixer;
  RmsNormScratch<T, Space> norm;
  AddScratch<T, Space> add;
  CopyRowsScratch<T, Space> copy;
  DropoutScratch<T, Space> dropout;
  /// @endcond
};

/// Moves the working memory of a scratch, which holds no result of a call, to the scratch of the
/// layer that runs next, so that the layers of a stack share it.
template <class Layer>
void hand_over_room(ResidualScratch<Layer>& from, ResidualScratch<Layer>& to) {
  std::swap(from.mixed, to.mixed);
  std::swap(from.dmixed, to.dmixed);
  std::swap(from.dnormed, to.dnormed);
  detail::hand_over(from.mixer, to.mixer);
}

/// A residual block around any layer, with the norm before the layer (pre-norm):
///
///   output = input + dropout(mixer(rms_norm(input))).
template <class Layer>
struct Residual {
  ///@{
  /// One of the types that every layer names; see SequenceLayer.
  using value_type = typename Layer::value_type;
  using space = typename Layer::space;
  using Config = ResidualConfig<Layer>;
  using State = typename Layer::State;
  using Scratch = ResidualScratch<Layer>;
  using Stepper = ResidualStepper<Layer>;
  using Matrices = detail::MatrixOf<Layer>;
  ///@}

  Config config;                        ///< sizes and fixed choices
  TensorIn<value_type, 1, space> norm;  ///< (width)
  Layer mixer;                          ///< the layer inside

  Residual() = default;
  /// A layer of this configuration, its parameters zero. @throws as the layer inside does
  explicit Residual(const Config& c) : config(c), mixer(c.mixer) { resize_parameters(*this); }
};

/// Calls visit(name, tensor, extents, decay) for every parameter; see ssm/core/parameters.hpp.
template <class Layer, class Visit>
void parameters(Residual<Layer>& layer, Visit&& visit) {
  visit("norm.weight", layer.norm, shape(layer.config.width()), false);
  parameters(layer.mixer, within("mixer.", visit));
}

/// Sets the configuration of a layer, and allocates no parameter.
template <class Layer>
void configure(Residual<Layer>& layer, const typename Residual<Layer>::Config& config) {
  layer.config = config;
  configure(layer.mixer, config.mixer);
}

/// The state of so many sequences before their first step, all zero.
template <class Layer>
[[nodiscard]] StateOf<Layer> make_state(const Residual<Layer>& layer, Index sequences) {
  return make_state(layer.mixer, sequences);
}

/// Initializes the weight of the norm with 1, and the layer inside by draw(mixer, seed).
template <class Layer, std::invocable<Layer&, std::uint64_t> Draw>
void initialize(Residual<Layer>& layer, std::uint64_t seed, const Draw& draw) {
  layer.norm.fill(typename Layer::value_type(1));
  draw(layer.mixer, seed);
}
/// Initializes the weight of the norm with 1, and the layer inside by its own `initialize`.
template <class Layer>
void initialize(Residual<Layer>& layer, std::uint64_t seed, Index depth = 1) {
  initialize(layer, seed, [&](Layer& mixer, std::uint64_t s) { initialize(mixer, s, depth); });
}

/// Runs a residual block over sequences. Cost: that of the layer inside, and a few passes over the
/// sequences.
/// @param input, output (batch, length, width), rows evenly spaced; may be the same memory
/// @throws as the layer inside does
template <class Backend, class Layer>
void forward(const Backend& backend, const Residual<Layer>& layer,
             const InputOf<Residual<Layer>>& input, Maybe<StateOf<Residual<Layer>>> state,
             const OutputOf<Residual<Layer>>& output, const OptionsOf<Residual<Layer>>& options,
             ScratchOf<Residual<Layer>>& scratch) {
  constexpr std::string_view function = "forward of Residual";
  detail::check_layer_call(function, layer, input, output, options);
  detail::check_same_or_apart(function, "output", output, "input", input);
  const auto x = detail::merge_rows(function, "input", input);
  const auto y = detail::merge_rows(function, "output", output);
  const Index width = layer.config.width();
  resize(backend, scratch.normed, {x.extent(0), width});
  resize(backend, scratch.mixed, {x.extent(0), width});
  rms_norm(backend, {x, layer.norm}, {.epsilon = layer.config.epsilon}, {scratch.normed},
           scratch.norm);
  auto inner = options;
  inner.dropout = options.dropout.of(0);
  forward(backend, layer.mixer,
          InputOf<Layer>(std::as_const(scratch.normed).data(), input.extents()), state,
          OutputOf<Layer>(scratch.mixed.data(), input.extents()), inner, scratch.mixer);
  dropout(backend, {scratch.mixed}, options.dropout.of(1), {scratch.mixed}, scratch.dropout);
  add(backend, {x, scratch.mixed}, {}, {y}, scratch.add);
}

/// The gradients of a residual block.
/// @param input as forward read it, which forward must not have overwritten
/// @param dinput may be the memory of doutput
/// @throws as the layer inside does
template <class Backend, class Layer>
void backward(const Backend& backend, const Residual<Layer>& layer,
              const InputOf<Residual<Layer>>& input, Maybe<StateOf<Residual<Layer>>> dstate,
              const InputOf<Residual<Layer>>& doutput, const OutputOf<Residual<Layer>>& dinput,
              std::type_identity_t<Residual<Layer>>& gradients,
              const OptionsOf<Residual<Layer>>& options, ScratchOf<Residual<Layer>>& scratch) {
  constexpr std::string_view function = "backward of Residual";
  detail::check_layer_call(function, layer, input, dinput, options);
  detail::check_shape(function, "doutput", doutput, input.extents());
  detail::check_no_overlap(function, "dinput", dinput, "input", input);
  detail::check_same_or_apart(function, "dinput", dinput, "doutput", doutput);
  const auto x = detail::merge_rows(function, "input", input);
  const auto dy = detail::merge_rows(function, "doutput", doutput);
  const auto dx = detail::merge_rows(function, "dinput", dinput);
  const Index width = layer.config.width();
  resize_gradients(backend, layer, gradients);
  resize(backend, scratch.dmixed, {x.extent(0), width});
  resize(backend, scratch.dnormed, {x.extent(0), width});
  copy_rows(backend, {dy}, {}, {scratch.dmixed}, scratch.copy);
  dropout(backend, {scratch.dmixed}, options.dropout.of(1), {scratch.dmixed}, scratch.dropout);
  auto inner = options;
  inner.dropout = options.dropout.of(0);
  backward(backend, layer.mixer,
           InputOf<Layer>(std::as_const(scratch.normed).data(), input.extents()), dstate,
           InputOf<Layer>(std::as_const(scratch.dmixed).data(), input.extents()),
           OutputOf<Layer>(scratch.dnormed.data(), input.extents()), gradients.mixer, inner,
           scratch.mixer);
  copy_rows(backend, {dy}, {}, {dx}, scratch.copy);
  rms_norm_backward(backend, {x, layer.norm},
                    {.epsilon = layer.config.epsilon, .write = Write::accumulate},
                    {scratch.dnormed}, {dx, gradients.norm}, scratch.norm);
}

/// Runs a residual block step by step. It refers to the layer, which must outlive it.
template <class Layer>
class ResidualStepper {
  using T = typename Layer::value_type;

 public:
  /// Makes `layer` ready to step `batch` sequences at once.
  explicit ResidualStepper(const Residual<Layer>& layer, Index batch = 1,
                           const LayerOptions<>& options = {})
      : layer_(&layer),
        mixer_(layer.mixer, batch, options),
        normed_({batch, layer.config.width()}),
        mixed_(normed_.extents()) {}
  ResidualStepper(const Residual<Layer>&&, Index = 1, const LayerOptions<>& = {}) = delete;

  /// Takes over weights that have changed. @throws ShapeError for weights of other shapes
  void update(const Residual<Layer>& layer) {
    mixer_.update(layer.mixer);
    layer_ = &layer;
  }

  /// One step of every sequence of the batch on the calling thread, without dropout.
  /// @param input, output (batch, width), rows contiguous; may be the same memory
  friend void step(ResidualStepper& stepper, const std::type_identity_t<View<const T, 2>>& input,
                   StateOf<Layer>& state, const std::type_identity_t<View<T, 2>>& output) noexcept {
    stepper.advance(Cpu{1}, input, state, output);
  }
  /// The same on the threads of a backend, as far as the layer inside uses them.
  friend void step(const Cpu& backend, ResidualStepper& stepper,
                   const std::type_identity_t<View<const T, 2>>& input, StateOf<Layer>& state,
                   const std::type_identity_t<View<T, 2>>& output) noexcept {
    stepper.advance(backend, input, state, output);
  }

 private:
  void advance(const Cpu& backend, const View<const T, 2>& input, StateOf<Layer>& state,
               const View<T, 2>& output) noexcept {
    detail::check_or_terminate([&] {
      detail::check_shape("step of Residual", "input", input, normed_.extents());
      detail::check_shape("step of Residual", "output", output, normed_.extents());
    });
    rms_norm_step(RmsNormInputs<T>{input, layer_->norm}, {.epsilon = layer_->config.epsilon},
                  normed_);
    detail::step_on(backend, mixer_, normed_, state, mixed_);
    add_step(AddInputs<T>{input, mixed_}, {}, output);
  }

  const Residual<Layer>* layer_;
  StepperOf<Layer> mixer_;
  Tensor<T, 2> normed_, mixed_;
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
