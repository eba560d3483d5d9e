#include "ssm/models/sampling.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <set>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/count_allocations.hpp"
#include "support/random.hpp"

using ssm::Index;
using ssm::Sampler;
using ssm::SamplingOptions;
using ssm::Tensor;
using ssm::Token;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

Tensor<double, 1> logits_of(const std::vector<double>& probabilities) {
  Tensor<double, 1> logits({static_cast<Index>(probabilities.size())});
  for (std::size_t i = 0; i < probabilities.size(); ++i)
    logits(static_cast<Index>(i)) = std::log(probabilities[i]) + 3.5;
  return logits;
}

template <class T>
Token draw(Sampler& sampler, const Tensor<T, 1>& logits) {
  return sampler(logits.view());
}

std::vector<int> frequencies(const SamplingOptions& options, const Tensor<double, 1>& logits,
                             int draws) {
  Sampler sampler(logits.size(), options);
  std::vector<int> counts(static_cast<std::size_t>(logits.size()));
  for (int i = 0; i < draws; ++i) ++counts[static_cast<std::size_t>(draw(sampler, logits))];
  return counts;
}

/// Pearson's statistic over the tokens that can be drawn; the others must not have been.
double chi_square(const std::vector<int>& counts, std::vector<double> weights) {
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  const double draws = std::accumulate(counts.begin(), counts.end(), 0.0);
  double statistic = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const double expected = draws * weights[i] / total;
    if (expected == 0) {
      CHECK(counts[i] == 0);
      continue;
    }
    statistic += (counts[i] - expected) * (counts[i] - expected) / expected;
  }
  return statistic;
}

const std::vector<double> uneven{0.05, 0.3, 0.02, 0.2, 0.13, 0.1, 0.15, 0.05};
constexpr int draws = 20000;
constexpr double chi_square_7 = 29.9;  // exceeded with probability 1e-4 at 7 degrees of freedom

std::set<Token> support(const SamplingOptions& options, const Tensor<double, 1>& logits) {
  const std::vector<int> counts = frequencies(options, logits, 3000);
  std::set<Token> drawn;
  for (std::size_t i = 0; i < counts.size(); ++i)
    if (counts[i] > 0) drawn.insert(static_cast<Token>(i));
  return drawn;
}

}  // namespace

TEST_CASE("tokens come as often as the softmax says") {
  CHECK(chi_square(frequencies({.seed = 1}, logits_of(uneven), draws), uneven) < chi_square_7);
}

TEST_CASE("temperature sharpens and flattens by its power") {
  for (double temperature : {0.5, 2.0}) {
    std::vector<double> weights = uneven;
    for (double& w : weights) w = std::pow(w, 1 / temperature);
    CHECK(chi_square(frequencies({.temperature = temperature, .seed = 2}, logits_of(uneven), draws),
                     weights) < chi_square_7);
  }
}

TEST_CASE("temperature 0, a temperature near 0 and top-k of 1 are all greedy") {
  ssm::test::Random random(4);
  for (int trial = 0; trial < 50; ++trial) {
    const auto logits = random.normal<float>(std::array<Index, 1>{101}, 5);
    const auto best =
        static_cast<Token>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    for (const SamplingOptions& options :
         {SamplingOptions{.temperature = 0}, SamplingOptions{.temperature = 1e-300},
          SamplingOptions{.top_k = 1}, SamplingOptions{.top_p = 1e-300},
          SamplingOptions{.min_p = 1}}) {
      Sampler sampler(101, options);
      CHECK(draw(sampler, logits) == best);
    }
  }
}

TEST_CASE("of equal logits the smallest token is the greedy one") {
  Tensor<float, 1> logits({5});
  logits(3) = logits(1) = 2;
  for (const SamplingOptions& options :
       {SamplingOptions{.temperature = 0}, SamplingOptions{.top_k = 1}}) {
    Sampler sampler(5, options);
    CHECK(draw(sampler, logits) == 1);
  }
}

