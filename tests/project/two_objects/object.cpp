#include "object.hpp"

#include "ssm/core/tensor.hpp"
#include "ssm/scan/selective_scan.hpp"

/// A selective scan, its steps and its gradient; compiled twice, for different processors.
Outcome SSM_OBJECT() {
  constexpr ssm::Index length = 40, channels = 20, state = 5;
  ssm::Tensor<float, 3> u({1, length, channels}), delta = u, y = u, du = u;
  ssm::Tensor<float, 2> A({channels, state}), now({1, channels});
  ssm::Tensor<float, 4> B({1, length, 1, state}), C = B;
  ssm::Tensor<float, 3> x({1, channels, state});
  int i = 0;
  for (float& value : u) value = static_cast<float>(++i % 7) * 0.25f - 0.75f;
  for (float& value : delta) value = static_cast<float>(++i % 5) * 0.05f + 0.01f;
  for (float& value : A) value = -0.2f * static_cast<float>(1 + ++i % 9);
  for (float& value : B) value = static_cast<float>(++i % 11) * 0.1f - 0.5f;
  for (float& value : C) value = static_cast<float>(++i % 13) * 0.1f - 0.6f;

  ssm::SelectiveScanInputs<float> in;
  in.u = u;
  in.delta = delta;
  in.A = A;
  in.B = ssm::Selective<const float>(B.view());
  in.C = ssm::Selective<const float>(C.view());
  ssm::SelectiveScanScratch<float> scratch;
  selective_scan(ssm::cpu(2), in, {}, {y, {}}, scratch);
  ssm::SelectiveScanInputGradients<float> gradients;
  gradients.u = du;
  selective_scan_backward(ssm::cpu(2), in, {}, {u, {}}, gradients, scratch);

  Outcome outcome;
  outcome.scanned.assign(y.begin(), y.end());
  outcome.gradient.assign(du.begin(), du.end());
  for (ssm::Index t = 0; t < length; ++t) {
    const std::array<ssm::Index, 2> row{1, channels};
    const std::array<ssm::Index, 3> coefficient{1, 1, state};
    ssm::SelectiveScanStepInputs<float> step;
    step.u = {u.data() + t * channels, row};
    step.delta = {delta.data() + t * channels, row};
    step.A = A;
    step.B = ssm::View<const float, 3>(B.data() + t * state, coefficient);
    step.C = ssm::View<const float, 3>(C.data() + t * state, coefficient);
    selective_scan_step(step, {}, x, now);
    outcome.stepped.insert(outcome.stepped.end(), now.begin(), now.end());
  }
  return outcome;
}
