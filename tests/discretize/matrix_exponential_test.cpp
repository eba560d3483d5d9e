#include "ssm/discretize/matrix_exponential.hpp"

#include <Eigen/LU>
#include <complex>
#include <limits>

#include "ssm/core/eigen.hpp"
#include "support/catch.hpp"
#include "support/count_allocations.hpp"
#include "support/random.hpp"

namespace matrix_exponential_test {

using namespace ssm;
using Eigen::Matrix2d;
using Eigen::Matrix3d;
using Eigen::MatrixXd;

namespace {

/// ‖got − want‖ / ‖want‖ in the Frobenius norm; NaN stays NaN and fails every bound.
template <class G, class W>
double distance(const G& got, const W& want) {
  return static_cast<double>((got - want).norm() / want.norm());
}

/// The largest relative error of an element that is not zero; zeros must be met exactly.
template <class G, class W>
double worst_element(const G& got, const W& want) {
  double worst = 0;
  for (Index i = 0; i < want.size(); ++i) {
    const double w = std::abs(want.data()[i]), error = std::abs(got.data()[i] - want.data()[i]);
    const double relative = w == 0 && error == 0 ? 0 : error / w;
    if (!(relative <= worst)) worst = relative;
  }
  return worst;
}

Matrix3d stiff() {
  Matrix3d A;
  A << 0, 1e-8, 0, -20066666666.666668, -3, 2e10, 66.66666666666667, 0, -66.66666666666667;
  return A;
}
Matrix3d exponential_of_stiff() {
  Matrix3d E;
  E << 0.4468494682831737842, 1.5404415738395201465e-9, 0.46281145355877362632,
      -5743067.779479561738, -0.015283003868682250089, -4526542.7127841015679,
      0.44772297784949330989, 1.5427048451959121974e-9, 0.46348064883765004214;
  return E;
}

MatrixXd random_matrix(Index size, double scale, std::uint64_t seed) {
  const auto tensor = ssm::test::Random(seed).normal<double>(std::array{size, size}, scale);
  return as_eigen(tensor.view());
}

}  // namespace

// Expected values: mpmath with 60 digits, rounded to 20.

TEST_CASE("the exponential of a badly scaled stiff matrix is right in every element") {
  // C. Moler, "A balancing act for the matrix exponential" (2012): without balancing 1e17 comes out
  CHECK(worst_element(matrix_exponential(stiff()), exponential_of_stiff()) <= 2e-13);
  CHECK(distance(matrix_exponential(MatrixXd(stiff())), exponential_of_stiff()) <= 2e-13);
}

TEST_CASE("the exponential in float is that of the same matrix in double, rounded") {
  Matrix3d A;  // every element is a float
  A << 0, 0x1p-27, 0, -2e10, -3, 2e10, 64, 0, -64;
  CHECK(matrix_exponential(Eigen::Matrix3f(A.cast<float>())) ==
        Eigen::Matrix3f(matrix_exponential(A).cast<float>()));
}

TEST_CASE("slow and fast modes both keep their digits") {
  MatrixXd A = MatrixXd::Zero(4, 4), want = MatrixXd::Zero(4, 4);
  const Eigen::Vector4d modes(-1e6, -50, -1, -1e-5);
  A.diagonal() = modes;
  want.diagonal() = modes.array().exp();
  CHECK(worst_element(matrix_exponential(A), want) <= 2e-14);

  Matrix3d graded, E;
  graded << -1e6, 0, 0, 0, -1, 0, 1, 0, -1e-3;
  E << 0, 0, 0, 0, 0.3678794411714423216, 0, 9.9900050083237549248e-7, 0, 0.99900049983337499165;
  CHECK(worst_element(matrix_exponential(graded), E) <= 1e-14);
}

TEST_CASE("matrices of large norm and small exponential are right") {
  Matrix2d A, E;
  A << -49, 24, -64, 31;
  E << -0.73575875814475307964, 0.55181909965809770062, -1.471517599088260535,
      1.1036382407155725891;
  CHECK(distance(matrix_exponential(A), E) <= 1e-13);

  Matrix3d B, F;
  B << -131, 19, 18, -390, 56, 54, -387, 57, 52;
  F << -1.5096441587960896834, 0.36787943911028869916, 0.13533528117545906946,
      -5.632570799902596015, 1.4715177585023084191, 0.40600584352637720837, -4.9349383260981071259,
      1.1036383173308660975, 0.54134112676298990026;
  CHECK(distance(matrix_exponential(B), F) <= 1e-12);  // norm 1e3, far from normal
}

TEST_CASE("a far-from-normal matrix is not scaled too much") {
  Matrix2d A, E;
  A << 1, 1e10, 0, -1;
  E << 2.7182818284590452354, 11752011936.438014569, 0, 0.3678794411714423216;
  CHECK(worst_element(matrix_exponential(A), E) <= 1e-14);

  A << 1e6, 1e6, -1e6, -1e6;  // A² = 0
  CHECK(distance(matrix_exponential(A), Matrix2d(Matrix2d::Identity() + A)) <= 1e-15);
}

TEST_CASE("singular and nilpotent matrices are as good as any") {
  Matrix3d chain, E;
  chain << 0, 1, 0, 0, 0, 1, 0, 0, 0;
  E << 1, 1, 0.5, 0, 1, 1, 0, 0, 1;
  CHECK(worst_element(matrix_exponential(chain), E) <= 1e-15);
  CHECK(matrix_exponential(Matrix3d(Matrix3d::Zero())) == Matrix3d(Matrix3d::Identity()));
  CHECK(matrix_exponential(MatrixXd(0, 0)).size() == 0);
}

TEST_CASE("the exponential of a rotation and of a complex number are Euler's formula") {
  Matrix2d J;
  for (const double angle : {1e-8, 0.3, 2.0, 40.0}) {
    J << 0, -angle, angle, 0;
    Matrix2d E;
    E << std::cos(angle), -std::sin(angle), std::sin(angle), std::cos(angle);
    CHECK(distance(matrix_exponential(J), E) <= 1e-15 * (4 + angle));
    Eigen::Matrix<std::complex<double>, 1, 1> z;
    z << std::complex<double>(-0.1, angle);
    CHECK(std::abs(matrix_exponential(z)(0) - std::exp(z(0))) <= 1e-15 * (4 + angle));
  }
}

TEST_CASE("laws of the exponential hold for random matrices of every norm and size") {
  for (const Index size : {1, 2, 5, 11})
    for (const double scale : {1e-12, 1e-3, 0.1, 1.0, 4.0}) {
      CAPTURE(size, scale);
      const MatrixXd A = random_matrix(size, scale, 7);
      const MatrixXd identity = MatrixXd::Identity(size, size);
      const double condition = 1 + A.norm();
      const MatrixXd E = matrix_exponential(A), inverse = matrix_exponential(-A);
      CHECK((E * inverse - identity).norm() <= 1e-14 * condition * E.norm() * inverse.norm());
      CHECK(distance(matrix_exponential(2 * A), (E * E).eval()) <=
            1e-14 * condition * E.norm() * E.norm() / (E * E).norm());
      CHECK(distance(matrix_exponential(A.transpose()), E.transpose().eval()) <= 1e-14 * condition);
      CHECK(std::abs(std::log(E.determinant()) - A.trace()) <=
            1e-13 * condition * E.norm() * inverse.norm());
    }
}

TEST_CASE("balancing is an exact similarity by powers of two that evens rows and columns out") {
  Matrix3d balanced = stiff();
  const Eigen::Vector3d scale = detail::balance(balanced);
  for (Index i = 0; i < 3; ++i) CHECK(std::exp2(std::round(std::log2(scale(i)))) == scale(i));
  CHECK(scale.asDiagonal() * balanced * scale.cwiseInverse().asDiagonal() == stiff());
  CHECK(balanced.norm() < 1e3);
}

TEST_CASE("NaN and infinity give NaN, whatever else the matrix holds") {
  for (const double poison :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    Matrix2d A;
    A << 1, poison, 0, -1;
    CHECK(matrix_exponential(A).array().isNaN().all());
  }
}

TEST_CASE("a huge decay gives zero and a huge growth is not taken for a small one") {
  const Eigen::Matrix<double, 1, 1> decay(-1e200), growth(1e200);
  CHECK(matrix_exponential(decay)(0) == 0);
  CHECK_FALSE(std::isfinite(matrix_exponential(growth)(0)));
}

TEST_CASE("scales further apart than double can say leave the elements that it can") {
  Matrix3d A;
  A << -1e5, 1e270, 0, 1e-270, -1e5, 1e270, 0, 1e-270, -1e5;
  CHECK(matrix_exponential(A).isZero(0));
  A << -100, 1e160, 0, 1e-160, -100, 1e160, 0, 1e-160, -100;
  const double corner = (std::cosh(std::sqrt(2.0)) - 1) / 2 * std::exp(-100.0);
  const Matrix3d E = matrix_exponential(A);
  CHECK(std::abs(E(0, 2) / (corner * 1e160 * 1e160) - 1) <= 1e-13);
  CHECK(E(2, 0) == 0);
}

TEST_CASE("a fixed size does not allocate, and a matrix that is not square is refused") {
  const Matrix3d A = stiff();
  CHECK(ssm::test::allocations_of([&] { (void)matrix_exponential(A); }) == 0);
  CHECK_THROWS_WITH(matrix_exponential(MatrixXd(2, 3)),
                    "matrix_exponential: A is (2, 3), expected a square matrix");
}

}  // namespace matrix_exponential_test
