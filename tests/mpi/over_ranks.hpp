#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "mpi/world.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/mpi.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/layer_runs.hpp"
#include "support/precision.hpp"
#include "support/random.hpp"

/// What tests over ranks share: every rank draws the same whole sequences, runs its piece over
/// ranks and the whole on one cpu, and compares.
namespace ssm::test {

/// The lengths of the pieces of time, one a rank.
using Lengths = std::vector<Index>;

inline Index sum(const Lengths& lengths) {
  Index sum = 0;
  for (const Index length : lengths) sum += length;
  return sum;
}
/// The steps of rank `rank`.
inline Share piece_at(const Lengths& lengths, int rank) {
  Share piece{0, 0};
  for (int r = 0; r <= rank; ++r) {
    piece.begin += piece.count;
    piece.count = lengths[static_cast<std::size_t>(r)];
  }
  return piece;
}

/// Ways to cut time over `ranks`: evenly, unevenly, with ranks that have one step or none, and with
/// fewer steps than ranks.
inline std::vector<Lengths> ways_to_cut(int ranks) {
  const auto size = static_cast<std::size_t>(ranks);
  std::vector<Lengths> ways(6, Lengths(size, 0));
  for (int r = 0; r < ranks; ++r) {
    const auto i = static_cast<std::size_t>(r);
    ways[0][i] = share_of(47, r, ranks).count;
    ways[1][i] = 3 + (7 * r + 20) % 19;
    ways[2][i] = r % 2 == 0 ? 5 : 0;
    ways[3][i] = r % 2 == 0 ? 0 : 18;
    ways[4][i] = share_of(2, ranks - 1 - r, ranks).count;
  }
  return ways;  // the last has no step at all
}

inline std::string describe(const Lengths& lengths) {
  std::string text = "pieces";
  for (const Index length : lengths) text += " " + std::to_string(length);
  return text;
}

/// The steps of one piece, in memory of its own.
template <class K>
Tensor<K, 3> steps_of(const Tensor<K, 3>& whole, const Share& piece) {
  return detail::cut(whole, 1, piece.begin, piece.count);
}

/// Whether a tensor has the same bits on every rank.
template <class AnyTensor>
bool same_on_every_rank(const AnyTensor& tensor) {
  using K = typename AnyTensor::value_type;
  Tensor<K, 1> all({tensor.size() * world().size()});
  world().gather(tensor.data(), tensor.size(), all.data());
  bool same = true;
  for (int r = 0; r < world().size(); ++r)
    for (Index i = 0; i < tensor.size(); ++i) {
      const K &a = all(r * tensor.size() + i), &b = tensor.data()[i];
      same = same && std::memcmp(&a, &b, sizeof(K)) == 0;
    }
  return same;
}

/// Fills a state with what nobody may read: all but that of passes which begin on this rank.
/// @param first where those in the order of time begin; those against it begin on the other end
template <class State>
void spoil(State& state, int first) {
  tensors(state, [&](std::string_view name, auto& tensor) {
    using K = typename std::remove_cvref_t<decltype(tensor)>::value_type;
    const bool back = name.ends_with("x_back");
    if (world().rank() == (back ? world().size() - 1 - first : first)) return;
    tensor.fill(K(std::numeric_limits<Real<K>>::quiet_NaN()));
  });
}

/// Runs this rank's piece of a layer forward and backward from the states in `passed`, and sums the
/// gradients of weights over ranks.
template <class L>
void run_piece(const Ranks& backend, const L& layer, const Tensor<typename L::value_type, 3>& u,
               const Tensor<typename L::value_type, 3>& dy, const LayerLaws& laws,
               const OptionsOf<L>& options, Passed<L>& passed) {
  const auto maybe = [&](StateOf<L>& state) {
    return laws.states ? Maybe<StateOf<L>>(state) : Maybe<StateOf<L>>();
  };
  passed.y = detail::unwritten<typename L::value_type>(u.extents());
  passed.du = detail::unwritten<typename L::value_type>(u.extents());
  ScratchOf<L> scratch;
  forward(backend, layer, InputOf<L>(u), maybe(passed.after), OutputOf<L>(passed.y), options,
          scratch);
  backward(backend, layer, InputOf<L>(u), maybe(passed.dbefore), InputOf<L>(dy),
           OutputOf<L>(passed.du), passed.gradients, options, scratch);
  sum_over_ranks(backend, passed.gradients);
}

/// A layer over ranks gives what it gives on one cpu: outputs, states and every gradient.
template <class L>
void check_layer_over_ranks(const L& layer, const LayerLaws& laws, bool reversed = false,
                            Index blocks = 0, Handing handing = Handing::by_cost) {
  auto backend = ranks(world(), cpu(1));
  backend.blocks = blocks;
  backend.handing = handing;
  const int first = reversed ? world().size() - 1 : 0, last = world().size() - 1 - first;
  for (const Lengths& lengths : ways_to_cut(world().size())) {
    INFO(describe(lengths) << (reversed ? ", reversed" : "") << ", rank " << world().rank());
    const Share piece = piece_at(lengths, world().rank());
    const auto given = draw_given(layer, laws.batch, sum(lengths), laws.batch, 500, laws);
    OptionsOf<L> options;
    options.sequences.reversed = reversed;
    const Passed<L> whole = run(layer, given, laws, options);

    Passed<L> passed{{}, {}, given.before, given.dafter, {}};
    if (laws.states) spoil(passed.after, first);
    if (laws.states) spoil(passed.dbefore, last);
    run_piece(backend, layer, steps_of(given.u, piece), steps_of(given.dy, piece), laws, options,
              passed);
    if (laws.states) {
      pass_on(backend, passed.after, reversed);
      pass_on(backend, passed.dbefore, !reversed);
    }

    Passed<L> want = whole;
    want.y = steps_of(whole.y, piece);
    want.du = steps_of(whole.du, piece);
    check_agree(results_of(passed), results_of(want),
                rounding_bound<L>(laws, std::max<Index>(sum(lengths), 1)));
    parameters(passed.gradients, [](const auto&, const auto& tensor, const auto&, bool) {
      CHECK(same_on_every_rank(tensor));
    });
  }
}

/// Fills the state of one sequence.
template <class State>
void fill_row(State& state, Index row, double value) {
  tensors(state, [&](const auto&, auto& tensor) {
    using K = typename std::remove_cvref_t<decltype(tensor)>::value_type;
    const Index size = tensor.size() / tensor.extent(0);
    std::fill_n(tensor.data() + row * size, size, K(static_cast<Real<K>>(value)));
  });
}

/// Packed sequences over ranks give what they give on one cpu: sequences that lie in one rank, that
/// lie across several, that end where a rank ends, and empty ones.
template <class L>
void check_packed_over_ranks(const L& layer, LayerLaws laws, bool reversed = false,
                             Index blocks = 0) {
  laws.batch = 1;
  auto backend = ranks(world(), cpu(1));
  backend.blocks = blocks;
  const int rank = world().rank(), end = world().size() - 1;
  for (const Lengths& lengths : ways_to_cut(world().size())) {
    const Share piece = piece_at(lengths, rank);
    const Index length = sum(lengths);
    std::vector<Index> offsets{
        0, length / 3, length / 3, piece_at(lengths, 1).begin, 2 * length / 3, length, length};
    std::sort(offsets.begin(), offsets.end());
    const std::vector<Index> own = offsets_of(
        backend, View<const Index, 1>(offsets.data(), {static_cast<Index>(offsets.size())}), piece);
    const Index count = static_cast<Index>(own.size()) - 1;
    const std::vector<Index> counts = world().of_all(count);
    Index first = 0;  // of the whole's sequences, that this rank's first one is of
    for (int r = 0; r < rank; ++r) first += counts[static_cast<std::size_t>(r)] - 1;
    INFO(describe(lengths) << (reversed ? ", reversed" : "") << ", rank " << rank << ", sequences "
                           << first << " to " << first + count - 1);

    const auto given =
        draw_given(layer, 1, length, static_cast<Index>(offsets.size()) - 1, 700, laws);
    OptionsOf<L> options;
    options.sequences = {{offsets.data(), {static_cast<Index>(offsets.size())}}, reversed};
    Passed<L> want = run(layer, given, laws, options);
    options.sequences.offsets = {own.data(), {count + 1}};

    Passed<L> passed;
    const bool comes_from_another = rank != (reversed ? end : 0);
    const bool goes_on = rank != (reversed ? 0 : end);
    const Index entry = reversed ? count - 1 : 0, exit = count - 1 - entry;
    const auto rows = [&](StateOf<L> state) {
      tensors(state, [&](const auto&, auto& x) { x = detail::cut(x, 0, first, count); });
      return state;
    };
    const double nan = std::numeric_limits<double>::quiet_NaN();
    if (laws.states) {
      passed.after = rows(given.before);
      passed.dbefore = rows(given.dafter);
      if (comes_from_another) fill_row(passed.after, entry, nan);
      if (goes_on) fill_row(passed.dbefore, exit, nan);
    }
    run_piece(backend, layer, steps_of(given.u, piece), steps_of(given.dy, piece), laws, options,
              passed);

    want.y = steps_of(want.y, piece);
    want.du = steps_of(want.du, piece);
    if (laws.states) {
      want.after = rows(want.after);
      want.dbefore = rows(want.dbefore);
      for (Passed<L>* each :
           {&want, &passed}) {  // what lies between two ranks is no state of the whole
        if (goes_on) fill_row(each->after, exit, 0);
        if (comes_from_another) fill_row(each->dbefore, entry, 0);
      }
    }
    check_agree(results_of(passed), results_of(want),
                rounding_bound<L>(laws, std::max<Index>(length, 1)));
  }
}

}  // namespace ssm::test
