#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ssm/core/detail/hash.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/fields.hpp"
#include "ssm/layers/copy_rows.hpp"
#include "ssm/layers/detail/rows.hpp"
#include "ssm/layers/layer.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

template <class Layer>
class StackStepper;

/// The configuration of a stack of layers.
template <class Layer>
struct StackConfig {
  Index channels = 0;                          ///< width of every layer
  std::vector<typename Layer::Config> layers;  ///< of each layer, all of this width

  StackConfig() = default;
  /// `count` layers of the same configuration.
  StackConfig(Index count, const typename Layer::Config& layer)
      : channels(width_of(layer)), layers(static_cast<std::size_t>(count < 0 ? 0 : count), layer) {}

  /// The number of channels that it reads and writes.
  [[nodiscard]] Index width() const noexcept { return channels; }
  friend bool operator==(const StackConfig&, const StackConfig&) = default;
};

/// Calls visit(name, member) for every field of a configuration; see ssm/core/fields.hpp.
template <class Layer, class Visit>
void fields(StackConfig<Layer>& c, Visit&& visit) {
  visit("channels", c.channels);
  visit("layers", c.layers);
}

/// What a stack carries from step to step. It is a plain value.
template <class Layer>
struct StackState {
  std::vector<typename Layer::State> layers;  ///< the state of each layer
};

/// Calls visit(name, tensor) for every tensor of a state.
template <class Layer, class Visit>
void tensors(StackState<Layer>& state, Visit&& visit) {
  for (std::size_t i = 0; i < state.layers.size(); ++i)
    tensors(state.layers[i], [&](std::string_view name, auto& tensor) {
      visit(std::to_string(i) + "." + std::string(name), tensor);
    });
}

/// Scratch memory of a stack. With options.keep it holds what every layer read, and a scratch for
/// each layer; otherwise two sequences and one scratch, which all layers use.
template <class Layer>
struct StackScratch {
  /// @cond internal
  using T = typename Layer::value_type;
  using Space = typename Layer::space;

  std::vector<typename Layer::Scratch> layers;
  std::vector<TensorIn<T, 3, Space>>
      between;  ///< (batch, length, width): outputs of all but the last
  std::array<TensorIn<T, 3, Space>, 2> dbetween;
  CopyRowsScratch<T, Space> copy;
  /// @endcond
};

/// Layers one after the other: each reads what the one before it wrote.
template <class Layer>
struct Stack {
  ///@{
  /// One of the types that every layer names; see SequenceLayer.
  using value_type = typename Layer::value_type;
  using space = typename Layer::space;
  using Config = StackConfig<Layer>;
  using State = StackState<Layer>;
  using Scratch = StackScratch<Layer>;
  using Stepper = StackStepper<Layer>;
  ///@}

  Config config;              ///< sizes and fixed choices
  std::vector<Layer> layers;  ///< the first reads the input, the last writes the output

  Stack() = default;
  /// A layer of this configuration, its parameters zero. @throws ShapeError for layers of different
  /// widths, and as the layers
  explicit Stack(const Config& c) : config(c) {
    if (c.width() < 0)
      detail::throw_shape("Stack", "channels", std::to_string(c.width()), "0 or more");
    layers.reserve(c.layers.size());
    for (const auto& layer : c.layers) {
      if (width_of(layer) != c.width())
        detail::throw_shape("Stack", "layer " + std::to_string(layers.size()),
                            std::to_string(width_of(layer)) + " wide", std::to_string(c.width()));
      layers.emplace_back(layer);
    }
  }
};

/// Calls visit(name, tensor, extents, decay) for every parameter; see ssm/core/parameters.hpp.
template <class Layer, class Visit>
void parameters(Stack<Layer>& stack, Visit&& visit) {
  for (std::size_t i = 0; i < stack.layers.size(); ++i)
    parameters(stack.layers[i], within("layers." + std::to_string(i) + ".", visit));
}

/// Sets the configuration of a stack, and allocates no parameter.
template <class Layer>
void configure(Stack<Layer>& stack, const typename Stack<Layer>::Config& config) {
  stack.config = config;
  stack.layers.resize(config.layers.size());
  for (std::size_t i = 0; i < config.layers.size(); ++i)
    configure(stack.layers[i], config.layers[i]);
}

/// The state of so many sequences before their first step, all zero.
template <class Layer>
[[nodiscard]] StackState<Layer> make_state(const Stack<Layer>& stack, Index sequences) {
  StackState<Layer> state;
  state.layers.reserve(stack.layers.size());
  for (const Layer& layer : stack.layers) state.layers.push_back(make_state(layer, sequences));
  return state;
}

