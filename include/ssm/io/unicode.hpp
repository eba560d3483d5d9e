#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ssm/io/unicode_tables.hpp"

/// Characters of UTF-8 text: what kind they are of, and in which form they stand.
namespace ssm::detail {

/// A character and how many bytes it takes; 0 bytes where the text is no UTF-8, in which `skip`
/// bytes are to be replaced by one U+FFFD (Unicode 15, section 3.9, maximal subparts).
struct Utf8Char {
  char32_t code = 0;
  std::size_t bytes = 0, skip = 1;
};

/// The character at the beginning of a text that is not empty.
[[nodiscard]] constexpr Utf8Char utf8_char(std::string_view text) noexcept {
  const auto byte = [&](std::size_t i) -> unsigned {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
  };
  const unsigned first = byte(0);
  if (first < 0x80) return {first, 1};
  const std::size_t bytes = first < 0xc2   ? 0
                            : first < 0xe0 ? 2
                            : first < 0xf0 ? 3
                            : first < 0xf5 ? 4
                                           : 0;
  if (bytes == 0) return {};
  // Neither longer than need be, nor a surrogate, nor above U+10FFFF.
  const unsigned low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
  const unsigned high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
  char32_t code = first & (0xffU >> (bytes + 1));
  for (std::size_t i = 1; i < bytes; ++i) {
    const unsigned next = byte(i);
    if (next < (i == 1 ? low : 0x80) || next > (i == 1 ? high : 0xbf)) return {0, 0, i};
    code = (code << 6) | (next & 0x3f);
  }
  return {code, bytes};
}

inline void add_utf8(std::string& to, char32_t code) {
  const auto add = [&](char32_t byte) { to += static_cast<char>(byte); };
  if (code < 0x80) return add(code);
  if (code < 0x800) {
    add(0xc0 | (code >> 6));
  } else {
    if (code < 0x10000) {
      add(0xe0 | (code >> 12));
    } else {
      add(0xf0 | (code >> 18));
      add(0x80 | ((code >> 12) & 0x3f));
    }
    add(0x80 | ((code >> 6) & 0x3f));
  }
  add(0x80 | (code & 0x3f));
}

/// How many bytes at the beginning are UTF-8.
[[nodiscard]] constexpr std::size_t utf8_prefix(std::string_view text) noexcept {
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t bytes = utf8_char(text.substr(at)).bytes;
    if (bytes == 0) break;
    at += bytes;
  }
  return at;
}

/// The text with U+FFFD for what is no UTF-8.
[[nodiscard]] inline std::string to_utf8(std::string_view text) {
  std::string valid;
  while (!text.empty()) {
    const std::size_t good = utf8_prefix(text);
    valid += text.substr(0, good);
    text.remove_prefix(good);
    if (text.empty()) break;
    valid += "\xef\xbf\xbd";
    text.remove_prefix(utf8_char(text).skip);
  }
  return valid;
}

/// Calls part(text) for what is UTF-8, as long as it goes, and byte(text) for each byte that is
/// not, in order.
template <class Part, class Byte>
void split_utf8(std::string_view text, const Part& part, const Byte& byte) {
  while (!text.empty()) {
    const std::size_t good = utf8_prefix(text);
    if (good > 0) part(text.substr(0, good));
    text.remove_prefix(good);
    if (text.empty()) return;
    byte(text.substr(0, 1));
    text.remove_prefix(1);
  }
}

/// The entry of a sorted table of ranges in which a character lies, or null.
template <class Range, std::size_t Count>
[[nodiscard]] constexpr const Range* range_of(const std::array<Range, Count>& table,
                                              char32_t code) noexcept {
  const auto after =
      std::upper_bound(table.begin(), table.end(), code,
                       [](char32_t c, const Range& range) { return c < range.first; });
  if (after == table.begin()) return nullptr;
  const Range& range = *std::prev(after);
  return code <= range.last ? &range : nullptr;
}

[[nodiscard]] constexpr CharKind searched_kind(char32_t code) noexcept {
  const CharRange* range = range_of(char_ranges, code);
  return range != nullptr ? range->kind : CharKind::other;
}

/// Whether a character is a letter (general category L), a number (N), a space or none of these.
[[nodiscard]] inline CharKind char_kind(char32_t code) noexcept {
  static constexpr auto ascii = [] {
    std::array<CharKind, 128> kinds{};
    for (char32_t c = 0; c < 128; ++c) kinds[c] = searched_kind(c);
    return kinds;
  }();
  return code < 128 ? ascii[code] : searched_kind(code);
}

