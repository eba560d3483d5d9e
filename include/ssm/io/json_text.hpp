#pragma once

#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <locale>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace ssm::detail {

struct JsonLimits {
  int depth = 64;           ///< of lists and objects in each other
  bool non_finite = false;  ///< Infinity, -Infinity and NaN are numbers
};

/// Where a text stops to be JSON, and why; false where it does not.
struct JsonFault {
  std::size_t position = 0;
  std::string what = {};
  bool found = false;

  [[nodiscard]] explicit operator bool() const noexcept { return found; }
};

/// Counted from 1; columns are characters.
inline std::pair<std::size_t, std::size_t> line_and_column(std::string_view text,
                                                           std::size_t position) {
  std::size_t line = 1, column = 1;
  for (const char c : text.substr(0, position)) {
    if (c == '\n') {
      ++line;
      column = 1;
    } else if ((static_cast<unsigned char>(c) & 0xc0u) != 0x80u) {
      ++column;
    }
  }
  return {line, column};
}

/// The shortest text that gives a double back.
inline std::string json_text(double value) {
  if (!std::isfinite(value))
    return std::isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";
#if defined(__cpp_lib_to_chars)
  char buffer[32];
  std::string text(buffer, std::to_chars(buffer, buffer + sizeof(buffer), value).ptr);
#else
  std::ostringstream stream;
  stream.imbue(std::locale::classic());
  stream.precision(17);
  stream << value;
  std::string text = stream.str();
#endif
  // With neither, a reader would take it for a whole number.
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

/// Appends a text in quotes. It must be UTF-8 and is not checked.
inline void write_json_string(std::string& to, std::string_view text) {
  static constexpr char digits[] = "0123456789abcdef";
  to += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      to += '\\';
      to += c;
    } else if (c == '\n') {
      to += "\\n";
    } else if (byte < 0x20 || byte == 0x7f) {
      to += "\\u00";
      to += digits[byte / 16];
      to += digits[byte % 16];
    } else {
      to += c;
    }
  }
  to += '"';
}

/// Reads a JSON text (RFC 8259, UTF-8) and tells `handler` what comes: start_object, key(name),
/// end_object, start_array, end_array, string(text), number(std::uint64_t | std::int64_t | double),
/// boolean, null. Each returns whether to go on. Nothing is kept, and depth is bounded.
template <class Handler>
class JsonParser {
 public:
  JsonParser(std::string_view text, Handler& handler, const JsonLimits& limits)
      : text_(text), handler_(handler), limits_(limits) {}

  JsonFault parse() {
    skip_blanks();
    if (value(0)) {
      skip_blanks();
      if (at_ != text_.size()) fail("expected its end");
    } else if (!fault_) {
      fail("");  // the handler's own reason
    }
    return std::move(fault_);
  }

 private:
  bool value(int depth) {
    switch (peek()) {
      case '{':
        return object(depth);
      case '[':
        return array(depth);
      case '"':
        return string() && handler_.string(string_);
      case 't':
        return word("true") && handler_.boolean(true);
      case 'f':
        return word("false") && handler_.boolean(false);
      case 'n':
        return word("null") && handler_.null();
      case 'I':
      case 'N':
        return limits_.non_finite && peek() == 'I' ? word("Infinity") && handler_.number(HUGE_VAL)
               : limits_.non_finite                ? word("NaN") && handler_.number(std::nan(""))
                                                   : fail("expected a value");
      default:
        return number();
    }
  }

  bool object(int depth) {
    if (!deeper(depth) || !handler_.start_object()) return false;
    if (!next_is('}')) {
      do {
        if (peek() != '"') return fail("expected a name in quotes");
        if (!string() || !handler_.key(string_)) return false;
        skip_blanks();
        if (peek() != ':') return fail("expected ':'");
        ++at_;
        skip_blanks();
        if (!value(depth + 1)) return false;
      } while (next_is(','));
      if (!next_is('}')) return fail("expected ',' or '}'");
    }
    return handler_.end_object();
  }
  bool array(int depth) {
    if (!deeper(depth) || !handler_.start_array()) return false;
    if (!next_is(']')) {
      do {
        if (!value(depth + 1)) return false;
      } while (next_is(','));
      if (!next_is(']')) return fail("expected ',' or ']'");
    }
    return handler_.end_array();
  }
  bool deeper(int depth) {
    if (depth >= limits_.depth)
      return fail("more than " + std::to_string(limits_.depth) + " levels");
    ++at_;
    return true;
  }

