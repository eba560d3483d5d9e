#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/fields.hpp"
#include "ssm/core/parameters.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/detail/initial_draws.hpp"
#include "ssm/layers/detail/product.hpp"
#include "ssm/layers/detail/rows.hpp"
#include "ssm/layers/layer.hpp"
#include "ssm/layers/linear.hpp"
#include "ssm/layers/swiglu.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

template <class T, class Matrix>
class GatedMlpStepper;

/// Sizes of a gated multilayer perceptron.
struct GatedMlpConfig {
  Index width = 0;  ///< of the sequences that it reads and writes
  Index inner = 0;  ///< channels within; 0: 8/3 of the width, rounded up to a multiple of 8, so
                    ///< that it has as many weights as one without a gate and four times the width

  /// The number of channels within.
  [[nodiscard]] constexpr Index channels() const noexcept {
    return inner > 0 ? inner : (width + 2) / 3 * 8;
  }
  friend bool operator==(const GatedMlpConfig&, const GatedMlpConfig&) = default;
};

/// Calls visit(name, member) for every field of a configuration; see ssm/core/fields.hpp.
template <class Visit>
void fields(GatedMlpConfig& c, Visit&& visit) {
  visit("width", c.width);
  visit("inner", c.inner);
}

/// What a gated multilayer perceptron carries from step to step: nothing.
struct GatedMlpState {};

/// Calls visit(name, tensor) for every tensor of a state, of which there is none.
template <class Visit>
void tensors(GatedMlpState&, Visit&&) {}

/// What a forward pass leaves for backward, and room for both; rows = batch · length.
template <class T, class Space = Host>
struct GatedMlpScratch {
  /// @cond internal
  LayerCall call;
  TensorIn<T, 2, Space> gate, up, mixed;     ///< (rows, channels): mixed = silu(gate) · up
  TensorIn<T, 2, Space> dgate, dup, dmixed;  ///< their gradients
  LinearScratch<T, Space> linear;
  SwigluScratch<T, Space> swiglu;
  /// @endcond
};

/// Moves the working memory of a scratch, which holds no result of a call, to the scratch of the
/// layer that runs next, so that the layers of a stack share it.
template <class T, class Space>
void hand_over_room(GatedMlpScratch<T, Space>& from, GatedMlpScratch<T, Space>& to) {
  std::swap(from.dgate, to.dgate);
  std::swap(from.dup, to.dup);
  std::swap(from.dmixed, to.dmixed);
  std::swap(from.linear, to.linear);
}

/// A multilayer perceptron with a gate, of every step by itself (Shazeer 2020, equation 6), as in
/// Llama:
///
///   output = down · (silu(gate · input) ∘ (up · input)),  silu(g) = g σ(g).
///
/// `Matrix` is the type of the projections, such as Tensor<T, 2>.
template <class T, class Matrix = Tensor<T, 2>>
struct GatedMlp {
  ///@{
  /// One of the types that every layer names; see SequenceLayer.
  using value_type = T;
  using space = typename Matrix::space;
  using Config = GatedMlpConfig;
  using State = GatedMlpState;
  using Scratch = GatedMlpScratch<T, space>;
  using Stepper = GatedMlpStepper<T, Matrix>;
  ///@}

  Config config;     ///< sizes
  Matrix gate_proj;  ///< (channels, width)
  Matrix up_proj;    ///< (channels, width)
  Matrix down_proj;  ///< (width, channels)

  GatedMlp() = default;
  /// A layer of this configuration, its parameters zero. @throws DomainError for sizes that are
  /// negative or cannot be addressed
  explicit GatedMlp(const Config& c) : config(c) {
    constexpr Index largest = 0x7fffffff;  // of which no product of two overflows
    if (c.width < 0 || c.width > largest || c.inner < 0 || c.inner > largest)
      detail::throw_domain("GatedMlp", c.width < 0 || c.width > largest ? "width" : "inner",
                           std::to_string(c.width < 0 || c.width > largest ? c.width : c.inner),
                           "from 0 to " + std::to_string(largest));
    resize_parameters(*this);
  }
};

