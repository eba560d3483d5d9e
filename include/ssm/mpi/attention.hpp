#pragma once

#include <algorithm>
#include <array>
#include <string_view>

#include "ssm/core/checks.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/causal_attention.hpp"
#include "ssm/layers/rotary.hpp"
#include "ssm/mpi/detail/chain.hpp"
#include "ssm/mpi/detail/key_ring.hpp"
#include "ssm/mpi/detail/timeline.hpp"
#include "ssm/mpi/ranks.hpp"

/// @file
/// Attention over ranks, as a ring (Liu et al., "Ring Attention with Blockwise Transformers for
/// Near-Infinite Context", 2023). Each rank holds the queries, keys and values of its own steps.
/// Keys and values go from rank to rank. A rank sends a piece on before it computes with it, and
/// the softmax goes on from piece to piece, so that a rank has memory for a few pieces, whatever
/// their number.
///
/// A scan hands on one state. Here what moves grows with the length: let n be the steps before the
/// first one of the next rank, those in a cache among them; with a window only the last window − 1
/// of these, and the last `slots` where a cache is written. Then a rank sends
///
///   forward:  2 · batch · groups · head_size · n numbers,
///
/// and in the backward pass as many again, and the gradients of the keys and values that came to
/// it, which are as many numbers as those. A step costs as much as it sees others, so that later
/// ranks have more to do: with even pieces and no window the last of R takes 2 − 1/R times as long
/// as each would if the work were shared evenly.

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

template <class T>
[[nodiscard]] Timeline rotary_timeline(std::string_view function, const Ranks& backend,
                                       const RotaryInputs<T>& in, const RotaryOptions& options) {
  check_rotary<T, Host>(function, {in.x, {}, in.sequences}, options);
  check_optional_shape(function, "steps", in.steps, std::array<Index, 1>{in.x.extent(0)});
  return {function, backend, in.sequences, in.x.extent(0), in.x.extent(1), in.steps};
}

/// @param after the cache after the last step, or its gradient
template <class T, class Cache>
[[nodiscard]] Timeline attention_timeline(std::string_view function, const Ranks& backend,
                                          const CausalAttentionInputs<T>& in,
                                          const CausalAttentionOptions& options,
                                          const Cache& after) {
  CausalAttentionInputs<T> steps = in;
  steps.cache = {};
  check_causal_attention(function, steps, options);
  check_cache(function, first_cache, in.cache, in.q.extent(0), in.k.extent(2), in.k.extent(3));
  const auto slots = [](const auto& cache) { return cache ? cache.k.extent(1) : Index{-1}; };
  Timeline time(function, backend, in.sequences, in.q.extent(0), in.q.extent(1), in.cache.steps,
                slots(in.cache), slots(after));
  for (int p = 0; p < time.count(); ++p)  // on every rank, so that all throw
    if (time.slots_after(p) >= 0)
      check_capacity(function, time.past(), in.q.extent(0), options.window, time.slots_after(p),
                     [&](Index) { return time.length(); });
  return time;
}

template <class T>
[[nodiscard]] std::array<Index, 5> attention_call(const CausalAttentionInputs<T>& in) noexcept {
  const auto& q = in.q;
  return {q.extent(0), q.extent(1), q.extent(2), in.k.extent(2), q.extent(3)};
}

/// The cache after the last step of a place that is not the first, as keys come by.
template <class T>
class CacheAfter {
 public:
  CacheAfter(const Timeline& time, Index now, const AttentionCache<T>& cache)
      : time_(time), now_(now), cache_(cache) {
    if (!cache) return;
    zero_elements<T, 4>(cache.k);
    zero_elements<T, 4>(cache.v);
    for (Index s = 0; s < cache.steps.extent(0); ++s) cache.steps(s) = time.past()(s) + now;
  }
  /// Keys and values of steps of which the first is step `first` of the pass.
  void write(Index first, const View<const T, 4>& k, const View<const T, 4>& v) const {
    if (!cache_) return;
    for_slots(time_, first, k.extent(1), now_, cache_.k.extent(1),
              [&](Index s, Index i, Index slot) {
                copy_elements<T, 2>(k[s][i], cache_.k[s][slot]);
                copy_elements<T, 2>(v[s][i], cache_.v[s][slot]);
              });
  }

 private:
  const Timeline& time_;
  Index now_;
  const AttentionCache<T>& cache_;
};

/// What the gradient by the last cache asks of the steps that it holds. Where time ends it is read,
/// before its memory becomes that of the first.
template <class T>
class LastCacheGradient {
 public:
  LastCacheGradient(const Timeline& time, const CausalAttentionInputs<T>& in,
                    const AttentionCache<const T>& cache)
      : time_(time),
        slots_((std::max<Index>)(time.slots_after(time.count() - 1), 0)),
        rows_(memory_, slots_, in.k) {
    if (slots_ == 0) return;
    if (time.place() == time.count() - 1) {
      copy_elements<T, 4>(cache.k, rows_.view(rows_.k));
      copy_elements<T, 4>(cache.v, rows_.view(rows_.v));
    }
    time.comm().broadcast(time.rank(time.count() - 1), rows_.k, 2 * rows_.size());
  }
  LastCacheGradient(const LastCacheGradient&) = delete;
  LastCacheGradient& operator=(const LastCacheGradient&) = delete;

