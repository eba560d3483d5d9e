#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "ssm/core/backend.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/train/pieces.hpp"

namespace ssm {

/// The 2-norm of all gradients together, summed in double over fixed pieces in order. It is NaN or
/// infinite when a gradient is.
template <class T, template <class, class...> class Weights, class... Rest>
[[nodiscard]] double gradient_norm(const Cpu& cpu, const Weights<T, Rest...>& gradients) {
  const auto g = detail::cut(gradients);
  std::vector<double> sums(g.size());
  parallel_for(cpu, static_cast<Index>(g.size()), [&](Index i) {
    const auto p = static_cast<std::size_t>(i);
    double sum = 0;
    for (Index j = 0; j < g[p].count; ++j) {
      const double x = static_cast<double>(g[p].data[j]);
      sum += x * x;
    }
    sums[p] = sum;
  });
  double total = 0;
  for (double sum : sums) total += sum;
  return std::sqrt(total);
}

/// Scales all gradients by min(1, max_norm / norm) and returns the norm that they had before.
///
/// When that norm is NaN or infinite the gradients stay as they are, and the caller, who sees it in
/// the result, must not use them. Throws DomainError unless max_norm > 0.
template <class T, template <class, class...> class Weights, class... Rest>
[[nodiscard]] double clip_gradients(const Cpu& cpu, Weights<T, Rest...>& gradients,
                                    double max_norm) {
  if (!(max_norm > 0))
    detail::throw_domain("clip_gradients", "max_norm", std::to_string(max_norm), "positive");
  const Weights<T, Rest...>& read_only = gradients;
  const double norm = gradient_norm(cpu, read_only);
  if (!std::isfinite(norm) || norm <= max_norm) return norm;
  const T scale = static_cast<T>(max_norm / norm);
  const auto g = detail::cut(gradients);
  parallel_for(cpu, static_cast<Index>(g.size()), [&](Index i) {
    const auto p = static_cast<std::size_t>(i);
    for (Index j = 0; j < g[p].count; ++j) g[p].data[j] *= scale;
  });
  return norm;
}

}  // namespace ssm
