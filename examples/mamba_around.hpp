#pragma once

#include <cmath>
#include <cstdint>
#include <utility>

#include "ssm/core/elementwise.hpp"
#include "ssm/core/fields.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/layers/causal_conv.hpp"
#include "ssm/layers/detail/initial_draws.hpp"
#include "ssm/layers/detail/product.hpp"
#include "ssm/layers/detail/rows.hpp"
#include "ssm/layers/layer.hpp"
#include "ssm/layers/linear.hpp"
#include "ssm/layers/step_by_forward.hpp"

/// The block of Mamba around any other layer, to see what the block does and what S6 does.
namespace mamba_around {

using ssm::Index;
using ssm::Maybe;
using ssm::Tensor;
using ssm::View;

template <class Layer>
struct Config {
  Index width = 0;               ///< of the sequences that it reads and writes
  Index conv_width = 4;          ///< taps of the convolution
  typename Layer::Config inner;  ///< of the layer inside, twice as wide in Mamba

  /// The number of channels of the layer inside.
  [[nodiscard]] Index channels() const noexcept { return ssm::width_of(inner); }
  friend bool operator==(const Config&, const Config&) = default;
};
template <class Layer, class Visit>
void fields(Config<Layer>& config, Visit&& visit) {
  visit("width", config.width);
  visit("conv_width", config.conv_width);
  visit("inner", config.inner);
}

template <class Layer>
struct State {
  Tensor<typename Layer::value_type, 3> conv;  ///< (sequences, conv_width − 1, channels)
  typename Layer::State inner;
};
template <class Layer, class Visit>
void tensors(State<Layer>& state, Visit&& visit) {
  visit("conv", state.conv);
  tensors(state.inner, visit);
}

template <class Layer>
struct Scratch {
  using T = typename Layer::value_type;
  ssm::LayerCall call;
  Tensor<T, 3> projected;    ///< (batch, length, 2 · channels): [x, z]
  Tensor<T, 3> u, y, gated;  ///< (batch, length, channels): silu(conv(x)), of the layer, y silu(z)
  Tensor<T, 3> dprojected, du, dy;
  Tensor<T, 3> before;    ///< the inputs of the convolution before the first step
  bool stateful = false;  ///< whether there were some
  ssm::LinearScratch<T> linear;
  ssm::CausalConvScratch<T> conv;
  typename Layer::Scratch inner;
};

/// [x, z] = in_proj · input,  output = out_proj · (layer(silu(conv(x))) ⊙ silu(z)).
template <class Layer>
struct MambaAround {
  using value_type = typename Layer::value_type;
  using space = ssm::Host;
  using Config = mamba_around::Config<Layer>;
  using State = mamba_around::State<Layer>;
  using Scratch = mamba_around::Scratch<Layer>;
  using Stepper = ssm::StepByForward<MambaAround>;

  Config config;
  Tensor<value_type, 2> in_proj;      ///< (2 · channels, width): rows [x, z]
  Tensor<value_type, 2> conv_weight;  ///< (channels, conv_width)
  Tensor<value_type, 1> conv_bias;    ///< (channels)
  Layer inner;
  Tensor<value_type, 2> out_proj;  ///< (width, channels)

