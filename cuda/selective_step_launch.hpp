#pragma once

#include "launch.hpp"
#include "selective_shape.hpp"
#include "ssm/cuda/selective_scan_step.hpp"

namespace ssm {
namespace kernels {

/// One step of every row: `lanes` neighbouring lanes share a channel, each taking every lanes-th
/// run of four states, which lie side by side in memory.
template <class T, class E>
struct SelectiveStep {
  using R = Real<E>;
  using V = std::conditional_t<is_complex<E>, E, T>;
  static constexpr int most_threads = 256;

  Array<const T, 2> u, delta, z;
  Array<const E, 2> A, B_constant, C_constant;
  Array<const V, 3> B, C;
  Array<const R, 1> D, delta_bias;
  Array<E, 3> states;
  Array<T, 2> y;
  Array<const Index, 1> slots;
  Index rows, slot_count, channels, state, groups;
  int lanes;
  bool softplus, zero_order;

  SSM_DEVICE void operator()(Block& block) const {
    const Index item = (block.index() * most_threads + block.thread()) / lanes;
    const int lane = block.thread() % lanes;
    const Index row = item / channels, c = item % channels;
    const Index slot = row >= rows ? -1 : slots.present ? slots(row) : row;
    const bool runs = slot >= 0 && slot < slot_count;
    const Index group = c * groups / channels;
    R sum = 0, u_now = 0;
    if (runs) {
      u_now = widen(u(row, c));
      R d = R(widen(delta(row, c))) + (delta_bias.present ? delta_bias(c) : R(0));
      if (softplus) d = Softplus<R, T>(d).value;
      for (Index first = lane * lane_states; first < state; first += lanes * lane_states) {
        SSM_UNROLL
        for (int p = 0; p < lane_states; ++p) {
          const Index n = first + p;
          if (n >= state) break;
          const E a = A(c, n),
                  b = B_constant.present ? B_constant(c, n) : E(widen(B(row, group, n)));
          const E hold = zero_order ? d * phi1(d * a) : E(d);
          E& x = states(slot, c, n);
          x = exp2_of(d * log2_e<R> * a) * x + hold * b * u_now;
          sum += real((C_constant.present ? C_constant(c, n) : E(widen(C(row, group, n)))) * x);
        }
      }
    }
    sum = output_scale<E> * sum_lanes(block, sum, lanes);
    if (!runs || lane != 0) return;
    if (D.present) sum += D(c) * u_now;
    if (z.present) sum *= Silu<R>(widen(z(row, c))).value;
    y(row, c) = narrow_to<T>(sum);
  }
};

}  // namespace kernels

namespace detail {

/// What the step on the CPU asks, and that `states` has a place for every row.
template <class T, class K>
Index check_device_step(const SelectiveScanStepInputs<T, K, Device>& in,
                        const SelectiveScanOptions& options, const View<K, 3, Device>& states,
                        const View<T, 2, Device>& y, const View<const Index, 1, Device>& slots) {
  const char* function = "selective_scan_step";
  check_hold(function, options.hold);
  check_given(function, "u", in.u, "(batch, channels)");
  check_given(function, "A", in.A, "(channels, state)");
  check_given(function, "states", states, "(slots, channels, state)");
  const Index rows = in.u.extent(0), channels = in.u.extent(1), state = in.A.extent(1);
  Index groups = 1;
  const auto check_coefficient = [&](const char* name, const auto& coefficient) {
    if (static_cast<bool>(coefficient.constant) == static_cast<bool>(coefficient.varying))
      throw_shape(function, name, coefficient.constant ? "given twice" : "absent",
                  "either (channels, state) or (batch, groups, state)");
    check_optional_shape(function, name, coefficient.constant, in.A.extents());
    if (!coefficient.varying) return;
    groups = coefficient.varying.extent(1);
    if (groups < 1 || channels % groups != 0)
      throw_shape(function, name, std::to_string(groups) + " groups",
                  "a number that divides " + std::to_string(channels) + " channels");
    check_shape(function, name, coefficient.varying, std::array<Index, 3>{rows, groups, state});
  };
  const std::array<Index, 1> of_channels{channels};
  check_shape(function, "delta", in.delta, in.u.extents());
  check_shape(function, "A", in.A, std::array<Index, 2>{channels, state});
  check_coefficient("B", in.B);
  check_coefficient("C", in.C);
  if (in.B.varying && in.C.varying && in.B.varying.extent(1) != groups)
    throw_shape(function, "C", std::to_string(groups) + " groups", "as many groups as B");
  check_optional_shape(function, "D", in.D, of_channels);
  check_optional_shape(function, "delta_bias", in.delta_bias, of_channels);
  check_optional_shape(function, "z", in.z, in.u.extents());
  check_output_shape(function, "y", y, in.u.extents());
  check_optional_shape(function, "slots", slots, std::array<Index, 1>{rows});
  check_output_shape(function, "states", states,
                     std::array<Index, 3>{slots ? states.extent(0) : rows, channels, state});
  return groups;
}

}  // namespace detail

template <class T, class K>
void selective_scan_step(const Cuda& backend, const SelectiveScanStepInputs<T, K, Device>& in,
                         const SelectiveScanOptions& options,
                         const std::type_identity_t<View<K, 3, Device>>& states,
                         const std::type_identity_t<View<T, 2, Device>>& y,
                         const View<const Index, 1, Device>& slots) {
  using namespace kernels;
  const char* function = "selective_scan_step";
  const Index groups = ssm::detail::check_device_step(in, options, states, y, slots);
  const Index rows = in.u.extent(0), channels = in.u.extent(1);
  if (rows == 0 || channels == 0) return;
  using Step = SelectiveStep<T, Element<K>>;
  Step step{};
  step.u = decltype(step.u)(in.u), step.delta = decltype(step.delta)(in.delta);
  step.z = decltype(step.z)(in.z), step.A = decltype(step.A)(in.A);
  step.B_constant = decltype(step.B_constant)(in.B.constant);
  step.C_constant = decltype(step.C_constant)(in.C.constant);
  step.B = decltype(step.B)(in.B.varying), step.C = decltype(step.C)(in.C.varying);
  step.D = decltype(step.D)(in.D), step.delta_bias = decltype(step.delta_bias)(in.delta_bias);
  step.states = decltype(step.states)(states), step.y = decltype(step.y)(y);
  step.slots = decltype(step.slots)(slots);
  step.rows = rows, step.slot_count = states.extent(0), step.channels = channels;
  step.state = in.A.extent(1);
  step.groups = groups;
  step.softplus = options.softplus, step.zero_order = options.hold == Hold::zero_order;
  step.lanes = 1;
  while (step.lanes < warp && step.lanes * lane_states < step.state) step.lanes *= 2;
  const Index threads = rows * channels * step.lanes;
  launch(backend, function, (threads + Step::most_threads - 1) / Step::most_threads,
         Step::most_threads, 0, step);
}

}  // namespace ssm

#define SSM_SELECTIVE_STEP(T, K)                                                              \
  template void ssm::selective_scan_step(                                                     \
      const Cuda&, const SelectiveScanStepInputs<T, K, Device>&, const SelectiveScanOptions&, \
      const View<K, 3, Device>&, const View<T, 2, Device>&, const View<const Index, 1, Device>&);
