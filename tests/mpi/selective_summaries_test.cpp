#include <algorithm>
#include <complex>
#include <cstddef>
#include <limits>
#include <type_traits>
#include <vector>

#include "mpi/over_ranks.hpp"
#include "support/selective_case.hpp"

namespace selective_summaries_test {

using namespace ssm;
using test::Lengths;
using test::SelectiveCaseSizes;
using test::world;

namespace {

template <class T, class K>
using Case = test::SelectiveCase<T, K>;

/// The part of a case that this rank holds. Where time does not begin or end here, its states are
/// what nobody may read.
template <class T, class K>
Case<T, K> piece_of_case(const Case<T, K>& whole, const Share& piece) {
  SelectiveCaseSizes sizes = whole.sizes;
  sizes.length = piece.count;
  Case<T, K> part(sizes, 1);
  const auto steps = [&](const auto& tensor) {
    return test::detail::cut(tensor, 1, piece.begin, piece.count);
  };
  part.u = steps(whole.u), part.delta = steps(whole.delta), part.z = steps(whole.z);
  part.dy = steps(whole.dy), part.B = steps(whole.B), part.C = steps(whole.C);
  part.A = whole.A, part.D = whole.D, part.bias = whole.bias;
  part.B_constant = whole.B_constant, part.C_constant = whole.C_constant;
  const int last = world().size() - 1;
  const K nobody(std::numeric_limits<Real<K>>::quiet_NaN());
  part.initial = whole.initial, part.dfinal = whole.dfinal;
  if (world().rank() != (sizes.reversed ? last : 0)) part.initial.fill(nobody);
  if (world().rank() != (sizes.reversed ? 0 : last)) part.dfinal.fill(nobody);
  return part;
}

Ranks by_summaries(int threads = 1, Index blocks = 2) {
  auto backend = ranks(world(), cpu(threads));
  backend.handing = Handing::summaries;
  backend.blocks = blocks;
  return backend;
}

/// Runs a piece over ranks.
template <class T, class K>
void run(const Ranks& backend, Case<T, K>& part) {
  selective_scan(backend, part.inputs(), part.sizes.options, {part.y, part.final}, part.scratch);
  selective_scan_backward(backend, part.inputs(), part.sizes.options, {part.dy, part.dfinal},
                          part.gradients(), part.scratch);
}

/// Replaces every tensor by the sum of those of all ranks, which takes one message a rank.
template <class K, class... Tensors>
void sum_over_all(Tensors&... tensors) {
  std::vector<K> own;
  (own.insert(own.end(), tensors.begin(), tensors.end()), ...);
  std::vector<K> all(own.size() * static_cast<std::size_t>(world().size()));
  world().gather(own.data(), static_cast<Index>(own.size()), all.data());
  std::fill(own.begin(), own.end(), K(0));
  for (std::size_t i = 0; i < all.size(); ++i) own[i % own.size()] += all[i];
  auto from = own.begin();
  const auto take = [&](auto& tensor) {
    for (auto& x : tensor)
      if constexpr (std::is_convertible_v<K, std::remove_reference_t<decltype(x)>>)
        x = *from++;
      else
        x = std::real(*from++);
  };
  (take(tensors), ...);
}

template <class T, class K>
void check_case(SelectiveCaseSizes sizes, const Lengths& lengths) {
  sizes.length = test::sum(lengths);
  INFO(test::name_of(sizes) << ", " << test::describe(lengths) << ", rank " << world().rank());
  Case<T, K> whole(sizes, 31);
  whole.run_reference();
  const Share piece = test::piece_at(lengths, world().rank());
  Case<T, K> part = piece_of_case(whole, piece);
  run(by_summaries(), part);

  const double bound = 4 * test::selective_tolerance<T>(sizes);
  const auto agrees = [&](const auto& got, const auto& want) {
    CHECK(test::relative_error(got, want) <= bound);
  };
  const auto steps = [&](const auto& tensor) {
    return test::detail::cut(tensor, 1, piece.begin, piece.count);
  };
  agrees(part.y, steps(whole.y));
  agrees(part.du, steps(whole.du));
  agrees(part.ddelta, steps(whole.ddelta));
  if (sizes.gated) agrees(part.dz, steps(whole.dz));
  if (!sizes.constant_B) agrees(part.dB, steps(whole.dB));
  if (!sizes.constant_C) agrees(part.dC, steps(whole.dC));
  sum_over_all<K>(part.dA, part.dD, part.dbias, part.dB_constant, part.dC_constant);
  if (sizes.constant_B) agrees(part.dB_constant, whole.dB_constant);
  if (sizes.constant_C) agrees(part.dC_constant, whole.dC_constant);
  agrees(part.dA, whole.dA);
  agrees(part.dD, whole.dD);
  agrees(part.dbias, whole.dbias);
  const int first = sizes.reversed ? world().size() - 1 : 0;
  if (world().rank() == first) agrees(part.dinitial, whole.dinitial);
  if (world().rank() == world().size() - 1 - first) agrees(part.final, whole.final);
}

template <class T, class K>
void check_every_kind() {
  for (const Lengths& lengths : test::ways_to_cut(world().size()))
    for (const bool reversed : {false, true})
      for (const Hold hold : {Hold::simplified, Hold::zero_order}) {
        SelectiveCaseSizes sizes{.batch = 2, .channels = 38, .state = 5, .groups = 2};
        sizes.reversed = reversed;
        sizes.options.hold = hold;
        check_case<T, K>(sizes, lengths);
        sizes.groups = 1;
        sizes.constant_B = !reversed;
        sizes.constant_C = reversed;
        sizes.gated = false;
        sizes.options.softplus = false;
        check_case<T, K>(sizes, lengths);
      }
}

/// How many messages a rank sends in one direction: one a round, unless nobody is so far after it.
Index messages_of(int place) {
  Index count = 0;
  for (int reach = 1; reach < world().size(); reach *= 2)
    if (place + reach < world().size()) ++count;
  return count;
}

}  // namespace

TEST_CASE("a selective scan by summaries is that of one cpu, with every gradient") {
  check_every_kind<float, float>();
  check_every_kind<double, double>();
  check_every_kind<float, std::complex<float>>();
  check_every_kind<double, std::complex<double>>();
}

TEST_CASE("summaries take rounds of messages as the logarithm of ranks, whatever the length") {
  using T = float;
  for (const Index length : {7, 70}) {
    SelectiveCaseSizes sizes{.batch = 2, .length = length, .channels = 40, .state = 3};
    test::SelectiveCase<T> part(sizes, 5);
    constexpr Index W = ssm::detail::lanes<T>;
    const Index bytes = 2 * ((40 + W - 1) / W * W) * (3 + 1) * static_cast<Index>(sizeof(T));
    const auto backend = by_summaries();
    const int place = world().rank(), back = world().size() - 1 - place;
    world().reset_traffic();
    selective_scan(backend, part.inputs(), sizes.options, {part.y, part.final}, part.scratch);
    const Index forward = messages_of(place), backward = messages_of(back);
    CHECK(world().traffic() == Traffic{forward, forward * bytes, 0});
    CHECK(forward <= summary_rounds(world().size()));
    selective_scan_backward(backend, part.inputs(), sizes.options, {part.dy, part.dfinal},
                            part.gradients(), part.scratch);
    CHECK(world().traffic() == Traffic{forward + backward, (forward + backward) * bytes, 0});
  }
}

TEST_CASE("summaries have the same bits in every run and for any number of threads") {
  SelectiveCaseSizes sizes{.batch = 3, .length = 90, .channels = 100, .state = 16};
  test::SelectiveCase<float> once(sizes, 5), again = once, threaded = once;
  run(by_summaries(1), once);
  run(by_summaries(1), again);
  run(by_summaries(3), threaded);
  CHECK(test::all_same_bits(once, again));
  CHECK(test::all_same_bits(once, threaded));
}

TEST_CASE("a scratch that blocks of channels filled is not taken for one of summaries") {
  SelectiveCaseSizes sizes{.batch = 2, .length = 33, .channels = 70, .state = 4};
  test::SelectiveCase<double> part(sizes, 5);
  auto chain = by_summaries();
  chain.handing = Handing::chain;
  selective_scan(by_summaries(), part.inputs(), sizes.options, {part.y, part.final}, part.scratch);
  if (world().size() > 1)
    CHECK_THROWS_AS(selective_scan_backward(chain, part.inputs(), sizes.options,
                                            {part.dy, part.dfinal}, part.gradients(), part.scratch),
                    ShapeError);
}

TEST_CASE("states pass in the way that costs less for as many layers as a stack has") {
  SelectiveCaseSizes sizes{.batch = 1, .length = 9, .channels = 64, .state = 2};
  test::SelectiveCase<float> part(sizes, 5);
  const int place = world().rank(), size = world().size();
  for (const Index layers : {1, 64}) {
    auto backend = for_layers(ranks(world(), cpu(1)), layers);
    backend.blocks = 2;
    const Handing way = cheaper_handing({.ranks = size,
                                         .layers = layers,
                                         .blocks = 2,
                                         .channels = 64,
                                         .steps = backend.steps,
                                         .states = 64 * 2});
    if (layers == 1 && size == 4) CHECK(way == Handing::summaries);
    if (layers == 64) CHECK(way == Handing::chain);
    world().reset_traffic();
    selective_scan(backend, part.inputs(), sizes.options, {part.y, part.final}, part.scratch);
    const Index by_chain = place + 1 < size ? backend.blocks : 0;
    CHECK(world().traffic().messages ==
          (way == Handing::summaries ? messages_of(place) : by_chain));
  }
}

TEST_CASE("summaries read channels that do not lie next to each other, and no absent states") {
  constexpr Index length = 21;
  SelectiveCaseSizes sizes{.batch = 2, .length = length, .channels = 19, .state = 4};
  test::SelectiveCase<double> want(sizes, 5), got = want;
  Tensor<double, 3> wide({2, length, 38});
  for (Index b = 0; b < 2; ++b)
    for (Index t = 0; t < length; ++t)
      for (Index c = 0; c < 19; ++c) wide(b, t, 2 * c) = want.u(b, t, c);
  const auto run_one = [&](const Ranks& backend, auto& of, auto in) {
    in.initial_state = {};
    selective_scan(backend, in, sizes.options, {of.y}, of.scratch);
    auto din = of.gradients();
    din.initial_state = {};
    selective_scan_backward(backend, in, sizes.options, {of.dy}, din, of.scratch);
  };
  auto chain = by_summaries();
  chain.handing = Handing::chain;
  run_one(chain, want, want.inputs());
  auto in = got.inputs();
  in.u = {wide.data(), {2, length, 19}, {38 * length, 38, 2}};
  run_one(by_summaries(), got, in);
  got.final = want.final, got.dinitial = want.dinitial;  // nobody wrote them
  got.final.fill(0), want.final.fill(0), got.dinitial.fill(0), want.dinitial.fill(0);
  CHECK(test::worst_error(got, want) <= 4 * test::selective_tolerance<double>(sizes));
}

}  // namespace selective_summaries_test
