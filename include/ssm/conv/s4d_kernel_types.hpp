#pragma once

#include <complex>

#include "ssm/core/index.hpp"
#include "ssm/core/view.hpp"
#include "ssm/discretize/discretization.hpp"

/// What the kernels of diagonal models, s4d_kernel and dss_kernel, read and write.
namespace ssm {

/// A diagonal model of every channel by itself, h' = Λ h + B u, y = 2 Re(C h): one mode of every
/// conjugate pair.
template <class T, class Space = Host>
struct DiagonalKernelInputs {
  View<const std::complex<T>, 2, Space> lambda;  ///< Λ (channels, state/2), 1/s
  View<const T, 1, Space> delta;                 ///< Δ (channels), s
  View<const std::complex<T>, 2, Space> B;       ///< (channels, state/2), optional: 1 when absent
  View<const std::complex<T>, 2, Space> C;       ///< (channels, state/2)
};

/// Of s4d_kernel.
struct DiagonalKernelOptions {
  Discretization method = Discretization::zero_order_hold;  ///< or bilinear
};

/// Of dss_kernel.
struct DssKernelOptions {
  Index length =
      0;  ///< L, the steps over which powers are normalized; 0: as many as the kernel has
};

/// What a kernel operation writes: memory that is no input's.
template <class T, class Space = Host>
struct DiagonalKernelOutputs {
  View<T, 2, Space> kernel;  ///< K (channels, length), any length
};

template <class T, class Space = Host>
struct DiagonalKernelOutputGradients {
  View<const T, 2, Space> kernel;  ///< ∂K (channels, length)
};

/// Gradients that backward overwrites; absent ones are skipped. Shapes are those of the inputs. The
/// gradient by a complex k is ∂/∂Re k + i ∂/∂Im k.
template <class T, class Space = Host>
struct DiagonalKernelInputGradients {
  View<std::complex<T>, 2, Space> lambda;
  View<T, 1, Space> delta;
  View<std::complex<T>, 2, Space> B;
  View<std::complex<T>, 2, Space> C;
};

/// Scratch of the kernels and of s4d_pass_state. It grows to the largest call it has served, and
/// keeps nothing from one call to the next. Defined with the operations of each space.
template <class T, class Space = Host>
struct DiagonalKernelScratch;

}  // namespace ssm
