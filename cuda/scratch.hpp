#pragma once

#include <cstddef>

#include "arrays.hpp"
#include "launch.hpp"
#include "ssm/cuda/memory.hpp"

namespace ssm::kernels {

/// Cuts one buffer into arrays. Asked for twice: first to count, then to give.
class Scratch {
 public:
  Scratch() = default;
  explicit Scratch(void* memory) : memory_(static_cast<std::byte*>(memory)) {}

  template <class T>
  [[nodiscard]] T* array(Index count) {
    constexpr std::size_t alignment = 256;
    T* result = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + used_);
    used_ += (static_cast<std::size_t>(count) * sizeof(T) + alignment - 1) / alignment * alignment;
    return result;
  }
  [[nodiscard]] std::size_t used() const { return used_; }

 private:
  std::byte* memory_ = nullptr;
  std::size_t used_ = 0;
};

/// Lays arrays out by `plan(scratch)` in a buffer that grows to hold them, and returns what the
/// plan returns.
template <class Plan>
auto lay_out(const Cuda& backend, DeviceBuffer& buffer, const Plan& plan) {
  Scratch count;
  static_cast<void>(plan(count));
  Scratch give(buffer.reserve(backend, count.used()));
  return plan(give);
}

/// Of element i of an array of these extents, counted row by row.
template <class E, int Rank>
struct CopyElements {
  Array<const E, Rank> from;
  E* to;
  Index extents[Rank];

  SSM_DEVICE void operator()(Index i) const {
    Index offset = 0, left = i;
    for (int d = Rank; d-- > 0; left /= extents[d]) offset += left % extents[d] * from.stride[d];
    to[i] = from.data[offset];
  }
};

/// Copies what an operation must read and may have overwritten by then, and returns the copy.
template <class E, class K, std::size_t Rank>
Array<const E, static_cast<int>(Rank)> copy_elements(const Cuda& backend, const char* function,
                                                     const View<const K, Rank, Device>& from,
                                                     E* to) {
  constexpr int rank = static_cast<int>(Rank);
  CopyElements<E, rank> copy{Array<const E, rank>(from), to, {}};
  for (std::size_t d = 0; d < Rank; ++d) copy.extents[d] = from.extent(d);
  launch_elementwise(backend, function, from.size(), copy);
  return Array<const E, rank>(View<const E, Rank, Device>(to, from.extents()));
}

}  // namespace ssm::kernels
