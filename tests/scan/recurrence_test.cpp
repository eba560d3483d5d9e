#include "ssm/scan/recurrence.hpp"

#include <cmath>
#include <limits>

#include "ssm/core/eigen.hpp"
#include "ssm/system/mass_spring_damper.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/count_allocations.hpp"
#include "support/last_words.hpp"
#include "support/random.hpp"

using namespace ssm;
using ssm::test::allocations_of;
using ssm::test::Random;
using ssm::test::relative_error;
using ssm::test::same_bits;

namespace {

/// A stable system whose matrices are of the same numbers for every seed.
StateSpace<double> random_system(Index states, Index inputs, Index outputs, std::uint64_t seed) {
  Random random(seed);
  const auto draw = [&](Index rows, Index cols) {
    const auto tensor = random.normal<double>(std::array{rows, cols}, 0.5);
    return Eigen::MatrixXd(as_eigen(tensor.view()));
  };
  const Eigen::MatrixXd A = draw(states, states) - 2 * Eigen::MatrixXd::Identity(states, states);
  return {A, draw(states, inputs), draw(outputs, states), draw(outputs, inputs)};
}

/// Position of an underdamped mass that a constant force F moves from y0 and v0.
double position(const MassSpringDamper<double>& m, double y0, double v0, double F, double t) {
  const double rest = F / m.stiffness, decay = m.damping / (2 * m.mass);
  const double omega = std::sqrt(m.stiffness / m.mass - decay * decay);
  const double from_rest = y0 - rest;
  return rest + std::exp(-decay * t) * (from_rest * std::cos(omega * t) +
                                        (v0 + decay * from_rest) / omega * std::sin(omega * t));
}

}  // namespace

TEST_CASE("a sampled spring is where its closed form says, at the start or the end of each step") {
  const MassSpringDamper<double> model{1.5, 0.4, 20};
  const double delta = 0.05, force = 3;
  const auto system = zero_order_hold(state_space(model), delta);
  const Index length = 400;
  Tensor<double, 2> u({length, 1}), y({length, 1}), want({length, 1});
  u.fill(force);
  Tensor<double, 1> start({2});
  start(0) = 0.3;
  start(1) = -1;
  RecurrenceScratch<double> scratch;

  recurrence(cpu, system, {u, start}, {}, {y}, scratch);
  for (Index t = 0; t < length; ++t)
    want(t, 0) = position(model, 0.3, -1, force, delta * static_cast<double>(t));
  CHECK(relative_error(y, want) <= 1e-13);

  recurrence(cpu, system, {u, start}, {Readout::after}, {y}, scratch);
  for (Index t = 0; t < length; ++t)
    want(t, 0) = position(model, 0.3, -1, force, delta * static_cast<double>(t + 1));
  CHECK(relative_error(y, want) <= 1e-13);
}

TEST_CASE("a spring sampled at irregular times is where its closed form says") {
  const MassSpringDamper<double> model{1, 0.2, 9};
  const Index length = 300;
  Random random(1);
  Tensor<double, 1> delta({length}), start({2});
  start(0) = 1;
  Tensor<double, 2> u({length, 1}), y({length, 1}), want({length, 1});
  u.fill(2);
  double time = 0;
  for (Index t = 0; t < length; ++t) {
    delta(t) = random.uniform(0.001, 0.3);
    time += delta(t);
    want(t, 0) = position(model, 1, 0, 2, time);
  }
  DiscretizationCache cache(state_space(model), Discretization::zero_order_hold, 16);
  RecurrenceScratch<double> scratch;
  recurrence(cpu, cache, {u, start, delta}, {Readout::after}, {y}, scratch);
  CHECK(relative_error(y, want) <= 1e-13);
  CHECK(cache.size() <= 16);
}

TEST_CASE("equal steps of a varying recurrence are the uniform one, discretized once") {
  const auto system = random_system(5, 2, 3, 7);
  Random random(2);
  const auto u = random.normal<double>(std::array<Index, 2>{31, 2});
  Tensor<double, 1> delta({31});
  delta.fill(0.1);
  Tensor<double, 2> uniform({31, 3}), varying({31, 3});
  RecurrenceScratch<double> scratch;
  recurrence(cpu, bilinear(system, 0.1), {u}, {Readout::after}, {uniform}, scratch);
  DiscretizationCache cache(system, Discretization::bilinear);
  recurrence(cpu, cache, {u, {}, delta}, {Readout::after}, {varying}, scratch);
  CHECK(same_bits(uniform, varying));
  CHECK(cache.size() == 1);
}

TEST_CASE("a step size that is not positive is refused, though others are cached") {
  DiscretizationCache cache(random_system(2, 1, 1, 3));
  Tensor<double, 1> delta({3});
  Tensor<double, 2> u({3, 1}), y({3, 1});
  RecurrenceScratch<double> scratch;
  for (const double bad : {0., -0.1, std::numeric_limits<double>::quiet_NaN()}) {
    delta.fill(0.1);
    delta(1) = bad;
    CHECK_THROWS_AS(recurrence(cpu, cache, {u, {}, delta}, {Readout::after}, {y}, scratch),
                    DomainError);
  }
  CHECK(cache.size() == 1);
}

