#pragma once

#include <algorithm>
#include <string>
#include <thread>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/view.hpp"

namespace ssm {
// An operation's name contains that of its backend's type, and so the processor it was compiled
// for.
inline namespace SSM_DETAIL_ISA {

/// The CPU as a place to compute: the first argument of an operation over host views.
///
/// `cpu` uses every core, `cpu(1)` the calling thread alone, `cpu(n)` n threads. The number of
/// threads never changes a result, not in its last bit.
struct Cpu {
  using space = Host;
  static constexpr int most_threads = 1024;  ///< more than these are not used

  int threads = 0;  ///< 0: as many as the machine has

  /// The same place with `count` threads; 0 stands for as many as the machine has.
  /// @throws DomainError if `count` is negative
  [[nodiscard]] constexpr Cpu operator()(int count) const {
    if (count < 0) detail::throw_domain("cpu", "threads", std::to_string(count), "0 or more");
    return {count};
  }

  [[nodiscard]] int thread_count() const noexcept {
    if (threads > 0) return (std::min)(threads, most_threads);
    static const int cores = [] {
      const unsigned count = std::thread::hardware_concurrency();
      return count == 0 ? 1 : static_cast<int>((std::min)(count, unsigned{most_threads}));
    }();
    return cores;
  }
};

inline constexpr Cpu cpu{};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
