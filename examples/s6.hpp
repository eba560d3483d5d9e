#pragma once

#include <cmath>
#include <cstdint>
#include <utility>

#include "ssm/core/elementwise.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/layers/decay.hpp"
#include "ssm/layers/detail/initial_draws.hpp"
#include "ssm/layers/detail/product.hpp"
#include "ssm/layers/detail/rows.hpp"
#include "ssm/layers/layer.hpp"
#include "ssm/layers/linear.hpp"
#include "ssm/layers/step_by_forward.hpp"
#include "ssm/scan/selective_scan.hpp"

/// The selective state space of Mamba (Gu & Dao 2023, algorithm 2) as a layer by itself, which
/// stands wherever S4 does: in a plain block without Mamba's convolution and gate.
namespace s6 {

using ssm::Index;
using ssm::Maybe;
using ssm::Tensor;
using ssm::View;

struct Config {
  Index width = 0;   ///< channels
  Index state = 16;  ///< of each channel

  /// The rank of the map from channels to step sizes.
  [[nodiscard]] Index rank() const noexcept { return (width + 15) / 16; }
  friend bool operator==(const Config&, const Config&) = default;
};
template <class Visit>
void fields(Config& config, Visit&& visit) {
  visit("width", config.width);
  visit("state", config.state);
}

template <class T>
struct State {
  Tensor<T, 3> x;  ///< (sequences, width, state)
};
template <class T, class Visit>
void tensors(State<T>& state, Visit&& visit) {
  visit("x", state.x);
}

template <class T>
struct Scratch {
  ssm::LayerCall call;
  Tensor<T, 2> mapped, delta;    ///< (rows, rank + 2 · state): [dt, B, C]; (rows, width)
  Tensor<T, 2> dmapped, ddelta;  ///< their gradients
  Tensor<T, 2> A;                ///< (width, state)
  Tensor<T, 3> before;           ///< (sequences, width, state): what forward started from
  bool stateful = false;         ///< whether it started from a state
  ssm::LinearScratch<T> linear;
  ssm::DecayScratch<T> decay;
  ssm::SelectiveScanScratch<T> scan;
};

/// [dt, B, C] = maps · u,  y = scan(u, softplus(dt_proj · dt + dt_bias), −exp(A_log), B, C, D).
template <class T>
struct S6 {
  using value_type = T;
  using space = ssm::Host;
  using Config = s6::Config;
  using State = s6::State<T>;
  using Scratch = s6::Scratch<T>;
  using Stepper = ssm::StepByForward<S6>;

  s6::Config config;
  Tensor<T, 2> maps;     ///< (rank + 2 · state, width): rows [dt, B, C]
  Tensor<T, 2> dt_proj;  ///< (width, rank)
  Tensor<T, 1> dt_bias;  ///< (width)
  Tensor<T, 2> A_log;    ///< (width, state)
  Tensor<T, 1> D;        ///< (width)

  S6() = default;
  explicit S6(const s6::Config& c) : config(c) { ssm::resize_parameters(*this); }
};

template <class T, class Visit>
void parameters(S6<T>& layer, Visit&& visit) {
  const s6::Config& c = layer.config;
  visit("x_proj.weight", layer.maps, ssm::shape(c.rank() + 2 * c.state, c.width), true);
  visit("dt_proj.weight", layer.dt_proj, ssm::shape(c.width, c.rank()), true);
  visit("dt_proj.bias", layer.dt_bias, ssm::shape(c.width), false);
  visit("A_log", layer.A_log, ssm::shape(c.width, c.state), false);
  visit("D", layer.D, ssm::shape(c.width), false);
}

template <class T>
[[nodiscard]] State<T> make_state(const S6<T>& layer, Index sequences) {
  return {Tensor<T, 3>({sequences, layer.config.width, layer.config.state})};
}

/// As that part of a Mamba block is drawn.
template <class T>
void initialize(S6<T>& layer, std::uint64_t seed, Index = 1) {
  ssm::detail::InitialDraws draws(seed);
  const s6::Config& c = layer.config;
  draws.uniform(layer.maps, 1 / std::sqrt(static_cast<double>(c.width)));
  draws.uniform(layer.dt_proj, 1 / std::sqrt(static_cast<double>(c.rank())));
  for (T& x : layer.dt_bias)
    x = static_cast<T>(
        ssm::inverse_softplus(std::exp(draws.uniform(std::log(1e-3), std::log(1e-1)))));
  for (Index i = 0; i < c.width; ++i)
    for (Index n = 0; n < c.state; ++n)
      layer.A_log(i, n) = static_cast<T>(std::log(static_cast<double>(n + 1)));
  layer.D.fill(T(1));
}

namespace detail {

/// (batch, length, width) as (rows, width).
template <class U>
View<U, 2> rows_of(const View<U, 3>& x) {
  return ssm::detail::merge_rows("S6", "a sequence", x);
}

/// The columns of [dt, B, C].
template <class U>
struct Mapped {
  View<U, 2> dt;
  View<U, 4> B, C;

