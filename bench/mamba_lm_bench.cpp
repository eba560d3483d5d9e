#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "naive_mamba_lm.hpp"
#include "ssm/models/mamba_lm.hpp"
#include "ssm/train/adamw.hpp"
#include "ssm/train/clip.hpp"

/// The shipped model's sizes, with the weights of the first step of training. An item is a byte of
/// text (for mamba_block: a step of one sequence).
/// naive     the formulas as loops, std::exp, one thread (naive_mamba_lm.hpp)
/// products  the matrix products of the same training step and nothing else: the step's limit
namespace {

using ssm::Index;
using ssm::MambaLMConfig;
using ssm::MambaLMState;
using ssm::MambaLMWeights;
using ssm::Tensor;
using ssm::Token;
using ssm::View;

MambaLMConfig shipped() {
  MambaLMConfig config;
  config.width = 184;
  config.layers = 6;
  return config;
}

MambaLMWeights<float> initial_weights() {
  MambaLMWeights<float> weights(shipped());
  ssm::initialize(weights, 1);
  return weights;
}

Tensor<Token, 2> some_text(Index batch, Index length, Token shift) {
  Tensor<Token, 2> tokens({batch, length});
  for (Index i = 0; i < tokens.size(); ++i)
    tokens.data()[i] = static_cast<Token>(97 + (i * i + shift) % 26);
  return tokens;
}

void report(benchmark::State& run, Index items) {
  run.SetItemsProcessed(static_cast<std::int64_t>(run.iterations()) * items);
}

void block_naive(benchmark::State& run, Index length, int) {
  const auto weights = initial_weights();
  naive::Block block(weights.config.block(), length);
  std::vector<float> y(static_cast<std::size_t>(weights.config.width));
  block.input.fill(0.1f);
  for (auto _ : run) {
    for (Index t = 0; t < length; ++t) {
      block.step(weights.layers[0].mixer, t, y.data());
      benchmark::DoNotOptimize(y.data());
    }
  }
  report(run, length);
}

void block_forward(benchmark::State& run, Index length, int threads) {
  const auto weights = initial_weights();
  Tensor<float, 3> x({1, length, weights.config.width}), y(x.extents());
  x.fill(0.1f);
  ssm::MambaSaved<float> saved;
  ssm::MambaWorkspace<float> workspace;
  for (auto _ : run)
    ssm::mamba_forward<float>(ssm::cpu(threads), weights.layers[0].mixer, x, nullptr, y, nullptr,
                              {}, saved, workspace);
  report(run, length);
}

/// Logits of every byte by plain loops: what prefill and decode do, one byte after the other.
void logits_naive(benchmark::State& run, Index length, int) {
  const auto weights = initial_weights();
  const Index width = weights.config.width;
  const auto tokens = some_text(1, length, 0);
  std::vector<naive::Block> blocks(weights.layers.size(),
                                   naive::Block(weights.config.block(), length));
  std::vector<float> stream(static_cast<std::size_t>(width)), mixed(stream), logits(256);
  for (auto _ : run) {
    for (Index t = 0; t < length; ++t) {
      std::copy_n(&weights.embedding(tokens(0, t), 0), width, stream.begin());
      for (std::size_t i = 0; i < blocks.size(); ++i) {
        naive::norm(stream.data(), weights.layers[i].norm, &blocks[i].input(t, 0));
        blocks[i].step(weights.layers[i].mixer, t, mixed.data());
        for (std::size_t j = 0; j < stream.size(); ++j) stream[j] += mixed[j];
      }
      naive::norm(stream.data(), weights.final_norm, mixed.data());
      naive::linear(weights.embedding, mixed.data(), logits.data());
      benchmark::DoNotOptimize(logits.data());
    }
  }
  report(run, length);
}

void decode(benchmark::State& run, Index batch, int) {
  const auto weights = initial_weights();
  MambaLMState<float> state(weights.config, batch);
  ssm::MambaLMWorkspace<float> workspace;
  Tensor<Token, 1> tokens({batch});
  tokens.fill(97);
  Tensor<float, 2> logits({batch, weights.config.vocab});
  workspace.reserve_step(weights.config, batch);
  for (auto _ : run) ssm::mamba_lm_step<float>(weights, state, tokens, logits, workspace);
  report(run, batch);
}

void prefill(benchmark::State& run, Index length, int threads) {
  const auto weights = initial_weights();
  MambaLMState<float> state(weights.config, 1);
  ssm::MambaLMWorkspace<float> workspace;
  const auto tokens = some_text(1, length, 0);
  Tensor<float, 3> logits({1, length, weights.config.vocab});
  for (auto _ : run)
    ssm::mamba_lm_forward<float>(ssm::cpu(threads), weights, tokens, state, logits, workspace);
  report(run, length);
}

constexpr Index training_batch = 16;

/// Forward, backward, clipping and AdamW.
void training(benchmark::State& run, Index length, int threads) {
  auto weights = initial_weights();
  const auto config = weights.config;
  MambaLMWeights<float> gradients(config), first(config), second(config);
  MambaLMState<float> state(config, training_batch);
  ssm::MambaLMWorkspace<float> workspace;
  const auto tokens = some_text(training_batch, length, 0);
  const auto targets = some_text(training_batch, length, 1);
  const ssm::Cpu cpu = ssm::cpu(threads);
  Index step = 0;
  for (auto _ : run) {
    ssm::mamba_lm_loss<float>(cpu, weights, tokens, targets, state, &gradients, workspace);
    benchmark::DoNotOptimize(ssm::clip_gradients(cpu, gradients, 1.0));
    ssm::adamw_step(cpu, weights, gradients, first, second, ++step, {});
  }
  report(run, tokens.size());
}

/// The same step by plain loops, with the same loss and gradient up to rounding.
void training_naive(benchmark::State& run, Index length, int) {
  const auto weights = initial_weights();
  MambaLMWeights<float> gradients(weights.config), want(weights.config);
  const auto tokens = some_text(1, length, 0), targets = some_text(1, length, 1);
  double loss = 0;
  for (auto _ : run) loss = naive::loss(weights, tokens, targets, gradients);

  MambaLMState<float> state(weights.config, 1);
  ssm::MambaLMWorkspace<float> workspace;
  const double wanted =
      ssm::mamba_lm_loss<float>(ssm::cpu, weights, tokens, targets, state, &want, workspace);
  const double norm = ssm::clip_gradients(ssm::cpu(1), gradients, 1e30);
  const double wanted_norm = ssm::clip_gradients(ssm::cpu(1), want, 1e30);
  if (!(std::abs(loss - wanted) <= 1e-4 * wanted) ||
      !(std::abs(norm - wanted_norm) <= 1e-3 * wanted_norm))
    run.SkipWithError("the loops and the library disagree");
  report(run, tokens.size());
}

/// Each product y = x Wᵀ of the step, and the two that its backward takes.
void products(benchmark::State& run, Index length, int threads) {
  const auto weights = initial_weights();
  const Index rows = training_batch * length;
  const ssm::Cpu cpu = ssm::cpu(threads);
  ssm::LinearWorkspace<float> workspace;
  struct Product {
    const Tensor<float, 2>& weight;
    Tensor<float, 2> x, y, dx, dweight;
  };
  std::vector<Product> all;
  const auto add = [&](const Tensor<float, 2>& weight) {
    all.push_back({weight, Tensor<float, 2>({rows, weight.extent(1)}),
                   Tensor<float, 2>({rows, weight.extent(0)}),
                   Tensor<float, 2>({rows, weight.extent(1)}), weight});
    all.back().x.fill(0.1f);
  };
  for (const auto& layer : weights.layers)
    for (const auto* weight :
         {&layer.mixer.in_proj, &layer.mixer.x_proj, &layer.mixer.dt_proj, &layer.mixer.out_proj})
      add(*weight);
  add(weights.embedding);
  for (auto _ : run) {
    for (Product& p : all) ssm::linear_forward<float>(cpu, p.x, p.weight, {}, p.y);
    for (Product& p : all)
      ssm::linear_backward<float>(cpu, p.x, p.weight, p.y,
                                  {.x = p.dx, .weight = p.dweight, .bias = {}}, workspace);
  }
  report(run, rows);
}

using Function = void (*)(benchmark::State&, Index, int);

void add(const std::string& name, Function function, const std::string& size_name, Index size,
         int threads) {
  const std::string full = name + "/float/" + size_name + ":" + std::to_string(size) +
                           "/threads:" + std::to_string(threads);
  benchmark::RegisterBenchmark(full.c_str(),
                               [=](benchmark::State& run) { function(run, size, threads); })
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond);
}

}  // namespace

int main(int argc, char** argv) {
  add("mamba_block/naive", block_naive, "length", 256, 1);
  for (int threads : {1, 2})
    for (Index length : {1, 16, 256, 2048})
      add("mamba_block/forward", block_forward, "length", length, threads);
  add("mamba_lm/naive", logits_naive, "length", 64, 1);
  for (Index batch : {1, 4}) add("mamba_lm/decode", decode, "batch", batch, 1);
  add("mamba_lm/training_step_naive", training_naive, "length", 256, 1);
  for (int threads : {1, 2}) {
    for (Index length : {64, 512, 4096})
      add("mamba_lm/prefill", prefill, "length", length, threads);
    add("mamba_lm/training_step", training, "length", 256, threads);
    add("mamba_lm/products", products, "length", 256, threads);
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
