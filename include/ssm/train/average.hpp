#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/train/pieces.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// One step of an exponential moving average of the weights of any layer or model. For step = 1, 2,
/// …
///
///     average ← average + (1 − d) (weights − average),   d = min(decay, step/(step + 9)).
///
/// In the first steps d is smaller than decay, so that the average soon forgets the initial
/// weights.
/// @throws DomainError unless 0 ≤ decay < 1 and step ≥ 1, ShapeError when average and weights
///   differ in shape
template <class Model>
void update_average(const Cpu& backend, Model& average, const Model& weights, Index step,
                    double decay) {
  if (!(decay >= 0 && decay < 1))
    detail::throw_domain("update_average", "decay", std::to_string(decay), "in [0, 1)");
  if (step < 1) detail::throw_domain("update_average", "step", std::to_string(step), "at least 1");
  detail::check_same_parameters("update_average", "average", std::as_const(average), weights);
  const auto a = detail::cut(average);
  const auto w = detail::cut(weights);
  const auto age = static_cast<double>(step);
  using T = typename Model::value_type;
  const T rate = static_cast<T>(1 - (std::min)(decay, age / (age + 9)));
  parallel_for(for_elements(backend, detail::count_of(w)), static_cast<Index>(w.size()),
               [&](Index i) {
                 const auto p = static_cast<std::size_t>(i);
                 for (Index j = 0; j < w[p].count; ++j)
                   a[p].data[j] += rate * (w[p].data[j] - a[p].data[j]);
               });
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
