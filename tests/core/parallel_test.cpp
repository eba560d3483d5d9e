#include "ssm/core/parallel.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "ssm/core/flush_denormals.hpp"
#include "support/catch.hpp"

using namespace ssm;

TEST_CASE("the backend counts its threads, and uses the machine's when not told") {
  CHECK(cpu(3).thread_count() == 3);
  CHECK(cpu.thread_count() >= 1);
  CHECK(Cpu{}.thread_count() == cpu.thread_count());
  CHECK(cpu(0).thread_count() == cpu.thread_count());
  CHECK(cpu(100000).thread_count() == Cpu::most_threads);
  CHECK_THROWS_WITH(cpu(-3), "cpu: threads is -3, expected 0 or more");
}

TEST_CASE("parallel_for visits every index once, for any number of threads and pieces") {
  for (const int threads : {1, 2, 3, 5, 8})
    for (const Index count : {0, 1, 2, 7, 100}) {
      CAPTURE(threads, count);
      std::vector<std::atomic<int>> visits(static_cast<std::size_t>(count));
      parallel_for(cpu(threads), count, [&](Index i) { ++visits[static_cast<std::size_t>(i)]; });
      Index wrong = 0;
      for (const auto& visit : visits) wrong += visit == 1 ? 0 : 1;
      CHECK(wrong == 0);
    }
}

TEST_CASE("one thread, and one piece of work, stay on the calling thread") {
  const auto caller = std::this_thread::get_id();
  bool same = true;
  parallel_for(cpu(1), 10, [&](Index) { same = same && std::this_thread::get_id() == caller; });
  parallel_for(cpu(4), 1, [&](Index) { same = same && std::this_thread::get_id() == caller; });
  CHECK(same);
}

TEST_CASE("parallel_for runs a thread's indices in order and next to each other") {
  constexpr Index count = 50;
  std::vector<std::thread::id> thread(count);
  std::vector<int> order(count);
  std::atomic<int> clock = 0;
  parallel_for(cpu(4), count, [&](Index i) {
    thread[static_cast<std::size_t>(i)] = std::this_thread::get_id();
    order[static_cast<std::size_t>(i)] = clock++;
  });
  Index changes = 0, disorder = 0;
  for (std::size_t i = 1; i < thread.size(); ++i) {
    if (thread[i] != thread[i - 1])
      ++changes;
    else if (order[i] < order[i - 1])
      ++disorder;
  }
  CHECK(changes <= 3);
  CHECK(disorder == 0);
}

TEST_CASE("the first exception in the order of the runs reaches the caller, after all are done") {
  for (const int threads : {1, 2, 5}) {
    std::atomic<int> finished = 0;
    const auto run = [&] {
      parallel_for(cpu(threads), 10, [&](Index i) {
        if (i == 3 || i == 9) throw std::runtime_error("at " + std::to_string(i));
        ++finished;
      });
    };
    CHECK_THROWS_WITH(run(), "at 3");
    CHECK(finished >= 3);
  }
}

TEST_CASE("parallel_ranges covers the whole range by one run a thread at most") {
  for (const int threads : {1, 2, 3, 7})
    for (const Index count : {0, 1, 5, 64}) {
      CAPTURE(threads, count);
      std::vector<std::atomic<int>> visits(static_cast<std::size_t>(count));
      std::atomic<int> runs = 0;
      parallel_ranges(cpu(threads), count, [&](Index begin, Index end) {
        ++runs;
        for (Index i = begin; i < end; ++i) ++visits[static_cast<std::size_t>(i)];
      });
      CHECK(runs <= threads);
      Index wrong = 0;
      for (const auto& visit : visits) wrong += visit == 1 ? 0 : 1;
      CHECK(wrong == 0);
    }
}

TEST_CASE("a loop within a loop runs on the thread it is in") {
  std::atomic<int> visits = 0, strangers = 0;
  parallel_for(cpu(3), 6, [&](Index) {
    const auto here = std::this_thread::get_id();
    parallel_for(cpu(3), 5, [&](Index) {
      ++visits;
      if (std::this_thread::get_id() != here) ++strangers;
    });
  });
  CHECK(visits == 30);
  CHECK(strangers == 0);
}

TEST_CASE("loops of several threads at once do not mix") {
  std::atomic<Index> wrong = 0;
  const auto many_loops = [&] {
    for (int loop = 0; loop < 300; ++loop) {
      const Index count = 1 + loop % 7;
      std::vector<int> visits(static_cast<std::size_t>(count));
      parallel_for(cpu(4), count, [&](Index i) { ++visits[static_cast<std::size_t>(i)]; });
      for (const int visit : visits) wrong += visit == 1 ? 0 : 1;
    }
  };
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) callers.emplace_back(many_loops);
  for (std::thread& caller : callers) caller.join();
  CHECK(wrong == 0);
}

TEST_CASE("as many threads as anybody may ask for do the work, or as many as the system has") {
  std::atomic<int> visits = 0;
  parallel_for(cpu(100000), 5000, [&](Index) { ++visits; });
  CHECK(visits == 5000);
}

#if !defined(__SANITIZE_THREAD__)  // which ends a forked process that starts threads
TEST_CASE("a forked process has parallel loops as well") {
  const auto sum = [] {
    std::atomic<Index> total = 0;
    parallel_for(cpu(3), 30, [&](Index i) { total += i; });
    return total.load();
  };
  REQUIRE(sum() == 435);
  for (int generation = 0; generation < 2; ++generation) {
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      alarm(20);
      const bool right = sum() == 435 && sum() == 435;
      const pid_t grandchild = fork();
      if (grandchild == 0) _exit(sum() == 435 ? 0 : 1);
      int status = 1;
      waitpid(grandchild, &status, 0);
      _exit(right && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : 1);
    }
    int status = 1;
    waitpid(child, &status, 0);
    CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 0));
    CHECK(sum() == 435);
  }
}
#endif

TEST_CASE("every thread of a loop computes in its caller's mode of arithmetic") {
  const auto count_flushed = [] {
    std::atomic<int> flushed = 0;
    parallel_for(cpu(4), 400, [&](Index) {
      volatile float small = 1e-38f;
      small = small * 0.01f;
      if (small == 0.0f) ++flushed;
      std::this_thread::yield();
    });
    return flushed.load();
  };
  CHECK(count_flushed() == 0);
  if (FlushDenormals::available) {
    const FlushDenormals flush;
    CHECK(count_flushed() == 400);
  }
  CHECK(count_flushed() == 0);
}

TEST_CASE("no more threads are used than the work repays") {
  CHECK(for_work(cpu(8), 0).thread_count() == 1);
  CHECK(for_work(cpu(8), 5e3).thread_count() == 1);
  CHECK(for_work(cpu(8), 3.5e4).thread_count() == 3);
  CHECK(for_work(cpu(8), 1e9).thread_count() == 8);
  CHECK(for_work(cpu(1), 1e9).thread_count() == 1);
}
