#pragma once

#include <cstddef>

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

}  // namespace ssm::kernels