TEST_CASE("a recurrence split anywhere and resumed is the whole one, to the bit") {
  const auto system = zero_order_hold(random_system(4, 3, 2, 11), 0.2);
  Random random(3);
  const auto u = random.normal<double>(std::array<Index, 2>{37, 3});
  const auto start = random.normal<double>(std::array<Index, 1>{4});
  for (const auto readout : {Readout::after, Readout::before}) {
    Tensor<double, 2> whole({37, 2}), parts({37, 2});
    Tensor<double, 1> whole_end({4}), end({4});
    RecurrenceScratch<double> scratch;
    recurrence(cpu, system, {u, start}, {readout}, {whole, whole_end}, scratch);
    for (const Index split : {0, 1, 17, 37}) {
      recurrence(cpu, system, {u.view().slice(0, 0, split), start}, {readout},
                 {parts.view().slice(0, 0, split), end}, scratch);
      recurrence(cpu, system, {u.view().slice(0, split, 37 - split), end}, {readout},
                 {parts.view().slice(0, split, 37 - split), end}, scratch);
      CHECK(same_bits(parts, whole));
      CHECK(same_bits(end, whole_end));
    }
  }
}

TEST_CASE("a recurrence without steps hands its state through") {
  const auto system = zero_order_hold(random_system(3, 1, 1, 5), 0.2);
  const auto start = Random(4).normal<double>(std::array<Index, 1>{3});
  Tensor<double, 1> end({3});
  Tensor<double, 2> nothing({0, 1});
  RecurrenceScratch<double> scratch;
  recurrence(cpu, system, {nothing, start}, {Readout::after}, {nothing, end}, scratch);
  CHECK(same_bits(start, end));
}

TEST_CASE("steps of a fixed or a dynamic system are the whole sequence, and do not allocate") {
  const auto dynamic = zero_order_hold(random_system(3, 2, 1, 6), 0.1);
  const DiscreteStateSpace<double, 3, 2, 1> fixed(dynamic.A_bar(), dynamic.B_bar(), dynamic.C(),
                                                  dynamic.D(), dynamic.delta());
  Random random(5);
  const auto u = random.normal<double>(std::array<Index, 2>{20, 2});
  for (const auto readout : {Readout::after, Readout::before}) {
    Tensor<double, 2> want({20, 1}), by_fixed({20, 1}), by_dynamic({20, 1});
    RecurrenceScratch<double> scratch;
    RecurrenceStepScratch<double> step_scratch(dynamic);
    recurrence(cpu, dynamic, {u}, {readout}, {want}, scratch);

    Eigen::Vector2d input;
    Eigen::Vector3d x = Eigen::Vector3d::Zero();
    Tensor<double, 1> state({3});
    CHECK(allocations_of([&] {
            for (Index t = 0; t < 20; ++t) {
              input << u(t, 0), u(t, 1);
              by_fixed(t, 0) = recurrence_step(fixed, input, x, readout)(0);
              recurrence_step(dynamic, u.view()[t], state, by_dynamic.view()[t], step_scratch,
                              readout);
            }
          }) == 0);
    CHECK(relative_error(by_fixed, want) <= 1e-14);
    CHECK(same_bits(by_dynamic, want));
    static_assert(noexcept(recurrence_step(fixed, input, x, readout)));
    static_assert(noexcept(
        recurrence_step(dynamic, u.view()[0], state, by_dynamic.view()[0], step_scratch, readout)));
  }
}

TEST_CASE("a step of a dynamic system with another's scratch ends the program with a sentence") {
  const auto system = zero_order_hold(random_system(3, 2, 1, 6), 0.1);
  const auto step = [&](Index states) {
    return ssm::test::last_words([&] {
      RecurrenceStepScratch<double> scratch(zero_order_hold(random_system(2, 2, 1, 6), 0.1));
      if (states == 3) scratch = RecurrenceStepScratch<double>(system);
      const Tensor<double, 1> u({2});
      Tensor<double, 1> x({3}), y({1});
      recurrence_step(system, u, x, y, scratch);
    });
  };
  CHECK(step(3).empty());
  CHECK_THAT(step(2), ssm::test::contains("recurrence_step: scratch is 2 states, expected 3"));
}

TEST_CASE("fixed sizes discretize and run without any allocation") {
  const auto spring = state_space(MassSpringDamper<float>{1, 1, 1});
  CHECK(allocations_of([&] {
          for (const auto method : {Discretization::zero_order_hold, Discretization::bilinear,
                                    Discretization::forward_euler, Discretization::backward_euler})
            (void)discretize(method, spring, 0.1f);
        }) == 0);
}

TEST_CASE("a recurrence names the argument that does not fit") {
  const auto system = zero_order_hold(random_system(3, 2, 1, 6), 0.1);
  RecurrenceScratch<double> scratch;
  Tensor<double, 2> u({5, 2}), y({5, 2});
  const Tensor<double, 1> steps({5});
  Tensor<double, 2> fitting({5, 1});
  CHECK_THROWS_WITH(recurrence(cpu, system, {u, {}, steps}, {}, {fitting}, scratch),
                    "recurrence: delta is given, expected none: this system has its own");
  CHECK_THROWS_WITH(recurrence(cpu, system, {u}, {}, {y}, scratch),
                    "recurrence: y is (5, 2), expected (5, 1)");
  const Tensor<double, 1> start({2});
  CHECK_THROWS_WITH(recurrence(cpu, system, {u, start}, {}, {y}, scratch),
                    "recurrence: initial_state is (2), expected (3)");
}
