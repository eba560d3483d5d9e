#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>
#include <type_traits>

#include "ssm/layers/attention.hpp"
#include "ssm/layers/attention_step.hpp"
#include "ssm/layers/gated_mlp.hpp"
#include "ssm/layers/mamba.hpp"
#include "ssm/layers/mamba_step.hpp"
#include "ssm/layers/one_of.hpp"
#include "ssm/layers/residual.hpp"
#include "ssm/models/language_model.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/finite_difference.hpp"
#include "support/random.hpp"

/// A language model whose layers are of several kinds.
namespace mixed_language_model_test {

using namespace ssm;
using test::Random;

namespace {

template <class T>
using Layer = OneOf<Residual<Mamba<T>>, Residual<Attention<T>>, Residual<GatedMlp<T>>>;

template <class T>
LanguageModel<Layer<T>> draw_model() {
  constexpr Index width = 6;
  typename LanguageModel<Layer<T>>::Config config;
  config.vocab = 11;
  config.backbone.channels = width;
  config.backbone.layers = {
      {ResidualConfig<Mamba<T>>{{.width = width, .state = 3}}},
      {ResidualConfig<Attention<T>>{{.width = width, .heads = 3, .window = 5}}},
      {ResidualConfig<GatedMlp<T>>{{.width = width, .inner = 7}}},
      {ResidualConfig<Attention<T>>{{.width = width, .capacity = 40}}}};
  LanguageModel<Layer<T>> model(config);
  initialize(model, 3);
  Random random(4);
  parameters(model, [&](const auto&, auto& tensor, const auto&, bool) {
    for (T& x : tensor) x += static_cast<T>(0.2 * random.normal());
  });
  return model;
}

Tensor<Token, 2> draw_tokens(std::uint64_t seed, Index batch, Index length) {
  Random random(seed);
  Tensor<Token, 2> tokens({batch, length});
  for (Token& t : tokens) t = static_cast<Token>(random.integer(0, 10));
  return tokens;
}

}  // namespace

TEST_CASE("a language model of Mamba, attention and perceptrons has its gradients") {
  auto model = draw_model<double>();
  const auto before = draw_tokens(5, 2, 8), tokens = draw_tokens(6, 2, 7);
  const auto targets = draw_tokens(7, 2, 7);
  LanguageModelScratch<Layer<double>> scratch;
  auto initial = make_state(model, 2);
  forward(cpu(1), model, before, initial, {}, {}, scratch);
  const auto loss_of = [&](Maybe<LanguageModel<Layer<double>>> gradients) {
    auto state = initial;
    return loss(cpu(1), model, tokens, targets, state, gradients, {}, scratch);
  };
  LanguageModel<Layer<double>> gradients;
  loss_of(gradients);
  parameters(model, [&](std::string_view name, auto& tensor, const auto&, bool) {
    parameters(gradients, [&](std::string_view its, auto& gradient, const auto&, bool) {
      if constexpr (std::is_same_v<decltype(tensor), decltype(gradient)>)
        if (name == its) {
          INFO(std::string(name));
          CHECK(test::gradient_error([&] { return loss_of({}); }, tensor, gradient) < 1e-8);
        }
    });
  });
}

TEMPLATE_TEST_CASE("a language model of several kinds of layers reads a prompt in pieces or steps",
                   "", float, double) {
  using T = TestType;
  const auto model = draw_model<T>();
  const auto tokens = draw_tokens(8, 2, 30);
  LanguageModelScratch<Layer<T>> scratch;
  auto state = make_state(model, 2);
  Tensor<T, 3> whole({2, 30, 11}), part({2, 13, 11});
  forward(cpu(2), model, tokens, state, whole, {}, scratch);
  auto resumed = make_state(model, 2);
  forward(cpu(2), model, tokens.view().slice(1, 0, 13), resumed, part, {}, scratch);
  LanguageModelStepper<Layer<T>> stepper(model, 2);
  const double bound = 2000 * static_cast<double>(std::numeric_limits<T>::epsilon());
  Tensor<Token, 1> now({2});
  Tensor<T, 2> logits({2, 11});
  for (Index t = 13; t < 30; ++t) {
    for (Index b = 0; b < 2; ++b) now(b) = tokens(b, t);
    step(stepper, now, resumed, logits);
    for (Index b = 0; b < 2; ++b)
      for (Index c = 0; c < 11; ++c)
        CHECK(std::abs(static_cast<double>(logits(b, c) - whole(b, t, c))) <= bound);
  }
  tensors(state, [&](std::string_view name, auto& tensor) {
    tensors(resumed, [&](std::string_view its, auto& other) {
      if constexpr (std::is_same_v<decltype(tensor), decltype(other)>)
        if (name == its) CHECK(test::relative_error(other, tensor, 1) <= bound);
    });
  });
}

}  // namespace mixed_language_model_test
