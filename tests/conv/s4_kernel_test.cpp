#include "ssm/conv/s4_kernel.hpp"

#include <cmath>
#include <complex>
#include <limits>
#include <numbers>
#include <utility>
#include <vector>

#include "ssm/system/dplr.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/count_allocations.hpp"
#include "support/finite_difference.hpp"
#include "support/random.hpp"

namespace s4_kernel_test {

using namespace ssm;
using ssm::test::Random;
using ssm::test::relative_error;
using ssm::test::same_bits;

namespace {

using Complex = std::complex<double>;
using Vector = Eigen::VectorXcd;

/// Channels of one HiPPO system or, without one, of random modes and a random P; each its own C.
template <class T>
struct Problem {
  Tensor<std::complex<T>, 2> lambda, B, C;
  Tensor<std::complex<T>, 3> P;
  Tensor<T, 1> delta;

  Problem(const Dplr<double>& form, Index channels, double step) {
    const Index modes = form.lambda.size(), rank = form.P.cols();
    Random random(1);
    C = random.normal<std::complex<T>>(std::array{channels, modes});
    lambda = B = C;
    P.resize({channels, modes, rank});
    delta.resize({channels});
    for (Index c = 0; c < channels; ++c) {
      delta(c) = static_cast<T>(step * static_cast<double>(1 + c));
      for (Index n = 0; n < modes; ++n) {
        lambda(c, n) = std::complex<T>(form.lambda(n));
        B(c, n) = std::complex<T>(form.B(n));
        for (Index a = 0; a < rank; ++a) P(c, n, a) = std::complex<T>(form.P(n, a));
      }
    }
  }
  [[nodiscard]] S4KernelInputs<T> inputs() const { return {lambda, P, B, C, delta}; }

