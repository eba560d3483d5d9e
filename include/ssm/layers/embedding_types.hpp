#pragma once

#include <array>
#include <string_view>
#include <type_traits>

#include "ssm/core/checks.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/view.hpp"
#include "ssm/core/write.hpp"
#include "ssm/layers/tokens.hpp"

namespace ssm {

/// What embedding reads. W is the type of its table: a view of T, or another type of matrix with
/// extents (vocab, width).
template <class T, class Space = Host, class W = View<const T, 2, Space>>
struct EmbeddingInputs {
  View<const Token, 2, Space> tokens;  ///< (batch, length), each in [0, vocab)
  W weight = {};                       ///< (vocab, width), elements of a row adjacent; backward
                                       ///< reads only its extents
};

/// What embedding_step reads; W as for embedding.
template <class T, class Space = Host, class W = View<const T, 2, Space>>
struct EmbeddingStepInputs {
  View<const Token, 1, Space> tokens;  ///< (batch)
  W weight = {};                       ///< (vocab, width)
};

/// How embedding is to run.
struct EmbeddingOptions {
  /// Whether the gradient of the weight overwrites its memory or is added to it, so that an output
  /// layer with the same weights can write its own gradient there first.
  Write write = Write::accumulate;
};

/// What embedding writes.
template <class T, class Space = Host>
struct EmbeddingOutputs {
  View<T, 3, Space> y;  ///< (batch, length, width), elements of a row adjacent
};

/// The gradient of a scalar loss with respect to the output, which embedding_backward reads.
template <class T, class Space = Host>
struct EmbeddingOutputGradients {
  View<const T, 3, Space> y;  ///< (batch, length, width), elements of a row adjacent
};

/// The gradients that embedding_backward writes.
template <class T, class Space = Host>
struct EmbeddingInputGradients {
  View<T, 2, Space> weight;  ///< (vocab, width), added to or overwritten as the options say
};

/// Empty: an embedding needs no scratch memory.
template <class T, class Space = Host>
struct EmbeddingScratch {};

namespace detail {

template <class T, class Space, class W>
void check_embedding(std::string_view function, const EmbeddingInputs<T, Space, W>& in) {
  check_given(function, "tokens", in.tokens, "(batch, length)");
  if (!in.weight) throw_absent(function, "weight", "(vocab, width)");
  if constexpr (std::is_same_v<W, View<const T, 2, Space>>)
    check_adjacent(function, "weight", in.weight);
  if constexpr (std::is_same_v<Space, Host>)
    check_tokens(function, "tokens", in.tokens, in.weight.extent(0));
}

}  // namespace detail
}  // namespace ssm
