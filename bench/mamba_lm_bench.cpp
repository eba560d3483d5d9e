#include <benchmark/benchmark.h>

#if defined(__unix__)
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#endif

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "naive_mamba_lm.hpp"
#include "ssm/models/language_model_in_pieces.hpp"
#include "ssm/models/mamba_lm.hpp"
#include "ssm/train/trainer.hpp"

/// The shipped model's sizes, with the weights of the first step of training. An item is a byte of
/// text (for mamba_block: a step of one sequence).
/// naive     the formulas as loops, std::exp, one thread (naive_mamba_lm.hpp)
/// products  the matrix products of the same training step and nothing else: the step's limit
/// gradient_exact, gradient_cut   through one text, with and without what crosses pieces of 4096
/// busy      beside three processes of low priority that never rest
namespace {

using ssm::Index;
using ssm::Tensor;
using ssm::Token;
using ssm::View;
using Model = ssm::MambaLM<float>;
using Scratch = Model::Scratch;

Model initial_weights() {
  Model model(ssm::mamba_lm_config({.width = 184, .layers = 6}));
  ssm::initialize(model, 1);
  return model;
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
  const auto model = initial_weights();
  const auto& mixer = model.backbone.layers[0].mixer;
  naive::Block block(mixer.config, length);
  std::vector<float> y(static_cast<std::size_t>(model.config.width()));
  block.input.fill(0.1f);
  for (auto _ : run) {
    for (Index t = 0; t < length; ++t) {
      block.step(mixer, t, y.data());
      benchmark::DoNotOptimize(y.data());
    }
  }
  report(run, length);
}

void block_forward(benchmark::State& run, Index length, int threads) {
  const auto model = initial_weights();
  Tensor<float, 3> x({1, length, model.config.width()}), y(x.extents());
  x.fill(0.1f);
  ssm::MambaScratch<float> scratch;
  for (auto _ : run)
    forward(ssm::cpu(threads), model.backbone.layers[0].mixer, x, {}, y, {}, scratch);
  report(run, length);
}

/// Logits of every byte by plain loops: what prefill and decode do, one byte after the other.
void logits_naive(benchmark::State& run, Index length, int) {
  const auto model = initial_weights();
  const auto& layers = model.backbone.layers;
  const Index width = model.config.width();
  const auto tokens = some_text(1, length, 0);
  std::vector<naive::Block> blocks(layers.size(), naive::Block(layers[0].mixer.config, length));
  std::vector<float> stream(static_cast<std::size_t>(width)), mixed(stream), logits(256);
  for (auto _ : run) {
    for (Index t = 0; t < length; ++t) {
      std::copy_n(&model.embedding(tokens(0, t), 0), width, stream.begin());
      for (std::size_t i = 0; i < blocks.size(); ++i) {
        naive::norm(stream.data(), layers[i].norm, &blocks[i].input(t, 0));
        blocks[i].step(layers[i].mixer, t, mixed.data());
        for (std::size_t j = 0; j < stream.size(); ++j) stream[j] += mixed[j];
      }
      naive::norm(stream.data(), model.norm, mixed.data());
      naive::linear(model.embedding, mixed.data(), logits.data());
      benchmark::DoNotOptimize(logits.data());
    }
  }
  report(run, length);
}

void decode(benchmark::State& run, Index batch, int) {
  const auto model = initial_weights();
  Model::Stepper stepper(model, batch);
  auto state = make_state(model, batch);
  Tensor<Token, 1> tokens({batch});
  tokens.fill(97);
  Tensor<float, 2> logits({batch, model.config.vocab});
  for (auto _ : run) step(stepper, tokens, state, logits);
  report(run, batch);
}

void prefill(benchmark::State& run, Index length, int threads) {
  const auto model = initial_weights();
  auto state = make_state(model, 1);
  Scratch scratch;
  const auto tokens = some_text(1, length, 0);
  Tensor<float, 3> logits({1, length, model.config.vocab});
  ssm::LayerOptions<> options;
  options.keep = false;
  for (auto _ : run) forward(ssm::cpu(threads), model, tokens, state, logits, options, scratch);
  report(run, length);
}

constexpr Index training_batch = 16, piece = 4096;

/// Forward, backward, clipping and AdamW.
void training(benchmark::State& run, Index length, int threads) {
  ssm::Trainer<Model> trainer(initial_weights());
  auto state = make_state(trainer.model, training_batch);
  Scratch scratch;
  const auto tokens = some_text(training_batch, length, 0);
  const auto targets = some_text(training_batch, length, 1);
  const ssm::Cpu cpu = ssm::cpu(threads);
  for (auto _ : run)
    trainer.step(cpu, [&](const Model& model, Model& gradients) {
      return loss(cpu, model, tokens, targets, state, gradients, {}, scratch);
    });
  report(run, tokens.size());
}

/// One gradient through a text of this length, exact, in pieces of 4096 bytes.
void gradient_exact(benchmark::State& run, Index length, int threads) {
  const auto model = initial_weights();
  Model gradients(model.config);
  auto state = make_state(model, 1);
  Model::PiecesScratch scratch;
  const auto tokens = some_text(1, length, 0), targets = some_text(1, length, 1);
  for (auto _ : run)
    loss_in_pieces(ssm::cpu(threads), model, tokens, targets, state, gradients, {},
                   {.length = piece}, scratch);
  report(run, length);
}

/// As many bytes with gradients cut between the same pieces: the limit of the above is one forward
/// pass of the layers more.
void gradient_cut(benchmark::State& run, Index length, int threads) {
  const auto model = initial_weights();
  Model gradients(model.config);
  auto state = make_state(model, 1);
  Scratch scratch;
  const auto tokens = some_text(1, length, 0), targets = some_text(1, length, 1);
  for (auto _ : run)
    for (Index begin = 0; begin < length; begin += piece) {
      const Index count = std::min(piece, length - begin);
      loss(ssm::cpu(threads), model, tokens.view().slice(1, begin, count),
           targets.view().slice(1, begin, count), state, gradients, {}, scratch);
    }
  report(run, length);
}

#if defined(__unix__)
/// Three processes of low priority that never rest, as a machine that others use has them.
struct BusyMachine {
  BusyMachine() {
    for (pid_t& job : jobs)
      if ((job = fork()) == 0) {
        if (nice(10) == -1) _exit(1);
        for (volatile unsigned turns = 0;;) turns = turns + 1;
      }
  }
  ~BusyMachine() {
    for (const pid_t job : jobs)
      if (job > 0) kill(job, SIGKILL), waitpid(job, nullptr, 0);
  }
  BusyMachine(const BusyMachine&) = delete;
  BusyMachine& operator=(const BusyMachine&) = delete;

