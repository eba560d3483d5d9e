#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/fields.hpp"
#include "ssm/layers/add.hpp"
#include "ssm/layers/detail/rows.hpp"
#include "ssm/layers/layer.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

template <class Layer>
class BothWaysStepper;

/// The configuration of a layer that runs in both directions.
template <class Layer>
struct BothWaysConfig {
  typename Layer::Config mixer = {};  ///< of the layer of each direction

  /// The number of channels that it reads and writes.
  [[nodiscard]] constexpr Index width() const noexcept { return width_of(mixer); }
  friend bool operator==(const BothWaysConfig&, const BothWaysConfig&) = default;
};

/// Calls visit(name, member) for every field of a configuration; see ssm/core/fields.hpp.
template <class Layer, class Visit>
void fields(BothWaysConfig<Layer>& c, Visit&& visit) {
  visit("mixer", c.mixer);
}

/// What a layer of both directions carries: of the pass in time the state before the first step,
/// which becomes that after the last, and of the pass from the end the state beyond the last step,
/// which becomes that after the first.
template <class Layer>
struct BothWaysState {
  typename Layer::State ahead;  ///< of the pass in time
  typename Layer::State back;   ///< of the pass from the end
};

/// Calls visit(name, tensor) for every tensor of a state; those of the pass from the end have names
/// that end in "_back".
template <class Layer, class Visit>
void tensors(BothWaysState<Layer>& state, Visit&& visit) {
  tensors(state.ahead, visit);
  tensors(state.back, [&](std::string_view name, auto& tensor) {
    visit(std::string_view(std::string(name) + "_back"), tensor);
  });
}

/// What a forward pass leaves for backward, and room for both; rows = batch · length.
template <class Layer>
struct BothWaysScratch {
  /// @cond internal
  using T = typename Layer::value_type;
  using Space = typename Layer::space;

  typename Layer::Scratch ahead, back;
  TensorIn<T, 2, Space> other;  ///< (rows, width): what the pass from the end adds
  AddScratch<T, Space> add;
  /// @endcond
};

/// Moves the working memory of a scratch, which holds no result of a call, to the scratch of the
/// layer that runs next, so that the layers of a stack share it.
template <class Layer>
void hand_over_room(BothWaysScratch<Layer>& from, BothWaysScratch<Layer>& to) {
  std::swap(from.other, to.other);
  detail::hand_over(from.ahead, to.ahead);
  detail::hand_over(from.back, to.back);
}

/// Two layers of one kind over the same sequences, one in time and one from the end, as the blocks
/// of Caduceus (Schiff et al. 2024, section 3.1):
///
///   output = ahead(input) + reverse(back(reverse(input))).
///
/// A sequence in two pieces takes three runs: of the first piece, for the state that it hands to
/// the second; of the second, for its results and the state that it hands back; and of the first
/// again. There is no step.
template <class Layer>
struct BothWays {
  ///@{
  /// One of the types that every layer names; see SequenceLayer.
  using value_type = typename Layer::value_type;
  using space = typename Layer::space;
  using Config = BothWaysConfig<Layer>;
  using State = BothWaysState<Layer>;
  using Scratch = BothWaysScratch<Layer>;
  using Stepper = BothWaysStepper<Layer>;
  ///@}

  Config config;  ///< sizes and fixed choices
  Layer ahead;    ///< the layer that runs in time
  Layer back;     ///< the layer that runs from the end

  BothWays() = default;
  /// A layer of this configuration, its parameters zero. @throws as the layer inside does
  explicit BothWays(const Config& c) : config(c), ahead(c.mixer), back(c.mixer) {}
};

/// Calls visit(name, tensor, extents, decay) for every parameter; see ssm/core/parameters.hpp.
template <class Layer, class Visit>
void parameters(BothWays<Layer>& layer, Visit&& visit) {
  parameters(layer.ahead, within("ahead.", visit));
  parameters(layer.back, within("back.", visit));
}

/// Sets the configuration of a layer, and allocates no parameter.
template <class Layer>
void configure(BothWays<Layer>& layer, const typename BothWays<Layer>::Config& config) {
  layer.config = config;
  configure(layer.ahead, config.mixer);
  configure(layer.back, config.mixer);
}

