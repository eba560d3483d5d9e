#pragma once

#include <algorithm>
#include <atomic>
#include <exception>
#include <limits>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/thread_pool.hpp"
#include "ssm/core/index.hpp"

namespace ssm {

namespace detail {
inline namespace SSM_DETAIL_ISA {

[[nodiscard]] inline bool is_in_parallel() noexcept {
#ifdef _OPENMP
  if (omp_in_parallel()) return true;  // a loop of the caller's own keeps the cores busy
#endif
  return in_parallel_loop;
}

/// The failure of the first of several runs.
class FirstFailure {
 public:
  template <class Run>
  void guard(int run, const Run& body) noexcept {
#if defined(__cpp_exceptions)
    try {
      body();
    } catch (...) {
      while (busy_.test_and_set(std::memory_order_acquire)) {
      }
      if (run < run_) {
        run_ = run;
        failure_ = std::current_exception();
      }
      busy_.clear(std::memory_order_release);
    }
#else
    static_cast<void>(run);
    body();
#endif
  }
  void rethrow() const {
#if defined(__cpp_exceptions)
    if (failure_) std::rethrow_exception(failure_);
#endif
  }

 private:
#if defined(__cpp_exceptions)
  std::atomic_flag busy_;
  int run_ = (std::numeric_limits<int>::max)();
  std::exception_ptr failure_;
#endif
};

}  // namespace SSM_DETAIL_ISA
}  // namespace detail

inline namespace SSM_DETAIL_ISA {

/// Calls body(i) for every i in [0, count), in parallel. Each thread takes one contiguous range of
/// i.
///
/// The result does not depend on the number of threads as long as body(i) writes only what belongs
/// to i. To reduce over i with the same bits for any number of threads, cut i into fixed pieces and
/// add their sums in order. When calls throw, the exception of the range with the smallest i is
/// rethrown after every thread has finished. With one thread, with a count of 1, and inside another
/// parallel loop, everything runs on the calling thread. Threads are kept for the next loop and use
/// no processor time while they wait. A thread that the system does not schedule in time is not
/// waited for: the others take its share. A call costs a few microseconds; see for_work.
template <class Body>
void parallel_for(const Cpu& backend, Index count, Body&& body) {
  // One compiled copy of the loop: where the compiler may fuse multiply-adds, two copies can differ
  // in the last bit.
  const auto loop = [&](Index begin, Index end) __attribute__((noinline)) {
    for (Index i = begin; i < end; ++i) body(i);
  };
  const auto runs = static_cast<int>((std::min)(count, static_cast<Index>(backend.thread_count())));
  if (runs <= 1 || detail::is_in_parallel()) return loop(0, count);
  detail::FirstFailure failure;
  auto run = [&](int at) noexcept {
    failure.guard(at, [&] { loop(count * at / runs, count * (at + 1) / runs); });
  };
  using Run = decltype(run);
  detail::run_on_threads(
      runs, [](void* run_, int at) noexcept { (*static_cast<Run*>(run_))(at); }, &run, runs);
  failure.rethrow();
}

/// Calls body(begin, end) for contiguous ranges that together cover [0, count), at most one range
/// for each thread: for loops that reuse scratch memory from item to item. The ranges depend on the
/// number of threads, so the result of an item must not depend on the other items of its range.
template <class Body>
void parallel_ranges(const Cpu& backend, Index count, Body&& body) {
  const Index runs = (std::min)(count, static_cast<Index>(backend.thread_count()));
  parallel_for(backend, runs,
               [&](Index run) { body(count * run / runs, count * (run + 1) / runs); });
}

/// The backend, limited to as many threads as pay for a given amount of work: one for every ten
/// microseconds that one thread would need.
/// @param nanoseconds how long one thread would need; a rough estimate is enough
[[nodiscard]] inline Cpu for_work(const Cpu& backend, double nanoseconds) noexcept {
  constexpr double worth_a_thread = 10000;
  const int most = backend.thread_count();
  const double repaid = nanoseconds / worth_a_thread;
  return {repaid >= most ? most : (std::max)(1, static_cast<int>(repaid))};
}

/// The same for a pass over so many elements, each of which takes one thread so many nanoseconds.
[[nodiscard]] inline Cpu for_elements(const Cpu& backend, Index count,
                                      double nanoseconds = 0.3) noexcept {
  return for_work(backend, static_cast<double>(count) * nanoseconds);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
