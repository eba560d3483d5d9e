#include <array>
#include <complex>

#include "ssm/layers/add_next.hpp"
#include "ssm/layers/add_readout.hpp"
#include "ssm/layers/feedthrough.hpp"
#include "ssm/layers/mimo_matrices.hpp"
#include "ssm/layers/sample_modes.hpp"
#include "ssm/scan/decay_gradient.hpp"
#include "ssm/scan/linear_scan.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/finite_difference.hpp"
#include "support/random.hpp"

using namespace ssm;
using test::Random;
using Complex = std::complex<double>;

namespace {

double real_dot(const Tensor<Complex, 2>& a, const Tensor<Complex, 2>& b) {
  double sum = 0;
  for (Index i = 0; i < a.size(); ++i) sum += (std::conj(a.data()[i]) * b.data()[i]).real();
  return sum;
}

Tensor<Index, 1> packed(const std::array<Index, 5>& ends) {
  Tensor<Index, 1> offsets({5});
  std::copy(ends.begin(), ends.end(), offsets.begin());
  return offsets;
}

}  // namespace

TEST_CASE("sample_modes has the gradients of finite differences by every output together") {
  for (const auto method : {Discretization::zero_order_hold, Discretization::bilinear})
    for (const Index dss_length : {0, 6}) {
      auto log_decay = Random(1).normal<double, 2>({3, 2}, 0.3);
      auto frequency = Random(2).normal<double, 2>({3, 2});
      auto log_delta = Random(3).normal<double, 1>({3}, 0.3, -1);
      auto B = Random(4).normal<Complex, 2>({3, 2});
      const SampleModesInputs<double> inputs{log_decay, frequency, log_delta, B};
      const SampleModesOptions options{1.5, method, dss_length};
      const auto by = [](std::uint64_t seed) { return Random(seed).normal<Complex, 2>({3, 2}); };
      const auto dlambda = by(5), dscaled = by(6), da_bar = by(7), db_bar = by(8);
      const auto ddelta = Random(9).normal<double, 1>({3});
      Tensor<Complex, 2> lambda({3, 2}), scaled({3, 2}), a_bar({3, 2}), b_bar({3, 2});
      Tensor<double, 1> delta({3});
      SampleModesScratch<double> scratch;
      const auto loss = [&] {
        sample_modes(cpu(1), inputs, options, {lambda, delta, scaled, a_bar, b_bar}, scratch);
        return real_dot(lambda, dlambda) + real_dot(scaled, dscaled) + real_dot(a_bar, da_bar) +
               real_dot(b_bar, db_bar) + test::dot(delta, ddelta);
      };
      loss();
      Tensor<double, 2> by_decay({3, 2}), by_frequency({3, 2});
      Tensor<double, 1> by_delta({3});
      Tensor<Complex, 2> by_B({3, 2});
      sample_modes_backward(cpu(1), inputs, options, {dlambda, ddelta, dscaled, da_bar, db_bar},
                            {by_decay, by_frequency, by_delta, by_B}, scratch);
      CHECK(test::gradient_error(loss, log_decay, by_decay) < 1e-8);
      CHECK(test::gradient_error(loss, frequency, by_frequency) < 1e-8);
      CHECK(test::gradient_error(loss, log_delta, by_delta) < 1e-8);
      CHECK(test::gradient_error(loss, B, by_B) < 1e-8);
    }
}

TEST_CASE("sample_modes refuses what it cannot do, and a backward pass of another call") {
  Tensor<double, 2> modes({3, 2}), fewer({2, 2});
  Tensor<double, 1> delta({3});
  Tensor<Complex, 2> lambda({3, 2});
  SampleModesScratch<double> scratch;
  const auto run = [&](const SampleModesOptions& options, const Tensor<double, 2>& frequency) {
    sample_modes(cpu(1), {modes, frequency, delta}, options, {.lambda = lambda}, scratch);
  };
  CHECK_THROWS_AS(
      sample_modes_backward(cpu(1), {modes, modes, delta}, {}, {}, {modes, modes, delta}, scratch),
      ShapeError);
  CHECK_THROWS_AS(run({}, fewer), ShapeError);
  CHECK_THROWS_AS(run({.rate = 0}, modes), DomainError);
  CHECK_THROWS_AS(run({.method = Discretization::tustin}, modes), DomainError);
  CHECK_THROWS_AS(run({.dss_length = -1}, modes), DomainError);
  modes.fill(-1e4);
  CHECK_NOTHROW(run({}, modes));
  CHECK_THROWS_AS(run({.dss_length = 2}, modes), DomainError);
}

