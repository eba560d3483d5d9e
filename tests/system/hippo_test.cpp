#include "ssm/system/hippo.hpp"

#include <algorithm>
#include <cmath>
#include <complex>
#include <numbers>

#include "ssm/discretize/matrix_exponential.hpp"
#include "ssm/system/dplr.hpp"
#include "support/catch.hpp"

using namespace ssm;
using Matrix = Eigen::MatrixXd;
using Vector = Eigen::VectorXd;
using Complex = std::complex<double>;

namespace {

constexpr Hippo measures[]{Hippo::legs,
                           Hippo::legt,
                           Hippo::lmu,
                           Hippo::lagt,
                           Hippo::fourier,
                           Hippo::fourier_decaying,
                           Hippo::fourier_diagonal};
constexpr Hippo normal_measures[]{Hippo::legs,
                                  Hippo::legt,
                                  Hippo::lagt,
                                  Hippo::fourier,
                                  Hippo::fourier_decaying,
                                  Hippo::fourier_diagonal};

/// ‖M‖₂ by power iteration.
double norm2(const Matrix& m) {
  Vector v = Vector::Ones(m.cols());
  for (int i = 0; i < 100; ++i) v = (m.transpose() * (m * v)).normalized();
  return (m * v).norm();
}

}  // namespace

TEST_CASE("HiPPO matrices are those of the papers") {
  const auto a = [](Hippo measure, Index state, double window = 1) {
    return Matrix(hippo(measure, state, window).A());
  };
  CHECK((a(Hippo::legs, 3) -
         Matrix{{-1, 0, 0}, {-std::sqrt(3), -2, 0}, {-std::sqrt(5), -std::sqrt(15), -3}})
            .norm() < 1e-14);
  CHECK((a(Hippo::legt, 3) - Matrix{{-1, std::sqrt(3), -std::sqrt(5)},
                                    {-std::sqrt(3), -3, std::sqrt(15)},
                                    {-std::sqrt(5), -std::sqrt(15), -5}})
            .norm() < 1e-14);
  CHECK((a(Hippo::lmu, 3) - Matrix{{-1, -1, -1}, {3, -3, -3}, {-5, 5, -5}}).norm() < 1e-14);
  CHECK((a(Hippo::lagt, 3) - Matrix{{-.5, 0, 0}, {-1, -.5, 0}, {-1, -1, -.5}}).norm() < 1e-14);
  const double pi = std::numbers::pi, r = std::numbers::sqrt2;
  CHECK((a(Hippo::fourier, 4, 2.0) -  // πJ − bbᵀ
         Matrix{{-1, 0, -r, 0}, {0, 0, 0, 0}, {-r, 0, -2, -pi}, {0, 0, pi, 0}})
            .norm() < 1e-14);
  CHECK((2 * a(Hippo::fourier, 6, 2.0) - a(Hippo::fourier, 6)).norm() < 1e-13);
  CHECK((2 * a(Hippo::legt, 6, 2.0) - a(Hippo::legt, 6)).norm() < 1e-13);
  CHECK((hippo(Hippo::fourier, 4, 2.0).B() - Vector{{1, 0, r, 0}}).norm() < 1e-14);
  CHECK((hippo(Hippo::fourier_decaying, 4, 1.0).B() - Vector{{.5, 0, r / 2, 0}}).norm() < 1e-14);
  CHECK((hippo(Hippo::legt, 3, 2.0).B() - 0.5 * Vector{{1, std::sqrt(3), std::sqrt(5)}}).norm() <
        1e-14);
}

TEST_CASE("LMU is LegT in another scale") {
  const Index state = 12;
  const auto legt = hippo(Hippo::legt, state, 0.7), lmu = hippo(Hippo::lmu, state, 0.7);
  Vector d(state);
  for (Index n = 0; n < state; ++n)
    d(n) = (n % 2 == 0 ? 1 : -1) * std::sqrt(2 * static_cast<double>(n) + 1);
  const Matrix A = d.asDiagonal() * legt.A() * d.cwiseInverse().asDiagonal();
  CHECK((A - lmu.A()).norm() <= 1e-14 * A.norm());
  CHECK((d.asDiagonal() * legt.B() - lmu.B()).norm() <= 1e-14 * lmu.B().norm());
}

TEST_CASE("LagT answers an impulse by Laguerre functions, LegS by Legendre polynomials") {
  const Index state = 10;
  for (const double t : {0.05, 0.4, 1.3, 3.0}) {
    const auto answer = [&](Hippo measure) {
      // e^{tA} B by the power series, a sixteenth of t at a time
      const auto system = hippo<double>(measure, state);
      Vector x = system.B();
      for (int part = 0; part < 16; ++part) {
        Vector term = x;
        for (int k = 1; k < 40; ++k) {
          term = (system.A() * term * (t / 16 / k)).eval();
          x += term;
        }
      }
      return x;
    };
    CHECK((answer(Hippo::lagt) - hippo_basis(Hippo::lagt, state, 1.0, t)).norm() < 1e-12);
    CHECK((answer(Hippo::legs) - std::exp(-t) * hippo_basis(Hippo::legs, state, 1.0, t)).norm() <
          1e-12);
  }
}

