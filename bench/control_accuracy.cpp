// The quantities of a file that tests/golden/make_control_truth.py wrote, by ssm: for each its
// name, shape and values. See control_accuracy.py.

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>

#include "ssm/system/balanced_truncation.hpp"
#include "ssm/system/lyapunov.hpp"
#include "ssm/system/norms.hpp"
#include "ssm/system/poles_zeros.hpp"
#include "ssm/system/sylvester.hpp"

namespace {

using Eigen::MatrixXd;
using ssm::Index;

double number(std::istream& file) {
  std::string text;
  file >> text;
  return std::strtod(text.c_str(), nullptr);
}

MatrixXd matrix(std::istream& file, Index rows, Index cols) {
  MatrixXd result(rows, cols);
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < cols; ++j) result(i, j) = number(file);
  return result;
}

void print(const std::string& name, const MatrixXd& value) {
  std::printf("%s %d %d", name.c_str(), static_cast<int>(value.rows()),
              static_cast<int>(value.cols()));
  for (Index i = 0; i < value.rows(); ++i)
    for (Index j = 0; j < value.cols(); ++j) std::printf(" %.17g", value(i, j));
  std::printf("\n");
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) return std::fprintf(stderr, "control_accuracy FILE\n"), 2;
  std::ifstream file(arguments[1]);
  ssm::StateSpace<double> system(MatrixXd(0, 0), MatrixXd(0, 0), MatrixXd(0, 0));
  for (std::string word; file >> word && word != "end";) {
    if (word == "plant") {
      file >> word;
      const auto n = static_cast<Index>(number(file)), m = static_cast<Index>(number(file)),
                 p = static_cast<Index>(number(file));
      const MatrixXd A = matrix(file, n, n), B = matrix(file, n, m), C = matrix(file, p, n);
      system = {A, B, C, matrix(file, p, m)};
      continue;
    }
    const auto rows = static_cast<Index>(number(file)), cols = static_cast<Index>(number(file));
    number(file);
    matrix(file, rows, cols);
    const MatrixXd &A = system.A(), &B = system.B(), &C = system.C();
    if (word == "controllability_gramian") print(word, controllability_gramian(system));
    if (word == "observability_gramian") print(word, observability_gramian(system));
    if (word == "hankel_singular_values") print(word, hankel_singular_values(system));
    if (word == "sylvester_with_itself") print(word, ssm::sylvester(A, A, B * C));
    if (word == "dc_gain") print(word, dc_gain(system));
    if (word == "h2_norm") print(word, MatrixXd::Constant(1, 1, h2_norm(system)));
    if (word == "zeros") {
      const Eigen::VectorXcd values = zeros(system);
      MatrixXd parts(values.size(), 2);
      parts << values.real(), values.imag();
      print(word, parts);
    }
  }
}
