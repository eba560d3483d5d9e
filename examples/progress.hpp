#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

#if defined(_WIN32)
#include <io.h>
#else
#include <unistd.h>
#endif

/// A line on stderr that says how far a long job has come. On a terminal it is one bar that is
/// drawn over itself; in a pipe or a file it is a plain line now and then.
class Progress {
 public:
  Progress(std::string unit, std::int64_t total, double seconds_between_lines = 10)
      : unit_(std::move(unit)),
        total_(total),
        interval_(terminal() ? 0.1 : seconds_between_lines) {}

  /// `done` of `total` are complete and `details` is worth seeing.
  void update(std::int64_t done, const std::string& details) {
    const double now = seconds();
    if (first_ < 0) first_ = done;
    if (done < total_ && shown_ >= 0 && now - shown_ < interval_) return;
    shown_ = now;
    const double rate = now > 0 ? static_cast<double>(done - first_) / now : 0;
    const std::string left = rate > 0 ? clock(static_cast<double>(total_ - done) / rate) : "?";
    const std::string counts = unit_ + " " + std::to_string(done) + "/" + std::to_string(total_);
    const std::string line = counts + "  " + details + "  left " + left;
    if (terminal()) {
      constexpr int width = 20;
      const auto filled =
          static_cast<std::size_t>(total_ > 0 ? width * done / total_ : std::int64_t{width});
      const std::string bar = std::string(filled, '#') + std::string(width - filled, '.');
      std::fprintf(stderr, "\r[%s] %s\x1b[K", bar.c_str(), line.c_str());
      open_ = true;
    } else {
      std::fprintf(stderr, "%s\n", line.c_str());
    }
    std::fflush(stderr);
  }

  /// Leaves the bar as it is; what is printed next begins on a line of its own.
  void finish() {
    if (open_) std::fputc('\n', stderr);
    open_ = false;
  }

 private:
  static bool terminal() {
#if defined(_WIN32)
    static const bool result = _isatty(_fileno(stderr)) != 0;
#else
    static const bool result = isatty(fileno(stderr)) != 0;
#endif
    return result;
  }

  [[nodiscard]] double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

  static std::string clock(double seconds) {
    const auto s = static_cast<long long>(seconds);
    char text[48];
    std::snprintf(text, sizeof(text), "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
    return text;
  }

  std::string unit_;
  std::int64_t total_;
  std::int64_t first_ = -1;
  double interval_;
  double shown_ = -1;
  bool open_ = false;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};
