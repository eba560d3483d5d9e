#pragma once

#include <string_view>

namespace ssm {

/// How an optimizer treats a group of parameters, as factors of its own options.
struct ParameterGroup {
  double learning_rate = 1;
  double weight_decay = 1;
};

/// The groups that the layers ask for: weight decay where their lists say so, one learning rate.
///
/// A rule of another kind is any function of a parameter's name, as files know it, and of whether
/// its layer wants it to decay:
///
///     const auto slow_modes = [](std::string_view name, bool decay) {
///       const bool mode = name.ends_with("log_decay") || name.ends_with("frequency");
///       return ssm::ParameterGroup{.learning_rate = mode ? 0.1 : 1.0, .weight_decay = decay ? 1.0 : 0.0};
///     };
struct DefaultGroups {
  [[nodiscard]] constexpr ParameterGroup operator()(std::string_view, bool decay) const noexcept {
    return {1, decay ? 1.0 : 0.0};
  }
};

}  // namespace ssm