TEST_CASE("add_next adds the step after, within each sequence, and its backward is its transpose") {
  const auto offsets = packed({0, 3, 3, 4, 9});
  const auto x = Random(1).normal<double, 3>({1, 9, 2}),
             dy = Random(2).normal<double, 3>({1, 9, 2});
  for (const bool reversed : {false, true}) {
    const AddNextInputs<double> inputs{x, {offsets, reversed}};
    Tensor<double, 3> y(x.extents()), dx(x.extents());
    dx.fill(7);
    AddNextScratch<double> scratch;
    add_next(cpu(2), inputs, {}, {y}, scratch);
    CHECK(y(0, 0, 1) == (reversed ? 0 : x(0, 1, 1)));
    CHECK(y(0, 2, 1) == (reversed ? x(0, 1, 1) : 0));
    CHECK(y(0, 3, 0) == 0);
    CHECK(y(0, 8, 0) == (reversed ? x(0, 7, 0) : 0));
    add_next_backward(cpu(2), inputs, {}, {dy}, {dx}, scratch);
    CHECK(test::dot(y, dy) == Approx(test::dot(x, dx)).epsilon(1e-13));
  }
}

TEST_CASE("add_readout adds to every last step what its state gives, with its gradients") {
  const auto offsets = packed({0, 3, 3, 4, 9});
  auto C = Random(1).normal<Complex, 2>({2, 3});
  auto x = Random(2).normal<Complex, 3>({4, 2, 3});
  const auto dy = Random(3).normal<double, 3>({1, 9, 2});
  AddReadoutScratch<double> scratch;
  for (const bool reversed : {false, true}) {
    const AddReadoutInputs<double> inputs{C, x, {offsets, reversed}};
    const auto loss = [&] {
      Tensor<double, 3> y({1, 9, 2});
      add_readout(cpu(2), inputs, {}, {y}, scratch);
      return test::dot(y, dy);
    };
    Tensor<double, 3> y({1, 9, 2}), want(y.extents());
    add_readout(cpu(2), inputs, {}, {y}, scratch);
    for (const auto& [s, t] :
         {std::pair<Index, Index>{0, reversed ? 0 : 2}, {2, 3}, {3, reversed ? 4 : 8}})
      for (Index c = 0; c < 2; ++c)
        for (Index n = 0; n < 3; ++n) want(0, t, c) += 2 * (C(c, n) * x(s, c, n)).real();
    CHECK(test::relative_error(y, want) < 1e-14);
    Tensor<Complex, 2> dC(C.extents()), none(C.extents());
    Tensor<Complex, 3> dx(x.extents());
    add_readout_backward(cpu(2), inputs, {}, {dy}, {dC, dx}, scratch);
    CHECK(test::gradient_error(loss, C, dC) < 1e-8);
    CHECK(test::gradient_error(loss, x, dx) < 1e-8);
    add_readout_backward(cpu(1), {C, {}, {offsets, reversed}}, {}, {dy}, {none, dx}, scratch);
    CHECK(none(1, 2) == 0.0);
  }
  Tensor<double, 3> y({1, 9, 2}), wide({1, 9, 3});
  CHECK_THROWS_WITH(add_readout(cpu(1), AddReadoutInputs<double>{C, x}, {}, {y}, scratch),
                    "add_readout: x is (4, 2, 3), expected (1, 2, 3)");
  CHECK_THROWS_WITH(
      add_readout(cpu(1), AddReadoutInputs<double>{C, x, {offsets}}, {}, {wide}, scratch),
      "add_readout: y is (1, 9, 3), expected (1, 9, 2)");
}

