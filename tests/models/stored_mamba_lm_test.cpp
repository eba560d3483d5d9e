#include "ssm/models/stored_mamba_lm.hpp"

#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "ssm/layers/stored_matrix.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/count_allocations.hpp"
#include "support/random.hpp"

using namespace ssm;
using test::Random;

namespace {

MambaLM<float> random_model(bool tied) {
  MambaLMConfig config{.vocab = 50, .width = 40, .layers = 3, .state = 6};
  config.tied = tied;
  MambaLM<float> model(mamba_lm_config(config));
  initialize(model, 3);
  return model;
}

template <class Model>
Tensor<float, 3> logits_of(const Model& model, const Tensor<Token, 2>& tokens) {
  Tensor<float, 3> logits({tokens.extent(0), tokens.extent(1), model.config.vocab});
  typename Model::Scratch scratch;
  typename Model::State state = make_state(model, tokens.extent(0));
  forward(cpu(2), model, tokens, state, logits, {}, scratch);
  return logits;
}

}  // namespace

TEST_CASE("a stored model computes what the model of the same numbers does, in every format") {
  Random random(4);
  Tensor<Token, 2> tokens({2, 23});
  for (Token& token : tokens) token = static_cast<Token>(random.integer(0, 49));
  for (const bool tied : {true, false}) {
    const MambaLM<float> model = random_model(tied);
    const Tensor<float, 3> want = logits_of(model, tokens);
    // Matrices of f32 are the same; rounded ones move the logits by about as much as weights move.
    const std::array<std::pair<MatrixFormat, double>, 5> most{{{MatrixFormat::f32, 1e-5},
                                                               {MatrixFormat::f16, 1e-3},
                                                               {MatrixFormat::bf16, 8e-3},
                                                               {MatrixFormat::q8, 1.5e-2},
                                                               {MatrixFormat::q4, 0.4}}};
    for (const auto& [format, bound] : most) {
      const StoredMambaLM stored = store_mamba_lm(cpu(2), model, format);
      INFO(name_of(format) << (tied ? " tied" : " untied"));
      CHECK(parameter_count(stored) == parameter_count(model));
      CHECK(test::relative_error(logits_of(stored, tokens), want) <= bound);
    }
  }
}

TEST_CASE(
    "a step of a stored model is that of forward, for any number of threads, and allocates "
    "nothing") {
  const double rounding = SSM_DETAIL_BYTE_PRODUCTS ? 1e-4 : 1e-5;  // a step may round x to 15 bits
  Random random(5);
  const StoredMambaLM model = store_mamba_lm(cpu(2), random_model(true), MatrixFormat::q8);
  Tensor<Token, 2> tokens({2, 9});
  for (Token& token : tokens) token = static_cast<Token>(random.integer(0, 49));
  const Tensor<float, 3> want = logits_of(model, tokens);
  LanguageModelStepper stepper(model, 2), threaded(model, 2);
  auto state = make_state(model, 2), other = make_state(model, 2);
  Tensor<float, 2> logits({2, 50}), same({2, 50});
  Tensor<Token, 1> now({2});
  step(cpu(2), threaded, now, other, same);  // the threads run now
  other = make_state(model, 2);
  for (Index t = 0; t < 9; ++t) {
    for (Index b = 0; b < 2; ++b) now(b) = tokens(b, t);
    CHECK(test::allocations_of([&] {
            step(stepper, now, state, logits);
            step(cpu(2), threaded, now, other, same);
          }) == 0);
    CHECK(std::memcmp(logits.data(), same.data(), sizeof(float) * 100) == 0);
    for (Index b = 0; b < 2; ++b)
      for (Index v = 0; v < 50; ++v)
        CHECK(std::abs(logits(b, v) - want(b, t, v)) <= 1e-4 * std::abs(want(b, t, v)) + rounding);
  }
}
