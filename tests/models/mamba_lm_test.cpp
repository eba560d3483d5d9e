#include "ssm/models/mamba_lm.hpp"

#include <limits>
#include <set>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/count_allocations.hpp"
#include "support/finite_difference.hpp"
#include "support/last_words.hpp"
#include "support/random.hpp"

using namespace ssm;
using test::Random;

namespace {

MambaLMConfig tiny() {
  MambaLMConfig config;
  config.vocab = 11;
  config.width = 6;
  config.layers = 2;
  config.state = 3;
  return config;
}

/// Initialised, then moved so that no weight sits where its gradient is special.
template <class T>
MambaLMWeights<T> draw_weights(Random& random, const MambaLMConfig& config) {
  MambaLMWeights<T> weights(config);
  initialize(weights, 5);
  weights.visit([&](const std::string&, auto& tensor, bool) {
    for (T& x : tensor) x += static_cast<T>(0.2 * random.normal());
  });
  return weights;
}

template <class T>
MambaLMState<T> draw_state(Random& random, const MambaLMConfig& config, Index batch) {
  MambaLMState<T> state(config, batch);
  for (MambaState<T>& layer : state.layers) {
    for (T& x : layer.conv) x = static_cast<T>(random.normal());
    for (T& x : layer.scan) x = static_cast<T>(random.normal());
  }
  return state;
}

Tensor<Token, 2> draw_tokens(Random& random, const MambaLMConfig& config, Index batch,
                             Index length) {
  Tensor<Token, 2> tokens({batch, length});
  for (Token& t : tokens) t = static_cast<Token>(random.integer(0, config.vocab - 1));
  return tokens;
}

template <class T>
double state_error(const MambaLMState<T>& got, const MambaLMState<T>& want) {
  double error = 0;
  for (std::size_t i = 0; i < want.layers.size(); ++i) {
    error = std::max(error, test::relative_error(got.layers[i].conv, want.layers[i].conv));
    error = std::max(error, test::relative_error(got.layers[i].scan, want.layers[i].scan));
  }
  return error;
}

/// All parameters of a model in one tensor.
template <class T>
Tensor<T, 1> flatten(const MambaLMWeights<T>& weights) {
  std::vector<T> all;
  weights.visit([&](const std::string&, const auto& tensor, bool) {
    all.insert(all.end(), tensor.begin(), tensor.end());
  });
  Tensor<T, 1> flat({static_cast<Index>(all.size())});
  std::copy(all.begin(), all.end(), flat.begin());
  return flat;
}

}  // namespace

TEST_CASE("the language model has the gradients of finite differences, with dropout or without") {
  const Dropout dropout{GENERATE(0.0, 0.3), 5};
  Random random(1);
  const auto config = tiny();
  auto weights = draw_weights<double>(random, config);
  const auto initial = draw_state<double>(random, config, 2);
  const auto tokens = draw_tokens(random, config, 2, 7);
  const auto targets = draw_tokens(random, config, 2, 7);
  MambaLMWorkspace<double> workspace;
  const auto loss_of = [&](MambaLMWeights<double>* gradients) {
    auto state = initial;
    return mamba_lm_loss<double>(cpu(1), weights, tokens, targets, state, gradients, workspace,
                                 dropout);
  };
  MambaLMWeights<double> gradients;
  CHECK(loss_of(&gradients) == Approx(loss_of(nullptr)).epsilon(1e-14));

  std::vector<Tensor<double, 1>> flat;
  gradients.visit([&](const std::string&, const auto& tensor, bool) {
    flat.emplace_back(std::array<Index, 1>{tensor.size()});
    std::copy(tensor.begin(), tensor.end(), flat.back().begin());
  });
  std::size_t i = 0;
  weights.visit([&](const std::string& name, auto& tensor, bool) {
    auto gradient = tensor;
    std::copy(flat[i].begin(), flat[i].end(), gradient.begin());
    ++i;
    INFO(name);
    CHECK(test::gradient_error([&] { return loss_of(nullptr); }, tensor, gradient) < 1e-8);
  });
}

