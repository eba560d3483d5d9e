#pragma once

#include <cmath>

#include "row_place.hpp"
#include "ssm/cuda/detail/update_pieces.hpp"

namespace ssm {
namespace kernels {

using ssm::detail::DevicePiece;
using ssm::detail::UpdateRule;

/// The sum of the squares of the gradients of each piece: a block a piece.
template <class T>
struct SquarePieces {
  static constexpr int most_threads = 256;
  const DevicePiece<T>* pieces;
  double* sums;

  SSM_DEVICE void operator()(Block& block) const {
    const DevicePiece<T> piece = pieces[block.index()];
    const double sum = sum_by_block(block, piece.count, [&](Index i) {
      const auto x = static_cast<double>(piece.gradient[i]);
      return x * x;
    });
    if (block.thread() == 0) sums[block.index()] = sum;
  }
};

/// What AdamW multiplies by at this step.
struct Update {
  double clip, rate, corrected_rate, second_scale;
};

/// ssm::CosineSchedule, as a device may call it.
SSM_DEVICE double scheduled_rate(const UpdateRule& rule, Index step) {
  if (step < rule.warmup)
    return rule.peak * static_cast<double>(step + 1) / static_cast<double>(rule.warmup);
  if (step >= rule.steps) return rule.peak * rule.final_fraction;
  const double along =
      static_cast<double>(step - rule.warmup) / static_cast<double>(rule.steps - rule.warmup);
  const double fall = 0.5 * (1 + std::cos(3.14159265358979323846 * along));
  return rule.peak * (rule.final_fraction + (1 - rule.final_fraction) * fall);
}

/// The norm of all gradients, and what follows from it and from the number of the step: one block.
struct PlanUpdate {
  static constexpr int most_threads = 256;
  UpdateRule rule;
  const double* sums;
  Index count;
  double* progress;
  Update* update;

  SSM_DEVICE void operator()(Block& block) const {
    const double norm = std::sqrt(sum_by_block(block, count, [&](Index i) { return sums[i]; }));
    if (block.thread() != 0) return;
    const bool finite = norm < infinity<double>;
    const double rate = scheduled_rate(rule, static_cast<Index>(progress[0]));
    const double step = progress[0] + (finite ? 1 : 0);
    update->clip = norm > rule.max_norm ? rule.max_norm / norm : 1.0;
    update->rate = rate;
    update->corrected_rate = rate / (1 - std::pow(rule.beta1, step));
    update->second_scale = 1 / (1 - std::pow(rule.beta2, step));
    progress[0] = step, progress[1] = norm, progress[2] = rate, progress[3] = finite ? 1 : 0;
  }
};

/// AdamW: a block a piece.
template <class T>
struct UpdatePieces {
  static constexpr int most_threads = 256;
  const DevicePiece<T>* pieces;
  UpdateRule rule;
  const double* progress;
  const Update* update;

  SSM_DEVICE void operator()(Block& block) const {
    if (progress[3] == 0) return;
    const DevicePiece<T> piece = pieces[block.index()];
    const Update now = *update;
    const T clip = T(now.clip), beta1 = T(rule.beta1), beta2 = T(rule.beta2);
    const T one_minus_beta1 = T(1 - rule.beta1), one_minus_beta2 = T(1 - rule.beta2);
    const T second_scale = T(now.second_scale), epsilon = T(rule.epsilon);
    const T rate = T(now.corrected_rate * piece.learning_rate);
    const T keep =
        T(1) - T(now.rate * piece.learning_rate * rule.weight_decay * piece.weight_decay);
    SSM_UNROLL_BY(4)
    for (Index i = block.thread(); i < piece.count; i += most_threads) {
      const T gradient = clip * piece.gradient[i];
      const T first = beta1 * piece.first[i] + one_minus_beta1 * gradient;
      const T second = beta2 * piece.second[i] + one_minus_beta2 * gradient * gradient;
      piece.first[i] = first;
      piece.second[i] = second;
      piece.weight[i] =
          keep * piece.weight[i] - rate * first / (std::sqrt(second_scale * second) + epsilon);
    }
  }
};

}  // namespace kernels

template <class T>
void detail::update_pieces(const Cuda& backend, const DevicePiece<T>* pieces, Index count,
                           const UpdateRule& rule, double* progress, DeviceBuffer& memory) {
  using namespace kernels;
  const char* function = "optimizer_step";
  constexpr int threads = 256;
  const Index room = shared_size<double>(threads / warp);
  struct Arrays {
    double* sums;
    Update* update;
  };
  const Arrays arrays = lay_out(backend, memory, [&](Scratch& s) {
    return Arrays{s.array<double>(count), s.array<Update>(1)};
  });
  launch(backend, function, count, threads, room, SquarePieces<T>{pieces, arrays.sums});
  launch(backend, function, 1, threads, room,
         PlanUpdate{rule, arrays.sums, count, progress, arrays.update});
  launch(backend, function, count, threads, 0,
         UpdatePieces<T>{pieces, rule, progress, arrays.update});
}

}  // namespace ssm

#define SSM_UPDATE_PIECES(T)                                                          \
  template void ssm::detail::update_pieces(const Cuda&, const DevicePiece<T>*, Index, \
                                           const UpdateRule&, double*, DeviceBuffer&);
