#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/causal_attention_types.hpp"
#include "ssm/layers/detail/attention_backward.hpp"
#include "ssm/layers/detail/attention_forward.hpp"
#include "ssm/layers/detail/attention_keys.hpp"
#include "ssm/layers/detail/rows.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// What a scratch tells one call from another by.
template <class T>
[[nodiscard]] std::array<Index, 5> attention_call(const AttentionSteps<T>& steps) noexcept {
  return {steps.batch, steps.length, steps.heads, steps.groups, steps.head_size};
}

/// The cache after the last step: the one before, and the last steps in their slots.
template <class T>
void write_cache(const AttentionSteps<T>& steps, const AttentionCache<T>& cache) {
  const auto& in = steps.in;
  const Index slots = cache.k.extent(1), d = steps.head_size;
  const bool in_place = is_same_memory(in.cache.k, cache.k);
  for (Index s = 0; s < steps.sequences; ++s) {
    const Index past = steps.past(s), length = steps.span(s).length();
    for (Index group = 0; group < steps.groups; ++group) {
      for (Index slot = 0; !in_place && slot < slots; ++slot) {
        T *k = slot_row(cache.k, s, slot, group), *v = slot_row(cache.v, s, slot, group);
        if (in.cache) {
          std::copy_n(slot_row(in.cache.k, s, slot, group), d, k);
          std::copy_n(slot_row(in.cache.v, s, slot, group), d, v);
        } else {
          std::fill_n(k, d, T(0));
          std::fill_n(v, d, T(0));
        }
      }
      const auto k = steps.rows(in.k, s, group), v = steps.rows(in.v, s, group);
      for (Index i = (std::max<Index>)(length - slots, 0); i < length; ++i) {
        std::copy_n(k.at(i), d, slot_row(cache.k, s, (past + i) % slots, group));
        std::copy_n(v.at(i), d, slot_row(cache.v, s, (past + i) % slots, group));
      }
    }
    cache.steps(s) = past + length;
  }
}

