#include "ssm/models/language_model.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "ssm/layers/states.hpp"
#include "ssm/models/mamba_lm.hpp"
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

template <class T>
using Config = typename MambaLM<T>::Config;

template <class T>
Config<T> tiny() {
  return mamba_lm_config<T>(11, 2, {.width = 6, .state = 3});
}

/// Initialised, then moved so that no weight sits where its gradient is special.
template <class T>
MambaLM<T> draw_model(Random& random, const Config<T>& config) {
  MambaLM<T> model(config);
  initialize(model, 5);
  parameters(model, [&](const auto&, auto& tensor, const auto&, bool) {
    for (T& x : tensor) x += static_cast<T>(0.2 * random.normal());
  });
  return model;
}

template <class T>
typename MambaLM<T>::State draw_state(Random& random, const MambaLM<T>& model, Index batch) {
  auto state = make_state(model, batch);
  tensors(state, [&](const auto&, auto& tensor) {
    for (T& x : tensor) x = static_cast<T>(random.normal());
  });
  return state;
}

Tensor<Token, 2> draw_tokens(Random& random, Index vocab, Index batch, Index length) {
  Tensor<Token, 2> tokens({batch, length});
  for (Token& t : tokens) t = static_cast<Token>(random.integer(0, vocab - 1));
  return tokens;
}

template <class State>
double state_error(const State& got, const State& want) {
  double error = 0;
  for (std::size_t i = 0; i < want.layers.size(); ++i) {
    error = std::max(error, test::relative_error(got.layers[i].conv, want.layers[i].conv));
    error = std::max(error, test::relative_error(got.layers[i].scan, want.layers[i].scan));
  }
  return error;
}

/// All parameters of a model in one tensor.
template <class T>
Tensor<T, 1> flatten(const MambaLM<T>& model) {
  std::vector<T> all;
  parameters(model, [&](const auto&, const auto& tensor, const auto&, bool) {
    all.insert(all.end(), tensor.begin(), tensor.end());
  });
  Tensor<T, 1> flat({static_cast<Index>(all.size())});
  std::copy(all.begin(), all.end(), flat.begin());
  return flat;
}

}  // namespace

