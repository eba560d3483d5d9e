#pragma once

#include <algorithm>
#include <string_view>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/view.hpp"
#include "ssm/scan/detail/dplr_lanes.hpp"
#include "ssm/scan/detail/dplr_tables.hpp"
#include "ssm/scan/dplr_scan_types.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// A call of dplr_scan or its backward pass, cut into blocks of channels.
template <class T>
class DplrScan {
 public:
  DplrScan(const Cpu& backend, const DplrScanInputs<T>& in, const DplrScanSizes& sizes,
           DplrScanScratch<T>& scratch)
      : in_(in),
        sizes_(sizes),
        layout_{sizes.modes, sizes.rank},
        scratch_(scratch),
        blocks_((sizes.channels + lanes<T> - 1) / lanes<T>) {
    const double steps = static_cast<double>(sizes.batch * sizes.length + 16);
    backend_ =
        for_work(backend, static_cast<double>(blocks_ * sizes.modes * layout_.row()) * steps);
    const auto runs = static_cast<std::size_t>(backend_.thread_count());
    if (scratch.threads.size() < runs) scratch.threads.resize(runs);
  }

  void forward(const DplrScanOutputs<T>& out, bool keep) {
    scratch_.tables.resize({blocks_ * layout_.vectors() * lanes<T>});
    if (keep) {
      scratch_.first_segment.resize({sizes_.sequences + 1});
      Index segments = 0;
      for (Index s = 0; s < sizes_.sequences; ++s) {
        scratch_.first_segment(s) = segments;
        segments += (span(s).length() + dplr_segment - 1) / dplr_segment;
      }
      scratch_.first_segment(sizes_.sequences) = segments;
      scratch_.kept.resize({segments * blocks_ * layout_.state() * lanes<T>});
    }
    each(blocks_, [&](Index block, auto& room) {
      DplrSampling<T>(in_, layout_, room.sampling).sample(block * lanes<T>, table(block));
    });
    with_rank([&](auto rank) {
      each(blocks_ * sizes_.sequences, [&](Index i, auto& room) {
        const Index s = i / blocks_, block = i % blocks_;
        lanes_of<rank>(block, false, room)
            .forward(in_.u, in_.initial_state, out.y, out.final_state, s, span(s),
                     in_.sequences.reversed, keep ? kept(s, block) : nullptr);
      });
    });
  }

  void backward(const DplrScanOutputGradients<T>& dout, const DplrScanInputGradients<T>& din) {
    // Sequences go together in groups that depend on the shape alone, so that few channels keep all
    // threads at work.
    constexpr Index enough = 8;
    const Index wanted = (enough + blocks_ - 1) / (std::max<Index>)(blocks_, 1);
    const Index groups = std::clamp<Index>(wanted, 1, (std::max<Index>)(sizes_.sequences, 1));
    const Index size = layout_.vectors() * lanes<T>;
    scratch_.sums.resize({groups * blocks_ * size});
    const auto sums = [&](Index group, Index block) {
      return scratch_.sums.data() + (group * blocks_ + block) * size;
    };
    with_rank([&](auto rank) {
      each(blocks_ * groups, [&](Index i, auto& room) {
        const Index group = i / blocks_, block = i % blocks_;
        T* const to = sums(group, block);
        std::fill_n(to, size, T(0));
        auto pass = lanes_of<rank>(block, true, room);
        for (Index s = sizes_.sequences * group / groups;
             s < sizes_.sequences * (group + 1) / groups; ++s)
          pass.backward(in_.u, dout.y, dout.final_state, din.u, din.initial_state, s, span(s),
                        in_.sequences.reversed, kept(s, block), to);
      });
    });
    each(blocks_, [&](Index block, auto& room) {
      T* const total = sums(0, block);
      for (Index group = 1; group < groups; ++group)
        for (Index k = 0; k < size; ++k) total[k] += sums(group, block)[k];
      DplrSampling<T>(in_, layout_, room.sampling)
          .turn_back(block * lanes<T>, sizes_.channels, total, din);
    });
  }

