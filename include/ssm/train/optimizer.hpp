#pragma once

#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/parameters.hpp"
#include "ssm/train/groups.hpp"
#include "ssm/train/pieces.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// How AdamW is to run; see optimizer_step.
struct AdamWOptions {
  double learning_rate = 1e-3;  ///< η, 0 or more
  double beta1 = 0.9;           ///< decay of the first moment per step, in [0, 1)
  double beta2 = 0.95;          ///< decay of the second moment per step, in [0, 1)
  double epsilon = 1e-8;        ///< added to the root of the second moment, > 0
  double weight_decay = 0.1;    ///< λ, 0 or more
};

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// Throws DomainError for options out of range.
inline void check_adamw(const char* function, const AdamWOptions& options) {
  const auto check = [&](const char* argument, double value, bool valid, const char* want) {
    if (!valid) throw_domain(function, argument, std::to_string(value), want);
  };
  const auto fraction = [](double x) { return x >= 0 && x < 1; };
  const auto finite = [](double x) { return std::isfinite(x) && x >= 0; };
  check("learning_rate", options.learning_rate, finite(options.learning_rate),
        "finite, at least 0");
  check("beta1", options.beta1, fraction(options.beta1), "in [0, 1)");
  check("beta2", options.beta2, fraction(options.beta2), "in [0, 1)");
  check("epsilon", options.epsilon, options.epsilon > 0, "positive");
  check("weight_decay", options.weight_decay, finite(options.weight_decay), "finite, at least 0");
}

/// Throws DomainError for factors out of range, naming the parameter that they are for.
inline void check_group(const char* function, std::string_view name, const ParameterGroup& group) {
  const auto check = [&](const char* factor, double value) {
    if (!(std::isfinite(value) && value >= 0))
      throw_domain(function,
                   std::string("the factor for the ") + factor + " of " + std::string(name),
                   std::to_string(value), "finite, at least 0");
  };
  check("learning rate", group.learning_rate);
  check("weight decay", group.weight_decay);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// The state of AdamW for any layer or model: its moments, and the number of steps done. A plain
/// value.
template <class Model>
struct Optimizer {
  Model first_moment,  ///< m of every parameter, zero at the start
      second_moment;   ///< v of every parameter, zero at the start
  Index step = 0;      ///< steps done

  Optimizer() = default;
  /// Before the first step of a model of these sizes.
  explicit Optimizer(const Model& model) : first_moment(model) {
    zero_parameters(first_moment);
    second_moment = first_moment;
  }
};

/// One step of AdamW (Loshchilov & Hutter 2019, algorithm 2, with λ scaled by the learning rate).
/// With t = 1, 2, … the number of this step:
///
///     m ← β₁ m + (1 − β₁) g,   v ← β₂ v + (1 − β₂) g²,
///     w ← w − η r · ( m/(1 − β₁^t) / (√(v/(1 − β₂^t)) + ε) + λ d w ),
///
/// where η is the learning rate, and r and d are the factors for learning rate and weight decay
/// that `groups` gives to a parameter.
///
/// @param gradients a model of the same configuration
/// @param groups a function of (name, decay); see DefaultGroups and SystemGroups
/// @throws DomainError for options and factors out of range, ShapeError when the arguments differ
///   in size; nothing has changed then
/// Cost: one pass over the parameters. The bits are the same for every number of threads.
template <class Model, class Groups = DefaultGroups>
void optimizer_step(const Cpu& backend, Model& model, const Model& gradients,
                    Optimizer<Model>& optimizer, const AdamWOptions& options,
                    const Groups& groups = {}) {
  using T = typename Model::value_type;
  constexpr const char* function = "optimizer_step";
  detail::check_adamw(function, options);
  if (optimizer.step < 0)
    detail::throw_domain(function, "step", std::to_string(optimizer.step), "at least 0");
  detail::check_same_parameters(function, "gradients", gradients, std::as_const(model));
  detail::check_same_parameters(function, "optimizer.first_moment", optimizer.first_moment,
                                std::as_const(model));
  detail::check_same_parameters(function, "optimizer.second_moment", optimizer.second_moment,
                                std::as_const(model));

  const auto checked = [&](std::string_view name, bool decay) {
    const ParameterGroup group = groups(name, decay);
    detail::check_group(function, name, group);
    return group;
  };
  const auto w = detail::cut(model, checked);
  const auto g = detail::cut(gradients);
  const auto m = detail::cut(optimizer.first_moment);
  const auto v = detail::cut(optimizer.second_moment);
  const auto power = static_cast<double>(++optimizer.step);
  const T beta1 = static_cast<T>(options.beta1),
          one_minus_beta1 = static_cast<T>(1 - options.beta1);
  const T beta2 = static_cast<T>(options.beta2),
          one_minus_beta2 = static_cast<T>(1 - options.beta2);
  const double scale = options.learning_rate / (1 - std::pow(options.beta1, power));
  const T scale2 = static_cast<T>(1 / (1 - std::pow(options.beta2, power)));
  const T epsilon = static_cast<T>(options.epsilon);
  parallel_for(for_elements(backend, detail::count_of(w), 0.7), static_cast<Index>(w.size()),
               [&](Index i) {
                 const auto p = static_cast<std::size_t>(i);
                 const ParameterGroup& group = w[p].group;
                 const T rate = static_cast<T>(scale * group.learning_rate);
                 const T keep = T(1) - static_cast<T>(options.learning_rate * group.learning_rate *
                                                      options.weight_decay * group.weight_decay);
                 for (Index j = 0; j < w[p].count; ++j) {
                   const T gradient = g[p].data[j];
                   const T first = beta1 * m[p].data[j] + one_minus_beta1 * gradient;
                   const T second = beta2 * v[p].data[j] + one_minus_beta2 * gradient * gradient;
                   m[p].data[j] = first;
                   v[p].data[j] = second;
                   w[p].data[j] =
                       keep * w[p].data[j] - rate * first / (std::sqrt(scale2 * second) + epsilon);
                 }
               });
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
