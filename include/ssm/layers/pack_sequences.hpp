#pragma once

#include <algorithm>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/checks.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/pack_sequences_types.hpp"

/// @file
/// Sequences of different lengths in one call. Every layer, block and model takes them end to end,
/// without padding; here they come from the rows of a padded batch, and go back:
///
///     const ssm::Tensor<ssm::Index, 1> offsets = ssm::offsets_of(lengths);  // of the rows of u
///     ssm::Tensor<float, 3> packed({1, offsets(batch), inputs});
///     pack_sequences(ssm::cpu, {u, offsets}, {}, {packed}, scratch);
///     loss(ssm::cpu, classifier, packed, labels, gradients, {.sequences = {offsets}}, work);
///
/// What a layer computes for a sequence is what it computes for that sequence alone, to rounding,
/// as products of matrices take the steps of all sequences together. An S4D layer whose form is
/// named computes the very same bits.
namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// The offsets of sequences of these lengths that lie end to end: 0, then the sum of the first
/// length, of the first two, and so on. Sequences{offsets} has them.
/// @param lengths (sequences), 0 and 1 are lengths too
/// @throws ShapeError without lengths; DomainError for a length below 0, or a sum that is too large
[[nodiscard]] inline Tensor<Index, 1> offsets_of(const View<const Index, 1>& lengths) {
  constexpr std::string_view function = "offsets_of";
  detail::check_given(function, "lengths", lengths, "(sequences)");
  Tensor<Index, 1> offsets({lengths.extent(0) + 1});
  for (Index s = 0; s < lengths.extent(0); ++s) {
    const Index most = (std::numeric_limits<Index>::max)() - offsets(s);
    if (lengths(s) < 0 || lengths(s) > most)
      detail::throw_domain(function, "lengths(" + std::to_string(s) + ")",
                           std::to_string(lengths(s)),
                           lengths(s) < 0 ? "at least 0" : "at most " + std::to_string(most));
    offsets(s + 1) = offsets(s) + lengths(s);
  }
  return offsets;
}

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// Copies steps of a row to steps of another, elements of a step adjacent.
template <class T>
void copy_steps(const View<const T, 2>& from, const View<T, 2>& to) {
  for (Index t = 0; t < from.extent(0); ++t)
    std::copy_n(from.data() + t * from.stride(0), from.extent(1), to.data() + t * to.stride(0));
}

template <class T>
void fill_steps(const View<T, 2>& to, T value) {
  for (Index t = 0; t < to.extent(0); ++t)
    std::fill_n(to.data() + t * to.stride(0), to.extent(1), value);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// Copies the sequences of a padded batch end to end, and leaves the padding out. The gradient with
/// respect to the batch is unpack_sequences of the gradient with respect to the packed sequences,
/// with the same padding and the value 0.
/// @throws ShapeError for extents that do not fit, elements of a step that are not adjacent, and
///   sequences longer than a row; DomainError for offsets that do not cut y into sequences
template <class T>
void pack_sequences(const Cpu& backend, const PackSequencesInputs<T>& inputs,
                    const PackSequencesOptions& options,
                    const std::type_identity_t<PackSequencesOutputs<T>>& outputs,
                    PackSequencesScratch<T>&) {
  constexpr std::string_view function = "pack_sequences";
  const View<const T, 3>& x = inputs.x;
  const View<T, 3>& y = outputs.y;
  detail::check_padded(function, inputs.offsets, "x", x, "y", y);
  detail::check_output(function, "y", y);
  detail::check_no_overlap(function, "y", y, "x", x);
  parallel_for(for_elements(backend, y.size()), x.extent(0), [&](Index s) {
    const Index begin = inputs.offsets(s), steps = inputs.offsets(s + 1) - begin;
    const Index first = detail::first_in_row(options.padding, x.extent(1), steps);
    detail::copy_steps<T>(x[s].slice(0, first, steps), y[0].slice(0, begin, steps));
  });
}

/// Copies sequences that lie end to end into the rows of a padded batch, and options.value into the
/// rest of each row. The gradient with respect to the packed sequences is pack_sequences of the
/// gradient with respect to the batch, with the same padding.
/// @throws ShapeError for extents that do not fit, elements of a step that are not adjacent, and
///   sequences longer than a row; DomainError for offsets that do not cut x into sequences
template <class T>
void unpack_sequences(const Cpu& backend, const UnpackSequencesInputs<T>& inputs,
                      const UnpackSequencesOptions& options,
                      const std::type_identity_t<UnpackSequencesOutputs<T>>& outputs,
                      UnpackSequencesScratch<T>&) {
  constexpr std::string_view function = "unpack_sequences";
  const View<const T, 3>& x = inputs.x;
  const View<T, 3>& y = outputs.y;
  detail::check_padded(function, inputs.offsets, "y", y, "x", x);
  detail::check_output(function, "y", y);
  detail::check_no_overlap(function, "y", y, "x", x);
  const Index length = y.extent(1);
  const T value = static_cast<T>(options.value);
  parallel_for(for_elements(backend, y.size()), y.extent(0), [&](Index s) {
    const Index begin = inputs.offsets(s), steps = inputs.offsets(s + 1) - begin;
    const Index first = detail::first_in_row(options.padding, length, steps);
    detail::fill_steps(y[s].slice(0, 0, first), value);
    detail::copy_steps<T>(x[0].slice(0, begin, steps), y[s].slice(0, first, steps));
    detail::fill_steps(y[s].slice(0, first + steps, length - first - steps), value);
  });
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_FORWARD(pack_sequences, PackSequences, float)
SSM_INSTANCE_FORWARD(unpack_sequences, UnpackSequences, float)
SSM_INSTANCE_FORWARD(pack_sequences, PackSequences, double)
SSM_INSTANCE_FORWARD(unpack_sequences, UnpackSequences, double)
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
