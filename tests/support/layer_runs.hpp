#pragma once

#include <algorithm>
#include <array>
#include <complex>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "ssm/layers/layer.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/precision.hpp"

/// What the laws of layers are made of: a forward and a backward pass of any SequenceLayer from
/// drawn numbers, and their results side by side.
namespace ssm::test {

/// What a layer promises beyond the concept, and how exactly it computes.
struct LayerLaws {
  bool states = true;       ///< takes a state
  bool resumes = true;      ///< a piece of a sequence needs of the others only the state before it
  bool steps = true;        ///< a stepper can be made
  bool packs = true;        ///< takes packed sequences
  bool reverses = true;     ///< takes sequences whose time runs backward
  bool causal = true;       ///< no output knows of later inputs
  bool rates = true;        ///< has a Δ, and so a rate
  bool rates_train = true;  ///< has gradients at other rates than 1
  bool any_state = true;    ///< a state may hold any numbers, not only those that inputs lead to
  Index batch = 2;
  Index length = 25;        ///< of most sequences, at least 11
  Index fd_length = 7;      ///< of those for finite differences, at least 3
  Index long_length = 300;  ///< of those that are cut over threads
  double rounding = 40;     ///< two ways to compute the same: this · length · epsilon
  double gradient = 1e-8;   ///< finite differences
  double precision = 16;    ///< float against double: this · √length · epsilon of float
  std::vector<Index> precision_lengths = {1, 40, 600};
  Index precision_floor = 1;  ///< a length that rounding is at least of
};

/// What a pass is given. The states count only for layers that have some.
template <class L>
struct Given {
  using T = typename L::value_type;
  Tensor<T, 3> u, dy;
  StateOf<L> before, dafter;
};

/// What a pass gives.
template <class L>
struct Passed {
  using T = typename L::value_type;
  Tensor<T, 3> y, du;
  StateOf<L> after, dbefore;
  L gradients;
};

namespace detail {

template <class State>
void add_state(Results& results, const std::string& name, State state) {
  tensors(state, [&](const auto& part, auto& tensor) {
    add_result(results, name + "." + std::string(part), tensor);
  });
}

/// Positions [begin, begin + count) of an extent, by themselves.
template <class T, std::size_t Rank>
Tensor<T, Rank> cut(const Tensor<T, Rank>& whole, std::size_t dimension, Index begin, Index count) {
  auto extents = whole.extents();
  Index outer = 1, inner = 1;
  for (std::size_t i = 0; i < Rank; ++i)
    (i < dimension ? outer : inner) *= i == dimension ? 1 : extents[i];
  const Index extent = extents[dimension];
  extents[dimension] = count;
  Tensor<T, Rank> part(extents);
  for (Index i = 0; i < outer; ++i)
    std::copy_n(whole.data() + (i * extent + begin) * inner, count * inner,
                part.data() + i * count * inner);
  return part;
}

/// The state of one sequence.
template <class State>
State cut_state(const State& whole, Index sequence) {
  State part = whole;
  tensors(part, [&](const auto&, auto& tensor) { tensor = cut(tensor, 0, sequence, 1); });
  return part;
}

/// Memory of which every element is to be written.
template <class T>
Tensor<T, 3> unwritten(const std::array<Index, 3>& extents) {
  Tensor<T, 3> tensor(extents);
  tensor.fill(std::numeric_limits<T>::quiet_NaN());
  return tensor;
}

/// The steps of a batch from the last to the first.
template <class T>
Tensor<T, 3> mirrored(const Tensor<T, 3>& x) {
  Tensor<T, 3> to(x.extents());
  for (Index b = 0; b < x.extent(0); ++b)
    for (Index t = 0; t < x.extent(1); ++t)
      for (Index c = 0; c < x.extent(2); ++c) to(b, t, c) = x(b, x.extent(1) - 1 - t, c);
  return to;
}

/// Step t of a sequence, (batch, width).
template <class T>
View<T, 2> at_step(const View<T, 3>& x, Index t) {
  const View<T, 3> step = x.slice(1, t, 1);
  return {step.data(), {x.extent(0), x.extent(2)}, {x.stride(0), x.stride(2)}};
}

inline void add_to(Results& sum, const Results& terms) {
  if (sum.empty()) {
    sum = terms;
    return;
  }
  for (std::size_t i = 0; i < terms.size(); ++i)
    for (Index k = 0; k < terms[i].second.size(); ++k)
      sum[i].second.data()[k] += terms[i].second.data()[k];
}

inline bool same_bits(const Results& a, const Results& b) {
  bool same = a.size() == b.size();
  for (std::size_t i = 0; same && i < a.size(); ++i)
    same = a[i].first == b[i].first && test::same_bits(a[i].second, b[i].second);
  return same;
}

}  // namespace detail

/// Numbers that float holds; with `any_state` false those to which inputs lead.
template <class L>
StateOf<L> draw_state(const L& layer, Index sequences, std::uint64_t seed, const LayerLaws& laws) {
  using T = typename L::value_type;
  StateOf<L> state = make_state(layer, sequences);
  if (laws.any_state) {
    tensors(state, [&](const auto&, auto& tensor) {
      using K = typename std::remove_cvref_t<decltype(tensor)>::value_type;
      if constexpr (!std::is_integral_v<K>) tensor = float_normal<K>(seed++, tensor.extents());
    });
    return state;
  }
  const auto u = float_normal<T>(seed, std::array<Index, 3>{sequences, 5, width_of(layer.config)});
  Tensor<T, 3> y(u.extents());
  ScratchOf<L> scratch;
  forward(cpu(1), layer, InputOf<L>(u), Maybe<StateOf<L>>(state), OutputOf<L>(y), OptionsOf<L>{},
          scratch);
  return state;
}

template <class L>
Given<L> draw_given(const L& layer, Index batch, Index length, Index sequences, std::uint64_t seed,
                    const LayerLaws& laws) {
  using T = typename L::value_type;
  const std::array<Index, 3> extents{batch, length, width_of(layer.config)};
  Given<L> given{float_normal<T>(seed, extents), float_normal<T>(seed + 1, extents), {}, {}};
  if (!laws.states) return given;
  given.before = draw_state(layer, sequences, seed + 2, laws);
  given.dafter = make_state(layer, sequences);
  tensors(given.dafter, [&](const auto&, auto& tensor) {
    using K = typename std::remove_cvref_t<decltype(tensor)>::value_type;
    if constexpr (!std::is_integral_v<K>)  // a count has no gradient
      tensor = float_normal<K>(seed += 20, tensor.extents());
  });
  return given;
}
template <class L>
Given<L> draw_given(const L& layer, Index length, std::uint64_t seed, const LayerLaws& laws) {
  return draw_given(layer, laws.batch, length, laws.batch, seed, laws);
}

/// forward alone, with the state in place.
template <class L>
Tensor<typename L::value_type, 3> run_forward(const L& layer,
                                              const Tensor<typename L::value_type, 3>& u,
                                              Maybe<StateOf<L>> state, const OptionsOf<L>& options,
                                              ScratchOf<L>& scratch, int threads = 1) {
  auto y = detail::unwritten<typename L::value_type>(u.extents());
  forward(cpu(threads), layer, InputOf<L>(u), state, OutputOf<L>(y), options, scratch);
  return y;
}

/// forward and backward, with the states in place.
template <class L>
Passed<L> run(const L& layer, const Given<L>& given, const LayerLaws& laws,
              const OptionsOf<L>& options = {}, int threads = 1) {
  Passed<L> passed{{},
                   detail::unwritten<typename L::value_type>(given.u.extents()),
                   given.before,
                   given.dafter,
                   {}};
  ScratchOf<L> scratch;
  const auto maybe = [&](StateOf<L>& state) {
    return laws.states ? Maybe<StateOf<L>>(state) : Maybe<StateOf<L>>();
  };
  passed.y = run_forward(layer, given.u, maybe(passed.after), options, scratch, threads);
  backward(cpu(threads), layer, InputOf<L>(given.u), maybe(passed.dbefore), InputOf<L>(given.dy),
           OutputOf<L>(passed.du), passed.gradients, options, scratch);
  return passed;
}

template <class L>
Results results_of(const Passed<L>& passed) {
  Results results;
  add_result(results, "output", passed.y);
  add_result(results, "the gradient of input", passed.du);
  detail::add_state(results, "state", passed.after);
  detail::add_state(results, "the gradient of state", passed.dbefore);
  add_results(results, passed.gradients);
  return results;
}

/// That two ways to compute the same agree.
inline void check_agree(const Results& got, const Results& want, double bound) {
  const auto [error, where] = largest_error(got, want, 1);
  INFO("the largest error is in: " << where);
  CHECK(error <= bound);
}

template <class L>
double rounding_bound(const LayerLaws& laws, Index length) {
  using T = typename L::value_type;
  return laws.rounding * static_cast<double>(length) *
         static_cast<double>(std::numeric_limits<T>::epsilon());
}

/// Changes every weight a little.
template <class L>
void move_parameters(L& layer) {
  parameters(layer, [](const auto&, auto& tensor, const auto&, bool) {
    for (Index i = 0; i < tensor.size(); ++i)
      tensor.data()[i] +=
          static_cast<typename L::value_type>(0.01 * static_cast<double>(1 + i % 3));
  });
}

}  // namespace ssm::test
