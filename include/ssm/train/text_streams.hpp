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

namespace ssm {

/// Where each of `batch` parallel readers of one text stands.
///
/// Truncated back-propagation through time with a carried state: at every step each stream reads
/// the next `length` bytes of the text, and the model goes on from the state in which the same
/// stream left it, so that it learns to use context far longer than `length`. Two things send a
/// stream elsewhere, with its state back at zero:
///  - fewer than length + 1 bytes are left: it starts again at the beginning of the text;
///  - a draw of probability 1/jump_interval: it goes to a random place. This keeps starting from
///    zero, which generation does, among the things that are trained, and mixes the streams.
/// Draws are hashes of (seed, step, stream), not a generator with a state of its own, so that the
/// positions are all that a resumed run needs.
struct TextStreams {
  std::vector<Index> positions;  ///< (batch), where each stream reads next

  /// One step's reading: the inputs, the bytes that follow them, and which streams start afresh.
  struct Batch {
    Tensor<Token, 2> tokens;   ///< (batch, length)
    Tensor<Token, 2> targets;  ///< (batch, length): tokens one byte later
    std::vector<bool> fresh;   ///< (batch): the state of this stream must be zero
  };

  /// Reads the batch of step `step`; at step 0 every stream starts at a random place. A random
  /// place is the latest of `latest_of` draws: 1 is uniform, more favour the end of the text, as
  /// one who will be judged by what comes after it does. Throws DomainError unless the text has at
  /// least length + 1 bytes.
  void read(std::span<const unsigned char> text, Index length, Index step, std::uint64_t seed,
            std::uint64_t jump_interval, Batch& batch, Index latest_of = 1) {
    const auto size = static_cast<Index>(text.size());
    if (length < 1 || size < length + 1)
      detail::throw_domain("TextStreams", "text", std::to_string(size) + " bytes",
                           "length + 1 = " + std::to_string(length + 1) + " or more, length ≥ 1");
    const auto streams = static_cast<Index>(positions.size());
    batch.tokens.resize({streams, length});
    batch.targets.resize({streams, length});
    batch.fresh.assign(positions.size(), false);
    for (Index b = 0; b < streams; ++b) {
      Index& position = positions[static_cast<std::size_t>(b)];
      const auto stream = static_cast<std::uint64_t>(b);
      const std::uint64_t draw =
          detail::mix(detail::mix(detail::mix(seed) + static_cast<std::uint64_t>(step)) + stream);
      const bool jump = step == 0 || (jump_interval != 0 && draw % jump_interval == 0);
      const bool wrap = position < 0 || position > size - length - 1;
      if (jump) {
        position = 0;
        for (Index k = 0; k < latest_of; ++k) {
          const std::uint64_t place = detail::mix(draw + static_cast<std::uint64_t>(k));
          position = std::max(
              position, static_cast<Index>(place % static_cast<std::uint64_t>(size - length)));
        }
      } else if (wrap) {
        position = 0;
      }
      batch.fresh[static_cast<std::size_t>(b)] = jump || wrap;
      for (Index t = 0; t < length; ++t) {
        batch.tokens(b, t) = text[static_cast<std::size_t>(position + t)];
        batch.targets(b, t) = text[static_cast<std::size_t>(position + t + 1)];
      }
      position += length;
    }
  }
};

}  // namespace ssm
