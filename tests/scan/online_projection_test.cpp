#include "ssm/scan/online_projection.hpp"

#include <cmath>
#include <numbers>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/last_words.hpp"
#include "support/random.hpp"

using namespace ssm;
using ssm::test::Random;

namespace {

/// Σ_{k=1..K} sin(2πkx + 0.7k²)/√K, K cycles at the most over the whole of x ∈ [0, 1].
double chirp(double x, int cycles) {
  double sum = 0;
  for (int k = 1; k <= cycles; ++k) sum += std::sin(2 * std::numbers::pi * k * x + 0.7 * k * k);
  return sum / std::sqrt(cycles);
}

/// The mean squared error over the past of `length` samples of the chirp, at every `stride`-th,
/// each sample read in the middle of its step.
template <class T>
double error_of_memory(Index state, Index length, int cycles, Index stride) {
  Tensor<T, 2> u({length, 1});
  for (Index t = 0; t < length; ++t)
    u(t, 0) = static_cast<T>(chirp(static_cast<double>(t) / static_cast<double>(length), cycles));
  OnlineProjection<T> memory(1, state);
  memory.project(cpu, u);
  double sum = 0;
  Index count = 0;
  for (Index t = 0; t < length; t += stride, ++count) {
    const double x = static_cast<double>(t) / static_cast<double>(length);
    const double middle = (static_cast<double>(t) + 0.5) / static_cast<double>(length);
    const double error = static_cast<double>(memory.reconstruct(0, middle)) - chirp(x, cycles);
    sum += error * error;
  }
  return sum / static_cast<double>(count);
}

/// max_n |c_n − want_n| / max |want|.
template <class T>
double distance(const OnlineProjection<T>& memory, Index stream, const Eigen::VectorXd& want) {
  double error = 0;
  for (Index n = 0; n < want.size(); ++n) {
    const double d = std::abs(static_cast<double>(memory.coefficient(stream, n)) - want(n));
    if (!(d <= error)) error = d;
  }
  return error / want.cwiseAbs().maxCoeff();
}

}  // namespace

TEMPLATE_TEST_CASE("a step of the online projection is its dense formula", "", float, double) {
  constexpr double epsilon = std::numeric_limits<TestType>::epsilon();
  for (const auto method :
       {Discretization::bilinear, Discretization::backward_euler, Discretization::forward_euler})
    for (const Index state : {1, 2, 7, 16, 37})
      for (const Index streams : {1, 3, 4, 21}) {
        CAPTURE(static_cast<int>(method), state, streams);
        const Index length = method == Discretization::forward_euler ? 9 : 25;
        Random random(1);
        const auto u = random.normal<TestType>(std::array{length, streams});
        OnlineProjection<TestType> memory(streams, state, method);
        memory.project(cpu, u);
        for (Index s = 0; s < streams; s += 2) {
          Eigen::VectorXd c = Eigen::VectorXd::Zero(state);
          c(0) = static_cast<double>(u(0, s));
          for (Index t = 1; t < length; ++t)
            online_projection_reference(method, t, static_cast<double>(u(t, s)), c);
          CHECK(distance(memory, s, c) <= 16 * static_cast<double>(length) * epsilon);
        }
      }
}

TEST_CASE("zero-order hold is exact: the past is stretched, and the present put beside it") {
  // Of a constant past and present nothing but the mean is left; of a step, its projection.
  Eigen::VectorXd c = Eigen::VectorXd::Zero(12);
  c(0) = 2;
  online_projection_reference(Discretization::zero_order_hold, 5, 2, c);
  CHECK((c - 2 * Eigen::VectorXd::Unit(12, 0)).norm() < 1e-12);
  online_projection_reference(Discretization::zero_order_hold, 6, -1, c);
  CHECK(c(0) == Approx((6 * 2 - 1) / 7.0).epsilon(1e-13));
  // ∫ x √3 (2x − 1) over 0 … 6/7 by 2 and over 6/7 … 1 by −1
  const auto integral = [](double x) { return std::sqrt(3) * (x * x - x); };
  CHECK(c(1) == Approx(3 * integral(6 / 7.0)).epsilon(1e-12));
}

TEST_CASE("a projection that is copied, split and stepped has the same bits") {
  const Index length = 300;
  for (const Index streams : {1, 2, 4, 40}) {
    Random random(2);
    const auto u = random.normal<float>(std::array{length, streams});
    OnlineProjection<float> whole(streams, 50), parts(streams, 50), threads(streams, 50);
    whole.project(cpu(1), u);
    threads.project(cpu(3), u);
    parts.project(cpu, u.view().slice(0, 0, 123));
    OnlineProjection<float> rest = parts;
    for (Index t = 123; t < length; ++t) rest.step(u.view()[t]);
    CHECK(rest.samples() == length);
    Index wrong = 0;
    for (Index s = 0; s < streams; ++s)
      for (Index n = 0; n < 50; ++n)
        wrong += rest.coefficient(s, n) == whole.coefficient(s, n) &&
                         threads.coefficient(s, n) == whole.coefficient(s, n)
                     ? 0
                     : 1;
    CHECK(wrong == 0);
    rest.reset();
    rest.project(cpu, u);
    CHECK(rest.coefficient(0, 3) == whole.coefficient(0, 3));
  }
}

