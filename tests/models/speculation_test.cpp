#include "ssm/models/speculation.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ssm/layers/attention.hpp"
#include "ssm/layers/attention_step.hpp"
#include "ssm/layers/gated_mlp.hpp"
#include "ssm/layers/mamba.hpp"
#include "ssm/layers/mamba_step.hpp"
#include "ssm/layers/one_of.hpp"
#include "ssm/layers/residual.hpp"
#include "ssm/models/mamba_lm.hpp"
#include "ssm/models/text_generator.hpp"
#include "support/catch.hpp"
#include "support/contains.hpp"
#include "support/random.hpp"

namespace speculation_test {

using namespace ssm;

namespace {

/// Whose tokens depend on many before. In double, where the logits of a pass and of steps differ by
/// 1e-12: no draw of these tests is that near to another token.
MambaLM<double> model_of(std::uint64_t seed, Index vocab, Index layers = 2) {
  auto config = mamba_lm_config<double>(vocab, layers, {.width = 8, .state = 4});
  config.tied = false;
  MambaLM<double> model(config);
  initialize(model, seed);
  test::Random random(seed);
  parameters(model, [&](const auto&, auto& tensor, const auto&, bool) {
    for (double& x : tensor) x += 0.4 * random.normal();
  });
  return model;
}

/// Drafts what a text has at each place, in part wrongly.
struct Foreseen {
  std::vector<Token> text;
  Index wrong_every = 1000000;
  std::size_t at = 0;

  void begin(Index, const SamplingOptions&) { at = 0; }
  void read(std::span<const Token> tokens) { at += tokens.size(); }
  void propose(Index count, Drafts& drafts) const {
    drafts.tokens.clear();
    drafts.drawn = false;
    for (std::size_t i = at; i < text.size() && static_cast<Index>(i - at) < count; ++i) {
      const bool wrong = (static_cast<Index>(i) + 1) % wrong_every == 0;
      drafts.tokens.push_back(wrong ? (text[i] + 1) % 5 : text[i]);
    }
  }
};

/// A draft model that does not draw from what it says it does would give other texts; this one
/// draws well from probabilities that are far from those of the large model.
struct Uneven {
  test::Random random;
  Index vocab = 0;

