#pragma once

#include <string_view>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/parameters.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/causal_conv.hpp"
#include "ssm/layers/decay.hpp"
#include "ssm/layers/detail/product.hpp"
#include "ssm/layers/layer.hpp"
#include "ssm/layers/linear.hpp"
#include "ssm/layers/mamba.hpp"
#include "ssm/layers/rms_norm.hpp"
#include "ssm/scan/selective_scan_step.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// Runs a Mamba block step by step. It holds A = −exp(A_log) and memory for a batch, and refers to
/// the layer, which must outlive it. After the weights have changed, call update.
template <class T, class Matrix>
class MambaStepper {
  static_assert(std::is_same_v<typename Mamba<T, Matrix>::space, Host>,
                "on a device a step is a forward pass of length 1");

 public:
  /// Makes `layer` ready to step `batch` sequences at once.
  /// @throws ShapeError, and DomainError for options that a single step does not support
  explicit MambaStepper(const Mamba<T, Matrix>& layer, Index batch = 1,
                        const LayerOptions<>& options = {})
      : config_(layer.config),
        projected_({batch, 2 * layer.config.channels()}),
        u_({batch, layer.config.channels()}),
        parameters_({batch, layer.config.projections()}),
        delta_(u_.extents()),
        y_(u_.extents()) {
    detail::check_no_rate("MambaStepper", options);
    detail::check_plain_sequences("MambaStepper", options);
    update(layer);
  }
  MambaStepper(const Mamba<T, Matrix>&& layer, Index batch = 1,
               const LayerOptions<>& = {}) = delete;

  /// Takes over weights that have changed. @throws ShapeError for weights of other shapes
  void update(const Mamba<T, Matrix>& layer) {
    detail::check_parameters("MambaStepper", layer);
    if (!(layer.config == config_))
      detail::throw_shape("MambaStepper", "layer", "of another configuration", "that of the first");
    layer_ = &layer;
    A_.resize(layer.A_log.extents());
    decay(cpu(1), DecayInputs<T>{layer.A_log}, {}, {A_}, decay_);
  }

  /// One step of every sequence of the batch, on the calling thread: `state` moves on, nothing is
  /// allocated. A shape that does not fit ends the program with an error message.
  /// @param input, output (batch, width), rows contiguous
  friend void step(MambaStepper& stepper, const std::type_identity_t<View<const T, 2>>& input,
                   MambaState<T>& state, const std::type_identity_t<View<T, 2>>& output) noexcept {
    stepper.advance(Cpu{1}, input, state, output);
  }
  /// The same with the products cut over the threads of a backend. The bits do not depend on their
  /// number. Nothing is allocated once the threads run.
  friend void step(const Cpu& backend, MambaStepper& stepper,
                   const std::type_identity_t<View<const T, 2>>& input, MambaState<T>& state,
                   const std::type_identity_t<View<T, 2>>& output) noexcept {
    stepper.advance(backend, input, state, output);
  }

 private:
  void advance(const Cpu& backend, const View<const T, 2>& input, MambaState<T>& state,
               const View<T, 2>& output) noexcept {
    const Mamba<T, Matrix>& layer = *layer_;
    const MambaConfig& c = layer.config;
    const Index batch = u_.extent(0);
    detail::check_or_terminate([&] {
      constexpr std::string_view function = "step of Mamba";
      detail::check_shape(function, "input", input, shape(batch, c.width));
      detail::check_shape(function, "output", output, shape(batch, c.width));
      detail::check_mamba_state<T, Host>(function, c, batch, "state", state);
    });
    const auto [x, z] = projected_.view().split(1, {c.channels(), c.channels()});
    const auto [dt, B, C] = parameters_.view().split(1, {c.rank(), c.state, c.state});
    const auto one_group = [&](const View<T, 2>& rows) {
      return View<const T, 3>(rows.data(), {batch, 1, c.state}, {rows.stride(0), c.state, 1});
    };
    linear_step(backend,
                detail::product<T, Host>(input, layer.in_proj,
                                         detail::optional_view(c.bias, layer.in_bias)),
                {}, projected_.view());
    causal_conv_step(CausalConvStepInputs<T>{x, layer.conv_weight,
                                             detail::optional_view(c.conv_bias, layer.conv_bias)},
                     {.silu = true}, state.conv, u_);
    linear_step(backend, detail::product<T, Host>(u_, layer.x_proj), {}, parameters_.view());
    if (c.normalizes())
      for (const View<T, 2>& part : {dt, B, C})
        rms_norm_step(RmsNormInputs<T>{part}, {.epsilon = c.projection_epsilon}, part);
    linear_step(backend, detail::product<T, Host>(dt, layer.dt_proj), {}, delta_.view());
    SelectiveScanStepInputs<T> in;
    in.u = u_;
    in.delta = delta_;
    in.A = A_;
    in.B = one_group(B);
    in.C = one_group(C);
    in.D = layer.D;
    in.delta_bias = layer.dt_bias;
    in.z = z;
    selective_scan_step(in, {.softplus = true, .hold = Hold::simplified}, state.scan, y_);
    linear_step(
        backend,
        detail::product<T, Host>(y_, layer.out_proj, detail::optional_view(c.bias, layer.out_bias)),
        {}, output);
  }

  const Mamba<T, Matrix>* layer_ = nullptr;
  MambaConfig config_;
  Tensor<T, 2> projected_, u_, parameters_, delta_, y_, A_;
  DecayScratch<T> decay_;
};

#if SSM_HAS_LIBRARY
SSM_INSTANCE MambaStepper<float, Tensor<float, 2>>::MambaStepper(const Mamba<float>&, Index,
                                                                 const LayerOptions<>&);
SSM_INSTANCE void MambaStepper<float, Tensor<float, 2>>::update(const Mamba<float>&);
SSM_INSTANCE void MambaStepper<float, Tensor<float, 2>>::advance(const Cpu&,
                                                                 const View<const float, 2>&,
                                                                 MambaState<float>&,
                                                                 const View<float, 2>&) noexcept;
SSM_INSTANCE MambaStepper<double, Tensor<double, 2>>::MambaStepper(const Mamba<double>&, Index,
                                                                   const LayerOptions<>&);
SSM_INSTANCE void MambaStepper<double, Tensor<double, 2>>::update(const Mamba<double>&);
SSM_INSTANCE void MambaStepper<double, Tensor<double, 2>>::advance(const Cpu&,
                                                                   const View<const double, 2>&,
                                                                   MambaState<double>&,
                                                                   const View<double, 2>&) noexcept;
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
