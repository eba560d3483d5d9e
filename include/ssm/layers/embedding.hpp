#pragma once

#include <algorithm>
#include <array>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/layers/detail/rows.hpp"
#include "ssm/layers/detail/stored_product.hpp"
#include "ssm/layers/embedding_types.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// One row of a table.
template <class T>
void read_row(const View<const T, 2>& table, Index row, T* to) noexcept {
  std::copy_n(table.data() + row * table.stride(0), table.extent(1), to);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// y(b, t) = weight(tokens(b, t)): for each token its row of the table.
/// @throws ShapeError for extents that do not fit, elements of a row that are not adjacent, and a y
///   in the memory of the table; DomainError for a token outside [0, vocab)
template <class T, class W = View<const T, 2>>
void embedding(const Cpu& backend, const EmbeddingInputs<T, Host, W>& inputs,
               const EmbeddingOptions&, const EmbeddingOutputs<T>& outputs, EmbeddingScratch<T>&) {
  const auto& tokens = inputs.tokens;
  const auto& weight = inputs.weight;
  const auto& y = outputs.y;
  const Index batch = tokens.extent(0), length = tokens.extent(1), width = weight.extent(1);
  detail::check_embedding("embedding", inputs);
  detail::check_output_rows("embedding", "y", y, std::array<Index, 3>{batch, length, width});
  if constexpr (std::is_same_v<W, View<const T, 2>>)
    detail::check_no_overlap("embedding", "y", y, "weight", weight);
  const detail::Pieces rows(batch * length, 64);
  parallel_for(for_elements(backend, y.size()), rows.pieces, [&](Index piece) {
    for (Index i = rows.begin(piece); i < rows.end(piece); ++i) {
      const Index b = i / length, t = i % length;
      detail::read_row(weight, Index{tokens(b, t)}, y.data() + b * y.stride(0) + t * y.stride(1));
    }
  });
}

/// The gradient of embedding: dweight(v) += Σ dy(b, t) over all positions (b, t) whose token is v,
/// in order; with Write::overwrite dweight(v) is that sum. Cost: batch · length · width additions.
/// @throws ShapeError as embedding, and for a dweight in the memory of dy; DomainError for a token
///   outside [0, vocab)
template <class T>
void embedding_backward(const Cpu& backend, const EmbeddingInputs<T>& inputs,
                        const EmbeddingOptions& options,
                        const EmbeddingOutputGradients<T>& output_gradients,
                        const EmbeddingInputGradients<T>& input_gradients, EmbeddingScratch<T>&) {
  const auto& tokens = inputs.tokens;
  const auto& dy = output_gradients.y;
  const auto& dweight = input_gradients.weight;
  const char* function = "embedding_backward";
  const Index batch = tokens.extent(0), length = tokens.extent(1), width = inputs.weight.extent(1);
  detail::check_embedding(function, inputs);
  detail::check_rows(function, "the gradient of y", dy, std::array<Index, 3>{batch, length, width});
  detail::check_output_rows(function, "the gradient of weight", dweight, inputs.weight.extents());
  detail::check_no_overlap(function, "the gradient of weight", dweight, "the gradient of y", dy);
  const detail::Pieces columns(width, 32);
  parallel_for(for_elements(backend, dy.size()), columns.pieces, [&](Index piece) {
    const Index begin = columns.begin(piece), count = columns.size(piece);
    if (options.write == Write::overwrite)
      for (Index v = 0; v < dweight.extent(0); ++v)
        detail::array(dweight.data() + v * dweight.stride(0) + begin, count).setZero();
    for (Index b = 0; b < batch; ++b)
      for (Index t = 0; t < length; ++t)
        detail::array(dweight.data() + tokens(b, t) * dweight.stride(0) + begin, count) +=
            detail::array(dy.data() + b * dy.stride(0) + t * dy.stride(1) + begin, count);
  });
}

/// `embedding` of one token for each row, on the calling thread, without allocation. Arguments for
/// which `embedding` would throw, such as a token outside the vocabulary, end the program with the
/// message of that exception. Check tokens that come from users with require_tokens before.
template <class T, class W>
void embedding_step(const EmbeddingStepInputs<T, Host, W>& inputs, const EmbeddingOptions&,
                    const std::type_identity_t<View<T, 2>>& y) noexcept {
  const auto& [tokens, weight] = inputs;
  const Index batch = tokens.extent(0), width = weight.extent(1);
  detail::check_or_terminate([&] {
    const View<const Token, 2> column(inputs.tokens.data(), {batch, 1},
                                      {inputs.tokens.stride(0), 1});
    detail::check_given("embedding_step", "tokens", inputs.tokens, "(batch)");
    detail::check_embedding("embedding_step", EmbeddingInputs<T, Host, W>{column, inputs.weight});
    detail::check_output_rows("embedding_step", "y", y, std::array<Index, 2>{batch, width});
    if constexpr (std::is_same_v<W, View<const T, 2>>)
      detail::check_no_overlap("embedding_step", "y", y, "weight", inputs.weight);
  });
  for (Index b = 0; b < batch; ++b) detail::read_row(weight, Index{tokens(b)}, detail::at(y, b, 0));
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_OPERATION(embedding, Embedding, float)
SSM_INSTANCE_OPERATION(embedding, Embedding, double)
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
