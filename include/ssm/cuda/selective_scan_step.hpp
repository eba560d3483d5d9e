#pragma once

#include <type_traits>

#include "ssm/cuda/backend.hpp"
#include "ssm/scan/selective_scan_types.hpp"

namespace ssm {

/// One step of the selective scan over device views, on a pool of states (slots, channels, state)
/// that it updates. Row b of the batch belongs to the sequence in slot slots[b], or in slot b when
/// `slots` is absent. A row whose slot is negative or too large is padding: its state and its y are
/// not touched. Two rows of a call must not have the same slot. Otherwise it does what
/// selective_scan_step over host views does. Allocates nothing, and can be captured into a graph.
/// @throws ShapeError, CudaError
template <class T, class K>
void selective_scan_step(const Cuda& backend, const SelectiveScanStepInputs<T, K, Device>& inputs,
                         const SelectiveScanOptions& options,
                         const std::type_identity_t<View<K, 3, Device>>& states,
                         const std::type_identity_t<View<T, 2, Device>>& y,
                         const View<const Index, 1, Device>& slots = {});

}  // namespace ssm
