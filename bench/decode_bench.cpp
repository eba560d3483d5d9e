#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "ssm/core/detail/large_memory.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/models/stored_mamba_lm.hpp"

/// A model of the size of mamba-130m with the weights of the first step of training. An item is a
/// token; of `read` a pass over as many bytes as the model's matrices have.
/// naive      the matrix products of a token as loops, and nothing else
/// read       the memory alone, in large pages: the limit of decode
/// decode     one token of each of `batch` texts; logit_error is the error of its logits after
/// eight
///            tokens, root mean square, over that of the logits in f32
/// pass       forward of one token, which does what decode does
/// prefill    512 tokens, and the logits of the last
namespace {

using ssm::Index;
using ssm::MatrixFormat;
using ssm::StoredMambaLM;
using ssm::Tensor;
using ssm::Token;
using ssm::View;

const ssm::MambaLM<float>& weights() {
  static const ssm::MambaLM<float> model = [] {
    ssm::MambaLM<float> made(
        ssm::mamba_lm_config(ssm::MambaLMConfig{.vocab = 50280, .width = 768, .layers = 24}));
    ssm::initialize(made, 1);
    return made;
  }();
  return model;
}

const StoredMambaLM& model_of(MatrixFormat format) {
  static std::map<MatrixFormat, StoredMambaLM> models;
  auto& model = models[format];
  if (model.norm.size() == 0) model = ssm::store_mamba_lm(ssm::cpu, weights(), format);
  return model;
}

/// The matrices that a token reads.
std::vector<const ssm::StoredMatrix*> matrices_of(const StoredMambaLM& model) {
  std::vector<const ssm::StoredMatrix*> all;
  for (const auto& layer : model.backbone.layers)
    for (const auto* m :
         {&layer.mixer.in_proj, &layer.mixer.x_proj, &layer.mixer.dt_proj, &layer.mixer.out_proj})
      all.push_back(m);
  all.push_back(&model.embedding);
  return all;
}

Index bytes_of(const StoredMambaLM& model) {
  Index bytes = 0;
  for (const auto* matrix : matrices_of(model)) bytes += matrix->bytes();
  return bytes;
}

void naive(benchmark::State& run) {
  const auto all = matrices_of(model_of(MatrixFormat::f32));
  std::vector<float> x(2048, 0.1f), y(50280);
  for (auto _ : run)
    for (const auto* matrix : all) {
      const auto* w = reinterpret_cast<const float*>(matrix->view().numbers);
      for (Index r = 0; r < matrix->extent(0); ++r, w += matrix->extent(1)) {
        float sum = 0;
        for (Index k = 0; k < matrix->extent(1); ++k) sum += w[k] * x[static_cast<std::size_t>(k)];
        y[static_cast<std::size_t>(r)] = sum;
      }
      benchmark::DoNotOptimize(y.data());
    }
  run.SetItemsProcessed(run.iterations());
}

void read(benchmark::State& run, MatrixFormat format, int threads) {
  using V = ssm::detail::Vec<float>;
  constexpr Index at_once = 8 * ssm::detail::lanes<float>;
  const Index pieces = bytes_of(model_of(format)) / Index{4 * at_once * 64};
  const auto memory = ssm::detail::allocate_large(pieces * 64 * at_once * 4);
  auto* const numbers = reinterpret_cast<float*>(memory.get());
  std::fill_n(numbers, pieces * 64 * at_once, 1.0f);
  std::vector<float> sums(64);
  for (auto _ : run) {
    ssm::parallel_ranges(ssm::cpu(threads), pieces * 64, [&](Index begin, Index end) {
      V sum[8] = {V(0), V(0), V(0), V(0), V(0), V(0), V(0), V(0)};
      for (Index i = begin; i < end; ++i)
        for (int u = 0; u < 8; ++u)
          sum[u] = sum[u] + V::load(numbers + i * at_once + u * ssm::detail::lanes<float>);
      V total = sum[0];
      for (int u = 1; u < 8; ++u) total = total + sum[u];
      sums[static_cast<std::size_t>(begin > 0)] = ssm::detail::sum(total);
    });
    benchmark::DoNotOptimize(sums.data());
  }
  run.SetItemsProcessed(run.iterations());
  run.SetBytesProcessed(run.iterations() * pieces * 64 * at_once * 4);
}

Token token_at(Index t) { return static_cast<Token>(7919 * (t + 1) % 50280); }

std::vector<float> logits_after_eight(MatrixFormat format) {
  const StoredMambaLM& model = model_of(format);
  StoredMambaLM::Stepper stepper(model);
  auto state = make_state(model, 1);
  Tensor<Token, 1> token({1});
  Tensor<float, 2> logits({1, model.config.vocab});
  for (Index t = 0; t < 8; ++t) {
    token(0) = token_at(t);
    step(ssm::cpu, stepper, token, state, logits);
  }
  return {logits.begin(), logits.end()};
}

double logit_error(MatrixFormat format) {
  static const std::vector<float> want = logits_after_eight(MatrixFormat::f32);
  const std::vector<float> got = logits_after_eight(format);
  double error = 0, power = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    error += std::pow(double{got[i]} - double{want[i]}, 2);
    power += std::pow(double{want[i]}, 2);
  }
  return std::sqrt(error / power);
}

