#pragma once

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

/// Counts every call of operator new, and the bytes that it is asked for. Replaces it for the whole program, which is one source.

namespace ssm::test {

inline std::atomic<long> allocation_count{0};
inline std::atomic<std::size_t> allocated_bytes{0};  ///< all that was ever asked for
inline constexpr std::size_t usual_alignment = alignof(std::max_align_t);

inline void* counted_allocation(std::size_t size, std::size_t alignment) noexcept {
  ++allocation_count;
  allocated_bytes += size;
  if (size == 0) size = 1;
  if (alignment <= usual_alignment) return std::malloc(size);  // a sanitizer knows its last byte
  return std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}

inline void* checked(void* pointer) {
  if (pointer == nullptr) throw std::bad_alloc();
  return pointer;
}

/// Out of the compiler's sight, which takes it for a mismatch of new and free.
[[gnu::noinline]] inline void release(void* pointer) noexcept { std::free(pointer); }

/// How many times `body` allocates.
template <class Body>
long allocations_of(Body&& body) {
  const long before = allocation_count;
  body();
  return allocation_count - before;
}

}  // namespace ssm::test

// All forms: a sanitizer brings its own for any that is left out, and memory of ours must not meet
// a delete of theirs.
void* operator new(std::size_t size) {
  using namespace ssm::test;
  return checked(counted_allocation(size, usual_alignment));
}
void* operator new[](std::size_t size) { return operator new(size); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  using namespace ssm::test;
  return counted_allocation(size, usual_alignment);
}
void* operator new[](std::size_t size, const std::nothrow_t& tag) noexcept {
  return operator new(size, tag);
}
void* operator new(std::size_t size, std::align_val_t alignment) {
  using namespace ssm::test;
  return checked(counted_allocation(size, static_cast<std::size_t>(alignment)));
}
void* operator new[](std::size_t size, std::align_val_t alignment) {
  return operator new(size, alignment);
}
void operator delete(void* p) noexcept { ssm::test::release(p); }
void operator delete[](void* p) noexcept { ssm::test::release(p); }
void operator delete(void* p, std::size_t) noexcept { ssm::test::release(p); }
void operator delete[](void* p, std::size_t) noexcept { ssm::test::release(p); }
void operator delete(void* p, std::align_val_t) noexcept { ssm::test::release(p); }
void operator delete[](void* p, std::align_val_t) noexcept { ssm::test::release(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { ssm::test::release(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { ssm::test::release(p); }
