#pragma once

#include <algorithm>
#include <string>

#include "ssm/core/backend.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/train/pieces.hpp"

namespace ssm {

/// Step `step` = 1, 2, … of an exponential moving average of the weights:
///
///     average ← average + (1 − d) (weights − average),   d = min(decay, step/(step + 9)).
///
/// The smaller d of the first steps keeps the average from remembering the initial weights.
/// Throws DomainError unless 0 ≤ decay < 1 and step ≥ 1, ShapeError when the arguments differ.
template <class T, template <class, class...> class Weights, class... Rest>
void update_average(const Cpu& cpu, Weights<T, Rest...>& average,
                    const Weights<T, Rest...>& weights, Index step, double decay) {
  if (!(decay >= 0 && decay < 1))
    detail::throw_domain("update_average", "decay", std::to_string(decay), "in [0, 1)");
  if (step < 1) detail::throw_domain("update_average", "step", std::to_string(step), "at least 1");
  const auto a = detail::cut(average);
  const auto w = detail::cut(weights);
  detail::check_same_pieces("update_average", "average", a, w);
  const auto age = static_cast<double>(step);
  const T rate = static_cast<T>(1 - std::min(decay, age / (age + 9)));
  parallel_for(cpu, static_cast<Index>(w.size()), [&](Index i) {
    const auto p = static_cast<std::size_t>(i);
    for (Index j = 0; j < w[p].count; ++j) a[p].data[j] += rate * (w[p].data[j] - a[p].data[j]);
  });
}

}  // namespace ssm