TEST_CASE("top-k draws from the k most likely in their proportions") {
  std::vector<double> kept = uneven;
  for (const std::size_t i : {0u, 2u, 5u, 7u}) kept[i] = 0;
  CHECK(chi_square(frequencies({.top_k = 4, .seed = 5}, logits_of(uneven), draws), kept) < 21.1);
  CHECK(frequencies({.top_k = 8, .seed = 6}, logits_of(uneven), 500) ==
        frequencies({.seed = 6}, logits_of(uneven), 500));
  CHECK(frequencies({.top_k = 800, .seed = 6}, logits_of(uneven), 500) ==
        frequencies({.seed = 6}, logits_of(uneven), 500));
}

TEST_CASE("top-p keeps the smallest set that has the probability asked for") {
  const auto logits = logits_of(uneven);  // in order: 0.3 0.2 0.15 0.13 0.1 0.05 0.05 0.02
  CHECK(support({.top_p = 0.25}, logits) == std::set<Token>{1});
  CHECK(support({.top_p = 0.31}, logits) == std::set<Token>{1, 3});
  CHECK(support({.top_p = 0.49}, logits) == std::set<Token>{1, 3});
  CHECK(support({.top_p = 0.51}, logits) == std::set<Token>{1, 3, 6});
  CHECK(support({.top_p = 0.79}, logits) == std::set<Token>{1, 3, 4, 5, 6});
  CHECK(support({.top_p = 0.9}, logits) ==
        std::set<Token>{0, 1, 3, 4, 5, 6});  // of equals, the first
  CHECK(support({.top_p = 0.999}, logits).size() == 8);
  std::vector<double> kept = uneven;
  for (const std::size_t i : {0u, 2u, 4u, 5u, 7u}) kept[i] = 0;
  CHECK(chi_square(frequencies({.top_p = 0.6, .seed = 7}, logits, draws), kept) < 18.4);
}

TEST_CASE("min-p keeps what is likely enough beside the likeliest") {
  const auto logits = logits_of(uneven);
  CHECK(support({.min_p = 0.4}, logits) == std::set<Token>{1, 3, 4, 6});
  CHECK(support({.min_p = 0.1}, logits) == std::set<Token>{0, 1, 3, 4, 5, 6, 7});
}

TEST_CASE("top-p acts on what top-k left") {
  // The three likeliest have 0.46, 0.31 and 0.23 among themselves.
  CHECK(support({.top_k = 3, .top_p = 0.7}, logits_of(uneven)) == std::set<Token>{1, 3});
}

TEST_CASE("the repetition penalty holds recent tokens back, for as long as its window") {
  Tensor<double, 1> logits({4});
  logits(0) = 2;
  logits(1) = 1.5;
  logits(2) = -1;
  logits(3) = -1.5;
  Sampler sampler(4, {.temperature = 0, .repetition_penalty = 2, .repetition_window = 2});
  CHECK(draw(sampler, logits) == 0);  // 2, 1.5: now 0 is recent
  CHECK(draw(sampler, logits) == 1);  // 1, 1.5: now 0 and 1 are
  CHECK(draw(sampler, logits) == 0);  // 1, 0.75: now 1 and 0 are
  sampler.observe(3);
  sampler.observe(3);
  CHECK(draw(sampler, logits) == 0);  // 2, 1.5 again

  logits.fill(-1);
  logits(3) = -0.6;
  CHECK(draw(sampler, logits) == 1);  // 3 is recent and has −1.2, 0 is too
}

TEST_CASE("excluded tokens are never drawn, and a sole candidate always is") {
  Tensor<double, 1> logits({4});
  logits.fill(-infinity);
  logits(2) = -1e300;
  CHECK(support({}, logits) == std::set<Token>{2});
  CHECK(support({.top_k = 3, .top_p = 0.9, .min_p = 0.1}, logits) == std::set<Token>{2});
}

TEST_CASE("a seed gives the same tokens again, a copy goes on alike, another seed differs") {
  const auto logits = ssm::test::Random(8).normal<float>(std::array<Index, 1>{50});
  const auto tokens = [&](Sampler& sampler) {
    std::vector<Token> result;
    for (int i = 0; i < 100; ++i) result.push_back(draw(sampler, logits));
    return result;
  };
  Sampler a(50, {.top_p = 0.9, .seed = 1}), b(50, {.top_p = 0.9, .seed = 1});
  Sampler c(50, {.top_p = 0.9, .seed = 2});
  const auto first = tokens(a);
  CHECK(tokens(b) == first);
  CHECK(tokens(c) != first);
  Sampler copy = a;
  CHECK(tokens(copy) == tokens(a));
}

