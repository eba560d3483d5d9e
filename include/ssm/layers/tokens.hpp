#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/view.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// A symbol of a vocabulary, as its number.
using Token = std::int32_t;

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// Throws DomainError for a token that is neither in [0, vocab) nor `allowed`, where that is given.
inline void check_tokens(std::string_view function, std::string_view argument,
                         const View<const Token, 2>& tokens, Index vocab,
                         const Token* allowed = nullptr) {
  for (Index b = 0; b < tokens.extent(0); ++b)
    for (Index t = 0; t < tokens.extent(1); ++t) {
      const Token token = tokens(b, t);
      if ((token >= 0 && token < vocab) || (allowed && token == *allowed)) continue;
      throw_domain(function,
                   std::string(argument) + "(" + std::to_string(b) + ", " + std::to_string(t) + ")",
                   std::to_string(token), "a token in [0, " + std::to_string(vocab) + ")");
    }
}
/// Tokens on a device are not read, as that would wait for it.
inline void check_tokens(std::string_view, std::string_view, const View<const Token, 2, Device>&,
                         Index, const Token* = nullptr) noexcept {}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// Throws unless every token is in [0, vocab). Call it for tokens that come from users before they
/// are given to a step, which would end the program instead of throwing.
/// @param tokens (batch, length)
/// @throws DomainError that names the first token outside
inline void require_tokens(const View<const Token, 2>& tokens, Index vocab) {
  detail::check_tokens("require_tokens", "tokens", tokens, vocab);
}

/// Throws unless every token is in [0, vocab): for one sequence of tokens, or one token of each of
/// several sequences.
/// @throws DomainError that names the first token outside
inline void require_tokens(const View<const Token, 1>& tokens, Index vocab) {
  for (Index i = 0; i < tokens.extent(0); ++i)
    if (tokens(i) < 0 || tokens(i) >= vocab)
      detail::throw_domain("require_tokens", "tokens(" + std::to_string(i) + ")",
                           std::to_string(tokens(i)),
                           "a token in [0, " + std::to_string(vocab) + ")");
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
