#pragma once

#include <array>
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
#include "ssm/layers/layer.hpp"
#include "ssm/layers/linear.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

template <class Layer>
class ProjectedStepper;

/// The configuration of a layer between two linear maps.
template <class Layer>
struct ProjectedConfig {
  Index width = 1;                    ///< channels that are read and written: 1 for a mono signal
  typename Layer::Config inner = {};  ///< of the layer inside

  friend bool operator==(const ProjectedConfig&, const ProjectedConfig&) = default;
};

/// Calls visit(name, member) for every field of a configuration; see ssm/core/fields.hpp.
template <class Layer, class Visit>
void fields(ProjectedConfig<Layer>& c, Visit&& visit) {
  visit("width", c.width);
  visit("inner", c.inner);
}

/// What a forward pass of a projected layer leaves for backward, and room for both.
template <class Layer>
struct ProjectedScratch {
  /// @cond internal
  using T = typename Layer::value_type;
  using Space = typename Layer::space;

  TensorIn<T, 3, Space> encoded, mixed;    ///< (batch, length, inner width)
  TensorIn<T, 3, Space> dencoded, dmixed;  ///< their gradients
  typename Layer::Scratch inner;
  LinearScratch<T, Space> linear;
  /// @endcond
};

/// A layer or a stack between two linear maps, so that it has few channels outside and many inside:
///
///   output = decoder · inner(encoder · input + encoder_bias) + decoder_bias
///
/// A signal of one channel that goes through a stack of blocks is a `Projected<Stack<...>>`.
template <class Layer>
struct Projected {
  ///@{
  /// One of the types that every layer names; see SequenceLayer.
  using value_type = typename Layer::value_type;
  using space = typename Layer::space;
  using Config = ProjectedConfig<Layer>;
  using State = typename Layer::State;
  using Scratch = ProjectedScratch<Layer>;
  using Stepper = ProjectedStepper<Layer>;
  ///@}

  Config config;                                ///< sizes and fixed choices
  TensorIn<value_type, 2, space> encoder;       ///< (inner width, width)
  TensorIn<value_type, 1, space> encoder_bias;  ///< (inner width)
  Layer inner;                                  ///< the layer inside
  TensorIn<value_type, 2, space> decoder;       ///< (width, inner width)
  TensorIn<value_type, 1, space> decoder_bias;  ///< (width)

  Projected() = default;
  /// A layer of this configuration, its parameters zero. @throws as the layer inside does
  explicit Projected(const Config& c) : config(c), inner(c.inner) { resize_parameters(*this); }
};

/// Calls visit(name, tensor, extents, decay) for every parameter; see ssm/core/parameters.hpp.
template <class Layer, class Visit>
void parameters(Projected<Layer>& layer, Visit&& visit) {
  const Index outside = layer.config.width, inside = width_of(layer.config.inner);
  visit("encoder.weight", layer.encoder, shape(inside, outside), true);
  visit("encoder.bias", layer.encoder_bias, shape(inside), false);
  parameters(layer.inner, visit);
  visit("decoder.weight", layer.decoder, shape(outside, inside), true);
  visit("decoder.bias", layer.decoder_bias, shape(outside), false);
}

/// Sets the configuration of a layer, and allocates no parameter.
template <class Layer>
void configure(Projected<Layer>& layer, const typename Projected<Layer>::Config& config) {
  layer.config = config;
  configure(layer.inner, config.inner);
}

/// The state of so many sequences before their first step, all zero.
template <class Layer>
[[nodiscard]] StateOf<Layer> make_state(const Projected<Layer>& layer, Index sequences) {
  return make_state(layer.inner, sequences);
}

/// Initializes the layer inside by its own `initialize`, the maps and encoder_bias uniform in
/// ±1/√(number of inputs of the map), and decoder_bias zero.
template <class Layer>
void initialize(Projected<Layer>& layer, std::uint64_t seed, Index depth = 1) {
  detail::InitialDraws draws(seed);
  const auto bound = [](Index n) { return 1 / std::sqrt(static_cast<double>(n > 0 ? n : 1)); };
  draws.uniform(layer.encoder, bound(layer.config.width));
  draws.uniform(layer.encoder_bias, bound(layer.config.width));
  draws.uniform(layer.decoder, bound(width_of(layer.config.inner)));
  layer.decoder_bias.fill(typename Layer::value_type(0));
  initialize(layer.inner, ~seed, depth);
}

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

