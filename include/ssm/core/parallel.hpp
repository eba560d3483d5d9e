#pragma once

#include <algorithm>
#include <exception>
#include <thread>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "ssm/core/backend.hpp"
#include "ssm/core/index.hpp"

namespace ssm {

/// Calls body(i) for every i in [0, count), contiguous runs of i on each thread.
///
/// The result cannot depend on the number of threads as long as body(i) writes only what belongs
/// to i. A reduction over i is made deterministic by the caller: fixed pieces, summed in order.
/// The first exception in index order of the runs is rethrown once every thread is done. With one
/// thread, or one piece of work, no thread is started.
template <class Body>
void parallel_for(const Cpu& backend, Index count, Body&& body) {
  const auto threads =
      static_cast<int>(std::min<Index>(count, static_cast<Index>(backend.thread_count())));
  // One copy of the body for every number of threads: the compiler may round two differently.
  const auto run_body = [&body](Index begin, Index end) __attribute__((noinline)) {
    for (Index i = begin; i < end; ++i) body(i);
  };
  if (threads <= 1) return run_body(0, count);
  std::vector<std::exception_ptr> failures(static_cast<std::size_t>(threads));
  const auto run = [&](int thread) {
    try {
      run_body(count * thread / threads, count * (thread + 1) / threads);
    } catch (...) {
      failures[static_cast<std::size_t>(thread)] = std::current_exception();
    }
  };
#ifdef _OPENMP
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int thread = 0; thread < threads; ++thread) run(thread);
#else
  {
    std::vector<std::jthread> pool;
    pool.reserve(static_cast<std::size_t>(threads - 1));
    for (int thread = 1; thread < threads; ++thread) pool.emplace_back(run, thread);
    run(0);
  }
#endif
  for (const std::exception_ptr& failure : failures)
    if (failure) std::rethrow_exception(failure);
}

/// Calls body(begin, end) for at most one contiguous run of [0, count) per thread: for loops that
/// keep scratch across their items. The runs depend on the number of threads, so body must treat
/// each item by itself.
template <class Body>
void parallel_ranges(const Cpu& backend, Index count, Body&& body) {
  const Index runs = std::min<Index>(count, static_cast<Index>(backend.thread_count()));
  parallel_for(backend, runs,
               [&](Index run) { body(count * run / runs, count * (run + 1) / runs); });
}

}  // namespace ssm