TEST_CASE("the language model has the gradients of finite differences, with dropout or without") {
  LayerOptions<> options;
  options.dropout = {GENERATE(0.0, 0.3), 5};
  Random random(1);
  auto config = tiny<double>();
  config.tied = options.dropout.probability == 0;
  auto model = draw_model<double>(random, config);
  const auto initial = draw_state(random, model, 2);
  const auto tokens = draw_tokens(random, 11, 2, 7), targets = draw_tokens(random, 11, 2, 7);
  MambaLM<double>::Scratch scratch;
  const auto loss_of = [&](Maybe<MambaLM<double>> gradients) {
    auto state = initial;
    return loss(cpu(1), model, tokens, targets, state, gradients, options, scratch);
  };
  MambaLM<double> gradients;
  CHECK(loss_of(gradients) == Approx(loss_of({})).epsilon(1e-14));
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

TEST_CASE("the gradient of a loss of logits and of the last state is that of finite differences") {
  Random random(12);
  auto model = draw_model<double>(random, tiny<double>());
  const auto initial = draw_state(random, model, 2), dafter = draw_state(random, model, 2);
  const auto tokens = draw_tokens(random, 11, 2, 6);
  const auto dlogits = random.normal<double, 3>({2, 6, 11});
  MambaLM<double>::Scratch scratch;
  const auto value = [&] {
    auto state = initial;
    Tensor<double, 3> logits(dlogits.extents());
    forward(cpu(1), model, tokens, state, logits, {}, scratch);
    return test::dot(logits, dlogits) + test::dot(state.layers[1].scan, dafter.layers[1].scan) +
           test::dot(state.layers[0].conv, dafter.layers[0].conv);
  };
  value();
  MambaLM<double> gradients;
  auto dstate = make_state(model, 2);
  dstate.layers[1].scan = dafter.layers[1].scan;
  dstate.layers[0].conv = dafter.layers[0].conv;
  backward(cpu(1), model, tokens, dstate, dlogits, gradients, {}, scratch);
  CHECK(test::gradient_error(value, model.embedding, gradients.embedding) < 1e-8);
  CHECK(test::gradient_error(value, model.norm, gradients.norm) < 1e-8);
  CHECK(test::gradient_error(value, model.backbone.layers[0].mixer.A_log,
                             gradients.backbone.layers[0].mixer.A_log) < 1e-8);
}

TEMPLATE_TEST_CASE("a prompt in chunks, or a token at a time, is the prompt in one", "", float,
                   double) {
  using T = TestType;
  Random random(2);
  auto config = tiny<T>();
  config.tied = GENERATE(true, false);
  const auto model = draw_model<T>(random, config);
  const Index vocab = model.config.vocab;
  const auto initial = draw_state(random, model, 2);
  const auto tokens = draw_tokens(random, vocab, 2, 30);
  const double bound = 5000 * static_cast<double>(std::numeric_limits<T>::epsilon());
  typename MambaLM<T>::Scratch scratch;
  auto final = initial;
  Tensor<T, 3> whole({2, 30, vocab});
  forward(cpu(2), model, tokens, final, whole, {}, scratch);

  auto state = initial;
  Tensor<T, 3> chunked(whole.extents());
  Index begin = 0;
  for (const Index count : {1, 0, 2, 20, 7}) {
    Tensor<T, 3> logits({2, count, vocab});
    forward(cpu(2), model, tokens.view().slice(1, begin, count), state, logits,
            {.keep = count % 2 == 0}, scratch);
    for (Index b = 0; b < 2; ++b)
      for (Index t = 0; t < count; ++t)
        for (Index v = 0; v < vocab; ++v) chunked(b, begin + t, v) = logits(b, t, v);
    begin += count;
  }
  CHECK(test::relative_error(chunked, whole) < bound);
  CHECK(state_error(state, final) < bound);

  state = initial;
  typename MambaLM<T>::Stepper stepper(model, 2);
  Tensor<T, 3> stepped(whole.extents());
  for (Index t = 0; t < 30; ++t) {
    const View<const Token, 1> now(&tokens(0, t), {2}, {30});
    const View<T, 2> logits(&stepped(0, t, 0), {2, vocab}, {30 * vocab, 1});
    CHECK(test::allocations_of([&] { step(stepper, now, state, logits); }) == 0);
  }
  CHECK(test::relative_error(stepped, whole) < bound);
  CHECK(state_error(state, final) < bound);

  state = initial;
  forward(cpu(2), model, tokens, state, {}, {}, scratch);
  CHECK(state_error(state, final) == 0);

  state = initial;
  Tensor<T, 3> last({2, 1, vocab}), wanted(last.extents());
  forward(cpu(2), model, tokens, state, last, {}, scratch);
  for (Index b = 0; b < 2; ++b)
    for (Index v = 0; v < vocab; ++v) wanted(b, 0, v) = whole(b, 29, v);
  CHECK(test::relative_error(last, wanted) < bound);
  CHECK(state_error(state, final) == 0);
}

TEST_CASE("packed texts of different lengths are each as if alone: padding is nobody's need") {
  Random random(13);
  const auto model = draw_model<double>(random, tiny<double>());
  const auto initial = draw_state(random, model, 3);
  const auto tokens = draw_tokens(random, 11, 1, 12);
  Tensor<Index, 1> offsets({4});
  offsets(1) = 5;
  offsets(2) = 6;
  offsets(3) = 12;
  MambaLM<double>::Scratch scratch;
  LayerOptions<> options;
  options.sequences.offsets = offsets;
  auto state = initial;
  Tensor<double, 3> packed({1, 12, 11});
  forward(cpu(2), model, tokens, state, packed, options, scratch);
  for (Index s = 0; s < 3; ++s) {
    const Index begin = offsets(s), count = offsets(s + 1) - begin;
    auto alone = gather_sequences(initial, {s});
    Tensor<double, 3> logits({1, count, 11});
    forward(cpu(1), model, tokens.view().slice(1, begin, count), alone, logits, {}, scratch);
    for (Index t = 0; t < count; ++t)
      for (Index v = 0; v < 11; ++v)
        CHECK(logits(0, t, v) == Approx(packed(0, begin + t, v)).margin(1e-12));
    CHECK(state_error(alone, gather_sequences(state, {s})) < 1e-12);
  }
}

TEST_CASE("targets to ignore count for nothing") {
  Random random(14);
  const auto model = draw_model<double>(random, tiny<double>());
  const auto tokens = draw_tokens(random, 11, 1, 8);
  auto targets = draw_tokens(random, 11, 1, 8);
  MambaLM<double>::Scratch scratch;
  MambaLM<double> gradients, fewer;
  for (Index t = 4; t < 8; ++t) targets(0, t) = -100;
  const double masked = loss(cpu, model, tokens, targets, {}, gradients, {}, scratch);
  const double cut = loss(cpu, model, tokens.view().slice(1, 0, 4), targets.view().slice(1, 0, 4),
                          {}, fewer, {}, scratch);
  CHECK(masked == Approx(cut).epsilon(1e-13));
  CHECK(test::relative_error(flatten(gradients), flatten(fewer)) < 1e-12);
}

TEST_CASE("a step with a token outside the vocabulary ends the program with a sentence") {
  Random random(2);
  const auto model = draw_model<double>(random, tiny<double>());
  const auto run = [&](Token token) {
    return test::last_words([&] {
      Tensor<Token, 1> tokens({1});
      tokens(0) = token;
      Tensor<double, 2> logits({1, 11});
      auto state = make_state(model, 1);
      MambaLM<double>::Stepper stepper(model);
      step(stepper, tokens.view(), state, logits);
    });
  };
  CHECK(run(10).empty());
  CHECK_THAT(run(11), test::contains("step of LanguageModel: tokens(0, 0) is 11, expected a token "
                                     "in [0, 11)"));
}

TEST_CASE("a stepper says that its model was moved away, and refuses one without parameters") {
  Random random(3);
  const std::string words = test::last_words([&] {
    auto model = draw_model<double>(random, tiny<double>());
    MambaLM<double>::Stepper stepper(model);
    auto state = make_state(model, 1);
    const auto moved = std::move(model);
    Tensor<Token, 1> tokens({1});
    Tensor<double, 2> logits({1, 11});
    step(stepper, tokens.view(), state, logits);
  });
  CHECK_THAT(words, test::contains("step of LanguageModel: embedding is (0, 0), expected (11, 6)"));
  const MambaLM<double> none;
  CHECK_THROWS_AS(MambaLM<double>::Stepper(none), ShapeError);
}

TEST_CASE(
    "a stepper takes over weights of its own vocabulary and width alone, with layers or none") {
  Random random(4);
  for (const Index layers : {0, 1}) {
    const auto model_of = [&](Index vocab, Index width) {
      return draw_model<double>(
          random, mamba_lm_config<double>(vocab, layers, {.width = width, .state = 3}));
    };
    const auto model = model_of(11, 6), other = model_of(11, 6);
    const auto wider = model_of(11, 64), larger = model_of(12, 6);
    MambaLM<double>::Stepper stepper(model);
    CHECK_NOTHROW(stepper.update(other));
    CHECK_THROWS_WITH(
        stepper.update(wider),
        test::contains("LanguageModelStepper: embedding is (11, 64), expected (11, 6)"));
    CHECK_THROWS_AS(stepper.update(larger), ShapeError);
  }
}

TEST_CASE("the loss of a text is that of its pieces with the state carried over") {
  Random random(3);
  const auto model = draw_model<double>(random, tiny<double>());
  const auto tokens = draw_tokens(random, 11, 3, 20), targets = draw_tokens(random, 11, 3, 20);
  MambaLM<double>::Scratch scratch;
  auto state = make_state(model, 3), carried = make_state(model, 3);
  const double whole = loss(cpu(1), model, tokens, targets, state, {}, {}, scratch);
  double sum = 0;
  Index begin = 0;
  for (const Index count : {1, 5, 14}) {
    sum += static_cast<double>(count) * loss(cpu(1), model, tokens.view().slice(1, begin, count),
                                             targets.view().slice(1, begin, count), carried, {}, {},
                                             scratch);
    begin += count;
  }
  CHECK(sum / 20 == Approx(whole).epsilon(1e-13));
  CHECK(state_error(carried, state) < 1e-12);
}

TEST_CASE("the loss, its gradient and the state have the same bits for any number of threads") {
  Random random(4);
  const auto model =
      draw_model<float>(random, mamba_lm_config<float>(50, 2, {.width = 40, .state = 16}));
  const auto tokens = draw_tokens(random, 50, 3, 200), targets = draw_tokens(random, 50, 3, 200);
  const auto run = [&](int threads) {
    auto state = make_state(model, 3);
    MambaLM<float> gradients;
    MambaLM<float>::Scratch scratch;
    const double nats = loss(cpu(threads), model, tokens, targets, state, gradients, {}, scratch);
    return std::tuple(nats, flatten(gradients), state.layers.back().scan);
  };
  const auto [nats, gradients, state] = run(1);
  for (const int threads : {2, 3}) {
    const auto [nats2, gradients2, state2] = run(threads);
    CHECK(nats == nats2);
    CHECK(test::same_bits(gradients, gradients2));
    CHECK(test::same_bits(state, state2));
  }
  CHECK(std::get<0>(run(1)) == nats);
}

TEST_CASE("a fresh model knows nothing: its loss is near log vocab") {
  Random random(5);
  MambaLM<float> model(mamba_lm_config<float>(256, 3, {.width = 48}));
  initialize(model, 1);
  const auto tokens = draw_tokens(random, 256, 2, 64), targets = draw_tokens(random, 256, 2, 64);
  MambaLM<float>::Scratch scratch;
  CHECK(loss(cpu, model, tokens, targets, {}, {}, {}, scratch) ==
        Approx(std::log(256.0)).epsilon(0.02));
}

TEST_CASE("initialisation is a function of the seed and follows the published recipe") {
  const auto config = mamba_lm_config<double>(256, 4, {.width = 32});
  MambaLM<double> a(config), b(config), c(config);
  initialize(a, 1);
  initialize(b, 1);
  initialize(c, 2);
  CHECK(test::same_bits(flatten(a), flatten(b)));
  CHECK(!test::same_bits(flatten(a), flatten(c)));
  for (const auto& layer : a.backbone.layers) {
    const auto& w = layer.mixer;
    for (Index n = 0; n < 16; ++n)
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
  MambaLM<float> model(mamba_lm_config<float>(50280, 24, {.width = 768}));
  std::set<std::string> names, without_decay;
  parameters(model, [&](std::string_view name, const auto&, const auto&, bool decay) {
    CHECK(names.insert(std::string(name)).second);
    if (!decay && (name.find("layers.7.") != name.npos || name.find("layers") == name.npos))
      without_decay.insert(std::string(name));
  });
  CHECK(parameter_count(model) == 129135360);
  CHECK(names.size() == 24 * 10 + 2);
  CHECK(names.count("backbone.layers.23.mixer.conv1d.weight") == 1);
  const std::string prefix = "backbone.layers.7.";
  CHECK(without_decay == std::set<std::string>{"backbone.norm_f.weight", prefix + "norm.weight",
                                               prefix + "mixer.A_log", prefix + "mixer.D",
                                               prefix + "mixer.conv1d.bias",
                                               prefix + "mixer.dt_proj.bias"});
}

TEST_CASE("a head of its own is a parameter, drawn after all that a tied model has") {
  auto config = tiny<double>();
  MambaLM<double> tied(config);
  config.tied = false;
  MambaLM<double> untied(config);
  initialize(tied, 1);
  initialize(untied, 1);
  CHECK(tied.head.size() == 0);
  CHECK(parameter_count(untied) == parameter_count(tied) + 11 * 6);
  CHECK(test::same_bits(tied.embedding, untied.embedding));
  CHECK(std::any_of(untied.head.begin(), untied.head.end(), [](double x) { return x != 0; }));
  untied.head.resize({10, 6});
  MambaLM<double>::Scratch scratch;
  Tensor<Token, 2> tokens({1, 1});
  Tensor<double, 3> logits({1, 1, 11});
  CHECK_THROWS_WITH(forward(cpu, untied, tokens, {}, logits, {}, scratch),
                    "forward of LanguageModel: head is (10, 6), expected (11, 6)");
}

TEST_CASE("a wrong token or state is refused and leaves the state as it was") {
  Random random(6);
  const auto model = draw_model<float>(random, tiny<float>());
  const auto initial = draw_state(random, model, 1);
  auto state = initial;
  MambaLM<float>::Scratch scratch;
  Tensor<Token, 2> tokens({1, 3}), targets({1, 3});
  tokens(0, 2) = 11;
  CHECK_THROWS_AS(forward(cpu, model, tokens, state, {}, {}, scratch), DomainError);
  CHECK_THROWS_AS(loss(cpu, model, targets, tokens, state, {}, {}, scratch), DomainError);
  CHECK(state_error(state, initial) == 0);
  auto wrong = make_state(model, 2);
  CHECK_THROWS_AS(forward(cpu, model, targets, wrong, {}, {}, scratch), ShapeError);
  Tensor<float, 3> two({1, 2, 11}), one({1, 1, 11});
  CHECK_THROWS_AS(forward(cpu, model, targets, {}, two, {}, scratch), ShapeError);
  Tensor<Token, 2> nothing({1, 0});
  CHECK_THROWS_AS(forward(cpu, model, nothing, {}, one, {}, scratch), ShapeError);
  MambaLM<float>::State none;
  CHECK_THROWS_AS(forward(cpu, model, targets, none, {}, {}, scratch), ShapeError);
  CHECK_THROWS_AS(MambaLM<float>(mamba_lm_config<float>(11, 1, {.width = 0})), DomainError);
  CHECK_THROWS_AS(MambaLM<float>(mamba_lm_config<float>(0, 1, {.width = 4})), DomainError);
}
