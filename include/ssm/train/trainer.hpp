#pragma once

#include <cmath>
#include <cstdint>
#include <span>

#include "ssm/core/backend.hpp"
#include "ssm/train/adamw.hpp"
#include "ssm/train/average.hpp"
#include "ssm/train/clip.hpp"
#include "ssm/train/schedule.hpp"
#include "ssm/train/text_streams.hpp"

namespace ssm {

struct TrainingOptions {
  Index batch = 16;  ///< parallel streams
  StreamOptions streams;
  CosineSchedule schedule;
  AdamWOptions adamw;   ///< its learning rate is the schedule's
  double max_norm = 1;  ///< gradients are clipped to it
  double dropout = 0;   ///< probability, on what each block reads
  double average = 0;   ///< decay of the moving average of the weights; 0: none is kept
};

/// All that a training run carries from step to step: a plain value, and what a checkpoint keeps.
template <class Weights, class State>
struct TrainingState {
  Weights weights;
  Weights first_moment;   ///< of AdamW, zero at the start
  Weights second_moment;  ///< of AdamW, zero at the start
  Weights average;        ///< a copy of the weights at the start; unused without averaging
  State carried;          ///< the model's state of every stream
  TextStreams streams;
  Index step = 0;  ///< steps done

  /// The weights to evaluate and to ship.
  [[nodiscard]] const Weights& best(const TrainingOptions& options) const noexcept {
    return options.average > 0 ? average : weights;
  }
};

/// What one step saw.
struct TrainingReport {
  double loss = 0;           ///< mean nats per token, before the update
  double gradient_norm = 0;  ///< before clipping
  double learning_rate = 0;
  bool finite = true;  ///< false: loss or norm is NaN or infinite, and no weight was changed
};

/// One step of training on bytes.
///
/// `loss(tokens, targets, carried, gradients)` returns the mean loss, moves `carried` on and
/// overwrites `gradients`; `reset(carried, b)` zeroes the state of stream b. `batch` and
/// `gradients` are scratch, gradients with the sizes of the weights.
template <class T, template <class> class Weights, class State, class Loss, class Reset>
TrainingReport training_step(const Cpu& cpu, std::span<const unsigned char> text,
                             const TrainingOptions& options,
                             TrainingState<Weights<T>, State>& state, Weights<T>& gradients,
                             TextStreams::Batch& batch, Loss&& loss, Reset&& reset) {
  state.streams.read(text, state.step, options.streams, batch);
  for (std::size_t b = 0; b < batch.fresh.size(); ++b)
    if (batch.fresh[b]) reset(state.carried, static_cast<Index>(b));

  TrainingReport report;
  report.learning_rate = options.schedule(state.step);
  report.loss = loss(batch.tokens.view(), batch.targets.view(), state.carried, gradients);
  report.gradient_norm = clip_gradients(cpu, gradients, options.max_norm);
  report.finite = std::isfinite(report.loss) && std::isfinite(report.gradient_norm);
  if (!report.finite) return report;

  ++state.step;
  AdamWOptions adamw = options.adamw;
  adamw.learning_rate = report.learning_rate;
  adamw_step(cpu, state.weights, gradients, state.first_moment, state.second_moment, state.step,
             adamw);
  if (options.average > 0)
    update_average(cpu, state.average, state.weights, state.step, options.average);
  return report;
}

}  // namespace ssm