/// The parameters of a gated multilayer perceptron, under the names of Llama. Weight decay applies
/// to all.
template <class T, class Matrix, class Visit>
void parameters(GatedMlp<T, Matrix>& layer, Visit&& visit) {
  const GatedMlpConfig& c = layer.config;
  visit("gate_proj.weight", layer.gate_proj, shape(c.channels(), c.width), true);
  visit("up_proj.weight", layer.up_proj, shape(c.channels(), c.width), true);
  visit("down_proj.weight", layer.down_proj, shape(c.width, c.channels()), true);
}

/// The state of so many sequences: nothing.
template <class T, class Matrix>
[[nodiscard]] GatedMlpState make_state(const GatedMlp<T, Matrix>&, Index) {
  return {};
}

/// Draws the weights uniform in ±1/√(number of their inputs), and divides down_proj by √depth. The
/// same seed gives the same weights on every machine.
/// @param depth how many layers the model has
template <class T>
void initialize(GatedMlp<T>& layer, std::uint64_t seed, Index depth = 1) {
  detail::InitialDraws draws(seed);
  const auto inverse_root = [](Index n) {
    return 1 / std::sqrt(static_cast<double>((std::max<Index>)(n, 1)));
  };
  draws.uniform(layer.gate_proj, inverse_root(layer.config.width));
  draws.uniform(layer.up_proj, inverse_root(layer.config.width));
  draws.uniform(layer.down_proj, inverse_root(layer.config.channels()) * inverse_root(depth));
}

/// Runs a gated multilayer perceptron over sequences, in either direction of time, which makes no
/// difference. Cost of a step: 3 · channels · width multiply-adds.
/// @param input, output (batch, length, width), rows evenly spaced, not the same memory
/// @throws ShapeError, and DomainError for offsets that do not fit or a rate other than 1
template <class Backend, class T, class Matrix>
void forward(const Backend& backend, const GatedMlp<T, Matrix>& layer,
             const InputOf<GatedMlp<T, Matrix>>& input, Maybe<StateOf<GatedMlp<T, Matrix>>> state,
             const OutputOf<GatedMlp<T, Matrix>>& output,
             const OptionsOf<GatedMlp<T, Matrix>>& options,
             ScratchOf<GatedMlp<T, Matrix>>& scratch) {
  using Space = typename GatedMlp<T, Matrix>::space;
  constexpr std::string_view function = "forward of GatedMlp";
  check_forward(function, layer, input, state, output, options,
                {.packed = true, .reversed = true, .rate = false}, scratch.call);
  const auto x = detail::merge_rows(function, "input", input);
  const auto y = detail::merge_rows(function, "output", output);
  const auto extents = shape(x.extent(0), layer.config.channels());
  resize(backend, scratch.gate, extents);
  resize(backend, scratch.up, extents);
  resize(backend, scratch.mixed, extents);
  linear(backend, detail::product<T, Space>(x, layer.gate_proj), {}, {scratch.gate},
         scratch.linear);
  linear(backend, detail::product<T, Space>(x, layer.up_proj), {}, {scratch.up}, scratch.linear);
  swiglu(backend, {scratch.gate, scratch.up}, {}, {scratch.mixed}, scratch.swiglu);
  linear(backend, detail::product<T, Space>(scratch.mixed, layer.down_proj), {}, {y},
         scratch.linear);
}

/// The gradients of a gated multilayer perceptron, of every weight and of the input, overwritten.
/// @throws ShapeError and DomainError as forward; ShapeError for a scratch that forward did not
///   fill with these arguments
template <class Backend, class T, class Matrix>
void backward(const Backend& backend, const GatedMlp<T, Matrix>& layer,
              const InputOf<GatedMlp<T, Matrix>>& input, Maybe<StateOf<GatedMlp<T, Matrix>>> dstate,
              const InputOf<GatedMlp<T, Matrix>>& doutput,
              const OutputOf<GatedMlp<T, Matrix>>& dinput,
              std::type_identity_t<GatedMlp<T, Matrix>>& gradients,
              const OptionsOf<GatedMlp<T, Matrix>>& options,
              ScratchOf<GatedMlp<T, Matrix>>& scratch) {
  using Space = typename GatedMlp<T, Matrix>::space;
  constexpr std::string_view function = "backward of GatedMlp";
  check_backward(function, layer, input, dstate, doutput, dinput, options,
                 {.packed = true, .reversed = true, .rate = false}, scratch.call);
  const auto x = detail::merge_rows(function, "input", input);
  const auto dy = detail::merge_rows(function, "doutput", doutput);
  const auto dx = detail::merge_rows(function, "dinput", dinput);
  GatedMlpScratch<T, Space>& w = scratch;
  const auto extents = shape(x.extent(0), layer.config.channels());
  resize_gradients(backend, layer, gradients);
  resize(backend, w.dgate, extents);
  resize(backend, w.dup, extents);
  resize(backend, w.dmixed, extents);
  linear_backward(backend, detail::product<T, Space>(w.mixed, layer.down_proj), {}, {dy},
                  {w.dmixed, gradients.down_proj, {}}, w.linear);
  swiglu_backward(backend, {w.gate, w.up}, {}, {w.dmixed}, {w.dgate, w.dup}, w.swiglu);
  linear_backward(backend, detail::product<T, Space>(x, layer.gate_proj), {}, {w.dgate},
                  {dx, gradients.gate_proj, {}}, w.linear);
  linear_backward(backend, detail::product<T, Space>(x, layer.up_proj),
                  {.write = Write::accumulate}, {w.dup}, {dx, gradients.up_proj, {}}, w.linear);
}

