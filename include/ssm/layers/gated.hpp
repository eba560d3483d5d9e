#pragma once

#include <cmath>
#include <concepts>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/fields.hpp"
#include "ssm/layers/detail/initial_draws.hpp"
#include "ssm/layers/detail/product.hpp"
#include "ssm/layers/detail/rows.hpp"
#include "ssm/layers/gelu_glu.hpp"
#include "ssm/layers/layer.hpp"
#include "ssm/layers/linear.hpp"
#include "ssm/layers/residual.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

template <class Layer, class Matrix>
class GatedStepper;

/// The configuration of a gated layer.
template <class Layer>
struct GatedConfig {
  typename Layer::Config mixer = {};  ///< of the layer inside

  /// The number of channels that it reads and writes.
  [[nodiscard]] constexpr Index width() const noexcept { return width_of(mixer); }
  friend bool operator==(const GatedConfig&, const GatedConfig&) = default;
};

/// Calls visit(name, member) for every field of a configuration; see ssm/core/fields.hpp.
template <class Layer, class Visit>
void fields(GatedConfig<Layer>& c, Visit&& visit) {
  visit("mixer", c.mixer);
}

/// What a forward pass of a gated layer leaves for backward, and room for both; rows = batch ·
/// length.
template <class Layer>
struct GatedScratch {
  /// @cond internal
  using T = typename Layer::value_type;
  using Space = typename Layer::space;

  typename Layer::Scratch mixer;
  TensorIn<T, 2, Space> mixed;       ///< (rows, width): output of the mixer
  TensorIn<T, 2, Space> activated;   ///< (rows, width): after GELU and dropout
  TensorIn<T, 2, Space> projected;   ///< (rows, 2 · width)
  TensorIn<T, 2, Space> drows;       ///< (rows, width): gradients
  TensorIn<T, 2, Space> dprojected;  ///< (rows, 2 · width)
  LinearScratch<T, Space> linear;
  GeluScratch<T, Space> gelu;
  GluScratch<T, Space> glu;
  DropoutScratch<T, Space> dropout;
  /// @endcond
};

/// Moves the working memory of a scratch, which holds no result of a call, to the scratch of the
/// layer that runs next, so that the layers of a stack share it.
template <class Layer>
void hand_over_room(GatedScratch<Layer>& from, GatedScratch<Layer>& to) {
  std::swap(from.drows, to.drows);
  std::swap(from.dprojected, to.dprojected);
  std::swap(from.linear, to.linear);
  detail::hand_over(from.mixer, to.mixer);
}

/// A layer followed by the gate of S4 (Gu, Goel & Ré 2022, appendix, and the code of the authors),
/// which mixes the channels that the layer keeps apart:
///
///   output = glu(weight · dropout(gelu(mixer(input))) + bias),  glu([a, b]) = a σ(b).
template <class Layer,
          class Matrix = TensorIn<typename Layer::value_type, 2, typename Layer::space>>
struct Gated {
  ///@{
  /// One of the types that every layer names; see SequenceLayer.
  using value_type = typename Layer::value_type;
  using space = typename Layer::space;
  using Config = GatedConfig<Layer>;
  using State = typename Layer::State;
  using Scratch = GatedScratch<Layer>;
  using Stepper = GatedStepper<Layer, Matrix>;
  ///@}

  Config config;                        ///< sizes and fixed choices
  Layer mixer;                          ///< the layer inside
  Matrix weight;                        ///< (2 · width, width)
  TensorIn<value_type, 1, space> bias;  ///< (2 · width)

  Gated() = default;
  /// A layer of this configuration, its parameters zero. @throws as the layer inside does
  explicit Gated(const Config& c) : config(c), mixer(c.mixer) { resize_parameters(*this); }
};

/// The block of S4: a residual block around a gated layer.
template <class Layer>
using S4Block = Residual<Gated<Layer>>;