TEST_CASE("A + P P^T is a multiple of the identity plus a skew matrix") {
  for (const Hippo measure : normal_measures)
    for (const double window : {1.0, 2.0, 0.3}) {
      const Index state = 14;
      const auto system = hippo(measure, state, window);
      const Matrix P = hippo_correction(measure, state, window);
      const Matrix S = system.A() + P * P.transpose();
      const double c =
          measure == Hippo::legs || measure == Hippo::fourier_diagonal ? -0.5 / window : 0;
      CAPTURE(static_cast<int>(measure), window);
      CHECK((S + S.transpose() - 2 * c * Matrix::Identity(state, state)).norm() <=
            1e-14 * S.norm());
    }
  CHECK_THROWS_WITH(hippo_correction<double>(Hippo::lmu, 4),
                    "hippo_correction: measure is lmu, expected one with a normal part");
}

TEST_CASE("the DPLR form is the HiPPO system in unitary coordinates") {
  for (const Hippo measure : normal_measures)
    for (const Index state : {2, 4, 16, 64}) {
      CAPTURE(static_cast<int>(measure), state);
      const auto system = hippo<double>(measure, state);
      const auto form = hippo_dplr<double>(measure, state);
      Eigen::MatrixXcd V(state, state);
      V << form.V, form.V.conjugate();
      CHECK((V.adjoint() * V - Eigen::MatrixXcd::Identity(state, state)).norm() < 1e-12);
      const Matrix low_rank = 2 * (form.V * form.P).real();
      const Matrix A = 2 * (form.V * form.lambda.asDiagonal() * form.V.adjoint()).real() -
                       low_rank * low_rank.transpose();
      CHECK((A - system.A()).norm() <= 1e-12 * system.A().norm());
      CHECK((2 * (form.V * form.B).real() - system.B()).norm() <= 1e-12 * system.B().norm());
    }
}

TEST_CASE("the modes of LegS are the published ones") {
  const auto frequencies = [](Index state) {
    return Vector(hippo_dplr<double>(Hippo::legs, state).lambda.imag());
  };
  CHECK((frequencies(4) - Vector{{0.556501, 4.603293}}).cwiseAbs().maxCoeff() <= 5.1e-7);
  CHECK(
      (frequencies(8) - Vector{{0.427489, 1.957794, 5.354209, 19.857410}}).cwiseAbs().maxCoeff() <=
      5.1e-7);
  CHECK(std::abs(frequencies(64)(31) - 1303.2738) <= 5.1e-5);

  const auto form = hippo_dplr<double>(Hippo::legs, 64);
  CHECK((form.lambda.real().array() + 0.5).abs().maxCoeff() < 1e-10);
  for (Index n = 0; n < 32; ++n)
    CHECK(std::abs(form.B(n) / form.P(n, 0) - std::numbers::sqrt2) < 1e-9);
}

TEST_CASE("a clip of Im B to 2, as a published code makes it, is another system") {
  // There each eigenvector has a real first element, which settles the phases of B.
  const auto form = hippo_dplr<double>(Hippo::legs, 64);
  const auto B = [&](double limit) {
    Eigen::VectorXcd b = form.B;
    for (Index n = 0; n < b.size(); ++n) {
      const Complex phase = form.V(0, n) / std::abs(form.V(0, n)), turned = phase * b(n);
      b(n) = Complex(turned.real(), std::clamp(turned.imag(), -limit, limit)) / phase;
    }
    return b;
  };
  const Eigen::VectorXcd clipped = B(2), whole = B(1e9);
  CHECK((whole - form.B).norm() <= 1e-13 * form.B.norm());
  CHECK(2 * ((clipped - form.B).array().abs() > 1e-9).count() == 22);
  const Matrix decay = matrix_exponential(Matrix(0.1 * hippo<double>(Hippo::legs, 64).A()));
  const Vector moved = decay * 2 * (form.V * (clipped - form.B)).real();
  const Vector exact = decay * 2 * (form.V * form.B).real();
  CHECK(moved.norm() / exact.norm() == Approx(0.58).margin(0.03));
}

