#pragma once

#include <string>

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

  template <class F>
  void visit(F&& f) {
    visit_all(*this, f);
  }
  template <class F>
  void visit(F&& f) const {
    visit_all(*this, f);
  }

 private:
  template <class Self, class F>
  static void visit_all(Self& self, F& f) {
    f(std::string("matrix"), self.matrix, true);
    f(std::string("empty"), self.empty, false);
    f(std::string("bias"), self.bias, false);
    f(std::string("cube"), self.cube, true);
  }
};

template <class T>
ToyWeights<T> random_weights(std::uint64_t seed, double scale = 1) {
  ToyWeights<T> weights;
  Random random(seed);
  weights.visit([&](const std::string&, auto& tensor, bool) {
    for (T& x : tensor) x = static_cast<T>(scale * random.normal());
  });
  return weights;
}

}  // namespace ssm::test