TEST_CASE("feedthrough adds D u, with its gradients") {
  auto u = Random(1).normal<double, 2>({200, 3});
  auto D = Random(2).normal<double, 1>({3});
  const auto dy = Random(3).normal<double, 2>({200, 3}),
             start = Random(4).normal<double, 2>({200, 3});
  FeedthroughScratch<double> scratch;
  const auto loss = [&] {
    auto y = start;
    feedthrough(cpu(1), {u, D}, {}, {y}, scratch);
    return test::dot(y, dy);
  };
  Tensor<double, 2> du(u.extents());
  Tensor<double, 1> dD({3});
  feedthrough_backward(cpu(2), {u, D}, {}, {dy}, {du, dD}, scratch);
  CHECK(test::gradient_error(loss, u, du) < 1e-8);
  CHECK(test::gradient_error(loss, D, dD) < 1e-8);
}

TEST_CASE("the gradient of a constant decay is the sum of those of every step") {
  const auto offsets = packed({0, 90, 90, 91, 300});
  const auto x0 = Random(1).normal<Complex, 2>({4, 5});
  const auto b = Random(2).normal<Complex, 3>({1, 300, 5});
  const auto dx = Random(3).normal<Complex, 3>({1, 300, 5});
  Tensor<Complex, 1> a({5});
  for (Index n = 0; n < 5; ++n) a(n) = std::polar(0.9, static_cast<double>(n));
  for (const bool reversed : {false, true})
    for (const bool stateful : {false, true}) {
      const Sequences<> sequences{offsets, reversed};
      const View<const Complex, 2> initial = stateful ? x0.view() : View<const Complex, 2>();
      const LinearScanInputs<Complex> inputs{
          {a.data(), b.extents(), {0, 0, 1}}, b, initial, sequences};
      Tensor<Complex, 3> x(b.extents()), g(b.extents()), each(b.extents());
      LinearScanScratch<Complex> scan;
      linear_scan(cpu(1), inputs, {}, {x, {}}, scan);
      linear_scan_backward(cpu(1), inputs, {}, {dx, {}}, {each, g, {}}, scan);
      Tensor<Complex, 1> got({5}), want({5});
      DecayGradientScratch<double> scratch;
      decay_gradient(cpu(2), {g, x, initial, sequences}, {}, {got}, scratch);
      for (Index t = 0; t < 300; ++t)
        for (Index n = 0; n < 5; ++n) want(n) += each(0, t, n);
      CHECK(test::relative_error(got, want) < 1e-13);
    }
}

TEST_CASE("the matrices of a system with many inputs and outputs have their gradients") {
  auto factor = Random(1).normal<Complex, 2>({4, 1});
  auto B = Random(2).normal<double, 3>({4, 2, 3}), C = Random(3).normal<double, 3>({3, 4, 2});
  const auto dB_bar = Random(4).normal<double, 3>(B.extents());
  const auto drows = Random(5).normal<double, 2>({3, 8});
  InputMatrixScratch<double> in;
  OutputMatrixScratch<double> out;
  const auto vector = [](auto& column) {
    using K = std::remove_reference_t<decltype(*column.data())>;
    return View<K, 1>(column.data(), {column.extent(0)});
  };
  const auto loss = [&] {
    Tensor<double, 3> B_bar(B.extents());
    Tensor<double, 2> rows({3, 8});
    input_matrix(cpu(1), {vector(factor), B}, {}, {B_bar}, in);
    output_matrix(cpu(1), {C}, {}, {rows}, out);
    return test::dot(B_bar, dB_bar) + test::dot(rows, drows);
  };
  Tensor<Complex, 2> dfactor({4, 1});
  Tensor<double, 3> dB = dB_bar, dC(C.extents());
  input_matrix_backward(cpu(1), {vector(factor), B}, {}, {dB}, {vector(dfactor), dB}, in);
  output_matrix_backward(cpu(1), {C}, {}, {drows}, {dC}, out);
  CHECK(test::gradient_error(loss, factor, dfactor) < 1e-8);
  CHECK(test::gradient_error(loss, B, dB) < 1e-8);
  CHECK(test::gradient_error(loss, C, dC) < 1e-8);
}
