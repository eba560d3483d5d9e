#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <string>
#include <string_view>

#include "ssm/core/checks.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/view.hpp"

namespace ssm {

/// Where the rows of a padded batch hold steps that belong to no sequence.
enum class Padding {
  after,  ///< a sequence begins where its row begins
  before  ///< a sequence ends where its row ends
};

/// What pack_sequences reads.
template <class T, class Space = Host>
struct PackSequencesInputs {
  View<const T, 3, Space> x;  ///< (batch, length, width): one sequence a row, and padding, which is
                              ///< not read; elements of a step adjacent
  View<const Index, 1, Space> offsets;  ///< (batch + 1), as Sequences has them
};

/// How pack_sequences is to run.
struct PackSequencesOptions {
  Padding padding = Padding::after;  ///< on which side of the sequences it lies
};

/// What pack_sequences writes. It shares no memory with the inputs.
template <class T, class Space = Host>
struct PackSequencesOutputs {
  View<T, 3, Space> y;  ///< (1, the last offset, width): sequences end to end; elements of a step
                        ///< adjacent
};

/// Empty: packing needs no scratch memory.
template <class T, class Space = Host>
struct PackSequencesScratch {};

/// What unpack_sequences reads.
template <class T, class Space = Host>
struct UnpackSequencesInputs {
  View<const T, 3, Space> x;  ///< (1, the last offset, width): sequences end to end; elements of a
                              ///< step adjacent
  View<const Index, 1, Space> offsets;  ///< (batch + 1), as Sequences has them
};

/// How unpack_sequences is to run.
struct UnpackSequencesOptions {
  Padding padding = Padding::after;  ///< on which side of the sequences it lies
  double value = 0;                  ///< what is written there
};

/// What unpack_sequences writes. It shares no memory with the inputs.
template <class T, class Space = Host>
struct UnpackSequencesOutputs {
  View<T, 3, Space> y;  ///< (batch, length, width): one sequence a row, and padding; elements of a
                        ///< step adjacent
};

/// Empty: unpacking needs no scratch memory.
template <class T, class Space = Host>
struct UnpackSequencesScratch {};

namespace detail {

/// Throws unless the offsets cut `packed` into sequences that the rows of `padded` can hold.
template <class Offsets, class Padded, class Packed>
void check_padded(std::string_view function, const Offsets& offsets,
                  std::string_view padded_argument, const Padded& padded,
                  std::string_view packed_argument, const Packed& packed) {
  using Space = typename Padded::space;
  check_given(function, padded_argument, padded, "(batch, length, width)");
  check_given(function, packed_argument, packed, "(1, length, width)");
  check_given(function, "offsets", offsets, "(batch + 1)");
  const Index batch = padded.extent(0), length = padded.extent(1);
  check_shape(function, "offsets", offsets, std::array<Index, 1>{batch + 1});
  check_shape(function, packed_argument, packed,
              std::array<Index, 3>{1, packed.extent(1), padded.extent(2)});
  check_adjacent(function, padded_argument, padded);
  check_adjacent(function, packed_argument, packed);
  check_sequences(function, Sequences<Space>{offsets}, 1, packed.extent(1));
  if constexpr (std::same_as<Space, Host>)
    for (Index s = 0; s < batch; ++s)
      if (const Index steps = offsets(s + 1) - offsets(s); steps > length)
        throw_shape(function, "sequence " + std::to_string(s), std::to_string(steps) + " long",
                    "at most the " + std::to_string(length) + " steps of a row of " +
                        std::string(padded_argument));
}

/// Where in its row a sequence of a padded batch begins.
[[nodiscard]] constexpr Index first_in_row(Padding padding, Index length, Index steps) noexcept {
  return padding == Padding::after ? 0 : length - steps;
}

}  // namespace detail
}  // namespace ssm
