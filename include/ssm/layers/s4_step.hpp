#pragma once

#include <algorithm>
#include <array>
#include <complex>
#include <string_view>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/detail/complex_views.hpp"
#include "ssm/layers/detail/two_directions.hpp"
#include "ssm/layers/layer.hpp"
#include "ssm/layers/s4_weights.hpp"
#include "ssm/layers/sample_modes.hpp"
#include "ssm/scan/detail/dplr_lanes.hpp"
#include "ssm/scan/detail/dplr_tables.hpp"
#include "ssm/scan/dplr_scan_types.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// Runs an S4 layer step by step. It holds the sampled system of every channel, and nothing of the
/// layer.
template <class T>
class S4Stepper {
 public:
  /// Makes `layer` ready to step `batch` sequences at once.
  /// @throws ShapeError; DomainError for a bidirectional layer, for sequences that are packed or
  ///   run backward, and for a rate that is not above 0 and finite
  S4Stepper(const S4<T>& layer, Index batch, const LayerOptions<>& options = {})
      : config_(layer.config), batch_(batch), rate_(options.rate) {
    constexpr std::string_view function = "S4Stepper";
    detail::check_s4_config(function, config_);
    detail::check_one_direction(function, config_);
    detail::check_step_options(function, options);
    detail::check_rate(function, rate_);
    update(layer);
  }
  S4Stepper(const S4<T>&&, Index, const LayerOptions<>& = {}) = delete;

  /// Takes over the weights of `layer` after they have changed. Its configuration is that of the
  /// layer before. Allocates nothing.
  /// @throws ShapeError for another configuration; DomainError for a Δ that is not positive and
  ///   finite
  void update(const S4<T>& layer) {
    constexpr std::string_view function = "S4Stepper";
    if (!(layer.config == config_))
      detail::throw_shape(function, "layer", "of another configuration", "that of the first");
    detail::check_s4(function, layer);
    lambda_.resize({config_.width, config_.modes()});
    delta_.resize({config_.width});
    tables_.resize({blocks() * layout().vectors() * lanes});
    SampleModesScratch<T> scratch;
    sample_modes(cpu(1), {layer.log_decay, layer.frequency, layer.log_delta}, {.rate = rate_},
                 {.lambda = lambda_, .delta = delta_}, scratch);
    detail::check_positive(function, "delta", View<const T, 1>(delta_));
    const DplrScanInputs<T> inputs{.u = {},
                                   .lambda = lambda_,
                                   .P = detail::as_complex(layer.P.view()),
                                   .delta = delta_,
                                   .B = detail::as_complex(layer.B.view()),
                                   .C = detail::as_complex(layer.C.view()[0]),
                                   .D = layer.D};
    detail::DplrSampling<T> sampling(inputs, layout(), sampling_);
    for (Index block = 0; block < blocks(); ++block) sampling.sample(block * lanes, table(block));
    with_block(0, [](const auto&) {});  // makes room
  }
  void update(const S4<T>&&) = delete;

  /// How many sequences step at once.
  [[nodiscard]] Index batch() const noexcept { return batch_; }

  /// One step of every sequence; see step.
  void operator()(const View<const T, 2>& input, S4State<T>& state,
                  const View<T, 2>& output) noexcept {
    const Index width = config_.width;
    detail::check_or_terminate([&] {
      constexpr std::string_view function = "S4 step";
      const std::array<Index, 2> extents{batch_, width};
      detail::check_shape(function, "input", input, extents);
      detail::check_shape(function, "output", output, extents);
      detail::check_shape(function, "state", state.x,
                          std::array<Index, 3>{batch_, width, config_.modes()});
    });
    const auto in_time = [&](const auto& rows) {
      using Rows = std::remove_cvref_t<decltype(rows)>;
      return View<typename Rows::element_type, 3>(rows.data(), {batch_, 1, width},
                                                  {rows.stride(0), 0, rows.stride(1)});
    };
    const auto u = in_time(input);
    const auto y = in_time(output);
    for (Index block = 0; block < blocks(); ++block)
      with_block(block, [&](auto lanes_of_block) {
        for (Index b = 0; b < batch_; ++b)
          lanes_of_block.forward(u, state.x, y, state.x, b, {b, 0, 1}, false, nullptr);
      });
  }

 private:
  static constexpr Index lanes = detail::lanes<T>;

  [[nodiscard]] detail::DplrLayout layout() const noexcept {
    return {config_.modes(), config_.rank};
  }
  [[nodiscard]] Index blocks() const noexcept { return (config_.width + lanes - 1) / lanes; }
  [[nodiscard]] T* table(Index block) noexcept {
    return tables_.data() + block * layout().vectors() * lanes;
  }
  template <class Body>
  void with_block(Index block, const Body& body) {
    const Index first = block * lanes, count = (std::min)(lanes, config_.width - first);
    const auto run = [&](auto rank) {
      body(detail::DplrLanes<T, rank>(layout(), table(block), first, count, false, room_));
    };
    if (config_.rank == 1)
      run(std::integral_constant<int, 1>());
    else
      run(std::integral_constant<int, -1>());
  }

  S4Config config_;
  Index batch_;
  double rate_;
  Tensor<std::complex<T>, 2> lambda_;  // (width, state/2)
  Tensor<T, 1> delta_;                 // (width)
  Tensor<T, 1> tables_, room_;
  Tensor<double, 1> sampling_;
};

/// One step of every sequence on the calling thread; `state` moves on. The result is that of
/// forward with length 1 and the options of the stepper, to the bit where forward scans. Allocates
/// nothing. A shape that does not fit ends the program with an error message. To keep steps fast
/// while a state decays to zero, see FlushDenormals.
///
/// Cost: (4 + 2 rank) · width · state multiply-adds for each sequence, a channel in each lane of
/// vectors.
/// @param input, output (batch, width), may be the same memory
template <class T>
void step(S4Stepper<T>& stepper, const std::type_identity_t<View<const T, 2>>& input,
          S4State<T>& state, const std::type_identity_t<View<T, 2>>& output) noexcept {
  stepper(input, state, output);
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE S4Stepper<float>::S4Stepper(const S4<float>&, Index, const LayerOptions<>&);
SSM_INSTANCE void S4Stepper<float>::update(const S4<float>&);
SSM_INSTANCE void S4Stepper<float>::operator()(const View<const float, 2>&, S4State<float>&,
                                               const View<float, 2>&) noexcept;
SSM_INSTANCE S4Stepper<double>::S4Stepper(const S4<double>&, Index, const LayerOptions<>&);
SSM_INSTANCE void S4Stepper<double>::update(const S4<double>&);
SSM_INSTANCE void S4Stepper<double>::operator()(const View<const double, 2>&, S4State<double>&,
                                                const View<double, 2>&) noexcept;
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