/// Calls visit(name, tensor, extents, decay) for every parameter; see ssm/core/parameters.hpp.
template <class Layer, class Matrix, class Visit>
void parameters(Gated<Layer, Matrix>& layer, Visit&& visit) {
  const Index width = layer.config.width();
  parameters(layer.mixer, visit);
  visit("glu.weight", layer.weight, shape(2 * width, width), true);
  visit("glu.bias", layer.bias, shape(2 * width), false);
}

/// Sets the configuration of a layer, and allocates no parameter.
template <class Layer, class Matrix>
void configure(Gated<Layer, Matrix>& layer, const typename Gated<Layer, Matrix>::Config& config) {
  layer.config = config;
  configure(layer.mixer, config.mixer);
}

/// The state of so many sequences before their first step, all zero.
template <class Layer, class Matrix>
[[nodiscard]] StateOf<Layer> make_state(const Gated<Layer, Matrix>& layer, Index sequences) {
  return make_state(layer.mixer, sequences);
}

/// Initializes the layer inside by draw(mixer, seed), the projection uniform in ±1/√width, and the
/// bias zero.
template <class Layer, std::invocable<Layer&, std::uint64_t> Draw>
void initialize(Gated<Layer>& layer, std::uint64_t seed, const Draw& draw) {
  draw(layer.mixer, seed);
  detail::InitialDraws(~seed).uniform(layer.weight,
                                      1 / std::sqrt(static_cast<double>(layer.config.width())));
  layer.bias.fill(typename Layer::value_type(0));
}
/// Initializes the layer inside by its own `initialize`, the projection uniform in ±1/√width, and
/// the bias zero.
template <class Layer>
void initialize(Gated<Layer>& layer, std::uint64_t seed, Index depth = 1) {
  initialize(layer, seed, [&](Layer& mixer, std::uint64_t s) { initialize(mixer, s, depth); });
}

/// Runs a gated layer over sequences. Cost of a step: that of the layer inside, and 2 · width²
/// multiply-adds.
/// @param input, output (batch, length, width), rows evenly spaced
/// @throws as the layer inside does
template <class Backend, class Layer, class Matrix>
void forward(const Backend& backend, const Gated<Layer, Matrix>& layer,
             const InputOf<Gated<Layer, Matrix>>& input, Maybe<StateOf<Gated<Layer, Matrix>>> state,
             const OutputOf<Gated<Layer, Matrix>>& output,
             const OptionsOf<Gated<Layer, Matrix>>& options,
             ScratchOf<Gated<Layer, Matrix>>& scratch) {
  using T = typename Layer::value_type;
  using Space = typename Layer::space;
  constexpr std::string_view function = "forward of Gated";
  detail::check_layer_call(function, layer, input, output, options);
  const Index rows = input.extent(0) * input.extent(1), width = layer.config.width();
  const auto y = detail::merge_rows(function, "output", output);
  resize(backend, scratch.mixed, {rows, width});
  resize(backend, scratch.activated, {rows, width});
  resize(backend, scratch.projected, {rows, 2 * width});
  auto inner = options;
  inner.dropout = options.dropout.of(0);
  forward(backend, layer.mixer, input, state,
          OutputOf<Layer>(scratch.mixed.data(), input.extents()), inner, scratch.mixer);
  gelu(backend, {scratch.mixed}, {}, {scratch.activated}, scratch.gelu);
  dropout(backend, {scratch.activated}, options.dropout.of(1), {scratch.activated},
          scratch.dropout);
  linear(backend, detail::product<T, Space>(scratch.activated, layer.weight, layer.bias), {},
         {scratch.projected}, scratch.linear);
  glu(backend, {scratch.projected}, {}, {y}, scratch.glu);
}

