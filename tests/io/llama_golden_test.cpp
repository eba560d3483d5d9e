#include <filesystem>
#include <limits>
#include <string>

#include "ssm/io/safetensors.hpp"
#include "ssm/layers/attention.hpp"
#include "ssm/layers/gated_mlp.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

/// Attention and the gated multilayer perceptron against those of Llama in transformers;
/// golden/make_attention.py says what the file holds.
namespace llama_golden_test {

using namespace ssm;

namespace {

const std::filesystem::path golden = SSM_SOURCE_DIR "/tests/golden/attention.safetensors";

/// What the file rounds to float32, and the softmax of transformers.
constexpr double tolerance = 16 * static_cast<double>(std::numeric_limits<float>::epsilon());

template <class T, std::size_t Rank>
Tensor<T, Rank> read(const SafetensorsReader& file, const std::string& name) {
  const auto from = file.read<float, Rank>(name);
  Tensor<T, Rank> to(from.extents());
  std::copy(from.begin(), from.end(), to.begin());
  return to;
}

template <class Layer>
void check_case(const std::string& name, Layer layer) {
  using T = typename Layer::value_type;
  const SafetensorsReader file(golden);
  parameters(layer, [&](const auto& its, auto& tensor, const auto& extents, bool) {
    const auto weight = read<T, 2>(file, name + "/weight/" + std::string(its));
    REQUIRE(weight.extents() == extents);
    tensor = weight;
  });
  const auto x = read<T, 3>(file, name + "/input"), dy = read<T, 3>(file, name + "/doutput");
  Tensor<T, 3> y(x.extents()), dx(x.extents());
  ScratchOf<Layer> scratch;
  Layer gradients;
  forward(cpu, layer, x, Maybe<StateOf<Layer>>(), y, {}, scratch);
  backward(cpu, layer, x, Maybe<StateOf<Layer>>(), dy, dx, gradients, {}, scratch);
  CHECK(test::relative_error(y, read<double, 3>(file, name + "/output")) <= tolerance);
  CHECK(test::relative_error(dx, read<double, 3>(file, name + "/gradient/input")) <= tolerance);
  parameters(gradients, [&](const auto& its, auto& tensor, const auto&, bool) {
    INFO(name << " by " << its);
    const auto want = read<double, 2>(file, name + "/gradient/" + std::string(its));
    CHECK(test::relative_error(tensor, want) <= tolerance);
  });
}

}  // namespace

TEMPLATE_TEST_CASE("attention and the gated multilayer perceptron are those of Llama", "", float,
                   double) {
  check_case("attention",
             Attention<TestType>({.width = 16, .heads = 4, .groups = 2, .rotary = 100}));
  check_case("mlp", GatedMlp<TestType>({.width = 16, .inner = 24}));
}

}  // namespace llama_golden_test
