#pragma once

#include <type_traits>

#include "ssm/cuda/backend.hpp"
#include "ssm/scan/selective_scan_types.hpp"

namespace ssm {

/// One step of the selective scan over device views, in place on a pool of states (slots, channels,
/// state): row b of the batch is the sequence of slot slots[b], or b itself where `slots` is
/// absent. A row whose slot is negative or too large is padding: neither its state nor its y is
/// touched. Two rows of a call may not share a slot. Everything else as on the CPU; allocates
/// nothing, and can be captured into a graph.
/// @throws ShapeError, CudaError
template <class T, class K>
void selective_scan_step(const Cuda& backend, const SelectiveScanStepInputs<T, K, Device>& inputs,
                         const SelectiveScanOptions& options,
                         const std::type_identity_t<View<K, 3, Device>>& states,
                         const std::type_identity_t<View<T, 2, Device>>& y,
                         const View<const Index, 1, Device>& slots = {});

}  // namespace ssm
