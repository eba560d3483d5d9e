#include <array>
#include <complex>
#include <limits>

#include "mpi/over_ranks.hpp"

namespace operations_test {

using namespace ssm;
using test::Lengths;
using test::Random;
using test::world;

namespace {

/// y and the last state of a scan whose time lies in pieces, with `run(backend, u, initial, y,
/// final)`: over ranks the bits of one cpu that runs the pieces in turn.
template <class T, class K, std::size_t Rank, class Run>
void check_bits(const Tensor<T, 3>& u, const Tensor<K, Rank>& initial, const Lengths& lengths,
                bool reversed, const Run& run, Index blocks = 2) {
  INFO(test::describe(lengths) << (reversed ? ", reversed" : "") << ", rank " << world().rank());
  const int size = world().size();
  Tensor<K, Rank> state = initial;
  Tensor<T, 3> want;
  for (int i = 0; i < size; ++i) {
    const int r = reversed ? size - 1 - i : i;
    const auto piece = test::steps_of(u, test::piece_at(lengths, r));
    Tensor<T, 3> y(piece.extents());
    const Tensor<K, Rank> before = state;
    run(cpu(1), piece, before, y, state, r);
    if (r == world().rank()) want = y;
  }
  const auto piece = test::steps_of(u, test::piece_at(lengths, world().rank()));
  Tensor<T, 3> y(piece.extents());
  Tensor<K, Rank> before = initial, after(initial.extents());
  if (world().rank() != (reversed ? size - 1 : 0))
    before.fill(K(std::numeric_limits<Real<K>>::quiet_NaN()));
  auto backend = ranks(world(), cpu(1));
  backend.blocks = blocks;
  backend.handing = Handing::chain;
  run(backend, piece, before, y, after, world().rank());
  CHECK(test::same_bits(y, want));
  if (world().rank() == (reversed ? 0 : size - 1)) CHECK(test::same_bits(after, state));
}

template <class Body>
void for_each_cut(const Body& body) {
  for (const Lengths& lengths : test::ways_to_cut(world().size()))
    for (const bool reversed : {false, true}) body(lengths, reversed);
}

/// Part of the steps that rank r holds.
template <class K>
Tensor<K, 4> coefficients_of(const Tensor<K, 4>& whole, const Share& piece) {
  return test::detail::cut(whole, 1, piece.begin, piece.count);
}

template <class T, class K>
void check_selective(Index groups) {
  constexpr Index batch = 2, channels = 72, state = 3;
  Random random(11);
  for_each_cut([&](const Lengths& lengths, bool reversed) {
    const Index length = test::sum(lengths);
    const auto u = random.normal<T, 3>({batch, length, channels});
    const auto delta = random.normal<T, 3>({batch, length, channels});
    const auto A = random.normal<K, 2>({channels, state}, 0.3, -1.5);
    const auto B = random.normal<K, 4>({batch, length, groups, state});
    const auto C = random.normal<K, 4>({batch, length, groups, state});
    const auto initial = random.normal<K, 3>({batch, channels, state});
    check_bits(u, initial, lengths, reversed,
               [&](const auto& backend, const Tensor<T, 3>& piece, const Tensor<K, 3>& before,
                   Tensor<T, 3>& y, Tensor<K, 3>& after, int r) {
                 const Share own = test::piece_at(lengths, r);
                 const auto its_delta = test::steps_of(delta, own);
                 const auto its_B = coefficients_of(B, own), its_C = coefficients_of(C, own);
                 SelectiveScanInputs<T, K> in;
                 in.u = piece;
                 in.delta = its_delta;
                 in.A = A;
                 in.B = its_B.view();
                 in.C = its_C.view();
                 in.initial_state = before;
                 in.sequences.reversed = reversed;
                 SelectiveScanScratch<T, K> scratch;
                 selective_scan(backend, in, {.softplus = true}, {y, after}, scratch);
               });
  });
}

template <class T>
void check_diagonal() {
  using Complex = std::complex<T>;
  constexpr Index batch = 2, channels = 21, modes = 4;
  Random random(12);
  const auto lambda = random.normal<Complex, 2>({channels, modes}, 0.3, -1.5);
  const auto B = random.normal<Complex, 2>({channels, modes});
  const auto C = random.normal<Complex, 2>({channels, modes});
  const auto P = random.normal<Complex, 3>({channels, modes, 1}, 0.3);
  Tensor<T, 1> delta({channels});
  delta.fill(T(0.1));
  for_each_cut([&](const Lengths& lengths, bool reversed) {
    const auto u = random.normal<T, 3>({batch, test::sum(lengths), channels});
    const auto initial = random.normal<Complex, 3>({batch, channels, modes});
    DiagonalScanInputs<T, Complex> in;
    in.lambda = lambda;
    in.delta = delta.view();
    in.B = B;
    in.C = C;
    in.sequences.reversed = reversed;
    const auto check = [&](const auto& scan) {
      check_bits(u, initial, lengths, reversed,
                 [&](const auto& backend, const Tensor<T, 3>& piece,
                     const Tensor<Complex, 3>& before, Tensor<T, 3>& y, Tensor<Complex, 3>& after,
                     int) { scan(backend, piece, before, y, after); });
    };
    check([&](const auto& backend, const auto& piece, const auto& before, auto& y, auto& after) {
      in.u = piece;
      in.initial_state = before;
      DiagonalScanScratch<T, Complex> scratch;
      diagonal_scan(backend, in, {}, {y, after}, scratch);
    });
    check([&](const auto& backend, const auto& piece, const auto& before, auto& y, auto& after) {
      in.u = piece;
      in.initial_state = before;
      DiagonalScanScratch<T, Complex> scratch;
      recurrence(backend, in, {}, {y, after}, scratch);
    });
    check([&](const auto& backend, const auto& piece, const auto& before, auto& y, auto& after) {
      DplrScanScratch<T> scratch;
      dplr_scan(backend, DplrScanInputs<T>{piece, lambda, P, delta, B, C, {}, before, in.sequences},
                {}, {y, after}, scratch);
    });
  });
}

template <class K>
void check_linear_scan() {
  constexpr Index batch = 2, channels = 37;
  Random random(13);
  const auto a = random.normal<K, 1>({channels}, 0.4);
  for_each_cut([&](const Lengths& lengths, bool reversed) {
    const auto b = random.normal<K, 3>({batch, test::sum(lengths), channels});
    const auto initial = random.normal<K, 2>({batch, channels});
    check_bits(
        b, initial, lengths, reversed,
        [&](const auto& backend, const Tensor<K, 3>& piece, const Tensor<K, 2>& before,
            Tensor<K, 3>& x, Tensor<K, 2>& after, int) {
          const View<const K, 3> same(a.data(), piece.extents(), {0, 0, 1});
          LinearScanScratch<K> scratch;
          linear_scan(backend, LinearScanInputs<K>{same, piece, before, {{}, reversed}}, {},
                      {x, after}, scratch);
        },
        1);  // where a block of channels begins decides which of them are computed in vectors
  });
}

template <class T>
void check_causal_conv() {
  constexpr Index batch = 2, channels = 19;
  Random random(14);
  for (const Index width : {1, 2, 4, 9})
    for_each_cut([&](const Lengths& lengths, bool reversed) {
      INFO("width " << width);
      const auto x = random.normal<T, 3>({batch, test::sum(lengths), channels});
      const auto weight = random.normal<T, 2>({channels, width});
      const auto initial = random.normal<T, 3>({batch, width - 1, channels});
      check_bits(x, initial, lengths, reversed,
                 [&](const auto& backend, const Tensor<T, 3>& piece, const Tensor<T, 3>& before,
                     Tensor<T, 3>& y, Tensor<T, 3>& after, int) {
                   CausalConvInputs<T> in;
                   in.x = piece;
                   in.weight = weight;
                   in.initial_state = before;
                   in.sequences.reversed = reversed;
                   CausalConvScratch<T> scratch;
                   causal_conv(backend, in, {.silu = true}, {y, after}, scratch);
                 });
    });
}

}  // namespace

TEST_CASE("a selective scan over ranks has the bits of one cpu cut at the same places") {
  check_selective<float, float>(1);
  check_selective<double, double>(3);
  check_selective<float, std::complex<float>>(1);
}

TEST_CASE("scans of diagonal systems over ranks have the bits of one cpu cut at the same places") {
  check_diagonal<float>();
  check_diagonal<double>();
}

TEST_CASE("a linear scan over ranks has the bits of one cpu cut at the same places") {
  check_linear_scan<float>();
  check_linear_scan<std::complex<double>>();
}

TEST_CASE("a causal convolution over ranks has the bits of one cpu cut at the same places") {
  check_causal_conv<float>();
  check_causal_conv<double>();
}

TEST_CASE("a mean over time over ranks is that of the whole, with its gradient") {
  const auto backend = ranks(world(), cpu(1));
  Random random(15);
  for (const Lengths& lengths : test::ways_to_cut(world().size())) {
    INFO(test::describe(lengths));
    const auto x = random.normal<double, 3>({2, test::sum(lengths), 3});
    const auto dy = random.normal<double, 2>({2, 3});
    Tensor<double, 2> want({2, 3}), got({2, 3});
    Tensor<double, 3> dwant(x.extents());
    MeanOverTimeScratch<double> scratch;
    mean_over_time(cpu, {x}, {}, {want}, scratch);
    mean_over_time_backward(cpu, {x}, {}, {dy}, {dwant}, scratch);
    const Share piece = test::piece_at(lengths, world().rank());
    const auto own = test::steps_of(x, piece);
    Tensor<double, 3> dgot(own.extents());
    mean_over_time(backend, {own}, {}, {got}, scratch);
    CHECK(test::relative_error(got, want, 1) < 1e-14);
    CHECK(test::same_on_every_rank(got));
    Tensor<double, 2> share = dy;  // of what the loss depends on the mean, the same on every rank
    for (double& g : share) g /= world().size();
    mean_over_time_backward(backend, {own}, {}, {share}, {dgot}, scratch);
    CHECK(test::relative_error(dgot, test::steps_of(dwant, piece), 1) < 1e-14);
  }
}

TEST_CASE("a loss over ranks is the mean over all targets, with its gradient") {
  const auto backend = ranks(world(), cpu(1));
  Random random(16);
  for (const Lengths& lengths : test::ways_to_cut(world().size())) {
    INFO(test::describe(lengths));
    const Index length = test::sum(lengths);
    const auto logits = random.normal<double, 3>({2, length, 5});
    Tensor<Token, 3> targets({2, length, 1});
    for (Index i = 0; i < targets.size(); ++i)
      targets.data()[i] = i % 4 == 0 ? -100 : static_cast<Token>(random.integer(0, 4));
    const auto run = [&](const auto& on, const Tensor<double, 3>& x, const Tensor<Token, 3>& to,
                         Tensor<double, 3>& dx) {
      CrossEntropyScratch<double> scratch;
      const Index rows = x.extent(0) * x.extent(1);
      return cross_entropy(on, {{x.data(), {rows, 5}}, {to.data(), {x.extent(0), x.extent(1)}}}, {},
                           {{dx.data(), {rows, 5}}}, scratch);
    };
    Tensor<double, 3> dwant(logits.extents());
    const double want = run(cpu(1), logits, targets, dwant);
    const Share piece = test::piece_at(lengths, world().rank());
    const auto own = test::steps_of(logits, piece);
    Tensor<double, 3> dgot(own.extents());
    const double got = run(backend, own, test::steps_of(targets, piece), dgot);
    CHECK(got == Approx(want).epsilon(1e-14));
    Tensor<double, 1> number({1});
    number(0) = got;
    CHECK(test::same_on_every_rank(number));
    CHECK(test::relative_error(dgot, test::steps_of(dwant, piece), 1) < 1e-14);
  }
}

TEST_CASE("ranks drop other elements than each other") {
  const auto backend = ranks(world(), cpu(1));
  Tensor<float, 2> ones({4, 64}), got({4, 64}), back({4, 64});
  ones.fill(1);
  DropoutScratch<float> scratch;
  dropout(backend, {ones}, {0.5, 3}, {got}, scratch);
  dropout_backward(backend, {ones}, {0.5, 3}, {ones}, {back}, scratch);
  CHECK(test::same_bits(got, back));
  CHECK(!test::same_on_every_rank(got));
}

}  // namespace operations_test
