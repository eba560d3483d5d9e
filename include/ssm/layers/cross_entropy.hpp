#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "ssm/core/backend.hpp"
#include "ssm/core/checks.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/layers/cross_entropy_types.hpp"
#include "ssm/layers/detail/rows.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// How many targets there are, but for those to be left out.
inline Index count_targets(const View<const Token, 2>& targets, Token ignore) noexcept {
  Index count = 0;
  for (Index b = 0; b < targets.extent(0); ++b)
    for (Index t = 0; t < targets.extent(1); ++t) count += targets(b, t) != ignore ? 1 : 0;
  return count;
}

/// Σ_v e^{x_v − top} of a row; the terms go to `terms` unless it is null, which may be x.
template <class T>
T sum_of_exponentials(const T* x, Index count, T top, T* terms) noexcept {
  Vec<T> total(T(0));
  for_each_vector<T>(count, [&](Index i, Index n) {
    Vec<T> term = exp(Vec<T>::load(x + i, n) - Vec<T>(top));
    if (n < lanes<T>) {  // lanes without an element count for nothing
      std::array<T, static_cast<std::size_t>(lanes<T>)> in_use;
      term.store(in_use.data());
      term = Vec<T>::load(in_use.data(), n);
    }
    if (terms) term.store(terms + i, n);
    total = total + term;
  });
  return sum(total);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// The mean over all targets of −log softmax(logits)[target], in nats, and its gradient: row r of
/// dlogits is (softmax(logits) − e) / count, where e is 1 at the target of row r and 0 elsewhere,
/// and count is the number of targets. Targets equal to options.ignore are left out of the mean and
/// of count, and their rows of dlogits are 0. With options.count the losses of all parts of a batch
/// add up to its mean.
/// @return the loss, summed over rows in order and in double; 0 when there is no target
/// @throws ShapeError for extents that do not fit, elements of a row that are not adjacent, and a
///   gradient that overlaps a part of the logits; DomainError for a target outside [0, vocab) and a
///   negative count
template <class T>
double cross_entropy(const Cpu& backend, const CrossEntropyInputs<T>& inputs,
                     const CrossEntropyOptions& options, const CrossEntropyOutputs<T>& outputs,
                     CrossEntropyScratch<T>& scratch) {
  const char* function = "cross_entropy";
  const auto& logits = inputs.logits;
  const auto& targets = inputs.targets;
  const auto& dlogits = outputs.dlogits;
  detail::check_given(function, "targets", targets, "(batch, length)");
  const Index rows = targets.size(), vocab = logits.extent(1), length = targets.extent(1);
  detail::check_rows(function, "logits", logits, std::array<Index, 2>{rows, vocab});
  if (dlogits) {
    detail::check_output_rows(function, "the gradient of logits", dlogits, logits.extents());
    detail::check_same_or_apart(function, "the gradient of logits", dlogits, "logits", logits);
  }
  detail::check_tokens(function, "targets", targets, vocab, &options.ignore);
  if (options.count < 0)
    detail::throw_domain(function, "count", std::to_string(options.count), "0 or more");
  const Index counted =
      options.count > 0 ? options.count : detail::count_targets(targets, options.ignore);
  scratch.losses.resize({rows});
  const detail::Pieces pieces(rows, 16);
  parallel_for(for_elements(backend, logits.size(), 0.8), pieces.pieces, [&](Index piece) {
    for (Index i = pieces.begin(piece); i < pieces.end(piece); ++i) {
      const Token target = targets(i / length, i % length);
      T* terms = dlogits ? dlogits.data() + i * dlogits.stride(0) : nullptr;
      if (target == options.ignore) {
        scratch.losses(i) = 0;
        if (terms) std::fill_n(terms, vocab, T(0));
        continue;
      }
      const auto row = detail::array(logits.data() + i * logits.stride(0), vocab);
      const T top = row.maxCoeff();
      const T at_target = row(target);
      const T sum = detail::sum_of_exponentials(row.data(), vocab, top, terms);
      if (terms) {
        detail::array(terms, vocab) *= T(1) / (sum * static_cast<T>(counted));
        terms[target] -= T(1) / static_cast<T>(counted);
      }
      scratch.losses(i) = std::log(static_cast<double>(sum)) + static_cast<double>(top) -
                          static_cast<double>(at_target);
    }
  });
  double total = 0;
  for (const double loss : scratch.losses) total += loss;
  return counted == 0 ? 0 : total / static_cast<double>(counted);
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE double cross_entropy(const Cpu&, const CrossEntropyInputs<float>&,
                                  const CrossEntropyOptions&, const CrossEntropyOutputs<float>&,
                                  CrossEntropyScratch<float>&);
SSM_INSTANCE double cross_entropy(const Cpu&, const CrossEntropyInputs<double>&,
                                  const CrossEntropyOptions&, const CrossEntropyOutputs<double>&,
                                  CrossEntropyScratch<double>&);
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