  [[nodiscard]] DplrStep<double> step(Index c) const {
    const Index modes = lambda.extent(1), rank = P.extent(2);
    Vector l(modes), b(modes);
    Eigen::MatrixXcd p(modes, rank);
    for (Index n = 0; n < modes; ++n) {
      l(n) = Complex(lambda(c, n));
      b(n) = Complex(B(c, n));
      for (Index a = 0; a < rank; ++a) p(n, a) = Complex(P(c, n, a));
    }
    return {l, p, b, static_cast<double>(delta(c))};
  }
  [[nodiscard]] Vector output(Index c) const {
    Vector out(C.extent(1));
    for (Index n = 0; n < out.size(); ++n) out(n) = Complex(C(c, n));
    return out;
  }
  /// The same with C̃ for this length.
  [[nodiscard]] Problem truncated(Index length) const {
    Problem result = *this;
    for (Index c = 0; c < C.extent(0); ++c) {
      const Vector out = s4_truncate(step(c), output(c), length);
      for (Index n = 0; n < out.size(); ++n) result.C(c, n) = std::complex<T>(out(n));
    }
    return result;
  }
};

Dplr<double> random_form(Index modes, Index rank) {
  Random random(5);
  Dplr<double> form;
  form.lambda.resize(modes);
  form.B.resize(modes);
  form.P.resize(modes, rank);
  for (Index n = 0; n < modes; ++n) {
    form.lambda(n) = {-random.uniform(0.1, 1), 3.0 * static_cast<double>(n)};
    form.B(n) = {random.normal(), random.normal()};
    for (Index a = 0; a < rank; ++a) form.P(n, a) = {random.normal(), random.normal()};
  }
  return form;
}

template <class T>
Tensor<T, 2> kernel(const Problem<T>& problem, Index length, int threads = 1) {
  Tensor<T, 2> K({problem.lambda.extent(0), length});
  S4KernelScratch<T> scratch;
  s4_kernel(cpu(threads), problem.inputs(), {}, {K}, scratch);
  return K;
}

/// y of h_t = A_bar h_{t−1} + B_bar u_t, y = 2 Re(C h), for an impulse.
template <class T>
Tensor<double, 2> impulse_response(const Problem<T>& problem, Index length) {
  const Index channels = problem.lambda.extent(0);
  Tensor<double, 2> K({channels, length});
  for (Index c = 0; c < channels; ++c) {
    const auto step = problem.step(c);
    const Vector C = problem.output(c);
    Vector h = Vector::Zero(C.size());
    for (Index t = 0; t < length; ++t) {
      step(t == 0 ? 1 : 0, h.data());
      for (Index n = 0; n < h.size(); ++n) K(c, t) += 2 * (C(n) * h(n)).real();
    }
  }
  return K;
}

/// The kernel by the formula from nodes j = 0..L/2: pairs of z and 2/(1 + ω). C is C̃.
template <class Nodes>
Tensor<double, 2> kernel_of_nodes(const Problem<double>& p, Index length, const Nodes& nodes) {
  std::vector<Complex> spectrum(static_cast<std::size_t>(length / 2 + 1));
  Complex sum_CB = 0;
  for (Index n = 0; n < p.C.extent(1); ++n) sum_CB += 2 * (p.C(0, n) * p.B(0, n)).real();
  for (Index j = 0; j < length / 2; ++j) {
    const auto [z, factor] = nodes(j);
    const auto cauchy = [&, z = z](const auto& weight) {
      Complex sum = 0;
      for (Index n = 0; n < p.C.extent(1); ++n)
        sum += weight(n) / (z - p.lambda(0, n)) +
               std::conj(weight(n)) / (z - std::conj(p.lambda(0, n)));
      return sum;
    };
    const Complex r00 = cauchy([&](Index n) { return p.C(0, n) * p.B(0, n); });
    const Complex r01 = cauchy([&](Index n) { return p.C(0, n) * p.P(0, n, 0); });
    const Complex r10 = cauchy([&](Index n) { return std::conj(p.P(0, n, 0)) * p.B(0, n); });
    const Complex r11 = cauchy([&](Index n) { return Complex(std::norm(p.P(0, n, 0))); });
    spectrum[static_cast<std::size_t>(j)] = factor * (r00 - r01 * r10 / (1.0 + r11));
  }
  spectrum.back() = p.delta(0) / 2 * sum_CB;
  Tensor<double, 2> K({1, length});
  RealFft<double>().inverse(length, spectrum.data(), K.data());
  return K;
}

template <class T>
struct Gradients {
  Tensor<std::complex<T>, 2> lambda, B, C;
  Tensor<std::complex<T>, 3> P;
  Tensor<T, 1> delta;
};

template <class T>
Gradients<T> backward(const Problem<T>& p, const Tensor<T, 2>& dK, int threads = 1) {
  Gradients<T> out{p.lambda, p.B, p.C, p.P, p.delta};
  S4KernelScratch<T> scratch;
  s4_kernel_backward(cpu(threads), p.inputs(), {}, {dK},
                     {out.lambda, out.P, out.B, out.C, out.delta}, scratch);
  return out;
}

}  // namespace

TEST_CASE("the DPLR step is the bilinear step of the dense system") {
  for (const Hippo measure : {Hippo::legs, Hippo::legt, Hippo::fourier_diagonal}) {
    const Index state = 12;
    const auto form = hippo_dplr<double>(measure, state);
    const auto dense = hippo<double>(measure, state);
    const DplrStep<double> step(form.lambda, form.P, form.B, 0.05);
    Random random(3);
    Vector h(state / 2);
    for (Complex& value : h) value = {random.normal(), random.normal()};
    for (int t = 0; t < 20; ++t) {
      const double u = random.normal();
      const Eigen::VectorXd x = 2 * (form.V * h).real();
      step(u, h.data());
      const Eigen::VectorXd next = 2 * (form.V * h).real();
      // (I − Δ/2 A) x⁺ = (I + Δ/2 A) x + Δ B u
      const Eigen::VectorXd rest =
          next - x - 0.025 * (dense.A() * (next + x)) - 0.05 * u * dense.B();
      CHECK(rest.norm() <= 1e-13 * x.norm());
    }
  }
}

TEMPLATE_TEST_CASE("an S4 kernel is the impulse response of its recurrence", "", float, double) {
  const double epsilon = std::numeric_limits<TestType>::epsilon();
  const Dplr<double> forms[]{
      hippo_dplr<double>(Hippo::legs, 64), hippo_dplr<double>(Hippo::legt, 16),
      hippo_dplr<double>(Hippo::fourier_diagonal, 8), random_form(3, 3), random_form(1, 1)};
  for (const auto& form : forms)
    for (const Index length : {0, 1, 2, 3, 8, 63, 64, 99, 1000}) {
      CAPTURE(form.lambda.size(), form.P.cols(), length);
      const Problem<TestType> problem(form, 2, 0.01);
      const auto got = kernel(problem.truncated(length), length);
      // C̃ is rounded to T, and lends its error to all of the kernel.
      CHECK(relative_error(got, impulse_response(problem, length)) <=
            100 * epsilon + 1e-13 * static_cast<double>(length));
    }
}

TEST_CASE("an S4 kernel of sixteen thousand steps is as good as a short one") {
  const Problem<double> problem(hippo_dplr<double>(Hippo::legs, 64), 1, 1e-3);
  const auto got = kernel(problem.truncated(16384), 16384);
  CHECK(relative_error(got, impulse_response(problem, 16384)) <= 1e-10);
}

TEST_CASE("nodes in float cost a kernel its digits, powers of a float root most of them") {
  constexpr Index length = 16384;
  const Problem<double> problem(hippo_dplr<double>(Hippo::legs, 64), 1, 1e-3);
  const auto truncated = problem.truncated(length);
  const auto want = impulse_response(problem, length);
  // z and 2/(1 + ω) in double, then as floats, then from ω_j = ω_{j−1} ω_1 in float.
  const auto exact = [&](Index j) {
    const double t = std::tan(std::numbers::pi * static_cast<double>(j) / length);
    return std::pair(Complex(0, 2 * t / problem.delta(0)), Complex(1, t));
  };
  const auto cast = [&](Index j) {
    const auto [z, factor] = exact(j);
    return std::pair(Complex(std::complex<float>(z)), Complex(std::complex<float>(factor)));
  };
  std::complex<float> power = 1;
  const auto root = std::polar(1.0f, static_cast<float>(-2 * std::numbers::pi / length));
  const auto powers = [&](Index) {
    const Complex omega(power);
    power *= root;
    return std::pair(2 / problem.delta(0) * (1.0 - omega) / (1.0 + omega), 2.0 / (1.0 + omega));
  };
  CHECK(relative_error(kernel_of_nodes(truncated, length, exact), want) <= 1e-10);
  const double of_cast = relative_error(kernel_of_nodes(truncated, length, cast), want);
  const double of_powers = relative_error(kernel_of_nodes(truncated, length, powers), want);
  CAPTURE(of_cast, of_powers);
  CHECK(of_cast <= 3e-5);
  CHECK(of_powers >= 1000 * of_cast);
  CHECK(of_powers <= 3.6e-3);
}

TEST_CASE("without truncation the kernel wraps around, by a fifth for some outputs") {
  const Problem<double> problem(hippo_dplr<double>(Hippo::legs, 64), 8, 1e-3);
  Problem<double> same_step = problem;
  same_step.delta.fill(1e-3);
  const auto want = impulse_response(same_step, 1024);
  CHECK(relative_error(kernel(same_step, 1024), want) == Approx(0.19).margin(0.15));
  CHECK(relative_error(kernel(same_step.truncated(1024), 1024), want) <= 1e-11);
}

TEST_CASE("a truncated output is doubled in length by one more power") {
  const Problem<double> problem(hippo_dplr<double>(Hippo::legs, 32), 1, 1e-2);
  const auto step = problem.step(0);
  for (const Index length : {1, 7, 64, 500}) {
    const Vector once = s4_truncate(step, problem.output(0), length);
    const Vector twice = s4_truncate(step, problem.output(0), 2 * length);
    CHECK((s4_truncate(step, once, length, 1.0) - twice).norm() <= 1e-12 * twice.norm());
    const Vector again = s4_untruncate(step, once, length);
    CHECK((again - problem.output(0)).norm() <= 1e-12 * again.norm());
  }
  CHECK(s4_truncate(step, problem.output(0), 0).norm() == 0);
}

TEST_CASE("the gradients of the S4 kernel are its finite differences") {
  for (const Index rank : {0, 1, 2})
    for (const Index length : {1, 2, 9, 16}) {
      CAPTURE(rank, length);
      Problem<double> problem(random_form(3, rank), 2, 0.2);
      const auto dK = Random(2).normal<double>(std::array{Index(2), length});
      const auto gradients = backward(problem, dK);
      const auto loss = [&] { return ssm::test::dot(kernel(problem, length), dK); };
      const auto check = [&](auto& at, const auto& gradient) {
        CHECK(ssm::test::gradient_error(loss, at, gradient) <= 1e-8);
      };
      check(problem.lambda, gradients.lambda);
      check(problem.B, gradients.B);
      check(problem.C, gradients.C);
      check(problem.P, gradients.P);
      CHECK(ssm::test::gradient_error(loss, problem.delta, gradients.delta) <= 1e-7);
    }
}

TEST_CASE("S4 kernels have the same bits for every number of threads") {
  const Problem<float> problem(random_form(5, 1), 5, 0.01);
  const auto one = kernel(problem, 333);
  const auto back = backward(problem, one);
  for (const int threads : {2, 3}) {
    CHECK(same_bits(one, kernel(problem, 333, threads)));
    const auto many = backward(problem, one, threads);
    CHECK(same_bits(back.P, many.P));
    CHECK(same_bits(back.delta, many.delta));
  }
}

TEST_CASE("an S4 kernel allocates on its first call only") {
  const Problem<float> problem(random_form(5, 2), 3, 0.01);
  auto gradient = problem;
  Tensor<float, 2> K({3, 100});
  S4KernelScratch<float> scratch;
  const auto both = [&] {
    s4_kernel(cpu(1), problem.inputs(), {}, {K}, scratch);
    s4_kernel_backward(cpu(1), problem.inputs(), {}, {K},
                       {gradient.lambda, gradient.P, gradient.B, gradient.C, gradient.delta},
                       scratch);
  };
  CHECK(ssm::test::allocations_of(both) > 0);
  CHECK(ssm::test::allocations_of(both) == 0);
}

TEST_CASE("an empty S4 kernel has gradients of zero, and a NaN stays in its channel") {
  Problem<double> problem(random_form(2, 1), 3, 0.1);
  CHECK(relative_error(backward(problem, Tensor<double, 2>({3, 0})).lambda,
                       Tensor<Complex, 2>({3, 2})) == 0);
  problem.C(1, 0) = std::numeric_limits<double>::quiet_NaN();
  const auto K = kernel(problem, 10);
  for (Index c = 0; c < 3; ++c) CHECK(std::isnan(K(c, 4)) == (c == 1));
}

TEST_CASE("the S4 kernel names the argument that does not fit") {
  Problem<double> problem(random_form(3, 1), 2, 0.1);
  S4KernelScratch<double> scratch;
  Tensor<double, 2> K({2, 9}), wrong({3, 9});
  CHECK_THROWS_WITH(s4_kernel(cpu, problem.inputs(), {}, {wrong}, scratch),
                    "s4_kernel: kernel is (3, 9), expected (2, 9)");
  problem.P.resize({2, 2, 1});
  CHECK_THROWS_WITH(s4_kernel(cpu, problem.inputs(), {}, {K}, scratch),
                    "s4_kernel: P is (2, 2, 1), expected (2, 3, 1)");
  CHECK_THROWS_WITH(
      DplrStep<double>(Vector::Ones(2), Eigen::MatrixXcd::Ones(2, 1), Vector::Ones(2), 0.0),
      "DplrStep: delta is 0, expected positive and finite");
  CHECK_THROWS_AS(DplrStep<double>(Vector::Ones(2), Eigen::MatrixXcd::Ones(2, 1), Vector::Ones(2),
                                   std::numeric_limits<double>::infinity()),
                  DomainError);
}

TEST_CASE("the S4 kernel refuses a length that has no transform, and memory that it would spoil") {
  Problem<double> problem(random_form(3, 1), 1, 0.1);
  S4KernelScratch<double> scratch;
  double one = 1;
  const auto of_length = [&](Index length) {
    s4_kernel(cpu, problem.inputs(), {}, {View<double, 2>(&one, {1, length})}, scratch);
  };
  CHECK_THROWS_WITH(of_length(Index{1} << 29),
                    "s4_kernel: the length of the kernel is 536870912, expected at most 536870911, "
                    "the longest transform");
  CHECK_THROWS_WITH(of_length(1009),
                    "s4_kernel: the length of the kernel is 1009, which has a prime factor above "
                    "50, expected a length of small factors, such as 1024");
  CHECK(scratch.threads.empty());
  Tensor<double, 2> K({1, 9});
  CHECK_THROWS_WITH(s4_kernel(cpu, problem.inputs(), {}, {}, scratch),
                    "s4_kernel: kernel is absent, expected (channels, L)");
  CHECK_THROWS_WITH(s4_kernel_backward(cpu, problem.inputs(), {}, {K}, {problem.lambda}, scratch),
                    "s4_kernel_backward: gradient of lambda is in the memory of lambda, expected "
                    "memory of its own");
}

}  // namespace s4_kernel_test
