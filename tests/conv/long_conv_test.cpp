#include "ssm/conv/long_conv.hpp"

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <numbers>
#include <utility>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/finite_difference.hpp"
#include "support/precision.hpp"
#include "support/random.hpp"

using namespace ssm;
using ssm::test::Random;
using ssm::test::relative_error;
using ssm::test::same_bits;

namespace {

template <class T>
struct Problem {
  Tensor<T, 3> u, initial_state;
  Tensor<T, 2> kernel;
  Tensor<T, 1> D;

  Problem(Index batch, Index length, Index channels, Index taps) {
    Random random(1);
    u = random.normal<T>(std::array{batch, length, channels});
    initial_state = random.normal<T>(std::array{batch, taps - 1, channels});
    kernel = random.normal<T>(std::array{channels, taps});
    D = random.normal<T>(std::array{channels});
  }
  [[nodiscard]] LongConvInputs<T> inputs(bool reversed = false) const {
    return {u, kernel, D, initial_state, {{}, reversed}};
  }
};

template <class T>
struct Result {
  Tensor<T, 3> y, final_state;
};

template <class T>
Result<T> run(const LongConvInputs<T>& in, const LongConvOptions& options, int threads = 1) {
  Result<T> result;
  result.y.resize(in.u.extents());
  result.final_state.resize({in.u.extent(0), in.kernel.extent(1) - 1, in.u.extent(2)});
  LongConvScratch<T> scratch;
  long_conv(cpu(threads), in, options, {result.y, result.final_state}, scratch);
  return result;
}

/// The sum as it stands, in double.
template <class T>
Result<double> reference(const Problem<T>& p, bool with_past, bool reversed) {
  const auto [batch, length, channels] = p.u.extents();
  const Index taps = p.kernel.extent(1);
  Result<double> result{Tensor<double, 3>(p.u.extents()),
                        Tensor<double, 3>(p.initial_state.extents())};
  for (Index b = 0; b < batch; ++b)
    for (Index c = 0; c < channels; ++c) {
      const auto row = [&, length = length](Index t) { return reversed ? length - 1 - t : t; };
      const auto at = [&](Index t) -> double {
        if (t >= 0) return p.u(b, row(t), c);
        return with_past && t > -taps ? p.initial_state(b, taps - 1 + t, c) : T(0);
      };
      for (Index t = 0; t < length; ++t) {
        double sum = double(p.D(c)) * at(t);
        for (Index l = 0; l < taps; ++l) sum += double(p.kernel(c, l)) * at(t - l);
        result.y(b, row(t), c) = sum;
      }
      for (Index i = 0; i < taps - 1; ++i)
        result.final_state(b, i, c) = at(length - (taps - 1) + i);
    }
  return result;
}

constexpr ConvMethod methods[]{ConvMethod::automatic, ConvMethod::direct, ConvMethod::fft,
                               ConvMethod::chunked};

template <class T>
struct Gradients {
  Tensor<T, 3> u, initial_state;
  Tensor<T, 2> kernel;
  Tensor<T, 1> D;
};

template <class T>
Gradients<T> backward(const Problem<T>& p, const Tensor<T, 3>& dy, const Tensor<T, 3>& dstate,
                      const LongConvOptions& options, int threads = 1, bool reversed = false) {
  Gradients<T> out{p.u, p.initial_state, p.kernel, p.D};
  LongConvScratch<T> scratch;
  long_conv_backward(cpu(threads), p.inputs(reversed), options, {dy, dstate},
                     {out.u, out.kernel, out.D, out.initial_state}, scratch);
  return out;
}

}  // namespace

