#pragma once

#include <cstddef>
#include <memory>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "ssm/core/index.hpp"

namespace ssm::detail {

/// Memory for numbers that are read again and again. Where it is large, the system is asked for
/// large pages, of which the processor finds more at once.
[[nodiscard]] inline std::shared_ptr<std::byte> allocate_large(Index bytes) {
  constexpr Index page = Index{2} << 20;
  const bool large = bytes >= page;
  const std::align_val_t alignment{static_cast<std::size_t>(large ? page : 64)};
  const auto size = static_cast<std::size_t>(large ? (bytes + page - 1) / page * page : bytes);
  auto* const memory = static_cast<std::byte*>(::operator new(size, alignment));
  std::shared_ptr<std::byte> owner(memory,
                                   [alignment](std::byte* p) { ::operator delete(p, alignment); });
#if defined(__linux__)
  if (large) (void)::madvise(memory, size, MADV_HUGEPAGE);
#endif
  return owner;
}

/// Memory for the matrices of one model, in the order in which they are read: those smaller than a
/// large page share some, and one goes on where the last ended.
class LargeMemory {
 public:
  /// Memory that begins at a multiple of 64 bytes and lives as long as any of what it shares a
  /// block with.
  [[nodiscard]] std::shared_ptr<std::byte> allocate(Index bytes) {
    constexpr Index block = Index{16} << 20;
    if (bytes > block / 4) return allocate_large(bytes);
    const Index room = (bytes + 63) / 64 * 64;
    if (room > left_) {
      block_ = allocate_large(block);
      left_ = block;
    }
    left_ -= room;
    return {block_, block_.get() + (block - left_ - room)};
  }

 private:
  std::shared_ptr<std::byte> block_;
  Index left_ = 0;
};

}  // namespace ssm::detail
