#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <type_traits>

#include "hash.hpp"
#include "row_place.hpp"
#include "ssm/core/checks.hpp"
#include "ssm/cuda/sample_tokens.hpp"

namespace ssm {
namespace kernels {

/// A number as an integer of the same order.
SSM_DEVICE std::uint64_t order_of(float x) {
  const auto bits = __builtin_bit_cast(std::uint32_t, x == 0 ? 0.0f : x);
  return (bits >> 31) != 0 ? std::uint32_t(~bits) : bits | 0x80000000u;
}
SSM_DEVICE std::uint64_t order_of(double x) {
  const auto bits = __builtin_bit_cast(std::uint64_t, x == 0 ? 0.0 : x);
  return (bits >> 63) != 0 ? ~bits : bits | (std::uint64_t{1} << 63);
}

/// A block a row. Tokens are those whose logit is of an order above `least`, and of those that are
/// of that very order the first `ties`.
template <class T>
struct SampleTokens {
  static constexpr int most_threads = 256, bits = sizeof(T) == 4 ? 32 : 64;
  Array<const T, 2> logits;
  Array<Token, 1> tokens;
  const std::uint64_t* draws;
  std::uint64_t key;
  Index vocab, top_k;
  double temperature, top_p, min_p;

  static Index shared_bytes() {
    return shared_size<double>(most_threads / warp) + shared_size<double>(most_threads) +
           shared_size<double>(2);
  }

  /// The sum over all tokens of value(token, logit, order), in a fixed order, in each thread.
  template <class Value>
  SSM_DEVICE double sum(Block& block, const Shared<double>& room, Index row,
                        const Value& value) const {
    double mine = 0;
    for (Index c = block.thread(); c < vocab; c += most_threads) {
      const T logit = logits(row, c);
      mine += value(logit, order_of(logit));
    }
    return join_row(block, room, mine, most_threads, SumOf());
  }
  /// The largest order from which on value sums to `enough`.
  template <class Value>
  SSM_DEVICE std::uint64_t least_order(Block& block, const Shared<double>& room, Index row,
                                       double enough, const Value& value) const {
    std::uint64_t least = 0;
    for (int bit = bits; bit-- > 0;) {
      const std::uint64_t tried = least | (std::uint64_t{1} << bit);
      const double above = sum(block, room, row, [&](T logit, std::uint64_t order) {
        return order >= tried ? value(logit) : 0.0;
      });
      if (above >= enough) least = tried;
    }
    return least;
  }

