#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ssm/core/error.hpp"
#include "ssm/core/parameters.hpp"
#include "ssm/cuda/backend.hpp"
#include "ssm/cuda/detail/update_pieces.hpp"
#include "ssm/cuda/memory.hpp"
#include "ssm/train/groups.hpp"
#include "ssm/train/optimizer.hpp"
#include "ssm/train/trainer.hpp"

namespace ssm {
/// The state of AdamW of a layer or model on a device: its moments, the number of steps done, and
/// what the last one reports.
template <class Model>
struct DeviceOptimizer {
  Model first_moment;                ///< m of every parameter
  Model second_moment;               ///< v of every parameter
  DeviceTensor<double, 1> progress;  ///< (4): steps done, norm of the gradients before clipping,
                                     ///< learning rate, 1 where the step was done and 0 where not

  DeviceOptimizer() = default;
  /// Before the first step of this model. @throws CudaError
  DeviceOptimizer(const Cuda& backend, const Model& model)
      : first_moment(model.config), second_moment(model.config), progress(backend, {4}) {
    for (Model* moment : {&first_moment, &second_moment}) {
      resize_parameters(backend, *moment);
      parameters(*moment, [&](const auto&, auto& tensor, const auto&, bool) {
        zero(backend, tensor.view());
      });
    }
    zero(backend, progress.view());
  }

  /// @cond internal
  using T = typename Model::value_type;
  std::vector<detail::DevicePiece<T>> pieces;  ///< as they are in `table`
  DeviceBuffer table, memory;
  /// @endcond
};

/// One step of training of a model on a device: gradients are scaled down to options.max_norm, the
/// learning rate is that of options.schedule at this step, and AdamW moves the weights, with the
/// equations of clip_gradients and optimizer_step over host memory. Where the norm is NaN or
/// infinite, no weight changes and no step counts.
///
/// Nothing waits for the device, and the number of the step is kept there, so that a captured
/// stream takes it: each launch of the graph is the next step. Three kernels, whatever the number
/// of parameters. The bits are always the same.
///
///     forward(stream, model, tokens, {}, logits, {}, scratch);
///     cross_entropy(stream, {rows, targets}, {}, {drows}, loss, losses);
///     backward(stream, model, tokens, {}, dlogits, gradients, {}, scratch);
///     optimizer_step(stream, model, gradients, optimizer, options);
///
/// @param gradients a model of the same configuration, unchanged
/// @param groups a function of (name, decay); see DefaultGroups and SystemGroups
/// @throws DomainError for options and factors out of range and for an average, which is not kept
///   on a device; ShapeError when the arguments differ in size; CudaError, also for other memory
///   than that of the step before while the stream is captured
template <class Model, class Groups = DefaultGroups>
void optimizer_step(const Cuda& backend, Model& model, const Model& gradients,
                    DeviceOptimizer<Model>& optimizer, const TrainerOptions& options,
                    const Groups& groups = {}) {
  using T = typename Model::value_type;
  constexpr const char* function = "optimizer_step";
  detail::check_adamw(function, options.adamw);
  if (!(options.max_norm > 0))
    detail::throw_domain(function, "max_norm", std::to_string(options.max_norm), "positive");
  if (options.average != 0)
    detail::throw_domain(function, "average", std::to_string(options.average),
                         "0, as no average is kept on a device");
  detail::check_same_parameters(function, "gradients", gradients, std::as_const(model));
  detail::check_same_parameters(function, "optimizer.first_moment", optimizer.first_moment,
                                std::as_const(model));
  detail::check_same_parameters(function, "optimizer.second_moment", optimizer.second_moment,
                                std::as_const(model));
  detail::check_shape(function, "optimizer.progress", optimizer.progress, std::array<Index, 1>{4});
  const auto w = detail::cut(model, [&](std::string_view name, bool decay) {
    const ParameterGroup group = groups(name, decay);
    detail::check_group(function, name, group);
    return group;
  });
  const auto g = detail::cut(gradients);
  const auto m = detail::cut(optimizer.first_moment);
  const auto v = detail::cut(optimizer.second_moment);
  std::vector<detail::DevicePiece<T>> pieces;
  for (std::size_t i = 0; i < w.size(); ++i)
    pieces.push_back({w[i].data, g[i].data, m[i].data, v[i].data, w[i].count,
                      w[i].group.learning_rate, w[i].group.weight_decay});
  const std::size_t bytes = pieces.size() * sizeof(detail::DevicePiece<T>);
  void* const table = optimizer.table.reserve(backend, bytes);
  if (pieces != optimizer.pieces) {
    if (detail::is_captured(function, backend))
      detail::raise<CudaError>(
          "optimizer_step: its stream is captured, expected the memory and the groups of the step "
          "before: run a step once before");
    optimizer.pieces = std::move(pieces);
    detail::copy_bytes(backend, detail::Copy::to_device, table, optimizer.pieces.data(), bytes);
    synchronize(backend);  // a later call may have other pieces
  }
  detail::update_pieces(
      backend, static_cast<const detail::DevicePiece<T>*>(table),
      static_cast<Index>(optimizer.pieces.size()),
      {options.schedule.peak, options.schedule.final_fraction, options.schedule.warmup,
       options.schedule.steps, options.adamw.beta1, options.adamw.beta2, options.adamw.epsilon,
       options.adamw.weight_decay, options.max_norm},
      optimizer.progress.data(), optimizer.memory);
}

/// What the last step of an optimizer reports, but for the loss. It waits for the stream.
/// @throws CudaError
template <class Model>
[[nodiscard]] TrainingReport last_report(const Cuda& backend,
                                         const DeviceOptimizer<Model>& optimizer) {
  const auto progress = to_host(backend, optimizer.progress);
  return {.gradient_norm = progress(1), .learning_rate = progress(2), .finite = progress(3) != 0};
}

}  // namespace ssm
