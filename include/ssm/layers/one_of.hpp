#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/fields.hpp"
#include "ssm/layers/layer.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

template <class First, class... Rest>
class OneOfStepper;

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// Calls body(index) with the index of the alternative that a variant holds, as a constant.
template <class Variant, class Body>
decltype(auto) with_index(const Variant& variant, const Body& body) {
  const auto search = [&]<std::size_t I>(
                          const auto& self,
                          std::integral_constant<std::size_t, I> index) -> decltype(body(index)) {
    if constexpr (I + 1 < std::variant_size_v<Variant>)
      if (variant.index() != I) return self(self, std::integral_constant<std::size_t, I + 1>());
    return body(index);
  };
  return search(search, std::integral_constant<std::size_t, 0>());
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// The configuration of a layer that is of one of several kinds.
template <class First, class... Rest>
struct OneOfConfig {
  std::variant<typename First::Config, typename Rest::Config...>
      kind;  ///< the configuration of the kind that it is

  /// The number of channels that it reads and writes.
  [[nodiscard]] Index width() const noexcept {
    return std::visit([](const auto& config) { return width_of(config); }, kind);
  }
  friend bool operator==(const OneOfConfig&, const OneOfConfig&) = default;
};

/// Calls visit(name, member) for every field of a configuration; see ssm/core/fields.hpp.
template <class First, class... Rest, class Visit>
void fields(OneOfConfig<First, Rest...>& c, Visit&& visit) {
  visit("kind", c.kind);
}

/// The state of a layer that is of one of several kinds.
template <class First, class... Rest>
struct OneOfState {
  std::variant<typename First::State, typename Rest::State...>
      kind;  ///< the state of the kind that it is
};

/// Calls visit(name, tensor) for every tensor of a state.
template <class First, class... Rest, class Visit>
void tensors(OneOfState<First, Rest...>& state, Visit&& visit) {
  std::visit([&](auto& kind) { tensors(kind, visit); }, state.kind);
}

/// A layer that is of one of several kinds, chosen when it is made. A stack of these can mix kinds.
///
///     using Mixed = ssm::OneOf<ssm::Mamba<float>, ssm::S4d<float>>;
///     Mixed layer({ssm::S4dConfig{.width = 64}});
template <class First, class... Rest>
struct OneOf {
  ///@{
  /// One of the types that every layer names; see SequenceLayer.
  using value_type = typename First::value_type;
  using space = typename First::space;
  using Config = OneOfConfig<First, Rest...>;
  using State = OneOfState<First, Rest...>;
  using Scratch = std::tuple<typename First::Scratch, typename Rest::Scratch...>;
  using Stepper = OneOfStepper<First, Rest...>;
  ///@}
  static_assert((std::is_same_v<value_type, typename Rest::value_type> && ...),
                "layers that stand for each other compute in the same type");

  Config config;                      ///< sizes and fixed choices
  std::variant<First, Rest...> kind;  ///< the layer

  OneOf() = default;
  /// A layer of the kind that the configuration names, its parameters zero. @throws as that kind
  /// does
  explicit OneOf(const Config& c) : config(c) {
    detail::with_index(c.kind,
                       [&](auto index) { kind.template emplace<index>(std::get<index>(c.kind)); });
  }
};

/// Moves the working memory of a scratch, which holds no result of a call, to the scratch of the
/// layer that runs next, so that the layers of a stack share it.
template <class... Scratches>
void hand_over_room(std::tuple<Scratches...>& from, std::tuple<Scratches...>& to) {
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    (detail::hand_over(std::get<I>(from), std::get<I>(to)), ...);
  }
  (std::index_sequence_for<Scratches...>());
}

/// Calls visit(name, tensor, extents, decay) for every parameter; see ssm/core/parameters.hpp.
template <class First, class... Rest, class Visit>
void parameters(OneOf<First, Rest...>& layer, Visit&& visit) {
  std::visit([&](auto& kind) { parameters(kind, visit); }, layer.kind);
}

/// Sets the configuration of a layer, and allocates no parameter.
template <class First, class... Rest>
void configure(OneOf<First, Rest...>& layer, const typename OneOf<First, Rest...>::Config& config) {
  layer.config = config;
  detail::with_index(config.kind, [&](auto index) {
    configure(layer.kind.template emplace<index>(), std::get<index>(config.kind));
  });
}

/// The state of so many sequences before their first step, all zero.
template <class First, class... Rest>
[[nodiscard]] OneOfState<First, Rest...> make_state(const OneOf<First, Rest...>& layer,
                                                    Index sequences) {
  OneOfState<First, Rest...> state;
  detail::with_index(layer.kind, [&](auto index) {
    state.kind.template emplace<index>(make_state(std::get<index>(layer.kind), sequences));
  });
  return state;
}

/// Initializes the layer as the `initialize` of its kind does.
template <class First, class... Rest>
void initialize(OneOf<First, Rest...>& layer, std::uint64_t seed, Index depth = 1) {
  std::visit([&](auto& kind) { initialize(kind, seed, depth); }, layer.kind);
}

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// Throws ShapeError for a layer whose part was exchanged for one of another kind.
template <class First, class... Rest>
void check_kind(std::string_view function, const OneOf<First, Rest...>& layer) {
  if (layer.kind.index() != layer.config.kind.index())
    throw_shape(function, "layer", "of kind " + std::to_string(layer.kind.index()),
                std::to_string(layer.config.kind.index()) + " as in its configuration");
}

