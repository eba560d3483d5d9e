#pragma once

#include <array>
#include <concepts>
#include <string_view>

#include "ssm/core/checks.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/scan/diagonal_scan_types.hpp"

namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// (sequences, channels, state)
template <class T, class K, class Space>
[[nodiscard]] std::array<Index, 3> diagonal_states(
    const DiagonalScanInputs<T, K, Space>& in) noexcept {
  return {in.sequences.count(in.u.extent(0)), in.u.extent(2), in.lambda.extent(1)};
}

/// Δ in either of its forms. The values of one a channel are read, but not on a device, as that
/// would wait for it.
template <class T, class K, class Space>
void check_sample_times(std::string_view name, const DiagonalScanInputs<T, K, Space>& in) {
  const auto& [constant, varying] = in.delta;
  if (static_cast<bool>(constant) == static_cast<bool>(varying))
    throw_shape(name, "delta", constant ? "given twice" : "absent",
                "either (channels) or (batch, length, channels)");
  check_optional_shape(name, "delta", varying, in.u.extents());
  if (!constant) return;
  check_shape(name, "delta", constant, std::array{in.u.extent(2)});
  if constexpr (std::same_as<Space, Host>) check_positive(name, "delta", constant);
}

/// Of diagonal_scan, whose matrices are made once for each channel.
template <class T, class Space>
void check_constant(std::string_view name, const SampleTimes<T, Space>& delta) {
  if (delta.varying)
    throw_shape(name, "delta", to_string(delta.varying.extents()),
                "(channels): a Δ that changes from step to step is for `recurrence`");
}

template <class T, class K, class Space>
void check_diagonal_inputs(std::string_view name, const DiagonalScanInputs<T, K, Space>& in,
                           const DiagonalScanOptions& options) {
  if (!keeps_output(options.method))
    throw_domain(name, "method", "one that changes C or D", "one that keeps them");
  check_given(name, "u", in.u, "(batch, length, channels)");
  check_given(name, "lambda", in.lambda, "(channels, state)");
  const std::array<Index, 2> rows{in.u.extent(2), in.lambda.extent(1)};
  check_shape(name, "lambda", in.lambda, rows);
  check_sample_times(name, in);
  check_shape(name, "B", in.B, rows);
  check_shape(name, "C", in.C, rows);
  check_optional_shape(name, "D", in.D, std::array{rows[0]});
  check_sequences(name, in.sequences, in.u.extent(0), in.u.extent(1));
  check_optional_shape(name, "initial_state", in.initial_state, diagonal_states(in));
}

/// Registers all that is read.
template <class Checks, class T, class K, class Space>
void add_diagonal_inputs(Checks& memory, const DiagonalScanInputs<T, K, Space>& in) {
  memory.input("u", in.u);
  memory.input("lambda", in.lambda);
  memory.input("delta", in.delta.constant);
  memory.input("delta", in.delta.varying);
  memory.input("B", in.B);
  memory.input("C", in.C);
  memory.input("D", in.D);
  memory.input("initial_state", in.initial_state);
}

template <class T, class K, class Space>
void check_diagonal_outputs(std::string_view name, const DiagonalScanInputs<T, K, Space>& in,
                            const DiagonalScanOutputs<T, K, Space>& out) {
  check_output_shape(name, "y", out.y, in.u.extents());
  check_optional_output_shape(name, "final_state", out.final_state, diagonal_states(in));
  OverlapChecks<9> memory(name);
  add_diagonal_inputs(memory, in);
  memory.output("y", out.y, "u");
  memory.output("final_state", out.final_state, "initial_state");
}

template <class T, class K, class Space>
void check_diagonal_gradients(std::string_view name, const DiagonalScanInputs<T, K, Space>& in,
                              const DiagonalScanOutputGradients<T, K, Space>& dout,
                              const DiagonalScanInputGradients<T, K, Space>& din) {
  const auto states = diagonal_states(in);
  const std::array<Index, 1> channels{in.u.extent(2)};
  check_shape(name, "the gradient of y", dout.y, in.u.extents());
  check_optional_shape(name, "the gradient of final_state", dout.final_state, states);
  OverlapChecks<18> memory(name);
  add_diagonal_inputs(memory, in);
  memory.input("the gradient of y", dout.y);
  memory.input("the gradient of final_state", dout.final_state);
  const auto output = [&](std::string_view argument, const auto& view, const auto& extents,
                          std::string_view same = {}) {
    check_optional_output_shape(name, argument, view, extents);
    memory.output(argument, view, same);
  };
  output("the gradient of u", din.u, in.u.extents(), "the gradient of y");
  output("the gradient of lambda", din.lambda, in.lambda.extents());
  output("the gradient of delta", din.delta, channels);
  output("the gradient of B", din.B, in.lambda.extents());
  output("the gradient of C", din.C, in.lambda.extents());
  output("the gradient of D", din.D, channels);
  output("the gradient of initial_state", din.initial_state, states, "the gradient of final_state");
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
