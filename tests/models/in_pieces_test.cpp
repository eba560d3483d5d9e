#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include "ssm/layers/gated.hpp"
#include "ssm/layers/s4d.hpp"
#include "ssm/layers/s4d_step.hpp"
#include "ssm/models/language_model_in_pieces.hpp"
#include "ssm/models/mamba_lm.hpp"
#include "ssm/models/mamba_lm_memory.hpp"
#include "ssm/models/sequence_classifier_in_pieces.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/count_allocations.hpp"
#include "support/layer_runs.hpp"
#include "support/random.hpp"

using namespace ssm;

namespace in_pieces_test {
namespace {

template <class T>
MambaLM<T> draw_model() {
  MambaLM<T> model(mamba_lm_config<T>(11, 2, {.width = 6, .state = 3}));
  initialize(model, 5);
  return model;
}

Tensor<Token, 2> draw_tokens(std::uint64_t seed, Index batch, Index length) {
  test::Random random(seed);
  Tensor<Token, 2> tokens({batch, length});
  for (Token& t : tokens) t = static_cast<Token>(random.integer(0, 10));
  return tokens;
}

template <class Model, class State>
test::Results results_of(double nats, const Model& gradients, const State& state) {
  test::Results results;
  Tensor<double, 1> value({1});
  value(0) = nats;
  test::add_result(results, "loss", value);
  test::detail::add_state(results, "state", state);
  parameters(gradients, [&](const auto& name, const auto& tensor, const auto&, bool) {
    test::add_result(results, std::string(name), tensor);
  });
  return results;
}

template <class T>
void check_language_model(Index batch, Index length, Index piece) {
  INFO("batch " << batch << ", length " << length << ", pieces of " << piece);
  const auto model = draw_model<T>();
  const auto tokens = draw_tokens(1, batch, length);
  auto targets = draw_tokens(2, batch, length);
  if (length > 2) targets(0, 2) = -100;
  auto begin = make_state(model, batch);
  tensors(begin,
          [](const auto&, auto& tensor) { tensor = test::float_normal<T>(3, tensor.extents()); });
  MambaLM<T> gradients;
  auto state = begin;
  typename MambaLM<T>::Scratch whole;
  const double nats = loss(cpu(1), model, tokens, targets, state, gradients, {}, whole);
  const auto want = results_of(nats, gradients, state);
  const auto pieces = [&](Index states, int threads) {
    state = begin;
    LanguageModelPiecesScratch<Residual<Mamba<T>>> scratch;
    const double value = loss_in_pieces(cpu(threads), model, tokens, targets, state, gradients, {},
                                        {.length = piece, .states = states}, scratch);
    return results_of(value, gradients, state);
  };
  const auto got = pieces(1024, 1);
  test::check_agree(got, want,
                    40 * static_cast<double>(length + 1) *
                        static_cast<double>(std::numeric_limits<T>::epsilon()));
  CHECK(test::detail::same_bits(pieces(2, 3), got));

  state = begin;
  LanguageModelPiecesScratch<Residual<Mamba<T>>> scratch;
  const double value =
      loss_in_pieces(cpu, model, tokens, targets, state, {}, {}, {.length = piece}, scratch);
  CHECK(value == Approx(nats).epsilon(1e-5));
  CHECK(scratch.states.levels.empty());
}

using Classifier = SequenceClassifier<S4Block<S4d<double>>>;

void check_classifier(Index batch, Index length, Index piece, bool reversed) {
  INFO("batch " << batch << ", length " << length << ", pieces of " << piece);
  Classifier model(
      {.inputs = 2, .classes = 3, .backbone = {2, {.mixer = {.mixer = {.width = 4, .state = 4}}}}});
  initialize(model, 4);
  const auto sequences = test::float_normal<double>(8, shape(batch, length, 2));
  Tensor<Token, 1> labels({batch});
  labels.fill(2);
  labels(0) = 1;
  LayerOptions<> options;
  options.sequences.reversed = reversed;
  Classifier gradients;
  Classifier::Scratch whole;
  const StackState<S4Block<S4d<double>>> none;
  const double nats = loss(cpu(1), model, sequences, labels, gradients, options, whole);
  const auto want = results_of(nats, gradients, none);
  const auto pieces = [&](Index states, int threads) {
    SequenceClassifierPiecesScratch<S4Block<S4d<double>>> scratch;
    const double value = loss_in_pieces(cpu(threads), model, sequences, labels, gradients, options,
                                        {.length = piece, .states = states}, scratch);
    return results_of(value, gradients, none);
  };
  const auto got = pieces(1024, 1);
  test::check_agree(got, want, 1e-13 * static_cast<double>(length + 1));
  CHECK(test::detail::same_bits(pieces(2, 3), got));
  SequenceClassifierPiecesScratch<S4Block<S4d<double>>> scratch;
  CHECK(loss_in_pieces(cpu, model, sequences, labels, {}, options, {.length = piece}, scratch) ==
        Approx(nats).epsilon(1e-12));
}

}  // namespace
}  // namespace in_pieces_test