  MambaAround() = default;
  explicit MambaAround(const Config& c) : config(c), inner(c.inner) {
    ssm::resize_parameters(*this);
  }
};

template <class Layer, class Visit>
void parameters(MambaAround<Layer>& layer, Visit&& visit) {
  const Index width = layer.config.width, channels = layer.config.channels();
  visit("in_proj.weight", layer.in_proj, ssm::shape(2 * channels, width), true);
  visit("conv1d.weight", layer.conv_weight, ssm::shape(channels, layer.config.conv_width), true);
  visit("conv1d.bias", layer.conv_bias, ssm::shape(channels), false);
  parameters(layer.inner, visit);
  visit("out_proj.weight", layer.out_proj, ssm::shape(width, channels), true);
}
template <class Layer>
void configure(MambaAround<Layer>& layer, const Config<Layer>& config) {
  using ssm::configure;
  layer.config = config;
  configure(layer.inner, config.inner);
}

template <class Layer>
[[nodiscard]] State<Layer> make_state(const MambaAround<Layer>& layer, Index sequences) {
  using T = typename Layer::value_type;
  return {Tensor<T, 3>({sequences, layer.config.conv_width - 1, layer.config.channels()}),
          make_state(layer.inner, sequences)};
}

/// As a Mamba block is drawn, and the layer inside by its own `initialize`.
template <class Layer>
void initialize(MambaAround<Layer>& layer, std::uint64_t seed, Index depth = 1) {
  ssm::detail::InitialDraws draws(~seed);
  const auto bound = [](Index n) { return 1 / std::sqrt(static_cast<double>(n)); };
  draws.uniform(layer.in_proj, bound(layer.config.width));
  draws.uniform(layer.conv_weight, bound(layer.config.conv_width));
  draws.uniform(layer.conv_bias, bound(layer.config.conv_width));
  draws.uniform(layer.out_proj, bound(layer.config.channels() * depth));
  initialize(layer.inner, seed, depth);
}

namespace detail {

/// (batch, length, channels) as (rows, channels).
template <class U>
View<U, 2> rows_of(const View<U, 3>& x) {
  return ssm::detail::merge_rows("MambaAround", "a sequence", x);
}
template <class AnyTensor>
auto rows_of(AnyTensor& x) {
  return rows_of(x.view());
}

/// The half of [x, z] that is x (0) or z (1).
template <class U>
View<U, 3> half(const View<U, 3>& projected, std::size_t which) {
  const Index channels = projected.extent(2) / 2;
  return projected.split(2, {channels, channels})[which];
}

template <class Layer>
auto conv_inputs(const MambaAround<Layer>& layer, const Scratch<Layer>& w,
                 const ssm::InputOf<Layer>& before) {
  return ssm::CausalConvInputs<typename Layer::value_type>{
      half(w.projected.view(), 0), layer.conv_weight, layer.conv_bias, before, {}};
}

/// Calls body(b, t, c) for every element of a sequence of this shape, on the backend's threads.
template <class AnyView, class Body>
void for_each_element(const ssm::Cpu& backend, const AnyView& x, const Body& body) {
  const Index length = x.extent(1), channels = x.extent(2), rows = x.extent(0) * length;
  const ssm::detail::Pieces pieces(rows, 64);
  ssm::parallel_for(backend, pieces.pieces, [&](Index piece) {
    for (Index row = pieces.begin(piece); row < pieces.end(piece); ++row)
      for (Index c = 0; c < channels; ++c) body(row / length, row % length, c);
  });
}

}  // namespace detail

template <class Layer>
void forward(const ssm::Cpu& backend, const MambaAround<Layer>& layer,
             const ssm::InputOf<MambaAround<Layer>>& input,
             Maybe<ssm::StateOf<MambaAround<Layer>>> state,
             const ssm::OutputOf<MambaAround<Layer>>& output, const ssm::LayerOptions<>& options,
             Scratch<Layer>& w) {
  using T = typename Layer::value_type;
  ssm::check_forward("forward of MambaAround", layer, input, state, output, options, {}, w.call);
  const Index batch = input.extent(0), length = input.extent(1), channels = layer.config.channels();
  w.projected.resize({batch, length, 2 * channels});
  for (auto* x : {&w.u, &w.y, &w.gated}) x->resize({batch, length, channels});
  w.stateful = static_cast<bool>(state);
  if (state && options.keep) w.before = state->conv;
  linear(backend, ssm::detail::product<T, ssm::Host>(detail::rows_of(input), layer.in_proj), {},
         {detail::rows_of(w.projected)}, w.linear);
  const View<T, 3> conv = state ? state->conv.view() : View<T, 3>();
  causal_conv(backend, detail::conv_inputs<Layer>(layer, w, conv), {.silu = true}, {w.u, conv},
              w.conv);
  forward(backend, layer.inner, ssm::InputOf<Layer>(std::as_const(w.u)),
          state ? Maybe<ssm::StateOf<Layer>>(state->inner) : Maybe<ssm::StateOf<Layer>>(),
          ssm::OutputOf<Layer>(w.y), options, w.inner);
  const auto z = detail::half(std::as_const(w.projected).view(), 1);
  detail::for_each_element(backend, w.y, [&](Index b, Index t, Index c) {
    w.gated(b, t, c) = w.y(b, t, c) * ssm::silu(z(b, t, c));
  });
  linear(
      backend,
      ssm::detail::product<T, ssm::Host>(detail::rows_of(std::as_const(w.gated)), layer.out_proj),
      {}, {detail::rows_of(output)}, w.linear);
}

template <class Layer>
void backward(const ssm::Cpu& backend, const MambaAround<Layer>& layer,
              const ssm::InputOf<MambaAround<Layer>>& input,
              Maybe<ssm::StateOf<MambaAround<Layer>>> dstate,
              const ssm::InputOf<MambaAround<Layer>>& doutput,
              const ssm::OutputOf<MambaAround<Layer>>& dinput, MambaAround<Layer>& gradients,
              const ssm::LayerOptions<>& options, Scratch<Layer>& w) {
  using T = typename Layer::value_type;
  ssm::check_backward("backward of MambaAround", layer, input, dstate, doutput, dinput, options, {},
                      w.call);
  ssm::resize_gradients(backend, layer, gradients);
  w.dprojected.resize(w.projected.extents());
  for (auto* x : {&w.du, &w.dy}) x->resize(w.u.extents());
  linear_backward(
      backend,
      ssm::detail::product<T, ssm::Host>(detail::rows_of(std::as_const(w.gated)), layer.out_proj),
      {}, {detail::rows_of(doutput)}, {detail::rows_of(w.dy), gradients.out_proj, {}}, w.linear);
  const auto z = detail::half(std::as_const(w.projected).view(), 1);
  const auto dz = detail::half(w.dprojected.view(), 1);
  detail::for_each_element(backend, w.y, [&](Index b, Index t, Index c) {
    dz(b, t, c) = w.dy(b, t, c) * w.y(b, t, c) * ssm::silu_derivative(z(b, t, c));
    w.dy(b, t, c) *= ssm::silu(z(b, t, c));
  });
  backward(backend, layer.inner, ssm::InputOf<Layer>(std::as_const(w.u)),
           dstate ? Maybe<ssm::StateOf<Layer>>(dstate->inner) : Maybe<ssm::StateOf<Layer>>(),
           ssm::InputOf<Layer>(std::as_const(w.dy)), ssm::OutputOf<Layer>(w.du), gradients.inner,
           options, w.inner);
  const View<const T, 3> before = w.stateful ? std::as_const(w.before).view() : View<const T, 3>();
  ssm::CausalConvOutputGradients<T> dout{std::as_const(w.du)};
  ssm::CausalConvInputGradients<T> din;
  din.x = detail::half(w.dprojected.view(), 0);
  din.weight = gradients.conv_weight;
  din.bias = gradients.conv_bias;
  if (dstate) {
    dout.final_state = dstate->conv;
    din.initial_state = dstate->conv;
  }
  causal_conv_backward(backend, detail::conv_inputs<Layer>(layer, w, before), {.silu = true}, dout,
                       din, w.conv);
  linear_backward(backend,
                  ssm::detail::product<T, ssm::Host>(detail::rows_of(input), layer.in_proj), {},
                  {detail::rows_of(std::as_const(w.dprojected))},
                  {detail::rows_of(dinput), gradients.in_proj, {}}, w.linear);
}

}  // namespace mamba_around
