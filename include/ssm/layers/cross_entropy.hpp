#pragma once

#include <array>
#include <cmath>

#include "ssm/core/backend.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/layers/detail/rows.hpp"
#include "ssm/layers/embedding.hpp"

namespace ssm {

/// Scratch of cross_entropy, grown to its largest call.
struct CrossEntropyWorkspace {
  Tensor<double, 1> losses;
};

namespace detail {

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

}  // namespace detail

/// Mean over (batch, length) of −log softmax(logits)[target], in nats, and its gradient
///   dlogits = (softmax(logits) − [v = target]) / (batch · length).
///
/// logits (batch · length, vocab), targets (batch, length), dlogits as logits, optional; it may be
/// the memory of the logits. Zero for no target at all. Rows are summed in order, in double.
/// Throws ShapeError, and DomainError for a target outside [0, vocab).
template <class T>
double cross_entropy(const Cpu& backend, const View<const T, 2>& logits,
                     const View<const Token, 2>& targets, const View<T, 2>& dlogits,
                     CrossEntropyWorkspace& workspace) {
  const char* function = "cross_entropy";
  const Index rows = logits.extent(0), vocab = logits.extent(1), length = targets.extent(1);
  detail::check_shape<View<const T, 2>, 2>(function, "logits", logits, {targets.size(), vocab});
  detail::check_optional_shape<View<T, 2>, 2>(function, "the gradient of logits", dlogits,
                                              {rows, vocab});
  detail::check_adjacent(function, "logits", logits);
  detail::check_adjacent(function, "the gradient of logits", dlogits);
  detail::check_tokens(function, "targets", targets, vocab);
  if (rows == 0) return 0;
  workspace.losses.resize({rows});
  const detail::Pieces pieces(rows, 16);
  parallel_for(backend, pieces.pieces, [&](Index piece) {
    for (Index i = pieces.begin(piece); i < pieces.end(piece); ++i) {
      const Token target = targets(i / length, i % length);
      const auto row = detail::array(logits.data() + i * logits.stride(0), vocab);
      const T top = row.maxCoeff();
      const T at_target = row(target);
      T* terms = dlogits ? dlogits.data() + i * dlogits.stride(0) : nullptr;
      const T sum = detail::sum_of_exponentials(row.data(), vocab, top, terms);
      if (terms) {
        detail::array(terms, vocab) *= T(1) / (sum * static_cast<T>(rows));
        terms[target] -= T(1) / static_cast<T>(rows);
      }
      workspace.losses(i) = std::log(static_cast<double>(sum)) + static_cast<double>(top) -
                            static_cast<double>(at_target);
    }
  });
  double total = 0;
  for (const double loss : workspace.losses) total += loss;
  return total / static_cast<double>(rows);
}

}  // namespace ssm
