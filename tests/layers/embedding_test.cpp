#include "ssm/layers/embedding.hpp"

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/last_words.hpp"
#include "support/random.hpp"

using namespace ssm;
using test::Random;

namespace {

Tensor<Token, 2> draw_tokens(Random& random, Index batch, Index length, Index vocab) {
  Tensor<Token, 2> tokens({batch, length});
  for (Token& t : tokens) t = static_cast<Token>(random.integer(0, vocab - 1));
  return tokens;
}

}  // namespace

TEST_CASE("an embedding is the table's row of each token") {
  Random random(1);
  for (const Index length : {0, 1, 100}) {
    const auto tokens = draw_tokens(random, 3, length, 11);
    const auto weight = random.normal<float, 2>({11, 5});
    Tensor<float, 3> y({3, length, 5});
    EmbeddingScratch<float> scratch;
    embedding(cpu(2), {tokens, weight}, {}, {y}, scratch);
    for (Index b = 0; b < 3; ++b)
      for (Index t = 0; t < length; ++t)
        for (Index c = 0; c < 5; ++c) CHECK(y(b, t, c) == weight(tokens(b, t), c));
  }
}

TEST_CASE("an embedding's gradient adds up by token, in order, for any number of threads") {
  Random random(2);
  const auto tokens = draw_tokens(random, 4, 200, 6);
  const auto dy = random.normal<float, 3>({4, 200, 70});
  const Tensor<float, 2> weight({6, 70});
  Tensor<float, 2> want({6, 70});
  want.fill(1);
  for (Index b = 0; b < 4; ++b)
    for (Index t = 0; t < 200; ++t)
      for (Index c = 0; c < 70; ++c) want(tokens(b, t), c) += dy(b, t, c);
  for (const int threads : {1, 2, 3}) {
    Tensor<float, 2> dweight({6, 70});
    dweight.fill(1);
    EmbeddingScratch<float> scratch;
    embedding_backward(cpu(threads), {tokens, weight}, {}, {dy}, {dweight}, scratch);
    CHECK(test::same_bits(dweight, want));
  }
}

TEST_CASE("an embedding's step is a row of the table for each token") {
  Random random(3);
  const auto weight = random.normal<float, 2>({9, 5});
  const auto tokens = draw_tokens(random, 4, 1, 9);
  Tensor<float, 2> y({4, 7});
  embedding_step(EmbeddingStepInputs<float>{View<const Token, 1>(tokens.data(), {4}), weight}, {},
                 y.view().slice(1, 1, 5));
  for (Index b = 0; b < 4; ++b)
    for (Index c = 0; c < 7; ++c)
      CHECK(y(b, c) == (c >= 1 && c < 6 ? weight(tokens(b, 0), c - 1) : 0));
}

TEST_CASE("an embedding refuses a token outside its vocabulary") {
  Tensor<Token, 2> tokens({1, 2});
  Tensor<float, 2> weight({3, 4}), row({2, 4});
  Tensor<float, 3> y({1, 2, 4});
  EmbeddingScratch<float> scratch;
  tokens(0, 1) = 3;
  CHECK_THROWS_WITH(embedding(cpu, {tokens, weight}, {}, {y}, scratch),
                    "embedding: tokens(0, 1) is 3, expected a token in [0, 3)");
  CHECK_THROWS_AS(embedding_backward(cpu, {tokens, weight}, {}, {y}, {weight}, scratch),
                  DomainError);
  const View<const Token, 1> line(tokens.data(), {2});
  CHECK_THROWS_WITH(require_tokens(tokens, 3),
                    "require_tokens: tokens(0, 1) is 3, expected a token in [0, 3)");
  CHECK_THROWS_WITH(require_tokens(line, 3),
                    "require_tokens: tokens(1) is 3, expected a token in [0, 3)");
  CHECK_NOTHROW(require_tokens(tokens, 4));
  CHECK_NOTHROW(require_tokens(line, 4));
  CHECK_THAT(test::last_words([&] {
               embedding_step(EmbeddingStepInputs<float>{line, weight}, {}, row);
             }),
             test::contains("embedding_step: tokens(1, 0) is 3, expected a token in [0, 3)"));
  tokens(0, 1) = -1;
  CHECK_THROWS_AS(embedding(cpu, {tokens, weight}, {}, {y}, scratch), DomainError);
  CHECK_THROWS_AS(require_tokens(line, 3), DomainError);
}

TEST_CASE("an embedding names the argument of a wrong shape") {
  Tensor<Token, 2> tokens({1, 2});
  Tensor<float, 2> weight({3, 4}), narrow({3, 3}), row({1, 4});
  Tensor<float, 3> y({1, 2, 4}), shorter({1, 1, 4});
  EmbeddingScratch<float> scratch;
  CHECK_THROWS_WITH(embedding(cpu, {tokens, weight}, {}, {shorter}, scratch),
                    "embedding: y is (1, 1, 4), expected (1, 2, 4)");
  CHECK_THROWS_WITH(embedding(cpu, {{}, weight}, {}, {y}, scratch),
                    "embedding: tokens is absent, expected (batch, length)");
  CHECK_THROWS_WITH(
      embedding(cpu, {tokens, weight}, {}, {View<float, 3>(weight.data(), {1, 2, 4})}, scratch),
      "embedding: y is in the memory of weight, expected memory of its own");
  CHECK_THROWS_WITH(embedding_backward(cpu, {tokens, weight}, {}, {y}, {narrow}, scratch),
                    "embedding_backward: the gradient of weight is (3, 3), expected (3, 4)");
  CHECK_THROWS_WITH(embedding_backward(cpu, {tokens, weight}, {}, {y}, {}, scratch),
                    "embedding_backward: the gradient of weight is absent, expected (3, 4)");
  const View<const Token, 1> line(tokens.data(), {2});
  CHECK_THAT(test::last_words([&] {
               embedding_step(EmbeddingStepInputs<float>{line, weight}, {}, row);
             }),
             test::contains("embedding_step: y is (1, 4), expected (2, 4)"));
}
