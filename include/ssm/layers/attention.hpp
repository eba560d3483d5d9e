#pragma once

#include <string_view>
#include <type_traits>
#include <utility>

#include "ssm/core/backend.hpp"
#include "ssm/core/copy.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/parameters.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/attention_weights.hpp"
#include "ssm/layers/causal_attention.hpp"
#include "ssm/layers/detail/product.hpp"
#include "ssm/layers/detail/rows.hpp"
#include "ssm/layers/layer.hpp"
#include "ssm/layers/linear.hpp"
#include "ssm/layers/rotary.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// What a forward pass of an attention layer leaves for backward, and room for both; rows = batch ·
/// length.
template <class T, class Space>
struct AttentionScratch {
  /// @cond internal
  LayerCall call;
  TensorIn<T, 2, Space> q;          ///< (rows, heads · head_size), turned to their positions
  TensorIn<T, 2, Space> k, v;       ///< (rows, groups · head_size)
  TensorIn<T, 2, Space> y;          ///< (rows, heads · head_size): what the queries found
  AttentionState<T, Space> before;  ///< the state that forward started from
  bool stateful = false;            ///< whether there was one

  TensorIn<T, 2, Space> dq, dk, dv, dy;  ///< gradients of the above
  LinearScratch<T, Space> linear;
  RotaryScratch<T, Space> rotary;
  CausalAttentionScratch<T, Space> attention;
  /// @endcond
};

/// Moves the working memory of a scratch, which holds no result of a call, to the scratch of the
/// layer that runs next, so that the layers of a stack share it.
template <class T, class Space>
void hand_over_room(AttentionScratch<T, Space>& from, AttentionScratch<T, Space>& to) {
  std::swap(from.dq, to.dq);
  std::swap(from.dk, to.dk);
  std::swap(from.dv, to.dv);
  std::swap(from.dy, to.dy);
  std::swap(from.linear, to.linear);
  detail::hand_over(from.rotary, to.rotary);
  detail::hand_over(from.attention, to.attention);
}

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// The arrays of an attention layer as its operations see them.
template <class T, class Space>
struct AttentionArrays {
  const AttentionConfig& c;
  Index batch, length;
  const Sequences<Space>& sequences;

  template <class U>
  [[nodiscard]] View<U, 4, Space> queries(U* data) const {
    return {data, {batch, length, c.heads, c.size()}};
  }
  template <class U>
  [[nodiscard]] View<U, 4, Space> keys(U* data) const {
    return {data, {batch, length, c.key_heads(), c.size()}};
  }
  [[nodiscard]] static AttentionCache<T, Space> cache(Maybe<AttentionState<T, Space>> state) {
    if (!state) return {};
    return {state->k.view(), state->v.view(), state->steps.view()};
  }
  [[nodiscard]] static AttentionCache<const T, Space> cache_of(
      Maybe<AttentionState<T, Space>> state) {
    if (!state) return {};
    return {state->k.view(), state->v.view(), state->steps.view()};
  }

  [[nodiscard]] RotaryInputs<T, Space> rotary_inputs(const View<const T, 4, Space>& x,
                                                     Maybe<AttentionState<T, Space>> before) const {
    RotaryInputs<T, Space> in{x};
    if (before) in.steps = before->steps.view();
    in.sequences = sequences;
    return in;
  }
  [[nodiscard]] CausalAttentionInputs<T, Space> inputs(
      const AttentionScratch<T, Space>& scratch, Maybe<AttentionState<T, Space>> before) const {
    CausalAttentionInputs<T, Space> in;
    in.q = queries(scratch.q.data());
    in.k = keys(scratch.k.data());
    in.v = keys(scratch.v.data());
    in.cache = cache_of(before);
    in.sequences = sequences;
    return in;
  }
};

