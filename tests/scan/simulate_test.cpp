#include "ssm/scan/simulate.hpp"

#include <cmath>
#include <limits>

#include "ssm/core/eigen.hpp"
#include "ssm/scan/simulate_varying.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/matrices.hpp"
#include "support/random.hpp"

using namespace ssm;
using namespace ssm::test;
using Eigen::MatrixXd;

namespace {

/// An oscillator of 3 rad/s with a damping ratio of 0.2, pushed by an acceleration.
StateSpace<double> oscillator() {
  MatrixXd A(2, 2), B(2, 1), C(1, 2), D(1, 1);
  A << 0, 1, -9, -1.2;
  B << 0, 1;
  C << 1, 0;
  D << .5;
  return {A, B, C, D};
}
constexpr double decay = .6;
const double swing = std::sqrt(9 - decay * decay);

/// The position that a unit step, or a unit impulse, of acceleration causes.
double step_position(double t) {
  return (1 - std::exp(-decay * t) * (std::cos(swing * t) + decay / swing * std::sin(swing * t))) /
         9;
}
double impulse_position(double t) { return std::exp(-decay * t) * std::sin(swing * t) / swing; }

Tensor<double, 1> irregular_times(Random& random, Index length) {
  Tensor<double, 1> time({length});
  for (Index t = 1; t < length; ++t) time(t) = time(t - 1) + random.uniform(.001, .4);
  return time;
}

}  // namespace

TEST_CASE("step, impulse and initial responses are their closed forms at irregular times") {
  Random random(1);
  const auto system = oscillator();
  const auto time = irregular_times(random, 200);
  Tensor<double, 3> y({200, 1, 1}), want({200, 1, 1});
  step_response(cpu, system, time, y);
  for (Index t = 0; t < 200; ++t) want(t, 0, 0) = step_position(time(t)) + .5;
  CHECK(relative_error(y, want) <= 1e-13);

  impulse_response(cpu, system, time, y);
  for (Index t = 0; t < 200; ++t) want(t, 0, 0) = impulse_position(time(t));
  CHECK(relative_error(y, want) <= 1e-13);

  Tensor<double, 2> free({200, 1}), decayed({200, 1});
  Tensor<double, 1> moving({2});
  moving(1) = 2;  // a velocity of 2 is what an impulse of 2 leaves
  initial_response(cpu, system, time, moving, free);
  for (Index t = 0; t < 200; ++t) decayed(t, 0) = 2 * impulse_position(time(t));
  CHECK(relative_error(free, decayed) <= 1e-13);
}

TEST_CASE("the response to several inputs is one column for each") {
  const auto system = published_system();
  Tensor<double, 1> time({5});
  for (Index t = 0; t < 5; ++t) time(t) = .1 * static_cast<double>(t);
  Tensor<double, 3> step({5, 2, 2}), impulse({5, 2, 2});
  step_response(cpu, system, time, step);
  impulse_response(cpu, system, time, impulse);
  CHECK(distance(as_eigen(step.view()[0]), system.D()) <= 1e-15);
  CHECK(distance(as_eigen(impulse.view()[0]), (system.C() * system.B()).eval()) <= 1e-15);
  for (Index t = 1; t < 5; ++t) {
    const auto held = zero_order_hold(system, time(t));
    const MatrixXd want = system.C() * held.B_bar() + system.D();
    const MatrixXd kick = system.C() * held.A_bar() * system.B();
    CHECK(distance(as_eigen(step.view()[t]), want) <= 1e-13);
    CHECK(distance(as_eigen(impulse.view()[t]), kick) <= 1e-13);
  }
}

