#pragma once

#include <cstdint>

#include "ssm/core/parameters.hpp"
#include "ssm/core/tensor.hpp"
#include "support/random.hpp"

namespace ssm::test {

/// Three tensors of different rank, the first and last of which decay; the first is longer than a
/// piece of the optimizer's work, the second is empty unless a test fills it.
template <class T>
struct ToyWeights {
  Tensor<T, 2> matrix{{171, 201}};
  Tensor<T, 1> empty;
  Tensor<T, 1> bias{{7}};
  Tensor<T, 3> cube{{3, 1, 5}};

  using value_type = T;
};

template <class T, class Visit>
void parameters(ToyWeights<T>& weights, Visit&& visit) {
  visit("matrix", weights.matrix, weights.matrix.extents(), true);
  visit("empty", weights.empty, weights.empty.extents(), false);
  visit("bias", weights.bias, weights.bias.extents(), false);
  visit("cube", weights.cube, weights.cube.extents(), true);
}

template <class T>
ToyWeights<T> random_weights(std::uint64_t seed, double scale = 1) {
  ToyWeights<T> weights;
  Random random(seed);
  parameters(weights, [&](const auto&, auto& tensor, const auto&, bool) {
    for (T& x : tensor) x = static_cast<T>(scale * random.normal());
  });
  return weights;
}

}  // namespace ssm::test
