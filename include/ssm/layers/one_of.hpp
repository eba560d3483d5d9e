#pragma once

#include <cstdint>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

#include "ssm/layers/layer.hpp"

namespace ssm {

template <class First, class... Rest>
class OneOfStepper;

/// The configuration of a layer of one of several kinds.
template <class First, class... Rest>
struct OneOfConfig {
  std::variant<typename First::Config, typename Rest::Config...> kind;

  [[nodiscard]] Index width() const noexcept {
    return std::visit([](const auto& config) { return width_of(config); }, kind);
  }
  friend bool operator==(const OneOfConfig&, const OneOfConfig&) = default;
};

/// The state of a layer of one of several kinds.
template <class First, class... Rest>
struct OneOfState {
  std::variant<typename First::State, typename Rest::State...> kind;
};

template <class First, class... Rest, class Visit>
void tensors(OneOfState<First, Rest...>& state, Visit&& visit) {
  std::visit([&](auto& kind) { tensors(kind, visit); }, state.kind);
}

/// A layer of one of several kinds, chosen when it is made: what lets a stack mix them.
///
///     using Mixed = ssm::OneOf<ssm::Mamba<float>, ssm::S4d<float>>;
///     Mixed layer({ssm::S4dConfig{.width = 64}});
template <class First, class... Rest>
struct OneOf {
  using value_type = typename First::value_type;
  using space = typename First::space;
  using Config = OneOfConfig<First, Rest...>;
  using State = OneOfState<First, Rest...>;
  using Scratch = std::tuple<typename First::Scratch, typename Rest::Scratch...>;
  using Stepper = OneOfStepper<First, Rest...>;
  static_assert((std::is_same_v<value_type, typename Rest::value_type> && ...),
                "layers that stand for each other compute in the same type");

  Config config;
  std::variant<First, Rest...> kind;

  OneOf() = default;
  /// All zero, of the kind that the configuration is of. @throws as that kind
  explicit OneOf(const Config& c) : config(c) { make(std::index_sequence_for<First, Rest...>()); }

