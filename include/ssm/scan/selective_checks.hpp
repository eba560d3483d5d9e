#pragma once

#include <array>
#include <string>
#include <string_view>

#include "ssm/core/detail/offsets.hpp"
#include "ssm/core/error.hpp"
#include "ssm/scan/selective_types.hpp"

namespace ssm::detail {

/// The extents of a selective scan, named once.
struct SelectiveSizes {
  Index batch, length, channels, state, groups, sequences;

  [[nodiscard]] Index group_of(Index channel) const noexcept { return channel * groups / channels; }
};

/// One sequence: steps [begin, end) of batch row `row`.
struct SequenceSpan {
  Index row, begin, end;

  [[nodiscard]] Index length() const noexcept { return end - begin; }
  /// The position in memory of the i-th step in time.
  [[nodiscard]] Index step(Index i, bool reversed) const noexcept {
    return reversed ? end - 1 - i : begin + i;
  }
};

template <class T, class K>
[[nodiscard]] SequenceSpan sequence_span(const SelectiveScanInputs<T, K>& inputs, Index sequence) {
  if (inputs.offsets) return {0, inputs.offsets(sequence), inputs.offsets(sequence + 1)};
  return {sequence, 0, inputs.u.extent(1)};
}

template <class K, class V, class Space>
void check_selective(std::string_view function, std::string_view argument,
                     const Selective<K, 4, V, Space>& coefficient, const SelectiveSizes& sizes) {
  if (static_cast<bool>(coefficient.constant) == static_cast<bool>(coefficient.varying))
    throw_shape(function, argument, coefficient.constant ? "given twice" : "absent",
                "either (channels, state) or (batch, length, groups, state)");
  check_optional_shape(function, argument, coefficient.constant,
                       std::array<Index, 2>{sizes.channels, sizes.state});
  if (!coefficient.varying) return;
  const Index groups = coefficient.varying.extent(2);
  check_shape(function, argument, coefficient.varying,
              std::array<Index, 4>{sizes.batch, sizes.length, groups, sizes.state});
}

/// Checks every input against the sizes of u and A and returns the sizes. Offsets on a device are
/// not read, as that would wait for it.
template <class T, class K, class Space>
SelectiveSizes check_selective_inputs(std::string_view function,
                                      const SelectiveScanInputs<T, K, Space>& in) {
  SelectiveSizes sizes{in.u.extent(0), in.u.extent(1), in.u.extent(2), in.A.extent(1), 1, 0};
  if (!in.u) throw_shape(function, "u", "absent", "(batch, length, channels)");
  if (!in.A) throw_shape(function, "A", "absent", "(channels, state)");
  check_shape(function, "delta", in.delta, in.u.extents());
  check_shape(function, "A", in.A, std::array<Index, 2>{sizes.channels, sizes.state});
  check_selective(function, "B", in.B, sizes);
  check_selective(function, "C", in.C, sizes);
  const auto check_groups = [&](std::string_view name, const auto& coefficient) {
    if (!coefficient.varying) return;
    const Index groups = coefficient.varying.extent(2);
    if (groups < 1 || sizes.channels % groups != 0)
      throw_shape(function, name, std::to_string(groups) + " groups",
                  "a number that divides " + std::to_string(sizes.channels) + " channels");
    if (in.B.varying && in.C.varying && groups != in.B.varying.extent(2))
      throw_shape(function, name, std::to_string(groups) + " groups", "as many groups as B");
    sizes.groups = groups;
  };
  check_groups("B", in.B);
  check_groups("C", in.C);
  check_optional_shape(function, "D", in.D, std::array<Index, 1>{sizes.channels});
  check_optional_shape(function, "delta_bias", in.delta_bias, std::array<Index, 1>{sizes.channels});
  check_optional_shape(function, "z", in.z, in.u.extents());
  if (in.offsets) check_offsets(function, in.offsets, sizes.batch, sizes.length);
  sizes.sequences = in.offsets ? in.offsets.extent(0) - 1 : sizes.batch;
  check_optional_shape(function, "initial_state", in.initial_state,
                       std::array<Index, 3>{sizes.sequences, sizes.channels, sizes.state});
  return sizes;
}

template <class T, class K, class Space>
void check_selective_outputs(std::string_view function,
                             const SelectiveScanOutputs<T, K, Space>& out,
                             const SelectiveScanInputs<T, K, Space>& in,
                             const SelectiveSizes& sizes) {
  check_shape(function, "y", out.y, in.u.extents());
  check_optional_shape(function, "final_state", out.final_state,
                       std::array<Index, 3>{sizes.sequences, sizes.channels, sizes.state});
}

template <class Gradient, class Input>
void check_selective_gradient(std::string_view function, std::string_view argument,
                              const Gradient& gradient, const Input& input) {
  if (gradient.constant && !input.constant)
    throw_shape(function, argument, "constant", "varying, as its input is");
  if (gradient.varying && !input.varying)
    throw_shape(function, argument, "varying", "constant, as its input is");
  if (gradient.constant)
    check_shape(function, argument, gradient.constant, input.constant.extents());
  if (gradient.varying) check_shape(function, argument, gradient.varying, input.varying.extents());
}

template <class T, class K, class Space>
void check_selective_gradients(std::string_view function,
                               const SelectiveScanOutputGradients<T, K, Space>& dout,
                               const SelectiveScanInputGradients<T, K, Space>& din,
                               const SelectiveScanInputs<T, K, Space>& in,
                               const SelectiveSizes& sizes) {
  const auto absent = [&](std::string_view argument, bool has_gradient, bool has_input) {
    if (has_gradient && !has_input)
      throw_shape(function, argument, "given", "absent, as its input is");
  };
  const std::array<Index, 3> states{sizes.sequences, sizes.channels, sizes.state};
  check_shape(function, "the gradient of y", dout.y, in.u.extents());
  check_optional_shape(function, "the gradient of final_state", dout.final_state, states);
  check_optional_shape(function, "the gradient of u", din.u, in.u.extents());
  check_optional_shape(function, "the gradient of delta", din.delta, in.u.extents());
  check_optional_shape(function, "the gradient of A", din.A, in.A.extents());
  check_selective_gradient(function, "the gradient of B", din.B, in.B);
  check_selective_gradient(function, "the gradient of C", din.C, in.C);
  absent("the gradient of D", static_cast<bool>(din.D), static_cast<bool>(in.D));
  absent("the gradient of delta_bias", static_cast<bool>(din.delta_bias),
         static_cast<bool>(in.delta_bias));
  absent("the gradient of z", static_cast<bool>(din.z), static_cast<bool>(in.z));
  check_optional_shape(function, "the gradient of D", din.D, std::array<Index, 1>{sizes.channels});
  check_optional_shape(function, "the gradient of delta_bias", din.delta_bias,
                       std::array<Index, 1>{sizes.channels});
  check_optional_shape(function, "the gradient of z", din.z, in.u.extents());
  check_optional_shape(function, "the gradient of initial_state", din.initial_state, states);
}

}  // namespace ssm::detail