  SSM_DEVICE void operator()(Block& block) const {
    const Shared<double> room = block.shared<double>(most_threads / warp);
    const Shared<double> shares = block.shared<double>(most_threads);
    const Shared<double> found = block.shared<double>(2);
    const Index row = block.index();
    T top = -infinity<T>;
    for (Index c = block.thread(); c < vocab; c += most_threads)
      top = LargerOf()(top, T(logits(row, c)));
    top = T(join_row(block, room, static_cast<double>(top), most_threads, LargerOf()));
    if (!(std::fabs(top) < infinity<T>)) {
      if (block.thread() == 0) tokens(row) = -1;
      return;
    }
    const double coldness = temperature > 0 ? 1 / temperature : 0;
    const auto weight = [&](T logit) {
      const double w = std::exp((static_cast<double>(logit) - static_cast<double>(top)) * coldness);
      return logit > -infinity<T> ? w : 0.0;
    };
    std::uint64_t least = 0;
    double ties = static_cast<double>(vocab);
    const auto sum_beyond = [&](const auto& value) {
      return sum(block, room, row,
                 [&](T logit, std::uint64_t order) { return order > least ? value(logit) : 0.0; });
    };
    const auto one = [](T) { return 1.0; };
    if (temperature == 0) {
      least = order_of(top), ties = 1;
    } else {
      if (top_k > 0 && top_k < vocab) {
        least = least_order(block, room, row, static_cast<double>(top_k), one);
        ties = static_cast<double>(top_k) - sum_beyond(one);
      }
      if (top_p < 1) {
        const std::uint64_t before = least;
        const double last = sum(block, room, row, [&](T logit, std::uint64_t order) {
          return order == before ? weight(logit) : 0.0;
        });
        const double count = sum(
            block, room, row, [&](T, std::uint64_t order) { return order == before ? 1.0 : 0.0; });
        const double share = count > 0 ? last / count : 0.0;  // of one of equal logits
        const double all = sum_beyond(weight) + share * (ties < count ? ties : count);
        const std::uint64_t enough = least_order(block, room, row, top_p * all, weight);
        if (enough > least) least = enough, ties = static_cast<double>(vocab);
        const double beyond = sum_beyond(weight);
        const double each = sum(block, room, row, [&](T logit, std::uint64_t order) {
          return order == least ? weight(logit) : 0.0;
        });
        const double of_order = sum(
            block, room, row, [&](T, std::uint64_t order) { return order == least ? 1.0 : 0.0; });
        const double wanted =
            each > 0 ? std::ceil((top_p * all - beyond) / (each / of_order)) : 1.0;
        ties = wanted < ties ? (wanted < 1 ? 1.0 : wanted) : ties;
      }
    }
    // Each thread has a run of tokens; of equal ones at the edge, those before its run count first.
    const Index run = (vocab + most_threads - 1) / most_threads;
    const Index begin = block.thread() * run, end = begin + run < vocab ? begin + run : vocab;
    double equal = 0;
    for (Index c = begin; c < end; ++c) equal += order_of(logits(row, c)) == least ? 1.0 : 0.0;
    block.sync();
    shares[block.thread()] = equal;
    block.sync();
    double before = 0;
    for (int t = 0; t < block.thread(); ++t) before += shares[t];
    const auto for_run = [&](const auto& use) {
      double seen = before;
      for (Index c = begin; c < end; ++c) {
        const T logit = logits(row, c);
        const std::uint64_t order = order_of(logit);
        const bool within = order > least || (order == least && seen < ties);
        if (order == least) seen += 1;
        const double w = weight(logit);
        if (within && w > 0 && w >= min_p) use(c, w);
      }
    };
    double mine = 0;
    for_run([&](Index, double w) { mine += w; });
    block.sync();
    shares[block.thread()] = mine;
    block.sync();
    if (block.thread() == 0) {
      double total = 0;
      for (int t = 0; t < most_threads; ++t) total += shares[t];
      const std::uint64_t drawn = mixed(key + mixed(*draws) + static_cast<std::uint64_t>(row));
      double rest = static_cast<double>(drawn >> 11) * 0x1.0p-53 * total;
      int owner = 0, last = 0;
      for (int t = 0; t < most_threads; ++t)
        if (shares[t] > 0) last = t;
      while (owner < last && rest >= shares[owner]) rest -= shares[owner++];
      found[0] = static_cast<double>(owner), found[1] = rest;
    }
    block.sync();
    if (block.thread() != static_cast<int>(found[0])) return;
    double rest = found[1];
    Token token = -1;
    bool done = false;
    for_run([&](Index c, double w) {
      if (done) return;
      token = static_cast<Token>(c);  // the last one, where only rounding leaves a rest
      rest -= w;
      done = rest < 0;
    });
    tokens(row) = token;
  }
};

struct CountDraw {
  std::uint64_t* draws;

  SSM_DEVICE void operator()(Index) const { *draws += 1; }
};

}  // namespace kernels

template <class T>
void sample_tokens(const Cuda& backend, const SampleTokensInputs<T>& inputs,
                   const SamplingOptions& options, const SampleTokensOutputs& outputs,
                   SampleTokensScratch& scratch) {
  using namespace kernels;
  const char* function = "sample_tokens";
  const auto& logits = inputs.logits;
  ssm::detail::check_rows(function, "logits", logits, logits.extents());
  ssm::detail::check_output_shape(function, "tokens", outputs.tokens,
                                  std::array<Index, 1>{logits.extent(0)});
  ssm::detail::check_sampling(function, logits.extent(1), options);
  if (options.repetition_penalty != 1)
    ssm::detail::throw_domain(function, "repetition_penalty",
                              std::to_string(options.repetition_penalty),
                              "1, as nothing on a device remembers tokens");
  if (scratch.draws.size() != 1 || scratch.draws.data() == nullptr) {
    resize(backend, scratch.draws, {1});
    zero(backend, scratch.draws.view());
  }
  using Kernel = SampleTokens<T>;
  launch(
      backend, function, logits.extent(0), Kernel::most_threads, Kernel::shared_bytes(),
      Kernel{Array<const T, 2>(logits), Array<Token, 1>(outputs.tokens), scratch.draws.data(),
             ssm::detail::mix(options.seed), options.tokens > 0 ? options.tokens : logits.extent(1),
             options.top_k, options.temperature, options.top_p, options.min_p});
  launch_elementwise(backend, function, 1, CountDraw{scratch.draws.data()});
}

}  // namespace ssm

#define SSM_SAMPLE_TOKENS(T)                                                           \
  template void ssm::sample_tokens(const Cuda&, const SampleTokensInputs<T>&,          \
                                   const SamplingOptions&, const SampleTokensOutputs&, \
                                   SampleTokensScratch&);
