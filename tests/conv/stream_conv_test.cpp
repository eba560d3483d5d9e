#include "ssm/conv/stream_conv.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "ssm/conv/long_conv.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/count_allocations.hpp"
#include "support/last_words.hpp"
#include "support/random.hpp"

using namespace ssm;
using ssm::detail::Lanes;
using ssm::test::Random;
using ssm::test::relative_error;
using ssm::test::same_bits;

namespace stream_conv_test {

namespace {

template <class T>
constexpr Index W = ssm::detail::lanes<T>;

/// The sum as it stands, in double.
template <class T>
Tensor<double, 2> reference(const Tensor<T, 2>& kernel, const Tensor<T, 1>& D,
                            const Tensor<T, 2>& u) {
  const auto [length, channels] = u.extents();
  Tensor<double, 2> y(u.extents());
  const auto at = [](Index i) { return static_cast<std::size_t>(i); };
  std::vector<double> x(at(length)), sum(at(length));
  for (Index c = 0; c < channels; ++c) {
    for (Index t = 0; t < length; ++t) x[at(t)] = double(u(t, c));
    for (Index t = 0; t < length; ++t) sum[at(t)] = double(D(c)) * x[at(t)];
    for (Index l = 0; l < kernel.extent(1); ++l) {
      const double tap = double(kernel(c, l));
      for (Index t = l; t < length; ++t) sum[at(t)] += tap * x[at(t - l)];
    }
    for (Index t = 0; t < length; ++t) y(t, c) = sum[at(t)];
  }
  return y;
}

template <class T>
struct Problem {
  Tensor<T, 2> kernel, u;
  Tensor<T, 1> D;

