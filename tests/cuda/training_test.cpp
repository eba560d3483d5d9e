#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "ssm/cuda.hpp"
#include "ssm/cuda/models.hpp"
#include "ssm/cuda/optimizer.hpp"
#include "ssm/cuda/sample_tokens.hpp"
#include "ssm/models/mamba_lm.hpp"
#include "ssm/models/sampling.hpp"
#include "ssm/train/trainer.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/cuda_api.hpp"
#include "support/random.hpp"

/// Training and sampling on a device.
namespace cuda_training_test {

using namespace ssm;
using test::Random;
using test::relative_error;

namespace {

MambaLM<double> drawn() {
  MambaLM<double> model(mamba_lm_config<double>({.vocab = 7, .width = 8, .layers = 2, .state = 2}));
  initialize(model, 3);
  return model;
}

Tensor<Token, 2> drawn_tokens(std::uint64_t seed, Index batch = 2, Index length = 9) {
  Random random(seed);
  Tensor<Token, 2> tokens({batch, length});
  for (Token& token : tokens) token = static_cast<Token>(random.integer(0, 6));
  return tokens;
}

double weight_error(const Cuda& stream, const OnDevice<MambaLM<double>>& got,
                    const MambaLM<double>& want) {
  MambaLM<double> host(want.config);
  copy_parameters(stream, got, host);
  synchronize(stream);
  double most = relative_error(host.embedding, want.embedding);
  for (std::size_t i = 0; i < 2; ++i) {
    const auto &a = host.backbone.layers[i].mixer, &b = want.backbone.layers[i].mixer;
    for (const double error :
         {relative_error(a.in_proj, b.in_proj), relative_error(a.A_log, b.A_log),
          relative_error(a.dt_bias, b.dt_bias), relative_error(a.conv_weight, b.conv_weight),
          relative_error(a.out_proj, b.out_proj), relative_error(a.D, b.D)})
      most = test::worse(most, error);
  }
  return most;
}

const TrainerOptions options{.schedule = {.peak = 0.02, .warmup = 2, .steps = 8},
                             .adamw = {.weight_decay = 0.3},
                             .max_norm = 0.7};

}  // namespace

TEST_CASE("a graph of a training step moves the weights as the trainer of the CPU does") {
  test::in_every_order(3, [] {
    const Stream stream;
    Trainer<MambaLM<double>> trainer(drawn(), options);
    trainer.groups = SystemGroups{.learning_rate = 0.3};
    LanguageModelScratch<Residual<Mamba<double>>> host_scratch;

    auto model = to_device(stream, drawn());
    using Model = decltype(model);
    DeviceOptimizer<Model> optimizer(stream, model);
    Model gradients;
    ScratchOf<Model> scratch;
    CrossEntropyScratch<double, Device> losses;
    DeviceTensor<Token, 2> tokens(stream, {2, 9}), targets(stream, {2, 9});
    DeviceTensor<double, 3> logits(stream, {2, 9, 7});
    DeviceTensor<double, 1> nats(stream, {1});
    const View<double, 2, Device> rows(logits.data(), {18, 7});
    const auto step = [&] {
      forward(stream, model, std::as_const(tokens).view(), {}, logits, {}, scratch);
      cross_entropy(stream, CrossEntropyInputs<double, Device>{rows, targets}, {}, {rows},
                    nats.view(), losses);
      backward(stream, model, std::as_const(tokens).view(), {}, std::as_const(logits).view(),
               gradients, {}, scratch);
      optimizer_step(stream, model, gradients, optimizer, options,
                     SystemGroups{.learning_rate = 0.3});
    };
    Graph graph;
    for (int i = 0; i < 10; ++i) {
      const auto read = drawn_tokens(static_cast<std::uint64_t>(20 + i)),
                 next = drawn_tokens(static_cast<std::uint64_t>(40 + i));
      const auto want = trainer.step(cpu, [&](const auto& now, auto& slopes) {
        return loss(cpu, now, read, next, {}, slopes, {}, host_scratch);
      });
      copy(stream, read.view(), tokens.view());
      copy(stream, next.view(), targets.view());
      if (i < 1)
        step();
      else if (i == 1)
        graph = Graph(stream, step);
      if (i >= 1) graph.launch(stream);
      const auto report = last_report(stream, optimizer);
      CHECK(report.finite);
      CHECK(report.gradient_norm == Approx(want.gradient_norm).epsilon(1e-9));
      CHECK(report.learning_rate == Approx(want.learning_rate).epsilon(1e-14));
      CHECK(to_host(stream, nats)(0) == Approx(want.loss).epsilon(1e-9));
    }
    // A step divides by the root of the second moment, which magnifies what is tiny.
    CHECK(weight_error(stream, model, trainer.model) <= 1e-6);
    CHECK(weight_error(stream, model, drawn()) >= 1e-3);
  });
}

TEST_CASE("a step on a device whose gradients are not finite changes nothing") {
  const Stream stream;
  auto model = to_device(stream, drawn());
  auto gradients = to_device(stream, drawn());
  DeviceOptimizer<decltype(model)> optimizer(stream, model);
  Tensor<double, 1> nan({8});
  nan.fill(std::numeric_limits<double>::quiet_NaN());
  copy(stream, nan.view(), gradients.norm.view());
  optimizer_step(stream, model, gradients, optimizer, options);
  CHECK_FALSE(last_report(stream, optimizer).finite);
  CHECK(weight_error(stream, model, drawn()) == 0);
  CHECK(to_host(stream, optimizer.progress)(0) == 0);
  CHECK_THROWS_WITH(
      optimizer_step(stream, model, gradients, optimizer, TrainerOptions{.average = 0.9}),
      "optimizer_step: average is 0.900000, expected 0, as no average is kept on a device");
}

TEMPLATE_TEST_CASE("tokens drawn on a device are those that the probabilities of a Sampler say", "",
                   float, double) {
  using T = TestType;
  const Stream stream;
  Random random(5);
  const Index rows = 3;
  for (const Index vocab : {1, 5, 300})
    for (SamplingOptions how :
         {SamplingOptions{}, SamplingOptions{.temperature = 0}, SamplingOptions{.temperature = 0.3},
          SamplingOptions{.top_k = 4}, SamplingOptions{.top_p = 0.5}, SamplingOptions{.min_p = 0.2},
          SamplingOptions{.temperature = 2, .top_k = 150, .top_p = 0.9, .min_p = 0.01},
          SamplingOptions{.top_k = 3, .top_p = 0.6}}) {
      how.seed = 11;
      how.tokens = vocab > 200 ? 201 : 0;
      Tensor<T, 2> logits = random.normal<T, 2>({rows, vocab});
      for (T& x : logits) x = std::round(x * 2) / 2;  // so that some are equal
      if (vocab > 2) logits(0, 1) = -std::numeric_limits<T>::infinity();
      const auto on_logits = to_device(stream, logits);
      DeviceTensor<Token, 1> tokens(stream, {rows});
      SampleTokensScratch scratch;
      Tensor<double, 1> share({vocab});
      for (std::uint64_t call = 0; call < 2; ++call) {
        sample_tokens(stream, SampleTokensInputs<T>{on_logits}, how, {tokens}, scratch);
        const auto got = to_host(stream, tokens);
        for (Index r = 0; r < rows; ++r) {
          CAPTURE(vocab, how.temperature, how.top_k, how.top_p, how.min_p, r, call);
          Sampler sampler(vocab, how);
          sampler.probabilities(std::as_const(logits).view()[r], share.view());
          const double uniform =
              static_cast<double>(detail::mix(detail::mix(11) + detail::mix(call) +
                                              static_cast<std::uint64_t>(r)) >>
                                  11) *
              0x1.0p-53;
          REQUIRE(got(r) >= 0);
          REQUIRE(got(r) < vocab);
          double before = 0;
          for (Index v = 0; v < got(r); ++v) before += share(v);
          CHECK(share(got(r)) > 0);
          if (how.temperature == 0) continue;
          CHECK(uniform >= before - 1e-9);
          CHECK(uniform <= before + share(got(r)) + 1e-9);
        }
      }
    }
}

TEST_CASE("a row without a likeliest token gives none on a device, and a graph draws on") {
  const Stream stream;
  const float infinite = std::numeric_limits<float>::infinity();
  Tensor<float, 2> logits({3, 2});
  logits(0, 1) = std::numeric_limits<float>::quiet_NaN(), logits(1, 0) = infinite;
  logits(2, 0) = logits(2, 1) = -infinite;
  const auto on_logits = to_device(stream, logits);
  DeviceTensor<Token, 1> tokens(stream, {3});
  SampleTokensScratch scratch;
  sample_tokens(stream, SampleTokensInputs<float>{on_logits}, {}, {tokens}, scratch);
  for (const Token token : to_host(stream, tokens)) CHECK(token == -1);
  CHECK_THROWS_WITH(sample_tokens(stream, SampleTokensInputs<float>{on_logits},
                                  {.repetition_penalty = 1.5}, {tokens}, scratch),
                    "sample_tokens: repetition_penalty is 1.500000, expected 1, as nothing on a "
                    "device remembers tokens");

  const DeviceTensor<float, 2> even = to_device(stream, Tensor<float, 2>({1, 1000}));
  DeviceTensor<Token, 1> token(stream, {1});
  const Graph draw(stream, [&] {
    sample_tokens(stream, SampleTokensInputs<float>{even}, {}, {token}, scratch);
  });
  std::vector<Token> drawn;
  for (int i = 0; i < 4; ++i) {
    draw.launch(stream);
    drawn.push_back(to_host(stream, token)(0));
  }
  std::sort(drawn.begin(), drawn.end());
  CHECK(std::unique(drawn.begin(), drawn.end()) == drawn.end());
}

}  // namespace cuda_training_test