using namespace in_pieces_test;

TEST_CASE("a language model's loss and gradients in pieces are those of the whole text") {
  for (const Index piece : {1, 4, 100})
    for (const Index length : {1, 2, 23}) check_language_model<double>(2, length, piece);
  check_language_model<float>(1, 200, 17);
}

TEST_CASE("a classifier's loss and gradients in pieces are those of whole sequences") {
  for (const Index piece : {1, 4, 100})
    for (const Index length : {0, 1, 23}) check_classifier(2, length, piece, piece == 4);
}

TEST_CASE("a token outside the vocabulary far into a text changes nothing") {
  const auto model = draw_model<float>();
  auto tokens = draw_tokens(1, 1, 30);
  const auto targets = draw_tokens(2, 1, 30);
  tokens(0, 29) = 11;
  MambaLM<float> gradients;
  auto state = make_state(model, 1);
  LanguageModelPiecesScratch<Residual<Mamba<float>>> scratch;
  CHECK_THROWS_WITH(
      loss_in_pieces(cpu, model, tokens, targets, state, gradients, {}, {.length = 4}, scratch),
      test::contains("tokens"));
  tensors(state, [](const auto&, const auto& tensor) {
    for (const float x : tensor) CHECK(x == 0);
  });
}

TEST_CASE("what training a Mamba takes is estimated closely, and pieces fit the memory asked for") {
  const MambaLMConfig config{.vocab = 40, .width = 32, .layers = 3};
  MambaLM<float> model(mamba_lm_config(config));
  initialize(model, 1);
  const TrainingMemory memory = training_memory(config);
  CHECK(memory.weights == 6.0 * sizeof(float) * static_cast<double>(parameter_count(model)));
  const Index batch = 2, length = 1500;
  Tensor<Token, 2> tokens({batch, length});
  MambaLM<float> gradients;
  const auto taken = [&](const PieceOptions& pieces) {
    auto state = make_state(model, batch);
    gradients = model;
    const std::size_t before = test::allocated_bytes;
    LanguageModelPiecesScratch<Residual<Mamba<float>>> scratch;
    loss_in_pieces(cpu(1), model, tokens, tokens, state, gradients, {}, pieces, scratch);
    return static_cast<double>(test::allocated_bytes - before);
  };
  const double whole = memory.each_token * static_cast<double>(batch * length);
  CHECK(taken({.length = length}) < 1.05 * whole);
  CHECK(taken({.length = length}) > 0.6 * whole);
  for (const double share : {0.5, 0.2}) {
    const double bytes = memory.weights + share * whole;
    const PieceOptions pieces = pieces_within(bytes, memory, batch, length);
    CHECK(pieces.length < length);
    CHECK(taken(pieces) + 5.0 / 6 * memory.weights < bytes);
  }
  CHECK(pieces_within(memory.weights + whole, memory, batch, length).length == length);
  CHECK(pieces_within(1e9, memory, batch, 0).length == 1);
  CHECK_THROWS_WITH(pieces_within(memory.weights, memory, batch, length),
                    test::contains("pieces_within: bytes is "));
}