/// Initializes every layer by draw(layer, seed), each with another seed.
template <class Layer, std::invocable<Layer&, std::uint64_t> Draw>
void initialize(Stack<Layer>& stack, std::uint64_t seed, const Draw& draw) {
  for (std::size_t i = 0; i < stack.layers.size(); ++i)
    draw(stack.layers[i], detail::mix(seed + static_cast<std::uint64_t>(i)));
}
/// Initializes every layer by its own `initialize`, each with another seed.
template <class Layer>
void initialize(Stack<Layer>& stack, std::uint64_t seed, Index depth = 1) {
  const Index all = depth * static_cast<Index>(stack.layers.size());
  initialize(stack, seed, [&](Layer& layer, std::uint64_t s) { initialize(layer, s, all); });
}

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

template <class Layer>
void check_stack(std::string_view function, const Stack<Layer>& stack,
                 Maybe<StackState<Layer>> state, std::string_view argument) {
  if (stack.layers.size() != stack.config.layers.size())
    throw_shape(function, "layers", std::to_string(stack.layers.size()),
                std::to_string(stack.config.layers.size()) + " as in the configuration");
  if (state && state->layers.size() != stack.layers.size())
    throw_shape(function, argument, std::to_string(state->layers.size()) + " layers",
                std::to_string(stack.layers.size()));
}

template <class Layer>
[[nodiscard]] Maybe<typename Layer::State> layer_state(Maybe<StackState<Layer>> state,
                                                       std::size_t i) {
  return state ? Maybe<typename Layer::State>(state->layers[i]) : Maybe<typename Layer::State>();
}

