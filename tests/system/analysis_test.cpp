#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <vector>

#include "ssm/system/frequency_response.hpp"
#include "ssm/system/interconnection.hpp"
#include "ssm/system/mass_spring_damper.hpp"
#include "ssm/system/poles_zeros.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/random.hpp"

namespace analysis_test {

using namespace ssm;
using Complex = std::complex<double>;
using Eigen::MatrixXcd;
using Eigen::MatrixXd;
using Eigen::VectorXcd;
using Eigen::VectorXd;
using ssm::test::contains;

namespace {

MatrixXd random_matrix(ssm::test::Random& random, Index rows, Index cols) {
  MatrixXd matrix(rows, cols);
  for (Index i = 0; i < matrix.size(); ++i) matrix.data()[i] = random.normal();
  return matrix;
}

StateSpace<double> random_system(ssm::test::Random& random, Index n, Index m, Index p) {
  return {random_matrix(random, n, n), random_matrix(random, n, m), random_matrix(random, p, n),
          random_matrix(random, p, m)};
}

DiscreteStateSpace<double> sampled(const StateSpace<double>& system) {
  return {system.A(), system.B(), system.C(), system.D(), 0.1};
}

VectorXd vector(std::initializer_list<double> values) {
  VectorXd result(static_cast<Index>(values.size()));
  std::copy(values.begin(), values.end(), result.begin());
  return result;
}

/// The largest distance of two sets of points relative to the point, each used once; infinite when
/// they differ in size.
double distance(const VectorXcd& got, const VectorXcd& want) {
  if (got.size() != want.size()) return std::numeric_limits<double>::infinity();
  std::vector<Complex> left(got.begin(), got.end());
  double worst = 0;
  for (const Complex& point : want) {
    const auto nearest = std::min_element(left.begin(), left.end(), [&](auto a, auto b) {
      return std::abs(a - point) < std::abs(b - point);
    });
    worst = ssm::test::worse(worst, std::abs(*nearest - point) / std::max(std::abs(point), 1e-3));
    left.erase(nearest);
  }
  return worst;
}

double error(const MatrixXcd& got, const MatrixXcd& want) {
  return (got - want).norm() / std::max(want.norm(), 1e-300);
}

StateSpace<double> published() {
  MatrixXd A(3, 3), B(3, 2), C(2, 3), D(2, 2);
  A << -3, 4, 2, -1, -3, 0, 2, 5, 3;
  B << 1, 4, -3, -3, -2, 1;
  C << 4, 2, -3, 1, 4, 3;
  D << -2, 4, 0, 1;
  return {A, B, C, D};
}

}  // namespace

TEST_CASE("poles have their published values, and other states have the same") {
  VectorXcd want(3);
  want << 3.34747678408874, Complex(-3.17373839204437, 1.47492908003839),
      Complex(-3.17373839204437, -1.47492908003839);
  CHECK(distance(poles(published()), want) <= 1e-14);

  ssm::test::Random random(1);
  for (const Index n : {1, 2, 4, 7}) {
    CAPTURE(n);
    const auto system = random_system(random, n, 2, 2);
    const MatrixXd T = random_matrix(random, n, n) + 3 * MatrixXd::Identity(n, n);
    const auto other = similarity_transform(system, T);
    CHECK(distance(poles(other), poles(system)) <= 1e-11);
    CHECK(distance(zeros(other), zeros(system)) <= 1e-10);
    CHECK(error(FrequencyResponse(other)(1.3), FrequencyResponse(system)(1.3)) <= 1e-12);
  }
  const auto stiff = poles(StateSpace<double>(
      vector({-1e-10, -1, -1e10}).asDiagonal().toDenseMatrix(), MatrixXd(3, 0), MatrixXd(0, 3)));
  CHECK(stiff == vector({-1e-10, -1, -1e10}).cast<Complex>());
}

TEST_CASE("at a zero the system matrix loses rank, and there are as many as its shape demands") {
  ssm::test::Random random(2);
  for (const Index n : {1, 2, 3, 6})
    for (const Index m : {1, 2, 3})
      for (const bool direct : {true, false}) {
        CAPTURE(n, m, direct);
        const auto drawn = random_system(random, n, m, m);
        const StateSpace<double> system(drawn.A(), drawn.B(), drawn.C(),
                                        direct ? drawn.D() : MatrixXd(MatrixXd::Zero(m, m)));
        const auto found = zeros(system);
        CHECK(found.size() == (direct ? n : std::max<Index>(n - m, 0)));
        for (const Complex& zero : found) {
          MatrixXcd matrix(n + m, n + m);
          matrix << system.A().cast<Complex>() - zero * MatrixXcd::Identity(n, n),
              system.B().cast<Complex>(), system.C().cast<Complex>(), system.D().cast<Complex>();
          const VectorXcd steps = matrix.colPivHouseholderQr().matrixQR().diagonal();
          CHECK(std::abs(steps(n + m - 1)) <= 1e-10 * matrix.norm());
        }
      }
}

TEST_CASE("zeros of tall, wide, hidden and degenerate systems") {
  ssm::test::Random random(3);
  CHECK(zeros(random_system(random, 4, 1, 2)).size() == 0);
  CHECK(zeros(random_system(random, 4, 3, 2)).size() == 0);

  // A mode that the input does not reach is a zero where inputs and outputs are as many.
  MatrixXd A(2, 2), B(2, 1), C(1, 2);
  A << -1, 0.5, 0, -7;
  B << 1, 0;
  C << 1, 2;
  CHECK(distance(zeros(StateSpace<double>(A, B, C)), vector({-7}).cast<Complex>()) <= 1e-14);
  CHECK(zeros(StateSpace<double>(A, B, MatrixXd::Identity(2, 2))).size() == 0);

  // Two transmission zeros that no single channel has:
  // G = [1/(s+1) 2/(s+3); 1/(s+1) 1/(s+1)], whose determinant vanishes at s = 1.
  const MatrixXd diagonal = vector({-1, -3, -1, -1}).asDiagonal();
  MatrixXd B4(4, 2), C4(2, 4);
  B4 << 1, 0, 0, 1, 1, 0, 0, 1;
  C4 << 1, 2, 0, 0, 0, 0, 1, 1;
  const auto plant = zeros(StateSpace<double>(diagonal, B4, C4, MatrixXd::Zero(2, 2)));
  CHECK(std::any_of(plant.begin(), plant.end(),
                    [](const Complex& zero) { return std::abs(zero - 1.0) <= 1e-13; }));
  CHECK(zeros(StateSpace<double>(MatrixXd(0, 0), MatrixXd(0, 1), MatrixXd(1, 0))).size() == 0);

  // Read after the step, a system has the factor z as well.
  const auto discrete = sampled(StateSpace<double>(A, B, C));
  CHECK(distance(zeros(discrete), vector({-7}).cast<Complex>()) <= 1e-14);
  CHECK(distance(zeros(discrete, Readout::after), vector({-7, 0}).cast<Complex>()) <= 1e-11);
  CHECK_THROWS_AS(zeros(StateSpace<double>(A * std::nan(""), B, C)), DomainError);
}

TEST_CASE("the frequency response is C (λI − A)⁻¹ B + D, its C part z times that when read after") {
  ssm::test::Random random(4);
  for (const Index n : {0, 1, 2, 5, 12}) {
    CAPTURE(n);
    const auto system = random_system(random, n, 2, 3);
    const FrequencyResponse response(system);
    const FrequencyResponse before(sampled(system)), after(sampled(system), Readout::after);
    const MatrixXcd A = system.A().cast<Complex>(), B = system.B().cast<Complex>();
    const MatrixXcd C = system.C().cast<Complex>(), D = system.D().cast<Complex>();
    const auto direct = [&](Complex s, Complex lead) -> MatrixXcd {
      const MatrixXcd resolvent = s * MatrixXcd::Identity(n, n) - A;
      return lead * C * resolvent.partialPivLu().solve(B) + D;
    };
    for (const double omega : {0.0, 0.1, 3.0, 1e5}) {
      CHECK(error(response(omega), direct(Complex(0, omega), 1)) <= 1e-12);
      const Complex z = std::polar(1.0, 0.1 * omega);
      CHECK(error(before(omega), direct(z, 1)) <= 1e-12);
      CHECK(error(after(omega), direct(z, z)) <= 1e-12);
    }
    for (const std::size_t count : {0u, 1u, 7u, 18u}) {
      std::vector<double> omegas(count);
      for (double& omega : omegas) omega = std::exp(2 * random.normal());
      const auto all = response(omegas), of_z = after(omegas);
      REQUIRE((all.size() == count && of_z.size() == count));
      for (std::size_t i = 0; i < count; ++i) {
        CHECK(error(all[i], response(omegas[i])) <= 1e-12);
        CHECK(error(of_z[i], after(omegas[i])) <= 1e-12);
      }
    }
    CHECK(error(dc_gain(system).cast<Complex>(), response(0)) <= 1e-11);
    CHECK(error(dc_gain(sampled(system)).cast<Complex>(), before(0)) <= 1e-11);
    CHECK(error(dc_gain(sampled(system)).cast<Complex>(), after(0)) <= 1e-11);
  }

  // The impulse response d, c b, c a b, … of one discrete mode, summed: d + b c / (1 − a).
  const auto one = [](double x) { return Eigen::Matrix<double, 1, 1>(x); };
  const DiscreteStateSpace mode(one(0.5), one(2), one(3), one(0.25), 0.2);
  CHECK(dc_gain(mode)(0) == Approx(12.25).epsilon(1e-15));
  static_assert(std::is_same_v<decltype(FrequencyResponse(mode)), FrequencyResponse<double, 1, 1>>);
}

TEST_CASE("a spring is damped as its constants say, sampled or not") {
  const MassSpringDamper<double> model{2, 3, 8};
  const auto spring = state_space(model);
  const auto modes = damping(spring);
  REQUIRE(modes.size() == 2);
  for (const auto& mode : modes) {
    CHECK(mode.natural_frequency == Approx(2).epsilon(1e-14));
    CHECK(mode.damping_ratio == Approx(3. / 8).epsilon(1e-14));
    CHECK(mode.time_constant == Approx(4. / 3).epsilon(1e-14));
  }
  const double h = 0.1;
  const Complex z = std::exp(h * modes[0].pole);
  Eigen::Matrix2d A;
  A << z.real(), z.imag(), -z.imag(), z.real();
  const auto again = damping(DiscreteStateSpace(A, Eigen::Vector2d(1, 0), Eigen::RowVector2d(1, 0),
                                                Eigen::Matrix<double, 1, 1>(0.0), h));
  CHECK(again[0].natural_frequency == Approx(2).epsilon(1e-13));
  CHECK(again[0].damping_ratio == Approx(3. / 8).epsilon(1e-13));
  CHECK(again[1].time_constant == Approx(4. / 3).epsilon(1e-13));
  CHECK(std::abs(dc_gain(spring)(0) - 1. / 8) <= 1e-16);
}

TEST_CASE("stable means inside, not on the edge") {
  const auto with = [](double a, double b, double c, double d) {
    MatrixXd A(2, 2);
    A << a, b, c, d;
    return StateSpace<double>(A, MatrixXd(2, 0), MatrixXd(0, 2));
  };
  CHECK(is_stable(with(-1, 5, 0, -1e-12)));
  CHECK_FALSE(is_stable(with(0, 1, 0, 0)));
  CHECK_FALSE(is_stable(with(0, 1, -1, 0)));
  CHECK_FALSE(is_stable(with(-1, -1, -1, -1)));
  CHECK_FALSE(is_stable(published()));
  CHECK(is_stable(sampled(with(0, 0.9, -0.9, 0))));
  CHECK_FALSE(is_stable(sampled(with(0, 1, -1, 0))));
  CHECK_THROWS_AS(is_stable(with(std::nan(""), 0, 0, 0)), DomainError);
  MatrixXd A(2, 2);
  A << 0, 1, 0, 0;
  const StateSpace<double> integrator(A, MatrixXd::Ones(2, 1), MatrixXd::Ones(1, 2));
  CHECK(dc_gain(integrator)(0) == std::numeric_limits<double>::infinity());
}

TEST_CASE("a float system comes out in float") {
  const StateSpace<float> system(published().A().cast<float>(), published().B().cast<float>(),
                                 published().C().cast<float>(), published().D().cast<float>());
  CHECK(std::abs(FrequencyResponse(system)(2.0f)(0, 1) -
                 std::complex<float>(FrequencyResponse(published())(2.0)(0, 1))) <= 1e-5f);

  // A slow mode at a low frequency, where a rounded e^{iωΔ} would cost all digits.
  const auto one = [](float x) { return Eigen::Matrix<float, 1, 1>(x); };
  const DiscreteStateSpace integrator(one(1), one(1), one(1), one(0), 0.5f);
  const float omega = 0x1p-20f;
  CHECK(std::abs(FrequencyResponse(integrator)(omega)(0) * omega / 2.0f +
                 std::complex<float>(omega / 4, 1)) <= 4e-7f);
}

TEST_CASE("the smallest number is a pole, and what is not finite is refused as that") {
  const auto one = [](double x) { return MatrixXd::Constant(1, 1, x); };
  const double least = std::numeric_limits<double>::denorm_min();
  const StateSpace<double> slow(one(-least), one(1), one(1)), lag(one(-1), one(1), one(1));
  CHECK(poles(slow)(0) == -least);
  CHECK(std::isinf(dc_gain(slow)(0)));
  const double nan = std::nan("");
  CHECK_THROWS_WITH(feedback(StateSpace<double>(one(-1), one(1), one(1), one(nan)), lag),
                    "feedback: a system is not finite, expected finite");
  CHECK_THROWS_WITH(similarity_transform(lag, one(nan)),
                    "similarity_transform: T is not finite, expected finite");
  CHECK_THROWS_WITH(similarity_transform(lag, one(0)),
                    "similarity_transform: T is singular, expected invertible");
}

TEST_CASE("a zero is found however far beyond the poles a small D sends it") {
  const MatrixXd one = MatrixXd::Ones(1, 1);
  MatrixXd A(2, 2), B(2, 1), C(1, 2);
  A << 0, 1, -1, -1;
  B << 0, 1;
  for (const double d : {1e-3, 1e-10, 1e-16, 1e-18, 1e-30, 1e-200}) {
    CAPTURE(d);
    // 1/(s + 1) + d
    const VectorXcd single = zeros(StateSpace<double>(-one, one, one, d * one));
    REQUIRE(single.size() == 1);
    CHECK(std::abs(single(0) * d + (1 + d)) <= 1e-14);
    // (s + 1)/(s² + s + 1) + d: near −1 and −1/d
    C << 1, 1;
    const VectorXcd two = zeros(StateSpace<double>(A, B, C, d * one));
    REQUIRE(two.size() == 2);
    const double near_one = (std::min)(std::abs(two(0)), std::abs(two(1)));
    CHECK(std::abs(near_one - 1) <= 2 * d + 1e-14);
    CHECK(std::abs(two(0) * two(1) * d - (1 + d)) <= 1e-13);
    // 1/(s² + s + 1) + d: a pair of real part −1/2
    C << 1, 0;
    const VectorXcd pair = zeros(StateSpace<double>(A, B, C, d * one));
    REQUIRE(pair.size() == 2);
    CHECK(pair(0) == std::conj(pair(1)));
    CHECK(std::abs(std::norm(pair(0)) * d - (1 + d)) <= 1e-13);
  }
  // complex ones are neighbours of their exact conjugates
  ssm::test::Random random(9);
  const MatrixXd large = random_matrix(random, 40, 40);
  const VectorXcd many =
      zeros(StateSpace<double>(large, random_matrix(random, 40, 2), random_matrix(random, 2, 40),
                               random_matrix(random, 2, 2)));
  CHECK(many.size() == 40);
  for (Index i = 0; i < many.size(); ++i)
    if (many(i).imag() > 0) CHECK(many(i + 1) == std::conj(many(i)));
}

}  // namespace analysis_test
