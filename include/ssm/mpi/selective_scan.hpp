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
#include "ssm/mpi/detail/selective_summaries.hpp"
#include "ssm/mpi/handing.hpp"
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

/// Whether the states of a selective scan pass by summaries, those of packed sequences never: the
/// same on every rank, and in both directions, as a scratch knows what blocks it is of.
template <class T, class K>
[[nodiscard]] bool by_summaries(const Ranks& backend, const SelectiveScanInputs<T, K>& inputs,
                                const SelectiveSizes& sizes,
                                const SelectiveScanOptions& options) noexcept {
  if (!std::is_same_v<T, Real<K>> || inputs.sequences.offsets || backend.time->size() == 1)
    return false;
  if (backend.handing != Handing::by_cost) return backend.handing == Handing::summaries;
  const ScanBlocks blocks(backend, sizes.channels, sizes.groups);
  return cheaper_handing({backend.time->size(), backend.layers, blocks.count(), sizes.channels,
                          backend.steps, size_of(sizes.states()), sizeof(K)},
                         options.keep) == Handing::summaries;
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
/// By the chain, channels run in blocks. A rank waits for the state of a block before its steps,
/// scans the block, and hands its last state on, so that the next rank begins with the first block
/// while this one scans the second. Over the layers of a model the wait is paid once: (ranks − 1)
/// blocks of one layer. y has the bits of one cpu; gradients of B and C are summed block by block.
///
/// By summaries, every rank runs through its steps at once, without outputs, to find what they do
/// to any state, ssm/mpi/detail/selective_summaries.hpp; log₂(ranks) rounds of messages then tell
/// each the state before its steps, from which it scans them as by the chain. That is nearly twice
/// the work of a forward pass and 1.3 times that of a backward one, and no wait: for many ranks.
/// Which one, says backend.handing; ssm/mpi/handing.hpp has the costs.
///
/// What moves is (sequences · channels · state) numbers a message, whatever the length.
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
  const bool at_once = detail::by_summaries(backend, inputs, sizes, options);
  const detail::ScanBlocks blocks(backend, sizes.channels, sizes.groups, at_once);
  blocks.make_room(scratch.blocks);
  const auto run = [&](Index i, const Share& own, const View<const K, 3>& initial,
                       const View<K, 3>& after) {
    auto& room = scratch.blocks[static_cast<std::size_t>(i)];
    auto in =
        detail::selective_part(inputs, own, sizes.groups > 1 ? blocks.groups(i) : Share{0, 1});
    in.initial_state = initial;
    const detail::LentRoom lent(scratch, room);
    selective_scan(backend.local, in, options, {detail::part_of(outputs.y, 2, own), after}, room);
  };
  if (at_once)
    detail::run_on<K, 3>(
        chain, inputs.initial_state, outputs.final_state, sizes.states(), scratch.passed,
        [&](const View<K, 3>& before) {
          if constexpr (std::is_same_v<T, Real<K>>)
            detail::SelectiveSummaries<K>(inputs, options, sizes, scratch.tiles)
                .pass_forward(backend.local, chain, inputs.initial_state, before);
        },
        [&](const View<const K, 3>& initial, const View<K, 3>& after) {
          run(0, blocks.channels(0), initial, after);
        });
  else
    detail::hand_blocks_on<K, 3>(chain, blocks, inputs.initial_state, outputs.final_state,
                                 sizes.states(), scratch.passed, run);
  detail::end_selective_call(inputs, options, sizes, scratch);
}

/// The gradients of selective_scan over ranks: those by states pass from the last rank to the
/// first, by the chain a block of channels after the other, by summaries in as many rounds as
/// forward.
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
  const bool at_once = detail::by_summaries(backend, inputs, sizes, options);
  const detail::ScanBlocks blocks(backend, sizes.channels, sizes.groups, at_once);
  blocks.check_room(function, scratch.blocks);
  const std::array<Index, 4> shared{sizes.batch, sizes.length, 1, sizes.state};
  const Index share_size = detail::size_of(shared);
  const auto run = [&](Index i, const Share& own, const View<const K, 3>& initial,
                       const View<const K, 3>& dfinal, const View<K, 3>& dinitial) {
    const Share groups = sizes.groups > 1 ? blocks.groups(i) : Share{0, 1};
    auto& room = scratch.blocks[static_cast<std::size_t>(i)];
    auto in = detail::selective_part(inputs, own, groups);
    auto din = detail::selective_part(input_gradients, own, groups);
    in.initial_state = initial;
    din.initial_state = dinitial;
    // The first block writes the gradients of a B and a C that blocks share, others add to them.
    const bool adds = i > 0 && sizes.groups == 1;
    if (adds) {
      scratch.shares.resize({2 * share_size});
      if (din.B.varying) din.B.varying = {scratch.shares.data(), shared};
      if (din.C.varying) din.C.varying = {scratch.shares.data() + share_size, shared};
    }
    const detail::LentRoom lent(scratch, room);
    selective_scan_backward(backend.local, in, options,
                            {detail::part_of(output_gradients.y, 2, own), dfinal}, din, room);
  };
  const auto finish = [&](Index i) {
    if (i == 0 || sizes.groups > 1) return;
    const auto add = [&](Index from, const View<K, 4>& to) {
      if (to) detail::add_share<K>(backend.local, {scratch.shares.data() + from, shared}, to);
    };
    add(0, input_gradients.B.varying);
    add(share_size, input_gradients.C.varying);
  };
  if (at_once)
    detail::run_back<K, 3>(
        function, chain, inputs.initial_state, output_gradients.final_state, sizes.states(),
        scratch.passed,
        [&](const View<K, 3>& after) {
          if constexpr (std::is_same_v<T, Real<K>>)
            detail::SelectiveSummaries<K>(inputs, options, sizes, scratch.tiles)
                .pass_backward(backend.local, detail::Chain(backend, inputs.sequences.turned()),
                               output_gradients.y, output_gradients.final_state, after);
        },
        [&](const View<const K, 3>& initial, const View<const K, 3>& dfinal) {
          run(0, blocks.channels(0), initial, dfinal, input_gradients.initial_state);
        });
  else
    detail::hand_blocks_back<K, 3>(function, chain, blocks, inputs.initial_state,
                                   output_gradients.final_state, input_gradients.initial_state,
                                   sizes.states(), scratch.passed, run, finish);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
