#pragma once

#include <cmath>
#include <numbers>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/index.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// A learning rate that rises linearly over `warmup` steps, then falls along half a cosine from
/// `peak` to `peak · final_fraction` at step `steps`, and keeps that value (Loshchilov & Hutter
/// 2017, equation 5, without restarts). For step = 0, 1, … and f = final_fraction it is, while
/// step < warmup, and after that:
///
///     peak · (step + 1)/warmup
///     peak · (f + (1 − f)/2 · (1 + cos(π (step − warmup)/(steps − warmup))))
struct CosineSchedule {
  double peak = 1e-3;           ///< the highest learning rate
  Index warmup = 0;             ///< number of steps over which it rises
  Index steps = 1;              ///< the step from which on it is constant
  double final_fraction = 0.1;  ///< the last learning rate as a fraction of peak

  /// The learning rate of a step.
  [[nodiscard]] double operator()(Index step) const noexcept {
    if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
    if (step >= steps) return peak * final_fraction;
    const double progress =
        static_cast<double>(step - warmup) / static_cast<double>(steps - warmup);
    const double fall = 0.5 * (1 + std::cos(std::numbers::pi * progress));
    return peak * (final_fraction + (1 - final_fraction) * fall);
  }
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
