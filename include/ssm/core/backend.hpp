#pragma once

#include <algorithm>
#include <string>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/thread_pool.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/view.hpp"

namespace ssm {
// An operation's name contains that of its backend's type, and so the processor it was compiled
// for.
inline namespace SSM_DETAIL_ISA {

/// The CPU as a place to compute: the first argument of an operation over host views.
///
/// `cpu` uses every core, `cpu(1)` the calling thread alone, `cpu(n)` n threads. The number of
/// threads never changes a result, not even in its last bit.
struct Cpu {
  using space = Host;                        ///< where the memory is that this backend computes on
  static constexpr int most_threads = 1024;  ///< larger numbers of threads count as this one

  int threads = 0;  ///< how many threads to use; 0: as many as the machine has

  /// The CPU with `count` threads; 0 stands for as many as the machine has.
  /// @throws DomainError if `count` is negative
  [[nodiscard]] constexpr Cpu operator()(int count) const {
    if (count < 0) detail::throw_domain("cpu", "threads", std::to_string(count), "0 or more");
    return {count};
  }

  /// How many threads an operation uses, at least 1: with `threads` 0, the number of cores.
  [[nodiscard]] int thread_count() const noexcept {
    if (threads > 0) return (std::min)(threads, most_threads);
    static const int cores = [] {
      const int count = detail::hardware_threads();
      return count == 0 ? 1 : (std::min)(count, int{most_threads});
    }();
    return cores;
  }
};

/// The CPU with all its cores, as in `selective_scan(cpu, inputs, options, outputs, scratch)`.
inline constexpr Cpu cpu{};

/// Whether a backend holds every sequence from its first step to its last. A layer asks it where it
/// has a choice of ways to compute, some of which need the whole; see ssm/mpi/ranks.hpp for a
/// backend that does not.
template <class Backend>
inline constexpr bool holds_whole_time = true;

/// The backend for so many layers that run one after the other: itself, unless what it chooses for
/// one layer depends on how many there are.
template <class Backend>
[[nodiscard]] const Backend& for_layers(const Backend& backend, Index) noexcept {
  return backend;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
