#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/fields.hpp"
#include "ssm/core/parameters.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/detail/initial_draws.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

template <class T, class Matrix>
class AttentionStepper;
template <class T, class Space = Host>
struct AttentionScratch;

/// Sizes and fixed choices of an attention layer.
struct AttentionConfig {
  Index width = 0;      ///< of the sequences that it reads and writes
  Index heads = 1;      ///< of queries; a multiple of the groups
  Index groups = 0;     ///< of keys and values, each of which heads / groups heads share; 0: heads
  Index head_size = 0;  ///< elements of a query, a key and a value; 0: width / heads
  Index window = 0;     ///< how many last steps a step sees, itself among them; 0: all
  Index capacity = 4096;  ///< without a window: of how many steps a state keeps keys and values;
                          ///< one more, and forward throws and a step ends the program
  double rotary = 10000;  ///< base of the rotary positions; 0: none

  /// The number of groups of keys and values.
  [[nodiscard]] constexpr Index key_heads() const noexcept { return groups > 0 ? groups : heads; }
  /// The number of elements of a head.
  [[nodiscard]] constexpr Index size() const noexcept {
    return head_size > 0 ? head_size : heads > 0 ? width / heads : 0;
  }
  /// Of how many steps a state keeps keys and values: `window`, or `capacity` without one.
  [[nodiscard]] constexpr Index slots() const noexcept { return window > 0 ? window : capacity; }
  friend bool operator==(const AttentionConfig&, const AttentionConfig&) = default;
};

/// Calls visit(name, member) for every field of a configuration; see ssm/core/fields.hpp.
template <class Visit>
void fields(AttentionConfig& c, Visit&& visit) {
  visit("width", c.width);
  visit("heads", c.heads);
  visit("groups", c.groups);
  visit("head_size", c.head_size);
  visit("window", c.window);
  visit("capacity", c.capacity);
  visit("rotary", c.rotary);
}

/// What an attention layer carries from one step to the next: the keys, their positions in them,
/// and values of the steps so far, and how many these are. The step at position p has slot
/// p mod slots. It is a plain value, zero when made.
template <class T, class Space = Host>
struct AttentionState {
  TensorIn<T, 4, Space> k;          ///< (sequences, slots, groups, head_size)
  TensorIn<T, 4, Space> v;          ///< (sequences, slots, groups, head_size)
  TensorIn<Index, 1, Space> steps;  ///< (sequences); of a gradient of the state without meaning
};

/// Calls visit(name, tensor) for every tensor of a state.
template <class T, class Space, class Visit>
void tensors(AttentionState<T, Space>& state, Visit&& visit) {
  visit("k", state.k);
  visit("v", state.v);
  visit("steps", state.steps);
}

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// Throws for a configuration that makes no attention.
inline void check_attention_config(const AttentionConfig& c) {
  const auto refuse = [](std::string_view name, auto got, std::string_view want) {
    throw_domain("Attention", name, std::to_string(got), want);
  };
  constexpr Index largest = 0x7fffffff;  // of which no product of two overflows
  const auto bounded = [&](std::string_view name, Index got) {
    if (got < 0 || got > largest) refuse(name, got, "from 0 to " + std::to_string(largest));
  };
  bounded("width", c.width);
  bounded("heads", c.heads);
  bounded("groups", c.groups);
  bounded("head_size", c.head_size);
  if (c.window < 0) refuse("window", c.window, "0 or more");
  if (c.capacity < 0) refuse("capacity", c.capacity, "0 or more");
  if (c.width == 0) return;  // blank
  if (c.heads < 1) refuse("heads", c.heads, "at least 1");
  if (c.heads % c.key_heads() != 0)
    refuse("heads", c.heads, "a multiple of " + std::to_string(c.key_heads()) + " groups");
  if (c.head_size == 0 && c.width % c.heads != 0)
    refuse("heads", c.heads, "a divisor of the width, " + std::to_string(c.width));
  if (!(c.rotary >= 0 && std::isfinite(c.rotary))) refuse("rotary", c.rotary, "0 or a base");
  if (c.rotary > 0 && c.size() % 2 != 0) refuse("head_size", c.size(), "even, as pairs turn");
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// Causal attention with rotary positions and heads that share keys, as in Llama. It holds its
/// weights, or the gradient of a loss with respect to them.
///
///   q = rotary(q_proj · input),  k = rotary(k_proj · input),  v = v_proj · input,
///   output = o_proj · causal_attention(q, k, v).
///
/// Its state is a cache of fixed size: with a window a ring of the last `window` steps, and
/// sequences of any length run through it; without one, a sequence that carries a state ends after
/// `capacity` steps. A pass without a state takes any length. `Matrix` is the type of the
/// projections, such as Tensor<T, 2>.
template <class T, class Matrix = Tensor<T, 2>>
struct Attention {
  ///@{
  /// One of the types that every layer names; see SequenceLayer.
  using value_type = T;
  using space = typename Matrix::space;
  using Config = AttentionConfig;
  using State = AttentionState<T, space>;
  using Scratch = AttentionScratch<T, space>;
  using Stepper = AttentionStepper<T, Matrix>;
  ///@}

  Config config;  ///< sizes and fixed choices
  Matrix q_proj;  ///< (heads · head_size, width)
  Matrix k_proj;  ///< (groups · head_size, width)
  Matrix v_proj;  ///< (groups · head_size, width)
  Matrix o_proj;  ///< (width, heads · head_size)

  Attention() = default;
  /// A layer of this configuration, its parameters zero. @throws DomainError for a configuration
  /// that makes no attention, ShapeError for sizes that cannot be addressed
  explicit Attention(const Config& c) : config(c) {
    detail::check_attention_config(c);
    resize_parameters(*this);
  }
};

/// The parameters of an attention layer, under the names of Llama. Weight decay applies to all.
template <class T, class Matrix, class Visit>
void parameters(Attention<T, Matrix>& layer, Visit&& visit) {
  const AttentionConfig& c = layer.config;
  const Index queries = c.heads * c.size(), keys = c.key_heads() * c.size();
  visit("q_proj.weight", layer.q_proj, shape(queries, c.width), true);
  visit("k_proj.weight", layer.k_proj, shape(keys, c.width), true);
  visit("v_proj.weight", layer.v_proj, shape(keys, c.width), true);
  visit("o_proj.weight", layer.o_proj, shape(c.width, queries), true);
}

/// The state of so many sequences before their first step, all zero.
template <class T, class Matrix>
[[nodiscard]] AttentionState<T> make_state(const Attention<T, Matrix>& layer, Index sequences) {
  const AttentionConfig& c = layer.config;
  const auto cache = shape(sequences, c.slots(), c.key_heads(), c.size());
  return {Tensor<T, 4>(cache), Tensor<T, 4>(cache), Tensor<Index, 1>({sequences})};
}

/// Draws the weights uniform in ±1/√(number of their inputs), and divides o_proj by √depth. The
/// same seed gives the same weights on every machine.
/// @param depth how many layers the model has
template <class T>
void initialize(Attention<T>& layer, std::uint64_t seed, Index depth = 1) {
  detail::InitialDraws draws(seed);
  const AttentionConfig& c = layer.config;
  const auto inverse_root = [](Index n) {
    return 1 / std::sqrt(static_cast<double>((std::max<Index>)(n, 1)));
  };
  draws.uniform(layer.q_proj, inverse_root(c.width));
  draws.uniform(layer.k_proj, inverse_root(c.width));
  draws.uniform(layer.v_proj, inverse_root(c.width));
  draws.uniform(layer.o_proj, inverse_root(c.heads * c.size()) * inverse_root(depth));
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
