#pragma once

#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/train/pieces.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// The 2-norm of all gradients of a layer or model together, summed in double. The bits are the
/// same for every number of threads. It is NaN or infinite when a gradient is.
template <class Model>
[[nodiscard]] double gradient_norm(const Cpu& backend, const Model& gradients) {
  const auto g = detail::cut(gradients);
  std::vector<double> sums(g.size());
  parallel_for(for_elements(backend, detail::count_of(g)), static_cast<Index>(g.size()),
               [&](Index i) {
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

/// Scales all gradients by min(1, max_norm / norm), where norm is their 2-norm, and returns norm.
///
/// When norm is NaN or infinite, the gradients are left unchanged. The caller must check the result
/// and must not use them then. An infinite max_norm never scales. @throws DomainError unless
/// max_norm > 0
template <class Model>
[[nodiscard]] double clip_gradients(const Cpu& backend, Model& gradients, double max_norm) {
  if (!(max_norm > 0))
    detail::throw_domain("clip_gradients", "max_norm", std::to_string(max_norm), "positive");
  const double norm = gradient_norm(backend, std::as_const(gradients));
  if (!std::isfinite(norm) || norm <= max_norm) return norm;
  using T = typename Model::value_type;
  const T scale = static_cast<T>(max_norm / norm);
  const auto g = detail::cut(gradients);
  parallel_for(for_elements(backend, detail::count_of(g)), static_cast<Index>(g.size()),
               [&](Index i) {
                 const auto p = static_cast<std::size_t>(i);
                 for (Index j = 0; j < g[p].count; ++j) g[p].data[j] *= scale;
               });
  return norm;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