/// The state of the alternative `I`, if there is one.
template <std::size_t I, class First, class... Rest>
[[nodiscard]] auto state_of_kind(std::string_view function, Maybe<OneOfState<First, Rest...>> state,
                                 std::string_view argument) {
  using Kind = std::variant_alternative_t<I, decltype(state->kind)>;
  if (!state) return Maybe<Kind>();
  if (state->kind.index() != I)
    throw_shape(function, argument, "of another kind of layer", "one made by make_state");
  return Maybe<Kind>(std::get<I>(state->kind));
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// Runs the layer. @throws as its kind does, and ShapeError for a state of another kind
template <class Backend, class First, class... Rest>
void forward(const Backend& backend, const OneOf<First, Rest...>& layer,
             const InputOf<OneOf<First, Rest...>>& input,
             Maybe<StateOf<OneOf<First, Rest...>>> state,
             const OutputOf<OneOf<First, Rest...>>& output,
             const OptionsOf<OneOf<First, Rest...>>& options,
             ScratchOf<OneOf<First, Rest...>>& scratch) {
  detail::check_kind("forward of OneOf", layer);
  detail::with_index(layer.kind, [&](auto index) {
    forward(backend, std::get<index>(layer.kind), input,
            detail::state_of_kind<index>("forward of OneOf", state, "state"), output, options,
            std::get<index>(scratch));
  });
}

/// The gradients of the layer. @throws as its kind does
template <class Backend, class First, class... Rest>
void backward(const Backend& backend, const OneOf<First, Rest...>& layer,
              const InputOf<OneOf<First, Rest...>>& input,
              Maybe<StateOf<OneOf<First, Rest...>>> dstate,
              const InputOf<OneOf<First, Rest...>>& doutput,
              const OutputOf<OneOf<First, Rest...>>& dinput,
              std::type_identity_t<OneOf<First, Rest...>>& gradients,
              const OptionsOf<OneOf<First, Rest...>>& options,
              ScratchOf<OneOf<First, Rest...>>& scratch) {
  detail::check_kind("backward of OneOf", layer);
  resize_gradients(backend, layer, gradients);
  detail::with_index(layer.kind, [&](auto index) {
    backward(backend, std::get<index>(layer.kind), input,
             detail::state_of_kind<index>("backward of OneOf", dstate, "dstate"), doutput, dinput,
             std::get<index>(gradients.kind), options, std::get<index>(scratch));
  });
}

/// Runs a layer that is of one of several kinds step by step. It refers to the layer, which must
/// outlive it.
template <class First, class... Rest>
class OneOfStepper {
  using T = typename First::value_type;
  using Layer = OneOf<First, Rest...>;

 public:
  /// Makes `layer` ready to step `batch` sequences at once.
  explicit OneOfStepper(const Layer& layer, Index batch = 1, const LayerOptions<>& options = {})
      : kind_(detail::with_index(layer.kind, [&](auto index) {
          return Kinds(std::in_place_index<index>, std::get<index>(layer.kind), batch, options);
        })) {}
  OneOfStepper(const Layer&&, Index = 1, const LayerOptions<>& = {}) = delete;

  /// Takes over weights that have changed.
  /// @throws ShapeError for weights of other shapes, and for a layer of another kind
  void update(const Layer& layer) {
    if (layer.kind.index() != kind_.index())
      detail::throw_shape("OneOfStepper", "layer", "of another kind", "the kind it was made for");
    detail::with_index(layer.kind, [&](auto index) {
      std::get<index>(kind_).update(std::get<index>(layer.kind));
    });
  }

  /// One step of every sequence of the batch on the calling thread: `state` moves on, nothing is
  /// allocated. A shape that does not fit ends the program with an error message.
  /// @param input, output (batch, width), rows contiguous
  friend void step(OneOfStepper& stepper, const std::type_identity_t<View<const T, 2>>& input,
                   OneOfState<First, Rest...>& state,
                   const std::type_identity_t<View<T, 2>>& output) noexcept {
    stepper.advance(Cpu{1}, input, state, output);
  }
  /// The same on the threads of a backend, as far as the layer uses them.
  friend void step(const Cpu& backend, OneOfStepper& stepper,
                   const std::type_identity_t<View<const T, 2>>& input,
                   OneOfState<First, Rest...>& state,
                   const std::type_identity_t<View<T, 2>>& output) noexcept {
    stepper.advance(backend, input, state, output);
  }

 private:
  using Kinds = std::variant<StepperOf<First>, StepperOf<Rest>...>;

  void advance(const Cpu& backend, const View<const T, 2>& input, OneOfState<First, Rest...>& state,
               const View<T, 2>& output) noexcept {
    detail::check_or_terminate([&] {
      if (state.kind.index() != kind_.index())
        detail::throw_shape("step of OneOf", "state", "of another kind of layer",
                            "one made by make_state");
    });
    detail::with_index(kind_, [&](auto index) {
      detail::step_on(backend, *std::get_if<index>(&kind_), input, *std::get_if<index>(&state.kind),
                      output);
    });
  }

  Kinds kind_;
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