/// The state of so many sequences before their first step and beyond their last, all zero.
template <class Layer>
[[nodiscard]] BothWaysState<Layer> make_state(const BothWays<Layer>& layer, Index sequences) {
  return {make_state(layer.ahead, sequences), make_state(layer.back, sequences)};
}

/// Initializes the layers of both directions by their own `initialize`, each with a seed of its
/// own.
template <class Layer>
void initialize(BothWays<Layer>& layer, std::uint64_t seed, Index depth = 1) {
  initialize(layer.ahead, seed, depth);
  initialize(layer.back, ~seed, depth);
}

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// The options of one direction of a layer: dropout of its own, and time turned for the second.
template <class Space>
[[nodiscard]] LayerOptions<Space> options_of_direction(LayerOptions<Space> options, bool back) {
  options.dropout = options.dropout.of(back ? 1 : 0);
  if (back) options.sequences = options.sequences.turned();
  return options;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// Runs a layer of both directions over sequences. Cost: twice that of the layer inside.
/// @param input, output (batch, length, width), rows evenly spaced, not the same memory
/// @throws as the layer inside does
template <class Backend, class Layer>
void forward(const Backend& backend, const BothWays<Layer>& layer,
             const InputOf<BothWays<Layer>>& input, Maybe<StateOf<BothWays<Layer>>> state,
             const OutputOf<BothWays<Layer>>& output, const OptionsOf<BothWays<Layer>>& options,
             ScratchOf<BothWays<Layer>>& scratch) {
  constexpr std::string_view function = "forward of BothWays";
  using State = Maybe<StateOf<Layer>>;
  detail::check_layer_call(function, layer, input, output, options);
  const auto y = detail::merge_rows(function, "output", output);
  resize(backend, scratch.other, y.extents());
  forward(backend, layer.back, input, state ? State(state->back) : State(),
          OutputOf<Layer>(scratch.other.data(), input.extents()),
          detail::options_of_direction(options, true), scratch.back);
  forward(backend, layer.ahead, input, state ? State(state->ahead) : State(), output,
          detail::options_of_direction(options, false), scratch.ahead);
  add(backend, {y, scratch.other}, {}, {y}, scratch.add);
}

/// The gradients of a layer of both directions. @throws as the layer inside does
template <class Backend, class Layer>
void backward(const Backend& backend, const BothWays<Layer>& layer,
              const InputOf<BothWays<Layer>>& input, Maybe<StateOf<BothWays<Layer>>> dstate,
              const InputOf<BothWays<Layer>>& doutput, const OutputOf<BothWays<Layer>>& dinput,
              std::type_identity_t<BothWays<Layer>>& gradients,
              const OptionsOf<BothWays<Layer>>& options, ScratchOf<BothWays<Layer>>& scratch) {
  constexpr std::string_view function = "backward of BothWays";
  using State = Maybe<StateOf<Layer>>;
  detail::check_layer_call(function, layer, input, dinput, options);
  const auto dx = detail::merge_rows(function, "dinput", dinput);
  resize_gradients(backend, layer, gradients);
  resize(backend, scratch.other, dx.extents());
  backward(backend, layer.back, input, dstate ? State(dstate->back) : State(), doutput,
           OutputOf<Layer>(scratch.other.data(), input.extents()), gradients.back,
           detail::options_of_direction(options, true), scratch.back);
  backward(backend, layer.ahead, input, dstate ? State(dstate->ahead) : State(), doutput, dinput,
           gradients.ahead, detail::options_of_direction(options, false), scratch.ahead);
  add(backend, {dx, scratch.other}, {}, {dx}, scratch.add);
}

/// Cannot be made: what is to come is not known at a step.
template <class Layer>
class BothWaysStepper {
  using T = typename Layer::value_type;

 public:
  /// @throws DomainError always
  explicit BothWaysStepper(const BothWays<Layer>&, Index = 1, const LayerOptions<>& = {}) {
    detail::throw_domain("BothWaysStepper", "layer", "of two directions",
                         "one direction, as a pass from the end has no step");
  }
  BothWaysStepper(const BothWays<Layer>&&, Index = 1, const LayerOptions<>& = {}) = delete;
  /// Does nothing.
  void update(const BothWays<Layer>&) noexcept {}
  /// Does nothing.
  friend void step(BothWaysStepper&, const std::type_identity_t<View<const T, 2>>&,
                   BothWaysState<Layer>&, const std::type_identity_t<View<T, 2>>&) noexcept {}
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
