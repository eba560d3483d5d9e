#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ssm/core/error.hpp"

namespace ssm {

/// Ends a text that comes piece by piece where one of several texts stands in it, the stop, however
/// the pieces cut it. Text that may be the beginning of a stop is held back until that is decided,
/// so that no part of a stop is ever given.
///
///     ssm::StopStrings stops({"\n\n", "User:"});
///     while (!stops.stopped()) std::cout << stops.take(next_piece());
///
/// The text ends with the first byte that completes a stop; of several stops that end with it, the
/// longest counts. Pieces are bytes: in valid UTF-8 a stop is found between characters only, and
/// what is given may end within one (Utf8Stream in ssm/io/tokenizer.hpp holds that back). It is a
/// plain value; a copy goes on alone.
class StopStrings {
 public:
  /// Of no stops: all text is given at once.
  StopStrings() = default;
  /// Of these stops. @throws DomainError for an empty one
  explicit StopStrings(std::vector<std::string> stops) {
    for (std::string& stop : stops) {
      if (stop.empty()) detail::throw_domain("StopStrings", "a stop", "empty", "at least one byte");
      stops_.push_back(Stop(std::move(stop)));
    }
  }

  /// Takes the next piece of the text, and returns what is decided: all up to the stop, or all but
  /// what may be the beginning of one. After a stop, nothing.
  ///
  /// Cost: O(bytes · stops).
  [[nodiscard]] std::string take(std::string_view piece) {
    if (stopped()) return {};
    const std::size_t before = held_.size();
    held_ += piece;
    for (std::size_t at = before; at < held_.size(); ++at) {
      for (Stop& stop : stops_)
        if (stop.read(held_[at]) && (!stopped() || stop.text.size() > found_.size()))
          found_ = stop.text;
      if (stopped()) {
        held_.resize(at + 1 - found_.size());
        return std::exchange(held_, {});
      }
    }
    std::size_t open = 0;
    for (const Stop& stop : stops_) open = (std::max)(open, stop.matched);
    std::string given = held_.substr(0, held_.size() - open);
    held_.erase(0, given.size());
    return given;
  }

  /// What is held back when the text ends without a stop.
  [[nodiscard]] std::string finish() {
    for (Stop& stop : stops_) stop.matched = 0;
    return std::exchange(held_, {});
  }

  /// Whether a stop was found.
  [[nodiscard]] bool stopped() const noexcept { return !found_.empty(); }
  /// The stop that was found; empty before.
  [[nodiscard]] const std::string& found() const noexcept { return found_; }

  /// Begins a new text.
  void reset() {
    found_.clear();
    (void)finish();
  }

 private:
  /// One of them, and how many of its bytes the text ends with (Knuth, Morris & Pratt 1977).
  struct Stop {
    std::string text;
    std::vector<std::size_t> shorter;  ///< of text[0 … i]: the next shorter prefix that is its end
    std::size_t matched = 0;

    explicit Stop(std::string stop) : text(std::move(stop)), shorter(text.size(), 0) {
      for (std::size_t i = 1; i < text.size(); ++i) shorter[i] = longest(shorter[i - 1], text[i]);
    }
    /// The longest prefix that the text ends with after one more byte, when it ended with
    /// `prefix` bytes of it.
    [[nodiscard]] std::size_t longest(std::size_t prefix, char byte) const {
      while (prefix > 0 && text[prefix] != byte) prefix = shorter[prefix - 1];
      return prefix + (text[prefix] == byte ? 1 : 0);
    }
    /// Whether the stop is complete with this byte.
    bool read(char byte) {
      matched = longest(matched, byte);
      return matched == text.size();
    }
  };

  std::vector<Stop> stops_;
  std::string held_, found_;
};

}  // namespace ssm
