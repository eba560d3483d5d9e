#pragma once

#include <Eigen/Core>
#include <complex>
#include <optional>
#include <string>
#include <vector>

#include "ssm/system/state_space.hpp"

/// Any linear system, as the command line of `plant` tells it.
namespace plant {

/// What was given: numbers with commas between, of a matrix semicolons or line breaks between
/// the rows.
struct Given {
  std::optional<std::string> num, den, zeros, poles, A, B, C, D;
  std::optional<double> gain, discrete;
  double delay = 0;
};

struct Plant {
  Eigen::MatrixXd A, B, C, D;
  std::optional<double> delta = {};  ///< of a discrete system, s
  double delay = 0;                  ///< before every input, s; of a discrete system in A already
  std::string transfer = {};         ///< as it is written by hand, of one input and one output

  [[nodiscard]] Eigen::Index inputs() const { return D.cols(); }
  [[nodiscard]] Eigen::Index outputs() const { return D.rows(); }
  /// From one input to one output.
  [[nodiscard]] Plant channel(Eigen::Index output, Eigen::Index input) const {
    return {A, B.col(input), C.row(output), D.block(output, input, 1, 1), delta, delay, transfer};
  }
};

/// Calls `f` with the system as one of the library's, without the delay of a continuous one.
template <class F>
auto with_system(const Plant& plant, const F& f) {
  if (plant.delta)
    return f(ssm::DiscreteStateSpace<double>(plant.A, plant.B, plant.C, plant.D, *plant.delta));
  return f(ssm::StateSpace<double>(plant.A, plant.B, plant.C, plant.D));
}

/// @throws std::runtime_error in one sentence that names the option at fault
Plant read(const Given& given);

}  // namespace plant