TEMPLATE_TEST_CASE("convolutions from rest are the sums, by transforms of every shape", "", float,
                   double) {
  using T = TestType;
  constexpr Index W = detail::lanes<T>;
  // Transforms whose first division is into 4, 2, 3 and 5 parts.
  for (const Index length : {Index{1}, W * W, 2 * W * W, 3 * W * W - 1, 4 * W * W, 5 * W * W - 3})
    for (const Index taps : {length, length / 2 + 1}) {
      CAPTURE(length, taps);
      const Problem<T> p(2, length, W + 1, taps);
      LongConvInputs<T> inputs{p.u, p.kernel, p.D};
      std::array<Tensor<T, 3>, 2> y, du;
      std::array<Tensor<T, 2>, 2> dkernel;
      std::array<Tensor<T, 1>, 2> dD;
      for (const std::size_t i : {0u, 1u}) {
        const ConvMethod method = i == 0 ? ConvMethod::direct : ConvMethod::fft;
        y[i] = du[i] = p.u;
        dkernel[i] = p.kernel;
        dD[i] = p.D;
        LongConvScratch<T> scratch;
        // in place, as is allowed
        inputs.u = y[i];
        long_conv(cpu(2), inputs, {method}, {y[i]}, scratch);
        inputs.u = p.u;
        long_conv_backward(cpu(2), inputs, {method}, {du[i]}, {du[i], dkernel[i], dD[i]}, scratch);
      }
      const double bound = 64 * static_cast<double>(std::numeric_limits<T>::epsilon());
      CHECK(test::relative_error(y[1], y[0]) < bound);
      CHECK(test::relative_error(du[1], du[0]) < bound);
      CHECK(test::relative_error(dkernel[1], dkernel[0]) < bound);
      CHECK(test::relative_error(dD[1], dD[0]) < bound);
    }
}

TEMPLATE_TEST_CASE("a long convolution of many channels is that of each, as far as they are apart",
                   "", float, double) {
  constexpr Index W = ssm::detail::lanes<TestType>;
  const double epsilon = std::numeric_limits<TestType>::epsilon();
  for (const Index channels : {W / 2 + 1, 2 * W + 1})
    for (const auto& [length, taps] :
         {std::array<Index, 2>{1, 5}, {40, 20}, {300, 250}, {1501, 90}})
      for (const bool reversed : {false, true})
        for (const ConvMethod method : methods) {
          CAPTURE(channels, length, taps, reversed, static_cast<int>(method));
          const Problem<TestType> p(2, length, channels, taps);
          const auto want = reference(p, true, reversed);
          const auto got = run<TestType>(p.inputs(reversed), {method}, 2);
          CHECK(relative_error(got.y, want.y) <= 30 * epsilon);
          CHECK(relative_error(got.final_state, want.final_state) == 0);
          // the same numbers with every other channel of memory between them
          Tensor<TestType, 4> wide({2, length, channels, 2}), wide_kernel({1, channels, taps, 2});
          for (Index i = p.u.size(); i-- > 0;) wide.data()[2 * i] = p.u.data()[i];
          for (Index i = p.kernel.size(); i-- > 0;) wide_kernel.data()[2 * i] = p.kernel.data()[i];
          auto inputs = p.inputs(reversed);
          inputs.u = {wide.data(), p.u.extents(), {2 * length * channels, 2 * channels, 2}};
          inputs.kernel = {wide_kernel.data(), p.kernel.extents(), {2 * taps, 2}};
          CHECK(same_bits(run<TestType>(inputs, {method}).y, got.y));
          Random random(3);
          const auto dy = random.normal<TestType>(p.u.extents());
          const auto dstate = random.normal<TestType>(p.initial_state.extents());
          const auto gradients = backward(p, dy, dstate, {method}, 2, reversed);
          const auto sums = backward(p, dy, dstate, {ConvMethod::direct}, 1, reversed);
          CHECK(relative_error(gradients.u, sums.u) <= 60 * epsilon);
          CHECK(relative_error(gradients.kernel, sums.kernel) <= 60 * epsilon);
          CHECK(relative_error(gradients.D, sums.D) <= 60 * epsilon);
          CHECK(relative_error(gradients.initial_state, sums.initial_state) <= 60 * epsilon);
        }
}

