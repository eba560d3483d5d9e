#pragma once

#include <cstdint>
#include <string>

#include "ssm/core/backend.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/layers/detail/rows.hpp"

namespace ssm {

/// The number of a symbol of a vocabulary.
using Token = std::int32_t;

namespace detail {

inline void check_tokens(std::string_view function, std::string_view argument,
                         const View<const Token, 2>& tokens, Index vocab) {
  for (Index b = 0; b < tokens.extent(0); ++b)
    for (Index t = 0; t < tokens.extent(1); ++t)
      if (tokens(b, t) < 0 || tokens(b, t) >= vocab)
        throw_domain(
            function,
            std::string(argument) + "(" + std::to_string(b) + ", " + std::to_string(t) + ")",
            std::to_string(tokens(b, t)), "a token in [0, " + std::to_string(vocab) + ")");
}

}  // namespace detail

/// y(b, t) = weight(tokens(b, t)): a row of the table for each token.
///
/// tokens (batch, length), weight (vocab, width), y (batch, length, width).
/// Throws ShapeError, and DomainError for a token outside [0, vocab).
template <class T>
void embedding_forward(const Cpu& backend, const View<const Token, 2>& tokens,
                       const View<const T, 2>& weight, const View<T, 3>& y) {
  const Index batch = tokens.extent(0), length = tokens.extent(1), width = weight.extent(1);
  detail::check_shape<View<T, 3>, 3>("embedding_forward", "y", y, {batch, length, width});
  detail::check_adjacent("embedding_forward", "weight", weight);
  detail::check_adjacent("embedding_forward", "y", y);
  detail::check_tokens("embedding_forward", "tokens", tokens, weight.extent(0));
  const detail::Pieces rows(batch * length, 64);
  parallel_for(backend, rows.pieces, [&](Index piece) {
    for (Index i = rows.begin(piece); i < rows.end(piece); ++i) {
      const Index b = i / length, t = i % length;
      const T* row = weight.data() + tokens(b, t) * weight.stride(0);
      std::copy(row, row + width, y.data() + b * y.stride(0) + t * y.stride(1));
    }
  });
}

/// dweight(v) += Σ dy(b, t) over the positions with token v, in order: adds to what is there, so
/// that a head tied to the table can leave its share first. Cost batch · length · width additions.
template <class T>
void embedding_backward(const Cpu& backend, const View<const Token, 2>& tokens,
                        const View<const T, 3>& dy, const View<T, 2>& dweight) {
  const Index batch = tokens.extent(0), length = tokens.extent(1), width = dweight.extent(1);
  detail::check_shape<View<const T, 3>, 3>("embedding_backward", "dy", dy, {batch, length, width});
  detail::check_adjacent("embedding_backward", "dy", dy);
  detail::check_adjacent("embedding_backward", "the gradient of weight", dweight);
  detail::check_tokens("embedding_backward", "tokens", tokens, dweight.extent(0));
  const detail::Pieces columns(width, 32);
  parallel_for(backend, columns.pieces, [&](Index piece) {
    const Index begin = columns.begin(piece), count = columns.size(piece);
    for (Index b = 0; b < batch; ++b)
      for (Index t = 0; t < length; ++t)
        detail::array(dweight.data() + tokens(b, t) * dweight.stride(0) + begin, count) +=
            detail::array(dy.data() + b * dy.stride(0) + t * dy.stride(1) + begin, count);
  });
}

}  // namespace ssm
