#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "../../examples/gru.hpp"
#include "../../examples/linear_classifier.hpp"
#include "ssm/layers/gated.hpp"
#include "ssm/layers/mamba.hpp"
#include "ssm/layers/mamba_step.hpp"
#include "ssm/layers/pack_sequences.hpp"
#include "ssm/layers/s4d.hpp"
#include "ssm/layers/s5.hpp"
#include "ssm/layers/states.hpp"
#include "ssm/models/sequence_classifier.hpp"
#include "ssm/train/trainer.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/length_laws.hpp"
#include "support/random.hpp"

/// A classifier of sequences of different lengths in one call.

using namespace ssm;
using test::Random;

namespace classifier_lengths_test {

namespace {

template <class Mixer>
using Model = SequenceClassifier<S4Block<Mixer>>;

template <class Mixer>
Model<Mixer> draw(const typename Mixer::Config& mixer, std::uint64_t seed = 1) {
  Model<Mixer> model(
      typename Model<Mixer>::Config{.inputs = 2, .classes = 3, .backbone = {2, {{mixer}, 1e-5}}});
  initialize(model, seed);
  Random random(seed + 1);
  for (double& x : model.head_bias) x = random.normal();
  return model;
}

/// Sequences of two numbers a step, with their classes.
struct Batch {
  Tensor<Index, 1> offsets;
  Tensor<double, 3> u;
  Tensor<Token, 1> labels;