TEMPLATE_TEST_CASE("a long convolution is its sum, whatever the method, the length and the taps",
                   "", float, double) {
  const double epsilon = std::numeric_limits<TestType>::epsilon();
  for (const Index length : {0, 1, 2, 63, 100, 3001})
    for (const Index taps : {1, 2, 63, 150, 301})
      for (const bool with_past : {false, true}) {
        const Problem<TestType> problem(2, length, 3, taps);
        for (const bool reversed : {false, true}) {
          const auto want = reference(problem, with_past, reversed);
          auto inputs = problem.inputs(reversed);
          if (!with_past) inputs.initial_state = {};
          for (const ConvMethod method : methods) {
            CAPTURE(length, taps, with_past, reversed, static_cast<int>(method));
            const auto got = run<TestType>(inputs, {method});
            CHECK(relative_error(got.y, want.y) <= 30 * epsilon);
            CHECK(relative_error(got.final_state, want.final_state) == 0);
          }
        }
      }
}

TEMPLATE_TEST_CASE("kernels made ready give the same bits, to sequences of their length and others",
                   "", float, double) {
  constexpr Index W = ssm::detail::lanes<TestType>;
  for (const Index channels : {Index{1}, 2 * W + 1})
    for (const auto& [length, taps] : {std::array<Index, 2>{0, 1}, {20, 8}, {700, 650}, {3001, 90}})
      for (const ConvMethod method : methods) {
        CAPTURE(channels, length, taps, static_cast<int>(method));
        const Problem<TestType> p(1, length, channels, taps);
        auto inputs = p.inputs();
        LongConvSpectra<TestType> spectra;
        LongConvSpectraScratch<TestType> scratch;
        long_conv_spectra(cpu(2), {p.kernel, p.D}, {length, method}, {spectra}, scratch);
        const auto want = run<TestType>(inputs, {method});
        inputs.spectra = &spectra;
        CHECK(same_bits(run<TestType>(inputs, {method}, 2).y, want.y));
        inputs.u = inputs.u.slice(1, 0, length / 3);
        const auto other = run<TestType>(inputs, {method});
        inputs.spectra = nullptr;
        CHECK(same_bits(other.y, run<TestType>(inputs, {method}).y));
      }
  const Problem<TestType> p(1, 4, 2, 3);
  auto inputs = p.inputs();
  LongConvSpectra<TestType> spectra;
  LongConvSpectraScratch<TestType> scratch;
  inputs.spectra = &spectra;
  CHECK_THROWS_WITH(run<TestType>(inputs, {}),
                    "long_conv: spectra is of a kernel (0, 0), expected one of the kernel, (2, 3)");
  long_conv_spectra(cpu, {p.kernel}, {4}, {spectra}, scratch);
  CHECK_THROWS_WITH(run<TestType>(inputs, {}),
                    "long_conv: spectra is made without D, expected "
                    "what was made of this kernel and D");
  CHECK_THROWS_WITH(long_conv_spectra(cpu, {p.kernel}, {-1}, {spectra}, scratch),
                    "long_conv_spectra: length is -1, expected 0 or more");
}

TEST_CASE("a stream taken in pieces is the whole one") {
  const Problem<double> problem(2, 2500, 2, 200);
  const auto whole = run<double>(problem.inputs(), {});
  for (const Index piece : {1, 7, 199, 200, 1000, 2500}) {
    Tensor<double, 3> y(problem.u.extents()), state = problem.initial_state;
    LongConvScratch<double> scratch;
    for (Index t = 0; t < 2500; t += piece) {
      const Index count = std::min(piece, 2500 - t);
      auto inputs = problem.inputs();
      inputs.u = inputs.u.slice(1, t, count);
      inputs.initial_state = state;
      long_conv(cpu(1), inputs, {}, {y.view().slice(1, t, count), state}, scratch);
    }
    CHECK(relative_error(y, whole.y) <= 1e-13);
    CHECK(same_bits(state, whole.final_state));
  }
}

