#pragma once

#include "ssm/core/detail/isa.hpp"

/// The threads that parallel loops run on: started when first needed, kept, asleep between loops.
namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// Whether this thread is inside a parallel loop: one within it runs where it is.
inline thread_local bool in_parallel_loop = false;

using NumberedRun = void (*)(void* body, int run) noexcept;

/// Calls run(body, i) once for each i in [0, runs), on up to `threads` threads.
void run_on_threads(int threads, NumberedRun run, void* body, int runs);

/// How many threads the machine runs at once; 0 when it does not say.
[[nodiscard]] int hardware_threads() noexcept;

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail

#if !defined(SSM_COMPILED)
#include "ssm/core/detail/thread_pool_impl.hpp"
#endif
