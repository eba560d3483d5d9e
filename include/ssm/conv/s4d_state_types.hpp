#pragma once

#include <complex>

#include "ssm/conv/s4d_kernel_types.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/view.hpp"
#include "ssm/discretize/discretization.hpp"

/// What the state of a diagonal model reads and writes as it enters and leaves a convolution,
/// s4d_pass_state.
namespace ssm {

/// Of S sequences, every row of the batch or every packed one, each has a state of its own.
template <class T, class Space = Host>
struct DiagonalStateInputs {
  DiagonalKernelInputs<T, Space> model;                 ///< as given to s4d_kernel
  View<const T, 3, Space> u;                            ///< (batch, length, channels)
  View<const std::complex<T>, 3, Space> initial_state;  ///< h_{−1} (S, channels, state/2),
                                                        ///< optional: zero when absent
  Sequences<Space> sequences;                           ///< what time means
};

struct DiagonalStateOptions {
  Discretization method = Discretization::zero_order_hold;  ///< or bilinear
};

/// No output shares memory with another, nor with an input but where said.
template <class T, class Space = Host>
struct DiagonalStateOutputs {
  View<T, 3, Space> y;                          ///< (batch, length, channels), optional, added to
  View<std::complex<T>, 3, Space> final_state;  ///< (S, channels, state/2), optional; may be the
                                                ///< view that the initial state is
};

template <class T, class Space = Host>
struct DiagonalStateOutputGradients {
  View<const T, 3, Space> y;                          ///< optional: zero when absent
  View<const std::complex<T>, 3, Space> final_state;  ///< optional: zero when absent
};

/// Gradients that backward writes; absent ones are skipped.
template <class T, class Space = Host>
struct DiagonalStateInputGradients {
  DiagonalKernelInputGradients<T, Space> model;   ///< added to
  View<T, 3, Space> u;                            ///< added to
  View<std::complex<T>, 3, Space> initial_state;  ///< overwritten; may be the view that the
                                                  ///< gradient of the final state is
};

template <class T, class Space = Host>
using DiagonalStateScratch = DiagonalKernelScratch<T, Space>;

}  // namespace ssm