/// The gradients of a gated layer. @throws as the layer inside does
template <class Backend, class Layer, class Matrix>
void backward(const Backend& backend, const Gated<Layer, Matrix>& layer,
              const InputOf<Gated<Layer, Matrix>>& input,
              Maybe<StateOf<Gated<Layer, Matrix>>> dstate,
              const InputOf<Gated<Layer, Matrix>>& doutput,
              const OutputOf<Gated<Layer, Matrix>>& dinput,
              std::type_identity_t<Gated<Layer, Matrix>>& gradients,
              const OptionsOf<Gated<Layer, Matrix>>& options,
              ScratchOf<Gated<Layer, Matrix>>& scratch) {
  using T = typename Layer::value_type;
  using Space = typename Layer::space;
  constexpr std::string_view function = "backward of Gated";
  detail::check_layer_call(function, layer, input, dinput, options);
  detail::check_shape(function, "doutput", doutput, input.extents());
  const Index rows = input.extent(0) * input.extent(1), width = layer.config.width();
  const auto dy = detail::merge_rows(function, "doutput", doutput);
  detail::check_shape(function, "scratch", scratch.projected, shape(rows, 2 * width));
  resize_gradients(backend, layer, gradients);
  resize(backend, scratch.drows, {rows, width});
  resize(backend, scratch.dprojected, {rows, 2 * width});
  glu_backward(backend, {scratch.projected}, {}, {dy}, {scratch.dprojected}, scratch.glu);
  linear_backward(backend, detail::product<T, Space>(scratch.activated, layer.weight, layer.bias),
                  {}, {scratch.dprojected}, {scratch.drows, gradients.weight, gradients.bias},
                  scratch.linear);
  dropout(backend, {scratch.drows}, options.dropout.of(1), {scratch.drows}, scratch.dropout);
  gelu_backward(backend, {scratch.mixed}, {}, {scratch.drows}, {scratch.drows}, scratch.gelu);
  auto inner = options;
  inner.dropout = options.dropout.of(0);
  backward(backend, layer.mixer, input, dstate,
           InputOf<Layer>(std::as_const(scratch.drows).data(), input.extents()), dinput,
           gradients.mixer, inner, scratch.mixer);
}

/// Runs a gated layer step by step. It refers to the layer, which must outlive it.
template <class Layer, class Matrix>
class GatedStepper {
  using T = typename Layer::value_type;

 public:
  /// Makes `layer` ready to step `batch` sequences at once.
  explicit GatedStepper(const Gated<Layer, Matrix>& layer, Index batch = 1,
                        const LayerOptions<>& options = {})
      : layer_(&layer),
        mixer_(layer.mixer, batch, options),
        mixed_({batch, layer.config.width()}),
        projected_({batch, 2 * layer.config.width()}) {}
  GatedStepper(const Gated<Layer, Matrix>&&, Index = 1, const LayerOptions<>& = {}) = delete;

  /// Takes over weights that have changed. @throws ShapeError for weights of other shapes
  void update(const Gated<Layer, Matrix>& layer) {
    mixer_.update(layer.mixer);
    layer_ = &layer;
  }

  /// One step of every sequence of the batch on the calling thread, without dropout.
  friend void step(GatedStepper& stepper, const std::type_identity_t<View<const T, 2>>& input,
                   StateOf<Layer>& state, const std::type_identity_t<View<T, 2>>& output) noexcept {
    stepper.advance(input, state, output);
  }

 private:
  void advance(const View<const T, 2>& input, StateOf<Layer>& state,
               const View<T, 2>& output) noexcept {
    detail::check_or_terminate([&] {
      detail::check_shape("step of Gated", "input", input, mixed_.extents());
      detail::check_shape("step of Gated", "output", output, mixed_.extents());
    });
    step(mixer_, input, state, mixed_);
    gelu_step(GeluInputs<T>{mixed_}, {}, mixed_.view());
    linear_step(detail::product<T, Host>(mixed_, layer_->weight, layer_->bias), {},
                projected_.view());
    glu_step(GluInputs<T>{projected_}, {}, output);
  }

  const Gated<Layer, Matrix>* layer_;
  StepperOf<Layer> mixer_;
  Tensor<T, 2> mixed_, projected_;
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