  bool string() {
    string_.clear();
    ++at_;
    for (;;) {
      if (at_ == text_.size()) return fail("a text without its closing quote");
      const auto c = static_cast<unsigned char>(text_[at_]);
      if (c == '"') {
        ++at_;
        return true;
      }
      if (c < 0x20) return fail("a control character in a text");
      if (c == '\\' ? !escape() : !character(c)) return false;
    }
  }
  /// One character of UTF-8, in its shortest form and no surrogate (Unicode, table 3-7).
  bool character(unsigned char first) {
    const int more = first < 0x80   ? 0
                     : first < 0xc2 ? -1
                     : first < 0xe0 ? 1
                     : first < 0xf0 ? 2
                     : first < 0xf5 ? 3
                                    : -1;
    bool good = more >= 0 && text_.size() - at_ > static_cast<std::size_t>(more);
    for (int i = 1; good && i <= more; ++i) {
      const auto c = static_cast<unsigned char>(text_[at_ + static_cast<std::size_t>(i)]);
      unsigned char low = 0x80, high = 0xbf;
      if (i == 1 && first == 0xe0) low = 0xa0;
      if (i == 1 && first == 0xed) high = 0x9f;
      if (i == 1 && first == 0xf0) low = 0x90;
      if (i == 1 && first == 0xf4) high = 0x8f;
      good = c >= low && c <= high;
    }
    if (!good) return fail("bytes that are not UTF-8");
    string_.append(text_.substr(at_, static_cast<std::size_t>(more + 1)));
    at_ += static_cast<std::size_t>(more + 1);
    return true;
  }
  bool escape() {
    ++at_;
    static constexpr std::string_view letters = "\"\\/bfnrt", meanings = "\"\\/\b\f\n\r\t";
    const char c = peek();
    if (const std::size_t i = letters.find(c); i != letters.npos && at_ < text_.size()) {
      string_ += meanings[i];
      ++at_;
      return true;
    }
    std::uint32_t code = 0, low = 0;
    if (c != 'u' || !hex(code)) return fail("an escape that JSON does not know");
    if (code >= 0xd800 && code < 0xdc00) {
      if (text_.substr(at_, 2) != "\\u") return fail("half of a surrogate pair");
      ++at_;
      if (!hex(low) || low < 0xdc00 || low > 0xdfff) return fail("half of a surrogate pair");
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code >= 0xdc00 && code < 0xe000) {
      return fail("half of a surrogate pair");
    }
    const auto put = [&](std::uint32_t byte) { string_ += static_cast<char>(byte); };
    if (code < 0x80) {
      put(code);
    } else if (code < 0x800) {
      put(0xc0 | code >> 6);
      put(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
      put(0xe0 | code >> 12);
      put(0x80 | (code >> 6 & 0x3f));
      put(0x80 | (code & 0x3f));
    } else {
      put(0xf0 | code >> 18);
      put(0x80 | (code >> 12 & 0x3f));
      put(0x80 | (code >> 6 & 0x3f));
      put(0x80 | (code & 0x3f));
    }
    return true;
  }
  /// The four digits after the 'u' that comes next.
  bool hex(std::uint32_t& code) {
    const std::string_view digits = text_.substr(at_ + 1, 4);
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), code, 16);
    at_ += 5;
    return error == std::errc() && digits.size() == 4 && end == digits.data() + 4;
  }

  bool number() {
    const std::size_t begin = at_;
    const bool negative = peek() == '-';
    if (negative) ++at_;
    if (negative && limits_.non_finite && peek() == 'I')
      return word("Infinity") && handler_.number(-HUGE_VAL);
    const bool zero = peek() == '0';
    const std::size_t first = at_;
    if (!digits()) return fail(first == begin ? "expected a value" : "expected a digit");
    if (zero && at_ - first > 1) {
      at_ = first + 1;
      return fail("a number that begins with 0");
    }
    bool whole = true;
    if (peek() == '.') {
      whole = false;
      ++at_;
      if (!digits()) return fail("expected a digit");
    }
    if (peek() == 'e' || peek() == 'E') {
      whole = false;
      ++at_;
      if (peek() == '+' || peek() == '-') ++at_;
      if (!digits()) return fail("expected a digit");
    }
    const std::string_view text = text_.substr(begin, at_ - begin);
    const char* const end = text.data() + text.size();
    std::uint64_t natural = 0;
    std::int64_t integer = 0;
    if (whole && !negative && std::from_chars(text.data(), end, natural).ec == std::errc())
      return handler_.number(natural);
    if (whole && negative && std::from_chars(text.data(), end, integer).ec == std::errc())
      return handler_.number(integer);
    double real = 0;
    if (!to_double(text, real)) {
      at_ = begin;
      return fail("a number too large");
    }
    return handler_.number(real);
  }
  bool digits() {
    const std::size_t begin = at_;
    while (peek() >= '0' && peek() <= '9') ++at_;
    return at_ > begin;
  }
  /// False for what overflows; what underflows is 0 or nearly so.
  static bool to_double(std::string_view text, double& value) {
#if defined(__cpp_lib_to_chars)
    if (std::from_chars(text.data(), text.data() + text.size(), value).ec == std::errc())
      return true;
    const std::size_t exponent = text.find_first_of("eE");
    value = 0;
    return exponent != text.npos ? text[exponent + 1] == '-'
                                 : text.find_first_of("123456789") > text.find('.');
#else
    std::istringstream stream{std::string(text)};
    stream.imbue(std::locale::classic());
    stream >> value;
    return std::isfinite(value) && std::abs(value) < HUGE_VAL && (!stream.fail() || value < 1);
#endif
  }

  bool word(std::string_view expected) {
    if (text_.substr(at_, expected.size()) != expected) return fail("expected a value");
    at_ += expected.size();
    return true;
  }
  /// Passes `c` and the blanks around it, if it comes next.
  bool next_is(char c) {
    skip_blanks();
    if (peek() != c || at_ == text_.size()) return false;
    ++at_;
    skip_blanks();
    return true;
  }
  void skip_blanks() {
    while (at_ < text_.size() && std::string_view(" \t\n\r").find(text_[at_]) != std::string::npos)
      ++at_;
  }
  [[nodiscard]] char peek() const noexcept { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool fail(std::string what) {
    at_ = at_ < text_.size() ? at_ : text_.size();
    fault_ = {at_, at_ == text_.size() && !what.empty() ? "it ends too soon" : std::move(what),
              true};
    return false;
  }

  std::string_view text_;
  Handler& handler_;
  JsonLimits limits_;
  std::size_t at_ = 0;
  std::string string_;
  JsonFault fault_;
};

template <class Handler>
JsonFault parse_json_events(std::string_view text, Handler& handler, const JsonLimits& limits) {
  return JsonParser<Handler>(text, handler, limits).parse();
}

}  // namespace ssm::detail