template <class Layer>
[[nodiscard]] std::array<Index, 3> inner_extents(const Projected<Layer>& layer,
                                                 const InputOf<Layer>& input) noexcept {
  return {input.extent(0), input.extent(1), width_of(layer.config.inner)};
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// Runs a projected layer over sequences. @throws as the layer inside does
template <class Backend, class Layer>
void forward(const Backend& backend, const Projected<Layer>& layer,
             const InputOf<Projected<Layer>>& input, Maybe<StateOf<Projected<Layer>>> state,
             const OutputOf<Projected<Layer>>& output, const OptionsOf<Projected<Layer>>& options,
             ScratchOf<Projected<Layer>>& scratch) {
  using T = typename Layer::value_type;
  using Space = typename Layer::space;
  constexpr std::string_view function = "forward of Projected";
  detail::check_layer_call(function, layer, input, output, options);
  const auto extents = detail::inner_extents(layer, input);
  resize(backend, scratch.encoded, extents);
  resize(backend, scratch.mixed, extents);
  const auto rows = [&](const auto& view) { return detail::merge_rows(function, "rows", view); };
  linear(backend, detail::product<T, Space>(rows(input), layer.encoder, layer.encoder_bias), {},
         {rows(scratch.encoded.view())}, scratch.linear);
  forward(backend, layer.inner, std::as_const(scratch.encoded), state, scratch.mixed, options,
          scratch.inner);
  linear(backend,
         detail::product<T, Space>(rows(std::as_const(scratch.mixed).view()), layer.decoder,
                                   layer.decoder_bias),
         {}, {rows(output)}, scratch.linear);
}

/// The gradients of a projected layer. @throws as the layer inside does
template <class Backend, class Layer>
void backward(const Backend& backend, const Projected<Layer>& layer,
              const InputOf<Projected<Layer>>& input, Maybe<StateOf<Projected<Layer>>> dstate,
              const InputOf<Projected<Layer>>& doutput, const OutputOf<Projected<Layer>>& dinput,
              std::type_identity_t<Projected<Layer>>& gradients,
              const OptionsOf<Projected<Layer>>& options, ScratchOf<Projected<Layer>>& scratch) {
  using T = typename Layer::value_type;
  using Space = typename Layer::space;
  constexpr std::string_view function = "backward of Projected";
  detail::check_layer_call(function, layer, input, dinput, options);
  detail::check_shape(function, "doutput", doutput, input.extents());
  const auto extents = detail::inner_extents(layer, input);
  detail::check_shape(function, "scratch", scratch.mixed, extents);
  resize_gradients(backend, layer, gradients);
  resize(backend, scratch.dencoded, extents);
  resize(backend, scratch.dmixed, extents);
  const auto rows = [&](const auto& view) { return detail::merge_rows(function, "rows", view); };
  linear_backward(backend,
                  detail::product<T, Space>(rows(std::as_const(scratch.mixed).view()),
                                            layer.decoder, layer.decoder_bias),
                  {}, {rows(doutput)},
                  {rows(scratch.dmixed.view()), gradients.decoder, gradients.decoder_bias},
                  scratch.linear);
  backward(backend, layer.inner, std::as_const(scratch.encoded), dstate,
           std::as_const(scratch.dmixed), scratch.dencoded, gradients.inner, options,
           scratch.inner);
  linear_backward(backend,
                  detail::product<T, Space>(rows(input), layer.encoder, layer.encoder_bias), {},
                  {rows(std::as_const(scratch.dencoded).view())},
                  {rows(dinput), gradients.encoder, gradients.encoder_bias}, scratch.linear);
}

/// Runs a projected layer step by step. It refers to the layer, which must outlive it.
template <class Layer>
class ProjectedStepper {
  using T = typename Layer::value_type;

 public:
  /// Makes `layer` ready to step `batch` sequences at once.
  explicit ProjectedStepper(const Projected<Layer>& layer, Index batch = 1,
                            const LayerOptions<>& options = {})
      : layer_(&layer),
        inner_(layer.inner, batch, options),
        encoded_({batch, width_of(layer.config.inner)}),
        mixed_(encoded_.extents()) {}
  ProjectedStepper(const Projected<Layer>&&, Index = 1, const LayerOptions<>& = {}) = delete;

  /// Takes over weights that have changed. @throws ShapeError for weights of other shapes
  void update(const Projected<Layer>& layer) {
    inner_.update(layer.inner);
    layer_ = &layer;
  }

  /// One step of every sequence of the batch on the calling thread: `state` moves on, nothing is
  /// allocated. A shape that does not fit ends the program with an error message.
  /// @param input, output (batch, width), rows contiguous
  friend void step(ProjectedStepper& stepper, const std::type_identity_t<View<const T, 2>>& input,
                   StateOf<Layer>& state, const std::type_identity_t<View<T, 2>>& output) noexcept {
    stepper.advance(input, state, output);
  }

 private:
  void advance(const View<const T, 2>& input, StateOf<Layer>& state,
               const View<T, 2>& output) noexcept {
    detail::check_or_terminate([&] {
      const auto extents = shape(encoded_.extent(0), layer_->config.width);
      detail::check_shape("step of Projected", "input", input, extents);
      detail::check_shape("step of Projected", "output", output, extents);
    });
    linear_step(detail::product<T, Host>(input, layer_->encoder, layer_->encoder_bias), {},
                encoded_.view());
    step(inner_, encoded_, state, mixed_);
    linear_step(detail::product<T, Host>(mixed_, layer_->decoder, layer_->decoder_bias), {},
                output);
  }

  const Projected<Layer>* layer_;
  StepperOf<Layer> inner_;
  Tensor<T, 2> encoded_, mixed_;
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