TEST_CASE("a memory of ten thousand samples is as good as it was measured") {
  CHECK(error_of_memory<double>(16, 10000, 5, 1) == Approx(8.9e-3).epsilon(0.01));
  CHECK(error_of_memory<double>(32, 10000, 5, 1) == Approx(2.55e-7).epsilon(0.01));
  CHECK(error_of_memory<double>(64, 10000, 5, 1) == Approx(2.55e-7).epsilon(0.01));
  CHECK(error_of_memory<float>(64, 10000, 5, 1) <= 3e-7);
}

TEST_CASE("a memory of a million samples is as good as it was measured") {
  CHECK(error_of_memory<double>(256, 1000000, 50, 101) == Approx(1.4e-9).epsilon(0.05));
  CHECK(error_of_memory<float>(256, 1000000, 50, 101) <= 4e-9);  // a plain float loop: 3.3e-8
  CHECK(error_of_memory<double>(256, 1000000, 100, 101) == Approx(4.0e-2).epsilon(0.05));
}

TEST_CASE("forward Euler blows up before it decays") {
  Tensor<double, 2> u({200, 1});
  for (Index t = 0; t < 200; ++t) u(t, 0) = chirp(static_cast<double>(t) / 1e4, 5);
  OnlineProjection<double> memory(1, 32, Discretization::forward_euler);
  double largest = 0;
  for (Index t = 0; t < 200; ++t) {
    memory.step(u.view()[t]);
    for (Index n = 0; n < 32; ++n) largest = std::max(largest, std::abs(memory.coefficient(0, n)));
  }
  CHECK(std::log10(largest) == Approx(std::log10(3e17)).margin(1));
}

TEST_CASE("a NaN stays in its stream") {
  Tensor<double, 2> u({20, 5});
  u(7, 2) = std::numeric_limits<double>::quiet_NaN();
  OnlineProjection<double> memory(5, 8);
  memory.project(cpu, u);
  for (Index s = 0; s < 5; ++s) CHECK(std::isnan(memory.coefficient(s, 3)) == (s == 2));
}

TEST_CASE("the online projection names the argument that does not fit") {
  CHECK_THROWS_WITH(OnlineProjection<float>(0, 4),
                    "OnlineProjection: streams is 0, expected at least 1");
  CHECK_THROWS_WITH(OnlineProjection<float>(1, 0),
                    "OnlineProjection: state is 0, expected at least 1");
  for (const auto method : {Discretization::zero_order_hold, Discretization::tustin})
    CHECK_THROWS_WITH(OnlineProjection<float>(1, 4, method),
                      "OnlineProjection: method is another, expected bilinear, backward_euler or "
                      "forward_euler");
  OnlineProjection<float> memory(2, 4);
  CHECK_THROWS_WITH(memory.project(cpu, Tensor<float, 2>({3, 1})),
                    "OnlineProjection: u is (3, 1), expected (3, 2)");
  CHECK_THROWS_WITH(memory.project(cpu, {}),
                    "OnlineProjection: u is absent, expected (length, streams)");
  CHECK_THROWS_WITH(memory.project(cpu, View<const float, 2>(nullptr, {3, 2})),
                    "OnlineProjection: u is a null pointer to (3, 2), expected elements");
  Eigen::VectorXd c = Eigen::VectorXd::Zero(3), none;
  CHECK_THROWS_WITH(online_projection_reference(Discretization::bilinear, 0, 1, c),
                    "online_projection_reference: samples is 0, expected at least 1");
  CHECK_THROWS_AS(online_projection_reference(Discretization::bilinear, 1, 1, none), ShapeError);
}

TEST_CASE("misuse of a projection ends the program with the sentence that says what") {
  using ssm::test::contains;
  using ssm::test::last_words;
  OnlineProjection<float> memory(2, 4);
  const Tensor<float, 1> two({2}), three({3});
  CHECK(last_words([&] { memory.step(two); }).empty());
  CHECK_THAT(last_words([&] { memory.step(three); }),
             contains("OnlineProjection: u is (3), expected (2)"));
  CHECK_THAT(last_words([&] { memory.step(View<const float, 1>(nullptr, {2})); }),
             contains("OnlineProjection: u is a null pointer to (2), expected elements"));
  CHECK_THAT(last_words([&] { (void)memory.coefficient(2, 0); }),
             contains("OnlineProjection: stream is 2, expected from 0 to 1"));
  CHECK_THAT(last_words([&] { (void)memory.coefficient(0, 4); }),
             contains("OnlineProjection: n is 4, expected from 0 to 3"));
  CHECK_THAT(last_words([&] { (void)memory.reconstruct(-1, 0.5); }),
             contains("OnlineProjection: stream is -1, expected from 0 to 1"));
}
