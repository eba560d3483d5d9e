#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

#if defined(_WIN32)
#include <io.h>
#else
#include <sys/ioctl.h>
#include <unistd.h>
#endif

namespace progress {

inline std::string clock(double seconds) {
  const auto s = static_cast<long long>(seconds);
  char text[48];
  std::snprintf(text, sizeof(text), "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
  return text;
}

/// One line of fewer characters than `columns`, so that no terminal wraps it: the bar gives way
/// first, then the details from their end, which two spaces part.
inline std::string line(std::int64_t columns, double part, std::string_view counts,
                        std::string_view details, std::string_view left) {
  const auto room = static_cast<std::size_t>(std::max<std::int64_t>(columns - 1, 0));
  const auto text = [&](std::size_t bar) {
    std::string result;
    if (bar > 0) {
      const auto filled =
          static_cast<std::size_t>(std::clamp(part, 0.0, 1.0) * static_cast<double>(bar));
      result.append(1, '[').append(filled, '#').append(bar - filled, '.').append("] ");
    }
    result += counts;
    if (!details.empty()) result.append("  ").append(details);
    return result.append("  left ").append(left);
  };
  for (const std::size_t bar : {20u, 10u, 0u})
    if (std::string result = text(bar); result.size() <= room) return result;
  while (!details.empty() && text(0).size() > room) {
    const std::size_t cut = details.rfind("  ");
    details = details.substr(0, cut == std::string_view::npos ? 0 : cut);
  }
  return text(0).substr(0, room);
}

}  // namespace progress

/// A line on stderr that says how far a long job has come. On a terminal it is one bar that is
/// drawn over itself, as wide as the terminal allows; in a pipe or a file it is a plain line now
/// and then.
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
    const std::string left = done >= total_ ? progress::clock(0)
                             : rate > 0 ? progress::clock(static_cast<double>(total_ - done) / rate)
                                        : "?";
    const std::string counts = unit_ + " " + std::to_string(done) + "/" + std::to_string(total_);
    const double part = total_ > 0 ? static_cast<double>(done) / static_cast<double>(total_) : 1;
    if (terminal()) {
      std::fprintf(stderr, "\r%s\x1b[K",
                   progress::line(columns(), part, counts, details, left).c_str());
      open_ = true;
    } else {
      std::fprintf(stderr, "%s  %s  left %s\n", counts.c_str(), details.c_str(), left.c_str());
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

  /// Of the terminal as it is now; where it does not say, COLUMNS, or 80.
  static std::int64_t columns() {
#if defined(TIOCGWINSZ)
    winsize size{};
    if (ioctl(fileno(stderr), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
#endif
    const char* given = std::getenv("COLUMNS");
    const long value = given != nullptr ? std::strtol(given, nullptr, 10) : 0;
    return value > 0 ? value : 80;
  }

  [[nodiscard]] double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

  std::string unit_;
  std::int64_t total_;
  std::int64_t first_ = -1;
  double interval_;
  double shown_ = -1;
  bool open_ = false;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};
