#pragma once

#include <complex>

#include "ssm/core/view.hpp"

namespace ssm {

/// A diagonal plus low-rank model of every channel by itself, A = Λ − P P*, one of every conjugate
/// pair given. The output is truncated: C̃ = C (I − A_bar^L) for the length L of the kernel
/// (s4_truncate), which is what S4 trains.
template <class T, class Space = Host>
struct S4KernelInputs {
  View<const std::complex<T>, 2, Space> lambda;  ///< Λ (channels, state/2), 1/s
  View<const std::complex<T>, 3, Space> P;       ///< (channels, state/2, rank), optional: rank 0
  View<const std::complex<T>, 2, Space> B;       ///< (channels, state/2)
  View<const std::complex<T>, 2, Space> C;       ///< C̃ (channels, state/2)
  View<const T, 1, Space> delta;                 ///< Δ (channels), s
};

/// There is nothing to choose: the bilinear step is what S4 is defined by.
struct S4KernelOptions {};

/// What s4_kernel writes: memory that is no input's.
template <class T, class Space = Host>
struct S4KernelOutputs {
  View<T, 2, Space> kernel;  ///< K (channels, L), any L
};

template <class T, class Space = Host>
struct S4KernelOutputGradients {
  View<const T, 2, Space> kernel;  ///< ∂K (channels, L)
};

/// Gradients that backward overwrites; absent ones are skipped. Shapes are those of the inputs. The
/// gradient by a complex k is ∂/∂Re k + i ∂/∂Im k.
template <class T, class Space = Host>
struct S4KernelInputGradients {
  View<std::complex<T>, 2, Space> lambda = {};
  View<std::complex<T>, 3, Space> P = {};
  View<std::complex<T>, 2, Space> B = {};
  View<std::complex<T>, 2, Space> C = {};
  View<T, 1, Space> delta = {};
};

/// Scratch of the S4 kernel. It grows to the largest call it has served, and keeps nothing of a
/// model from one call to the next. Defined with the operation of each space.
template <class T, class Space = Host>
struct S4KernelScratch;

}  // namespace ssm
