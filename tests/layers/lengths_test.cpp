#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

#include "../../examples/gru.hpp"
#include "ssm/layers/gated.hpp"
#include "ssm/layers/mamba.hpp"
#include "ssm/layers/mamba_step.hpp"
#include "ssm/layers/one_of.hpp"
#include "ssm/layers/pack_sequences.hpp"
#include "ssm/layers/projected.hpp"
#include "ssm/layers/residual.hpp"
#include "ssm/layers/s4.hpp"
#include "ssm/layers/s4d.hpp"
#include "ssm/layers/s5.hpp"
#include "ssm/layers/stack.hpp"
#include "support/catch.hpp"
#include "support/length_laws.hpp"
#include "support/random.hpp"

/// Sequences of different lengths in one call, for every layer and block: each gives what it gives
/// alone.

using namespace ssm;
using test::Random;

namespace {

/// Any weights near those that a layer starts with.
template <class Layer>
Layer draw(const typename Layer::Config& config, std::uint64_t seed) {
  Random random(seed);
  Layer layer(config);
  initialize(layer, seed);
  parameters(layer, [&](const auto&, auto& tensor, const auto&, bool) {
    for (auto& x : tensor) x += static_cast<typename Layer::value_type>(0.2 * random.normal());
  });
  return layer;
}

constexpr MambaConfig tiny{.width = 4, .inner = 6, .state = 3, .conv_width = 3, .dt_rank = 2};
constexpr std::array forms{S4dForm::fastest, S4dForm::scan, S4dForm::convolution,
                           S4dForm::recurrence};

}  // namespace

TEST_CASE("S4D runs sequences of different lengths, in every form and direction") {
  for (const S4dForm form : forms)
    for (const bool bidirectional : {false, true}) {
      INFO("form " << static_cast<int>(form) << " bidirectional " << bidirectional);
      test::check_lengths(draw<S4d<double>>(
          {.width = 3, .state = 8, .bidirectional = bidirectional, .form = form}, 1));
    }
}

TEST_CASE("S4D of a named form gives packed sequences the very bits that each gives alone") {
  for (const S4dForm form : {S4dForm::scan, S4dForm::convolution, S4dForm::recurrence})
    for (const bool bidirectional : {false, true}) {
      INFO("form " << static_cast<int>(form) << " bidirectional " << bidirectional);
      const auto layer = draw<S4d<float>>(
          {.width = 9, .state = 16, .bidirectional = bidirectional, .form = form}, 2);
      const test::LayerLaws laws;
      Random random(3);
      for (std::uint64_t seed = 100; seed < 400; seed += 50) {
        const test::PackedCall<S4d<float>> call(layer, test::draw_lengths(random, 6, 90), seed,
                                                laws);
        const auto all = test::run(layer, call.given, laws, call.options(false), 2);
        for (Index s = 0; s < call.count(); ++s) {
          INFO("sequence " << s << " of length " << call.length(s));
          const auto want = test::run(layer, call.alone(s, laws), laws);
          CHECK(test::detail::same_bits(call.part(all, s, laws),
                                        test::results_without_weights(want, laws)));
        }
      }
    }
}

TEST_CASE("DSS runs sequences of different lengths, also where L is the length of each") {
  for (const bool bidirectional : {false, true}) {
    test::check_lengths(draw<S4d<double>>(
        {.width = 3, .state = 8, .bidirectional = bidirectional, .dss = true, .dss_length = 20},
        4));
    test::LayerLaws laws;
    laws.states = false;
    laws.rounding = 200;  // a sequence of one step divides by e^{Δλ} − 1
    test::check_lengths(
        draw<S4d<double>>({.width = 3, .state = 8, .bidirectional = bidirectional, .dss = true}, 5),
        laws);
  }
}

TEST_CASE("S5 runs sequences of different lengths, in one direction and in both") {
  for (const bool bidirectional : {false, true})
    test::check_lengths(
        draw<S5<double>>({.width = 3, .state = 8, .bidirectional = bidirectional}, 6));
}

TEST_CASE("S4 runs sequences of different lengths, in one direction and in both") {
  test::LayerLaws laws;
  laws.rounding = 200;
  for (const bool bidirectional : {false, true})
    test::check_lengths(
        draw<S4<double>>({.width = 3, .state = 8, .bidirectional = bidirectional}, 7), laws);
}

