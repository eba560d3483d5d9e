#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "ssm/conv/detail/s4_state_pass.hpp"
#include "ssm/conv/detail/sequence_view.hpp"
#include "ssm/conv/s4_kernel_types.hpp"
#include "ssm/conv/s4_state_types.hpp"
#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/view.hpp"

namespace ssm {

template <class T>
struct S4StateScratch<T, Host> {
  std::vector<detail::S4StateThread> threads;
};

namespace detail {
inline namespace SSM_DETAIL_ISA {

template <class T>
std::array<Index, 3> check_s4_state(std::string_view name, const S4StateInputs<T>& in,
                                    const S4StateOptions& options) {
  check_s4_model(name, in.model);
  if (options.length < 1)
    throw_domain(name, "length", std::to_string(options.length), "at least 1");
  return check_state_inputs(name, in);
}

/// Sequences of one length, which go together: every row of the batch, or one packed sequence.
struct S4StateGroup {
  Index state, rows;  ///< where their states begin, and how many they are
  Index begin, length;
  bool reversed;

  template <class U>
  [[nodiscard]] View<U, 3> steps(const View<U, 3>& array) const noexcept {
    if (!array) return {};
    const View<U, 3> part = array.slice(1, begin, length);
    return reversed ? part.reversed(1) : part;
  }
  template <class U>
  [[nodiscard]] View<U, 3> states(const View<U, 3>& array) const noexcept {
    return array ? array.slice(0, state, rows) : View<U, 3>();
  }
};

template <class T, class Body>
void for_s4_groups(const S4StateInputs<T>& in, const Body& body) {
  const Index batch = in.u.extent(0), length = in.u.extent(1);
  if (!in.sequences.offsets) return body(S4StateGroup{0, batch, 0, length, in.sequences.reversed});
  for (Index s = 0; s < in.sequences.count(batch); ++s) {
    const SequenceSpan span = span_of(in.sequences, s, length);
    body(S4StateGroup{s, 1, span.begin, span.length(), in.sequences.reversed});
  }
}

/// Calls body(channel, pass) for every channel, its tables made.
template <class T, class Body>
void for_s4_states(const Cpu& backend, const S4StateInputs<T>& in, const S4StateOptions& options,
                   bool driven, bool free, bool outputs, S4StateScratch<T>& scratch,
                   const Body& body) {
  const Index channels = in.u.extent(2);
  const Index longest = longest_sequence(in.sequences, in.u.extent(1));
  const Index runs = (std::min<Index>)(channels, backend.thread_count());
  if (static_cast<Index>(scratch.threads.size()) < runs)
    scratch.threads.resize(static_cast<std::size_t>(runs));
  parallel_for(backend, runs, [&](Index run) {
    S4StatePass<T> pass(in.model, options.length, longest, driven, free, outputs,
                        scratch.threads[static_cast<std::size_t>(run)]);
    for (Index c = channels * run / runs; c < channels * (run + 1) / runs; ++c) {
      pass.load(c);
      body(c, pass);
    }
  });
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// Adds the effect of an initial state to the output of an S4 convolution, and computes the final
/// state. A convolution with the kernel of s4_kernel starts from a state of zero and gives no
/// state; this operation supplies both, for every sequence:
///
///   y_t += C A_bar^{t+1} h,  final state = A_bar^N h + Σ_l A_bar^{N−1−l} B_bar u_l,
///
/// with h the initial state, N the length of the sequence and C = C̃ (I − A_bar^length)⁻¹, where
/// length is options.length. Everything is computed in double, whatever T is.
///
/// Cost: O(state³ log length) for each channel, and 2 state · (state/64 + 2) multiply-adds for each
/// step of each channel. The bits are the same for every number of threads. Allocates while the
/// scratch grows.
/// @throws ShapeError for shapes that do not fit and outputs in memory that S4StateOutputs does not
///   allow; DomainError for an options.length below 1 and for offsets that do not cut the batch
///   into sequences
template <class T>
void s4_pass_state(const Cpu& backend, const S4StateInputs<T>& inputs,
                   const S4StateOptions& options, const S4StateOutputs<T>& outputs,
                   S4StateScratch<T>& scratch) {
  constexpr std::string_view name = "s4_pass_state";
  const std::array states = detail::check_s4_state(name, inputs, options);
  detail::check_state_outputs(name, inputs, states, outputs);
  detail::for_s4_states(
      backend, inputs, options, bool(outputs.final_state), bool(inputs.initial_state),
      bool(outputs.y), scratch, [&](Index c, auto& pass) {
        detail::for_s4_groups(inputs, [&](const detail::S4StateGroup& group) {
          pass.forward(c, group.steps(inputs.u), group.states(inputs.initial_state),
                       group.steps(outputs.y));
          if (outputs.final_state) pass.store_final(c, group.states(outputs.final_state));
        });
      });
}

/// The gradients of s4_pass_state. That of C is with respect to the truncated C̃ which the inputs
/// hold.
/// @param inputs, options as given to s4_pass_state
/// @param scratch any; nothing that s4_pass_state left in it is read
/// @throws ShapeError, DomainError as s4_pass_state
/// Cost: about three times s4_pass_state.
template <class T>
void s4_pass_state_backward(const Cpu& backend, const S4StateInputs<T>& inputs,
                            const S4StateOptions& options,
                            const S4StateOutputGradients<T>& output_gradients,
                            const S4StateInputGradients<T>& input_gradients,
                            S4StateScratch<T>& scratch) {
  constexpr std::string_view name = "s4_pass_state_backward";
  const auto& in = inputs;
  const auto& dout = output_gradients;
  const auto& din = input_gradients;
  const std::array states = detail::check_s4_state(name, in, options);
  detail::check_state_gradients(name, in, states, dout, din);
  detail::for_s4_states(
      backend, in, options, bool(dout.final_state), in.initial_state || din.initial_state,
      bool(dout.y), scratch, [&](Index c, auto& pass) {
        pass.begin_backward();
        detail::for_s4_groups(in, [&](const detail::S4StateGroup& group) {
          const View<const T, 3> u = group.steps(in.u);
          pass.forward(c, u, group.states(in.initial_state), {});
          pass.backward(c, u, {group.steps(dout.y), group.states(dout.final_state)},
                        group.steps(din.u), group.states(din.initial_state));
        });
        pass.end_backward(c, din.model);
      });
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_OPERATION(s4_pass_state, S4State, float)
SSM_INSTANCE_OPERATION(s4_pass_state, S4State, double)
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
