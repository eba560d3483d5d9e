#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "ssm/system/balanced_truncation.hpp"
#include "ssm/system/lyapunov.hpp"
#include "ssm/system/norms.hpp"
#include "ssm/system/poles_zeros.hpp"
#include "ssm/system/sylvester.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace accuracy_test {

using namespace ssm;
using Eigen::MatrixXd;
using Eigen::VectorXcd;

namespace {

double number(std::istream& file) {
  std::string text;
  REQUIRE(file >> text);
  return std::strtod(text.c_str(), nullptr);  // streams do not read hexadecimal ones
}

MatrixXd matrix(std::istream& file, Index rows, Index cols) {
  MatrixXd result(rows, cols);
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < cols; ++j) result(i, j) = number(file);
  return result;
}

/// The rows of `got` in the order that comes nearest to that of `want`.
MatrixXd in_order_of(const MatrixXd& want, MatrixXd got) {
  for (Index i = 0; i < got.rows(); ++i) {
    Index best = i;
    for (Index k = i; k < got.rows(); ++k)
      if ((got.row(k) - want.row(i)).norm() < (got.row(best) - want.row(i)).norm()) best = k;
    got.row(i).swap(got.row(best));
  }
  return got;
}

MatrixXd computed(const std::string& quantity, const StateSpace<double>& system,
                  const MatrixXd& want) {
  const MatrixXd &A = system.A(), &B = system.B(), &C = system.C();
  if (quantity == "controllability_gramian") {
    const MatrixXd X = lyapunov(A, B * B.transpose());
    const MatrixXd W = controllability_gramian(system);
    return (X - want).norm() > (W - want).norm() ? X : W;  // the worse of both
  }
  if (quantity == "observability_gramian") return observability_gramian(system);
  if (quantity == "hankel_singular_values") return hankel_singular_values(system);
  if (quantity == "sylvester_with_itself") return sylvester(A, A, B * C);
  if (quantity == "dc_gain") return dc_gain(system);
  if (quantity == "h2_norm") return MatrixXd::Constant(1, 1, h2_norm(system));
  REQUIRE(quantity == "zeros");
  const VectorXcd values = zeros(system);
  MatrixXd parts(values.size(), 2);
  parts << values.real(), values.imag();
  REQUIRE(parts.rows() == want.rows());
  return in_order_of(want, parts);
}

}  // namespace

TEST_CASE("what is computed in double is as near to 50 digits as its data are known") {
  // SSM_CONTROL_TRUTH names another file that make_control_truth.py wrote, of more and larger
  // plants
  const char* other = std::getenv("SSM_CONTROL_TRUTH");
  std::ifstream file(other ? other : SSM_SOURCE_DIR "/tests/golden/control_truth.txt");
  REQUIRE(file);
  StateSpace<double> system(MatrixXd(0, 0), MatrixXd(0, 0), MatrixXd(0, 0));
  std::string word, kind;
  int quantities = 0;
  while (file >> word && word != "end") {
    if (word == "plant") {
      file >> kind;
      const auto n = static_cast<Index>(number(file)), m = static_cast<Index>(number(file)),
                 p = static_cast<Index>(number(file));
      const MatrixXd A = matrix(file, n, n), B = matrix(file, n, m), C = matrix(file, p, n);
      system = {A, B, C, matrix(file, p, m)};
      continue;
    }
    const auto rows = static_cast<Index>(number(file)), cols = static_cast<Index>(number(file));
    const double sensitivity = number(file);
    const MatrixXd want = matrix(file, rows, cols);
    CAPTURE(kind, system.states(), word);
    const double error = (computed(word, system, want) - want).norm() / want.norm();
    CHECK(error <= std::max(1e-14, 10 * static_cast<double>(system.states()) * sensitivity));
    ++quantities;
  }
  CHECK(word == "end");
  CHECK(quantities > 100);
}

}  // namespace accuracy_test