  /// dk and dv of this rank's steps, in the order of time, take their share.
  void add_to_steps(const View<T, 4>& dk, const View<T, 4>& dv) const {
    for_slots(time_, time_.begin(time_.place()), dk.extent(1), time_.length(), slots_,
              [&](Index s, Index i, Index slot) { add(slot, s, dk[s][i], dv[s][i]); });
  }
  /// The gradient by the first cache takes that of the slots which no step has overwritten.
  void add_to_cache(const AttentionCache<T>& dcache) const {
    for (Index s = 0; s < time_.past().extent(0); ++s)
      for (Index ahead = time_.length(); ahead < slots_; ++ahead) {
        const Index slot = (time_.past()(s) + ahead) % slots_;
        add(slot, s, dcache.k[s][slot], dcache.v[s][slot]);
      }
  }

 private:
  void add(Index slot, Index s, const View<T, 2>& dk, const View<T, 2>& dv) const {
    add_elements<T, 2>(rows_.view(rows_.k)[s][slot], dk);
    add_elements<T, 2>(rows_.view(rows_.v)[s][slot], dv);
  }

  const Timeline& time_;
  Index slots_;
  Tensor<T, 1> memory_;
  KeyRows<T> rows_;
};

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// As on the cpu, each rank its own steps. Positions count from the first step of the whole;
/// `steps` is read on the rank where time begins.
/// @throws as on the cpu; DomainError for packed sequences where time lies across ranks; MpiError
template <class T>
void rotary(const Ranks& backend, const RotaryInputs<T>& inputs, const RotaryOptions& options,
            const RotaryOutputs<T>& outputs, RotaryScratch<T>& scratch) {
  if (backend.time->size() == 1) return rotary(backend.local, inputs, options, outputs, scratch);
  const auto time = detail::rotary_timeline("rotary", backend, inputs, options);
  RotaryInputs<T> in = inputs;
  in.steps = time.positions();
  rotary(backend.local, in, options, outputs, scratch);
}
/// The gradient of rotary over ranks. @throws as rotary
template <class T>
void rotary_backward(const Ranks& backend, const RotaryInputs<T>& inputs,
                     const RotaryOptions& options, const RotaryOutputGradients<T>& output_gradients,
                     const RotaryInputGradients<T>& input_gradients, RotaryScratch<T>& scratch) {
  if (backend.time->size() == 1)
    return rotary_backward(backend.local, inputs, options, output_gradients, input_gradients,
                           scratch);
  const auto time = detail::rotary_timeline("rotary_backward", backend, inputs, options);
  RotaryInputs<T> in = inputs;
  in.steps = time.positions();
  rotary_backward(backend.local, in, options, output_gradients, input_gradients, scratch);
}

/// causal_attention over ranks, to rounding that of the cpu. The cache before the first step is
/// read on the rank where time begins; that after the last step is of each rank's own piece, and so
/// on the rank where time ends that of the whole.
/// @throws ShapeError and DomainError as on the cpu; DomainError for packed sequences where time
///   lies across ranks; MpiError
template <class T>
void causal_attention(const Ranks& backend, const CausalAttentionInputs<T>& inputs,
                      const CausalAttentionOptions& options,
                      const CausalAttentionOutputs<T>& outputs,
                      CausalAttentionScratch<T>& scratch) {
  if (backend.time->size() == 1)
    return causal_attention(backend.local, inputs, options, outputs, scratch);
  constexpr std::string_view function = "causal_attention";
  scratch.call.drop();
  const auto time = detail::attention_timeline(function, backend, inputs, options, outputs.cache);
  CausalAttentionInputs<T> in = inputs;
  in.cache.steps = time.positions();
  detail::check_causal_attention_outputs(function, in, options, outputs);
  if (!time.is_first()) in.cache = {};
  Index reach = detail::reach_of(options.window);
  for (int p = 0; p < time.count(); ++p) reach = (std::max)(reach, time.slots_after(p));

  const detail::KeyRing<T> ring(time, reach, in, scratch.passed);
  ring.send_own();
  const detail::AttentionSteps<T> own(in, options, scratch);
  detail::attend(backend.local, own, outputs.y, true, scratch);
  const Index begin = time.begin(time.place()), length = in.q.extent(1);
  if (time.is_first()) {
    if (outputs.cache) detail::write_cache(own, outputs.cache);
  } else {
    const detail::CacheAfter<T> cache(time, begin + length, outputs.cache);
    cache.write(begin, detail::in_time(in.k, in.sequences), detail::in_time(in.v, in.sequences));
    ring.for_pieces([&](int, const detail::EarlierKeys<T>& keys) {
      const detail::AttentionSteps<T> steps(in, options, scratch, keys);
      detail::attend(backend.local, steps, outputs.y, true, scratch);
      cache.write(begin - keys.gap - keys.steps(), keys.k, keys.v);
    });
  }
  if (options.keep) scratch.call.keep(detail::attention_call(in), detail::variant_of(in.sequences));
}

