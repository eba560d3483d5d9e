#include "support/layer_laws.hpp"

#include "ssm/layers/step_by_forward.hpp"

namespace layer_laws_test {

using namespace ssm;

namespace {

/// The smallest sequence layer: x_t = a x_{t−1} + u_t, y_t = c x_t + d u_t of every channel.
template <class T>
struct Leaky {
  struct Config {
    Index width = 0;
    friend bool operator==(const Config&, const Config&) = default;
  };
  struct State {
    Tensor<T, 2> x;  // (sequences, width)
  };
  struct Scratch {
    Tensor<T, 3> x, before;  // (batch, length, width): x_t and x_{t−1}
    bool kept = false;
  };
  using value_type = T;
  using space = Host;
  using Stepper = StepByForward<Leaky>;

  Config config;
  Tensor<T, 1> a, c, d;

  Leaky() = default;
  explicit Leaky(const Config& config_) : config(config_) { resize_parameters(*this); }
};

template <class T, class Visit>
void parameters(Leaky<T>& layer, Visit&& visit) {
  const auto extents = shape(layer.config.width);
  visit("a", layer.a, extents, false);
  visit("c", layer.c, extents, true);
  visit("d", layer.d, extents, true);
}

template <class T>
typename Leaky<T>::State make_state(const Leaky<T>& layer, Index sequences) {
  return {Tensor<T, 2>({sequences, layer.config.width})};
}
template <class State, class Visit>
void tensors(State& state, Visit&& visit) requires requires {
  state.x;
}
{ visit("x", state.x); }

/// Calls body(sequence, row, first, last, by): the steps of every sequence in the order of time.
template <class Options, class Body>
void for_sequences(const Options& options, Index batch, Index length, const Body& body) {
  for (Index s = 0; s < options.sequences.count(batch); ++s)
    body(s, detail::span_of(options.sequences, s, length));
}

template <class T>
void forward(const Cpu&, const Leaky<T>& layer, const InputOf<Leaky<T>>& u,
             Maybe<StateOf<Leaky<T>>> state, const OutputOf<Leaky<T>>& y,
             const OptionsOf<Leaky<T>>& options, ScratchOf<Leaky<T>>& scratch) {
  detail::check_parameters("Leaky", layer);
  detail::check_layer_call("Leaky", layer, u, y, options);
  detail::check_no_rate("Leaky", options);
  const Index batch = u.extent(0), length = u.extent(1), width = u.extent(2);
  if (state)
    detail::check_shape("Leaky", "state", state->x,
                        std::array{options.sequences.count(batch), width});
  scratch.kept = options.keep;
  scratch.x.resize(u.extents());
  scratch.before.resize(u.extents());
  for_sequences(options, batch, length, [&](Index s, const detail::SequenceSpan& span) {
    for (Index c = 0; c < width; ++c) {
      T x = state ? state->x(s, c) : T(0);
      for (Index i = 0; i < span.length(); ++i) {
        const Index t = span.step(i, options.sequences.reversed);
        scratch.before(span.row, t, c) = x;
        x = layer.a(c) * x + u(span.row, t, c);
        scratch.x(span.row, t, c) = x;
        y(span.row, t, c) = layer.c(c) * x + layer.d(c) * u(span.row, t, c);
      }
      if (state) state->x(s, c) = x;
    }
  });
}

template <class T>
void backward(const Cpu&, const Leaky<T>& layer, const InputOf<Leaky<T>>& u,
              Maybe<StateOf<Leaky<T>>> dstate, const InputOf<Leaky<T>>& dy,
              const OutputOf<Leaky<T>>& du, Leaky<T>& gradients, const OptionsOf<Leaky<T>>& options,
              ScratchOf<Leaky<T>>& scratch) {
  detail::check_layer_call("Leaky", layer, u, du, options);
  detail::check_shape("Leaky", "the gradient of output", dy, u.extents());
  detail::check_shape("Leaky", "scratch", scratch.x, u.extents());
  if (!scratch.kept) detail::throw_shape("Leaky", "scratch", "not kept", "kept");
  const Index batch = u.extent(0), length = u.extent(1), width = u.extent(2);
  if (dstate)
    detail::check_shape("Leaky", "the gradient of state", dstate->x,
                        std::array{options.sequences.count(batch), width});
  resize_gradients(ssm::cpu, layer, gradients);
  zero_parameters(gradients);
  for_sequences(options, batch, length, [&](Index s, const detail::SequenceSpan& span) {
    for (Index c = 0; c < width; ++c) {
      T dx = dstate ? dstate->x(s, c) : T(0);
      for (Index i = span.length(); i-- > 0;) {
        const Index t = span.step(i, options.sequences.reversed);
        dx += layer.c(c) * dy(span.row, t, c);
        gradients.c(c) += scratch.x(span.row, t, c) * dy(span.row, t, c);
        gradients.d(c) += u(span.row, t, c) * dy(span.row, t, c);
        gradients.a(c) += scratch.before(span.row, t, c) * dx;
        du(span.row, t, c) = dx + layer.d(c) * dy(span.row, t, c);
        dx *= layer.a(c);
      }
      if (dstate) dstate->x(s, c) = dx;
    }
  });
}

static_assert(SequenceLayer<Leaky<float>> && SequenceLayer<Leaky<double>>);

template <class T>
Leaky<T> draw() {
  Leaky<T> layer(typename Leaky<T>::Config{3});
  for (Index c = 0; c < 3; ++c) {
    layer.a(c) = T(0.5) + T(0.1) * static_cast<T>(c);
    layer.c(c) = T(1) - static_cast<T>(c);
    layer.d(c) = T(0.25);
  }
  return layer;
}

}  // namespace

TEST_CASE("a layer of one multiply-add keeps the laws of layers, with a step by its forward pass") {
  test::check_layer_laws(draw<double>(), {.rates = false});
  test::check_precision(draw<float>(), draw<double>(), {.rates = false});
}

}  // namespace layer_laws_test
