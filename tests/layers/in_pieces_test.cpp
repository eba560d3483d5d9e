#include "ssm/layers/in_pieces.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "ssm/layers/mamba.hpp"
#include "ssm/layers/mamba_step.hpp"
#include "ssm/layers/residual.hpp"
#include "ssm/layers/s4d.hpp"
#include "ssm/layers/s4d_step.hpp"
#include "ssm/layers/stack.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/layer_runs.hpp"

using namespace ssm;

namespace in_pieces_test {
namespace {

template <class T>
using Blocks = Stack<Residual<Mamba<T>>>;

template <class T>
Blocks<T> draw(Index width = 4) {
  Blocks<T> stack({2, {.mixer = {.width = width, .state = 3}}});
  initialize(stack, 3);
  return stack;
}

struct Cut {
  Index batch, length, piece;
  bool reversed = false;
};

/// What a pass over a whole sequence or over pieces of it gives.
template <class L>
test::Passed<L> unwritten(const test::Given<L>& given) {
  using T = typename L::value_type;
  return {test::detail::unwritten<T>(given.u.extents()),
          test::detail::unwritten<T>(given.u.extents()), given.before, given.dafter, L()};
}

template <class L>
test::Passed<L> run_whole(const L& layer, const test::Given<L>& given,
                          const OptionsOf<L>& options) {
  auto passed = unwritten(given);
  ScratchOf<L> scratch;
  forward(cpu(1), layer, given.u, Maybe<StateOf<L>>(passed.after), passed.y, options, scratch);
  backward(cpu(1), layer, given.u, Maybe<StateOf<L>>(passed.dbefore), std::as_const(given.dy),
           passed.du, passed.gradients, options, scratch);
  return passed;
}

template <class L>
test::Passed<L> run_pieces(const L& layer, const test::Given<L>& given, const OptionsOf<L>& options,
                           const PieceOptions& pieces, int threads = 1) {
  auto passed = unwritten(given);
  InPiecesScratch<L> scratch;
  forward_in_pieces(cpu(threads), layer, given.u, Maybe<StateOf<L>>(passed.after), passed.y,
                    options, pieces, scratch);
  backward_in_pieces(cpu(threads), layer, given.u, Maybe<StateOf<L>>(passed.dbefore),
                     std::as_const(given.dy), passed.du, passed.gradients, options, pieces,
                     scratch);
  return passed;
}

/// Outputs, states and every gradient: in pieces those of the whole, and the same bits however few
/// states are kept.
template <class L>
void check_in_pieces(const L& layer, const Cut& at) {
  using T = typename L::value_type;
  INFO("batch " << at.batch << ", length " << at.length << ", pieces of " << at.piece
                << ", reversed " << at.reversed);
  const auto given = test::draw_given(layer, at.length, 7, test::LayerLaws{.batch = at.batch});
  OptionsOf<L> options;
  options.sequences.reversed = at.reversed;
  const auto want = test::results_of(run_whole(layer, given, options));
  const auto got = test::results_of(run_pieces(layer, given, options, {.length = at.piece}));
  test::check_agree(got, want,
                    40 * static_cast<double>(at.length + 1) *
                        static_cast<double>(std::numeric_limits<T>::epsilon()));
  for (const Index states : {2, 3, 7})
    CHECK(test::detail::same_bits(
        test::results_of(
            run_pieces(layer, given, options, {.length = at.piece, .states = states}, 3)),
        got));
}

}  // namespace
}  // namespace in_pieces_test

using namespace in_pieces_test;

TEST_CASE("gradients of a sequence in pieces are those of the whole, whatever states are kept") {
  const auto stack = draw<double>();
  for (const Index length : {0, 1, 2, 37})
    for (const Index piece : {1, 5, 36, 100}) check_in_pieces(stack, {2, length, piece});
  check_in_pieces(stack, {3, 41, 7, true});
  check_in_pieces(draw<float>(), {2, 300, 64});
  check_in_pieces(draw<float>(), {1, 1300, 100, true});
  S4d<double> filter({.width = 3, .state = 4});
  initialize(filter, 2);
  check_in_pieces(filter, {2, 50, 8});
}