/// Runs a gated multilayer perceptron step by step. It holds memory for a batch, and refers to the
/// layer, which must outlive it.
template <class T, class Matrix>
class GatedMlpStepper {
 public:
  /// Makes `layer` ready to step `batch` sequences at once.
  /// @throws ShapeError, and DomainError for options that a single step does not support
  explicit GatedMlpStepper(const GatedMlp<T, Matrix>& layer, Index batch = 1,
                           const LayerOptions<>& options = {})
      : config_(layer.config),
        gate_({batch, layer.config.channels()}),
        up_(gate_.extents()),
        mixed_(gate_.extents()) {
    detail::check_no_rate("GatedMlpStepper", options);
    detail::check_step_options("GatedMlpStepper", options);
    update(layer);
  }
  GatedMlpStepper(const GatedMlp<T, Matrix>&&, Index = 1, const LayerOptions<>& = {}) = delete;

  /// Takes over weights that have changed. @throws ShapeError for weights of other shapes
  void update(const GatedMlp<T, Matrix>& layer) {
    detail::check_parameters("GatedMlpStepper", layer);
    if (!(layer.config == config_))
      detail::throw_shape("GatedMlpStepper", "layer", "of another configuration",
                          "that of the first");
    layer_ = &layer;
  }

  /// One step of every sequence of the batch, on the calling thread; nothing is allocated. A shape
  /// that does not fit ends the program with an error message.
  /// @param input, output (batch, width), rows contiguous
  friend void step(GatedMlpStepper& stepper, const std::type_identity_t<View<const T, 2>>& input,
                   GatedMlpState&, const std::type_identity_t<View<T, 2>>& output) noexcept {
    stepper.advance(Cpu{1}, input, output);
  }
  /// The same with the products cut over the threads of a backend.
  friend void step(const Cpu& backend, GatedMlpStepper& stepper,
                   const std::type_identity_t<View<const T, 2>>& input, GatedMlpState&,
                   const std::type_identity_t<View<T, 2>>& output) noexcept {
    stepper.advance(backend, input, output);
  }

 private:
  void advance(const Cpu& backend, const View<const T, 2>& input,
               const View<T, 2>& output) noexcept {
    const GatedMlp<T, Matrix>& layer = *layer_;
    detail::check_or_terminate([&] {
      detail::check_step_call("step of GatedMlp", layer, gate_.extent(0), input, output);
    });
    linear_step(backend, detail::product<T, Host>(input, layer.gate_proj), {}, gate_.view());
    linear_step(backend, detail::product<T, Host>(input, layer.up_proj), {}, up_.view());
    swiglu_step(SwigluInputs<T>{gate_, up_}, {}, mixed_);
    linear_step(backend, detail::product<T, Host>(mixed_, layer.down_proj), {}, output);
  }

  const GatedMlp<T, Matrix>* layer_ = nullptr;
  GatedMlpConfig config_;
  Tensor<T, 2> gate_, up_, mixed_;
};

#if SSM_HAS_LIBRARY
SSM_INSTANCE_LAYER(GatedMlp<float>)
SSM_INSTANCE_LAYER(GatedMlp<double>)
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
