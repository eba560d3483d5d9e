#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>
#include <type_traits>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/view.hpp"
#include "ssm/mpi/detail/chain.hpp"
#include "ssm/mpi/ranks.hpp"
#include "ssm/scan/selective_scan.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// Channels of a selective scan cut into blocks that are handed on one by one: whole groups where B
/// and C come in several, else runs of channels that fill vectors.
class ScanBlocks {
 public:
  ScanBlocks(const Ranks& backend, const SelectiveSizes& sizes) noexcept
      : unit_(sizes.groups > 1 ? sizes.channels / sizes.groups : unit), channels_(sizes.channels) {
    const Index most = (channels_ + unit_ - 1) / unit_;
    Index wanted = backend.blocks > 0 ? backend.blocks : std::clamp<Index>(channels_ / 64, 1, 8);
    if (backend.time->size() == 1) wanted = 1;
    count_ = std::clamp<Index>(wanted, 1, (std::max<Index>)(most, 1));
    whole_groups_ = sizes.groups > 1;
  }

  [[nodiscard]] Index count() const noexcept { return count_; }
  /// The channels of block i.
  [[nodiscard]] Share channels(Index i) const noexcept {
    const Index begin = edge(i);
    return {begin, edge(i + 1) - begin};
  }
  /// The groups of block i, of which there is one for all blocks or some for each.
  [[nodiscard]] Share groups(Index i) const noexcept {
    const Share own = channels(i);
    return whole_groups_ ? Share{own.begin / unit_, own.count / unit_} : Share{0, 1};
  }
  /// Whether blocks share the gradients of varying B and C.
  [[nodiscard]] bool share_groups() const noexcept { return !whole_groups_; }

 private:
  static constexpr Index unit = 16;  // channels of the widest vectors of float

  [[nodiscard]] Index edge(Index i) const noexcept {
    const Index units = (channels_ + unit_ - 1) / unit_;
    return (std::min)(channels_, units * i / count_ * unit_);
  }

  Index unit_, channels_, count_ = 1;
  bool whole_groups_ = false;
};

/// The part of a view, where it is given, in dimension `dimension`.
template <class AnyView>
[[nodiscard]] AnyView part_of(const AnyView& view, std::size_t dimension,
                              const Share& part) noexcept {
  return view ? view.slice(dimension, part.begin, part.count) : view;
}
template <class K, std::size_t Rank, class V>
[[nodiscard]] Selective<K, Rank, V> part_of(const Selective<K, Rank, V>& coefficient,
                                            const ScanBlocks& blocks, Index i) noexcept {
  Selective<K, Rank, V> part;
  part.constant = part_of(coefficient.constant, 0, blocks.channels(i));
  part.varying = part_of(coefficient.varying, 2, blocks.groups(i));
  return part;
}

/// What block i of the channels reads.
template <class T, class K>
[[nodiscard]] SelectiveScanInputs<T, K> part_of(const SelectiveScanInputs<T, K>& in,
                                                const ScanBlocks& blocks, Index i) noexcept {
  const Share own = blocks.channels(i);
  SelectiveScanInputs<T, K> part;
  part.u = part_of(in.u, 2, own);
  part.delta = part_of(in.delta, 2, own);
  part.A = part_of(in.A, 0, own);
  part.B = part_of(in.B, blocks, i);
  part.C = part_of(in.C, blocks, i);
  part.D = part_of(in.D, 0, own);
  part.delta_bias = part_of(in.delta_bias, 0, own);
  part.z = part_of(in.z, 2, own);
  part.initial_state = part_of(in.initial_state, 1, own);
  part.sequences = in.sequences;
  return part;
}

/// The gradients that block i of the channels writes.
template <class T, class K>
[[nodiscard]] SelectiveScanInputGradients<T, K> part_of(const SelectiveScanInputGradients<T, K>& in,
                                                        const ScanBlocks& blocks,
                                                        Index i) noexcept {
  const Share own = blocks.channels(i);
  SelectiveScanInputGradients<T, K> part;
  part.u = part_of(in.u, 2, own);
  part.delta = part_of(in.delta, 2, own);
  part.A = part_of(in.A, 0, own);
  part.B = part_of(in.B, blocks, i);
  part.C = part_of(in.C, blocks, i);
  part.D = part_of(in.D, 0, own);
  part.delta_bias = part_of(in.delta_bias, 0, own);
  part.z = part_of(in.z, 2, own);
  part.initial_state = part_of(in.initial_state, 1, own);
  return part;
}