  void begin(Index tokens, const SamplingOptions&) { vocab = tokens; }
  void read(std::span<const Token>) {}
  void propose(Index count, Drafts& drafts) {
    drafts.tokens.clear();
    drafts.drawn = true;
    drafts.probabilities.resize({count, vocab});
    for (Index i = 0; i < count; ++i) {
      const auto row = drafts.probabilities.view()[i];
      for (Index t = 0; t < vocab; ++t)
        row(t) = static_cast<double>(t) * 2 / static_cast<double>(vocab * (vocab - 1));
      drafts.tokens.push_back(detail::draw_weighted(row, random.uniform(0, 1)));
    }
  }
};

template <class Writer>
std::vector<Token> write(Writer& writer, int count) {
  std::vector<Token> tokens;
  for (int i = 0; i < count; ++i) tokens.push_back(writer.next());
  return tokens;
}
View<const Token, 1> view_of(const std::vector<Token>& tokens) {
  return {tokens.data(), {static_cast<Index>(tokens.size())}};
}

template <class Model, class D>
auto speculative(Model model, D drafter, const SamplingOptions& sampling = {}, Index drafts = 8) {
  return SpeculativeGenerator(std::move(model), std::move(drafter), sampling, drafts);
}

/// Whether two generators are at the same place, up to rounding.
template <class A, class B>
void check_same_place(A& a, B& b) {
  auto first = a.state(), second = b.state();
  std::vector<double> numbers;
  tensors(first,
          [&](auto, auto& tensor) { numbers.insert(numbers.end(), tensor.begin(), tensor.end()); });
  std::size_t i = 0;
  double worst = 0;
  tensors(second, [&](auto, auto& tensor) {
    for (const auto element : tensor) {
      const auto x = static_cast<double>(element);
      worst = std::max(worst, std::abs(x - numbers[i++]) / (1 + std::abs(x)));
    }
  });
  CHECK(i == numbers.size());
  for (Index t = 0; t < a.logits().extent(1); ++t)
    worst = std::max(worst, std::abs(a.logits()(0, t) - b.logits()(0, t)));
  CHECK(worst < 1e-10);
  CHECK(a.sampler().recent() == b.sampler().recent());
}

}  // namespace

TEST_CASE("guesses change no token: greedy or drawn, right or wrong, few or many at once") {
  const std::vector<Token> prompt{3, 1, 4, 1, 1, 0, 2, 4};
  for (std::uint64_t seed = 1; seed <= 4; ++seed)
    for (const SamplingOptions& sampling :
         {SamplingOptions{.temperature = 0}, SamplingOptions{.temperature = 0.8,
                                             .top_p = 0.95,
                                             .repetition_penalty = 1.1,
                                             .repetition_window = 3,
                                             .seed = seed}}) {
      TextGenerator<Residual<Mamba<double>>> plain(model_of(seed, 5), sampling);
      plain.read(view_of(prompt));
      const std::vector<Token> text = write(plain, 60);
      const auto check = [&](auto drafter, Index drafts, bool must_accept) {
        auto writer = speculative(model_of(seed, 5), std::move(drafter), sampling, drafts);
        writer.read(view_of(prompt));
        CHECK(write(writer, 60) == text);
        if (must_accept) CHECK(writer.counts().accepted >= 30);
        CHECK(writer.counts().accepted <= writer.counts().drafted);
        check_same_place(writer, plain);
        CHECK(writer.sampler().drawn() == plain.sampler().drawn());
      };
      std::vector<Token> all = prompt;
      all.insert(all.end(), text.begin(), text.end());
      check(Foreseen{all}, 8, true);
      check(Foreseen{all}, 1, false);
      check(Foreseen{all, 7}, 30, false);
      check(Foreseen{all, 1}, 4, false);
      check(Foreseen{all}, 0, false);
      check(PromptLookup({.match = 2}), 8, false);
    }
}

TEST_CASE("at temperature 0 a draft model changes no token, and the model itself is always right") {
  const std::vector<Token> prompt{3, 1, 4};
  TextGenerator<Residual<Mamba<double>>> plain(model_of(1, 5), {.temperature = 0});
  plain.read(view_of(prompt));
  const std::vector<Token> text = write(plain, 50);
  for (const bool good : {true, false}) {
    auto writer =
        speculative(model_of(1, 5), DraftModel(model_of(good ? 1 : 2, 5)), {.temperature = 0});
    writer.read(view_of(prompt));
    CHECK(write(writer, 50) == text);
    if (good) CHECK(writer.counts().accepted == writer.counts().drafted);
    check_same_place(writer, plain);
  }
}

TEST_CASE("texts come as often as the model says, whoever drafts") {
  constexpr Index vocab = 3;
  constexpr int draws = 20000, length = 3, texts = 27;
  const SamplingOptions sampling{.temperature = 1.1,
                                 .min_p = 0.05,
                                 .repetition_penalty = 1.2,
                                 .repetition_window = 2,
                                 .seed = 11};
  const MambaLM<double> model = model_of(3, vocab, 1);
  const std::vector<Token> prompt{0, 2, 0, 2, 0};

  // Of every text, its probability by a generator that has read it token by token.
  std::array<double, texts> expected{};
  for (int text = 0; text < texts; ++text) {
    TextGenerator<Residual<Mamba<double>>> reader(model, sampling);
    reader.read(view_of(prompt));
    double probability = 1;
    Tensor<double, 1> row({vocab});
    for (int i = 0, rest = text; i < length; ++i, rest /= 3) {
      Sampler sampler = reader.sampler();
      sampler.probabilities(reader.logits()[0], row.view());
      probability *= row(rest % 3);
      reader.read(view_of({static_cast<Token>(rest % 3)}));
    }
    expected[static_cast<std::size_t>(text)] = probability * draws;
  }
  const auto check = [&](const char* name, const auto& drafter_of) {
    INFO(name);
    std::array<int, texts> counts{};
    std::uint64_t drafted = 0, accepted = 0;
    for (int i = 0; i < draws; ++i) {
      SamplingOptions own = sampling;
      own.seed = static_cast<std::uint64_t>(i);
      auto writer = speculative(model, drafter_of(own.seed), own, 4);
      writer.read(view_of(prompt));
      int text = 0;
      for (int t = 0, place = 1; t < length; ++t, place *= 3) text += place * writer.next();
      ++counts[static_cast<std::size_t>(text)];
      drafted += writer.counts().drafted;
      accepted += writer.counts().accepted;
    }
    double statistic = 0;
    int possible = 0;
    for (std::size_t i = 0; i < texts; ++i) {
      if (expected[i] == 0) CHECK(counts[i] == 0);
      if (expected[i] == 0) continue;
      statistic += (counts[i] - expected[i]) * (counts[i] - expected[i]) / expected[i];
      ++possible;
    }
    CHECK(possible == 16);
    CHECK(accepted > drafted / 10);
    CHECK(drafted > draws);
    CHECK(statistic < 44);  // exceeded with probability 1e-4 at 15 degrees of freedom
  };
  check("a look-up", [](auto) { return PromptLookup({.match = 1, .memory = 64}); });
  check("another model", [](auto) { return DraftModel(model_of(4, vocab, 1)); });
  check("far from it", [](auto seed) { return Uneven{test::Random(seed + 1000000)}; });
}

TEST_CASE("a generator asked at any token is where one is that has read what was given") {
  const std::vector<Token> prompt{3, 1, 4, 1, 1};
  const SamplingOptions sampling{
      .temperature = 0.9, .repetition_penalty = 1.2, .repetition_window = 4, .seed = 3};
  TextGenerator<Residual<Mamba<double>>> plain(model_of(6, 5), sampling);
  plain.read(view_of(prompt));
  std::vector<Token> all = prompt;
  for (const Token token : write(plain, 24)) all.push_back(token);
  for (const int given : {0, 1, 2, 3, 5, 9, 14, 20}) {
    auto writer = speculative(model_of(6, 5), Foreseen{all, 6}, sampling);
    auto drawing = speculative(model_of(6, 5), DraftModel(model_of(6, 5)), sampling);
    writer.read(view_of(prompt));
    drawing.read(view_of(prompt));
    CHECK(write(writer, given) == std::vector<Token>(all.begin() + 5, all.begin() + 5 + given));
    TextGenerator<Residual<Mamba<double>>> reader(model_of(6, 5), sampling);
    reader.read(view_of(prompt));
    const std::vector<Token> drawn = write(drawing, given);
    if (given > 0) reader.read(view_of(drawn));
    check_same_place(drawing, reader);

    // Another one goes on from there, and so does the writer itself.
    TextGenerator<Residual<Mamba<double>>> next(model_of(6, 5), sampling);
    next.resume(writer.state(), writer.logits(), writer.sampler().recent(),
                writer.sampler().drawn());
    const std::vector<Token> rest(all.begin() + 5 + given, all.end());
    CHECK(write(next, 24 - given) == rest);
    CHECK(write(writer, 24 - given) == rest);
    // What is read after tokens that nobody was given is read after those that were.
    writer.reset();
    CHECK_THROWS_AS(writer.next(), DomainError);
    writer.read(view_of(prompt));
    (void)write(writer, given);
    writer.read(view_of({1, 2}));
    TextGenerator<Residual<Mamba<double>>> other(model_of(6, 5), sampling);
    other.read(view_of(prompt));
    (void)write(other, given);
    other.read(view_of({1, 2}));
    check_same_place(writer, other);
  }
}

TEST_CASE("speculation goes back in states of every kind") {
  using Layer =
      OneOf<Residual<Mamba<double>>, Residual<Attention<double>>, Residual<GatedMlp<double>>>;
  LanguageModel<Layer>::Config config;
  config.vocab = 11;
  config.backbone.channels = 6;
  config.backbone.layers = {
      {ResidualConfig<Mamba<double>>{{.width = 6, .state = 3}}},
      {ResidualConfig<Attention<double>>{{.width = 6, .heads = 3, .window = 5}}},
      {ResidualConfig<GatedMlp<double>>{{.width = 6, .inner = 7}}}};
  LanguageModel<Layer> model(config);
  initialize(model, 3);
  test::Random random(4);
  for (double& x : model.embedding) x = random.normal();
  TextGenerator<Layer> plain(model, {.seed = 5});
  plain.read(view_of({1, 2, 3}));
  std::vector<Token> all{1, 2, 3};
  for (const Token token : write(plain, 40)) all.push_back(token);
  auto writer = speculative(model, Foreseen{all, 4}, {.seed = 5});
  writer.read(view_of({1, 2, 3}));
  CHECK(write(writer, 40) == std::vector<Token>(all.begin() + 3, all.end()));
  CHECK(writer.counts().accepted > 10);
  CHECK(writer.counts().accepted < writer.counts().drafted);
  check_same_place(writer, plain);
}

TEST_CASE("a look-up drafts what followed the longest end that occurred before") {
  const auto drafts_of = [](const PromptLookupOptions& options, const std::vector<Token>& text,
                            Index count) {
    PromptLookup lookup(options);
    lookup.read(text);
    Drafts drafts;
    lookup.propose(count, drafts);
    CHECK_FALSE(drafts.drawn);
    return drafts.tokens;
  };
  using Tokens = std::vector<Token>;
  CHECK(drafts_of({.match = 2}, {1, 2, 3, 4, 1, 2}, 3) == Tokens{3, 4, 1});
  CHECK(drafts_of({.match = 2}, {1, 2, 3, 4, 5, 2}, 3).empty());
  CHECK(drafts_of({.match = 2}, {9, 1, 2, 3, 8, 1, 2, 4, 9, 1, 2}, 1) == Tokens{3});
  CHECK(drafts_of({.match = 2}, {1, 2, 3, 1, 2, 4, 1, 2}, 1) == Tokens{4});
  CHECK(drafts_of({.match = 1}, {7, 5, 7, 5}, 5) == Tokens{7, 5, 7, 5, 7});
  CHECK(drafts_of({.match = 3}, {}, 5).empty());
  Tokens late(100, 0);
  for (int i = 0; i < 100; ++i) late[static_cast<std::size_t>(i)] = i % 50;
  CHECK(drafts_of({.match = 2, .memory = 80}, late, 2) == Tokens{0, 1});
  CHECK(drafts_of({.match = 2, .memory = 20}, late, 2).empty());
  CHECK_THROWS_AS(PromptLookup({.match = 0}), DomainError);
  CHECK_THROWS_AS(PromptLookup({.match = 5, .memory = 4}), DomainError);
}

TEST_CASE("drafts become more where they are accepted, and fewer where not") {
  DraftCount count(8);
  CHECK(count.next() == 2);
  for (int i = 0; i < 40; ++i) count.learn(8, true);
  CHECK(count.next() == 8);
  for (int i = 0; i < 40; ++i) count.learn(0, false);
  Index tried = 0;
  for (int i = 0; i < 64; ++i) tried += count.next();
  CHECK(tried == 4);
  for (int i = 0; i < 40; ++i) count.learn(1, true);
  CHECK(count.next() > 1);
}

TEST_CASE("speculation refuses what it cannot run, and says where logits are no numbers") {
  CHECK_THROWS_WITH(speculative(model_of(1, 5), DraftModel(model_of(1, 6))),
                    test::contains("DraftModel: vocab is 6 tokens, expected 5"));
  CHECK_THROWS_AS(speculative(model_of(1, 5), PromptLookup(), {}, -1), DomainError);
  auto writer = speculative(model_of(1, 5), PromptLookup());
  CHECK_THROWS_AS(writer.next(), DomainError);
  CHECK_THROWS_AS(writer.read(view_of({5})), DomainError);
  CHECK_THROWS_AS(writer.read("text"), DomainError);
  auto model = model_of(1, 5);
  model.norm.fill(std::numeric_limits<double>::quiet_NaN());
  auto broken = speculative(std::move(model), Foreseen{std::vector<Token>(20, 1)});
  broken.read(view_of({1, 2}));
  CHECK_THROWS_AS(broken.next(), DomainError);
  auto moved = std::move(writer);
  CHECK_THROWS_WITH(writer.next(), test::contains("the generator is moved from"));
  moved.read(view_of({1, 2}));
  CHECK(moved.next() < 5);
}

}  // namespace speculation_test