TEST_CASE("a ramp and a sawtooth are met exactly when the input is held to first order") {
  // Position under the acceleration t is the integral of the step response
  const auto system = oscillator();
  Random random(2);
  const auto time = irregular_times(random, 150);
  Tensor<double, 2> u({150, 1}), y({150, 1}), want({150, 1});
  for (Index t = 0; t < 150; ++t) {
    u(t, 0) = time(t);
    const double s = time(t);
    const double sine = std::exp(-decay * s) * std::sin(swing * s) / swing;
    const double cosine = std::exp(-decay * s) * std::cos(swing * s);
    const double mean = 2 * decay / 9;
    want(t, 0) = (s - mean + mean * cosine + (mean * decay - 1) * sine) / 9 + .5 * s;
  }
  RecurrenceScratch<double> scratch;
  HoldCache cache(system, InputHold::first_order);
  simulate(cpu, cache, {time, u}, {}, {y}, scratch);
  CHECK(relative_error(y, want) <= 1e-13);
}

TEST_CASE("equal times are one step size, and the sampled system's recurrence") {
  Random random(3);
  const auto system = random_system(random, 4, 2, 3);
  const Index length = 3000;
  const auto u = random.normal<double>(std::array<Index, 2>{length, 2});
  const auto start = random.normal<double>(std::array<Index, 1>{4});
  Tensor<double, 1> time({length}), end({4}), uniform_end({4});
  for (Index t = 0; t < length; ++t) time(t) = 5 + .1 * static_cast<double>(t);
  Tensor<double, 2> y({length, 3}), uniform({length, 3}), want({length, 3});
  RecurrenceScratch<double> scratch;
  HoldCache cache(system);
  simulate(cpu, cache, {time, u, start}, {}, {y, end}, scratch);
  CHECK(cache.size() == 1);
  simulate(cpu, cache, {{}, u, start, .1}, {}, {uniform, uniform_end}, scratch);
  CHECK(relative_error(y, uniform) <= 1e-12);
  CHECK(relative_error(end, uniform_end) <= 1e-12);
  recurrence(cpu, zero_order_hold(system, .1), {u, start}, {}, {want}, scratch);
  CHECK(same_bits(uniform, want));

  // the same system by a first-order hold has another state and the same output
  HoldCache ramps(system, InputHold::first_order);
  const auto held = first_order_hold(system, .1);
  simulate(cpu, ramps, {{}, u, {}, .1}, {}, {uniform}, scratch);
  Tensor<double, 1> shifted({4});  // x − B_end u
  as_eigen(shifted.view()) = -ramp_step(system, .1).B_end * as_eigen(u.view()[0]);
  recurrence(cpu, held, {u, shifted}, {}, {want}, scratch);
  CHECK(relative_error(uniform, want) <= 1e-13);
}

TEST_CASE("steps that agree with a uniform grid are the uniform simulation, for either hold") {
  Random random(4);
  const auto system = random_system(random, 3, 1, 1);
  for (const auto hold : {InputHold::zero_order, InputHold::first_order}) {
    // every second sample lies between two equal ones, where the held input puts it
    const Index coarse = 40, fine = 79;
    Tensor<double, 2> u({coarse, 1}), between({fine, 1}), y({coarse, 1}), z({fine, 1});
    Tensor<double, 1> time({fine});
    for (Index t = 0; t < coarse; ++t) u(t, 0) = random.normal();
    for (Index t = 0; t < fine; ++t) {
      const double share = t % 2 == 0 ? 0 : .3;
      time(t) = .2 * (static_cast<double>(t / 2) + share);
      between(t, 0) = u(t / 2, 0);
      if (hold == InputHold::first_order && share > 0)
        between(t, 0) += share * (u(t / 2 + 1, 0) - u(t / 2, 0));
    }
    RecurrenceScratch<double> scratch;
    HoldCache cache(system, hold, 8);
    simulate(cpu, cache, {{}, u, {}, .2}, {}, {y}, scratch);
    simulate(cpu, cache, {time, between}, {}, {z}, scratch);
    for (Index t = 0; t < coarse; ++t) CHECK(std::abs(z(2 * t, 0) - y(t, 0)) <= 1e-13);
    CHECK(cache.size() <= 8);
  }
}