TEST_CASE("a long convolution is causal, and works in place") {
  Problem<double> problem(1, 1500, 1, 300);
  const auto before = run<double>(problem.inputs(), {ConvMethod::direct});
  problem.u(0, 700, 0) += 1;
  const auto after = run<double>(problem.inputs(), {ConvMethod::direct});
  Index wrong = 0;
  for (Index t = 0; t < 1500; ++t)
    wrong += (before.y(0, t, 0) != after.y(0, t, 0)) == (t >= 700 && t < 1000) ? 0 : 1;
  CHECK(wrong == 0);
  const auto want = run<double>(problem.inputs(), {});
  LongConvScratch<double> scratch;
  long_conv(cpu, problem.inputs(), {}, {problem.u.view(), problem.initial_state.view()}, scratch);
  CHECK(same_bits(problem.u, want.y));
  CHECK(same_bits(problem.initial_state, want.final_state));
}

TEST_CASE("the gradients of the long convolution are its finite differences") {
  for (const ConvMethod method : methods)
    for (const auto& [length, taps] :
         {std::array<Index, 2>{0, 3}, {1, 1}, {1, 5}, {6, 3}, {5, 9}, {60, 4}}) {
      const bool reversed = length % 2 == 0;
      CAPTURE(static_cast<int>(method), length, taps);
      Problem<double> problem(2, length, 2, taps);
      Random random(3);
      const auto dy = random.normal<double>(problem.u.extents());
      const auto dstate = random.normal<double>(problem.initial_state.extents());
      const auto gradients = backward(problem, dy, dstate, {method}, 1, reversed);
      const auto loss = [&] {
        const auto result = run<double>(problem.inputs(reversed), {method});
        return ssm::test::dot(result.y, dy) + ssm::test::dot(result.final_state, dstate);
      };
      CHECK(ssm::test::gradient_error(loss, problem.u, gradients.u) <= 1e-9);
      CHECK(ssm::test::gradient_error(loss, problem.kernel, gradients.kernel) <= 1e-9);
      CHECK(ssm::test::gradient_error(loss, problem.D, gradients.D) <= 1e-9);
      CHECK(ssm::test::gradient_error(loss, problem.initial_state, gradients.initial_state) <=
            1e-9);
    }
}

TEST_CASE("the gradients of a convolution in many chunks are those of the direct sum") {
  const Problem<double> problem(2, 3000, 3, 250);
  Random random(3);
  const auto dy = random.normal<double>(problem.u.extents());
  const auto dstate = random.normal<double>(problem.initial_state.extents());
  const auto want = backward(problem, dy, dstate, {ConvMethod::direct});
  for (const ConvMethod method : {ConvMethod::fft, ConvMethod::chunked})
    for (const int threads : {1, 2, 3}) {
      const auto got = backward(problem, dy, dstate, {method}, threads);
      CHECK(relative_error(got.u, want.u) <= 1e-13);
      CHECK(relative_error(got.kernel, want.kernel) <= 1e-13);
      CHECK(relative_error(got.D, want.D) <= 1e-13);
      CHECK(relative_error(got.initial_state, want.initial_state) <= 1e-13);
      CHECK(same_bits(got.kernel, backward(problem, dy, dstate, {method}).kernel));
      CHECK(same_bits(run<double>(problem.inputs(), {method}).y,
                      run<double>(problem.inputs(), {method}, threads).y));
    }
}

