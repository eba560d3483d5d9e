#pragma once

#include <string_view>

#include "ssm/core/detail/isa.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// How an optimizer treats a group of parameters: factors for its own options.
struct ParameterGroup {
  double learning_rate = 1;  ///< multiplies the learning rate
  double weight_decay = 1;   ///< multiplies the weight decay
};

/// The rule that the lists of the layers give: weight decay where `parameters` says so, and one
/// learning rate for all.
///
/// Another rule is any function of a parameter's name in files and of whether its layer wants it to
/// decay:
///
///     const auto slow_modes = [](std::string_view name, bool decay) {
///       const bool mode = name.ends_with("log_decay") || name.ends_with("frequency");
///       return ssm::ParameterGroup{.learning_rate = mode ? 0.1 : 1.0, .weight_decay = decay ? 1.0
///       : 0.0};
///     };
struct DefaultGroups {
  /// The factors for a parameter.
  /// @param decay whether its layer wants it to decay
  [[nodiscard]] constexpr ParameterGroup operator()(std::string_view, bool decay) const noexcept {
    return {1, decay ? 1.0 : 0.0};
  }
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