TEMPLATE_TEST_CASE("a prompt in chunks, or a token at a time, is the prompt in one", "", float,
                   double) {
  Random random(2);
  const auto config = tiny();
  const auto weights = draw_weights<TestType>(random, config);
  const auto initial = draw_state<TestType>(random, config, 2);
  const auto tokens = draw_tokens(random, config, 2, 30);
  const double bound = 5000 * std::numeric_limits<TestType>::epsilon();
  MambaLMWorkspace<TestType> workspace;
  auto final = initial;
  Tensor<TestType, 3> whole({2, 30, config.vocab});
  mamba_lm_forward<TestType>(cpu(2), weights, tokens, final, whole, workspace);

  auto state = initial;
  Tensor<TestType, 3> chunked(whole.extents());
  Index begin = 0;
  for (const Index count : {1, 0, 2, 20, 7}) {
    Tensor<TestType, 3> logits({2, count, config.vocab});
    mamba_lm_forward<TestType>(cpu(2), weights, tokens.view().slice(1, begin, count), state, logits,
                               workspace);
    for (Index b = 0; b < 2; ++b)
      for (Index t = 0; t < count; ++t)
        for (Index v = 0; v < config.vocab; ++v) chunked(b, begin + t, v) = logits(b, t, v);
    begin += count;
  }
  CHECK(test::relative_error(chunked, whole) < bound);
  CHECK(state_error(state, final) < bound);

  state = initial;
  workspace = {};
  workspace.reserve_step(config, 2);
  Tensor<TestType, 3> stepped(whole.extents());
  for (Index t = 0; t < 30; ++t) {
    const View<const Token, 1> now(&tokens(0, t), {2}, {30});
    const View<TestType, 2> logits(&stepped(0, t, 0), {2, config.vocab}, {30 * config.vocab, 1});
    CHECK(test::allocations_of(
              [&] { mamba_lm_step<TestType>(weights, state, now, logits, workspace); }) == 0);
  }
  CHECK(test::relative_error(stepped, whole) < bound);
  CHECK(state_error(state, final) < bound);

  state = initial;
  mamba_lm_forward<TestType>(cpu(2), weights, tokens, state, {}, workspace);
  CHECK(state_error(state, final) == 0);
}

TEST_CASE("a step with a token outside the vocabulary ends the program with a sentence") {
  Random random(2);
  const auto config = tiny();
  const auto weights = draw_weights<double>(random, config);
  const auto step = [&](Token token) {
    return test::last_words([&] {
      Tensor<Token, 1> tokens({1});
      tokens(0) = token;
      Tensor<double, 2> logits({1, config.vocab});
      MambaLMState<double> state(config, 1);
      MambaLMWorkspace<double> workspace;
      mamba_lm_step<double>(weights, state, tokens, logits, workspace);
    });
  };
  CHECK(step(10).empty());
  CHECK_THAT(step(11), test::contains("mamba_lm_step: tokens(0, 0) is 11, expected a token in [0, "
                                      "11)"));
}

TEST_CASE("the loss of a text is that of its pieces with the state carried over") {
  Random random(3);
  const auto config = tiny();
  const auto weights = draw_weights<double>(random, config);
  const auto tokens = draw_tokens(random, config, 3, 20);
  const auto targets = draw_tokens(random, config, 3, 20);
  MambaLMWorkspace<double> workspace;
  MambaLMState<double> state(config, 3);
  const double whole =
      mamba_lm_loss<double>(cpu(1), weights, tokens, targets, state, nullptr, workspace);
  MambaLMState<double> carried(config, 3);
  double sum = 0;
  Index begin = 0;
  for (const Index count : {1, 5, 14}) {
    sum += static_cast<double>(count) * mamba_lm_loss<double>(cpu(1), weights,
                                                              tokens.view().slice(1, begin, count),
                                                              targets.view().slice(1, begin, count),
                                                              carried, nullptr, workspace);
    begin += count;
  }
  CHECK(sum / 20 == Approx(whole).epsilon(1e-13));
  CHECK(state_error(carried, state) < 1e-12);
}

TEST_CASE("the loss, its gradient and the state have the same bits for any number of threads") {
  Random random(4);
  MambaLMConfig config = tiny();
  config.width = 40;
  config.vocab = 50;
  config.state = 16;
  const auto weights = draw_weights<float>(random, config);
  const auto tokens = draw_tokens(random, config, 3, 200);
  const auto targets = draw_tokens(random, config, 3, 200);
  const auto run = [&](int threads) {
    MambaLMState<float> state(config, 3);
    MambaLMWeights<float> gradients;
    MambaLMWorkspace<float> workspace;
    const double loss =
        mamba_lm_loss<float>(cpu(threads), weights, tokens, targets, state, &gradients, workspace);
    return std::tuple(loss, flatten(gradients), state.layers.back().scan);
  };
  const auto [loss, gradients, state] = run(1);
  for (const int threads : {2, 3}) {
    const auto [loss2, gradients2, state2] = run(threads);
    CHECK(loss == loss2);
    CHECK(test::same_bits(gradients, gradients2));
    CHECK(test::same_bits(state, state2));
  }
  CHECK(std::get<0>(run(1)) == loss);
}

TEST_CASE("a fresh model knows nothing: its loss is near log vocab") {
  Random random(5);
  MambaLMConfig config;
  config.width = 48;
  config.layers = 3;
  MambaLMWeights<float> weights(config);
  initialize(weights, 1);
  const auto tokens = draw_tokens(random, config, 2, 64);
  const auto targets = draw_tokens(random, config, 2, 64);
  MambaLMState<float> state(config, 2);
  MambaLMWorkspace<float> workspace;
  CHECK(mamba_lm_loss<float>(cpu, weights, tokens, targets, state, nullptr, workspace) ==
        Approx(std::log(256.0)).epsilon(0.02));
}

