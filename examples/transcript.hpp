#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "model_words.hpp"
#include "ssm/io/tokenizer.hpp"
#include "ssm/models/stop_strings.hpp"

namespace generate {

/// The text that comes of tokens, whole characters at a time, up to a stop, the end of the text or
/// a number of tokens.
class Transcript {
 public:
  struct Limits {
    ssm::StopStrings stops;
    std::int64_t tokens = 0;
    bool past_ends = false;  ///< whether a token that ends a text is one like any other
    bool as_bytes = false;   ///< whether bytes that are no UTF-8 stay as they are
    bool goes_on = false;    ///< whether another transcript goes on where this one is cut
  };

  /// @param cut bytes of a character that was cut before
  Transcript(const ModelWords& words, Limits limits, std::string_view cut = {})
      : words_(&words), limits_(std::move(limits)) {
    (void)utf8_.take(cut);
    if (limits_.tokens == 0) reason_ = "length";
  }

  /// What can be shown after one more token.
  [[nodiscard]] std::string take(ssm::Token token) {
    ++tokens_;
    if (!limits_.past_ends && words_->ends(token)) return finish("end of text");
    const std::string shown = show(limits_.stops.take(words_->decode(token)));
    if (limits_.stops.stopped()) return shown + finish("stop");
    return tokens_ == limits_.tokens ? shown + finish("length") : shown;
  }
  /// Ends the text. Returns what was held back.
  [[nodiscard]] std::string finish(const char* reason) {
    reason_ = reason;
    const std::string shown = show(limits_.stops.finish());
    if (limits_.as_bytes) return shown + std::exchange(open_, {});
    return limits_.goes_on ? shown : shown + utf8_.finish();
  }

  /// Why the text has ended, "" before.
  [[nodiscard]] const std::string& reason() const { return reason_; }
  /// The stop that ended it, "" for none.
  [[nodiscard]] const std::string& stop() const { return limits_.stops.found(); }
  [[nodiscard]] std::int64_t tokens() const { return tokens_; }
  /// The bytes of a character that is not whole.
  [[nodiscard]] const std::string& cut() const { return utf8_.open(); }

 private:
  [[nodiscard]] std::string show(std::string_view bytes) {
    std::string shown = utf8_.take(bytes);
    if (!limits_.as_bytes) return shown;
    open_ += bytes;
    return shown.empty() ? shown : std::exchange(open_, {});
  }

  const ModelWords* words_;
  Limits limits_;
  ssm::Utf8Stream utf8_;
  std::string open_, reason_;
  std::int64_t tokens_ = 0;
};

}  // namespace generate
