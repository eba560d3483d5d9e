#pragma once

#include <array>
#include <complex>
#include <string>
#include <string_view>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/detail/two_directions.hpp"
#include "ssm/layers/layer.hpp"
#include "ssm/layers/s4d_weights.hpp"
#include "ssm/layers/sample_modes.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// Runs an S4D layer step by step. It holds the sampled modes, and refers to the layer, whose C and
/// D it reads and which must outlive it.
template <class T>
class S4dStepper {
 public:
  /// Makes `layer` ready to step `batch` sequences at once.
  /// @throws ShapeError; DomainError for a bidirectional layer, for sequences that are packed or
  ///   run backward, for a rate that is not above 0 and finite, and for dss with dss_length 0 or
  ///   with modes that do not decay
  S4dStepper(const S4d<T>& layer, Index batch, const LayerOptions<>& options = {})
      : config_(layer.config), batch_(batch), rate_(options.rate) {
    constexpr std::string_view function = "S4dStepper";
    detail::check_s4d_config(function, config_);
    detail::check_one_direction(function, config_);
    detail::check_step_options(function, options);
    detail::check_rate(function, rate_);
    if (config_.dss && config_.dss_length == 0)
      detail::throw_domain(function, "dss_length", "0", "above 0, as a step carries a state");
    a_bar_.resize({config_.width, config_.modes()});
    b_bar_.resize({config_.width, config_.modes()});
    update(layer);
  }
  S4dStepper(const S4d<T>&&, Index, const LayerOptions<>& = {}) = delete;

  /// Takes over the weights of `layer` after they have changed. Its configuration is that of the
  /// layer before. Allocates nothing.
  /// @throws ShapeError for another configuration, DomainError for modes of dss that do not decay
  void update(const S4d<T>& layer) {
    constexpr std::string_view function = "S4dStepper";
    if (!(layer.config == config_))
      detail::throw_shape(function, "layer", "of another configuration", "that of the first");
    detail::check_parameters(function, layer);
    SampleModesScratch<T> scratch;
    sample_modes(
        cpu(1),
        {layer.log_decay, layer.frequency, layer.log_delta, detail::as_complex(layer.B.view())},
        {rate_, config_.method, config_.dss ? config_.dss_length : 0},
        {.a_bar = a_bar_, .b_bar = b_bar_}, scratch);
    layer_ = &layer;
  }
  void update(const S4d<T>&&) = delete;

  /// How many sequences step at once.
  [[nodiscard]] Index batch() const noexcept { return batch_; }

  /// One step of every sequence; see step.
  void operator()(const View<const T, 2>& input, S4dState<T>& state,
                  const View<T, 2>& output) const noexcept {
    const Index batch = batch_, width = config_.width, modes = config_.modes();
    const S4d<T>& layer = *layer_;
    detail::check_or_terminate([&] {
      constexpr std::string_view function = "S4d step";
      const std::array<Index, 2> extents{batch, width};
      detail::check_shape(function, "input", input, extents);
      detail::check_shape(function, "output", output, extents);
      detail::check_shape(function, "state", state.x, std::array<Index, 3>{batch, width, modes});
      detail::check_shape(function, "C", layer.C, std::array<Index, 4>{1, width, modes, 2});
      detail::check_shape(function, "D", layer.D, std::array<Index, 1>{width});
    });
    for (Index b = 0; b < batch; ++b)
      for (Index c = 0; c < width; ++c) {
        const T u = input(b, c);
        T* x = reinterpret_cast<T*>(state.x.data() + (b * width + c) * modes);
        const T* a = reinterpret_cast<const T*>(a_bar_.data() + c * modes);
        const T* in = reinterpret_cast<const T*>(b_bar_.data() + c * modes);
        const T* out = layer.C.data() + 2 * c * modes;
        T sum = 0;
        for (Index i = 0; i < 2 * modes; i += 2) {
          const T re = a[i] * x[i] - a[i + 1] * x[i + 1] + in[i] * u;
          const T im = a[i] * x[i + 1] + a[i + 1] * x[i] + in[i + 1] * u;
          sum += out[i] * re - out[i + 1] * im;
          x[i] = re;
          x[i + 1] = im;
        }
        output(b, c) = T(2) * sum + layer.D(c) * u;
      }
  }

 private:
  S4dConfig config_;
  Index batch_;
  double rate_;
  const S4d<T>* layer_ = nullptr;
  Tensor<std::complex<T>, 2> a_bar_, b_bar_;  // (width, state/2)
};

/// One step of every sequence on the calling thread; `state` moves on. The result is that of
/// forward with length 1 and the options of the stepper. Allocates nothing. A shape that does not
/// fit ends the program with an error message. To keep steps fast while a state decays to zero, see
/// FlushDenormals.
///
/// Cost: width · state multiply-adds for each sequence.
/// @param input, output (batch, width), may be the same memory
template <class T>
void step(S4dStepper<T>& stepper, const std::type_identity_t<View<const T, 2>>& input,
          S4dState<T>& state, const std::type_identity_t<View<T, 2>>& output) noexcept {
  stepper(input, state, output);
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE S4dStepper<float>::S4dStepper(const S4d<float>&, Index, const LayerOptions<>&);
SSM_INSTANCE void S4dStepper<float>::update(const S4d<float>&);
SSM_INSTANCE void S4dStepper<float>::operator()(const View<const float, 2>&, S4dState<float>&,
                                                const View<float, 2>&) const noexcept;
SSM_INSTANCE S4dStepper<double>::S4dStepper(const S4d<double>&, Index, const LayerOptions<>&);
SSM_INSTANCE void S4dStepper<double>::update(const S4d<double>&);
SSM_INSTANCE void S4dStepper<double>::operator()(const View<const double, 2>&, S4dState<double>&,
                                                 const View<double, 2>&) const noexcept;
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
