#pragma once

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

/// Counts every call of operator new. Replaces it for the whole program: include it in one source
/// file only.

namespace ssm::test {

inline std::atomic<long> allocation_count{0};

inline void* counted_allocation(std::size_t size, std::size_t alignment) {
  ++allocation_count;
  const std::size_t rounded = (size + alignment - 1) / alignment * alignment;
  if (void* p = std::aligned_alloc(alignment, rounded > 0 ? rounded : alignment)) return p;
  throw std::bad_alloc();
}

/// How many times `body` allocates.
template <class Body>
long allocations_of(Body&& body) {
  const long before = allocation_count;
  body();
  return allocation_count - before;
}

}  // namespace ssm::test

void* operator new(std::size_t size) {
  return ssm::test::counted_allocation(size, alignof(std::max_align_t));
}
void* operator new(std::size_t size, std::align_val_t alignment) {
  return ssm::test::counted_allocation(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
