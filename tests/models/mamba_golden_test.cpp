#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>

#include "ssm/io/checkpoint.hpp"
#include "ssm/io/safetensors.hpp"
#include "ssm/models/mamba_lm.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

/// A tiny Mamba against the same model in transformers; golden/make_mamba.py says what the files
/// hold.

using namespace ssm;

namespace {

const std::filesystem::path directory = SSM_SOURCE_DIR "/tests/golden/mamba";

/// The name in transformers of a parameter of state-spaces/mamba.
std::string transformers_name(const std::string& name) {
  return name == "backbone.embedding.weight" ? "backbone.embeddings.weight" : name;
}

template <class T>
struct Golden {
  MambaLM<T> weights = load_mamba_lm<T>(directory);
  SafetensorsReader expected{directory / "expected.safetensors"};
  std::string precision = std::is_same_v<T, float> ? "float32/" : "float64/";
  Tensor<T, 3> logits = expected.read<T, 3>(precision + "logits");
  Tensor<Token, 2> tokens;

  Golden() {
    const auto read = expected.read<std::int64_t, 2>("tokens");
    tokens.resize(read.extents());
    std::transform(read.begin(), read.end(), tokens.begin(),
                   [](std::int64_t token) { return static_cast<Token>(token); });
  }

  void check_state(const typename MambaLM<T>::State& state) {
    REQUIRE(state.layers.size() == 2);
    for (std::size_t i = 0; i < state.layers.size(); ++i) {
      CAPTURE(i);
      const std::string layer = std::to_string(i);
      const auto conv = expected.read<T, 3>(precision + "conv_state/" + layer);
      const auto scan = expected.read<T, 3>(precision + "scan_state/" + layer);
      CHECK(test::relative_error(state.layers[i].conv, conv) <= tolerance);
      CHECK(test::relative_error(state.layers[i].scan, scan) <= tolerance);
    }
  }

  /// Both sides round in every product and sum of two layers, none of which cancels much.
  static constexpr double tolerance = 32 * static_cast<double>(std::numeric_limits<T>::epsilon());
};

}  // namespace

TEMPLATE_TEST_CASE("logits and final states equal those of transformers", "", float, double) {
  using T = TestType;
  Golden<T> golden;
  const Index batch = golden.tokens.extent(0);
  for (const int threads : {1, 2}) {
    CAPTURE(threads);
    auto state = make_state(golden.weights, batch);
    typename MambaLM<T>::Scratch scratch;
    Tensor<T, 3> logits(golden.logits.extents());
    forward(cpu(threads), golden.weights, golden.tokens, state, logits, {}, scratch);
    CHECK(test::relative_error(logits, golden.logits) <= golden.tolerance);
    golden.check_state(state);
  }
}

TEMPLATE_TEST_CASE("token by token, logits and final states equal those of transformers", "", float,
                   double) {
  using T = TestType;
  Golden<T> golden;
  const auto [batch, length] = golden.tokens.extents();
  auto state = make_state(golden.weights, batch);
  typename MambaLM<T>::Stepper stepper(golden.weights, batch);
  Tensor<T, 3> logits(golden.logits.extents());
  Tensor<Token, 1> now({batch});
  Tensor<T, 2> next({batch, golden.logits.extent(2)});
  for (Index t = 0; t < length; ++t) {
    for (Index b = 0; b < batch; ++b) now(b) = golden.tokens(b, t);
    step(stepper, now.view(), state, next);
    for (Index b = 0; b < batch; ++b)
      for (Index v = 0; v < next.extent(1); ++v) logits(b, t, v) = next(b, v);
  }
  CHECK(test::relative_error(logits, golden.logits) <= golden.tolerance);
  golden.check_state(state);
}

TEMPLATE_TEST_CASE("the loss and its gradient by every weight equal those of transformers", "",
                   float, double) {
  using T = TestType;
  Golden<T> golden;
  const auto [batch, length] = golden.tokens.extents();
  const View<const Token, 2> tokens = golden.tokens;
  const auto loss = golden.expected.template read<T, 1>(golden.precision + "loss");
  for (const int threads : {1, 2}) {
    CAPTURE(threads);
    auto state = make_state(golden.weights, batch);
    typename MambaLM<T>::Scratch scratch;
    MambaLM<T> gradients = golden.weights;  // to be overwritten
    const double got =
        ssm::loss(cpu(threads), golden.weights, tokens.slice(1, 0, length - 1),
                  tokens.slice(1, 1, length - 1), state, gradients, {}, scratch);
    CHECK(std::abs(got - static_cast<double>(loss(0))) <= golden.tolerance * got);
    parameters(gradients, [&](std::string_view view, const auto& gradient, const auto&, bool) {
      const std::string name(view);
      CAPTURE(name);
      auto want = gradient;
      golden.expected.read_into(golden.precision + "gradient/" + transformers_name(name),
                                detail::shape_in_file(name, gradient.extents()), want.data());
      CHECK(test::relative_error(gradient, want) <= golden.tolerance);
    });
  }
}
