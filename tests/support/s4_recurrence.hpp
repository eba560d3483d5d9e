#pragma once

#include <complex>
#include <cstddef>
#include <vector>

#include "ssm/layers/s4_weights.hpp"

namespace ssm::test {

/// The recurrent form of an S4 layer of one direction, against which the layer is tested: the steps
/// of all channels and their true C = C̃ (I − A_bar^length)⁻¹, in double, at any number of steps and
/// any rate.
class S4Recurrence {
 public:
  template <class T>
  explicit S4Recurrence(const S4<T>& layer, double rate = 1) {
    for (Index c = 0; c < layer.config.width; ++c) {
      const auto trained = ssm::detail::s4_channel_step(layer, c, 1);
      outputs_.push_back(
          s4_untruncate(trained, ssm::detail::s4_output(layer, 0, c), layer.config.length));
      steps_.push_back(rate == 1 ? trained : ssm::detail::s4_channel_step(layer, c, rate));
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
