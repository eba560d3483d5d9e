#pragma once

#include <cmath>
#include <string>

#include "ssm/core/backend.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/train/pieces.hpp"

namespace ssm {

struct AdamWOptions {
  double learning_rate = 1e-3;
  double beta1 = 0.9;         ///< decay of the first moment per step, in [0, 1)
  double beta2 = 0.95;        ///< decay of the second moment per step, in [0, 1)
  double epsilon = 1e-8;      ///< added to the root of the second moment, > 0
  double weight_decay = 0.1;  ///< λ, applied to the parameters that `visit` marks for decay
};

/// Step `step` = 1, 2, … of Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm
/// 2, with λ scaled by the learning rate):
///
///     m ← β₁ m + (1 − β₁) g,   v ← β₂ v + (1 − β₂) g²,
///     w ← w − learning_rate · ( m/(1 − β₁^step) / (√(v/(1 − β₂^step)) + ε) + λ w ).
///
/// Both moments start at zero. Cost: one pass over the parameters, and one short list of their
/// pieces allocated. Bits do not depend on the number of threads.
/// Throws DomainError for step < 1 or options out of range, ShapeError when the arguments differ.
template <class T, template <class, class...> class Weights, class... Rest>
void adamw_step(const Cpu& cpu, Weights<T, Rest...>& weights, const Weights<T, Rest...>& gradients,
                Weights<T, Rest...>& first_moment, Weights<T, Rest...>& second_moment, Index step,
                const AdamWOptions& options) {
  const auto check = [](const char* argument, double value, bool valid, const char* want) {
    if (!valid) detail::throw_domain("adamw_step", argument, std::to_string(value), want);
  };
  const auto fraction = [](double x) { return x >= 0 && x < 1; };
  check("step", static_cast<double>(step), step >= 1, "at least 1");
  check("learning_rate", options.learning_rate,
        std::isfinite(options.learning_rate) && options.learning_rate >= 0, "finite, at least 0");
  check("beta1", options.beta1, fraction(options.beta1), "in [0, 1)");
  check("beta2", options.beta2, fraction(options.beta2), "in [0, 1)");
  check("epsilon", options.epsilon, options.epsilon > 0, "positive");
  check("weight_decay", options.weight_decay,
        std::isfinite(options.weight_decay) && options.weight_decay >= 0, "finite, at least 0");

  const auto w = detail::cut(weights);
  const auto g = detail::cut(gradients);
  const auto m = detail::cut(first_moment);
  const auto v = detail::cut(second_moment);
  detail::check_same_pieces("adamw_step", "gradients", g, w);
  detail::check_same_pieces("adamw_step", "first_moment", m, w);
  detail::check_same_pieces("adamw_step", "second_moment", v, w);

  const auto power = static_cast<double>(step);
  const T beta1 = static_cast<T>(options.beta1),
          one_minus_beta1 = static_cast<T>(1 - options.beta1);
  const T beta2 = static_cast<T>(options.beta2),
          one_minus_beta2 = static_cast<T>(1 - options.beta2);
  const T scale1 = static_cast<T>(options.learning_rate / (1 - std::pow(options.beta1, power)));
  const T scale2 = static_cast<T>(1 / (1 - std::pow(options.beta2, power)));
  const T epsilon = static_cast<T>(options.epsilon);
  const T shrink = static_cast<T>(options.learning_rate * options.weight_decay);

  parallel_for(cpu, static_cast<Index>(w.size()), [&](Index i) {
    const auto p = static_cast<std::size_t>(i);
    const T keep = T(1) - (w[p].decay ? shrink : T(0));
    for (Index j = 0; j < w[p].count; ++j) {
      const T gradient = g[p].data[j];
      const T first = beta1 * m[p].data[j] + one_minus_beta1 * gradient;
      const T second = beta2 * v[p].data[j] + one_minus_beta2 * gradient * gradient;
      m[p].data[j] = first;
      v[p].data[j] = second;
      w[p].data[j] = keep * w[p].data[j] - scale1 * first / (std::sqrt(scale2 * second) + epsilon);
    }
  });
}

}  // namespace ssm