/// The gradients of causal_attention over ranks. Keys and values travel again, and their gradients
/// after them as far as they are seen, and home. The gradient by the last cache is read on the rank
/// where time ends, and given to all; that by the first cache is written on the rank where time
/// begins, and is zero on others.
/// @throws as causal_attention, and ShapeError for a scratch of another call
template <class T>
void causal_attention_backward(const Ranks& backend, const CausalAttentionInputs<T>& inputs,
                               const CausalAttentionOptions& options,
                               const CausalAttentionOutputGradients<T>& output_gradients,
                               const CausalAttentionInputGradients<T>& input_gradients,
                               CausalAttentionScratch<T>& scratch) {
  if (backend.time->size() == 1)
    return causal_attention_backward(backend.local, inputs, options, output_gradients,
                                     input_gradients, scratch);
  constexpr std::string_view function = "causal_attention_backward";
  const auto time =
      detail::attention_timeline(function, backend, inputs, options, output_gradients.cache);
  CausalAttentionInputs<T> in = inputs;
  in.cache.steps = time.positions();
  detail::check_causal_attention_gradients(function, in, options, output_gradients,
                                           input_gradients);
  if (!time.is_first()) in.cache = {};
  scratch.call.check(function, "causal_attention with options.keep", detail::attention_call(in),
                     detail::variant_of(in.sequences));
  const detail::LastCacheGradient<T> last(time, in, output_gradients.cache);
  CausalAttentionOutputGradients<T> dout = output_gradients;
  CausalAttentionInputGradients<T> din = input_gradients;
  dout.cache = {};
  if (!time.is_first()) din.cache = {};

  const int place = time.place();
  const detail::KeyRing<T> ring(time, detail::reach_of(options.window), in, scratch.passed);
  ring.send_own();
  const detail::AttentionSteps<T> own(in, options, scratch);
  detail::attend_backward(backend.local, own, dout, din, scratch);
  ring.for_pieces([&](int piece, const detail::EarlierKeys<T>& keys) {
    const detail::AttentionSteps<T> steps(in, options, scratch, keys);
    const Index parts = detail::share_gradients(backend.local, steps, dout, din, scratch);
    const int owner = ring.owner(piece);
    const detail::KeyRows<T> slopes(scratch.passed.leaving, ring.seen(piece, owner + 1), in.k);
    if (place > owner + 1)
      slopes.receive(time.comm(), time.rank(place - 1));
    else
      std::fill_n(slopes.k, 2 * slopes.size(), T(0));
    const auto seen = slopes.last(keys.steps());
    detail::add_earlier_gradients(backend.local, steps, parts, scratch.partials.data(),
                                  seen.view(seen.k), seen.view(seen.v));
    slopes.send(time.comm(), time.rank(place == ring.last_place(piece) ? owner : place + 1));
  });

  const auto dk = detail::in_time(din.k, in.sequences), dv = detail::in_time(din.v, in.sequences);
  const auto come_home = [&](int piece, const auto& add) {
    const Index n = ring.seen(piece, place + 1);
    if (n == 0) return;
    const detail::KeyRows<T> slopes(scratch.passed.leaving, n, in.k);
    slopes.receive(time.comm(), time.rank(ring.last_place(piece)));
    add(n, View<const T, 4>(slopes.view(slopes.k)), View<const T, 4>(slopes.view(slopes.v)));
  };
  come_home(place + 1, [&](Index n, const auto& k, const auto& v) {
    detail::add_elements<T, 4>(k, dk.slice(1, dk.extent(1) - n, n));
    detail::add_elements<T, 4>(v, dv.slice(1, dv.extent(1) - n, n));
  });
  last.add_to_steps(dk, dv);
  if (time.is_first()) {
    come_home(0, [&](Index n, const auto& k, const auto& v) {
      if (!din.cache) return;
      detail::for_slots(time, -n, n, 0, time.slots_before(), [&](Index s, Index i, Index slot) {
        detail::add_elements<T, 2>(k[s][i], din.cache.k[s][slot]);
        detail::add_elements<T, 2>(v[s][i], din.cache.v[s][slot]);
      });
    });
    if (din.cache) last.add_to_cache(din.cache);
  } else if (input_gradients.cache) {
    detail::zero_elements<T, 4>(input_gradients.cache.k);
    detail::zero_elements<T, 4>(input_gradients.cache.v);
  }
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