TEST_CASE("what is run in pieces without a gradient keeps no state") {
  const auto stack = draw<double>();
  const auto given = test::draw_given(stack, 30, 7, test::LayerLaws{});
  InPiecesScratch<Blocks<double>> scratch;
  Tensor<double, 3> y(given.u.extents()), du(y);
  LayerOptions<> options;
  options.keep = false;
  forward_in_pieces(cpu, stack, given.u, {}, y, options, {.length = 4}, scratch);
  CHECK(scratch.states.levels.empty());
  Blocks<double> gradients;
  CHECK_THROWS_WITH(backward_in_pieces(cpu, stack, given.u, {}, std::as_const(given.dy), du,
                                       gradients, options, {.length = 4}, scratch),
                    test::contains("forward_in_pieces with options.keep"));
}

TEST_CASE("no piece is made of packed sequences, of two directions, or of no steps") {
  const auto stack = draw<double>();
  const auto given = test::draw_given(stack, 30, 7, test::LayerLaws{.batch = 1});
  Tensor<double, 3> y(given.u.extents()), du(y);
  Blocks<double> gradients;
  InPiecesScratch<Blocks<double>> scratch;
  const auto forward_with = [&](const LayerOptions<>& options, const PieceOptions& pieces) {
    forward_in_pieces(cpu, stack, given.u, {}, y, options, pieces, scratch);
  };
  const Tensor<Index, 1> offsets = [] {
    Tensor<Index, 1> cuts({3});
    cuts(1) = 10;
    cuts(2) = 30;
    return cuts;
  }();
  LayerOptions<> packed;
  packed.sequences.offsets = offsets;
  CHECK_THROWS_WITH(forward_with(packed, {}), test::contains("packed sequences"));
  CHECK_THROWS_WITH(forward_with({}, {.length = 0}),
                    test::contains("pieces.length is 0, expected at least 1 step"));
  CHECK_THROWS_WITH(forward_with({}, {.length = 3, .states = 1}),
                    test::contains("pieces.states is 1, expected at least 2"));
  forward_with({}, {.length = 4});
  CHECK_THROWS_WITH(backward_in_pieces(cpu, stack, given.u, {}, std::as_const(given.dy), du,
                                       gradients, {}, {.length = 5}, scratch),
                    test::contains("those of forward_in_pieces"));
  LayerOptions<> turned;
  turned.sequences.reversed = true;
  CHECK_THROWS_WITH(backward_in_pieces(cpu, stack, given.u, {}, std::as_const(given.dy), du,
                                       gradients, turned, {.length = 4}, scratch),
                    test::contains("that of a call with these options"));

  S4d<double> both({.width = 4, .state = 4, .bidirectional = true});
  initialize(both, 1);
  InPiecesScratch<S4d<double>> room;
  CHECK_THROWS_WITH(forward_in_pieces(cpu, both, given.u, {}, y, {}, {.length = 4}, room),
                    test::contains("bidirectional"));
}

TEST_CASE("nested cuts cover any number of pieces with few states") {
  for (const Index pieces : {1, 2, 3, 10, 1000, 1000000})
    for (const Index states : {2, 3, 10, 1024}) {
      const auto nesting = detail::nesting_of(pieces, states);
      CHECK(std::pow(static_cast<double>(nesting.groups), static_cast<double>(nesting.levels)) >=
            static_cast<double>(pieces));
      CHECK(nesting.groups * nesting.levels <=
            std::max<Index>(states, 2 * (1 + static_cast<Index>(std::log2(pieces)))));
    }
  CHECK(detail::nesting_of(Index{1} << 62, 1024).levels <= 16);
}
