#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "ssm/core/checks.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/passed_states.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/detail/positions.hpp"

namespace ssm {

/// The keys and values of earlier steps, which the queries see too. The step at position p of a
/// sequence (its first step is at 0) has slot p mod slots, so that of many steps the last `slots`
/// remain. T is const where a cache is read.
template <class T, class Space = Host>
struct AttentionCache {
  View<T, 4, Space> k = {};  ///< (sequences, slots, groups, head_size), elements adjacent
  View<T, 4, Space> v = {};  ///< (sequences, slots, groups, head_size), elements adjacent
  View<std::conditional_t<std::is_const_v<T>, const Index, Index>, 1, Space> steps =
      {};  ///< (sequences): how many steps each sequence has had; not read in gradients

  /// True when there is a cache.
  [[nodiscard]] constexpr explicit operator bool() const noexcept { return static_cast<bool>(k); }
};

/// What causal_attention reads.
template <class T, class Space = Host>
struct CausalAttentionInputs {
  View<const T, 4, Space> q;  ///< (batch, length, heads, head_size), elements of a head adjacent
  View<const T, 4, Space> k;  ///< (batch, length, groups, head_size), elements of a head adjacent;
                              ///< heads is a multiple of groups, and as many heads in turn share
                              ///< the keys and values of a group
  View<const T, 4, Space> v;  ///< (batch, length, groups, head_size), elements of a head adjacent
  AttentionCache<const T, Space> cache = {};  ///< of the steps before, optional
  Sequences<Space> sequences = {};            ///< packed sequences, and the direction of time
};

/// What causal_attention_step reads.
template <class T, class Space = Host>
struct CausalAttentionStepInputs {
  View<const T, 3, Space> q;  ///< (batch, heads, head_size), elements of a head adjacent
  View<const T, 3, Space> k;  ///< (batch, groups, head_size), elements of a head adjacent
  View<const T, 3, Space> v;  ///< (batch, groups, head_size), elements of a head adjacent
};

/// How causal_attention is to run.
struct CausalAttentionOptions {
  Index window = 0;   ///< how many last steps a step sees, itself among them; 0: all
  bool keep = false;  ///< whether the scratch keeps what backward needs
};

/// What causal_attention writes.
template <class T, class Space = Host>
struct CausalAttentionOutputs {
  View<T, 4, Space> y;  ///< (batch, length, heads, head_size); shares memory with no input
  AttentionCache<T, Space> cache = {};  ///< after the last step, optional; may be the memory of the
                                        ///< cache before the first
};

/// The gradient of a scalar loss with respect to the output, and the output itself, which
/// causal_attention_backward reads.
template <class T, class Space = Host>
struct CausalAttentionOutputGradients {
  View<const T, 4, Space> y;        ///< (batch, length, heads, head_size): the gradient
  View<const T, 4, Space> outputs;  ///< (batch, length, heads, head_size): the y of the forward
                                    ///< pass, which is not kept a second time
  AttentionCache<const T, Space> cache = {};  ///< by the last cache, optional: zero when absent
};

/// The gradients that causal_attention_backward overwrites.
template <class T, class Space = Host>
struct CausalAttentionInputGradients {
  View<T, 4, Space> q;                  ///< (batch, length, heads, head_size)
  View<T, 4, Space> k;                  ///< (batch, length, groups, head_size)
  View<T, 4, Space> v;                  ///< (batch, length, groups, head_size)
  AttentionCache<T, Space> cache = {};  ///< by the first cache, optional; may be the memory of the
                                        ///< gradient by the last
};

/// Scratch memory of causal_attention and causal_attention_backward: a number for each head and
/// step from forward to backward, and room that is linear in the length. It grows to the largest
/// call.
template <class T, class Space = Host>
struct CausalAttentionScratch;

template <class T>
struct CausalAttentionScratch<T, Host> {
  Tensor<T, 2> lse;  ///< (heads, batch · length): log₂ Σ 2^score, steps in the order of time
  Tensor<Index, 2> plan;  ///< (sequences + 1, 2): blocks of queries, and keys, before each sequence
  Tensor<T, 1> tiles;     ///< for each thread, a block of queries and what belongs to it
  Tensor<T, 1> partials;  ///< for each piece of the queries, shares of the gradients of keys and
                          ///< values
  PassedStates<T> passed;  ///< keys and values on their way from piece to piece of time
  detail::KeptCall<5> call;
};

/// Moves the working memory of a scratch, which holds no result of a call, to the scratch of the
/// layer that runs next, so that the layers of a stack share it.
template <class T>
void hand_over_room(CausalAttentionScratch<T, Host>& from, CausalAttentionScratch<T, Host>& to) {
  std::swap(from.plan, to.plan);
  std::swap(from.tiles, to.tiles);
  std::swap(from.partials, to.partials);
  std::swap(from.passed, to.passed);
}

namespace detail {

/// Whether a cache of so many slots holds all that later steps see, however many steps there were.
[[nodiscard]] constexpr bool cache_is_ring(Index window, Index slots) noexcept {
  return window > 0 && window <= slots;
}

[[noreturn, gnu::cold, gnu::noinline]] inline void throw_cache_full(std::string_view function,
                                                                    Index steps, Index slots) {
  throw_domain(function, "cache", "of " + std::to_string(slots) + " steps",
               "room for " + std::to_string(steps) + ", or a window that fits into it");
}

/// What the parts of a cache are called.
struct CacheNames {
  std::string_view k, v, steps;
};
inline constexpr CacheNames first_cache{"cache.k", "cache.v", "cache.steps"};
inline constexpr CacheNames last_cache{"the last cache.k", "the last cache.v",
                                       "the last cache.steps"};
inline constexpr CacheNames first_cache_gradient{"the gradient of cache.k",
                                                 "the gradient of cache.v", ""};
inline constexpr CacheNames last_cache_gradient{"the gradient of the last cache.k",
                                                "the gradient of the last cache.v", ""};

/// A cache of any number of slots; without a name for its steps, they do not count.
template <class T, class Space>
void check_cache(std::string_view function, const CacheNames& names,
                 const AttentionCache<T, Space>& cache, Index sequences, Index groups,
                 Index head_size) {
  if (!cache) return;
  const std::array<Index, 4> extents{sequences, cache.k.extent(1), groups, head_size};
  check_rows(function, names.k, cache.k, extents);
  check_rows(function, names.v, cache.v, extents);
  if (!names.steps.empty())
    check_shape(function, names.steps, cache.steps, std::array<Index, 1>{sequences});
}

/// Throws DomainError for a count that is none, and where the cache after `length(s)` more
/// steps would have lost a key that is still to be seen.
template <class Steps, class Length>
void check_capacity(std::string_view function, const Steps& steps, Index sequences, Index window,
                    Index slots, const Length& length) {
  for (Index s = 0; s < sequences; ++s) {
    const Index past = steps ? steps(s) : 0;
    check_position(function, "cache.steps", s, past);
    if (!cache_is_ring(window, slots) && past + length(s) > slots)
      throw_cache_full(function, past + length(s), slots);
  }
}

template <class T, class Space>
void check_causal_attention(std::string_view function, const CausalAttentionInputs<T, Space>& in,
                            const CausalAttentionOptions& options) {
  check_given(function, "q", in.q, "(batch, length, heads, head_size)");
  check_given(function, "k", in.k, "(batch, length, groups, head_size)");
  const Index batch = in.q.extent(0), length = in.q.extent(1), heads = in.q.extent(2);
  const Index groups = in.k.extent(2), head_size = in.q.extent(3);
  check_rows(function, "q", in.q, in.q.extents());
  check_rows(function, "k", in.k, std::array<Index, 4>{batch, length, groups, head_size});
  check_rows(function, "v", in.v, in.k.extents());
  if (groups < 1 || head_size < 1 || heads % groups != 0)
    throw_shape(function, "q", to_string(in.q.extents()),
                "heads of one element or more, a multiple of " + std::to_string(groups) +
                    " groups of keys");
  if (options.window < 0)
    throw_domain(function, "window", std::to_string(options.window), "0 or more");
  check_sequences(function, in.sequences, batch, length);
  const Index sequences = in.sequences.count(batch);
  check_cache(function, first_cache, in.cache, sequences, groups, head_size);
  if constexpr (std::same_as<Space, Host>)
    if (in.cache)
      check_capacity(function, in.cache.steps, sequences, options.window, in.cache.k.extent(1),
                     [](Index) { return Index{0}; });
}

/// That the steps of the inputs fit into a cache that is written, or whose gradient is.
template <class T, class Space, class Cache>
void check_room(std::string_view function, const CausalAttentionInputs<T, Space>& in,
                const CausalAttentionOptions& options, const Cache& cache) {
  if (in.cache && in.cache.k.extent(1) != cache.k.extent(1))
    throw_shape(function, "cache", "of " + std::to_string(cache.k.extent(1)) + " slots",
                "of " + std::to_string(in.cache.k.extent(1)) + " as before the first step");
  if constexpr (std::same_as<Space, Host>)
    check_capacity(function, in.cache.steps, in.sequences.count(in.q.extent(0)), options.window,
                   cache.k.extent(1),
                   [&](Index s) { return span_of(in.sequences, s, in.q.extent(1)).length(); });
}

template <class T, class Space>
void check_causal_attention_outputs(std::string_view function,
                                    const CausalAttentionInputs<T, Space>& in,
                                    const CausalAttentionOptions& options,
                                    const CausalAttentionOutputs<T, Space>& out) {
  const Index sequences = in.sequences.count(in.q.extent(0));
  OverlapChecks<10> overlaps(function);
  overlaps.input("q", in.q);
  overlaps.input("k", in.k);
  overlaps.input("v", in.v);
  overlaps.input(first_cache.k, in.cache.k);
  overlaps.input(first_cache.v, in.cache.v);
  overlaps.input(first_cache.steps, in.cache.steps);
  check_output_rows(function, "y", out.y, in.q.extents());
  overlaps.output("y", out.y);
  if (!out.cache) return;
  check_cache(function, last_cache, out.cache, sequences, in.k.extent(2), in.k.extent(3));
  check_output(function, last_cache.k, out.cache.k);
  check_output(function, last_cache.v, out.cache.v);
  check_room(function, in, options, out.cache);
  overlaps.output(last_cache.k, out.cache.k, first_cache.k);
  overlaps.output(last_cache.v, out.cache.v, first_cache.v);
  overlaps.output(last_cache.steps, out.cache.steps, first_cache.steps);
}

template <class T, class Space>
void check_causal_attention_gradients(std::string_view function,
                                      const CausalAttentionInputs<T, Space>& in,
                                      const CausalAttentionOptions& options,
                                      const CausalAttentionOutputGradients<T, Space>& dout,
                                      const CausalAttentionInputGradients<T, Space>& din) {
  const Index sequences = in.sequences.count(in.q.extent(0));
  check_rows(function, "the gradient of y", dout.y, in.q.extents());
  check_rows(function, "outputs", dout.outputs, in.q.extents());
  check_output_rows(function, "the gradient of q", din.q, in.q.extents());
  check_output_rows(function, "the gradient of k", din.k, in.k.extents());
  check_output_rows(function, "the gradient of v", din.v, in.k.extents());
  const auto check = [&](const CacheNames& names, const auto& cache) {
    check_cache(function, names, cache, sequences, in.k.extent(2), in.k.extent(3));
    if (cache) check_room(function, in, options, cache);
  };
  check(last_cache_gradient, dout.cache);
  check(first_cache_gradient, din.cache);
  if (dout.cache && din.cache)
    check_shape(function, first_cache_gradient.k, din.cache.k, dout.cache.k.extents());
  OverlapChecks<14> overlaps(function);
  overlaps.input("q", in.q);
  overlaps.input("k", in.k);
  overlaps.input("v", in.v);
  overlaps.input(first_cache.k, in.cache.k);
  overlaps.input(first_cache.v, in.cache.v);
  overlaps.input("the gradient of y", dout.y);
  overlaps.input("outputs", dout.outputs);
  overlaps.input(last_cache_gradient.k, dout.cache.k);
  overlaps.input(last_cache_gradient.v, dout.cache.v);
  overlaps.output("the gradient of q", din.q);
  overlaps.output("the gradient of k", din.k);
  overlaps.output("the gradient of v", din.v);
  overlaps.output(first_cache_gradient.k, din.cache.k, last_cache_gradient.k);
  overlaps.output(first_cache_gradient.v, din.cache.v, last_cache_gradient.v);
}

/// Heads, groups and a cache of one row for each row of the batch, with room for one more step.
template <class T, class Space>
void check_causal_attention_step(std::string_view function,
                                 const CausalAttentionStepInputs<T, Space>& in,
                                 const CausalAttentionOptions& options,
                                 const AttentionCache<T, Space>& cache,
                                 const View<T, 3, Space>& y) {
  check_rows(function, "q", in.q, in.q.extents());
  const Index batch = in.q.extent(0), heads = in.q.extent(1), head_size = in.q.extent(2);
  const Index groups = in.k.extent(1);
  check_rows(function, "k", in.k, std::array<Index, 3>{batch, groups, head_size});
  check_rows(function, "v", in.v, in.k.extents());
  if (groups < 1 || head_size < 1 || heads % groups != 0)
    throw_shape(function, "q", to_string(in.q.extents()),
                "heads of one element or more, a multiple of " + std::to_string(groups) +
                    " groups of keys");
  if (options.window < 0)
    throw_domain(function, "window", std::to_string(options.window), "0 or more");
  check_given(function, "cache.k", cache.k, "(batch, slots, groups, head_size)");
  check_cache(function, first_cache, cache, batch, groups, head_size);
  if constexpr (std::same_as<Space, Host>)
    check_capacity(function, cache.steps, batch, options.window, cache.k.extent(1),
                   [](Index) { return Index{1}; });
  check_output_rows(function, "y", y, in.q.extents());
  OverlapChecks<6> overlaps(function);
  overlaps.input("q", in.q);
  overlaps.input("k", in.k);
  overlaps.input("v", in.v);
  overlaps.output(first_cache.k, cache.k);
  overlaps.output(first_cache.v, cache.v);
  overlaps.output("y", y);
}

}  // namespace detail
}  // namespace ssm
