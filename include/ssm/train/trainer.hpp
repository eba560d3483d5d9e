#pragma once

#include <cmath>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/parameters.hpp"
#include "ssm/core/shares.hpp"
#include "ssm/train/average.hpp"
#include "ssm/train/clip.hpp"
#include "ssm/train/groups.hpp"
#include "ssm/train/optimizer.hpp"
#include "ssm/train/schedule.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// How a model is trained.
struct TrainerOptions {
  CosineSchedule schedule = {};  ///< the learning rate of every step
  AdamWOptions adamw =
      {};               ///< the optimizer; its learning rate is replaced by that of the schedule
  double max_norm = 1;  ///< gradients are scaled down to this norm; infinity: never
  double average = 0;   ///< decay of the moving average of the weights; 0: no average
};

/// What one step of training reports.
struct TrainingReport {
  double loss = 0;           ///< before the update
  double gradient_norm = 0;  ///< before clipping
  double learning_rate = 0;  ///< of this step
  bool finite =
      true;  ///< false when the loss or the norm is NaN or infinite; no weight was changed then
};

/// Trains any layer or model. It owns the weights, the optimizer, the average, and memory for the
/// gradients. State-space layers train best with groups of their own: see SystemGroups.
///
///     ssm::Trainer trainer(model, {.schedule = {.peak = 3e-3, .steps = 1000}});
///     while (trainer.steps() < 1000)
///       trainer.step(ssm::cpu, [&](const auto& model, auto& gradients) {
///         return loss(ssm::cpu, model, inputs, labels, gradients, {}, scratch);
///       });
///
/// Over ranks, `loss` gives each rank the gradients of its own share, whose sum over ranks all of
/// them step by: their weights are the same from the first step to the last.
template <class Model>
class Trainer {
 public:
  /// See DefaultGroups and SystemGroups.
  using Groups = std::function<ParameterGroup(std::string_view, bool)>;

  Model model;                 ///< the weights as trained so far
  Model average;               ///< the moving average of the weights, if options.average is not 0
  Optimizer<Model> optimizer;  ///< moments and number of steps
  TrainerOptions options;      ///< may be changed between steps
  /// Learning rate and weight decay of each parameter. No file of a run keeps them: a run that goes
  /// on is given them again.
  Groups groups = DefaultGroups();

  Trainer() = default;
  /// A run before its first step. @throws DomainError for options out of range
  explicit Trainer(Model start, const TrainerOptions& o = {})
      : model(std::move(start)), average(model), optimizer(model), options(o), gradients_(model) {
    check();
  }

  /// The number of steps done so far.
  [[nodiscard]] Index steps() const noexcept { return optimizer.step; }
  /// The weights to use: the average if there is one, otherwise the weights as trained so far.
  [[nodiscard]] const Model& best() const noexcept { return options.average > 0 ? average : model; }
  /// The gradients of the last step, after clipping.
  [[nodiscard]] const Model& gradients() const noexcept { return gradients_; }

  /// Throws DomainError for options out of range, as step does before anything changes.
  void check() const {
    const auto require = [](const char* name, double value, bool valid, const char* want) {
      if (!valid) detail::throw_domain("Trainer", name, std::to_string(value), want);
    };
    require("max_norm", options.max_norm, options.max_norm > 0, "positive");
    require("average", options.average, options.average >= 0 && options.average < 1, "in [0, 1)");
    require("schedule.peak", options.schedule.peak,
            options.schedule.peak >= 0 && std::isfinite(options.schedule.peak),
            "finite, at least 0");
    require("schedule.final_fraction", options.schedule.final_fraction,
            options.schedule.final_fraction >= 0 && std::isfinite(options.schedule.final_fraction),
            "finite, at least 0");
    require("schedule.warmup", static_cast<double>(options.schedule.warmup),
            options.schedule.warmup >= 0, "at least 0");
    detail::check_adamw("Trainer", options.adamw);
  }

  /// One step. `loss(model, gradients)` must return the mean loss and overwrite the gradients.
  /// @throws DomainError for options out of range, and what `loss` throws
  template <class Backend, class Loss>
  TrainingReport step(const Backend& backend, Loss&& loss) {
    check();
    const Cpu& local = local_cpu(backend);
    TrainingReport report;
    report.learning_rate = options.schedule(optimizer.step);
    report.loss = loss(std::as_const(model), gradients_);
    sum_over_ranks(backend, gradients_);
    report.gradient_norm = clip_gradients(local, gradients_, options.max_norm);
    report.finite = std::isfinite(report.loss) && std::isfinite(report.gradient_norm);
    if (!report.finite) return report;
    AdamWOptions adamw = options.adamw;
    adamw.learning_rate = report.learning_rate;
    optimizer_step(local, model, gradients_, optimizer, adamw, groups);
    if (options.average > 0) update_average(local, average, model, optimizer.step, options.average);
    return report;
  }

 private:
  Model gradients_;
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
