#include "ssm/layers/embedding.hpp"

#include "support/catch.hpp"
#include "support/compare.hpp"
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
    embedding_forward<float>(cpu(2), tokens, weight, y);
    for (Index b = 0; b < 3; ++b)
      for (Index t = 0; t < length; ++t)
        for (Index c = 0; c < 5; ++c) CHECK(y(b, t, c) == weight(tokens(b, t), c));
  }
}

TEST_CASE("an embedding's gradient adds up by token, in order, for any number of threads") {
  Random random(2);
  const auto tokens = draw_tokens(random, 4, 200, 6);
  const auto dy = random.normal<float, 3>({4, 200, 70});
  Tensor<float, 2> want({6, 70});
  want.fill(1);
  for (Index b = 0; b < 4; ++b)
    for (Index t = 0; t < 200; ++t)
      for (Index c = 0; c < 70; ++c) want(tokens(b, t), c) += dy(b, t, c);
  for (const int threads : {1, 2, 3}) {
    Tensor<float, 2> dweight({6, 70});
    dweight.fill(1);
    embedding_backward<float>(cpu(threads), tokens, dy, dweight);
    CHECK(test::same_bits(dweight, want));
  }
}

TEST_CASE("an embedding refuses a token outside its vocabulary") {
  Tensor<Token, 2> tokens({1, 2});
  Tensor<float, 2> weight({3, 4});
  Tensor<float, 3> y({1, 2, 4});
  tokens(0, 1) = 3;
  CHECK_THROWS_WITH(embedding_forward<float>(cpu, tokens, weight, y),
                    "embedding_forward: tokens(0, 1) is 3, expected a token in [0, 3)");
  tokens(0, 1) = -1;
  CHECK_THROWS_AS(embedding_forward<float>(cpu, tokens, weight, y), DomainError);
}
