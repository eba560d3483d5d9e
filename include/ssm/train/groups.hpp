#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "ssm/core/detail/isa.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// How an optimizer treats a group of parameters: factors for its own options. A schedule moves
/// the learning rates of all groups together.
struct ParameterGroup {
  double learning_rate = 1;  ///< multiplies the learning rate, 0 or more
  double weight_decay = 1;   ///< multiplies the weight decay, 0 or more
};

/// The rule that the lists of the layers give: weight decay where `parameters` says so, and one
/// learning rate for all. SystemGroups is another.
///
/// A rule of one's own is any function of a parameter's name in files and of whether its layer
/// wants it to decay:
///
///     const auto slow_head = [](std::string_view name, bool decay) {
///       return ssm::ParameterGroup{.learning_rate = name.starts_with("head.") ? 0.1 : 1.0,
///                                  .weight_decay = decay ? 1.0 : 0.0};
///     };
struct DefaultGroups {
  /// The factors for a parameter.
  /// @param decay whether its layer wants it to decay
  [[nodiscard]] constexpr ParameterGroup operator()(std::string_view, bool decay) const noexcept {
    return {1, decay ? 1.0 : 0.0};
  }
};

/// Whether a parameter's name in files, such as "layers.2.mixer.log_delta", ends with the name that
/// its own layer gives it, "log_delta".
[[nodiscard]] constexpr bool is_called(std::string_view name, std::string_view own) noexcept {
  if (!name.ends_with(own)) return false;
  return name.size() == own.size() || name[name.size() - own.size() - 1] == '.';
}

/// The groups in which the published code of S4, S4D and S5 trains. What makes the state-space
/// systems of a model, Λ, P, Δ and B of every layer that has them, however deep it lies, has a
/// learning rate of its own and no weight decay. All else has the learning rate and the weight
/// decay of the optimizer.
///
/// Λ, P, Δ and B at a learning rate of 0.001 without decay, the rest at 0.004 with a decay of 0.05,
/// both along a cosine after a warm-up:
///
///     ssm::Trainer trainer(model, {.schedule = {.peak = 0.004, .warmup = 500, .steps = 20000},
///                                  .adamw = {.weight_decay = 0.05}});
///     trainer.groups = ssm::SystemGroups{.learning_rate = 0.001 / 0.004};
struct SystemGroups {
  /// The names that layers of this library give to what makes a system.
  [[nodiscard]] static std::vector<std::string> names_of_systems() {
    return {"log_decay", "frequency", "P", "log_delta", "B", "A_log", "dt_proj.bias"};
  }

  double learning_rate = 1;  ///< factor for the systems: their learning rate over that of the rest
  /// Whether all of the rest decays, as it does in the authors' code: norms, biases, C and D too.
  /// Otherwise that of the rest decays whose layer says so.
  bool rest_decays = true;
  /// The names that layers give to what makes a system: Λ and P, Δ, B. Those of Mamba are A_log and
  /// the bias of Δ, whose other parts are products with the input.
  std::vector<std::string> names = names_of_systems();

  /// The factors for a parameter.
  /// @param decay whether its layer wants it to decay
  [[nodiscard]] ParameterGroup operator()(std::string_view name, bool decay) const noexcept {
    const bool system = std::any_of(names.begin(), names.end(),
                                    [&](const std::string& own) { return is_called(name, own); });
    if (system) return {learning_rate, 0};
    return {1, rest_decays || decay ? 1.0 : 0.0};
  }
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
