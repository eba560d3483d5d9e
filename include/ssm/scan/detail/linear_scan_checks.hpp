#pragma once

#include <array>
#include <string>
#include <string_view>

#include "ssm/core/checks.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/scan/linear_scan_types.hpp"

namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// The shape of a sequence argument, whose channels must lie side by side.
template <class AnyView>
void check_sequence(std::string_view function, std::string_view argument, const AnyView& view,
                    const std::array<Index, 3>& want) {
  check_shape(function, argument, view, want);
  if (want[2] > 1 && view.stride(2) != 1)
    throw_shape(function, std::string(argument) + "'s stride of channels",
                std::to_string(view.stride(2)), "1");
}

/// (sequences, channels)
template <class K, class Space>
std::array<Index, 2> state_shape(const LinearScanInputs<K, Space>& inputs) {
  return {inputs.sequences.count(inputs.b.extent(0)), inputs.b.extent(2)};
}

/// What a scratch is known by.
template <class K, class Space>
std::array<Index, 4> linear_scan_call(const LinearScanInputs<K, Space>& inputs) {
  const auto& [batch, length, channels] = inputs.b.extents();
  return {batch, length, channels, inputs.sequences.count(batch)};
}
template <class K, class Space>
Index linear_scan_variant(const LinearScanInputs<K, Space>& inputs) {
  return variant_of(inputs.sequences) % (Index(1) << 62) * 2 + (inputs.initial_state ? 1 : 0);
}

template <class K, class Space>
void check_linear_scan_inputs(std::string_view name, const LinearScanInputs<K, Space>& inputs) {
  check_given(name, "b", inputs.b, "(batch, length, channels)");
  const auto& [batch, length, channels] = inputs.b.extents();
  check_sequence(name, "a", inputs.a, inputs.b.extents());
  check_sequence(name, "b", inputs.b, inputs.b.extents());
  check_sequences(name, inputs.sequences, batch, length);
  check_optional_shape(name, "initial_state", inputs.initial_state, state_shape(inputs));
}

template <class K, class Space>
void check_linear_scan_outputs(std::string_view name, const LinearScanInputs<K, Space>& inputs,
                               const LinearScanOutputs<K, Space>& outputs) {
  check_sequence(name, "x", outputs.x, inputs.b.extents());
  check_output(name, "x", outputs.x);
  check_optional_output_shape(name, "final_state", outputs.final_state, state_shape(inputs));
  OverlapChecks<5> memory(name);
  memory.input("a", inputs.a);
  memory.input("b", inputs.b);
  memory.input("initial_state", inputs.initial_state);
  memory.output("x", outputs.x, "b");
  memory.output("final_state", outputs.final_state, "initial_state");
}

/// @param x what forward wrote
template <class K, class Space>
void check_linear_scan_gradients(std::string_view name, const LinearScanInputs<K, Space>& inputs,
                                 const View<const K, 3, Space>& x,
                                 const LinearScanOutputGradients<K, Space>& output_gradients,
                                 const LinearScanInputGradients<K, Space>& input_gradients) {
  const auto shape = inputs.b.extents();
  const auto states = state_shape(inputs);
  const auto& [a, b, initial_state] = input_gradients;
  if (output_gradients.x) check_sequence(name, "gradient of x", output_gradients.x, shape);
  check_optional_shape(name, "gradient of final_state", output_gradients.final_state, states);
  if (a) check_sequence(name, "gradient of a", a, shape);
  if (b) check_sequence(name, "gradient of b", b, shape);
  check_output(name, "gradient of a", a);
  check_output(name, "gradient of b", b);
  check_optional_output_shape(name, "gradient of initial_state", initial_state, states);
  OverlapChecks<9> memory(name);
  memory.input("a", inputs.a);
  memory.input("x", x);
  memory.input("initial_state", inputs.initial_state);
  memory.input("gradient of x", output_gradients.x);
  memory.input("gradient of final_state", output_gradients.final_state);
  memory.output("gradient of a", a);
  memory.output("gradient of b", b, "gradient of x");
  memory.output("gradient of initial_state", initial_state, "gradient of final_state");
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
