#include "ssm/layers/causal_attention.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/count_allocations.hpp"
#include "support/finite_difference.hpp"
#include "support/last_words.hpp"
#include "support/random.hpp"

namespace causal_attention_test {

using namespace ssm;
using test::Random;

namespace {

struct Sizes {
  Index batch = 1, length = 1, heads = 1, groups = 1, head_size = 1;
  Index slots = 0;             // of the cache; 0: none
  std::vector<Index> steps{};  // before, of each sequence
  Index window = 0;
  std::vector<Index> ends{};  // of packed sequences
  bool reversed = false;
};

/// Arrays of an attention in T.
template <class T>
struct Case {
  Sizes sizes;
  Index sequences;
  Tensor<Index, 1> offsets, steps;
  Tensor<T, 4> q, k, v, cache_k, cache_v, dy, dcache_k, dcache_v;

  Case(const Sizes& s, std::uint64_t seed) : sizes(s) {
    Random random(seed);
    if (!s.ends.empty()) {
      offsets.resize({static_cast<Index>(s.ends.size())});
      std::copy(s.ends.begin(), s.ends.end(), offsets.begin());
    }
    sequences = s.ends.empty() ? s.batch : offsets.size() - 1;
    steps.resize({sequences});
    std::copy(s.steps.begin(), s.steps.end(), steps.begin());
    const auto draw = [&](Index rows, Index columns, Index heads) {
      // What float holds, so that both types compute the same.
      const auto from = random.normal<float, 4>({rows, columns, heads, s.head_size});
      Tensor<T, 4> to(from.extents());
      std::copy(from.begin(), from.end(), to.begin());
      return to;
    };
    q = draw(s.batch, s.length, s.heads);
    dy = draw(s.batch, s.length, s.heads);
    k = draw(s.batch, s.length, s.groups);
    v = draw(s.batch, s.length, s.groups);
    cache_k = draw(sequences, s.slots, s.groups);
    cache_v = draw(sequences, s.slots, s.groups);
    dcache_k = draw(sequences, s.slots, s.groups);
    dcache_v = draw(sequences, s.slots, s.groups);
  }

  CausalAttentionInputs<T> inputs() const {
    CausalAttentionInputs<T> in{q, k, v};
    if (sizes.slots > 0) in.cache = {cache_k, cache_v, steps};
    if (offsets.size() > 0) in.sequences.offsets = offsets;
    in.sequences.reversed = sizes.reversed;
    return in;
  }
  CausalAttentionOptions options() const { return {.window = sizes.window, .keep = true}; }
};

/// What an attention gives.
template <class T>
struct Results {
  Tensor<T, 4> y, cache_k, cache_v, dq, dk, dv, dfirst_k, dfirst_v;
  Tensor<Index, 1> steps;

  explicit Results(const Case<T>& c)
      : y(c.q.extents()),
        cache_k(c.cache_k.extents()),
        cache_v(c.cache_v.extents()),
        dq(c.q.extents()),
        dk(c.k.extents()),
        dv(c.k.extents()),
        dfirst_k(c.cache_k.extents()),
        dfirst_v(c.cache_k.extents()),
        steps(c.steps.extents()) {}

