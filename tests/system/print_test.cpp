#include "ssm/system/print.hpp"

#include <sstream>

#include "support/catch.hpp"

using namespace ssm;

namespace {

template <class T>
std::string printed(const T& value) {
  std::ostringstream stream;
  stream << value;
  return stream.str();
}

}  // namespace

TEST_CASE("a system prints its matrices in columns") {
  const Eigen::Matrix2d A{{0, 1}, {-9, -1.25}};
  const Eigen::Vector2d B(0, 1);
  const Eigen::RowVector2d C(1, 0);
  CHECK(printed(StateSpace(A, B, C)) ==
        "A = [  0     1 ]\n"
        "    [ -9 -1.25 ]\n"
        "B = [ 0 ]\n"
        "    [ 1 ]\n"
        "C = [ 1 0 ]\n"
        "D = [ 0 ]\n");
  CHECK(printed(DiscreteStateSpace(A, B, C, Eigen::Matrix<double, 1, 1>(2.), .125)) ==
        "A_bar = [  0     1 ]\n"
        "        [ -9 -1.25 ]\n"
        "B_bar = [ 0 ]\n"
        "        [ 1 ]\n"
        "C = [ 1 0 ]\n"
        "D = [ 2 ]\n"
        "delta = 0.125 s\n");
  const Eigen::MatrixXd none(0, 0), gain = Eigen::MatrixXd::Ones(1, 1);
  CHECK(printed(StateSpace<double>(none, Eigen::MatrixXd(0, 1), Eigen::MatrixXd(1, 0), gain)) ==
        "A = (0, 0) without elements\nB = (0, 1) without elements\n"
        "C = (1, 0) without elements\nD = [ 1 ]\n");
}

TEST_CASE("a transfer function prints as a fraction") {
  const TransferFunction<double> transfer{Eigen::Vector2d(-1, 2), Eigen::Vector3d(1, 3.5, 1)};
  CHECK(printed(transfer) ==
        "    -s + 2\n"
        "---------------\n"
        "s^2 + 3.5 s + 1\n");
  CHECK(printed(TransferFunction<double>{Eigen::VectorXd(0), Eigen::VectorXd::Ones(1)}) ==
        "0\n-\n1\n");
  using Complex = std::complex<double>;
  const TransferFunction<Complex> turning{{Complex(1, -2)}, {1, Complex(0, 1)}};
  CHECK(printed(turning) == "  (1 - 2i)\n------------\ns + (0 + 1i)\n");
  const ZerosPolesGain<double> roots{Eigen::VectorXcd::Constant(1, -2.),
                                     Eigen::Vector2cd(Complex(-1, 3), Complex(-1, -3)), .5};
  CHECK(printed(in_z(transfer)) ==
        "    -z + 2\n"
        "---------------\n"
        "z^2 + 3.5 z + 1\n");
  CHECK(printed(in_z(ZerosPolesGain<double>{Eigen::VectorXcd::Zero(1),
                                            Eigen::VectorXcd::Constant(1, 0.5), 2})) ==
        "   2 z\n---------\n(z - 0.5)\n");
  CHECK(printed(roots) ==
        "       0.5 (s + 2)\n"
        "-------------------------\n"
        "(s + 1 - 3i) (s + 1 + 3i)\n");
}
