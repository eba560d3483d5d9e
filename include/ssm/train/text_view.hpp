#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <span>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/index.hpp"
#include "ssm/layers/tokens.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// A text as a language model reads it, which lives elsewhere: bytes, each of which is a token, or
/// the tokens of a tokenizer.
class TextView {
 public:
  TextView() = default;
  /// Of bytes: a span, a vector or an array of unsigned char.
  template <class Bytes>
  requires std::convertible_to<Bytes&&, std::span<const unsigned char>> TextView(Bytes&& bytes)
      : bytes_(static_cast<Bytes&&>(bytes)) {}
  /// Of tokens: a span, a vector or an array of Token.
  template <class Tokens>
  requires std::convertible_to<Tokens&&, std::span<const Token>> TextView(Tokens&& tokens)
      : tokens_(static_cast<Tokens&&>(tokens)) {}

  /// The number of bytes or tokens.
  [[nodiscard]] std::size_t size() const noexcept { return bytes_.size() + tokens_.size(); }
  /// What they are called: "bytes" or "tokens".
  [[nodiscard]] const char* unit() const noexcept { return tokens_.empty() ? "bytes" : "tokens"; }
  /// The bytes; none of a text of tokens.
  [[nodiscard]] std::span<const unsigned char> bytes() const noexcept { return bytes_; }
  /// The tokens; none of a text of bytes.
  [[nodiscard]] std::span<const Token> tokens() const noexcept { return tokens_; }

  /// Copies `count` of them from `first` on, as tokens. All must be there.
  void copy(std::size_t first, std::size_t count, Token* to) const noexcept {
    if (tokens_.empty())
      std::copy_n(bytes_.data() + first, count, to);
    else
      std::copy_n(tokens_.data() + first, count, to);
  }

 private:
  std::span<const unsigned char> bytes_;
  std::span<const Token> tokens_;
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