  Batch(const std::vector<Index>& lengths, std::uint64_t seed)
      : offsets(test::offsets_after(lengths)), labels({count()}) {
    Random random(seed);
    u = random.normal<double, 3>({1, offsets(count()), 2});
    for (Token& label : labels) label = static_cast<Token>(random.integer(0, 2));
  }
  [[nodiscard]] Index count() const { return offsets.extent(0) - 1; }
  [[nodiscard]] LayerOptions<> options() const {
    LayerOptions<> options;
    options.sequences.offsets = offsets;
    return options;
  }
  [[nodiscard]] View<const double, 3> alone(Index s) const {
    return u.view().slice(1, offsets(s), offsets(s + 1) - offsets(s));
  }
  [[nodiscard]] View<const Token, 1> label(Index s) const { return labels.view().slice(0, s, 1); }
};

/// a += share · b, weight by weight.
template <class M>
void add_share(M& a, const M& b, double share) {
  std::vector<std::pair<double*, Index>> to;
  parameters(a, [&](const auto&, auto& tensor, const auto&, bool) {
    to.emplace_back(tensor.data(), tensor.size());
  });
  std::size_t i = 0;
  parameters(b, [&](const auto&, const auto& tensor, const auto&, bool) {
    for (Index k = 0; k < tensor.size(); ++k) to[i].first[k] += share * tensor.data()[k];
    ++i;
  });
}

/// The mean loss of sequences that are run one by one, and its gradient.
template <class M>
double loss_one_by_one(const M& model, const Batch& batch, M& gradients) {
  typename M::Scratch scratch;
  M one;
  gradients = model;
  zero_parameters(gradients);
  double sum = 0;
  const double share = 1 / static_cast<double>(batch.count());
  for (Index s = 0; s < batch.count(); ++s) {
    sum += share * loss(cpu(1), model, batch.alone(s), batch.label(s), one, {}, scratch);
    add_share(gradients, one, share);
  }
  return sum;
}

template <class M>
void check_lengths(const M& model) {
  Random random(5);
  typename M::Scratch used;
  for (const Index count : {1, 2, 7, 12}) {
    const auto lengths = test::draw_lengths(random, count, count < 12 ? 30 : 70);
    INFO(count << " sequences");
    const Batch batch(lengths, 10 + static_cast<std::uint64_t>(count));
    Tensor<double, 2> logits({count, 3}), alone({1, 3});
    forward(cpu(2), model, batch.u, logits, batch.options(), used);
    typename M::Scratch scratch;
    for (Index s = 0; s < count; ++s) {
      INFO("sequence " << s << " of length " << lengths[static_cast<std::size_t>(s)]);
      forward(cpu(1), model, batch.alone(s), alone, {}, scratch);
      for (Index k = 0; k < 3; ++k) CHECK(std::abs(logits(s, k) - alone(0, k)) <= 1e-11);
    }
    M gradients, wanted;
    const double got = loss(cpu(2), model, batch.u, batch.labels, gradients, batch.options(), used);
    CHECK(std::abs(got - loss_one_by_one(model, batch, wanted)) <= 1e-12);
    test::Results results, want;
    test::add_results(results, gradients);
    test::add_results(want, wanted);
    test::check_agree(results, want, 1e-10);
  }
}

}  // namespace

TEST_CASE("a classifier's scores, loss and gradients are those of each sequence alone") {
  check_lengths(draw<S4d<double>>({.width = 4, .state = 6}));
  check_lengths(draw<S4d<double>>({.width = 4, .state = 6, .bidirectional = true}));
  check_lengths(draw<S5<double>>({.width = 4, .state = 6}));
  check_lengths(draw<S5<double>>({.width = 4, .state = 6, .bidirectional = true}));
  check_lengths(draw<Mamba<double>>({.width = 4, .state = 3}));
  check_lengths(draw<gru::Gru<double>>({4}));
}

TEST_CASE("a sequence without steps gets the bias of the head as its scores") {
  const auto model = draw<S4d<double>>({.width = 4, .state = 6});
  const Batch batch({0, 3, 0}, 20);
  Tensor<double, 2> logits({3, 3});
  Model<S4d<double>>::Scratch scratch;
  forward(cpu, model, batch.u, logits, batch.options(), scratch);
  for (const Index s : {0, 2})
    for (Index k = 0; k < 3; ++k) CHECK(logits(s, k) == model.head_bias(k));
}

TEST_CASE("a NaN spoils the scores of its packed sequence, and changes no bit of the others") {
  const auto model = draw<S5<double>>({.width = 4, .state = 6});
  Batch batch({5, 1, 0, 30, 2}, 21);
  Model<S5<double>>::Scratch scratch;
  Tensor<double, 2> before({5, 3}), after({5, 3});
  forward(cpu, model, batch.u, before, batch.options(), scratch);
  batch.u(0, batch.offsets(3) + 4, 1) = std::numeric_limits<double>::quiet_NaN();
  forward(cpu, model, batch.u, after, batch.options(), scratch);
  for (Index s = 0; s < 5; ++s)
    for (Index k = 0; k < 3; ++k) {
      INFO("sequence " << s);
      if (s == 3)
        CHECK(std::isnan(after(s, k)));
      else
        CHECK(before(s, k) == after(s, k));
    }
}

TEST_CASE("training on packed sequences is training on each of them, whatever the lengths") {
  using M = Model<S4d<double>>;
  const auto start = draw<S4d<double>>({.width = 4, .state = 6});
  const TrainerOptions options{.schedule = {.peak = 1e-2, .warmup = 2, .steps = 12}};
  Trainer<M> packed(start, options), apart(start, options);
  M::Scratch scratch;
  Random random(6);
  for (std::uint64_t step = 0; step < 12; ++step) {
    const Batch batch(test::draw_lengths(random, 5, 20), 40 + step);
    const auto got = packed.step(cpu(2), [&](const M& model, M& gradients) {
      return loss(cpu(2), model, batch.u, batch.labels, gradients, batch.options(), scratch);
    });
    const auto want = apart.step(cpu(1), [&](const M& model, M& gradients) {
      return loss_one_by_one(model, batch, gradients);
    });
    CHECK(std::abs(got.loss - want.loss) <= 1e-9);
  }
  test::Results results, want;
  test::add_results(results, packed.model);
  test::add_results(want, apart.model);
  test::check_agree(results, want, 1e-8);
}

TEST_CASE("where a streamed sequence ends, another begins in its row") {
  const auto model = draw<S4d<double>>({.width = 4, .state = 6});
  const Batch batch({4, 9, 3, 2}, 22);
  Model<S4d<double>>::Scratch scratch;
  Tensor<double, 2> want({4, 3});
  forward(cpu(1), model, batch.u, want, batch.options(), scratch);
  // Two rows: sequences 0, 2 and 3 in the first, and 1 in the second.
  const std::array<std::vector<Index>, 2> rows{std::vector<Index>{0, 2, 3}, {1}};
  std::array<std::size_t, 2> which{0, 0};
  std::array<Index, 2> at{0, 0};
  Model<S4d<double>>::Stepper stepper(model, 2);
  auto state = make_state(model, 2);
  Tensor<double, 2> input({2, 2}), logits({2, 3});
  for (int t = 0; t < 9; ++t) {
    for (std::size_t r = 0; r < 2; ++r) {
      const Index s = rows[r][which[r]];
      for (Index i = 0; i < 2; ++i)
        input(static_cast<Index>(r), i) = batch.u(0, batch.offsets(s) + at[r], i);
    }
    step(stepper, input, state, logits);
    for (std::size_t r = 0; r < 2; ++r) {
      const Index row = static_cast<Index>(r), s = rows[r][which[r]];
      if (++at[r] < batch.offsets(s + 1) - batch.offsets(s)) continue;
      for (Index k = 0; k < 3; ++k) CHECK(std::abs(logits(row, k) - want(s, k)) <= 1e-12);
      reset_sequence(state, row);
      at[r] = 0;
      if (which[r] + 1 < rows[r].size()) ++which[r];
    }
  }
}

TEST_CASE("the linear baseline takes shorter sequences for what their first inputs say") {
  linear::Linear model({.inputs = 6, .classes = 3});
  Random random(7);
  for (float& x : model.weight) x = static_cast<float>(random.normal());
  for (float& x : model.bias) x = static_cast<float>(random.normal());
  const auto offsets = test::offsets_after({4, 0, 6, 1});
  const auto u = random.normal<float, 3>({1, 11, 1});
  LayerOptions<> options;
  options.sequences.offsets = offsets;
  linear::Linear::Scratch scratch;
  Tensor<float, 2> logits({4, 3});
  forward(cpu, model, u, logits, options, scratch);
  for (Index s = 0; s < 4; ++s)
    for (Index k = 0; k < 3; ++k) {
      double want = static_cast<double>(model.bias(k));
      for (Index t = 0; t < offsets(s + 1) - offsets(s); ++t)
        want +=
            static_cast<double>(model.weight(k, t)) * static_cast<double>(u(0, offsets(s) + t, 0));
      CHECK(std::abs(static_cast<double>(logits(s, k)) - want) <= 1e-5);
    }
  Tensor<Token, 1> labels({4});
  linear::Linear gradients({.inputs = 6, .classes = 3});
  CHECK(std::isfinite(loss(cpu, model, u, labels, gradients, options, scratch)));
  for (Index k = 0; k < 3; ++k) {  // only the third sequence has a last input
    double want = 0;
    for (Index s = 2; s < 3; ++s) want += static_cast<double>(scratch.logits(s, k) * u(0, 9, 0));
    CHECK(std::abs(static_cast<double>(gradients.weight(k, 5)) - want) <= 1e-6);
  }
  const auto longer = test::offsets_after({7, 4, 0, 0});
  options.sequences.offsets = longer;
  CHECK_THROWS_AS(forward(cpu, model, u, logits, options, scratch), ShapeError);
}

}  // namespace classifier_lengths_test
