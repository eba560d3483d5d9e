#pragma once

#include <chrono>
#include <csignal>
#include <cstdio>
#include <string>

/// What long jobs of the examples share.
namespace job {

constexpr int exit_interrupted = 130;

/// The first Ctrl-C after `end_in_order_on_interrupt` sets this, the second one ends at once.
inline volatile std::sig_atomic_t interrupted = 0;

inline void end_in_order_on_interrupt() {
  std::signal(SIGINT, [](int) {
    interrupted = 1;
    std::signal(SIGINT, SIG_DFL);
  });
}

class Stopwatch {
 public:
  [[nodiscard]] double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

template <class... Values>
std::string format(const char* pattern, Values... values) {
  char text[256];
  std::snprintf(text, sizeof(text), pattern, values...);
  return text;
}

}  // namespace job
