#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "ssm/core/detail/hash.hpp"
#include "ssm/core/detail/isa.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

// Of ASCII alone: bytes of other alphabets stay as they are, and so does UTF-8.
constexpr bool is_upper(unsigned char c) noexcept { return c >= 'A' && c <= 'Z'; }
constexpr bool is_letter(unsigned char c) noexcept { return is_upper(c) || (c >= 'a' && c <= 'z'); }

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// Copies text[first, first + out.size()) with other names in it: every word that begins with a
/// capital letter gets other letters with the given probability, the same ones at every place where
/// it stands.
///
/// It is for training on one text many times. A model would learn the names of that text by heart,
/// and could not write about the names of another. When the names change from reading to reading,
/// it has to copy them from the context. Which words change, and into what, depends only on (text,
/// key, word). The new letters are a sequence of letters from the text, so they are as frequent as
/// its own; length and capitals stay. Cost: linear in the number of bytes. Does not throw.
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
      for (std::size_t i = begin; i < (std::min)(end, last); ++i) {
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

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