TEST_CASE("gradients that are absent are zero or skipped, a state that is absent is zero") {
  Problem<double> problem(1, 20, 2, 60);
  problem.initial_state.fill(0);
  const auto dy = Random(3).normal<double>(problem.u.extents());
  Tensor<double, 3> dstate(problem.initial_state.extents());
  const auto want = backward(problem, dy, dstate, {});
  auto inputs = problem.inputs();
  inputs.initial_state = {};
  LongConvScratch<double> scratch;
  Tensor<double, 2> kernel(problem.kernel.extents());
  Tensor<double, 3> state(problem.initial_state.extents());
  long_conv_backward(cpu, inputs, {ConvMethod::fft}, {dy, {}}, {{}, kernel, {}, {}}, scratch);
  CHECK(relative_error(kernel, want.kernel) <= 1e-13);
  long_conv_backward(cpu, inputs, {}, {dy, {}}, {{}, {}, {}, state}, scratch);
  CHECK(relative_error(state, want.initial_state) <= 1e-13);
}

TEST_CASE("the long convolution names the argument that does not fit") {
  const Problem<double> problem(1, 4, 2, 3);
  LongConvScratch<double> scratch;
  Tensor<double, 3> y({1, 4, 2}), wrong({1, 4, 3});
  CHECK_THROWS_WITH(long_conv(cpu, problem.inputs(), {}, {wrong, {}}, scratch),
                    "long_conv: y is (1, 4, 3), expected (1, 4, 2)");
  auto inputs = problem.inputs();
  inputs.initial_state = wrong;
  CHECK_THROWS_WITH(long_conv(cpu, inputs, {}, {y, {}}, scratch),
                    "long_conv: initial_state is (1, 4, 3), expected (1, 2, 2)");
  const Tensor<double, 2> empty({2, 0});
  inputs.kernel = empty;
  CHECK_THROWS_WITH(long_conv(cpu, inputs, {}, {y, {}}, scratch),
                    "long_conv: kernel is of no taps, expected at least one tap");
}

TEST_CASE("packed sequences are convolved as they are one by one, to the last bit") {
  const Tensor<Index, 1> offsets = [] {
    Tensor<Index, 1> at({9});
    std::copy_n(std::array<Index, 9>{0, 0, 700, 701, 1401, 1401, 1500, 3000, 3003}.data(), 9,
                at.data());
    return at;
  }();
  for (const ConvMethod method : methods)
    for (const Index taps : {1, 5, 300})
      for (const bool reversed : {false, true})
        for (const bool with_past : {false, true}) {
          CAPTURE(static_cast<int>(method), taps, reversed, with_past);
          Problem<double> p(1, 3003, 2, taps);
          Random random(5);
          p.initial_state = random.normal<double>(std::array<Index, 3>{8, taps - 1, 2});
          auto inputs = p.inputs();
          if (!with_past) inputs.initial_state = {};
          inputs.sequences = {offsets, reversed};
          Result<double> packed{p.u, p.initial_state};
          LongConvScratch<double> scratch;
          long_conv(cpu(1), inputs, {method}, {packed.y, packed.final_state}, scratch);
          const auto dy = random.normal<double>(p.u.extents());
          const auto dstate = random.normal<double>(p.initial_state.extents());
          Gradients<double> got{p.u, p.initial_state, p.kernel, p.D}, sum = got;
          long_conv_backward(cpu(2), inputs, {method}, {dy, dstate},
                             {got.u, got.kernel, got.D, got.initial_state}, scratch);
          sum.kernel.fill(0);
          sum.D.fill(0);
          for (Index s = 0; s < 8; ++s) {
            const Index begin = offsets(s), length = offsets(s + 1) - begin;
            const auto part = [&](const auto& x) { return x.view().slice(1, begin, length); };
            const auto state = [&](const auto& x) { return x.view().slice(0, s, 1); };
            LongConvInputs<double> one{part(std::as_const(p.u)), p.kernel, p.D, {}, {{}, reversed}};
            if (with_past) one.initial_state = state(std::as_const(p.initial_state));
            Result<double> want{Tensor<double, 3>({1, length, 2}),
                                Tensor<double, 3>({1, taps - 1, 2})};
            long_conv(cpu(1), one, {method}, {want.y, want.final_state}, scratch);
            Gradients<double> gradient{want.y, want.final_state, p.kernel, p.D};
            long_conv_backward(
                cpu(1), one, {method}, {part(std::as_const(dy)), state(std::as_const(dstate))},
                {gradient.u, gradient.kernel, gradient.D, gradient.initial_state}, scratch);
            Index wrong = 0;
            const auto compare = [&](const auto& x, const auto& y) {
              for (Index i = 0; i < x.extent(1); ++i)
                for (Index c = 0; c < 2; ++c) wrong += x(0, i, c) == y(0, i, c) ? 0 : 1;
            };
            compare(part(packed.y), want.y);
            compare(state(packed.final_state), want.final_state);
            compare(part(got.u), gradient.u);
            compare(state(got.initial_state), gradient.initial_state);
            CHECK(wrong == 0);
            for (Index i = 0; i < sum.kernel.size(); ++i)
              sum.kernel.data()[i] += gradient.kernel.data()[i];
            for (Index c = 0; c < 2; ++c) sum.D(c) += gradient.D(c);
          }
          CHECK(relative_error(got.kernel, sum.kernel) <= 1e-13);
          CHECK(relative_error(got.D, sum.D) <= 1e-13);
        }
}

