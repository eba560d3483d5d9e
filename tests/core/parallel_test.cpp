#include "ssm/core/parallel.hpp"

#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/catch.hpp"

using namespace ssm;

TEST_CASE("the backend counts its threads, and uses the machine's when not told") {
  CHECK(cpu(3).thread_count() == 3);
  CHECK(cpu.thread_count() >= 1);
  CHECK(Cpu{}.thread_count() == cpu.thread_count());
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