 private:
  template <std::size_t... I>
  void make(std::index_sequence<I...>) {
    ((config.kind.index() == I ? void(kind.template emplace<I>(std::get<I>(config.kind))) : void()),
     ...);
  }
};

template <class First, class... Rest, class Visit>
void parameters(OneOf<First, Rest...>& layer, Visit&& visit) {
  std::visit([&](auto& kind) { parameters(kind, visit); }, layer.kind);
}

template <class First, class... Rest>
[[nodiscard]] OneOfState<First, Rest...> make_state(const OneOf<First, Rest...>& layer,
                                                    Index sequences) {
  return std::visit(
      [&](const auto& kind) {
        return OneOfState<First, Rest...>{make_state(kind, sequences)};
      },
      layer.kind);
}

/// Each kind by its own rule.
template <class First, class... Rest>
void initialize(OneOf<First, Rest...>& layer, std::uint64_t seed, Index depth = 1) {
  std::visit([&](auto& kind) { initialize(kind, seed, depth); }, layer.kind);
}

namespace detail {

/// Calls body(layer, state, scratch, index) with those of the kind that the layer is of.
template <class Layer, class State, class Scratch, class Body, std::size_t... I>
void with_kind(std::string_view function, Layer& layer, Maybe<State> state, Scratch& scratch,
               const Body& body, std::index_sequence<I...>) {
  if (state && state->kind.index() != layer.kind.index())
    throw_shape(function, "state", "of another kind of layer", "one made by make_state");
  const auto run = [&](auto index) {
    constexpr std::size_t i = decltype(index)::value;
    using Kind = std::variant_alternative_t<i, decltype(state->kind)>;
    const Maybe<Kind> own = state ? Maybe<Kind>(std::get<i>(state->kind)) : Maybe<Kind>();
    body(std::get<i>(layer.kind), own, std::get<i>(scratch), index);
  };
  ((layer.kind.index() == I ? run(std::integral_constant<std::size_t, I>()) : void()), ...);
}

}  // namespace detail

/// Runs the layer that it is. @throws as that kind, and ShapeError for a state of another
template <class Backend, class First, class... Rest>
void forward(const Backend& backend, const OneOf<First, Rest...>& layer,
             const InputOf<OneOf<First, Rest...>>& input,
             Maybe<StateOf<OneOf<First, Rest...>>> state,
             const OutputOf<OneOf<First, Rest...>>& output,
             const OptionsOf<OneOf<First, Rest...>>& options,
             ScratchOf<OneOf<First, Rest...>>& scratch) {
  detail::with_kind(
      "forward of OneOf", layer, state, scratch,
      [&](const auto& kind, const auto& own, auto& room, auto) {
        forward(backend, kind, input, own, output, options, room);
      },
      std::index_sequence_for<First, Rest...>());
}

/// Gradients of forward. @throws as the kind that it is
template <class Backend, class First, class... Rest>
void backward(const Backend& backend, const OneOf<First, Rest...>& layer,
              const InputOf<OneOf<First, Rest...>>& input,
              Maybe<StateOf<OneOf<First, Rest...>>> dstate,
              const InputOf<OneOf<First, Rest...>>& doutput,
              const OutputOf<OneOf<First, Rest...>>& dinput,
              std::type_identity_t<OneOf<First, Rest...>>& gradients,
              const OptionsOf<OneOf<First, Rest...>>& options,
              ScratchOf<OneOf<First, Rest...>>& scratch) {
  resize_gradients(layer, gradients);
  detail::with_kind(
      "backward of OneOf", layer, dstate, scratch,
      [&](const auto& kind, const auto& own, auto& room, auto index) {
        backward(backend, kind, input, own, doutput, dinput,
                 std::get<decltype(index)::value>(gradients.kind), options, room);
      },
      std::index_sequence_for<First, Rest...>());
}

/// The stepper of the layer that it is.
template <class First, class... Rest>
class OneOfStepper {
  using T = typename First::value_type;
  using Layer = OneOf<First, Rest...>;

 public:
  explicit OneOfStepper(const Layer& layer, Index batch = 1, const LayerOptions<>& options = {})
      : kind_(std::visit(
            [&](const auto& kind) {
              using Kind = std::remove_cvref_t<decltype(kind)>;
              return Kinds(std::in_place_type<StepperOf<Kind>>, kind, batch, options);
            },
            layer.kind)) {}
  OneOfStepper(const Layer&&, Index = 1, const LayerOptions<>& = {}) = delete;

  /// Follows weights that have changed. @throws ShapeError, also for a layer of another kind
  void update(const Layer& layer) {
    if (layer.kind.index() != kind_.index())
      detail::throw_shape("OneOfStepper", "layer", "of another kind", "the kind it was made for");
    std::visit(
        [&](const auto& kind) {
          std::get<StepperOf<std::remove_cvref_t<decltype(kind)>>>(kind_).update(kind);
        },
        layer.kind);
  }

  friend void step(OneOfStepper& stepper, const std::type_identity_t<View<const T, 2>>& input,
                   OneOfState<First, Rest...>& state,
                   const std::type_identity_t<View<T, 2>>& output) noexcept {
    stepper.advance(input, state, output, std::index_sequence_for<First, Rest...>());
  }

 private:
  using Kinds = std::variant<StepperOf<First>, StepperOf<Rest>...>;

  template <std::size_t... I>
  void advance(const View<const T, 2>& input, OneOfState<First, Rest...>& state,
               const View<T, 2>& output, std::index_sequence<I...>) noexcept {
    detail::check_or_terminate([&] {
      if (state.kind.index() != kind_.index())
        detail::throw_shape("step of OneOf", "state", "of another kind of layer",
                            "one made by make_state");
    });
    ((kind_.index() == I ? step(*std::get_if<I>(&kind_), input, *std::get_if<I>(&state.kind), output)
                         : void()),
     ...);
  }

  Kinds kind_;
};

}  // namespace ssm