TEST_CASE("a few steps down the gradient learn a repeated text") {
  MambaLMConfig config = tiny();
  config.width = 16;
  MambaLMWeights<float> weights(config), gradients;
  initialize(weights, 3);
  Tensor<Token, 2> tokens({1, 24}), targets({1, 24});
  for (Index t = 0; t < 24; ++t) {
    tokens(0, t) = static_cast<Token>((t * t) % 11);
    targets(0, t) = static_cast<Token>(((t + 1) * (t + 1)) % 11);
  }
  MambaLMWorkspace<float> workspace;
  double first = 0, last = 0;
  for (int i = 0; i < 150; ++i) {
    MambaLMState<float> state(config, 1);
    last = mamba_lm_loss<float>(cpu, weights, tokens, targets, state, &gradients, workspace);
    if (i == 0) first = last;
    const auto slope = flatten(gradients);
    Index k = 0;
    weights.visit([&](const std::string&, auto& tensor, bool) {
      for (float& x : tensor) x -= 0.5f * slope(k++);
    });
  }
  CHECK(last < 0.5 * first);
}

TEST_CASE("initialisation is a function of the seed and follows the published recipe") {
  MambaLMConfig config;
  config.width = 32;
  config.layers = 4;
  MambaLMWeights<double> a(config), b(config), c(config);
  initialize(a, 1);
  initialize(b, 1);
  initialize(c, 2);
  CHECK(test::same_bits(flatten(a), flatten(b)));
  CHECK(!test::same_bits(flatten(a), flatten(c)));
  for (const auto& layer : a.layers) {
    const auto& w = layer.mixer;
    for (Index n = 0; n < config.state; ++n)
      CHECK(-std::exp(w.A_log(3, n)) == Approx(-static_cast<double>(n + 1)));
    for (const double d : w.D) CHECK(d == 1);
    for (const double bias : w.dt_bias) {
      CHECK(softplus(bias) >= 1e-3 * 0.999);
      CHECK(softplus(bias) <= 1e-1 * 1.001);
    }
    for (const double x : w.dt_proj) CHECK(std::abs(x) <= 1 / std::sqrt(2.0));
    for (const double x : w.out_proj) CHECK(std::abs(x) <= 0.5 / std::sqrt(64.0));
    for (const double x : layer.norm) CHECK(x == 1);
  }
  double squares = 0;
  for (const double x : a.embedding) squares += x * x;
  CHECK(std::sqrt(squares / static_cast<double>(a.embedding.size())) == Approx(0.02).epsilon(0.05));
}

TEST_CASE("parameters have the published names, once each, and the published count") {
  MambaLMConfig config;
  config.vocab = 50280;
  config.width = 768;
  config.layers = 24;
  MambaLMWeights<float> weights(config);
  std::set<std::string> names;
  Index count = 0;
  weights.visit([&](const std::string& name, const auto& tensor, bool) {
    CHECK(names.insert(name).second);
    count += tensor.size();
  });
  CHECK(count == 129135360);
  CHECK(names.size() == 24 * 10 + 2);
  CHECK(names.count("backbone.layers.23.mixer.conv1d.weight") == 1);
  std::set<std::string> without_decay;
  weights.visit([&](const std::string& name, const auto&, bool decay) {
    if (!decay && (name.find("layers.7.") != name.npos || name.find("layers") == name.npos))
      without_decay.insert(name);
  });
  const std::string prefix = "backbone.layers.7.";
  CHECK(without_decay == std::set<std::string>{"backbone.norm_f.weight", prefix + "norm.weight",
                                               prefix + "mixer.A_log", prefix + "mixer.D",
                                               prefix + "mixer.conv1d.bias",
                                               prefix + "mixer.dt_proj.bias"});
}

TEST_CASE("a wrong token or state is refused and leaves the state as it was") {
  Random random(6);
  const auto config = tiny();
  const auto weights = draw_weights<float>(random, config);
  const auto initial = draw_state<float>(random, config, 1);
  auto state = initial;
  MambaLMWorkspace<float> workspace;
  Tensor<Token, 2> tokens({1, 3}), targets({1, 3});
  tokens(0, 2) = 11;
  CHECK_THROWS_AS(mamba_lm_forward<float>(cpu, weights, tokens, state, {}, workspace), DomainError);
  CHECK_THROWS_AS(mamba_lm_loss<float>(cpu, weights, targets, tokens, state, nullptr, workspace),
                  DomainError);
  CHECK(state_error(state, initial) == 0);
  MambaLMState<float> wrong(config, 2);
  CHECK_THROWS_AS(mamba_lm_forward<float>(cpu, weights, targets, wrong, {}, workspace), ShapeError);
  MambaLMState<float> none;
  CHECK_THROWS_AS(mamba_lm_forward<float>(cpu, weights, targets, none, {}, workspace), ShapeError);
  MambaLMConfig bad = config;
  bad.width = 0;
  CHECK_THROWS_AS(MambaLMWeights<float>(bad), DomainError);
}
