#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ssm/core/detail/hash.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/shares.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/layers/embedding.hpp"
#include "ssm/train/rename.hpp"
#include "ssm/train/text_view.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// How the streams of a training run read their text.
struct StreamOptions {
  Index length = 256;      ///< bytes or tokens that a stream reads in a step
  std::uint64_t seed = 1;  ///< of the random numbers
  std::uint64_t jump_interval =
      64;               ///< mean number of steps between jumps of a stream; 0: it never jumps
  Index latest_of = 1;  ///< a jump goes to the latest of this many random places
  double rename = 0;    ///< of bytes: probability that a name gets other letters; see copy_renamed
};

/// The positions of `batch` streams that read one text in parallel.
///
/// It is for truncated backpropagation through time with a carried state: at every step each stream
/// reads the next `length` bytes or tokens of the text, and the model goes on from the state in
/// which the stream left it, so that the model learns to use a context much longer than `length`. A
/// stream continues elsewhere, with its state set to zero,
///  - at the beginning of the text, when fewer than length + 1 are left;
///  - at a random place, with probability 1/jump_interval at every step. This mixes the streams,
///  and
///    trains the model to start from a state of zero, as it does when it generates text.
/// The names that copy_renamed changes keep their new letters until the stream starts anew. Random
/// numbers are hashes of (seed, step, stream), so a resumed run needs only positions and starts.
struct TextStreams {
  std::vector<Index> positions;  ///< (batch): the place that each stream reads next
  std::vector<Index> starts;     ///< (batch): the step at which each stream last started anew

  TextStreams() = default;
  /// Streams before their first step.
  explicit TextStreams(Index batch)
      : positions(static_cast<std::size_t>(batch), 0), starts(positions) {}

  /// What one step reads, or a share of it.
  struct Batch {
    Tensor<Token, 2> tokens;   ///< (streams, steps) of the share, all: (batch, length)
    Tensor<Token, 2> targets;  ///< (streams, steps): what comes after each token
    std::vector<bool> fresh;   ///< (batch): whether the state of the stream must be set to zero
    std::vector<unsigned char> row;  ///< of renamed bytes: one more than a part
  };

  /// Reads the batch of step `step`. At step 0 every stream starts at a random place. A random
  /// place is the latest of `latest_of` uniform draws: with 1 it is uniform, with more the end of
  /// the text is read more often, which pays when the model will be tested on what comes after the
  /// text.
  /// @throws DomainError unless the text has at least length + 1 bytes or tokens, and for tokens
  /// that are to be renamed
  void read(const TextView& text, Index step, const StreamOptions& options, Batch& batch) {
    const Share all{0, options.length};
    read(text, step, options, {0, static_cast<Index>(positions.size())}, {&all, 1}, batch);
  }
  /// As above, a share of it: of the streams `own` what `parts` say of their next `length`, one
  /// part after the other. All streams move on.
  /// @throws DomainError as above
  void read(const TextView& text, Index step, const StreamOptions& options, const Share& own,
            std::span<const Share> parts, Batch& batch) {
    const auto size = static_cast<Index>(text.size());
    const Index length = options.length;
    if (length < 1 || size <= length)
      detail::throw_domain(
          "TextStreams", "text", std::to_string(size) + " " + text.unit(),
          "more than length, which is " + std::to_string(length) + " and at least 1");
    if (options.rename > 0 && text.bytes().empty())
      detail::throw_domain("TextStreams", "rename", std::to_string(options.rename),
                           "0 for a text of tokens, in which no letter can be changed");
    const auto streams = static_cast<Index>(positions.size());
    Index steps = 0;
    for (const Share& part : parts) steps += part.count;
    batch.tokens.resize({own.count, steps});
    batch.targets.resize({own.count, steps});
    batch.fresh.assign(positions.size(), false);
    for (Index b = 0; b < streams; ++b) {
      const auto stream = static_cast<std::size_t>(b);
      Index& position = positions[stream];
      const std::uint64_t draw = draw_of(options.seed, step, b);
      const bool jump =
          step == 0 || (options.jump_interval != 0 && draw % options.jump_interval == 0);
      const bool wrap = position < 0 || position > size - length - 1;
      if (jump) {
        position = 0;
        for (Index k = 0; k < options.latest_of; ++k) {
          const std::uint64_t place = detail::mix(draw + static_cast<std::uint64_t>(k));
          position = (std::max)(
              position, static_cast<Index>(place % static_cast<std::uint64_t>(size - length)));
        }
      } else if (wrap) {
        position = 0;
      }
      batch.fresh[stream] = jump || wrap;
      if (jump || wrap) starts[stream] = step;
      if (const Index row = b - own.begin; row >= 0 && row < own.count) {
        const std::uint64_t key = detail::mix(~draw_of(options.seed, starts[stream], b));
        Index at = row * steps;
        for (const Share& part : parts) {
          const auto first = static_cast<std::size_t>(position + part.begin);
          const auto count = static_cast<std::size_t>(part.count);
          TextView read = text;
          std::size_t from = first;
          if (options.rename > 0) {
            batch.row.resize(count + 1);
            copy_renamed(text.bytes(), first, key, options.rename, batch.row);
            read = batch.row;
            from = 0;
          }
          read.copy(from, count, batch.tokens.data() + at);
          read.copy(from + 1, count, batch.targets.data() + at);
          at += part.count;
        }
      }
      position += length;
    }
  }

 private:
  static std::uint64_t draw_of(std::uint64_t seed, Index step, Index stream) noexcept {
    return detail::mix(detail::mix(detail::mix(seed) + static_cast<std::uint64_t>(step)) +
                       static_cast<std::uint64_t>(stream));
  }
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
