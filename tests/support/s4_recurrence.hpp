#pragma once

#include <cmath>
#include <complex>
#include <cstddef>
#include <vector>

#include "ssm/discretize/dplr_step.hpp"
#include "ssm/layers/s4_weights.hpp"

namespace ssm::test {

/// The recurrent form of an S4 layer of one direction and a rank of at most 16, against which the
/// layer is tested: the steps of all channels in double, at any rate.
class S4Recurrence {
 public:
  template <class T>
  explicit S4Recurrence(const S4<T>& layer, double rate = 1) {
    using Step = DplrStep<double>;
    const Index modes = layer.config.modes(), rank = layer.config.rank;
    const auto number = [](const auto& view) {
      return std::complex<double>(static_cast<double>(view(0)), static_cast<double>(view(1)));
    };
    for (Index c = 0; c < layer.config.width; ++c) {
      Step::Vector lambda(modes), B(modes), C(modes);
      Step::Matrix P(modes, rank);
      for (Index n = 0; n < modes; ++n) {
        lambda(n) = {-std::exp(static_cast<double>(layer.log_decay(c, n))),
                     static_cast<double>(layer.frequency(c, n))};
        B(n) = number(layer.B.view()[c][n]);
        C(n) = number(layer.C.view()[0][c][n]);
        for (Index a = 0; a < rank; ++a) P(n, a) = number(layer.P.view()[c][n][a]);
      }
      steps_.emplace_back(lambda, P, B, rate * std::exp(static_cast<double>(layer.log_delta(c))));
      outputs_.push_back(C);
      D_.push_back(static_cast<double>(layer.D(c)));
    }
  }

  /// One step; `state` (batch, width, state/2) is moved on in place.
  /// @param input, output (batch, width)
  template <class T>
  void step(const View<const T, 2>& input, Tensor<std::complex<double>, 3>& state,
            const View<T, 2>& output) const {
    for (Index b = 0; b < input.extent(0); ++b)
      for (Index c = 0; c < input.extent(1); ++c) {
        const auto i = static_cast<std::size_t>(c);
        const double u = static_cast<double>(input(b, c));
        std::complex<double>* const h = &state(b, c, 0);
        steps_[i](u, h);
        double y = D_[i] * u;
        for (Index n = 0; n < outputs_[i].size(); ++n) y += 2 * (outputs_[i](n) * h[n]).real();
        output(b, c) = static_cast<T>(y);
      }
  }

 private:
  std::vector<DplrStep<double>> steps_;
  std::vector<DplrStep<double>::Vector> outputs_;
  std::vector<double> D_;
};

}  // namespace ssm::test