  pid_t jobs[3] = {};
};

/// The training step beside them: two threads are to be no slower than one.
void training_beside_others(benchmark::State& run, Index length, int threads) {
  const BusyMachine busy;
  training(run, length, threads);
}
#endif

/// The same step by plain loops, with the same loss and gradient up to rounding.
void training_naive(benchmark::State& run, Index length, int) {
  const auto model = initial_weights();
  Model gradients(model.config), want(model.config);
  const auto tokens = some_text(1, length, 0), targets = some_text(1, length, 1);
  double nats = 0;
  for (auto _ : run) nats = naive::loss(model, tokens, targets, gradients);

  auto state = make_state(model, 1);
  Scratch scratch;
  const double wanted = loss(ssm::cpu, model, tokens, targets, state, want, {}, scratch);
  const double norm = ssm::gradient_norm(ssm::cpu(1), gradients);
  const double wanted_norm = ssm::gradient_norm(ssm::cpu(1), want);
  if (!(std::abs(nats - wanted) <= 1e-4 * wanted) ||
      !(std::abs(norm - wanted_norm) <= 1e-3 * wanted_norm))
    run.SkipWithError("the loops and the library disagree");
  report(run, tokens.size());
}

/// Each product y = x Wᵀ of the step, and the two that its backward takes.
void products(benchmark::State& run, Index length, int threads) {
  const auto model = initial_weights();
  const Index rows = training_batch * length;
  const ssm::Cpu cpu = ssm::cpu(threads);
  ssm::LinearScratch<float> scratch;
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
  for (const auto& layer : model.backbone.layers)
    for (const auto* weight :
         {&layer.mixer.in_proj, &layer.mixer.x_proj, &layer.mixer.dt_proj, &layer.mixer.out_proj})
      add(*weight);
  add(model.embedding);
  for (auto _ : run) {
    for (Product& p : all) linear(cpu, {p.x, p.weight}, {}, {p.y}, scratch);
    for (Product& p : all)
      linear_backward(cpu, {p.x, p.weight}, {}, {p.y}, {p.dx, p.dweight, {}}, scratch);
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
    for (Index length : {65536, 1000000}) {
      add("mamba_lm/gradient_cut", gradient_cut, "length", length, threads);
      add("mamba_lm/gradient_exact", gradient_exact, "length", length, threads);
    }
    add("mamba_lm/products", products, "length", 256, threads);
#if defined(__unix__)
    add("mamba_lm/training_step_busy", training_beside_others, "length", 256, threads);
#endif
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