/// The options of layer i of a stack: with dropout masks of its own.
template <class Space>
[[nodiscard]] LayerOptions<Space> layer_options(LayerOptions<Space> options, std::size_t i) {
  options.dropout = options.dropout.of(static_cast<Index>(i));
  return options;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// Runs sequences through every layer in turn.
/// @param input, output (batch, length, width), rows evenly spaced, not the same memory
/// @throws as the layers do
template <class Backend, class Layer>
void forward(const Backend& backend, const Stack<Layer>& stack, const InputOf<Stack<Layer>>& input,
             Maybe<StateOf<Stack<Layer>>> state, const OutputOf<Stack<Layer>>& output,
             const OptionsOf<Stack<Layer>>& options, ScratchOf<Stack<Layer>>& scratch) {
  constexpr std::string_view function = "forward of Stack";
  detail::check_layer_call(function, stack, input, output, options);
  detail::check_stack(function, stack, state, "state");
  const std::size_t count = stack.layers.size();
  if (count == 0)
    return copy_rows(backend, {detail::merge_rows(function, "input", input)}, {},
                     {detail::merge_rows(function, "output", output)}, scratch.copy);
  if (const std::size_t kept = options.keep ? count : 1; scratch.layers.size() < kept)
    scratch.layers.resize(kept);
  if (const std::size_t kept = options.keep ? count - 1 : (std::min<std::size_t>)(count - 1, 2);
      scratch.between.size() < kept)
    scratch.between.resize(kept);
  const auto& on = for_layers(backend, static_cast<Index>(count));
  InputOf<Layer> x = input;
  for (std::size_t i = 0; i < count; ++i) {
    OutputOf<Layer> y = output;
    if (i + 1 < count) {
      auto& next = scratch.between[options.keep ? i : i % 2];
      resize(backend, next, input.extents());
      y = next;
    }
    if (options.keep && i > 0) detail::hand_over(scratch.layers[i - 1], scratch.layers[i]);
    forward(on, stack.layers[i], x, detail::layer_state(state, i), y,
            detail::layer_options(options, i), scratch.layers[options.keep ? i : 0]);
    x = y;
  }
}

/// The gradients of a stack. @throws as the layers do
template <class Backend, class Layer>
void backward(const Backend& backend, const Stack<Layer>& stack, const InputOf<Stack<Layer>>& input,
              Maybe<StateOf<Stack<Layer>>> dstate, const InputOf<Stack<Layer>>& doutput,
              const OutputOf<Stack<Layer>>& dinput, std::type_identity_t<Stack<Layer>>& gradients,
              const OptionsOf<Stack<Layer>>& options, ScratchOf<Stack<Layer>>& scratch) {
  constexpr std::string_view function = "backward of Stack";
  detail::check_layer_call(function, stack, input, dinput, options);
  detail::check_shape(function, "doutput", doutput, input.extents());
  detail::check_stack(function, stack, dstate, "dstate");
  resize_gradients(backend, stack, gradients);
  const std::size_t count = stack.layers.size();
  if (count == 0)
    return copy_rows(backend, {detail::merge_rows(function, "doutput", doutput)}, {},
                     {detail::merge_rows(function, "dinput", dinput)}, scratch.copy);
  if (scratch.layers.size() < count || scratch.between.size() + 1 < count)
    detail::throw_shape(function, "scratch", "of another call",
                        "one that forward with options.keep filled");
  const auto& on = for_layers(backend, static_cast<Index>(count));
  InputOf<Layer> dy = doutput;
  for (std::size_t i = count; i-- > 0;) {
    OutputOf<Layer> dx = dinput;
    if (i > 0) {
      auto& before = scratch.dbetween[i % 2];
      resize(backend, before, input.extents());
      dx = before;
    }
    const InputOf<Layer> x = i > 0 ? std::as_const(scratch.between[i - 1]).view() : input;
    detail::check_shape(function, "scratch", x, input.extents());
    backward(on, stack.layers[i], x, detail::layer_state(dstate, i), dy, dx, gradients.layers[i],
             detail::layer_options(options, i), scratch.layers[i]);
    if (i > 0) detail::hand_over(scratch.layers[i], scratch.layers[i - 1]);
    dy = dx;
  }
}

/// Runs a stack step by step. It refers to the layers, which must outlive it.
template <class Layer>
class StackStepper {
  using T = typename Layer::value_type;

 public:
  /// Makes `stack` ready to step `batch` sequences at once. @throws as the steppers of the layers
  /// do
  explicit StackStepper(const Stack<Layer>& stack, Index batch = 1,
                        const LayerOptions<>& options = {})
      : rows_{Tensor<T, 2>({batch, stack.config.width()}),
              Tensor<T, 2>({batch, stack.config.width()})} {
    detail::check_stack<Layer>("StackStepper", stack, {}, "state");
    steppers_.reserve(stack.layers.size());
    for (const Layer& layer : stack.layers) steppers_.emplace_back(layer, batch, options);
  }
  StackStepper(const Stack<Layer>&&, Index = 1, const LayerOptions<>& = {}) = delete;

  /// Takes over weights that have changed. @throws ShapeError for weights of other shapes
  void update(const Stack<Layer>& stack) {
    if (stack.layers.size() != steppers_.size())
      detail::throw_shape("StackStepper", "layers", std::to_string(stack.layers.size()),
                          std::to_string(steppers_.size()));
    detail::check_shape("StackStepper", "layers", rows_[0],
                        shape(rows_[0].extent(0), stack.config.width()));
    for (std::size_t i = 0; i < steppers_.size(); ++i) steppers_[i].update(stack.layers[i]);
  }

  /// One step of every sequence of the batch on the calling thread: `state` moves on, nothing is
  /// allocated. A shape that does not fit ends the program with an error message.
  /// @param input, output (batch, width), rows contiguous
  friend void step(StackStepper& stepper, const std::type_identity_t<View<const T, 2>>& input,
                   StackState<Layer>& state,
                   const std::type_identity_t<View<T, 2>>& output) noexcept {
    stepper.advance(Cpu{1}, input, state, output);
  }
  /// The same on the threads of a backend, as far as the layers use them.
  friend void step(const Cpu& backend, StackStepper& stepper,
                   const std::type_identity_t<View<const T, 2>>& input, StackState<Layer>& state,
                   const std::type_identity_t<View<T, 2>>& output) noexcept {
    stepper.advance(backend, input, state, output);
  }

 private:
  void advance(const Cpu& backend, const View<const T, 2>& input, StackState<Layer>& state,
               const View<T, 2>& output) noexcept {
    detail::check_or_terminate([&] {
      constexpr std::string_view function = "step of Stack";
      detail::check_shape(function, "input", input, rows_[0].extents());
      detail::check_shape(function, "output", output, rows_[0].extents());
      if (state.layers.size() != steppers_.size())
        detail::throw_shape(function, "state", std::to_string(state.layers.size()) + " layers",
                            std::to_string(steppers_.size()));
    });
    View<const T, 2> x = input;
    for (std::size_t i = 0; i < steppers_.size(); ++i) {
      const View<T, 2> y = i + 1 < steppers_.size() ? rows_[i % 2].view() : output;
      detail::step_on(backend, steppers_[i], x, state.layers[i], y);
      x = y;
    }
    if (steppers_.empty())
      for (Index b = 0; b < input.extent(0); ++b)
        for (Index c = 0; c < input.extent(1); ++c) output(b, c) = input(b, c);
  }

  std::array<Tensor<T, 2>, 2> rows_;
  std::vector<StepperOf<Layer>> steppers_;
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