TEST_CASE("a simulation split at a sample and resumed is the whole one") {
  Random random(5);
  const auto system = random_system(random, 3, 2, 2);
  const auto time = irregular_times(random, 21);
  const auto u = random.normal<double>(std::array<Index, 2>{21, 2});
  Tensor<double, 2> whole({21, 2}), parts({21, 2});
  Tensor<double, 1> state({3}), end({3});
  RecurrenceScratch<double> scratch;
  HoldCache cache(system);
  simulate(cpu, cache, {time, u}, {}, {whole, end}, scratch);
  for (const Index split : {1, 10, 20}) {
    const auto piece = [&](Index begin, Index count, const View<const double, 1>& start) {
      simulate(cpu, cache,
               {time.view().slice(0, begin, count), u.view().slice(0, begin, count), start}, {},
               {parts.view().slice(0, begin, count), state}, scratch);
    };
    piece(0, split + 1, {});
    piece(split, 21 - split, state);
    CHECK(relative_error(parts, whole) <= 1e-14);
    CHECK(relative_error(state, end) <= 1e-14);
  }
}

TEST_CASE("matrices that do not vary give the exact simulation") {
  Random random(6);
  const auto system = random_system(random, 3, 2, 2);
  const auto time = irregular_times(random, 30);
  const auto u = random.normal<double>(std::array<Index, 2>{30, 2});
  const auto start = random.normal<double>(std::array<Index, 1>{3});
  RecurrenceScratch<double> scratch;
  Tensor<double, 2> y({30, 2}), want({30, 2});
  Tensor<double, 1> end({3}), want_end({3});
  HoldCache cache(system);
  simulate(cpu, cache, {time, u, start}, {}, {want, want_end}, scratch);
  simulate_varying(cpu, [&](double) { return system; }, {time, u, start}, {}, {y, end});
  CHECK(relative_error(y, want) <= 1e-13);
  CHECK(relative_error(end, want_end) <= 1e-13);
}

TEST_CASE("a varying system converges to its closed form with order four") {
  // Airy's equation x'' = t x: A at one time does not commute with A at another
  const auto airy = [](double t) {
    MatrixXd A(2, 2);
    A << 0, 1, t, 0;
    return StateSpace<double>(A, MatrixXd::Zero(2, 1), MatrixXd::Identity(2, 2),
                              MatrixXd::Zero(2, 1));
  };
  const auto error = [&](int substeps) {
    Tensor<double, 1> time({2}), start({2});
    time(1) = 2;
    start(0) = .35502805388781723926;  // Ai(0), Ai'(0)
    start(1) = -.25881940379280679841;
    Tensor<double, 2> y({2, 2});
    simulate_varying(cpu, airy, {time, {}, start}, {InputHold::zero_order, substeps}, {y});
    return std::abs(y(1, 0) - .034924130423274379135);  // Ai(2)
  };
  CHECK(error(200) <= 1e-10);
  CHECK(std::log2(error(8) / error(16)) == Approx(4).margin(.1));
}

TEST_CASE("a varying system takes its input between the samples, and C and D at them") {
  // x' = t u, y = t x + t² u, u from 1 to 3: x = ∫ t (1 + 2t) dt = t²/2 + 2t³/3
  const auto ramp = [](float t) {
    using One = Eigen::Matrix<float, 1, 1>;
    return StateSpace<float, 1, 1, 1>(One(0), One(t), One(t), One(t * t));
  };
  Tensor<float, 1> time({2}), end({1});
  Tensor<float, 2> u({2, 1}), y({2, 1});
  time(1) = 1;
  u(0, 0) = 1;
  u(1, 0) = 3;
  simulate_varying(cpu, ramp, {time, u}, {InputHold::first_order, 3}, {y, end});
  CHECK(std::abs(end(0) - 7.f / 6) <= 1e-6f);
  CHECK(std::abs(y(1, 0) - (7.f / 6 + 3)) <= 1e-6f);
  CHECK(y(0, 0) == 0);
}