TEST_CASE("gradients may take the place of the gradients they come from") {
  for (const ConvMethod method : methods) {
    const Problem<double> p(2, 500, 2, 130);
    Random random(6);
    auto dy = random.normal<double>(p.u.extents());
    auto dstate = random.normal<double>(p.initial_state.extents());
    const auto want = backward(p, dy, dstate, {method});
    LongConvScratch<double> scratch;
    long_conv_backward(cpu, p.inputs(), {method}, {dy, dstate}, {dy, {}, {}, dstate}, scratch);
    CHECK(same_bits(dy, want.u));
    CHECK(same_bits(dstate, want.initial_state));
  }
}

TEST_CASE("a convolution that needs too long a transform is refused before it begins") {
  double one = 1;
  LongConvScratch<double> scratch;
  const auto convolve = [&](Index length, Index taps, ConvMethod method) {
    const View<double, 3> y(&one, {1, length, 1});  // nothing is read before the checks are over
    Tensor<double, 3> elsewhere({1, 1, 1});
    long_conv(cpu,
              {View<const double, 3>(elsewhere.data(), {1, length, 1}, {0, 0, 0}),
               View<const double, 2>(elsewhere.data(), {1, taps}, {0, 0})},
              {method}, {y}, scratch);
  };
  const Index large = Index{1} << 29;
  CHECK_THROWS_WITH(convolve(large, large, ConvMethod::automatic),
                    "long_conv: taps is 536870912, expected at most 134217727 for transforms, "
                    "the longest of which has 536870911");
  CHECK_THROWS_WITH(convolve(large, large, ConvMethod::chunked),
                    "long_conv: taps is 536870912, expected at most 134217727 for transforms, "
                    "the longest of which has 536870911");
  CHECK_THROWS_WITH(convolve(large, 1000, ConvMethod::fft),
                    "long_conv: the length of a sequence is 536870912, expected at most 536870911 "
                    "with the taps, the longest transform, for the method fft");
  CHECK_THROWS_AS(convolve(Index{1} << 60, Index{1} << 60, ConvMethod::fft), DomainError);
  CHECK(scratch.threads.empty());
  const volatile Index unknown = large;  // to the compiler, which else warns of what is refused
  std::complex<double>* const volatile nowhere = nullptr;
  CHECK_THROWS_WITH(RealFft<double>().forward(unknown, &one, nowhere),
                    "RealFft: n is 536870912, expected at most 536870911, the longest transform");
}