void decode(benchmark::State& run, MatrixFormat format, Index batch, int threads) {
  const StoredMambaLM& model = model_of(format);
  StoredMambaLM::Stepper stepper(model, batch);
  auto state = make_state(model, batch);
  Tensor<Token, 1> tokens({batch});
  Tensor<float, 2> logits({batch, model.config.vocab});
  Index t = 0;
  for (auto _ : run) {
    for (Index b = 0; b < batch; ++b) tokens(b) = token_at(t + 1000 * b);
    step(ssm::cpu(threads), stepper, tokens, state, logits);
    ++t;
  }
  run.SetItemsProcessed(run.iterations() * batch);
  run.counters["matrix_MB"] = static_cast<double>(bytes_of(model)) / 1e6;
  if (batch == 1 && threads == 1) run.counters["logit_error"] = logit_error(format);
}

void forward_of(benchmark::State& run, MatrixFormat format, Index length, int threads) {
  const StoredMambaLM& model = model_of(format);
  auto state = make_state(model, 1);
  StoredMambaLM::Scratch scratch;
  Tensor<Token, 2> tokens({1, length});
  for (Index t = 0; t < length; ++t) tokens(0, t) = token_at(t);
  Tensor<float, 3> logits({1, 1, model.config.vocab});
  ssm::LayerOptions<> options;
  options.keep = false;
  const ssm::Cpu cpu = ssm::cpu(threads);
  for (auto _ : run) {
    if (length > 1)
      forward(cpu, model, tokens.view().slice(1, 0, length - 1), state, {}, options, scratch);
    forward(cpu, model, tokens.view().slice(1, length - 1, 1), state, logits, options, scratch);
  }
  run.SetItemsProcessed(run.iterations() * length);
}

template <class Run>
void add(const std::string& name, const Run& run) {
  benchmark::RegisterBenchmark(name.c_str(), run)->UseRealTime()->Unit(benchmark::kMillisecond);
}

}  // namespace

int main(int argc, char** argv) {
  const auto threaded = [](int threads) { return "/threads:" + std::to_string(threads); };
  add("mamba_130m/naive/f32/threads:1", naive);
  for (const int threads : {1, 2})
    for (const MatrixFormat format : {MatrixFormat::f32, MatrixFormat::f16, MatrixFormat::bf16,
                                      MatrixFormat::q8, MatrixFormat::q4}) {
      const std::string of = "/" + std::string(ssm::name_of(format));
      add("mamba_130m/read" + of + threaded(threads),
          [=](benchmark::State& run) { read(run, format, threads); });
      for (const Index batch : {1, 4, 16})
        add("mamba_130m/decode" + of + "/batch:" + std::to_string(batch) + threaded(threads),
            [=](benchmark::State& run) { decode(run, format, batch, threads); });
      add("mamba_130m/pass" + of + threaded(threads),
          [=](benchmark::State& run) { forward_of(run, format, 1, threads); });
      add("mamba_130m/prefill" + of + "/length:512" + threaded(threads),
          [=](benchmark::State& run) { forward_of(run, format, 512, threads); });
    }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
