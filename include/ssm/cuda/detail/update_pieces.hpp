#pragma once

#include "ssm/core/index.hpp"
#include "ssm/cuda/backend.hpp"
#include "ssm/cuda/memory.hpp"

namespace ssm::detail {

/// A run of elements of one parameter on a device, and what its group says.
template <class T>
struct DevicePiece {
  T* weight;
  const T* gradient;
  T *first, *second;  ///< moments
  Index count;
  double learning_rate, weight_decay;  ///< factors

  friend bool operator==(const DevicePiece&, const DevicePiece&) = default;
};

/// What the kernels of an update are told. The schedule is on the device, where the step is.
struct UpdateRule {
  double peak, final_fraction;
  Index warmup, steps;
  double beta1, beta2, epsilon, weight_decay, max_norm;
};

/// @param progress (4): steps done, norm, learning rate, whether the last step was done
template <class T>
void update_pieces(const Cuda& backend, const DevicePiece<T>* pieces, Index count,
                   const UpdateRule& rule, double* progress, DeviceBuffer& memory);

}  // namespace ssm::detail