TEST_CASE("the long convolution refuses memory that it would spoil") {
  Problem<double> p(2, 8, 2, 4);
  LongConvScratch<double> scratch;
  Tensor<double, 3> y({2, 8, 2});
  const auto convolve = [&](const LongConvInputs<double>& in, const LongConvOutputs<double>& out) {
    long_conv(cpu, in, {}, out, scratch);
  };
  CHECK_THROWS_WITH(convolve({{}, p.kernel}, {y}),
                    "long_conv: u is absent, expected (batch, length, channels)");
  CHECK_THROWS_WITH(convolve({p.u, {}}, {y}),
                    "long_conv: kernel is absent, expected (channels, taps)");
  CHECK_THROWS_WITH(convolve({p.u, p.kernel}, {}), "long_conv: y is absent, expected (2, 8, 2)");
  CHECK_THROWS_AS(convolve({p.u, p.kernel}, {View<double, 3>(nullptr, {2, 8, 2})}), ShapeError);
  CHECK_THROWS_AS(convolve({View<const double, 3>(p.u.data(), {2, -8, 2}), p.kernel}, {y}),
                  ShapeError);
  CHECK_THROWS_WITH(convolve(p.inputs(), {View<double, 3>(y.data(), {2, 8, 2}, {0, 2, 1})}),
                    "long_conv: y is strided as (0, 2, 1), expected no stride of 0 in what is "
                    "written");
  CHECK_THROWS_WITH(convolve(p.inputs(), {View<double, 3>(p.u).reversed(1)}),
                    "long_conv: y is in the memory of u, expected memory of its own");
  Tensor<Index, 1> offsets({2});
  offsets(1) = 7;
  auto inputs = p.inputs();
  inputs.u = inputs.u.slice(0, 0, 1);
  inputs.initial_state = {};
  inputs.sequences.offsets = offsets;
  CHECK_THROWS_WITH(convolve(inputs, {y.view().slice(0, 0, 1)}),
                    "long_conv: the last offset is 7, expected the length, 8");
  CHECK_THROWS_WITH(
      long_conv_backward(cpu, p.inputs(), {}, {y}, {{}, {}, {}, p.initial_state}, scratch),
      "long_conv_backward: gradient of initial_state is in the memory of initial_state, expected "
      "memory of its own");
}

TEST_CASE("the gradients of the long convolution in float are those in double") {
  for (const ConvMethod method : methods)
    for (const auto& [length, taps] :
         {std::array<Index, 2>{1, 5}, {60, 4}, {700, 700}, {3000, 90}}) {
      const auto gradients_of = [&, length = length, taps = taps]<class T>(T) {
        Problem<T> problem(0, 0, 0, 1);
        problem.u = ssm::test::float_normal<T>(4, std::array<Index, 3>{2, length, 2});
        problem.initial_state = ssm::test::float_normal<T>(5, std::array<Index, 3>{2, taps - 1, 2});
        problem.kernel = ssm::test::float_normal<T>(6, std::array<Index, 2>{2, taps});
        problem.D = ssm::test::float_normal<T>(7, std::array<Index, 1>{2});
        const auto g =
            backward(problem, ssm::test::float_normal<T>(8, problem.u.extents()),
                     ssm::test::float_normal<T>(9, problem.initial_state.extents()), {method});
        ssm::test::Results results;
        ssm::test::add_result(results, "u", g.u);
        ssm::test::add_result(results, "kernel", g.kernel);
        ssm::test::add_result(results, "D", g.D);
        ssm::test::add_result(results, "initial state", g.initial_state);
        return results;
      };
      const auto [error, where] =
          ssm::test::largest_error(gradients_of(float()), gradients_of(double()));
      CAPTURE(where, static_cast<int>(method), length, taps);
      CHECK(error < 4 * static_cast<double>(std::numeric_limits<float>::epsilon()) *
                        std::sqrt(static_cast<double>(std::max(length, taps))));
    }
}
