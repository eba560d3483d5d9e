#pragma once

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

/// The views of inputs or their gradients for a block of the channels of a selective scan: all but
/// the initial state, and the sequences where there are some.
/// @param groups those of the block, where blocks do not share them
template <class Views>
[[nodiscard]] Views selective_part(const Views& whole, const Share& own, const Share& groups) {
  const auto coefficient = [&](auto part) {
    part.constant = part_of(part.constant, 0, own);
    part.varying = part_of(part.varying, 2, groups);
    return part;
  };
  Views part = whole;
  part.u = part_of(whole.u, 2, own);
  part.delta = part_of(whole.delta, 2, own);
  part.A = part_of(whole.A, 0, own);
  part.B = coefficient(whole.B);
  part.C = coefficient(whole.C);
  part.D = part_of(whole.D, 0, own);
  part.delta_bias = part_of(whole.delta_bias, 0, own);
  part.z = part_of(whole.z, 2, own);
  part.initial_state = {};
  return part;
}

/// to += share, (batch, length, 1, state), on the threads of the backend.
template <class K>
void add_share(const Cpu& backend, const View<const K, 4>& share, const View<K, 4>& to) {
  const auto extents = to.extents();
  parallel_for(for_elements(backend, to.size(), 1.0), extents[0] * extents[1], [&](Index row) {
    const Index b = row / extents[1], t = row % extents[1];
    for (Index n = 0; n < extents[3]; ++n) to(b, t, 0, n) += share(b, t, 0, n);
  });
}

/// Lends the room of a scratch, in which no result is kept, to that of a block.
template <class Scratch>
class LentRoom {
 public:
  LentRoom(Scratch& owner, Scratch& block) : owner_(owner), block_(block) {
    hand_over_room(owner_, block_);
  }
  ~LentRoom() { hand_over_room(block_, owner_); }
  LentRoom(const LentRoom&) = delete;
  LentRoom& operator=(const LentRoom&) = delete;

 private:
  Scratch &owner_, &block_;
};

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
/// @throws ShapeError and DomainError as on the cpu; MpiError
template <class T, class K>
void selective_scan(const Ranks& backend, const SelectiveScanInputs<T, K>& inputs,
                    const SelectiveScanOptions& options,
                    const std::type_identity_t<SelectiveScanOutputs<T, K>>& outputs,
                    SelectiveScanScratch<T, K>& scratch) {
  constexpr std::string_view function = "selective_scan";
  const auto sizes = detail::check_selective_inputs(function, inputs, options);
  detail::check_selective_outputs(function, outputs, inputs, sizes);
  detail::check_packed(function, inputs.sequences);
  scratch.call.drop();
  const detail::Chain chain(backend, inputs.sequences);
  const detail::ScanBlocks blocks(backend, sizes.channels, sizes.groups);
  blocks.make_room(scratch.blocks);
  detail::hand_blocks_on<K, 3>(
      chain, blocks, inputs.initial_state, outputs.final_state,
      {sizes.sequences, sizes.channels, sizes.state}, scratch.passed,
      [&](Index i, const Share& own, const View<const K, 3>& initial, const View<K, 3>& after) {
        auto& room = scratch.blocks[static_cast<std::size_t>(i)];
        auto in =
            detail::selective_part(inputs, own, sizes.groups > 1 ? blocks.groups(i) : Share{0, 1});
        in.initial_state = initial;
        const detail::LentRoom lent(scratch, room);
        selective_scan(backend.local, in, options, {detail::part_of(outputs.y, 2, own), after},
                       room);
      });
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
  detail::check_packed(function, inputs.sequences);
  const detail::Chain chain(backend, inputs.sequences);
  const detail::ScanBlocks blocks(backend, sizes.channels, sizes.groups);
  blocks.check_room(function, scratch.blocks);
  const std::array<Index, 4> shared{sizes.batch, sizes.length, 1, sizes.state};
  const Index share_size = detail::size_of(shared);
  detail::hand_blocks_back<K, 3>(
      function, chain, blocks, inputs.initial_state, output_gradients.final_state,
      input_gradients.initial_state, {sizes.sequences, sizes.channels, sizes.state}, scratch.passed,
      [&](Index i, const Share& own, const View<const K, 3>& initial,
          const View<const K, 3>& dfinal, const View<K, 3>& dinitial) {
        const Share groups = sizes.groups > 1 ? blocks.groups(i) : Share{0, 1};
        auto& room = scratch.blocks[static_cast<std::size_t>(i)];
        auto in = detail::selective_part(inputs, own, groups);
        auto din = detail::selective_part(input_gradients, own, groups);
        in.initial_state = initial;
        din.initial_state = dinitial;
        // The first block writes the gradients of a B and a C that blocks share, others add to
        // them.
        const bool adds = i > 0 && sizes.groups == 1;
        if (adds) {
          scratch.shares.resize({2 * share_size});
          if (din.B.varying) din.B.varying = {scratch.shares.data(), shared};
          if (din.C.varying) din.C.varying = {scratch.shares.data() + share_size, shared};
        }
        const detail::LentRoom lent(scratch, room);
        selective_scan_backward(backend.local, in, options,
                                {detail::part_of(output_gradients.y, 2, own), dfinal}, din, room);
      },
      [&](Index i) {
        if (i == 0 || sizes.groups > 1) return;
        const auto add = [&](Index from, const View<K, 4>& to) {
          if (to) detail::add_share<K>(backend.local, {scratch.shares.data() + from, shared}, to);
        };
        add(0, input_gradients.B.varying);
        add(share_size, input_gradients.C.varying);
      });
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