TEST_CASE("a sampler knows its last tokens, and goes on after numbers that another drew") {
  const auto logits = logits_of({0.4, 0.3, 0.2, 0.1});
  for (const double penalty : {1.0, 1.5}) {
    const SamplingOptions options{.repetition_penalty = penalty, .repetition_window = 3, .seed = 5};
    Sampler first(4, options), second(4, options);
    CHECK(first.recent().empty());
    std::vector<Token> drawn;
    for (int i = 0; i < 20; ++i) {
      drawn.push_back(draw(first, logits));
      const std::size_t count = std::min<std::size_t>(drawn.size(), 3);
      CHECK(first.recent() ==
            std::vector<Token>(drawn.end() - static_cast<int>(count), drawn.end()));
    }
    CHECK(first.drawn() == 20);
    for (const Token token : first.recent()) second.observe(token);
    second.skip(first.drawn());
    for (int i = 0; i < 20; ++i) CHECK(draw(second, logits) == draw(first, logits));
    CHECK(second.drawn() == first.drawn());
  }
}

TEST_CASE("tokens behind those that a tokenizer knows are never drawn") {
  const auto counts = frequencies({.tokens = 2}, logits_of({0.1, 0.1, 0.7, 0.1}), 200);
  CHECK(counts[0] > 50);
  CHECK(counts[1] > 50);
  CHECK(counts[0] + counts[1] == 200);
  CHECK_THROWS_AS(Sampler(4, {.tokens = 5}), ssm::DomainError);
}

TEST_CASE("logits that are not numbers are refused, and the sampler goes on as before") {
  Tensor<double, 1> logits({4});
  Sampler sampler(4, {.seed = 3}), untouched = sampler;
  for (double bad : {std::nan(""), infinity}) {
    Tensor<double, 1> wrong = logits;
    wrong(1) = bad;
    CHECK_THROWS_AS(draw(sampler, wrong), ssm::DomainError);
  }
  Tensor<double, 1> none({4});
  none.fill(-infinity);
  CHECK_THROWS_AS(draw(sampler, none), ssm::DomainError);
  CHECK_THROWS_AS(draw(sampler, Tensor<double, 1>({5})), ssm::ShapeError);
  CHECK_THROWS_AS(sampler.observe(4), ssm::DomainError);
  CHECK_THROWS_AS(sampler.observe(-1), ssm::DomainError);
  for (int i = 0; i < 20; ++i) CHECK(draw(sampler, logits) == draw(untouched, logits));
}

TEST_CASE("a draw does not allocate") {
  const auto logits = ssm::test::Random(9).normal<float>(std::array<Index, 1>{1000});
  Sampler sampler(1000, {.top_k = 300, .top_p = 0.9, .min_p = 0.01, .repetition_penalty = 1.2});
  CHECK(ssm::test::allocations_of([&] {
          for (int i = 0; i < 100; ++i) draw(sampler, logits);
        }) == 0);
}

TEST_CASE("options out of range are refused") {
  const double nan = std::nan("");
  for (const SamplingOptions& options :
       {SamplingOptions{.temperature = -1}, SamplingOptions{.temperature = nan},
        SamplingOptions{.temperature = infinity}, SamplingOptions{.top_k = -1},
        SamplingOptions{.top_p = 0}, SamplingOptions{.top_p = 1.1}, SamplingOptions{.top_p = nan},
        SamplingOptions{.min_p = -0.1}, SamplingOptions{.min_p = 1.1},
        SamplingOptions{.repetition_penalty = 0.9}, SamplingOptions{.repetition_penalty = nan},
        SamplingOptions{.repetition_window = -1}})
    CHECK_THROWS_AS(Sampler(4, options), ssm::DomainError);
  CHECK_THROWS_AS(Sampler(0), ssm::DomainError);
  CHECK_NOTHROW(Sampler(1));
}