template <class T, class Space>
void check_attention_state(std::string_view function, const AttentionConfig& c, Index sequences,
                           std::string_view argument, Maybe<AttentionState<T, Space>> state) {
  if (!state) return;
  const auto cache = shape(sequences, c.slots(), c.key_heads(), c.size());
  check_shape(function, argument, state->k, cache);
  check_shape(function, argument, state->v, cache);
  check_shape(function, argument, state->steps, shape(sequences));
}

/// What both passes of the layer are given, beside the gradients.
template <class T, class Matrix, class Space>
void check_attention_call(std::string_view function, const Attention<T, Matrix>& layer,
                          const View<const T, 3, Space>& input,
                          Maybe<AttentionState<T, Space>> state, std::string_view argument,
                          const View<T, 3, Space>& output, const LayerOptions<Space>& options) {
  check_layer_call(function, layer, input, output, options);
  check_parameters(function, layer);
  check_no_rate(function, options);
  check_attention_state(function, layer.config, options.sequences.count(input.extent(0)), argument,
                        state);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// Runs an attention layer over sequences, from any state. A sequence may be split anywhere:
/// passing the state from one part to the next gives the same output up to rounding.
///
/// Cost of a step: width · head_size · 2 (heads + groups) multiply-adds in the projections, and
/// 2 · heads · head_size for each step that it sees.
/// @param input, output (batch, length, width), rows evenly spaced, not the same memory
/// @throws ShapeError, and DomainError for offsets that do not fit, a rate other than 1, and a
///   state that has no room for so many steps
template <class Backend, class T, class Matrix>
void forward(const Backend& backend, const Attention<T, Matrix>& layer,
             const InputOf<Attention<T, Matrix>>& input, Maybe<StateOf<Attention<T, Matrix>>> state,
             const OutputOf<Attention<T, Matrix>>& output,
             const OptionsOf<Attention<T, Matrix>>& options,
             ScratchOf<Attention<T, Matrix>>& scratch) {
  using Space = typename Attention<T, Matrix>::space;
  using Arrays = detail::AttentionArrays<T, Space>;
  constexpr std::string_view function = "forward of Attention";
  const AttentionConfig& c = layer.config;
  AttentionScratch<T, Space>& w = scratch;
  w.call.drop();
  detail::check_attention_call(function, layer, input, state, "state", output, options);
  const Arrays arrays{c, input.extent(0), input.extent(1), options.sequences};
  const auto x = detail::merge_rows(function, "input", input);
  const auto y = detail::merge_rows(function, "output", output);
  const Index rows = x.extent(0);
  resize(backend, w.q, {rows, c.heads * c.size()});
  resize(backend, w.k, {rows, c.key_heads() * c.size()});
  resize(backend, w.v, {rows, c.key_heads() * c.size()});
  resize(backend, w.y, {rows, c.heads * c.size()});
  w.stateful = static_cast<bool>(state);
  Maybe<AttentionState<T, Space>> before = state;
  if (state && options.keep) {
    const auto keep = [&](const auto& from, auto& to) {
      resize(backend, to, from.extents());
      copy(backend, from.view(), to.view());
    };
    keep(std::as_const(state->k), w.before.k);
    keep(std::as_const(state->v), w.before.v);
    keep(std::as_const(state->steps), w.before.steps);
    before = w.before;
  }

  linear(backend, detail::product<T, Space>(x, layer.q_proj), {}, {w.q}, w.linear);
  linear(backend, detail::product<T, Space>(x, layer.k_proj), {}, {w.k}, w.linear);
  linear(backend, detail::product<T, Space>(x, layer.v_proj), {}, {w.v}, w.linear);
  if (c.rotary > 0) {
    const auto q = arrays.queries(w.q.data()), k = arrays.keys(w.k.data());
    rotary(backend, arrays.rotary_inputs(q, before), {.base = c.rotary}, {q}, w.rotary);
    rotary(backend, arrays.rotary_inputs(k, before), {.base = c.rotary}, {k}, w.rotary);
  }
  causal_attention(backend, arrays.inputs(w, before), {.window = c.window, .keep = options.keep},
                   {arrays.queries(w.y.data()), Arrays::cache(state)}, w.attention);
  linear(backend, detail::product<T, Space>(w.y, layer.o_proj), {}, {y}, w.linear);
  if (options.keep)
    w.call.keep({arrays.batch, arrays.length, options.sequences.count(arrays.batch)});
}

/// The gradients of an attention layer, of every weight and of the input, overwritten. The steps of
/// `dstate` are neither read nor written.
/// @throws ShapeError and DomainError as forward; ShapeError for a scratch that forward did not
///   fill with these arguments
template <class Backend, class T, class Matrix>
void backward(const Backend& backend, const Attention<T, Matrix>& layer,
              const InputOf<Attention<T, Matrix>>& input,
              Maybe<StateOf<Attention<T, Matrix>>> dstate,
              const InputOf<Attention<T, Matrix>>& doutput,
              const OutputOf<Attention<T, Matrix>>& dinput,
              std::type_identity_t<Attention<T, Matrix>>& gradients,
              const OptionsOf<Attention<T, Matrix>>& options,
              ScratchOf<Attention<T, Matrix>>& scratch) {
  using Space = typename Attention<T, Matrix>::space;
  using Arrays = detail::AttentionArrays<T, Space>;
  constexpr std::string_view function = "backward of Attention";
  const AttentionConfig& c = layer.config;
  AttentionScratch<T, Space>& w = scratch;
  detail::check_attention_call(function, layer, input, dstate, "dstate", dinput, options);
  detail::check_shape(function, "doutput", doutput, input.extents());
  const Arrays arrays{c, input.extent(0), input.extent(1), options.sequences};
  w.call.check(function, "forward with options.keep",
               {arrays.batch, arrays.length, options.sequences.count(arrays.batch)});
  const auto x = detail::merge_rows(function, "input", input);
  const auto dy = detail::merge_rows(function, "doutput", doutput);
  const auto dx = detail::merge_rows(function, "dinput", dinput);
  Maybe<AttentionState<T, Space>> before;
  if (w.stateful) before = w.before;
  resize_gradients(backend, layer, gradients);
  resize(backend, w.dq, w.q.extents());
  resize(backend, w.dk, w.k.extents());
  resize(backend, w.dv, w.k.extents());
  resize(backend, w.dy, w.q.extents());

  linear_backward(backend, detail::product<T, Space>(w.y, layer.o_proj), {}, {dy},
                  {w.dy, gradients.o_proj, {}}, w.linear);
  const auto dq = arrays.queries(w.dq.data()), dk = arrays.keys(w.dk.data());
  causal_attention_backward(backend, arrays.inputs(w, before), {.window = c.window},
                            {arrays.queries(std::as_const(w.dy).data()),
                             arrays.queries(std::as_const(w.y).data()), Arrays::cache_of(dstate)},
                            {dq, dk, arrays.keys(w.dv.data()), Arrays::cache(dstate)}, w.attention);
  if (c.rotary > 0) {
    rotary_backward(backend, arrays.rotary_inputs(dq, before), {.base = c.rotary}, {dq}, {dq},
                    w.rotary);
    rotary_backward(backend, arrays.rotary_inputs(dk, before), {.base = c.rotary}, {dk}, {dk},
                    w.rotary);
  }
  linear_backward(backend, detail::product<T, Space>(x, layer.q_proj), {}, {w.dq},
                  {dx, gradients.q_proj, {}}, w.linear);
  linear_backward(backend, detail::product<T, Space>(x, layer.k_proj), {.write = Write::accumulate},
                  {w.dk}, {dx, gradients.k_proj, {}}, w.linear);
  linear_backward(backend, detail::product<T, Space>(x, layer.v_proj), {.write = Write::accumulate},
                  {w.dv}, {dx, gradients.v_proj, {}}, w.linear);
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_LAYER(Attention<float>)
SSM_INSTANCE_LAYER(Attention<double>)
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