TEST_CASE("without samples the state is handed through, and is zero when none is given") {
  const auto system = oscillator();
  const auto still = [&](double) { return system; };
  const Tensor<double, 1> none({0}), start = Random(7).normal<double>(std::array<Index, 1>{2});
  Tensor<double, 2> nothing({0, 1});
  Tensor<double, 1> end({2}), short_end({1});
  RecurrenceScratch<double> scratch;
  HoldCache cache(system);
  for (const bool given : {true, false}) {
    const View<const double, 1> from = given ? start.view() : View<const double, 1>{};
    Tensor<double, 1> want({2});
    if (given) want = start;
    end.fill(7);
    simulate(cpu, cache, {none, {}, from}, {}, {nothing, end}, scratch);
    CHECK(same_bits(end, want));
    end.fill(7);
    simulate_varying(cpu, still, {none, nothing, from}, {}, {nothing, end});
    CHECK(same_bits(end, want));
  }
  CHECK_THROWS_WITH(simulate_varying(cpu, still, {none, {}, start}, {}, {nothing, short_end}),
                    "simulate_varying: final_state is (1), expected (2)");
  Tensor<double, 2> one({1, 1});
  CHECK_THROWS_WITH(simulate_varying(cpu, still, {none, {}, start}, {}, {one, end}),
                    "simulate_varying: y is (1, 1), expected (0, 1)");
  CHECK_THROWS_AS(simulate_varying(cpu, still, {none, one, start}, {}, {nothing, end}), ShapeError);
}

TEST_CASE("a varying system that changes its sizes is refused") {
  const auto growing = [](double t) {
    const Index inputs = t > 1 ? 2 : 1, outputs = t > 2 ? 2 : 1;
    return StateSpace<double>(MatrixXd::Zero(1, 1), MatrixXd::Zero(1, inputs),
                              MatrixXd::Zero(outputs, 1));
  };
  Tensor<double, 1> time({2});
  Tensor<double, 2> y({2, 1});
  time(1) = 0.9;
  CHECK_NOTHROW(simulate_varying(cpu, growing, {time}, {}, {y}));
  for (const double last : {1.1, 2.1}) {
    time(1) = last;
    CHECK_THROWS_AS(simulate_varying(cpu, growing, {time}, {}, {y}), ShapeError);
  }
}

TEST_CASE("what cannot be simulated is refused by name") {
  const auto system = oscillator();
  Tensor<double, 1> time({3});
  Tensor<double, 2> u({3, 1}), y({3, 1});
  RecurrenceScratch<double> scratch;
  HoldCache cache(system);
  time(1) = 1;
  time(2) = 1;
  CHECK_THROWS_WITH(simulate(cpu, cache, {time, u}, {}, {y}, scratch),
                    "simulate: time 2 is 1 after 1, expected later");
  time(2) = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_AS(simulate(cpu, cache, {time, u}, {}, {y}, scratch), DomainError);
  time(2) = 2;
  Tensor<double, 2> wrong({3, 2});
  CHECK_THROWS_WITH(simulate(cpu, cache, {time, wrong}, {}, {y}, scratch),
                    "simulate: u is (3, 2), expected (3, 1)");
  CHECK_THROWS_AS(simulate_varying(cpu, [&](double) { return system; }, {time, u},
                                   {InputHold::zero_order, 0}, {y}),
                  DomainError);
  for (const double delta : {0., -1., std::numeric_limits<double>::quiet_NaN(),
                             std::numeric_limits<double>::infinity()}) {
    CHECK_THROWS_AS(simulate(cpu, cache, {{}, u, {}, delta}, {}, {y}, scratch), DomainError);
    CHECK_THROWS_AS(cache.at(delta), DomainError);
  }
  CHECK_THROWS_WITH(simulate(cpu, cache, {{}, u, {}, -1.}, {}, {y}, scratch),
                    "simulate: delta is -1, expected positive and finite");
  CHECK_THROWS_WITH(simulate(cpu, cache, {time, u, {}, .1}, {}, {y}, scratch),
                    "simulate: delta is given beside times, expected one of them");
  CHECK_THROWS_AS(DiscretizationCache<double>(system, Discretization::tustin), DomainError);
  Tensor<double, 1> none({0});
  Tensor<double, 2> nothing({0, 1});
  CHECK_NOTHROW(simulate(cpu, cache, {none, nothing}, {}, {nothing}, scratch));
}
