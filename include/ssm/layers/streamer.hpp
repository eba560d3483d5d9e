#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "ssm/core/checks.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/layer.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// Runs a layer or a stack on a stream: takes a sample or a block of samples, and gives as many. It
/// owns the layer, its state and all memory. After construction it does not allocate, lock or
/// throw, so it may run in a real-time callback.
///
///     ssm::Streamer amp(ssm::load<Amp>("amp.safetensors"));
///     float y = amp(x);
///     amp(block, block);
///
/// Wrong arguments end the program with an error message. Only one thread at a time may use a
/// streamer; different streamers may run in parallel.
template <SequenceLayer Layer>
class Streamer {
 public:
  using T = typename Layer::value_type;  ///< type of a sample

  /// Takes the layer, at the beginning of a stream.
  /// @param options the rate counts: 2 for samples that come half as often as in training
  /// @throws ShapeError, and DomainError for a layer that has no step, such as a bidirectional one
  explicit Streamer(Layer layer, const LayerOptions<>& options = {})
      : layer_(std::make_unique<Layer>(std::move(layer))),
        stepper_(*layer_, Index{1}, options),
        state_(make_state(*layer_, 1)) {}

  /// The number of channels that it reads and writes.
  [[nodiscard]] Index width() const noexcept { return width_of(layer_->config); }
  /// The layer that it runs.
  [[nodiscard]] const Layer& layer() const noexcept { return *layer_; }
  ///@{
  /// The state after the samples so far: a plain value, which may be copied and set back later.
  [[nodiscard]] const typename Layer::State& state() const noexcept { return state_; }
  [[nodiscard]] typename Layer::State& state() noexcept { return state_; }
  ///@}

  /// The next sample of a layer of one channel.
  T operator()(T sample) noexcept {
    T result = T(0);
    step(stepper_, View<const T, 2>(&sample, {1, 1}), state_, View<T, 2>(&result, {1, 1}));
    return result;
  }

  /// The next samples of a layer of one channel. Input and output have the same length, and may be
  /// the same memory.
  void operator()(std::span<const T> input, std::span<T> output) noexcept {
    detail::check_or_terminate([&] {
      if (input.size() != output.size())
        detail::throw_shape("Streamer", "output", std::to_string(output.size()) + " samples",
                            std::to_string(input.size()));
      const auto row = [](const auto* samples, std::size_t count) {
        return View<const T, 1>(samples, {static_cast<Index>(count)});
      };
      detail::check_same_or_apart("Streamer", "output", row(output.data(), output.size()), "input",
                                  row(input.data(), input.size()));
    });
    for (std::size_t t = 0; t < input.size(); ++t) output[t] = (*this)(input[t]);
  }

  /// The next steps of a layer of any width.
  /// @param input, output (length, width); may be the same memory
  void operator()(const std::type_identity_t<View<const T, 2>>& input,
                  const std::type_identity_t<View<T, 2>>& output) noexcept {
    detail::check_or_terminate([&] {
      if (!layer_) detail::throw_shape("Streamer", "layer", "moved away", "a layer");
      detail::check_given("Streamer", "input", input, "(length, width)");
      const auto extents = shape(input.extent(0), width());
      detail::check_shape("Streamer", "input", input, extents);
      detail::check_shape("Streamer", "output", output, extents);
      detail::check_same_or_apart("Streamer", "output", output, "input", input);
    });
    for (Index t = 0; t < input.extent(0); ++t)
      step(stepper_, input.slice(0, t, 1), state_, output.slice(0, t, 1));
  }
  /// The same for tensors, which are ranges of samples as well as views.
  void operator()(const Tensor<T, 2>& input, Tensor<T, 2>& output) noexcept {
    (*this)(View<const T, 2>(input), View<T, 2>(output));
  }

  /// Goes back to the beginning of a stream. Allocates nothing.
  void reset() noexcept {
    tensors(state_, [](std::string_view, auto& tensor) {
      tensor.fill(typename std::remove_reference_t<decltype(tensor)>::value_type(0));
    });
  }

 private:
  std::unique_ptr<Layer> layer_;  // whose address the stepper knows
  typename Layer::Stepper stepper_;
  typename Layer::State state_;
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
