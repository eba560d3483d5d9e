#pragma once

#include <algorithm>
#include <string_view>
#include <type_traits>
#include <vector>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/parameters.hpp"
#include "ssm/train/groups.hpp"

// The optimizer and its companions work on any layer or model that lists its parameters.
// Gradients, moments and averages are further objects of the same type.
namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// A run of elements of one tensor, and what its group says. Where tensors are cut depends on their
/// sizes alone, so that neither an update nor a sum over pieces in order can depend on the number
/// of threads.
template <class T>
struct ParameterPiece {
  T* data;
  Index count;
  ParameterGroup group;
};

inline constexpr Index piece_length = 16384;

template <class Model, class Rule = DefaultGroups>
[[nodiscard]] auto cut(Model& model, const Rule& groups = {}) {
  using T = std::conditional_t<std::is_const_v<Model>, const typename Model::value_type,
                               typename Model::value_type>;
  std::vector<ParameterPiece<T>> pieces;
  parameters(model, [&](std::string_view name, auto& tensor, const auto&, bool decay) {
    const ParameterGroup group = groups(name, decay);
    for (Index begin = 0; begin < tensor.size(); begin += piece_length)
      pieces.push_back(
          {tensor.data() + begin, (std::min)(piece_length, tensor.size() - begin), group});
  });
  return pieces;
}

/// How many numbers pieces hold.
template <class T>
[[nodiscard]] Index count_of(const std::vector<ParameterPiece<T>>& pieces) noexcept {
  Index count = 0;
  for (const auto& piece : pieces) count += piece.count;
  return count;
}

/// Throws ShapeError unless two models have tensors of the same sizes, name by name.
template <class Model>
void check_same_parameters(std::string_view function, std::string_view argument, const Model& got,
                           const Model& want) {
  std::vector<std::vector<Index>> extents;
  const auto list = [](const auto& tensor) {
    return std::vector<Index>(tensor.extents().begin(), tensor.extents().end());
  };
  parameters(want, [&](std::string_view, const auto& tensor, const auto&, bool) {
    extents.push_back(list(tensor));
  });
  std::size_t i = 0;
  bool same = true;
  parameters(got, [&](std::string_view, const auto& tensor, const auto&, bool) {
    same = same && i < extents.size() && extents[i] == list(tensor);
    ++i;
  });
  if (!same || i != extents.size())
    throw_shape(function, argument, "of other sizes", "the tensors of the weights, size by size");
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