  template <class Body>
  void each(const Body& body) {
    body("y", y), body("cache.k", cache_k), body("cache.v", cache_v), body("dq", dq);
    body("dk", dk), body("dv", dv), body("dcache.k", dfirst_k), body("dcache.v", dfirst_v);
  }
};

template <class T>
Results<T> run(const Case<T>& c, int threads = 1) {
  Results<T> r(c);
  r.each([](auto, auto& tensor) { tensor.fill(std::numeric_limits<T>::quiet_NaN()); });
  CausalAttentionScratch<T> scratch;
  const auto in = c.inputs();
  CausalAttentionOutputs<T> out{r.y};
  CausalAttentionOutputGradients<T> dout{c.dy, r.y};
  CausalAttentionInputGradients<T> din{r.dq, r.dk, r.dv};
  if (c.sizes.slots > 0) {
    out.cache = {r.cache_k, r.cache_v, r.steps};
    dout.cache = {c.dcache_k, c.dcache_v};
    din.cache = {r.dfirst_k, r.dfirst_v};
  }
  causal_attention(cpu(threads), in, c.options(), out, scratch);
  causal_attention_backward(cpu(threads), in, c.options(), dout, din, scratch);
  return r;
}

/// The formula in double, sequence by sequence, pair by pair.
Results<double> reference(const Case<double>& c) {
  Results<double> r(c);
  const Sizes& z = c.sizes;
  const auto in = c.inputs();
  const double scale = 1 / std::sqrt(static_cast<double>(z.head_size));
  r.cache_k = c.cache_k;
  r.cache_v = c.cache_v;
  r.dfirst_k = c.dcache_k;
  r.dfirst_v = c.dcache_v;
  for (Index s = 0; s < c.sequences; ++s) {
    const auto span = detail::span_of(in.sequences, s, z.length);
    const Index past = c.steps(s), end = past + span.length();
    const Index oldest = std::max<Index>(0, past - z.slots);
    const auto time = [&](Index position) { return span.step(position - past, z.reversed); };
    // A step's gradient begins with that of its slot, which it takes over.
    for (Index p = past; z.slots > 0 && p < end; ++p)
      for (Index g = 0; g < z.groups; ++g)
        for (Index e = 0; e < z.head_size; ++e) {
          const Index slot = p % z.slots;
          r.cache_k(s, slot, g, e) = c.k(span.row, time(p), g, e);
          r.cache_v(s, slot, g, e) = c.v(span.row, time(p), g, e);
          if (p + z.slots < end) continue;
          r.dk(span.row, time(p), g, e) = std::exchange(r.dfirst_k(s, slot, g, e), 0.0);
          r.dv(span.row, time(p), g, e) = std::exchange(r.dfirst_v(s, slot, g, e), 0.0);
        }
    const auto at = [&](auto& now, auto& cache, Index j, Index g, Index e) -> auto& {
      return j < past ? cache(s, j % z.slots, g, e) : now(span.row, time(j), g, e);
    };
    for (Index p = past; p < end; ++p)
      for (Index h = 0; h < z.heads; ++h) {
        const Index g = h / (z.heads / z.groups), t = time(p);
        const Index first = std::max(oldest, z.window > 0 ? p - z.window + 1 : 0);
        std::vector<double> w(static_cast<std::size_t>(p + 1));
        double largest = -1e300, sum = 0, mean = 0;
        for (Index j = first; j <= p; ++j) {
          double& score = w[static_cast<std::size_t>(j)];
          for (Index e = 0; e < z.head_size; ++e)
            score += scale * c.q(span.row, t, h, e) * at(c.k, c.cache_k, j, g, e);
          largest = std::max(largest, score);
        }
        for (Index j = first; j <= p; ++j)
          sum += w[static_cast<std::size_t>(j)] =
              std::exp(w[static_cast<std::size_t>(j)] - largest);
        for (Index j = first; j <= p; ++j)
          for (Index e = 0; e < z.head_size; ++e)
            r.y(span.row, t, h, e) +=
                w[static_cast<std::size_t>(j)] / sum * at(c.v, c.cache_v, j, g, e);
        for (Index e = 0; e < z.head_size; ++e)
          mean += c.dy(span.row, t, h, e) * r.y(span.row, t, h, e);
        for (Index j = first; j <= p; ++j) {
          const double weight = w[static_cast<std::size_t>(j)] / sum;
          double slope = -mean;
          for (Index e = 0; e < z.head_size; ++e) {
            slope += c.dy(span.row, t, h, e) * at(c.v, c.cache_v, j, g, e);
            at(r.dv, r.dfirst_v, j, g, e) += weight * c.dy(span.row, t, h, e);
          }
          slope *= weight * scale;
          for (Index e = 0; e < z.head_size; ++e) {
            r.dq(span.row, t, h, e) += slope * at(c.k, c.cache_k, j, g, e);
            at(r.dk, r.dfirst_k, j, g, e) += slope * c.q(span.row, t, h, e);
          }
        }
      }
    r.steps(s) = end;
  }
  return r;
}

template <class T>
void check_case(const Sizes& sizes, std::uint64_t seed) {
  INFO("length " << sizes.length << ", heads " << sizes.heads << " of " << sizes.groups
                 << " groups, " << sizes.head_size << " wide, window " << sizes.window << ", slots "
                 << sizes.slots << ", packed " << !sizes.ends.empty() << ", reversed "
                 << sizes.reversed);
  const Case<T> c(sizes, seed);
  auto got = run(c);
  auto want = reference(Case<double>(sizes, seed));
  const double bound = 64 * static_cast<double>(std::numeric_limits<T>::epsilon());
  std::vector<double> errors;
  got.each([&](auto name, auto& tensor) {
    want.each([&](auto its, auto& expected) {
      if (std::string(name) != its) return;
      INFO(name);
      if (sizes.slots == 0 && std::string(name).find("cache") != std::string::npos) return;
      CHECK(test::relative_error(tensor, expected, 1) <= bound);
    });
  });
  if (sizes.slots > 0) CHECK(test::same_bits(got.steps, want.steps));
  auto threaded = run(c, 3);
  got.each([&](auto name, auto& tensor) {
    threaded.each([&](auto its, auto& other) {
      INFO(name << " on three threads");
      if (std::string(name) == its) CHECK(test::same_bits(tensor, other));
    });
  });
}

}  // namespace

TEMPLATE_TEST_CASE("causal attention and its gradients are the formula, on any number of threads",
                   "", float, double) {
  std::uint64_t seed = 1;
  for (const Index length : {0, 1, 2, 63, 64, 65, 130, 200})
    for (const Index window : {0, 1, 70})
      check_case<TestType>({.batch = 2, .length = length, .head_size = 5, .window = window},
                           ++seed);
  check_case<TestType>({.length = 140, .heads = 6, .groups = 2, .head_size = 64}, ++seed);
  check_case<TestType>({.length = 90, .heads = 4, .groups = 4, .head_size = 16}, ++seed);
  check_case<TestType>({.length = 90, .heads = 3, .head_size = 33, .window = 20}, ++seed);
  check_case<TestType>({.length = 600, .heads = 2, .head_size = 7}, ++seed);
  check_case<TestType>({.batch = 0, .length = 3, .heads = 2, .head_size = 4}, ++seed);
}

TEMPLATE_TEST_CASE("causal attention sees the cache, and gives the one after", "", float, double) {
  std::uint64_t seed = 100;
  for (const Index length : {0, 1, 10, 100}) {
    check_case<TestType>({.batch = 3,
                          .length = length,
                          .heads = 4,
                          .groups = 2,
                          .head_size = 6,
                          .slots = 300,
                          .steps = {0, 7, 200}},
                         ++seed);
    check_case<TestType>({.batch = 3,
                          .length = length,
                          .heads = 2,
                          .groups = 2,
                          .head_size = 6,
                          .slots = 20,
                          .steps = {0, 7, 1000003},
                          .window = 20},
                         ++seed);
    check_case<TestType>({.batch = 3,
                          .length = length,
                          .heads = 2,
                          .head_size = 6,
                          .slots = 23,
                          .steps = {23, 22, 99},
                          .window = 9},
                         ++seed);
  }
}

TEMPLATE_TEST_CASE("causal attention of packed and of reversed sequences keeps each by itself", "",
                   float, double) {
  for (const bool reversed : {false, true}) {
    check_case<TestType>({.length = 180,
                          .heads = 4,
                          .groups = 2,
                          .head_size = 6,
                          .slots = 200,
                          .steps = {0, 3, 5, 50},
                          .ends = {0, 9, 9, 110, 180},
                          .reversed = reversed},
                         200);
    check_case<TestType>({.length = 180,
                          .heads = 2,
                          .head_size = 6,
                          .slots = 12,
                          .steps = {0, 3, 5, 50},
                          .window = 12,
                          .ends = {0, 9, 9, 110, 180},
                          .reversed = reversed},
                         201);
  }
}

TEST_CASE("causal attention in place of its cache, and of strided heads, gives the same bits") {
  const Case<float> c({.batch = 2,
                       .length = 30,
                       .heads = 4,
                       .groups = 2,
                       .head_size = 8,
                       .slots = 12,
                       .steps = {5, 40},
                       .window = 12},
                      300);
  auto want = run(c);
  auto k = c.cache_k, v = c.cache_v, dk = c.dcache_k, dv = c.dcache_v;
  auto steps = c.steps;
  // q, k and v side by side in the rows of one array.
  Tensor<float, 4> all({2, 30, 8, 8}), y(c.q.extents()), dall(all.extents());
  const auto parts = all.view().split(2, {4, 2, 2}), dparts = dall.view().split(2, {4, 2, 2});
  for (Index b = 0; b < 2; ++b)
    for (Index t = 0; t < 30; ++t)
      for (Index h = 0; h < 4; ++h)
        for (Index e = 0; e < 8; ++e) {
          parts[0](b, t, h, e) = c.q(b, t, h, e);
          if (h < 2) parts[1](b, t, h, e) = c.k(b, t, h, e);
          if (h < 2) parts[2](b, t, h, e) = c.v(b, t, h, e);
        }
  CausalAttentionScratch<float> scratch;
  CausalAttentionInputs<float> in{parts[0], parts[1], parts[2], {k, v, steps}};
  const auto options = c.options();
  causal_attention(cpu, in, options, {y, {k, v, steps}}, scratch);
  CHECK(test::same_bits(y, want.y));
  CHECK(test::same_bits(k, want.cache_k));
  CHECK(test::same_bits(v, want.cache_v));
  CHECK(test::same_bits(steps, want.steps));
  in.cache = {c.cache_k, c.cache_v, c.steps};
  causal_attention_backward(cpu, in, options, {c.dy, y, {dk, dv}},
                            {dparts[0], dparts[1], dparts[2], {dk, dv}}, scratch);
  CHECK(test::same_bits(dk, want.dfirst_k));
  CHECK(test::same_bits(dv, want.dfirst_v));
  bool same = true;
  for (Index b = 0; b < 2; ++b)
    for (Index t = 0; t < 30; ++t)
      for (Index h = 0; h < 4; ++h)
        for (Index e = 0; e < 8; ++e) {
          same = same && dparts[0](b, t, h, e) == want.dq(b, t, h, e);
          if (h < 2) same = same && dparts[1](b, t, h, e) == want.dk(b, t, h, e);
          if (h < 2) same = same && dparts[2](b, t, h, e) == want.dv(b, t, h, e);
        }
  CHECK(same);
}

TEMPLATE_TEST_CASE("a step of causal attention is its pass, and allocates nothing", "", float,
                   double) {
  for (const Index window : {0, 9}) {
    const Case<TestType> c({.batch = 2,
                            .length = 150,
                            .heads = 6,
                            .groups = 3,
                            .head_size = 9,
                            .slots = window > 0 ? 11 : 160,
                            .steps = {0, 10},
                            .window = window},
                           400);
    auto want = run(c);
    auto k = c.cache_k, v = c.cache_v;
    auto steps = c.steps;
    Tensor<TestType, 4> y(c.q.extents());
    const auto at = [](const auto& view, Index t) {
      const auto now = view.slice(1, t, 1);
      return std::remove_cvref_t<decltype(now[0])>(now.data(),
                                                   {now.extent(0), now.extent(2), now.extent(3)},
                                                   {now.stride(0), now.stride(2), now.stride(3)});
    };
    long allocations = 0;
    for (Index t = 0; t < 150; ++t)
      allocations += test::allocations_of([&] {
        causal_attention_step(
            CausalAttentionStepInputs<TestType>{at(c.q.view(), t), at(c.k.view(), t),
                                                at(c.v.view(), t)},
            c.options(), {k, v, steps}, at(y.view(), t));
      });
    CHECK(allocations == 0);
    const double bound = 64 * static_cast<double>(std::numeric_limits<TestType>::epsilon());
    CHECK(test::relative_error(y, want.y, 1) <= bound);
    CHECK(test::same_bits(k, want.cache_k));
    CHECK(test::same_bits(v, want.cache_v));
    CHECK(test::same_bits(steps, want.steps));
  }
}

TEST_CASE("scores of any size are softmaxed without overflow") {
  Case<float> c({.length = 100, .heads = 2, .head_size = 4}, 500);
  for (float& x : c.q) x *= 3000;
  Case<double> wide({.length = 100, .heads = 2, .head_size = 4}, 500);
  std::copy(c.q.begin(), c.q.end(), wide.q.begin());
  auto got = run(c);
  auto want = reference(wide);
  CHECK(test::relative_error(got.y, want.y, 1) <= 1e-2);  // of exponents near 1e4
}

TEST_CASE("what is not a number reaches no earlier block and no other sequence") {
  Case<float> c({.batch = 2, .length = 200, .head_size = 4}, 600);
  auto want = run(c);
  c.k(0, 150, 0, 1) = c.v(0, 150, 0, 2) = std::numeric_limits<float>::quiet_NaN();
  auto got = run(c);
  for (Index t = 0; t < 200; ++t)
    for (Index e = 0; e < 4; ++e) {
      CHECK(got.y(1, t, 0, e) == want.y(1, t, 0, e));
      CHECK(got.dk(1, t, 0, e) == want.dk(1, t, 0, e));
      if (t < 64) CHECK(got.y(0, t, 0, e) == want.y(0, t, 0, e));
      if (t >= 150) CHECK(std::isnan(got.y(0, t, 0, 0)));
    }
}

TEST_CASE("a window as large as numbers go is none, and scores as large have a softmax") {
  Case<double> c({.batch = 1, .length = 40, .heads = 2, .groups = 1, .head_size = 4}, 800);
  Tensor<double, 4> all(c.q.extents()), y(c.q.extents());
  CausalAttentionScratch<double> scratch;
  causal_attention(cpu, c.inputs(), {}, {all}, scratch);
  causal_attention(cpu, c.inputs(), {.window = (std::numeric_limits<Index>::max)()}, {y}, scratch);
  CHECK(test::relative_error(y, all) < 1e-14);
  c.q.fill(1e16);
  c.k.fill(-1e16);
  c.v.fill(3);
  causal_attention(cpu, c.inputs(), {}, {y}, scratch);
  for (const double x : y) CHECK(x == Approx(3));
}

TEST_CASE("causal attention names the argument that it refuses") {
  Case<float> c({.batch = 2,
                 .length = 5,
                 .heads = 4,
                 .groups = 2,
                 .head_size = 3,
                 .slots = 8,
                 .steps = {1, 3}},
                700);
  Tensor<float, 4> y(c.q.extents()), other({2, 5, 3, 3});
  CausalAttentionScratch<float> scratch;
  auto in = c.inputs();
  CHECK_THROWS_WITH(causal_attention(cpu, in, {}, {other}, scratch),
                    "causal_attention: y is (2, 5, 3, 3), expected (2, 5, 4, 3)");
  CHECK_THROWS_WITH(causal_attention(cpu, in, {}, {c.q}, scratch),
                    "causal_attention: y is in the memory of q, expected memory of its own");
  CHECK_THROWS_WITH(causal_attention(cpu, in, {.window = -1}, {y}, scratch),
                    "causal_attention: window is -1, expected 0 or more");
  in.q = other;
  CHECK_THROWS_WITH(causal_attention(cpu, in, {}, {other}, scratch),
                    "causal_attention: q is (2, 5, 3, 3), expected heads of one element or more, a "
                    "multiple of 2 groups of keys");
  in = c.inputs();
  c.steps(1) = 4;
  CHECK_THROWS_WITH(
      causal_attention(cpu, in, {}, {y, {c.cache_k, c.cache_v, c.steps}}, scratch),
      "causal_attention: cache is of 8 steps, expected room for 9, or a window that fits into it");
  CHECK(c.steps(1) == 4);
  for (const Index none : {Index{-1}, (std::numeric_limits<Index>::max)() - 2}) {
    c.steps(0) = none;  // such as a file may say
    CHECK_THROWS_WITH(
        causal_attention(cpu, in, {.window = 8}, {y}, scratch),
        test::contains("causal_attention: cache.steps[0] is " + std::to_string(none)));
  }
  c.steps(0) = 1;
  c.steps(1) = 3;
  causal_attention(cpu, in, {}, {y}, scratch);
  auto dq = c.q, dk = c.k, dv = c.v;
  CHECK_THROWS_WITH(
      causal_attention_backward(cpu, in, {}, {c.dy, y}, {dq, dk, dv}, scratch),
      test::contains("causal_attention_backward: scratch is of no call that kept anything"));
  CHECK_THROWS_WITH(causal_attention_backward(cpu, in, {}, {c.dy, y}, {dq, dk, dk}, scratch),
                    "causal_attention_backward: the gradient of v is in the memory of the gradient "
                    "of k, expected memory of its own");

  Tensor<float, 3> now({2, 4, 3}), key({2, 2, 3}), out({2, 4, 3});
  const CausalAttentionStepInputs<float> step{now, key, key};
  c.steps(1) = 8;
  CHECK_THAT(test::last_words([&] {
               causal_attention_step(step, {}, {c.cache_k, c.cache_v, c.steps}, out.view());
             }),
             test::contains("causal_attention_step: cache is of 8 steps, expected room for 9"));
  CHECK(test::last_words([&] {
          causal_attention_step(step, {.window = 8}, {c.cache_k, c.cache_v, c.steps}, out.view());
        }).empty());
}

}  // namespace causal_attention_test
