#include <benchmark/benchmark.h>

#include <cmath>
#include <string>
#include <vector>

#include "ssm/models/mamba_lm.hpp"
#include "ssm/train/adamw.hpp"
#include "ssm/train/clip.hpp"

/// The shipped model's sizes, with the weights of the first step of training. An item is a byte of
/// text (for mamba_block: a step of one sequence).
/// naive     the formulas as loops, std::exp, one thread
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

/// y = W x, as it is written.
void naive_linear(const Tensor<float, 2>& weight, const float* x, float* y) {
  for (Index i = 0; i < weight.extent(0); ++i) {
    float sum = 0;
    for (Index j = 0; j < weight.extent(1); ++j) sum += weight(i, j) * x[j];
    y[i] = sum;
  }
}

float naive_silu(float x) { return x / (1 + std::exp(-x)); }

/// One step of a Mamba block; conv holds the last inputs, x the state of the scan.
struct NaiveBlock {
  std::vector<float> conv, x, projected, u, parameters, delta, y;

  explicit NaiveBlock(const ssm::MambaShape& s)
      : conv(static_cast<std::size_t>(s.inner * s.conv_width)),
        x(static_cast<std::size_t>(s.inner * s.state)),
        projected(static_cast<std::size_t>(2 * s.inner)),
        u(static_cast<std::size_t>(s.inner)),
        parameters(static_cast<std::size_t>(s.dt_rank + 2 * s.state)),
        delta(u),
        y(u) {}

  void step(const ssm::MambaWeights<float>& w, const float* input, float* output) {
    const ssm::MambaShape s = w.shape();
    naive_linear(w.in_proj, input, projected.data());
    for (Index c = 0; c < s.inner; ++c) {
      float* taps = conv.data() + c * s.conv_width;
      for (Index k = 0; k + 1 < s.conv_width; ++k) taps[k] = taps[k + 1];
      taps[s.conv_width - 1] = projected[static_cast<std::size_t>(c)];
      float sum = w.conv_bias(c);
      for (Index k = 0; k < s.conv_width; ++k) sum += taps[k] * w.conv_weight(c, k);
      u[static_cast<std::size_t>(c)] = naive_silu(sum);
    }
    naive_linear(w.x_proj, u.data(), parameters.data());
    naive_linear(w.dt_proj, parameters.data(), delta.data());
    const float* B = parameters.data() + s.dt_rank;
    const float* C = B + s.state;
    for (Index c = 0; c < s.inner; ++c) {
      const auto at = static_cast<std::size_t>(c);
      const float step = std::log1p(std::exp(delta[at] + w.dt_bias(c)));
      float sum = w.D(c) * u[at];
      for (Index n = 0; n < s.state; ++n) {
        float& state = x[static_cast<std::size_t>(c * s.state + n)];
        state = std::exp(-step * std::exp(w.A_log(c, n))) * state + step * B[n] * u[at];
        sum += C[n] * state;
      }
      y[at] = sum * naive_silu(projected[static_cast<std::size_t>(s.inner + c)]);
    }
    naive_linear(w.out_proj, y.data(), output);
  }
};

void block_naive(benchmark::State& run, Index length, int) {
  const auto weights = initial_weights();
  const Index width = weights.config.width;
  NaiveBlock block(weights.config.block());
  std::vector<float> x(static_cast<std::size_t>(length * width), 0.1f), y(x);
  for (auto _ : run) {
    for (Index t = 0; t < length; ++t)
      block.step(weights.layers[0].mixer, x.data() + t * width, y.data() + t * width);
    benchmark::ClobberMemory();
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

void decode_naive(benchmark::State& run, Index, int) {
  const auto weights = initial_weights();
  const Index width = weights.config.width;
  std::vector<NaiveBlock> blocks(weights.layers.size(), NaiveBlock(weights.config.block()));
  std::vector<float> stream(static_cast<std::size_t>(width)), normed(stream), mixed(stream);
  std::vector<float> logits(256);
  const auto norm = [&](const Tensor<float, 1>& weight) {
    float squares = 0;
    for (float x : stream) squares += x * x;
    const float scale = 1 / std::sqrt(squares / static_cast<float>(width) + 1e-5f);
    for (Index i = 0; i < width; ++i)
      normed[static_cast<std::size_t>(i)] = stream[static_cast<std::size_t>(i)] * scale * weight(i);
  };
  Index token = 97;
  for (auto _ : run) {
    std::copy_n(&weights.embedding(token, 0), width, stream.begin());
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      norm(weights.layers[i].norm);
      blocks[i].step(weights.layers[i].mixer, normed.data(), mixed.data());
      for (std::size_t j = 0; j < stream.size(); ++j) stream[j] += mixed[j];
    }
    norm(weights.final_norm);
    naive_linear(weights.embedding, normed.data(), logits.data());
    benchmark::DoNotOptimize(logits.data());
  }
  report(run, 1);
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
  add("mamba_lm/decode_naive", decode_naive, "batch", 1, 1);
  for (Index batch : {1, 4}) add("mamba_lm/decode", decode, "batch", batch, 1);
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
