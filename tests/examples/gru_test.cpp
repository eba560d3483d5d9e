#include "../../examples/gru.hpp"

#include <cmath>

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/layer_laws.hpp"
#include "support/random.hpp"

using namespace ssm;
using test::Random;

static_assert(SequenceLayer<gru::Gru<float>> && SequenceLayer<gru::Gru<double>>);

namespace {

template <class T>
gru::Gru<T> draw(Index width, std::uint64_t seed) {
  gru::Gru<T> layer(gru::Config{width});
  initialize(layer, seed);
  return layer;
}

const test::LayerLaws laws{.rates = false};

}  // namespace

TEST_CASE("a GRU, the example of a layer of one's own, keeps the laws of layers") {
  test::check_layer_laws(draw<double>(3, 1), laws);
  test::check_precision(draw<float>(3, 2), draw<double>(3, 2), laws);
}

TEST_CASE("a GRU's bits do not depend on threads, with more sequences than are taken at once") {
  test::LayerLaws many = laws;
  many.batch = 19;
  test::check_threads(draw<double>(5, 3), many);
}

TEST_CASE("a GRU is its formula, element by element") {
  const auto layer = draw<double>(3, 4);
  const auto u = Random(5).normal<double, 3>({1, 6, 3});
  Tensor<double, 3> y(u.extents()), want(u.extents());
  gru::Scratch<double> scratch;
  auto state = make_state(layer, 1);
  state.h = Random(6).normal<double, 2>({1, 3});
  auto h = state.h;
  const auto sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
  for (Index t = 0; t < 6; ++t) {
    const auto before = h;
    const auto by_input = [&](Index row) {
      double sum = layer.bias(row);
      for (Index i = 0; i < 3; ++i) sum += layer.input(row, i) * u(0, t, i);
      return sum;
    };
    const auto by_state = [&](Index row) {
      double sum = 0;
      for (Index i = 0; i < 3; ++i) sum += layer.recurrent(row, i) * before(0, i);
      return sum;
    };
    for (Index i = 0; i < 3; ++i) {
      const double r = sigmoid(by_input(i) + by_state(i));
      const double z = sigmoid(by_input(3 + i) + by_state(3 + i));
      const double n = std::tanh(by_input(6 + i) + r * (by_state(6 + i) + layer.candidate(i)));
      h(0, i) = (1 - z) * n + z * before(0, i);
      want(0, t, i) = h(0, i);
    }
  }
  forward(cpu(1), layer, u, state, y, {}, scratch);
  CHECK(test::relative_error(y, want) < 1e-14);
  CHECK(test::relative_error(state.h, h) < 1e-14);
}
