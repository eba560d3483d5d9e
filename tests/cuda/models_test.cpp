#include "ssm/cuda/models.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "ssm/cuda.hpp"
#include "ssm/models/mamba_lm.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/cuda_api.hpp"
#include "support/random.hpp"

/// Layers and models on a device, through the same code as on the CPU and held to it.
namespace cuda_models_test {

using namespace ssm;
using test::Random;
using test::relative_error;

namespace {

template <class T>
MambaLMConfig small_config(bool everything) {
  MambaLMConfig config{.vocab = 11, .width = 12, .layers = 2, .state = 3};
  if (everything) config.bias = true, config.projection_epsilon = 1e-5, config.tied = false;
  return config;
}

template <class T>
MambaLM<T> drawn(bool everything) {
  MambaLM<T> model(mamba_lm_config<T>(small_config<T>(everything)));
  initialize(model, 3);
  Random random(4);
  parameters(model, [&](const auto&, auto& tensor, const auto&, bool) {
    for (auto& x : tensor) x += static_cast<T>(random.normal() * 0.05);
  });
  return model;
}

Tensor<Token, 2> drawn_tokens(std::array<Index, 2> extents, std::uint64_t seed) {
  Random random(seed);
  Tensor<Token, 2> tokens(extents);
  for (Token& token : tokens) token = static_cast<Token>(random.integer(0, 10));
  return tokens;
}

/// The largest error of a parameter, or of what takes its place, over its own size.
template <class OnDeviceModel, class Model>
double parameter_error(const Cuda& stream, const OnDeviceModel& got, const Model& want,
                       double floor) {
  Model host(want.config);
  copy_parameters(stream, got, host);
  synchronize(stream);
  std::vector<double> errors;
  parameters(std::as_const(host), [&](const auto& name, const auto& tensor, const auto&, bool) {
    parameters(want, [&](const auto& other, const auto& expected, const auto&, bool) {
      if constexpr (std::is_same_v<decltype(tensor), decltype(expected)>)
        if (std::string(name) == std::string(other))
          errors.push_back(relative_error(tensor, expected, floor));
    });
  });
  REQUIRE_FALSE(errors.empty());
  double most = 0;
  for (const double error : errors) most = test::worse(most, error);
  return most;
}

template <class State, class HostState>
double state_error(const Cuda& stream, State& got, HostState& want) {
  std::vector<double> errors;
  for (std::size_t i = 0; i < want.layers.size(); ++i) {
    errors.push_back(
        relative_error(to_host(stream, got.layers[i].conv), want.layers[i].conv, 1e-3));
    errors.push_back(
        relative_error(to_host(stream, got.layers[i].scan), want.layers[i].scan, 1e-3));
  }
  return *std::max_element(errors.begin(), errors.end());
}

}  // namespace

TEMPLATE_TEST_CASE("a Mamba language model on a device computes what it does on the CPU", "", float,
                   double) {
  using T = TestType;
  const double epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
  const Stream stream;
  for (const bool everything : {false, true})
    for (const Index length : {0, 1, 9, 40}) {
      CAPTURE(everything, length);
      const MambaLM<T> host = drawn<T>(everything);
      const auto model = to_device(stream, host);
      const Index batch = 2, vocab = host.config.vocab;
      const auto tokens = drawn_tokens({batch, length}, 5),
                 targets = drawn_tokens({batch, length}, 6);
      const auto on_tokens = to_device(stream, tokens), on_targets = to_device(stream, targets);
      auto state = make_state(host, batch);
      auto on_state = make_state(stream, model, batch);
      LanguageModelScratch<Residual<Mamba<T>>> scratch;
      ScratchOf<OnDevice<MambaLM<T>>> on_scratch;
      Tensor<T, 3> logits({batch, length, vocab}), dlogits(logits);
      DeviceTensor<T, 3> on_logits(stream, logits.extents());
      for (int part = 0; part < 2; ++part) {  // from zero, then from the state that is left
        forward(cpu, host, tokens, state, logits, {}, scratch);
        forward(stream, model, on_tokens, Maybe(on_state), on_logits, {}, on_scratch);
        CHECK(relative_error(to_host(stream, on_logits), logits, 1e-3) <= 2000 * epsilon);
        CHECK(state_error(stream, on_state, state) <= 2000 * epsilon);
      }
      // All gradients, that of the state too.
      dlogits = Random(7).normal<T, 3>(logits.extents());
      auto on_dlogits = to_device(stream, dlogits);
      auto dstate = make_state(host, batch);
      auto on_dstate = make_state(stream, model, batch);
      MambaLM<T> gradients;
      OnDevice<MambaLM<T>> on_gradients;
      backward(cpu, host, tokens, dstate, dlogits, gradients, {}, scratch);
      backward(stream, model, on_tokens, Maybe(on_dstate), std::as_const(on_dlogits).view(),
               on_gradients, {}, on_scratch);
      CHECK(parameter_error(stream, on_gradients, gradients, 1e-3) <= 4000 * epsilon);
      CHECK(state_error(stream, on_dstate, dstate) <= 4000 * epsilon);
      if (length == 0) continue;
      const double want = loss(cpu, host, tokens, targets, {}, gradients, {}, scratch);
      const double got =
          loss(stream, model, on_tokens, on_targets, {}, on_gradients, {}, on_scratch);
      CHECK(std::abs(got - want) <= 200 * epsilon * want);
      CHECK(parameter_error(stream, on_gradients, gradients, 1e-3) <= 4000 * epsilon);
    }
}

TEST_CASE("a prompt read at once on a device and read token by token leave the same") {
  const Stream stream;
  const auto host = drawn<float>(false);
  const auto model = to_device(stream, host);
  const Index batch = 2, length = 21, vocab = host.config.vocab;
  const auto tokens = to_device(stream, drawn_tokens({batch, length}, 8));
  auto whole = make_state(stream, model, batch), stepped = make_state(stream, model, batch);
  ScratchOf<OnDevice<MambaLM<float>>> scratch, step_scratch;
  DeviceTensor<float, 3> logits(stream, {batch, length, vocab}), now(stream, {batch, 1, vocab});
  const LayerOptions<Device> inference{.keep = false};
  forward(stream, model, tokens, Maybe(whole), logits, inference, scratch);
  const auto want = to_host(stream, logits);
  double most = 0;
  for (Index t = 0; t < length; ++t) {
    forward(stream, model, std::as_const(tokens).view().slice(1, t, 1), Maybe(stepped), now,
            inference, step_scratch);
    const auto got = to_host(stream, now);
    for (Index b = 0; b < batch; ++b)
      for (Index v = 0; v < vocab; ++v)
        most = std::max(most, static_cast<double>(std::abs(got(b, 0, v) - want(b, t, v))));
  }
  CHECK(most <= 1e-5);
  for (std::size_t i = 0; i < whole.layers.size(); ++i) {
    CHECK(relative_error(to_host(stream, stepped.layers[i].conv),
                         to_host(stream, whole.layers[i].conv)) <= 1e-5);
    CHECK(relative_error(to_host(stream, stepped.layers[i].scan),
                         to_host(stream, whole.layers[i].scan)) <= 1e-5);
  }
}

TEST_CASE("a graph decodes as the calls that it was made of do, token after token") {
  test::in_every_order(4, [] {
    const Stream stream;
    const auto host = drawn<float>(true);
    const auto model = to_device(stream, host);
    const Index batch = 2, steps = 6, vocab = host.config.vocab;
    const auto tokens = drawn_tokens({steps, batch}, 9);
    auto state = make_state(host, batch);
    LanguageModelScratch<Residual<Mamba<float>>> scratch;
    Tensor<float, 3> logits({batch, 1, vocab});

    DeviceTensor<Token, 2> now(stream, {batch, 1});
    auto on_state = make_state(stream, model, batch);
    ScratchOf<OnDevice<MambaLM<float>>> on_scratch;
    DeviceTensor<float, 3> on_logits(stream, {batch, 1, vocab});
    const auto step = [&] {
      forward(stream, model, std::as_const(now).view(), Maybe(on_state), on_logits, {.keep = false},
              on_scratch);
    };
    zero(stream, now.view());
    CHECK_THROWS_AS(Graph(stream, step), CudaError);  // it would allocate
    step();
    const Graph graph(stream, step);
    for (auto& layer : on_state.layers)
      zero(stream, layer.conv.view()), zero(stream, layer.scan.view());
    for (Index t = 0; t < steps; ++t) {
      const View<const Token, 2> column(tokens.data() + t * batch, {batch, 1});
      forward(cpu, host, column, state, logits, {.keep = false}, scratch);
      copy(stream, column, now.view());
      graph.launch(stream);
      CHECK(relative_error(to_host(stream, on_logits), logits) <= 1e-5);
    }
  });
}

TEST_CASE("a classifier on a device computes what it does on the CPU, of packed sequences too") {
  using Layer = Residual<Gated<Mamba<double>>>;
  using Model = SequenceClassifier<Layer>;
  const Stream stream;
  Model host({.inputs = 3, .classes = 4, .backbone = {2, {{{.width = 8, .state = 3}}}}});
  initialize(host, 10);
  const auto model = to_device(stream, host);
  const auto sequences = Random(11).normal<double, 3>({1, 30, 3});
  Tensor<Index, 1> offsets({4});
  offsets(0) = 0, offsets(1) = 7, offsets(2) = 8, offsets(3) = 30;
  Tensor<Token, 1> labels({3});
  labels(0) = 1, labels(1) = -100, labels(2) = 3;
  const auto on_sequences = to_device(stream, sequences);
  const auto on_offsets = to_device(stream, offsets);
  const auto on_labels = to_device(stream, labels);
  LayerOptions<> options;
  LayerOptions<Device> on_options;
  options.sequences.offsets = offsets, on_options.sequences.offsets = on_offsets;
  options.dropout = on_options.dropout = {.probability = 0.2, .seed = 5};
  Tensor<double, 2> logits({3, 4});
  DeviceTensor<double, 2> on_logits(stream, logits.extents());
  SequenceClassifierScratch<Layer> scratch;
  ScratchOf<OnDevice<Model>> on_scratch;
  forward(cpu, host, sequences, logits, options, scratch);
  forward(stream, model, std::as_const(on_sequences).view(), on_logits, on_options, on_scratch);
  CHECK(relative_error(to_host(stream, on_logits), logits) <= 1e-12);
  Model gradients;
  OnDevice<Model> on_gradients;
  const double want = loss(cpu, host, sequences, labels, gradients, options, scratch);
  const double got = loss(stream, model, std::as_const(on_sequences).view(),
                          std::as_const(on_labels).view(), on_gradients, on_options, on_scratch);
  CHECK(std::abs(got - want) <= 1e-13 * want);
  CHECK(parameter_error(stream, on_gradients, gradients, 1e-6) <= 1e-11);
}

TEST_CASE("parameters are copied only between models of one configuration") {
  const Stream stream;
  const auto host = drawn<float>(false);
  const auto model = to_device(stream, host);
  MambaLM<float> other = drawn<float>(true), back(host.config);
  CHECK_THROWS_WITH(copy_parameters(stream, model, other),
                    "copy_parameters: to is of another configuration, expected that of from");
  copy_parameters(stream, model, back);
  synchronize(stream);
  CHECK(test::same_bits(back.embedding, host.embedding));
  CHECK(test::same_bits(back.backbone.layers[1].mixer.A_log, host.backbone.layers[1].mixer.A_log));
}

}  // namespace cuda_models_test
