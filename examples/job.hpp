#pragma once

#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <initializer_list>
#include <new>
#include <stdexcept>
#include <string>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

/// What long jobs of the examples share.
namespace job {

constexpr int exit_interrupted = 130;

/// The first Ctrl-C after `end_in_order_on_interrupt` sets this, the second one ends at once. So do
/// the requests to end by which `kill`, mpirun and batch systems stop a program.
inline volatile std::sig_atomic_t interrupted = 0;

inline void end_in_order_on_interrupt() {
  for (const int signal : {SIGINT, SIGTERM})
    std::signal(signal, [](int which) {
      interrupted = 1;
      std::signal(which, SIG_DFL);
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
  const int size = std::snprintf(nullptr, 0, pattern, values...);
  std::string text(static_cast<std::size_t>(size) + 1, '\0');
  std::snprintf(text.data(), text.size(), pattern, values...);
  text.pop_back();
  return text;
}

/// An argument as a shell reads it back.
inline std::string quoted(const std::string& argument) {
  const char* plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./,:@%";
  if (!argument.empty() && argument.find_first_not_of(plain) == std::string::npos) return argument;
  std::string text(1, '\'');
  for (const char c : argument)
    if (c == '\'')
      text.append("'\\''");
    else
      text.push_back(c);
  text.push_back('\'');
  return text;
}

/// Hands what was printed to the system. @throws std::runtime_error when it did not take it
inline void flush_output() {
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0)
    throw std::runtime_error("the output cannot be written");
}

/// Throws std::runtime_error for a job that this machine has no memory for, before it takes any.
inline void require_memory(double bytes, const std::string& what) {
#if defined(_SC_PHYS_PAGES)
  const double there =
      static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  if (bytes > there)
    throw std::runtime_error(format("%s takes %.3g GB of memory, and this machine has %.3g",
                                    what.c_str(), bytes / 1e9, there / 1e9));
#else
  (void)bytes, (void)what;
#endif
}

/// Runs what a program does. Output that could not be written is an error, and want of memory one
/// with a sentence.
template <class Run>
int in_words(const Run& run) {
  try {
    const int status = run();
    flush_output();
    return status;
  } catch (const std::bad_alloc&) {
    throw std::runtime_error("there is not enough memory for these sizes");
  }
}

/// The whole of a program: runs it, and tells errors as one sentence under the name by which the
/// program was called.
template <class Run>
int main(const char* called, const Run& run) {
  std::string error;
  try {
    return in_words(run);
  } catch (const std::exception& thrown) {
    error = thrown.what();
  }
  std::fflush(stdout);
  std::fprintf(stderr, "%s: %s\n", called, error.c_str());
  return 1;
}

}  // namespace job
