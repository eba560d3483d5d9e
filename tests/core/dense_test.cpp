#include <Eigen/Dense>
#include <complex>

#include "ssm/core/detail/dense_algebra.hpp"
#include "ssm/core/detail/small_matrix.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

using namespace ssm;
using namespace ssm::detail;
using Eigen::MatrixXcd;
using Eigen::MatrixXd;

namespace {

MatrixXd random_matrix(ssm::test::Random& random, Index rows, Index cols) {
  MatrixXd matrix(rows, cols);
  for (Index i = 0; i < matrix.size(); ++i) matrix.data()[i] = random.normal();
  return matrix;
}

MatrixXd real(const RealMatrix& A) { return to_eigen<MatrixXd>(A); }
MatrixXcd complex(const ComplexMatrix& A) { return to_eigen<MatrixXcd>(A); }

}  // namespace

TEST_CASE(
    "products and factorisations of plain matrices are those of Eigen, at every tile's edge") {
  ssm::test::Random random(1);
  for (const Index n : {0, 1, 2, 3, 4, 5, 15, 16, 17, 31, 33, 64, 70}) {
    CAPTURE(n);
    const MatrixXd a = random_matrix(random, n, n), b = random_matrix(random, n, 7);
    const MatrixXd identity = MatrixXd::Identity(n, n);
    const RealMatrix A(a), B(b);
    CHECK((real(A * B) - a * b).norm() <= 1e-15 * a.norm() * b.norm());
    const DenseLu lu(A);
    const MatrixXd solved = real(lu.solve(B));
    CHECK((a * solved - b).norm() <= 1e-14 * (a.norm() * solved.norm() + b.norm()));
    const SmallLu<MatrixXd> small(a);
    CHECK((small.solve(b) - solved).norm() <= 1e-15 * solved.norm());
    const MatrixXd turned = small.solve_transposed(b);
    CHECK((a.transpose() * turned - b).norm() <= 1e-14 * (a.norm() * turned.norm() + b.norm()));

    const MatrixXd s = a * a.transpose() + identity;
    const DenseCholesky cholesky{RealMatrix(s)};
    CHECK(cholesky.definite());
    CHECK((real(cholesky.L()) * real(cholesky.L()).transpose() - s).norm() <= 1e-14 * s.norm());
    CHECK((s * real(cholesky.solve(B)) - b).norm() <= 1e-13 * s.norm() * b.norm());
    CHECK((s * SmallCholesky<MatrixXd>(s).solve(b) - b).norm() <= 1e-13 * s.norm() * b.norm());
    CHECK((s * SmallLdlt<MatrixXd>(s).solve(b) - b).norm() <= 1e-13 * s.norm() * b.norm());
    if (n > 0) CHECK_FALSE(DenseCholesky(RealMatrix(s - 2 * s.norm() * identity)).definite());

    const MatrixXd tall = random_matrix(random, 2 * n, n), right = random_matrix(random, 2 * n, 3);
    const MatrixXd least = real(least_squares(RealMatrix(tall), RealMatrix(right)));
    CHECK((tall.transpose() * (tall * least - right)).norm() <=
          1e-13 * tall.norm() * (tall.norm() * least.norm() + right.norm()));
  }
}

TEST_CASE("Schur forms, eigenvalues and singular values belong to their matrix") {
  ssm::test::Random random(2);
  for (const Index n : {0, 1, 2, 3, 5, 9, 30, 60}) {
    CAPTURE(n);
    const MatrixXd a = random_matrix(random, n, n);
    const MatrixXcd identity = MatrixXcd::Identity(n, n);
    const ComplexSchurForm form = complex_schur("test", RealMatrix(a));
    const MatrixXcd U = complex(form.U), T = complex(form.T);
    CHECK((U * T * U.adjoint() - a).norm() <= 1e-14 * std::max(1., a.norm()));
    CHECK((U * U.adjoint() - identity).norm() <= 1e-14 * static_cast<double>(n + 1));
    CHECK(MatrixXcd(T.triangularView<Eigen::StrictlyLower>()).norm() == 0);

    const ComplexVector values = real_eigenvalues("test", RealMatrix(a));
    for (Index i = 0; i < n; ++i) {  // each is one of the Schur form's, and pairs are exact
      double nearest = 1e9;
      for (Index j = 0; j < n; ++j) nearest = std::min(nearest, std::abs(values(i) - T(j, j)));
      CHECK(nearest <= 1e-12);
      if (values(i).imag() > 0) CHECK(values(i + 1) == std::conj(values(i)));
    }

    for (const Index rows : {n, n + 3, n / 2}) {
      const MatrixXd b = random_matrix(random, rows, n);
      const SingularValues svd = singular_values(RealMatrix(b));
      const MatrixXd V = real(svd.V);
      CHECK((b * V - real(svd.W)).norm() <= 1e-14 * std::max(1., b.norm()));
      CHECK((V * V.transpose() - identity.real()).norm() <= 1e-13);
      if (rows == 0 || n == 0) continue;
      const Eigen::VectorXd want = Eigen::JacobiSVD<MatrixXd>(b).singularValues();
      for (Index i = 0; i < want.size(); ++i) CHECK(std::abs(svd.sigma(i) - want(i)) <= 4e-14 * want(0));
    }
  }
  const MatrixXd jordan{{2, 1, 0}, {0, 2, 1}, {0, 0, 2}};
  const ComplexVector values = real_eigenvalues("test", RealMatrix(jordan));
  for (Index i = 0; i < 3; ++i) CHECK(values(i) == 2.0);
}

TEST_CASE("a singular symmetric matrix is solved in the directions that it has") {
  const Eigen::Matrix3d a{{1, 2, 0}, {2, 4, 0}, {0, 0, 0}};
  const Eigen::Vector3d b(3, 6, 0);
  CHECK((a * SmallLdlt<Eigen::Matrix3d>(a).solve(b) - b).norm() <= 1e-14);
}
