#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

#include "ssm/core/detail/float_control.hpp"
#include "ssm/core/detail/thread_pool.hpp"

#if defined(SSM_COMPILED_SOURCE)
#define SSM_THREADS_INLINE [[gnu::used]] inline
#else
#define SSM_THREADS_INLINE inline
#endif

namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// Waits a moment for `ready()`, and tells whether it came true.
template <class Ready>
[[nodiscard]] bool spin_until(const Ready& ready, std::chrono::nanoseconds patience) noexcept {
  using Clock = std::chrono::steady_clock;
  if (ready()) return true;
  if (patience.count() <= 0) return false;
  const Clock::time_point end = Clock::now() + patience;
  do {
    for (int i = 0; i < 32; ++i) {
      if (ready()) return true;
#if defined(__SSE2__)
      __builtin_ia32_pause();
#elif defined(__aarch64__)
      asm volatile("isb");
#endif
    }
  } while (Clock::now() < end);
  return false;
}

/// Numbered runs of work that threads claim one by one, from 0 upward.
///
/// Nobody waits for a thread that has not begun: the caller claims as the helpers do, and takes its
/// invitation back from those that are late. So on a busy machine, where a helper may wait long for
/// a core, a loop costs little more than on one thread.
class Region {
 public:
  void open(NumberedRun call, void* body, int runs, int helpers) noexcept {
    call_ = call;
    body_ = body;
    runs_ = runs;
    control_ = float_control();
    next_.store(0, std::memory_order_relaxed);
    helpers_.store(helpers, std::memory_order_relaxed);
  }
  void work() noexcept {
    for (int run; (run = next_.fetch_add(1, std::memory_order_relaxed)) < runs_;) call_(body_, run);
  }
  /// What a helper does, in the caller's mode of arithmetic.
  void help() noexcept {
    set_float_control(control_);
    work();
    leave();
  }
  void leave() noexcept {
    if (helpers_.fetch_sub(1) == 1 && caller_asleep_.load()) {
      { const std::lock_guard lock(mutex_); }
      done_.notify_one();
    }
  }
  void wait_for_helpers(std::chrono::nanoseconds patience) {
    const auto done = [&] { return helpers_.load() == 0; };
    if (spin_until(done, patience)) return;
    std::unique_lock lock(mutex_);
    caller_asleep_.store(true);
    done_.wait(lock, done);
    caller_asleep_.store(false);
  }

 private:
  NumberedRun call_ = nullptr;
  void* body_ = nullptr;
  int runs_ = 0;
  FloatControl control_ = 0;
  alignas(64) std::atomic<int> next_{0};
  alignas(64) std::atomic<int> helpers_{0};  ///< invited, and not yet done
  std::atomic<bool> caller_asleep_{false};
  std::mutex mutex_;
  std::condition_variable done_;
};

/// A thread that helps where it is invited. It waits awake for as long as the last invitations took
/// to come, if that was short, and else asleep.
class Helper {
 public:
  /// Whether it was invited. One that came late is left asleep for the next few loops, as waking it
  /// costs more than it would bring.
  [[nodiscard]] bool invite(Region& region) {
    if (rest_ > 0 && asleep_.load()) {
      --rest_;
      return false;
    }
    invited_ = true;
    invitation_.store(&region);
    if (asleep_.load()) {
      { const std::lock_guard lock(mutex_); }
      wake_.notify_one();
    }
    return true;
  }
  /// Whether there was an invitation that could be taken back.
  /// @param time_to_come whether the loop was long enough to wake for
  [[nodiscard]] bool uninvite(bool time_to_come) noexcept {
    if (!std::exchange(invited_, false)) return false;
    const bool late = invitation_.exchange(nullptr) != nullptr;
    if (late && !time_to_come) return true;  // that says nothing of the loops to come
    longest_rest_ = late ? (std::min)(2 * longest_rest_ + 1, 63) : 0;
    rest_ = longest_rest_;
    return late;
  }

  [[noreturn]] void run(std::chrono::nanoseconds patience) {
    using Clock = std::chrono::steady_clock;
    in_parallel_loop = true;
    const auto invited = [&] { return invitation_.load() != nullptr; };
    bool worth_waiting = true;
    for (;;) {
      const Clock::time_point begin = Clock::now();
      if (!spin_until(invited, worth_waiting ? patience : patience.zero())) {
        std::unique_lock lock(mutex_);
        asleep_.store(true);
        wake_.wait(lock, invited);
        asleep_.store(false);
      }
      worth_waiting = Clock::now() - begin < patience;
      if (Region* const region = invitation_.exchange(nullptr)) region->help();
    }
  }

