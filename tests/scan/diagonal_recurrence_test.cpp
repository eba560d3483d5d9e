#include "ssm/scan/diagonal_recurrence.hpp"

#include <cmath>
#include <complex>
#include <limits>
#include <type_traits>
#include <utility>

#include "ssm/core/eigen.hpp"
#include "ssm/scan/recurrence.hpp"
#include "ssm/scan/selective_scan.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/random.hpp"

namespace diagonal_recurrence_test {

using ssm::cpu;
using ssm::Discretization;
using ssm::Index;
using ssm::Tensor;
using ssm::test::Random;
using ssm::test::relative_error;
using ssm::test::same_bits;

namespace {

constexpr Discretization methods[] = {Discretization::zero_order_hold, Discretization::bilinear,
                                      Discretization::forward_euler,
                                      Discretization::backward_euler};

template <class K>
struct Case {
  using T = ssm::Real<K>;
  Tensor<T, 3> u, y;
  Tensor<K, 2> lambda, B, C;
  Tensor<T, 1> D, delta;
  Tensor<T, 3> steps;
  Tensor<K, 3> initial, final;
  ssm::DiagonalScanScratch<T, K> scratch;

  Case(Index batch, Index length, Index channels, Index state, std::uint64_t seed) {
    Random random(seed);
    u = random.normal<T, 3>({batch, length, channels});
    y = u;
    lambda = random.normal<K, 2>({channels, state}, 0.3, -1);
    B = random.normal<K, 2>({channels, state});
    C = random.normal<K, 2>({channels, state});
    D = random.normal<T, 1>({channels});
    delta = random.normal<T, 1>({channels});
    steps = random.normal<T, 3>({batch, length, channels});
    for (T& step : delta) step = T(0.1) + std::abs(step) / 10;
    for (T& step : steps) step = T(0.1) + std::abs(step) / 10;
    initial = random.normal<K, 3>({batch, channels, state});
    final = initial;
  }
  [[nodiscard]] ssm::DiagonalScanInputs<T, K> inputs() const {
    return {u, lambda, delta, B, C, D, initial};
  }
  void run(Discretization method, int threads = 1) {
    ssm::recurrence(cpu(threads), inputs(), {method}, {y, final}, scratch);
  }
  void run_varying(Discretization method, int threads = 1) {
    auto in = inputs();
    in.delta = steps;
    ssm::recurrence(cpu(threads), in, {method}, {y, final}, scratch);
  }
};

template <class T>
double tolerance(Index length) {
  return 16 * static_cast<double>(std::numeric_limits<T>::epsilon()) * static_cast<double>(length);
}

}  // namespace

TEST_CASE("a diagonal system runs as the dense system with that diagonal does") {
  for (const Discretization method : methods) {
    Case<double> c(1, 41, 1, 5, 3);
    c.run(method);
    const Eigen::VectorXd lambda = ssm::as_eigen(c.lambda.view()[0]);
    const ssm::StateSpace<double> dense(Eigen::MatrixXd(lambda.asDiagonal()),
                                        Eigen::MatrixXd(ssm::as_eigen(c.B.view()[0])),
                                        Eigen::MatrixXd(ssm::as_eigen(c.C.view()[0]).transpose()),
                                        Eigen::MatrixXd::Constant(1, 1, c.D(0)));
    Tensor<double, 3> y({1, 41, 1}), final({1, 1, 5});
    ssm::RecurrenceScratch<double> scratch;
    // S4's bilinear keeps C and D, as both do here.
    ssm::recurrence(cpu, ssm::discretize(method, dense, c.delta(0)),
                    {c.u.view()[0], c.initial.view()[0][0]}, {ssm::Readout::after},
                    {y.view()[0], final.view()[0][0]}, scratch);
    CHECK(relative_error(c.y, y) <= tolerance<double>(41));
    CHECK(relative_error(c.final, final) <= tolerance<double>(41));
  }
}

TEMPLATE_TEST_CASE("with a zero-order hold it is the selective scan of constant B and C", "", float,
                   double, std::complex<float>, std::complex<double>) {
  using K = TestType;
  using T = ssm::Real<K>;
  for (const Index length : {0, 1, 33}) {
    Case<K> c(2, length, 3, 4, 5);
    Tensor<T, 3> delta(c.u.extents()), y(c.u.extents());
    Tensor<K, 3> final(c.final.extents());
    const auto scan = [&] {
      ssm::SelectiveScanInputs<T, K> in;
      in.u = c.u;
      in.delta = delta;
      in.A = c.lambda;
      in.B = c.B;
      in.C = c.C;
      in.D = c.D;
      in.initial_state = c.initial;
      ssm::SelectiveScanScratch<T, K> scratch;
      ssm::selective_scan(cpu, in, {.hold = ssm::Hold::zero_order}, {y, final}, scratch);
    };
    for (const bool varying : {false, true}) {
      for (Index b = 0; b < 2; ++b)
        for (Index t = 0; t < length; ++t)
          for (Index n = 0; n < 3; ++n) delta(b, t, n) = varying ? c.steps(b, t, n) : c.delta(n);
      scan();
      if (varying)
        c.run_varying(Discretization::zero_order_hold);
      else
        c.run(Discretization::zero_order_hold);
      CHECK(relative_error(c.y, y) <= tolerance<T>(length + 1));
      CHECK(relative_error(c.final, final) <= tolerance<T>(length + 1));
    }
  }
}

TEST_CASE("a varying step that does not vary is a constant one, by every method") {
  for (const Discretization method : methods) {
    Case<std::complex<double>> c(2, 29, 3, 4, 7);
    for (Index b = 0; b < 2; ++b)
      for (Index t = 0; t < 29; ++t)
        for (Index n = 0; n < 3; ++n) c.steps(b, t, n) = c.delta(n);
    c.run(method);
    const auto y = c.y;
    c.run_varying(method);
    CHECK(relative_error(c.y, y) <= tolerance<double>(29));
  }
}

TEST_CASE("the diagonal recurrence may be split anywhere, and run on any number of threads") {
  Case<std::complex<float>> whole(2, 30, 5, 3, 9);
  whole.run_varying(Discretization::bilinear);
  for (const Index cut : {0, 1, 17, 30}) {
    Case<std::complex<float>> c(2, 30, 5, 3, 9);
    auto in = c.inputs();
    const auto part = [&](Index begin, Index count, const auto& initial) {
      in.u = std::as_const(c.u).view().slice(1, begin, count);
      in.initial_state = initial;
      in.delta = std::as_const(c.steps).view().slice(1, begin, count);
      ssm::recurrence(cpu(3), in, {Discretization::bilinear},
                      {c.y.view().slice(1, begin, count), c.final}, c.scratch);
    };
    part(0, cut, std::as_const(c.initial).view());
    part(cut, 30 - cut, std::as_const(c.final).view());
    CHECK(same_bits(c.y, whole.y));
    CHECK(same_bits(c.final, whole.final));
  }
}

TEST_CASE(
    "the diagonal recurrence runs back in time as forward in reversed sequences, packed too") {
  Case<double> back(1, 30, 4, 3, 13), turned(1, 30, 4, 3, 13);
  Tensor<Index, 1> offsets({4});
  offsets(1) = 11;
  offsets(2) = 11;
  offsets(3) = 30;
  back.initial = Random(14).normal<double, 3>({3, 4, 3});
  back.final = turned.final = turned.initial = back.initial;
  auto in = back.inputs();
  in.delta = back.steps;
  in.sequences = {offsets, true};
  ssm::recurrence(cpu(2), in, {Discretization::bilinear}, {back.y, back.final}, back.scratch);
  for (Index s = 0; s < 3; ++s) {
    const Index begin = offsets(s), count = offsets(s + 1) - begin;
    auto one = turned.inputs();
    one.u = one.u.slice(1, begin, count).reversed(1);
    one.delta = std::as_const(turned.steps).view().slice(1, begin, count).reversed(1);
    one.initial_state = one.initial_state.slice(0, s, 1);
    ssm::recurrence(
        cpu(1), one, {Discretization::bilinear},
        {turned.y.view().slice(1, begin, count).reversed(1), turned.final.view().slice(0, s, 1)},
        turned.scratch);
  }
  CHECK(same_bits(back.y, turned.y));
  CHECK(same_bits(back.final, turned.final));
}

TEST_CASE("a step that is not a number spoils its channel of its row from there on, nothing else") {
  Case<double> c(2, 12, 3, 2, 11);
  c.steps(1, 5, 2) = std::numeric_limits<double>::quiet_NaN();
  c.run_varying(Discretization::bilinear);
  Index wrong = 0;
  for (Index b = 0; b < 2; ++b)
    for (Index t = 0; t < 12; ++t)
      for (Index n = 0; n < 3; ++n)
        wrong += std::isnan(c.y(b, t, n)) != (b == 1 && n == 2 && t >= 5) ? 1 : 0;
  CHECK(wrong == 0);
}

TEST_CASE("the diagonal recurrence refuses methods that change C or D") {
  Case<double> c(2, 4, 3, 2, 11);
  for (const auto method : {Discretization::first_order_hold, Discretization::impulse_invariant,
                            Discretization::tustin}) {
    CHECK_THROWS_AS(c.run(method), ssm::DomainError);
    CHECK_THROWS_AS(c.run_varying(method), ssm::DomainError);
  }
}

TEST_CASE("the diagonal recurrence refuses shapes that do not fit, by name") {
  Case<double> c(2, 4, 3, 2, 11);
  c.B.resize({3, 1});
  CHECK_THROWS_AS(c.run(Discretization::bilinear), ssm::ShapeError);
  c.B.resize({3, 2});
  c.delta.resize({2});
  CHECK_THROWS_AS(c.run(Discretization::bilinear), ssm::ShapeError);
  c.steps.resize({2, 4, 2});
  CHECK_THROWS_AS(c.run_varying(Discretization::bilinear), ssm::ShapeError);
}

}  // namespace diagonal_recurrence_test
