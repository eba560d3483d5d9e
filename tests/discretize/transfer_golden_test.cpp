#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "ssm/discretize/discretize.hpp"
#include "ssm/discretize/matched.hpp"
#include "ssm/system/delay.hpp"
#include "ssm/system/margins.hpp"
#include "ssm/system/transfer_function.hpp"
#include "support/catch.hpp"
#include "support/matrices.hpp"

namespace transfer_golden_test {

using namespace ssm;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using ssm::test::distance;
using Transfer = TransferFunction<double>;

namespace {

/// What SciPy and python-control gave (tests/golden/make_transfer_truth.py).
class Truth {
 public:
  Truth() {
    std::ifstream file(std::filesystem::path(SSM_SOURCE_DIR) / "tests/golden/transfer.csv");
    REQUIRE(file);
    for (std::string line; std::getline(file, line);) {
      std::istringstream fields(line);
      std::string name, number;
      std::getline(fields, name, ',');
      std::vector<double> values;
      while (std::getline(fields, number, ',')) values.push_back(std::stod(number));
      rows_[name] = Eigen::Map<VectorXd>(values.data(), static_cast<Index>(values.size()));
    }
  }
  [[nodiscard]] VectorXd operator[](const std::string& name) const {
    CAPTURE(name);
    REQUIRE(rows_.count(name) == 1);
    return rows_.at(name);
  }
  /// Coefficients, the highest power first, over the first of the denominator.
  void check(const std::string& name, const Transfer& got) const {
    CAPTURE(name);
    const auto padded = [](const VectorXd& coefficients, Index size) {
      VectorXd result = VectorXd::Zero(size);
      result.tail(coefficients.size()) = coefficients;
      return result;
    };
    const Index size = got.denominator.size();
    const double leading = got.denominator(0);
    CHECK(distance(VectorXd(got.denominator / leading), (*this)[name + "/denominator"]) <= 1e-13);
    CHECK(distance(VectorXd(padded(got.numerator, size) / leading),
                   padded((*this)[name + "/numerator"], size)) <= 1e-13);
  }

 private:
  std::map<std::string, VectorXd> rows_;
};

}  // namespace

TEST_CASE(
    "coefficients, sampled systems, delays and margins are those of SciPy and python-control") {
  const Truth truth;
  const MatrixXd A = (MatrixXd(3, 3) << -1, 2, 0.5, 0, -3, 1, -4, 0.25, -2).finished();
  truth.check("ss2tf", transfer_function(StateSpace<double>(A, Eigen::Vector3d(1, 0, 2),
                                                            Eigen::RowVector3d(1, -1, 0.5),
                                                            MatrixXd::Constant(1, 1, 0.25))));

  const Transfer plant{{1, 3}, {1, 0.8, 4}};
  const auto form = state_space(plant);
  const StateSpace<double> system(form.A(), form.B(), form.C(), form.D());
  truth.check("c2d/zoh", transfer_function(zero_order_hold(system, 0.2)));
  truth.check("c2d/foh", transfer_function(first_order_hold(system, 0.2)));
  truth.check("c2d/bilinear", transfer_function(tustin(system, 0.2)));
  truth.check("c2d/tustin", transfer_function(tustin(system, 0.2, 2.)));
  truth.check("c2d/impulse", transfer_function(impulse_invariant(system, 0.2)));
  truth.check("c2d/euler", transfer_function(forward_euler(system, 0.2)));
  truth.check("c2d/backward_diff", transfer_function(generalized_bilinear(system, 0.2, 1)));
  truth.check("c2d/matched", matched(plant, 0.2));

  for (const int order : {1, 3, 6}) {
    const std::string name = "pade/" + std::to_string(order);
    truth.check(name, pade_delay(0.7, order));
  }

  for (const std::string name : {"third", "resonant", "unstable"}) {
    CAPTURE(name);
    const std::string at = "loop/" + name + "/";
    const Margins found = margins(Transfer(truth[at + "numerator"], truth[at + "denominator"]));
    const VectorXd want = truth[at + "margins"];
    CHECK(found.gain.factor == Approx(want(0)).epsilon(1e-9));
    CHECK(found.phase.degrees == Approx(want(1)).epsilon(1e-9));
    CHECK(found.gain.frequency == Approx(want(3)).epsilon(1e-9));
    CHECK(found.phase.frequency == Approx(want(4)).epsilon(1e-9));
    if (!std::isfinite(want(2))) continue;  // python-control finds none
    CHECK(found.modulus == Approx(want(2)).epsilon(1e-6));
    CHECK(found.sensitivity.frequency == Approx(want(5)).epsilon(1e-3));
  }
}

}  // namespace transfer_golden_test