TEST_CASE("Mamba and a GRU run sequences of different lengths") {
  test::check_lengths(draw<Mamba<double>>(tiny, 8));
  test::check_lengths(draw<gru::Gru<double>>({3}, 9));
}

TEST_CASE("blocks, stacks and projected stacks run sequences of different lengths") {
  constexpr S5Config s5{.width = 3, .state = 8};
  constexpr S4dConfig s4d{.width = 4, .state = 8};
  test::check_lengths(draw<Residual<Mamba<double>>>({tiny, 1e-5}, 10));
  test::check_lengths(draw<Gated<Mamba<double>>>({tiny}, 11));
  test::check_lengths(draw<Stack<S4Block<S5<double>>>>({3, {{s5}, 1e-5}}, 12));
  test::check_lengths(
      draw<Projected<Stack<S4Block<S4d<double>>>>>({.width = 2, .inner = {2, {{s4d}, 1e-5}}}, 13));
  using Mixed = OneOf<Mamba<double>, S4d<double>>;
  StackConfig<Mixed> mixed(2, {tiny});
  mixed.layers[1].kind = s4d;
  test::check_lengths(draw<Stack<Mixed>>(mixed, 14));
}

TEST_CASE("padding on either side moves no output and gets no gradient") {
  const auto layer = draw<Stack<S4Block<S4d<double>>>>({2, {{{.width = 3, .state = 8}}, 1e-5}}, 15);
  using Layer = Stack<S4Block<S4d<double>>>;
  Tensor<Index, 1> lengths({4});
  for (Index s = 0; const Index length : {5, 0, 9, 1}) lengths(s++) = length;
  const auto offsets = offsets_of(lengths);
  for (const Padding padding : {Padding::after, Padding::before}) {
    Tensor<double, 3> u({4, 9, 3}), y(u.extents()), dy = Random(16).normal<double, 3>(y.extents()),
                                                    du(u.extents());
    u.fill(std::numeric_limits<double>::quiet_NaN());
    const auto first = [&](Index s) { return padding == Padding::after ? 0 : 9 - lengths(s); };
    const auto drawn = Random(17).normal<double, 3>(u.extents());
    for (Index s = 0; s < 4; ++s)
      for (Index t = 0; t < lengths(s); ++t)
        for (Index c = 0; c < 3; ++c) u(s, first(s) + t, c) = drawn(s, t, c);
    const std::array<Index, 3> extents{1, offsets(4), 3};
    Tensor<double, 3> packed(extents), out(extents), dout(extents), din(extents);
    PackSequencesScratch<double> pack;
    UnpackSequencesScratch<double> unpack;
    ScratchOf<Layer> scratch;
    Layer gradients;
    LayerOptions<> options;
    options.sequences.offsets = offsets;
    pack_sequences(cpu, {u, offsets}, {padding}, {packed}, pack);
    forward(cpu, layer, packed, {}, out, options, scratch);
    unpack_sequences(cpu, {out, offsets}, {padding}, {y}, unpack);
    pack_sequences(cpu, {dy, offsets}, {padding}, {dout}, pack);
    backward(cpu, layer, packed, {}, dout, din, gradients, options, scratch);
    unpack_sequences(cpu, {din, offsets}, {padding}, {du}, unpack);
    for (Index s = 0; s < 4; ++s) {
      const auto steps = [&](const Tensor<double, 3>& x) {
        return x.view().slice(0, s, 1).slice(1, first(s), lengths(s));
      };
      Tensor<double, 3> alone({1, lengths(s), 3}), dalone(alone.extents());
      forward(cpu, layer, steps(u), {}, alone, {}, scratch);
      backward(cpu, layer, steps(u), {}, steps(dy), dalone, gradients, {}, scratch);
      for (Index t = 0; t < 9; ++t)
        for (Index c = 0; c < 3; ++c) {
          const Index i = t - first(s);
          const bool inside = i >= 0 && i < lengths(s);
          CHECK(std::abs(y(s, t, c) - (inside ? alone(0, i, c) : 0)) <= 1e-12);
          CHECK(std::abs(du(s, t, c) - (inside ? dalone(0, i, c) : 0)) <= 1e-12);
        }
    }
  }
}
