#pragma once

#include <thread>

#include "ssm/core/view.hpp"

namespace ssm {

/// The CPU as a place to compute: the first argument of an operation over host views.
///
/// `cpu` uses every core, `cpu(1)` the calling thread alone, `cpu(n)` n threads. The number of
/// threads never changes a result, not in its last bit.
struct Cpu {
  using space = Host;

  int threads = 0;  ///< 0: as many as the machine has

  [[nodiscard]] constexpr Cpu operator()(int count) const noexcept { return {count}; }

  [[nodiscard]] int thread_count() const noexcept {
    if (threads > 0) return threads;
    const unsigned cores = std::thread::hardware_concurrency();
    return cores == 0 ? 1 : static_cast<int>(cores);
  }
};

inline constexpr Cpu cpu{};

}  // namespace ssm