  Problem(Index length, Index channels, Index taps) {
    Random random(1);
    kernel = random.normal<T>(std::array{channels, taps});
    u = random.normal<T>(std::array{length, channels});
    D = random.normal<T>(std::array{channels});
  }
  [[nodiscard]] StreamConv<T> conv(const StreamConvOptions& options = {}) const {
    return StreamConv<T>({kernel, D}, options);
  }
};

/// The stream u, `piece()` steps at a time.
template <class T, class Piece>
Tensor<T, 2> run(const StreamConv<T>& conv, StreamConvState<T>& state, const Tensor<T, 2>& u,
                 const Piece& piece) {
  Tensor<T, 2> y(u.extents());
  for (Index t = 0; t < u.extent(0);) {
    const Index count = std::min<Index>(piece(), u.extent(0) - t);
    step(conv, u.view().slice(0, t, count), state, y.view().slice(0, t, count));
    t += count;
  }
  return y;
}
template <class T>
Tensor<T, 2> run(const StreamConv<T>& conv, const Tensor<T, 2>& u, Index piece) {
  auto state = make_state(conv);
  return run(conv, state, u, [&] { return piece; });
}

template <class T>
bool same_state(StreamConvState<T>& a, StreamConvState<T>& b) {
  return same_bits(a.steps, b.steps) && same_bits(a.past, b.past) && same_bits(a.head, b.head) &&
         same_bits(a.spectra, b.spectra) && same_bits(a.outputs, b.outputs);
}

}  // namespace

TEMPLATE_TEST_CASE("a stream is convolved as by the direct sum, whatever its taps and channels", "",
                   float, double) {
  const double epsilon = std::numeric_limits<TestType>::epsilon();
  for (const Index channels : {Index{1}, Index{3}, W<TestType> / 2 + 1, 2 * W<TestType> + 1})
    for (const Index taps : {1, 2, 15, 64, 65, 200, 777, 1800}) {
      const Problem<TestType> p(taps + 701, channels, taps);
      const auto want = reference(p.kernel, p.D, p.u);
      for (const StreamConvOptions options :
           {StreamConvOptions{}, {.shortest = 1}, {.shortest = 64, .longest = 64}}) {
        CAPTURE(channels, taps, options.shortest, options.longest);
        CHECK(relative_error(run(p.conv(options), p.u, 64), want) <= 30 * epsilon);
      }
    }
}

TEMPLATE_TEST_CASE("partitions of many sizes at once, the work of each in its time", "", float,
                   double) {
  // Four sizes: from the shortest on, the next from twice its size on, and so forth.
  constexpr Index channels = W<TestType> + 1, taps = 20011;
  const Problem<TestType> p(taps + 5000, channels, taps);
  const auto conv = p.conv();
  const auto got = run(conv, p.u, 512);
  LongConvScratch<double> scratch;
  Tensor<double, 3> u({1, p.u.extent(0), channels}), y(u.extents());
  Tensor<double, 2> kernel(p.kernel.extents());
  Tensor<double, 1> D({channels});
  std::copy(p.u.begin(), p.u.end(), u.begin());
  std::copy(p.kernel.begin(), p.kernel.end(), kernel.begin());
  std::copy(p.D.begin(), p.D.end(), D.begin());
  long_conv(cpu(1), {u, kernel, D}, {}, {y}, scratch);
  Tensor<double, 2> want(p.u.extents());
  std::copy(y.begin(), y.end(), want.begin());
  CHECK(relative_error(got, want) <= 60 * double(std::numeric_limits<TestType>::epsilon()));
}

TEMPLATE_TEST_CASE("a stream has the same bits in pieces of any length, from a copied state too",
                   "", float, double) {
  for (const Index channels : {Index{2}, W<TestType> + 2})
    for (const Index taps : {1, 30, 1000, 3000}) {
      CAPTURE(channels, taps);
      const Problem<TestType> p(3500, channels, taps);
      const auto conv = p.conv();
      const auto want = run(conv, p.u, 3500);
      for (const Index piece : {1, 7, 64, 512}) CHECK(same_bits(run(conv, p.u, piece), want));
      Random random(2);
      auto state = make_state(conv);
      CHECK(same_bits(run(conv, state, p.u, [&] { return random.integer(0, 90); }), want));
      // Split somewhere; another convolution of the same kernels goes on from a copy.
      for (const Index split : {1, 64, 1537, 2999}) {
        Tensor<TestType, 2> before({split, channels}), after({3500 - split, channels});
        std::copy_n(p.u.data(), before.size(), before.data());
        std::copy_n(p.u.data() + before.size(), after.size(), after.data());
        auto first = make_state(conv);
        run(conv, first, before, [] { return 100; });
        auto copy = first;
        run(conv, first, before, [] { return 33; });  // the copy is independent of what it is of
        const auto other = p.conv();
        const auto got = run(other, copy, after, [] { return 77; });
        CHECK(std::equal(got.begin(), got.end(), want.begin() + before.size()));
        CHECK(same_state(copy, state));
      }
    }
}

TEMPLATE_TEST_CASE("y_t is there with u_t: the first output of an impulse is the first tap", "",
                   float, double) {
  for (const Index channels : {Index{1}, W<TestType>}) {
    const Problem<TestType> p(1, channels, 1500);
    const auto conv = p.conv();
    auto state = make_state(conv);
    Tensor<TestType, 2> u({1, channels}), y({1, channels});
    u.fill(1);
    Index wrong = 0;
    for (Index t = 0; t < 1500; ++t) {
      step(conv, u, state, y);
      u.fill(0);
      for (Index c = 0; c < channels; ++c) {
        const TestType want = p.kernel(c, t) + (t == 0 ? p.D(c) : TestType(0));
        // The direct sum is exact; partitions round.
        if (t < 64 ? y(0, c) != want : !(std::abs(y(0, c) - want) <= TestType(1e-5))) ++wrong;
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("a stream of pieces in any memory, its own too, is the same") {
  const Problem<float> p(900, 19, 700);
  const auto conv = p.conv();
  const auto want = run(conv, p.u, 50);
  // Time backward in memory, and other numbers between the channels.
  Tensor<float, 3> wide({900, 19, 2});
  Tensor<float, 2> same = p.u;
  for (Index t = 0; t < 900; ++t)
    for (Index c = 0; c < 19; ++c) wide(899 - t, c, 1) = p.u(t, c);
  auto state = make_state(conv), other = state;
  Index wrong = 0;
  for (Index t = 0; t < 900; t += 50) {
    const View<float, 2> block(&wide(899 - t, 0, 1), {50, 19}, {-38, 2});
    step(conv, block, state, block);
    step(conv, same.view().slice(0, t, 50), other, same.view().slice(0, t, 50));
  }
  for (Index t = 0; t < 900; ++t)
    for (Index c = 0; c < 19; ++c) wrong += wide(899 - t, c, 1) != want(t, c);
  CHECK(wrong == 0);
  CHECK(same_bits(same, want));
  // Taps that are not adjacent in memory.
  Tensor<float, 2> turned({700, 19});
  for (Index c = 0; c < 19; ++c)
    for (Index l = 0; l < 700; ++l) turned(l, c) = p.kernel(c, l);
  const StreamConv<float> strided({{turned.data(), {19, 700}, {1, 19}}, p.D});
  CHECK(same_bits(run(strided, p.u, 50), want));
}

TEMPLATE_TEST_CASE("a stream goes on where long_conv ended, and the other way round", "", float,
                   double) {
  const double epsilon = std::numeric_limits<TestType>::epsilon();
  for (const Index taps : {1, 40, 1500}) {
    CAPTURE(taps);
    const Problem<TestType> p(4000, 3, taps);
    const auto want = reference(p.kernel, p.D, p.u);
    const auto conv = p.conv();
    LongConvScratch<TestType> scratch;
    Tensor<TestType, 2> y(p.u.extents());
    Tensor<TestType, 3> past({1, taps - 1, 3});
    const auto steps = [](auto& x, Index begin, Index count) {
      const auto part = x.view().slice(0, begin, count);
      return View<std::remove_pointer_t<decltype(part.data())>, 3>(part.data(), {1, count, 3});
    };
    long_conv(cpu(1), {steps(std::as_const(p.u), 0, 1801), p.kernel, p.D}, {},
              {steps(y, 0, 1801), past}, scratch);
    auto state = make_state(conv);
    set_past(conv, std::as_const(past).view()[0], state);
    for (Index t = 1801; t < 3000; t += 11)
      step(conv, p.u.view().slice(0, t, 11), state, y.view().slice(0, t, 11));
    Tensor<TestType, 3> later(past.extents());
    get_past(conv, state, later.view()[0]);
    for (Index i = 0; i < taps - 1; ++i)
      for (Index c = 0; c < 3; ++c) past(0, i, c) = p.u(3000 - (taps - 1) + i, c);
    CHECK(same_bits(later, past));
    long_conv(cpu(1), {steps(std::as_const(p.u), 3000, 1000), p.kernel, p.D, later}, {},
              {steps(y, 3000, 1000)}, scratch);
    CHECK(relative_error(y, want) <= 30 * epsilon);
  }
}

TEMPLATE_TEST_CASE("a NaN stays in its channel, and leaves it after the taps", "", float, double) {
  for (const Index channels : {Index{3}, W<TestType> + 1})
    for (const Index taps : {1, 100, 1900}) {
      CAPTURE(channels, taps);
      const Index length = 4 * taps + 2000, at = 333;
      Problem<TestType> p(length, channels, taps);
      const auto conv = p.conv();
      const auto want = run(conv, p.u, 64);
      p.u(at, 1) = std::numeric_limits<TestType>::quiet_NaN();
      const auto got = run(conv, p.u, 64);
      Index wrong = 0;
      // A block of the longest partition is at most half of the taps; the direct sum's vectors
      // have at most 16 steps.
      const Index gone = at + std::max(2 * taps, taps + 16);
      for (Index t = 0; t < length; ++t)
        for (Index c = 0; c < channels; ++c)
          if (c == 1 && t >= at && t < at + taps)
            wrong += !std::isnan(got(t, c));
          else if (c != 1 || t < at || t >= gone)
            wrong += got(t, c) != want(t, c);
      CHECK(wrong == 0);
    }
}

TEST_CASE("a step of a stream does not allocate, nor does an update") {
  for (const Index channels : {1, 17}) {
    const Problem<float> p(1000, channels, 5000), other(1, channels, 5000);
    auto conv = p.conv();
    auto state = make_state(conv);
    Tensor<float, 2> y(p.u.extents());
    CHECK(ssm::test::allocations_of([&] {
            for (Index t = 0; t < 1000; t += 40)
              step(conv, p.u.view().slice(0, t, 40), state, y.view().slice(0, t, 40));
            conv.update({other.kernel, other.D});
          }) == 0);
  }
}

TEST_CASE("after an update a stream is convolved with the kernels given") {
  for (const Index channels : {1, 17}) {
    Problem<double> p(6000, channels, 1000);
    auto conv = p.conv();
    auto state = make_state(conv);
    Tensor<double, 2> y = run(conv, state, p.u, [] { return 64; });
    p.kernel = Random(9).normal<double>(p.kernel.extents());
    p.D.fill(0);
    conv.update({p.kernel});
    const auto want = run(p.conv(), p.u, 64);
    state = make_state(conv);
    CHECK(same_bits(run(conv, state, p.u, [] { return 64; }), want));
    // A stream that goes on is of both for a while.
    p.kernel = Random(10).normal<double>(p.kernel.extents());
    conv.update({p.kernel});
    y = run(conv, state, p.u, [] { return 64; });
    Tensor<double, 2> twice({12000, channels});
    std::copy_n(p.u.data(), p.u.size(), twice.data());
    std::copy_n(p.u.data(), p.u.size(), twice.data() + p.u.size());
    const auto both = run(p.conv(), twice, 64);
    Tensor<double, 2> last({4000, channels}), wanted({4000, channels});
    std::copy_n(y.data() + 2000 * channels, last.size(), last.data());
    std::copy_n(both.data() + 8000 * channels, last.size(), wanted.data());
    CHECK(relative_error(last, wanted) <= 1e-14);
  }
}

TEST_CASE("the kernel of one state, streamed, is its recurrence") {
  // x_t = a x_{t−1} + u_t, without what is older than the taps
  const double a = 0.999;
  const Index taps = 2500, length = 6000;
  Tensor<double, 2> kernel({1, taps}), want({length, 1});
  for (Index l = 0; l < taps; ++l) kernel(0, l) = std::pow(a, double(l));
  const auto u = Random(3).normal<double>(std::array{length, Index{1}});
  const StreamConv<double> conv({kernel});
  std::vector<double> x(static_cast<std::size_t>(length));
  for (Index t = 0; t < length; ++t) {
    const auto at = [&](Index s) -> double& { return x[static_cast<std::size_t>(s)]; };
    at(t) = (t > 0 ? a * at(t - 1) : 0) + u(t, 0);
    want(t, 0) = at(t) - (t >= taps ? std::pow(a, double(taps)) * at(t - taps) : 0);
  }
  CHECK(relative_error(run(conv, u, 64), want) <= 1e-13);
}

TEST_CASE("two seconds of a room at 48 kHz, in blocks of 64 samples") {
  constexpr Index taps = 96000, length = 64 * 2000;
  Random random(5);
  Tensor<float, 2> response({1, taps});
  for (Index l = 0; l < taps; ++l)
    response(0, l) = static_cast<float>(random.normal() * std::exp(-double(l) / 14000));
  const auto dry = random.normal<float>(std::array{length, Index{1}});
  const StreamConv<float> room({response});
  const auto wet = run(room, dry, 64);
  Tensor<double, 3> u({1, length, 1}), y(u.extents());
  Tensor<double, 2> kernel(response.extents()), want(wet.extents());
  std::copy(dry.begin(), dry.end(), u.begin());
  std::copy(response.begin(), response.end(), kernel.begin());
  LongConvScratch<double> scratch;
  long_conv(cpu(1), {u, kernel}, {}, {y}, scratch);
  std::copy(y.begin(), y.end(), want.begin());
  CHECK(relative_error(wet, want) <= 1e-5);
}

TEMPLATE_TEST_CASE(
    "partitions cover every tap once, each two of its lengths away, in items that are small", "",
    float, double) {
  using namespace ssm::detail;
  for (const Lanes order : {Lanes::times, Lanes::sequences})
    for (const Index taps : {1, 100, 513, 5000, 48000, 480000, 5000000}) {
      CAPTURE(static_cast<int>(order), taps);
      const Index shortest = shortest_partition<TestType>(order);
      const StreamPlan plan = plan_stream_conv<TestType>(taps, order, shortest, 1 << 20, false);
      Index covered = plan.head, largest = 0;
      Index in_64_steps =
          plan.head * StreamCosts::head_in_lanes * (order == Lanes::times ? 64 / W<TestType> : 64);
      CHECK(plan.head % head_steps<TestType>(order) == 0);
      for (const StreamPartition& p : plan.partitions) {
        CHECK(covered == 2 * p.steps);
        CHECK(covered < taps);
        covered += p.parts * p.steps;
        const auto work = stream_work<TestType>(p, order);
        in_64_steps += work.back().end * 64 / p.steps;
        for (const StreamWork& w : work) largest = std::max(largest, w.cost);
        const LaneTransform<TestType> transform(2 * std::min<Index>(p.steps, 4096), order);
        const auto small = stream_work<TestType>({transform.size() / 2, p.parts}, order);
        Index items = 0;
        for (const StreamWork& w : small)
          if (w.task == StreamTask::split) {
            CHECK(w.count ==
                  transform.points() / LaneTransformParts<TestType>::radix(transform, w.level));
            ++items;
          }
        CHECK(items == LaneTransformParts<TestType>::levels(transform));
      }
      CHECK(covered >= taps);
      CHECK(largest <= in_64_steps / 2);  // so that shares can be even
    }
}

TEMPLATE_TEST_CASE("a transform in parts has the bits of the whole", "", float, double) {
  using namespace ssm::detail;
  using Parts = LaneTransformParts<TestType>;
  for (const Lanes order : {Lanes::times, Lanes::sequences})
    for (const Index n : {256, 512, 8192}) {
      const LaneTransform<TestType> transform(2 * n, order);
      auto whole = Random(1).normal<TestType>(std::array{transform.memory()}), parts = whole;
      const Index turns = order == Lanes::times ? transform.points() / W<TestType> : 0;
      transform.forward(whole.data());
      for (Index l = 0; l < Parts::levels(transform); ++l) {
        const Index count = transform.points() / Parts::radix(transform, l);
        for (Index i = 0; i < count; i += 3)
          Parts::split(transform, parts.data(), l, i, std::min(i + 3, count));
      }
      Parts::turn_forward(transform, parts.data(), 0, turns);
      CHECK(same_bits(parts, whole));
      transform.back(whole.data());
      Parts::turn_back(transform, parts.data(), 0, turns);
      for (Index l = Parts::levels(transform); l-- > 0;) {
        const Index count = transform.points() / Parts::radix(transform, l);
        for (Index i = 0; i < count; i += 5)
          Parts::join(transform, parts.data(), l, i, std::min(i + 5, count));
      }
      CHECK(same_bits(parts, whole));
    }
}

TEST_CASE("partitions longer than any kernel are no partitions") {
  const Tensor<float, 2> kernel = Random(60).normal<float, 2>({1, 300});
  for (const Index steps : {Index{1} << 20, Index{1} << 61, Index{1} << 62}) {
    const StreamConv<float> direct({kernel}, {.shortest = steps});
    const StreamConv<float> unlimited({kernel}, {.longest = steps});
    for (const StreamConv<float>* conv : {&direct, &unlimited}) {
      auto state = make_state(*conv);
      Tensor<float, 2> impulse({300, 1}), y({300, 1});
      impulse(0, 0) = 1;
      step(*conv, impulse, state, y);
      for (Index t = 0; t < 300; ++t) CHECK(std::abs(y(t, 0) - kernel(0, t)) <= 1e-5f);
    }
  }
}

TEST_CASE("a convolution of streams names the argument that does not fit") {
  const Tensor<float, 2> kernel({2, 5}), none({2, 0}), wider({3, 5});
  const Tensor<float, 1> D({3});
  CHECK_THROWS_WITH(StreamConv<float>({}),
                    "StreamConv: kernel is absent, expected (channels, taps)");
  CHECK_THROWS_WITH(StreamConv<float>({none}),
                    "StreamConv: kernel is of no taps, expected at least one tap");
  CHECK_THROWS_WITH(StreamConv<float>({kernel, D}), "StreamConv: D is (3), expected (2)");
  CHECK_THROWS_WITH(StreamConv<float>({kernel}, {.shortest = 3}),
                    "StreamConv: shortest is 3, expected a power of two, or 0");
  CHECK_THROWS_WITH(StreamConv<float>({kernel}, {.longest = -1}),
                    "StreamConv: longest is -1, expected a power of two, or 0");
  StreamConv<float> conv({kernel});
  CHECK_THROWS_WITH(conv.update({wider}), "StreamConv: kernel is (3, 5), expected (2, 5)");
  auto state = make_state(conv);
  CHECK_THROWS_WITH(get_past(conv, state, Tensor<float, 2>({5, 2})),
                    "get_past: past is (5, 2), expected (4, 2)");
  CHECK_THROWS_WITH(set_past(conv, kernel, state), "set_past: past is (2, 5), expected (4, 2)");
  const auto refused = [&](const View<const float, 2>& u, StreamConvState<float>& s,
                           const View<float, 2>& y) {
    return ssm::test::last_words([&] { step(conv, u, s, y); });
  };
  using ssm::test::contains;
  Tensor<float, 2> u({7, 2}), three({7, 3});
  CHECK(refused(u, state, u).empty());
  CHECK_THAT(refused({}, state, u),
             contains("StreamConv step: u is absent, expected (steps, channels)"));
  CHECK_THAT(refused(three, state, three), contains("u is (7, 3), expected (7, 2)"));
  CHECK_THAT(refused(u, state, three), contains("y is (7, 3), expected (7, 2)"));
  const View<float, 2> all = u;
  CHECK_THAT(refused(all.slice(0, 0, 6), state, all.slice(0, 1, 6)),
             contains("y is over a part of the memory of u"));
  CHECK_THAT(refused(View<float, 2>(u.data(), {-1, 2}), state, View<float, 2>(u.data(), {-1, 2})),
             contains("u is (-1, 2), expected no negative extent"));
  StreamConvState<float> nothing;
  CHECK_THAT(refused(u, nothing, u),
             contains("state is of another convolution, expected what make_state made for this"));
}

TEST_CASE("no step and no channel are convolved as well") {
  const Problem<double> p(10, 2, 4);
  const auto conv = p.conv();
  auto state = make_state(conv), before = state;
  Tensor<double, 2> empty({0, 2});
  step(conv, empty, state, empty);
  CHECK(same_state(state, before));
  const Tensor<double, 2> kernel({0, 5});
  const StreamConv<double> nobody({kernel});
  auto silence = make_state(nobody);
  Tensor<double, 2> u({3, 0});
  step(nobody, u, silence, u);
  CHECK(silence.steps(0) == 3);
}

}  // namespace stream_conv_test
