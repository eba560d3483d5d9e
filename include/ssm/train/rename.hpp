#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "ssm/core/detail/hash.hpp"

namespace ssm {

namespace detail {

// Of ASCII alone: bytes of other alphabets stay as they are, and so does UTF-8.
constexpr bool is_upper(unsigned char c) noexcept { return c >= 'A' && c <= 'Z'; }
constexpr bool is_letter(unsigned char c) noexcept { return is_upper(c) || (c >= 'a' && c <= 'z'); }

}  // namespace detail

/// Copies text[first, first + out.size()) with other names in it: every word of letters that begins
/// with a capital has, with the given probability, other letters, the same ones wherever it stands.
///
/// A model that reads a text many times learns its names by heart, and then has nothing to say of
/// the names of another text. Where they change from reading to reading, what pays is to copy them
/// from the context. Which words change, and into what, is a function of (text, key, word): new
/// letters are a run of those of the text, so that they are as likely as its own; length and
/// capitals stay.
/// Cost: linear in the bytes copied, but for words that reach beyond them. Throws nothing.
inline void copy_renamed(std::span<const unsigned char> text, std::size_t first, std::uint64_t key,
                         double probability, std::span<unsigned char> out) noexcept {
  const std::size_t last = first + out.size();
  std::copy_n(text.data() + first, out.size(), out.data());
  for (std::size_t at = first; at < last;) {
    if (!detail::is_letter(text[at])) {
      ++at;
      continue;
    }
    std::size_t begin = at, end = at;
    while (begin > 0 && detail::is_letter(text[begin - 1])) --begin;
    std::uint64_t word = key;
    for (end = begin; end < text.size() && detail::is_letter(text[end]); ++end)
      word = detail::mix(word ^ text[end]);
    const double draw = static_cast<double>(word >> 11) * 0x1.0p-53;
    if (detail::is_upper(text[begin]) && draw < probability) {
      std::size_t source = detail::mix(word) % text.size();
      for (std::size_t i = begin; i < std::min(end, last); ++i) {
        while (!detail::is_letter(text[source])) source = (source + 1) % text.size();
        if (i >= first) {
          const unsigned char letter = text[source] & 0x1f, shape = text[i] & 0xe0;
          out[i - first] = shape | letter;
        }
        source = (source + 1) % text.size();
      }
    }
    at = end;
  }
}

}  // namespace ssm