/// Canonical composition, Unicode's normalization form C (UAX 15).
class ToNfc {
 public:
  [[nodiscard]] std::string operator()(std::string_view text) {
    const auto changes = [](unsigned char byte) { return byte >= 0xcc; };  // from U+0300 on
    if (std::none_of(text.begin(), text.end(), changes)) return std::string(text);
    while (!text.empty()) {
      const Utf8Char c = utf8_char(text);
      decompose(c.code);
      text.remove_prefix(c.bytes);
    }
    order();
    compose();
    std::string composed;
    for (const Item& item : items_) add_utf8(composed, item.code);
    items_.clear();
    return composed;
  }

 private:
  struct Item {
    char32_t code;
    int combining;  // its class
  };
  // Hangul is composed by arithmetic (Unicode 15, section 3.12).
  static constexpr char32_t syllables = 0xac00, leads = 0x1100, vowels = 0x1161, tails = 0x11a7;
  static constexpr char32_t lead_count = 19, vowel_count = 21, tail_count = 28;

  static int combining(char32_t code) noexcept {
    const CombiningRange* range = range_of(combining_ranges, code);
    return range != nullptr ? range->combining : 0;
  }

  void decompose(char32_t code) {
    if (code >= syllables && code < syllables + lead_count * vowel_count * tail_count) {
      const char32_t i = code - syllables;
      items_.push_back({leads + i / (vowel_count * tail_count), 0});
      items_.push_back({vowels + i / tail_count % vowel_count, 0});
      if (i % tail_count != 0) items_.push_back({tails + i % tail_count, 0});
      return;
    }
    const auto found =
        std::lower_bound(decompositions.begin(), decompositions.end(), code,
                         [](const Decomposition& entry, char32_t c) { return entry.code < c; });
    if (code < 0xc0 || found == decompositions.end() || found->code != code) {
      items_.push_back({code, combining(code)});
      return;
    }
    decompose(found->first);
    if (found->second != 0) decompose(found->second);
  }
  /// Marks of one character stand in the order of their classes.
  void order() {
    for (auto begin = items_.begin(); begin != items_.end();) {
      const auto end = std::find_if(begin, items_.end(), [](Item x) { return x.combining == 0; });
      std::stable_sort(begin, end, [](Item a, Item b) { return a.combining < b.combining; });
      begin = end == items_.end() ? end : end + 1;
    }
  }
  void compose() {
    std::vector<Item> composed;
    std::size_t starter = 0;
    bool has_starter = false;
    int before = 0;  // the class of what stands between the starter and this character
    for (const Item& item : items_) {
      const bool adjacent = has_starter && starter + 1 == composed.size();
      if (has_starter && (adjacent || before < item.combining)) {
        if (const char32_t both = composition(composed[starter].code, item.code); both != 0) {
          composed[starter].code = both;
          continue;
        }
      }
      if (item.combining == 0) {
        starter = composed.size();
        has_starter = true;
      }
      before = item.combining;
      composed.push_back(item);
    }
    items_ = std::move(composed);
  }
  static char32_t composition(char32_t a, char32_t b) {
    if (a >= leads && a < leads + lead_count && b >= vowels && b < vowels + vowel_count)
      return syllables + ((a - leads) * vowel_count + (b - vowels)) * tail_count;
    if (a >= syllables && a < syllables + lead_count * vowel_count * tail_count &&
        (a - syllables) % tail_count == 0 && b > tails && b < tails + tail_count)
      return a + (b - tails);
    static const std::vector<Decomposition> pairs = [] {
      std::vector<Decomposition> those;
      for (const Decomposition& entry : decompositions)
        if (entry.composes) those.push_back(entry);
      std::sort(those.begin(), those.end(), less);
      return those;
    }();
    const Decomposition wanted{0, a, b, true};
    const auto found = std::lower_bound(pairs.begin(), pairs.end(), wanted, less);
    return found != pairs.end() && found->first == a && found->second == b ? found->code : 0;
  }
  static bool less(const Decomposition& x, const Decomposition& y) noexcept {
    return std::pair(x.first, x.second) < std::pair(y.first, y.second);
  }

  std::vector<Item> items_;
};

}  // namespace ssm::detail
