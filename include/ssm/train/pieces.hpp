#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"

/// The optimizer works on any `Weights<T>` with a member
///
///     template <class F> void visit(F&& f)        // and the same for a const object
///
/// that calls f(name, tensor, decay) for each parameter in a fixed order: its name, a Tensor<T, R>,
/// and whether weight decay applies to it. Gradients, moments and averages are further objects of
/// the same type. The headers of this folder cut such objects into the pieces defined here.
namespace ssm::detail {

/// A run of elements of one tensor. Where tensors are cut depends on their sizes alone, so that
/// neither an update nor a sum over pieces in order can depend on the number of threads.
template <class T>
struct ParameterPiece {
  T* data;
  Index count;
  bool decay;
};

inline constexpr Index piece_length = 16384;

template <class T>
struct ParameterCutter {
  std::vector<ParameterPiece<T>>& pieces;

  template <class Name, class AnyTensor>
  void operator()(const Name&, AnyTensor& tensor, bool decay) const {
    for (Index begin = 0; begin < tensor.size(); begin += piece_length)
      pieces.push_back(
          {tensor.data() + begin, std::min(piece_length, tensor.size() - begin), decay});
  }
};

template <class T, template <class, class...> class Weights, class... Rest>
std::vector<ParameterPiece<T>> cut(Weights<T, Rest...>& weights) {
  std::vector<ParameterPiece<T>> pieces;
  weights.visit(ParameterCutter<T>{pieces});
  return pieces;
}

template <class T, template <class, class...> class Weights, class... Rest>
std::vector<ParameterPiece<const T>> cut(const Weights<T, Rest...>& weights) {
  std::vector<ParameterPiece<const T>> pieces;
  weights.visit(ParameterCutter<const T>{pieces});
  return pieces;
}

/// Throws ShapeError unless both objects were cut alike.
template <class A, class B>
void check_same_pieces(std::string_view function, std::string_view argument,
                       const std::vector<ParameterPiece<A>>& got,
                       const std::vector<ParameterPiece<B>>& want) {
  const bool same = std::equal(got.begin(), got.end(), want.begin(), want.end(),
                               [](const auto& a, const auto& b) { return a.count == b.count; });
  if (!same)
    throw_shape(function, argument, "of other sizes", "the tensors of the weights, size by size");
}

}  // namespace ssm::detail