/// One query of one head over the slots of a cache: `count` positions from `first` on.
template <class T>
void attend_step(const T* q, const StepRows<const T>& k, const StepRows<const T>& v, Index slots,
                 Index first, Index count, Index head_size, T* y) noexcept {
  constexpr Index block = 64;
  const T factor = static_cast<T>(1.4426950408889634 / std::sqrt(static_cast<double>(head_size)));
  T largest = unseen_score<T>, sums = T(0);
  std::fill_n(y, head_size, T(0));
  for (Index begin = 0, n = 0; begin < count; begin += n) {
    const Index slot = (first + begin) % slots;
    n = (std::min)({block, count - begin, slots - slot});
    alignas(vector_bytes) T weights[block];
    T before = largest;
    for (Index j = 0; j < n; ++j) {
      const T* key = k.at(slot + j);
      Vec<T> product(T(0));
      for_each_vector<T>(head_size, [&](Index c, Index m) {
        product = fma(Vec<T>::load(q + c, m), Vec<T>::load(key + c, m), product);
      });
      weights[j] = factor * sum(product);
      if (weights[j] > largest) largest = weights[j];
    }
    Vec<T> total(T(0));
    for_each_vector<T>(n, [&](Index j, Index m) {
      exp2(Vec<T>::load(weights + j, m) - Vec<T>(largest)).store(weights + j, m);
      total = total + Vec<T>::load(weights + j, m);
    });
    const T shrink = std::exp2(before - largest);
    sums = sums * shrink + sum(total);
    for_each_vector<T>(head_size, [&](Index c, Index m) {
      auto value = Vec<T>::load(y + c, m) * Vec<T>(shrink);
      for (Index j = 0; j < n; ++j)
        value = fma(Vec<T>(weights[j]), Vec<T>::load(v.at(slot + j) + c, m), value);
      value.store(y + c, m);
    });
  }
  for_each_vector<T>(head_size, [&](Index c, Index m) {
    (Vec<T>::load(y + c, m) / Vec<T>(sums)).store(y + c, m);
  });
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// Causal attention with heads that share keys (Vaswani et al. 2017, equation 1; Ainslie et al.
/// 2023): with p the position of a step and g the group of head h, ⌊h groups/heads⌋,
///
///   y_{p,h} = Σ_j w_{p,j} v_{j,g},  w_{p,j} = softmax_j(q_{p,h} · k_{j,g} / √head_size),
///
/// over the positions j ≤ p of the same sequence, those of the cache among them, and with a window
/// only those with j > p − window.
///
/// The scores are softmaxed in one pass over blocks of keys (Milakov & Gimelshein 2018; Dao et al.
/// 2022), so that memory is linear in the length. Cost: heads · head_size · 2 multiply-adds, and
/// heads exponentials, for each pair of steps that see each other. What is not a number in a value
/// may reach the few steps before it that are computed with it, and no other sequence.
/// @throws ShapeError for extents that do not fit, elements of a head that are not adjacent, and
///   outputs in the memory of another argument; DomainError for a window or a count of steps that
///   is negative, for offsets that do not fit, and for more steps than the cache has slots where no
///   window forgets them
template <class T>
void causal_attention(const Cpu& backend, const CausalAttentionInputs<T>& inputs,
                      const CausalAttentionOptions& options,
                      const CausalAttentionOutputs<T>& outputs,
                      CausalAttentionScratch<T>& scratch) {
  scratch.call.drop();
  detail::check_causal_attention("causal_attention", inputs, options);
  detail::check_causal_attention_outputs("causal_attention", inputs, options, outputs);
  const detail::AttentionSteps<T> steps(inputs, options, scratch);
  detail::attend(backend, steps, outputs.y, options.keep, scratch);
  if (options.keep)
    scratch.call.keep(detail::attention_call(steps), detail::variant_of(inputs.sequences));
  if (outputs.cache) detail::write_cache(steps, outputs.cache);
}

/// The gradients of causal_attention. With g the gradient by y and D_p = g_p · y_p,
///
///   dv_j = Σ_p w_{p,j} g_p,  dk_j = Σ_p s_{p,j} q_p,  dq_p = Σ_j s_{p,j} k_j,
///   s_{p,j} = w_{p,j} (g_p · v_j − D_p) / √head_size,
///
/// over the heads that share a key as well, where w is computed again from q and k. A slot of the
/// cache that a step overwrote hands its gradient to that step. `inputs` are those of the forward
/// pass: where its cache was updated in place, a copy of the one before. Sums are in an order that
/// depends on the sizes alone. Cost: 2.5 forward passes; memory: the gradients of k and v once
/// more, or as often as it takes to give sixteen threads work.
/// @throws ShapeError and DomainError as causal_attention; ShapeError for a scratch that
///   causal_attention with options.keep did not fill with these inputs
template <class T>
void causal_attention_backward(const Cpu& backend, const CausalAttentionInputs<T>& inputs,
                               const CausalAttentionOptions& options,
                               const CausalAttentionOutputGradients<T>& output_gradients,
                               const CausalAttentionInputGradients<T>& input_gradients,
                               CausalAttentionScratch<T>& scratch) {
  constexpr const char* function = "causal_attention_backward";
  detail::check_causal_attention(function, inputs, options);
  detail::check_causal_attention_gradients(function, inputs, options, output_gradients,
                                           input_gradients);
  const detail::AttentionSteps<T> steps(inputs, options, scratch);
  scratch.call.check(function, "causal_attention with options.keep", detail::attention_call(steps),
                     detail::variant_of(inputs.sequences));
  detail::attend_backward(backend, steps, output_gradients, input_gradients, scratch);
}

/// One step of causal_attention on the calling thread, without allocation: the key and the value go
/// into the cache, whose count of steps moves on, and the query sees all that it holds, or its last
/// `window` steps. Arguments that do not fit, a full cache among them, end the program with an
/// error message. Cost: 2 · heads · head_size multiply-adds for each step that is seen.
/// @param cache of one sequence a row, updated
/// @param y (batch, heads, head_size), written
template <class T>
void causal_attention_step(const CausalAttentionStepInputs<T>& inputs,
                           const CausalAttentionOptions& options,
                           const std::type_identity_t<AttentionCache<T>>& cache,
                           const std::type_identity_t<View<T, 3>>& y) noexcept {
  detail::check_or_terminate([&] {
    detail::check_causal_attention_step("causal_attention_step", inputs, options, cache, y);
  });
  const auto& [q, k, v] = inputs;
  const Index heads = q.extent(1), d = q.extent(2), groups = k.extent(1);
  const Index slots = cache.k.extent(1);
  for (Index b = 0; b < q.extent(0); ++b) {
    const Index now = cache.steps(b)++;
    const Index limit = options.window > 0 ? options.window : now + 1;
    const Index count = (std::min)(now + 1, limit);
    for (Index g = 0; g < groups; ++g) {
      std::copy_n(k.data() + b * k.stride(0) + g * k.stride(1), d,
                  detail::slot_row(cache.k, b, now % slots, g));
      std::copy_n(v.data() + b * v.stride(0) + g * v.stride(1), d,
                  detail::slot_row(cache.v, b, now % slots, g));
    }
    for (Index h = 0; h < heads; ++h) {
      const Index g = h / (heads / groups);
      detail::attend_step<T>(q.data() + b * q.stride(0) + h * q.stride(1),
                             {detail::slot_row(cache.k, b, 0, g), cache.k.stride(1)},
                             {detail::slot_row(cache.v, b, 0, g), cache.v.stride(1)}, slots,
                             now + 1 - count, count, d,
                             y.data() + b * y.stride(0) + h * y.stride(1));
    }
  }
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_OPERATION(causal_attention, CausalAttention, float)
SSM_INSTANCE_OPERATION(causal_attention, CausalAttention, double)
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