/// to += share, (batch, length, groups, state), on the threads of the backend.
template <class K>
void add_share(const Cpu& backend, const View<const K, 4>& share, const View<K, 4>& to) {
  const auto [batch, length, groups, state] = to.extents();
  parallel_for(for_elements(backend, to.size(), 1.0), batch * length,
               [&, steps = length, count = groups, states = state](Index row) {
                 const Index b = row / steps, t = row % steps;
                 for (Index g = 0; g < count; ++g)
                   for (Index n = 0; n < states; ++n) to(b, t, g, n) += share(b, t, g, n);
               });
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// selective_scan over ranks, each with its own steps.
///
/// Channels run in blocks. A rank waits for the state of a block before its steps, scans the block,
/// and hands its last state on, so that the next rank begins with the first block while this one
/// scans the second. Over the layers of a model the wait is paid once: (ranks − 1) blocks of one
/// layer. What moves is (sequences · channels · state) numbers, whatever the length. y has the
/// bits of one cpu; gradients of B and C are summed block by block.
/// @throws ShapeError and DomainError as on the cpu; DomainError for packed sequences; MpiError
template <class T, class K>
void selective_scan(const Ranks& backend, const SelectiveScanInputs<T, K>& inputs,
                    const SelectiveScanOptions& options,
                    const std::type_identity_t<SelectiveScanOutputs<T, K>>& outputs,
                    SelectiveScanScratch<T, K>& scratch) {
  constexpr std::string_view function = "selective_scan";
  const auto sizes = detail::check_selective_inputs(function, inputs, options);
  detail::check_selective_outputs(function, outputs, inputs, sizes);
  detail::refuse_packed(function, inputs.sequences);
  scratch.call.drop();
  const detail::Chain chain(backend, inputs.sequences.reversed);
  const detail::ScanBlocks blocks(backend, sizes);
  if (const auto wanted = static_cast<std::size_t>(blocks.count()); scratch.blocks.size() < wanted)
    scratch.blocks.resize(wanted);
  for (Index i = 0; i < blocks.count(); ++i) {
    const Share own = blocks.channels(i);
    auto& room = scratch.blocks[static_cast<std::size_t>(i)];
    detail::hand_states_on(
        chain, detail::part_of(inputs, blocks, i), detail::part_of(outputs.final_state, 1, own),
        std::array{sizes.sequences, own.count, sizes.state}, room.passed,
        [&](const SelectiveScanInputs<T, K>& in, const View<K, 3>& final_state) {
          selective_scan(backend.local, in, options,
                         {detail::part_of(outputs.y, 2, own), final_state}, room);
        });
  }
  detail::end_selective_call(inputs, options, sizes, scratch);
}

/// The gradients of selective_scan over ranks: those by states run from the last rank to the first,
/// a block of channels after the other.
/// @throws as selective_scan, and ShapeError for a scratch of another call
template <class T, class K>
void selective_scan_backward(
    const Ranks& backend, const SelectiveScanInputs<T, K>& inputs,
    const SelectiveScanOptions& options,
    const std::type_identity_t<SelectiveScanOutputGradients<T, K>>& output_gradients,
    const std::type_identity_t<SelectiveScanInputGradients<T, K>>& input_gradients,
    SelectiveScanScratch<T, K>& scratch) {
  constexpr std::string_view function = "selective_scan_backward";
  const auto sizes =
      detail::check_selective_backward(inputs, options, output_gradients, input_gradients, scratch);
  detail::refuse_packed(function, inputs.sequences);
  const detail::Chain chain(backend, inputs.sequences.reversed);
  const detail::ScanBlocks blocks(backend, sizes);
  const std::array<Index, 4> shared{sizes.batch, sizes.length, 1, sizes.state};
  const Index share_size = detail::size_of(shared);
  if (static_cast<Index>(scratch.blocks.size()) < blocks.count())
    detail::throw_shape(function, "scratch", "of a call with other blocks",
                        "one that selective_scan filled over these ranks");
  for (Index i = 0; i < blocks.count(); ++i) {
    const Share own = blocks.channels(i);
    const std::array states{sizes.sequences, own.count, sizes.state};
    auto& room = scratch.blocks[static_cast<std::size_t>(i)];
    auto in = detail::part_of(inputs, blocks, i);
    auto din = detail::part_of(input_gradients, blocks, i);
    // The first block writes the gradients of B and C that blocks share, others add to them.
    const bool adds = i > 0 && blocks.share_groups();
    if (adds) {
      scratch.shares.resize({2 * share_size});
      if (din.B.varying) din.B.varying = {scratch.shares.data(), shared};
      if (din.C.varying) din.C.varying = {scratch.shares.data() + share_size, shared};
    }
    detail::restore_initial_state(function, chain, in, states, room.passed);
    detail::hand_gradients_back(
        chain, detail::part_of(output_gradients.final_state, 1, own), din.initial_state, states,
        room.passed, [&](const View<const K, 3>& dfinal, const View<K, 3>& dinitial) {
          SelectiveScanInputGradients<T, K> to = din;
          to.initial_state = dinitial;
          selective_scan_backward(backend.local, in, options,
                                  {detail::part_of(output_gradients.y, 2, own), dfinal}, to, room);
        });
    if (!adds) continue;
    if (din.B.varying)
      detail::add_share<K>(backend.local, din.B.varying, input_gradients.B.varying);
    if (din.C.varying)
      detail::add_share<K>(backend.local, din.C.varying, input_gradients.C.varying);
  }
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