 private:
  /// Calls body(i, room of the thread).
  template <class Body>
  void each(Index count, const Body& body) {
    const Index runs = (std::min<Index>)(count, backend_.thread_count());
    parallel_for(backend_, runs, [&](Index run) {
      for (Index i = count * run / runs; i < count * (run + 1) / runs; ++i)
        body(i, scratch_.threads[static_cast<std::size_t>(run)]);
    });
  }
  /// Calls body with the rank where that is common, else with −1.
  template <class Body>
  void with_rank(const Body& body) {
    if (layout_.rank == 1)
      body(std::integral_constant<int, 1>());
    else
      body(std::integral_constant<int, -1>());
  }
  template <int Rank, class Room>
  [[nodiscard]] DplrLanes<T, Rank> lanes_of(Index block, bool backward, Room& room) {
    const Index first = block * lanes<T>;
    return {layout_,  table(block), first, (std::min)(lanes<T>, sizes_.channels - first),
            backward, room.lanes};
  }
  [[nodiscard]] SequenceSpan span(Index s) const noexcept {
    return span_of(in_.sequences, s, sizes_.length);
  }
  [[nodiscard]] T* table(Index block) noexcept {
    return scratch_.tables.data() + block * layout_.vectors() * lanes<T>;
  }
  [[nodiscard]] T* kept(Index s, Index block) noexcept {
    const Index begin = scratch_.first_segment(s), own = scratch_.first_segment(s + 1) - begin;
    return scratch_.kept.data() + (begin * blocks_ + own * block) * layout_.state() * lanes<T>;
  }

  const DplrScanInputs<T>& in_;
  DplrScanSizes sizes_;
  DplrLayout layout_;
  DplrScanScratch<T>& scratch_;
  Index blocks_;
  Cpu backend_;
};

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// Runs the systems of S4, whose A is diagonal plus low rank, as a recurrence, each channel one
/// system with one input and one output:
///
///   x′ = (Λ − P P*) x + B u,  y = 2 Re(C x) + D u,
///
/// sampled by the bilinear map (Gu, Goel & Ré 2022, appendix C.2), P* x being the sum over both
/// halves of a conjugate pair. A step costs O(state · rank): A_bar is diagonal plus low rank too,
///
///   x_t = (1 + E) x_{t−1} + G (R x_{t−1}) + b u_t,
///   E = 2 Λ W,  R = P* W,  G = −(4/Δ) W P M,  b = 2 (W B − W P M R B),
///   W = (2/Δ − Λ)⁻¹,  M = (I + P* W P)⁻¹.
///
/// Channels lie across the lanes of vectors, so that 16 of them take the time of one in float with
/// AVX-512. The systems are sampled in double and stepped in T. With options.keep the scratch
/// receives what dplr_scan_backward needs: the state at every 64th step. An input that is NaN or
/// infinite affects its own channel, from its step on.
///
/// Cost: (4 + 2 rank) state multiply-adds for each channel and step, and for each channel
/// O(state · rank + rank³). The bits are the same for every number of threads. Allocates while the
/// scratch grows.
/// @throws ShapeError for shapes that do not fit, for outputs in memory that DplrScanOutputs does
/// not
///   allow; DomainError for a Δ that is not positive and finite, and for offsets that do not cut
///   the batch into sequences
template <class T>
void dplr_scan(const Cpu& backend, const DplrScanInputs<T>& inputs, const DplrScanOptions& options,
               const std::type_identity_t<DplrScanOutputs<T>>& outputs,
               DplrScanScratch<T>& scratch) {
  constexpr std::string_view name = "dplr_scan";
  const auto sizes = detail::check_dplr_inputs(name, inputs);
  detail::check_dplr_outputs(name, inputs, sizes, options, outputs);
  scratch.call.drop();
  detail::DplrScan<T>(backend, inputs, sizes, scratch).forward(outputs, options.keep);
  if (options.keep)
    scratch.call.keep({sizes.batch, sizes.length, sizes.channels, sizes.modes, sizes.rank},
                      detail::variant_of(inputs.sequences));
}

/// The gradients of the dplr_scan that filled the scratch with these inputs. It reads u, which must
/// not have been overwritten, and computes the states between the kept ones again.
///
/// Cost: about 3 times dplr_scan. The bits are the same for every number of threads.
/// @throws ShapeError, DomainError as dplr_scan; ShapeError for a scratch of another call
template <class T>
void dplr_scan_backward(const Cpu& backend, const DplrScanInputs<T>& inputs, const DplrScanOptions&,
                        const std::type_identity_t<DplrScanOutputGradients<T>>& output_gradients,
                        const std::type_identity_t<DplrScanInputGradients<T>>& input_gradients,
                        DplrScanScratch<T>& scratch) {
  constexpr std::string_view name = "dplr_scan_backward";
  const auto sizes = detail::check_dplr_inputs(name, inputs);
  detail::check_dplr_gradients(name, inputs, sizes, output_gradients, input_gradients);
  scratch.call.check(name, "dplr_scan with options.keep",
                     {sizes.batch, sizes.length, sizes.channels, sizes.modes, sizes.rank},
                     detail::variant_of(inputs.sequences));
  detail::DplrScan<T>(backend, inputs, sizes, scratch).backward(output_gradients, input_gradients);
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_OPERATION(dplr_scan, DplrScan, float)
SSM_INSTANCE_OPERATION(dplr_scan, DplrScan, double)
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