  template <class AnyTensor>
  Mapped(const Config& c, AnyTensor& mapped, Index batch, Index length)
      : dt(View<U, 2>(mapped).slice(1, 0, c.rank())),
        B(part(c, mapped, batch, length, c.rank())),
        C(part(c, mapped, batch, length, c.rank() + c.state)) {}

  template <class AnyTensor>
  static View<U, 4> part(const Config& c, AnyTensor& mapped, Index batch, Index length,
                         Index column) {
    const Index columns = mapped.extent(1);
    return {mapped.size() > 0 ? mapped.data() + column : nullptr,
            {batch, length, 1, c.state},
            {length * columns, columns, c.state, 1}};
  }
};

template <class T>
ssm::SelectiveScanInputs<T> scan_inputs(const S6<T>& layer, const View<const T, 3>& u,
                                        const Scratch<T>& w, const View<const T, 3>& initial) {
  const Mapped<const T> mapped(layer.config, w.mapped, u.extent(0), u.extent(1));
  ssm::SelectiveScanInputs<T> in;
  in.u = u;
  in.delta = View<const T, 3>(w.delta.data(), u.extents());
  in.A = w.A;
  in.B = mapped.B;
  in.C = mapped.C;
  in.D = layer.D;
  in.delta_bias = layer.dt_bias;
  in.initial_state = initial;
  return in;
}

}  // namespace detail

template <class T>
void forward(const ssm::Cpu& backend, const S6<T>& layer, const ssm::InputOf<S6<T>>& u,
             Maybe<ssm::StateOf<S6<T>>> state, const ssm::OutputOf<S6<T>>& y,
             const ssm::LayerOptions<>& options, Scratch<T>& w) {
  ssm::check_forward("forward of S6", layer, u, state, y, options, {}, w.call);
  const s6::Config& c = layer.config;
  const Index batch = u.extent(0), length = u.extent(1);
  w.stateful = static_cast<bool>(state);
  if (state && options.keep) w.before = state->x;
  w.mapped.resize({batch * length, c.rank() + 2 * c.state});
  w.delta.resize({batch * length, c.width});
  w.A.resize(layer.A_log.extents());
  linear(backend, ssm::detail::product<T, ssm::Host>(detail::rows_of(u), layer.maps), {},
         {w.mapped}, w.linear);
  const detail::Mapped<const T> mapped(c, w.mapped, batch, length);
  linear(backend, ssm::detail::product<T, ssm::Host>(mapped.dt, layer.dt_proj), {}, {w.delta},
         w.linear);
  decay(backend, {layer.A_log}, {}, {w.A}, w.decay);
  const View<T, 3> x = state ? state->x.view() : View<T, 3>();
  selective_scan(backend, detail::scan_inputs<T>(layer, u, w, x),
                 {.softplus = true, .keep = options.keep}, {y, x}, w.scan);
}

template <class T>
void backward(const ssm::Cpu& backend, const S6<T>& layer, const ssm::InputOf<S6<T>>& u,
              Maybe<ssm::StateOf<S6<T>>> dstate, const ssm::InputOf<S6<T>>& dy,
              const ssm::OutputOf<S6<T>>& du, S6<T>& gradients, const ssm::LayerOptions<>& options,
              Scratch<T>& w) {
  ssm::check_backward("backward of S6", layer, u, dstate, dy, du, options, {}, w.call);
  const Index batch = u.extent(0), length = u.extent(1);
  ssm::resize_gradients(backend, layer, gradients);
  w.dmapped.resize(w.mapped.extents());
  w.ddelta.resize(w.delta.extents());
  const detail::Mapped<const T> mapped(layer.config, w.mapped, batch, length);
  const detail::Mapped<T> dmapped(layer.config, w.dmapped, batch, length);
  ssm::SelectiveScanOutputGradients<T> dout{dy};
  ssm::SelectiveScanInputGradients<T> din;
  din.u = du;
  din.delta = View<T, 3>(w.ddelta.data(), u.extents());
  din.A = gradients.A_log;
  din.B = dmapped.B;
  din.C = dmapped.C;
  din.D = gradients.D;
  din.delta_bias = gradients.dt_bias;
  if (dstate) {
    dout.final_state = dstate->x;
    din.initial_state = dstate->x;
  }
  const View<const T, 3> before = w.stateful ? std::as_const(w.before).view() : View<const T, 3>();
  selective_scan_backward(backend, detail::scan_inputs<T>(layer, u, w, before), {.softplus = true},
                          dout, din, w.scan);
  decay_backward(backend, {layer.A_log}, {}, {gradients.A_log}, {gradients.A_log}, w.decay);
  linear_backward(backend, ssm::detail::product<T, ssm::Host>(mapped.dt, layer.dt_proj), {},
                  {w.ddelta}, {dmapped.dt, gradients.dt_proj, {}}, w.linear);
  linear_backward(backend, ssm::detail::product<T, ssm::Host>(detail::rows_of(u), layer.maps),
                  {.write = ssm::Write::accumulate}, {w.dmapped},
                  {detail::rows_of(du), gradients.maps, {}}, w.linear);
}

}  // namespace s6