 private:
  alignas(64) std::atomic<Region*> invitation_{nullptr};
  std::atomic<bool> asleep_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  // Of the thread whose team it is in.
  bool invited_ = false;
  int rest_ = 0, longest_rest_ = 0;
};

/// The process's helpers. It is never destroyed: they sleep when the process ends.
class ThreadPool {
 public:
  /// Calls call(body, run) once for each run in [0, runs), on up to `threads` threads.
  void run(int threads, NumberedRun call, void* body, int runs) {
    Team team = gather((std::min)(threads, runs) - 1);
    Region& region = *team.region;
    region.open(call, body, runs, static_cast<int>(team.helpers.size()));
    for (Helper* helper : team.helpers)
      if (!helper->invite(region)) region.leave();
    using Clock = std::chrono::steady_clock;
    const Clock::time_point begin = Clock::now();
    in_parallel_loop = true;
    region.work();
    in_parallel_loop = false;
    const bool time_to_come = Clock::now() - begin > patience();
    for (Helper* helper : team.helpers)
      if (helper->uninvite(time_to_come)) region.leave();
    region.wait_for_helpers(patience());
    dismiss(std::move(team));
  }

  /// This process's pool. A process that was forked has none of its parent's threads, and makes its
  /// own.
  [[nodiscard]] static ThreadPool& instance() {
    ThreadPool* pool = current().load(std::memory_order_acquire);
    if (pool != nullptr) return *pool;
#if defined(__unix__) || defined(__APPLE__)
    static const int at_fork =
        pthread_atfork(nullptr, nullptr, [] { abandoned() = current().exchange(nullptr); });
    static_cast<void>(at_fork);
#endif
    auto made = std::make_unique<ThreadPool>();
    made->before_ = abandoned();
    if (current().compare_exchange_strong(pool, made.get())) pool = made.release();
    return *pool;
  }

 private:
  struct Team {
    std::unique_ptr<Region> region;
    std::vector<Helper*> helpers;
  };

  static std::atomic<ThreadPool*>& current() {
    static std::atomic<ThreadPool*> pool{nullptr};
    return pool;
  }
  static ThreadPool*& abandoned() {
    static ThreadPool* pool = nullptr;
    return pool;
  }
  /// How long a thread waits awake: several times what it takes to wake a sleeping one.
  static std::chrono::nanoseconds patience() {
    static const bool alone = std::thread::hardware_concurrency() == 1;
    return std::chrono::microseconds(alone ? 0 : 50);
  }

  [[nodiscard]] Team gather(int wanted) {
    const std::lock_guard lock(mutex_);
    Team team;
    if (teams_.empty()) {
      team.region = std::make_unique<Region>();
    } else {
      team = std::move(teams_.back());
      teams_.pop_back();
    }
    while (static_cast<int>(helpers_.size()) < wanted && start_helper()) {
    }
    team.helpers.clear();
    for (; wanted > 0 && !idle_.empty(); --wanted) {
      team.helpers.push_back(idle_.back());
      idle_.pop_back();
    }
    return team;
  }
  void dismiss(Team team) {
    const std::lock_guard lock(mutex_);
    // The one invited first next time is the one that was first now.
    for (; !team.helpers.empty(); team.helpers.pop_back()) idle_.push_back(team.helpers.back());
    teams_.push_back(std::move(team));
  }
  bool start_helper() {
    if (exhausted_) return false;
    auto helper = std::make_unique<Helper>();
    idle_.reserve(helpers_.size() + 1);
    const auto body = [h = helper.get()] { h->run(patience()); };
#if defined(__cpp_exceptions)
    try {
      std::thread(body).detach();
    } catch (const std::system_error&) {  // the system has no more: fewer do
      exhausted_ = true;
      return false;
    }
#else
    std::thread(body).detach();
#endif
    idle_.insert(idle_.begin(), helper.get());
    helpers_.push_back(std::move(helper));
    return true;
  }

  std::mutex mutex_;
  std::vector<std::unique_ptr<Helper>> helpers_;
  std::vector<Helper*> idle_;  ///< those of no team, the next to be invited last
  std::vector<Team> teams_;    ///< of no loop, with their memory
  bool exhausted_ = false;
  ThreadPool* before_ = nullptr;  ///< the parent's, so that its memory is not taken for lost
};

SSM_THREADS_INLINE void run_on_threads(int threads, NumberedRun run, void* body, int runs) {
  ThreadPool::instance().run(threads, run, body, runs);
}

SSM_THREADS_INLINE int hardware_threads() noexcept {
  return static_cast<int>(std::thread::hardware_concurrency());
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail

#undef SSM_THREADS_INLINE
