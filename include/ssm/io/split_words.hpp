#pragma once

#include <cstddef>
#include <string_view>

#include "ssm/io/unicode.hpp"

namespace ssm::detail {

/// Calls body(word) for the words of UTF-8 text as GPT-2 splits it, in order and without a gap, by
/// the expression
///
///   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
///
/// which in words is: the ends of English contractions; letters, numbers, or what is neither, each
/// with a space before it; and spaces, of which the last one belongs to what follows.
template <class Body>
void split_words(std::string_view text, const Body& body) {
  struct Char {
    CharKind kind;
    std::size_t bytes;
  };
  const auto at = [&](std::size_t i) -> Char {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte < 0x80) return {char_kind(byte), 1};
    const Utf8Char c = utf8_char(text.substr(i));
    return {char_kind(c.code), c.bytes};
  };
  const auto run_end = [&](std::size_t i, CharKind kind) {
    while (i < text.size()) {
      const Char c = at(i);
      if (c.kind != kind) break;
      i += c.bytes;
    }
    return i;
  };
  const auto contraction = [&](std::size_t i) -> std::size_t {
    for (const std::string_view end : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"})
      if (text.substr(i).starts_with(end)) return end.size();
    return 0;
  };
  for (std::size_t begin = 0; begin < text.size();) {
    std::size_t end = begin;
    const Char first = at(begin);
    if (text[begin] == '\'' && contraction(begin) > 0) {
      end += contraction(begin);
    } else if (first.kind != CharKind::space) {
      end = run_end(begin, first.kind);
    } else {
      std::size_t last = begin;  // where the last of the spaces begins
      while (end < text.size() && at(end).kind == CharKind::space) {
        last = end;
        end += at(end).bytes;
      }
      if (end < text.size()) {
        if (last > begin)
          end = last;
        else if (text[begin] == ' ')
          end = run_end(end, at(end).kind);
      }
    }
    body(text.substr(begin, end - begin));
    begin = end;
  }
}

}  // namespace ssm::detail
