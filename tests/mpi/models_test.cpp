#include <limits>
#include <string>
#include <vector>

#include "mpi/over_ranks.hpp"
#include "ssm/layers/attention.hpp"
#include "ssm/layers/attention_step.hpp"
#include "ssm/layers/deal.hpp"
#include "ssm/layers/gated.hpp"
#include "ssm/layers/mamba.hpp"
#include "ssm/layers/mamba_step.hpp"
#include "ssm/layers/residual.hpp"
#include "ssm/layers/s4d.hpp"
#include "ssm/models/language_model.hpp"
#include "ssm/models/language_model_in_pieces.hpp"
#include "ssm/models/sequence_classifier.hpp"

namespace models_test {

using namespace ssm;
using test::Lengths;
using test::Random;
using test::world;

namespace {

using Block = Residual<Mamba<double>>;
using Model = LanguageModel<Block>;
using Seeing = Residual<Attention<double>>;

Model language_model() {
  Model model(
      {.vocab = 11, .backbone = StackConfig<Block>(2, {.mixer = {.width = 20, .state = 3}})});
  initialize(model, 3);
  return model;
}

Tensor<Token, 3> draw_tokens(Random& random, Index batch, Index length) {
  Tensor<Token, 3> tokens({batch, length, 1});
  for (Token& token : tokens) token = static_cast<Token>(random.integer(0, 10));
  return tokens;
}

View<const Token, 2> rows(const Tensor<Token, 3>& tokens) {
  return {tokens.data(), {tokens.extent(0), tokens.extent(1)}};
}

/// The steps of this rank where a text is cut into pieces.
Tensor<Token, 3> dealt(const Ranks& backend, const Tensor<Token, 3>& tokens,
                       const PieceOptions& pieces) {
  Index length = 0;
  const auto shares = deal(backend, tokens.extent(1), pieces);
  for (const Share& share : shares) length += share.count;
  Tensor<Token, 3> to({tokens.extent(0), length, 1});
  for (Index b = 0; b < tokens.extent(0); ++b) {
    Index t = 0;
    for (const Share& share : shares)
      for (Index i = 0; i < share.count; ++i) to(b, t++, 0) = tokens(b, share.begin + i, 0);
  }
  return to;
}

/// A text in pieces, each across the ranks, gives what the whole gives on one cpu.
template <class Layer>
void check_in_pieces(const LanguageModel<Layer>& model, const PieceOptions& pieces, Index length) {
  INFO(length << " steps in pieces of " << pieces.length << ", rank " << world().rank());
  const auto backend = ranks(world(), cpu(1));
  Random random(25);
  const auto tokens = draw_tokens(random, 2, length), targets = draw_tokens(random, 2, length);
  const auto its_tokens = dealt(backend, tokens, pieces);
  const auto its_targets = dealt(backend, targets, pieces);
  auto state = make_state(model, 2), its_state = state;
  LanguageModel<Layer> want, got;
  LanguageModelScratch<Layer> scratch;
  LanguageModelPiecesScratch<Layer> room;
  for (int step = 0; step < 2; ++step) {  // the second from the state after the first
    const auto before = its_state;
    const double loss_want =
        loss(cpu(1), model, rows(tokens), rows(targets), state, want, {}, scratch);
    const double loss_got = loss_in_pieces(backend, model, rows(its_tokens), rows(its_targets),
                                           its_state, got, {}, pieces, room);
    auto again = before;
    const double loss_alone = loss_in_pieces(backend, model, rows(its_tokens), rows(its_targets),
                                             again, {}, {}, pieces, room);
    sum_over_ranks(backend, got);
    pass_on(backend, its_state);
    CHECK(loss_got == Approx(loss_want).epsilon(1e-13));
    CHECK(loss_alone == Approx(loss_want).epsilon(1e-13));
    test::Results results, expected;
    test::add_results(results, got);
    test::add_results(expected, want);
    test::detail::add_state(results, "state", its_state);
    test::detail::add_state(expected, "state", state);
    test::check_agree(results, expected, 1e-11);
  }
}

}  // namespace

TEST_CASE("a text of any length runs in pieces that lie across the ranks, in the memory of one") {
  LanguageModel<Seeing> windowed(
      {.vocab = 11,
       .backbone = StackConfig<Seeing>(2, {.mixer = {.width = 8, .heads = 2, .window = 6}})});
  LanguageModel<Seeing> all(
      {.vocab = 11,
       .backbone = StackConfig<Seeing>(2, {.mixer = {.width = 8, .heads = 2, .capacity = 160}})});
  initialize(windowed, 4);
  initialize(all, 5);
  const int size = world().size();
  for (const Index length : {0, 5 * size + 1, 61}) {
    check_in_pieces(language_model(), {.length = 5, .states = 2}, length);
    check_in_pieces(windowed, {.length = 5}, length);
    check_in_pieces(all, {.length = 4, .states = 3}, length);
    check_in_pieces(windowed, {.length = (std::numeric_limits<Index>::max)()}, length);
  }
}

TEST_CASE("steps that make more pieces on one rank than on another are refused on all") {
  const Model model = language_model();
  const Tensor<Token, 3> tokens({1, world().rank() == 0 ? Index{11} : Index{4}, 1});
  LanguageModelPiecesScratch<Block> scratch;
  CHECK_THROWS_WITH(loss_in_pieces(ranks(world(), cpu(1)), model, rows(tokens), rows(tokens), {},
                                   {}, {}, {.length = 5}, scratch),
                    "loss_in_pieces of LanguageModel: tokens is of fewer pieces on one rank than "
                    "on another, expected each rank's share of every piece, as deal gives it");
}

TEST_CASE(
    "the loss of a language model over ranks, its gradients and its state are those of one cpu") {
  const Model model = language_model();
  const auto backend = ranks(world(), cpu(1));
  Random random(21);
  for (const Lengths& lengths : test::ways_to_cut(world().size())) {
    INFO(test::describe(lengths));
    const Index length = test::sum(lengths);
    const auto tokens = draw_tokens(random, 2, length), targets = draw_tokens(random, 2, length);
    const Share piece = test::piece_at(lengths, world().rank());
    const auto its_tokens = test::steps_of(tokens, piece),
               its_targets = test::steps_of(targets, piece);
    auto state = make_state(model, 2), its_state = state;
    Model want, got;
    LanguageModelScratch<Block> scratch, room;
    for (int step = 0; step < 2; ++step) {  // the second from the state after the first
      const double loss_want =
          loss(cpu(1), model, rows(tokens), rows(targets), state, want, {}, scratch);
      const double loss_got =
          loss(backend, model, rows(its_tokens), rows(its_targets), its_state, got, {}, room);
      sum_over_ranks(backend, got);
      pass_on(backend, its_state);
      CHECK(loss_got == Approx(loss_want).epsilon(1e-13));
      test::Results results, expected;
      test::add_results(results, got);
      test::add_results(expected, want);
      test::detail::add_state(results, "state", its_state);
      test::detail::add_state(expected, "state", state);
      test::check_agree(results, expected, 1e-12);
    }
  }
}

TEST_CASE("any rank steps on from the state of the whole") {
  const Model model = language_model();
  const auto backend = ranks(world(), cpu(1));
  Random random(22);
  const auto tokens = draw_tokens(random, 1, 30);
  const auto own = test::steps_of(tokens, piece_of(backend, 30));
  auto state = make_state(model, 1);
  LanguageModelScratch<Block> scratch;
  forward(backend, model, rows(own), state, {}, {.keep = false}, scratch);
  pass_on(backend, state);
  LanguageModelStepper<Block> stepper(model);
  Tensor<double, 2> logits({1, 11});
  const std::array<Token, 1> next{4};
  step(stepper, View<const Token, 1>(next.data(), {1}), state, logits.view());

  Tensor<double, 3> all({1, 31, 11});
  Tensor<Token, 3> longer({1, 31, 1});
  std::copy(tokens.begin(), tokens.end(), longer.begin());
  longer(0, 30, 0) = next[0];
  forward(cpu(1), model, rows(longer), {}, all.view(), {.keep = false}, scratch);
  for (Index v = 0; v < 11; ++v) CHECK(logits(0, v) == Approx(all(0, 30, v)).epsilon(1e-12));
}

TEST_CASE("a classifier over ranks is that of one cpu") {
  using Slow = S4Block<S4d<double>>;
  SequenceClassifier<Slow> model(
      {.inputs = 2,
       .classes = 3,
       .backbone =
           StackConfig<Slow>(2, {.mixer = {{.width = 4, .state = 4, .bidirectional = true}}})});
  initialize(model, 5);
  const auto backend = ranks(world(), cpu(1));
  Random random(23);
  for (const Lengths& lengths : test::ways_to_cut(world().size())) {
    INFO(test::describe(lengths));
    const auto u = random.normal<double, 3>({3, test::sum(lengths), 2});
    const std::vector<Token> labels{0, 2, 1};
    const View<const Token, 1> of(labels.data(), {3});
    const auto own = test::steps_of(u, test::piece_at(lengths, world().rank()));
    SequenceClassifier<Slow> want, got;
    SequenceClassifierScratch<Slow> scratch, room;
    const double loss_want = loss(cpu(1), model, u.view(), of, want, {}, scratch);
    const double loss_got = loss(backend, model, own.view(), of, got, {}, room);
    sum_over_ranks(backend, got);
    CHECK(loss_got == Approx(loss_want).epsilon(1e-13));
    test::Results results, expected;
    test::add_results(results, got);
    test::add_results(expected, want);
    test::check_agree(results, expected, 1e-12);
  }
}

TEST_CASE("in a grid, sequences are shared between rows and their time between ranks of a row") {
  const int size = world().size();
  if (size % 2 != 0) return;  // as many ranks as make no grid but a line
  Grid grid(world(), size / 2);
  const auto backend = ranks(grid, cpu(1));
  REQUIRE(grid.rows() == 2);
  const Model model = language_model();
  Random random(24);
  constexpr Index batch = 3, length = 17;
  const auto tokens = draw_tokens(random, batch, length),
             targets = draw_tokens(random, batch, length);
  const Share sequences = share_of(batch, grid.row(), grid.rows());
  const auto own = [&](const Tensor<Token, 3>& whole) {
    return test::steps_of(test::detail::cut(whole, 0, sequences.begin, sequences.count),
                          piece_of(backend, length));
  };
  Model want, got;
  LanguageModelScratch<Block> scratch, room;
  const double loss_want = loss(cpu(1), model, rows(tokens), rows(targets), {}, want, {}, scratch);
  const auto its_tokens = own(tokens), its_targets = own(targets);
  const double loss_got =
      loss(backend, model, rows(its_tokens), rows(its_targets), {}, got, {}, room);
  sum_over_ranks(backend, got);
  CHECK(loss_got == Approx(loss_want).epsilon(1e-13));
  test::Results results, expected;
  test::add_results(results, got);
  test::add_results(expected, want);
  test::check_agree(results, expected, 1e-12);
  parameters(got, [](const auto&, const auto& tensor, const auto&, bool) {
    CHECK(test::same_on_every_rank(tensor));
  });
}

}  // namespace models_test
