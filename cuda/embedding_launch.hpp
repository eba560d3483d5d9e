#pragma once

#include <array>

#include "rows.hpp"
#include "ssm/cuda/embedding.hpp"

namespace ssm {
namespace kernels {

/// One row for each position of all sequences.
template <class T>
struct EmbeddingRows {
  using Value = T;
  Array<const Token, 2> tokens;
  Array<const T, 2> weight;
  Array<T, 3> y;
  Index length, vocab;

  SSM_DEVICE T load(Index r, Index c) const {
    const Token token = tokens(r / length, r % length);
    return token >= 0 && token < vocab ? T(weight(token, c)) : not_a_number<T>;
  }
  SSM_DEVICE void store(Index r, Index c, T value) const { y(r / length, r % length, c) = value; }
};

/// The gradient of a few rows of the table, which one block adds to alone, a thread a column.
template <class T>
struct EmbeddingGradient {
  static constexpr int most_threads = 256, table_rows = 8;
  Array<const Token, 2> tokens;
  Array<const T, 3> dy;
  Array<T, 2> dweight;
  Index positions, length, vocab, width;
  bool accumulate;

  SSM_DEVICE void operator()(Block& block) const {
    const Shared<Token> seen = block.shared<Token>(most_threads);
    const Index first = block.index() * table_rows;
    const Index last = first + table_rows < vocab ? first + table_rows : vocab;
    if (!accumulate)
      for (Index row = first; row < last; ++row)
        for (Index c = block.thread(); c < width; c += most_threads) dweight(row, c) = T(0);
    for (Index begin = 0; begin < positions; begin += most_threads) {
      const Index position = begin + block.thread();
      const Token token =
          position < positions ? tokens(position / length, position % length) : Token(-1);
      const bool elsewhere = token < first || token >= last;
      seen[block.thread()] = token;
      if (!block.all(elsewhere)) {
        const Index left = positions - begin;
        const int count = left < most_threads ? static_cast<int>(left) : most_threads;
        for (int i = 0; i < count; ++i) {
          const Token row = seen[i];
          if (row < first || row >= last) continue;
          const Index at = begin + i;
          for (Index c = block.thread(); c < width; c += most_threads)
            dweight(row, c) += dy(at / length, at % length, c);
        }
      }
      block.sync();  // all have read what was seen
    }
  }
};

}  // namespace kernels

template <class T>
void embedding(const Cuda& backend, const EmbeddingInputs<T, Device>& inputs,
               const EmbeddingOptions&,
               const std::type_identity_t<EmbeddingOutputs<T, Device>>& outputs,
               EmbeddingScratch<T, Device>&) {
  using namespace kernels;
  const auto& [tokens, weight] = inputs;
  const auto& y = outputs.y;
  const char* function = "embedding";
  ssm::detail::check_embedding(function, inputs);
  const Index batch = tokens.extent(0), length = tokens.extent(1), width = weight.extent(1);
  ssm::detail::check_output_rows(function, "y", y, std::array<Index, 3>{batch, length, width});
  ssm::detail::check_no_overlap(function, "y", y, "weight", weight);
  launch_rows(backend, function, batch * length, width, false,
              EmbeddingRows<T>{Array<const Token, 2>(tokens), Array<const T, 2>(weight),
                               Array<T, 3>(y), length, weight.extent(0)});
}

template <class T>
void embedding_backward(
    const Cuda& backend, const EmbeddingInputs<T, Device>& inputs, const EmbeddingOptions& options,
    const std::type_identity_t<EmbeddingOutputGradients<T, Device>>& output_gradients,
    const std::type_identity_t<EmbeddingInputGradients<T, Device>>& input_gradients,
    EmbeddingScratch<T, Device>&) {
  using namespace kernels;
  const auto& [tokens, weight] = inputs;
  const auto& dy = output_gradients.y;
  const auto& dweight = input_gradients.weight;
  const char* function = "embedding_backward";
  ssm::detail::check_embedding(function, inputs);
  const Index batch = tokens.extent(0), length = tokens.extent(1), width = weight.extent(1);
  ssm::detail::check_rows(function, "the gradient of y", dy,
                          std::array<Index, 3>{batch, length, width});
  ssm::detail::check_output_rows(function, "the gradient of weight", dweight, weight.extents());
  ssm::detail::check_no_overlap(function, "the gradient of weight", dweight, "the gradient of y",
                                dy);
  using Kernel = EmbeddingGradient<T>;
  const Index vocab = weight.extent(0);
  launch(backend, function, (vocab + Kernel::table_rows - 1) / Kernel::table_rows,
         Kernel::most_threads, shared_size<Token>(Kernel::most_threads),
         Kernel{Array<const Token, 2>(tokens), Array<const T, 3>(dy), Array<T, 2>(dweight),
                batch * length, length, vocab, width, options.write == Write::accumulate});
}

}  // namespace ssm
