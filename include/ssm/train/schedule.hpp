#pragma once

#include <cmath>
#include <numbers>

#include "ssm/core/index.hpp"

namespace ssm {

/// The learning rate of step 0, 1, …: a linear rise over `warmup` steps, then half a cosine from
/// `peak` down to `peak · final_fraction` at step `steps`, and that value ever after
/// (Loshchilov & Hutter 2017, equation 5, without restarts).
///
///     peak · (step + 1)/warmup                                              step < warmup
///     peak · (f + (1 − f)/2 · (1 + cos(π (step − warmup)/(steps − warmup))))  else, f =
///     final_fraction
struct CosineSchedule {
  double peak = 1e-3;
  Index warmup = 0;
  Index steps = 1;
  double final_fraction = 0.1;

  [[nodiscard]] double operator()(Index step) const noexcept {
    if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
    if (step >= steps) return peak * final_fraction;
    const double progress =
        static_cast<double>(step - warmup) / static_cast<double>(steps - warmup);
    const double fall = 0.5 * (1 + std::cos(std::numbers::pi * progress));
    return peak * (final_fraction + (1 - final_fraction) * fall);
  }
};

}  // namespace ssm
