#pragma once

#include <array>
#include <complex>
#include <concepts>
#include <string_view>
#include <vector>

#include "ssm/core/checks.hpp"
#include "ssm/core/passed_states.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"

namespace ssm {

/// What dplr_scan reads: for each channel a system of one input and one output whose A is diagonal
/// plus low rank. Modes come in conjugate pairs, of which one is given.
template <class T, class Space = Host>
struct DplrScanInputs {
  View<const T, 3, Space> u;                     ///< (batch, length, channels)
  View<const std::complex<T>, 2, Space> lambda;  ///< Λ (channels, state/2), 1/s
  View<const std::complex<T>, 3, Space> P;  ///< (channels, state/2, rank), optional: rank 0; of any
                                            ///< rank
  View<const T, 1, Space> delta;            ///< Δ (channels), s, positive and finite
  View<const std::complex<T>, 2, Space> B;  ///< (channels, state/2)
  View<const std::complex<T>, 2, Space> C;  ///< (channels, state/2)
  View<const T, 1, Space> D = {};           ///< (channels), optional: no feedthrough when absent
  View<const std::complex<T>, 3, Space> initial_state =
      {};                           ///< (sequences, channels, state/2), optional: zero when absent
  Sequences<Space> sequences = {};  ///< packed sequences, and the direction of time
};

/// How dplr_scan is to run.
struct DplrScanOptions {
  bool keep = true;  ///< whether backward will follow and the scratch keeps what it needs
};

/// What dplr_scan writes.
template <class T, class Space = Host>
struct DplrScanOutputs {
  View<T, 3, Space> y;  ///< (batch, length, channels); without options.keep it may be the memory of
                        ///< u
  View<std::complex<T>, 3, Space> final_state =
      {};  ///< (sequences, channels, state/2), optional; may be the memory of the initial state
};

/// The gradients of a scalar loss with respect to the outputs, which dplr_scan_backward reads.
template <class T, class Space = Host>
struct DplrScanOutputGradients {
  View<const T, 3, Space> y;  ///< (batch, length, channels)
  View<const std::complex<T>, 3, Space> final_state =
      {};  ///< (sequences, channels, state/2), optional: zero when absent
};

/// The gradients that dplr_scan_backward overwrites. Absent ones are not computed. The gradient
/// with respect to a complex k is ∂/∂Re k + i ∂/∂Im k.
template <class T, class Space = Host>
struct DplrScanInputGradients {
  View<T, 3, Space> u = {};                     ///< (batch, length, channels); may be the memory
                                                ///< of the gradient of y
  View<std::complex<T>, 2, Space> lambda = {};  ///< (channels, state/2)
  View<std::complex<T>, 3, Space> P = {};       ///< (channels, state/2, rank)
  View<T, 1, Space> delta = {};                 ///< (channels)
  View<std::complex<T>, 2, Space> B = {};       ///< (channels, state/2)
  View<std::complex<T>, 2, Space> C = {};       ///< (channels, state/2)
  View<T, 1, Space> D = {};                     ///< (channels)
  View<std::complex<T>, 3, Space> initial_state =
      {};  ///< (sequences, channels, state/2); may be the memory of the gradient of final_state
};

/// Scratch memory of dplr_scan and dplr_scan_backward, with what the first leaves for the second.
/// It grows to the largest call. Its members are private to the library.
template <class T, class Space = Host>
struct DplrScanScratch;

template <class T>
struct DplrScanScratch<T, Host> {
  struct Thread {
    Tensor<double, 1> sampling;
    Tensor<T, 1> lanes;
  };
  detail::KeptCall<5> call;        ///< batch, length, channels, state/2, rank
  Tensor<T, 1> tables;             ///< the sampled systems, of each block of channels
  Tensor<T, 1> sums;               ///< their gradients
  Tensor<T, 1> kept;               ///< the states at the start of every segment of time
  Tensor<Index, 1> first_segment;  ///< (sequences + 1)
  std::vector<Thread> threads;
  PassedStates<std::complex<T>> passed;
  std::vector<DplrScanScratch> blocks;  ///< of channels, where these run in several calls
};

namespace detail {

/// The sizes of a call of dplr_scan.
struct DplrScanSizes {
  Index batch, length, channels, modes, rank, sequences;
};

template <class T, class Space>
DplrScanSizes check_dplr_inputs(std::string_view name, const DplrScanInputs<T, Space>& in) {
  check_given(name, "u", in.u, "(batch, length, channels)");
  check_given(name, "lambda", in.lambda, "(channels, state/2)");
  const Index channels = in.u.extent(2), modes = in.lambda.extent(1);
  const std::array<Index, 2> rows{channels, modes};
  check_shape(name, "lambda", in.lambda, rows);
  if (in.P) check_given(name, "P", in.P, "(channels, state/2, rank)");
  const Index rank = in.P ? in.P.extent(2) : 0;
  check_optional_shape(name, "P", in.P, std::array{channels, modes, rank});
  check_shape(name, "delta", in.delta, std::array{channels});
  if constexpr (std::same_as<Space, Host>) check_positive(name, "delta", in.delta);
  check_shape(name, "B", in.B, rows);
  check_shape(name, "C", in.C, rows);
  check_optional_shape(name, "D", in.D, std::array{channels});
  check_sequences(name, in.sequences, in.u.extent(0), in.u.extent(1));
  const Index sequences = in.sequences.count(in.u.extent(0));
  check_optional_shape(name, "initial_state", in.initial_state,
                       std::array{sequences, channels, modes});
  return {in.u.extent(0), in.u.extent(1), channels, modes, rank, sequences};
}

template <class Checks, class T, class Space>
void add_dplr_inputs(Checks& memory, const DplrScanInputs<T, Space>& in) {
  memory.input("u", in.u);
  memory.input("lambda", in.lambda);
  memory.input("P", in.P);
  memory.input("delta", in.delta);
  memory.input("B", in.B);
  memory.input("C", in.C);
  memory.input("D", in.D);
  memory.input("initial_state", in.initial_state);
}

template <class T, class Space>
void check_dplr_outputs(std::string_view name, const DplrScanInputs<T, Space>& in,
                        const DplrScanSizes& sizes, const DplrScanOptions& options,
                        const DplrScanOutputs<T, Space>& out) {
  check_output_shape(name, "y", out.y, in.u.extents());
  check_optional_output_shape(name, "final_state", out.final_state,
                              std::array{sizes.sequences, sizes.channels, sizes.modes});
  OverlapChecks<10> memory(name);
  add_dplr_inputs(memory, in);
  memory.output("y", out.y, options.keep ? "" : "u");  // backward reads u
  memory.output("final_state", out.final_state, "initial_state");
}

template <class T, class Space>
void check_dplr_gradients(std::string_view name, const DplrScanInputs<T, Space>& in,
                          const DplrScanSizes& sizes, const DplrScanOutputGradients<T, Space>& dout,
                          const DplrScanInputGradients<T, Space>& din) {
  const std::array<Index, 3> states{sizes.sequences, sizes.channels, sizes.modes};
  const std::array<Index, 2> rows{sizes.channels, sizes.modes};
  const std::array<Index, 1> channels{sizes.channels};
  check_shape(name, "the gradient of y", dout.y, in.u.extents());
  check_optional_shape(name, "the gradient of final_state", dout.final_state, states);
  OverlapChecks<18> memory(name);
  add_dplr_inputs(memory, in);
  memory.input("the gradient of y", dout.y);
  memory.input("the gradient of final_state", dout.final_state);
  const auto output = [&](std::string_view argument, const auto& view, const auto& extents,
                          std::string_view same = {}) {
    check_optional_output_shape(name, argument, view, extents);
    memory.output(argument, view, same);
  };
  output("the gradient of u", din.u, in.u.extents(), "the gradient of y");
  output("the gradient of lambda", din.lambda, rows);
  output("the gradient of P", din.P, std::array{sizes.channels, sizes.modes, sizes.rank});
  output("the gradient of delta", din.delta, channels);
  output("the gradient of B", din.B, rows);
  output("the gradient of C", din.C, rows);
  output("the gradient of D", din.D, channels);
  output("the gradient of initial_state", din.initial_state, states, "the gradient of final_state");
}

}  // namespace detail
}  // namespace ssm
