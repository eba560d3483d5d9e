#pragma once

#include <array>
#include <string>
#include <string_view>

#include "ssm/core/checks.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/scan/selective_scan_types.hpp"

namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// The extents of a selective scan, named once.
struct SelectiveSizes {
  Index batch, length, channels, state, groups, sequences;

  [[nodiscard]] Index group_of(Index channel) const noexcept { return channel * groups / channels; }
  [[nodiscard]] std::array<Index, 3> states() const noexcept {
    return {sequences, channels, state};
  }
  /// What a scratch is known by.
  [[nodiscard]] std::array<Index, 6> call() const noexcept {
    return {batch, length, channels, state, groups, sequences};
  }
};

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

[[noreturn, gnu::cold, gnu::noinline]] inline void throw_hold(std::string_view function) {
  throw_domain(function, "hold", "another", "simplified or zero_order");
}
/// Refuses the holds that S6 does not know.
inline void check_hold(std::string_view function, Hold hold) {
  if (hold != Hold::simplified && hold != Hold::zero_order) throw_hold(function);
}

/// What tells calls of the same sizes apart, as far as a scratch can.
template <class T, class K, class Space>
[[nodiscard]] Index selective_variant(const SelectiveScanInputs<T, K, Space>& in,
                                      const SelectiveScanOptions& options) noexcept {
  const bool bits[] = {options.softplus,
                       options.hold == Hold::zero_order,
                       static_cast<bool>(in.B.constant),
                       static_cast<bool>(in.C.constant),
                       static_cast<bool>(in.delta_bias),
                       static_cast<bool>(in.initial_state)};
  Index variant = variant_of(in.sequences);
  for (const bool bit : bits) variant = variant % (Index(1) << 56) * 2 + (bit ? 1 : 0);
  return variant;
}

/// Checks every input against the sizes of u and A and returns the sizes. Offsets on a device are
/// not read, as that would wait for it.
template <class T, class K, class Space>
SelectiveSizes check_selective_inputs(std::string_view function,
                                      const SelectiveScanInputs<T, K, Space>& in,
                                      const SelectiveScanOptions& options) {
  SelectiveSizes sizes{in.u.extent(0), in.u.extent(1), in.u.extent(2), in.A.extent(1), 1, 0};
  check_hold(function, options.hold);
  check_given(function, "u", in.u, "(batch, length, channels)");
  check_given(function, "A", in.A, "(channels, state)");
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
  check_sequences(function, in.sequences, sizes.batch, sizes.length);
  sizes.sequences = in.sequences.count(sizes.batch);
  check_optional_shape(function, "initial_state", in.initial_state, sizes.states());
  return sizes;
}

/// Registers all that a scan reads.
template <class Checks, class T, class K, class Space>
void add_selective_inputs(Checks& memory, const SelectiveScanInputs<T, K, Space>& in) {
  memory.input("u", in.u);
  memory.input("delta", in.delta);
  memory.input("A", in.A);
  memory.input("B", in.B.constant);
  memory.input("B", in.B.varying);
  memory.input("C", in.C.constant);
  memory.input("C", in.C.varying);
  memory.input("D", in.D);
  memory.input("delta_bias", in.delta_bias);
  memory.input("z", in.z);
  memory.input("initial_state", in.initial_state);
}

template <class T, class K, class Space>
void check_selective_outputs(std::string_view function,
                             const SelectiveScanOutputs<T, K, Space>& out,
                             const SelectiveScanInputs<T, K, Space>& in,
                             const SelectiveSizes& sizes) {
  check_output_shape(function, "y", out.y, in.u.extents());
  check_optional_output_shape(function, "final_state", out.final_state, sizes.states());
  OverlapChecks<12> memory(function);
  add_selective_inputs(memory, in);
  memory.output("y", out.y);
  memory.output("final_state", out.final_state, "initial_state");
}

template <class Gradient, class Input>
void check_selective_gradient(std::string_view function, std::string_view argument,
                              const Gradient& gradient, const Input& input) {
  if (gradient.constant && !input.constant)
    throw_shape(function, argument, "constant", "varying, as its input is");
  if (gradient.varying && !input.varying)
    throw_shape(function, argument, "varying", "constant, as its input is");
  if (gradient.constant)
    check_output_shape(function, argument, gradient.constant, input.constant.extents());
  if (gradient.varying)
    check_output_shape(function, argument, gradient.varying, input.varying.extents());
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
  check_shape(function, "the gradient of y", dout.y, in.u.extents());
  check_optional_shape(function, "the gradient of final_state", dout.final_state, sizes.states());
  check_selective_gradient(function, "the gradient of B", din.B, in.B);
  check_selective_gradient(function, "the gradient of C", din.C, in.C);
  absent("the gradient of D", static_cast<bool>(din.D), static_cast<bool>(in.D));
  absent("the gradient of delta_bias", static_cast<bool>(din.delta_bias),
         static_cast<bool>(in.delta_bias));
  absent("the gradient of z", static_cast<bool>(din.z), static_cast<bool>(in.z));

  OverlapChecks<24> memory(function);
  add_selective_inputs(memory, in);
  memory.input("the gradient of y", dout.y);
  memory.input("the gradient of final_state", dout.final_state);
  const auto output = [&](std::string_view argument, const auto& view, const auto& extents,
                          std::string_view same = {}) {
    check_optional_output_shape(function, argument, view, extents);
    memory.output(argument, view, same);
  };
  const std::array<Index, 1> channels{sizes.channels};
  output("the gradient of u", din.u, in.u.extents());
  output("the gradient of delta", din.delta, in.u.extents());
  output("the gradient of A", din.A, in.A.extents());
  memory.output("the gradient of B", din.B.constant);
  memory.output("the gradient of B", din.B.varying);
  memory.output("the gradient of C", din.C.constant);
  memory.output("the gradient of C", din.C.varying);
  output("the gradient of D", din.D, channels);
  output("the gradient of delta_bias", din.delta_bias, channels);
  output("the gradient of z", din.z, in.u.extents());
  output("the gradient of initial_state", din.initial_state, sizes.states(),
         "the gradient of final_state");
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
