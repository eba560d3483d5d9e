#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ssm/core/detail/hash.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/layers/embedding.hpp"
#include "ssm/train/rename.hpp"

namespace ssm {

/// How the streams of a training run read their text.
struct StreamOptions {
  Index length = 256;                ///< bytes a stream reads per step
  std::uint64_t seed = 1;            ///< of the draws
  std::uint64_t jump_interval = 64;  ///< mean steps between jumps of a stream; 0: never
  Index latest_of = 1;               ///< a jump goes to the latest of so many random places
  double rename = 0;                 ///< probability that a name has other letters (copy_renamed)
};

/// Where each of `batch` parallel readers of one text stands.
///
/// Truncated back-propagation through time with a carried state: at every step each stream reads
/// the next `length` bytes of the text, and the model goes on from the state in which the same
/// stream left it, so that it learns to use context far longer than `length`. Two things send a
/// stream elsewhere, with its state back at zero:
///  - fewer than length + 1 bytes are left: it starts again at the beginning of the text;
///  - a draw of probability 1/jump_interval: it goes to a random place. This keeps starting from
///    zero, which generation does, among the things that are trained, and mixes the streams.
/// Names keep their new letters from one such start to the next. Draws are hashes of (seed, step,
/// stream), not a generator with a state of its own, so that positions and starts are all that a
/// resumed run needs.
struct TextStreams {
  std::vector<Index> positions;  ///< (batch), where each stream reads next
  std::vector<Index> starts;     ///< (batch), the step at which each stream last started afresh

  TextStreams() = default;
  /// Streams before their first step.
  explicit TextStreams(Index batch)
      : positions(static_cast<std::size_t>(batch), 0), starts(positions) {}

  /// One step's reading: the inputs, the bytes that follow them, and which streams start afresh.
  struct Batch {
    Tensor<Token, 2> tokens;         ///< (batch, length)
    Tensor<Token, 2> targets;        ///< (batch, length): tokens one byte later
    std::vector<bool> fresh;         ///< (batch): the state of this stream must be zero
    std::vector<unsigned char> row;  ///< scratch of length + 1 bytes
  };

  /// Reads the batch of step `step`; at step 0 every stream starts at a random place. A random
  /// place is the latest of `latest_of` draws: 1 is uniform, more favour the end of the text, as
  /// one who will be judged by what comes after it does. Throws DomainError unless the text has at
  /// least length + 1 bytes.
  void read(std::span<const unsigned char> text, Index step, const StreamOptions& options,
            Batch& batch) {
    const auto size = static_cast<Index>(text.size());
    const Index length = options.length;
    if (length < 1 || size < length + 1)
      detail::throw_domain("TextStreams", "text", std::to_string(size) + " bytes",
                           "length + 1 = " + std::to_string(length + 1) + " or more, length ≥ 1");
    const auto streams = static_cast<Index>(positions.size());
    batch.tokens.resize({streams, length});
    batch.targets.resize({streams, length});
    batch.fresh.assign(positions.size(), false);
    batch.row.resize(static_cast<std::size_t>(length) + 1);
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
          position = std::max(
              position, static_cast<Index>(place % static_cast<std::uint64_t>(size - length)));
        }
      } else if (wrap) {
        position = 0;
      }
      batch.fresh[stream] = jump || wrap;
      if (jump || wrap) starts[stream] = step;
      const std::uint64_t key = detail::mix(~draw_of(options.seed, starts[stream], b));
      copy_renamed(text, static_cast<std::size_t>(position), key, options.rename, batch.row);
      std::copy_n(batch.row.begin(), length, &batch.tokens(b, 0));
      std::copy_n(batch.row.begin() + 1, length, &batch.targets(b, 0));
      position += length;
    }
  }

 private:
  static std::uint64_t draw_of(std::uint64_t seed, Index step, Index stream) noexcept {
    return detail::mix(detail::mix(detail::mix(seed) + static_cast<std::uint64_t>(step)) +
                       static_cast<std::uint64_t>(stream));
  }
};

}  // namespace ssm