TEST_CASE("the eigenvectors of LegS itself are of no use") {
  // Of the triangular A by forward substitution, of unit length; their inverse by the same.
  for (const auto& [state, want] : {std::pair<Index, double>{16, 8e10}, {64, 1e22}}) {
    const Matrix A = hippo<double>(Hippo::legs, state).A();
    Matrix V = Matrix::Identity(state, state);
    for (Index k = 0; k < state; ++k) {
      for (Index n = k + 1; n < state; ++n)
        V(n, k) = A.row(n).segment(k, n - k).dot(V.col(k).segment(k, n - k)) / (A(k, k) - A(n, n));
      V.col(k).normalize();
    }
    const Matrix inverse = V.triangularView<Eigen::Lower>().solve(Matrix::Identity(state, state));
    const double condition = norm2(V) * norm2(inverse);
    CAPTURE(state, condition);
    CHECK(condition >= 0.5 * want);
  }
}

TEST_CASE("S4D-LegS is LegS with half its input, in the limit of many states") {
  const Index state = 64;
  const auto system = hippo<double>(Hippo::legs, state);
  const auto form = hippo_dplr<double>(Hippo::legs, state);
  const auto modes = s4d_modes<double>(S4dInit::legs, state);
  CHECK((modes.lambda - form.lambda).norm() == 0);
  const Complex z(0, 1);  // both answer e^{iωt} at ω = 1
  const Eigen::MatrixXcd resolvent = z * Matrix::Identity(state, state) - system.A();
  const Eigen::VectorXcd want =
      resolvent.triangularView<Eigen::Lower>().solve(system.B().cast<Complex>());
  const auto answer = [&](const Eigen::VectorXcd& B) {
    const Eigen::VectorXcd right = ((z - form.lambda.array()).inverse() * B.array()).matrix();
    const Eigen::VectorXcd left =
        ((z - form.lambda.conjugate().array()).inverse() * B.conjugate().array()).matrix();
    return Eigen::VectorXcd(form.V * right + form.V.conjugate() * left);
  };
  const double half = (answer(modes.B) - want).norm() / want.norm();
  const double plain = (answer(form.B) - want).norm() / want.norm();
  CAPTURE(half, plain);
  CHECK(half <= 1.15 / static_cast<double>(state));
  CHECK(plain == Approx(1).margin(0.02));
}

TEST_CASE("the S4D initial modes are those of the paper") {
  const auto lin = s4d_modes<double>(S4dInit::lin, 8);
  const auto inv = s4d_modes<double>(S4dInit::inv, 8);
  const auto real = s4d_modes<float>(S4dInit::real, 8);
  for (Index n = 0; n < 4; ++n) {
    const auto k = static_cast<double>(n);
    CHECK(std::abs(lin.lambda(n) - Complex(-0.5, std::numbers::pi * k)) < 1e-14);
    CHECK(std::abs(inv.lambda(n) - Complex(-0.5, 8 / std::numbers::pi * (8 / (2 * k + 1) - 1))) <
          1e-14);
    CHECK(real.lambda(n) == std::complex<float>(-static_cast<float>(n + 1), 0));
    CHECK(lin.B(n) == 1.0);
  }
}

TEST_CASE("HiPPO names the argument that does not fit") {
  for (const Hippo measure : measures) {
    CHECK_THROWS_WITH(hippo<double>(measure, 0), "hippo: state is 0, expected 1 to 32768");
    CHECK_THROWS_WITH(hippo<float>(measure, 3, 0.0f), "hippo: window is 0, expected > 0");
  }
  CHECK_THROWS_WITH(hippo_dplr<double>(Hippo::legs, 5),
                    "dplr: state is 5, expected even and at least 2");
  CHECK_THROWS_WITH(s4d_modes<double>(S4dInit::lin, 3),
                    "s4d_modes: state is 3, expected even and at least 2");
  CHECK_THROWS_AS(hippo_basis(Hippo::fourier_diagonal, 4, 1.0, 0.0), DomainError);
  for (const Hippo measure : {Hippo::legs, Hippo::legt, Hippo::lmu, Hippo::lagt, Hippo::fourier}) {
    CHECK_NOTHROW(hippo_basis(measure, 4, 2.0, 0.0));
    CHECK_NOTHROW(hippo_basis(measure, 4, 2.0, 2.0));
    CHECK_THROWS_AS(hippo_basis(measure, 4, 2.0, -0.1), DomainError);
    CHECK_THROWS_AS(hippo_basis(measure, 4, 2.0, std::nan("")), DomainError);
  }
  CHECK_THROWS_WITH(hippo_basis(Hippo::legt, 4, 1.0, 5.0),
                    "hippo_basis: s is 5, expected in [0, window]");
  CHECK_NOTHROW(hippo_basis(Hippo::lagt, 4, 1.0, 5.0));
  CHECK_THROWS_AS(dplr(Matrix::Random(4, 4), Vector::Ones(4), Matrix::Zero(4, 1)), DomainError);
}
