#include <benchmark/benchmark.h>
#include <cublas_v2.h>
#include <cuda_bf16.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "ssm/cuda/selective_scan.hpp"
#include "ssm/cuda/selective_scan_step.hpp"

/// The selective scan on a device, beside what the device can do at all. An item is one channel at
/// one step, with all its states. Times are those of the device, between two events.
/// copy, exp2, fma  the ceilings: bytes moved, exponentials, multiply-adds, in the same program
/// naive            one thread a channel, state by state, as the formula says
/// attention        softmax(Q Kᵀ) V by cuBLAS for the crossover in length: 12 heads of 64
/// One command fills the table: build/bench/cuda_bench --benchmark_repetitions=5
/// --benchmark_report_aggregates_only --benchmark_out=result.csv --benchmark_out_format=csv
namespace {

using ssm::Bfloat16;
using ssm::cuda;
using ssm::Device;
using ssm::DeviceTensor;
using ssm::Index;
using ssm::Tensor;

void check(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}
void check(cublasStatus_t status) {
  if (status != CUBLAS_STATUS_SUCCESS) throw std::runtime_error("cuBLAS failed");
}

/// Runs `work` and reports the device's time for it.
template <class Work>
void measure(benchmark::State& state, const Work& work) {
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin));
  check(cudaEventCreate(&end));
  work();  // scratch grows, kernels load
  for (auto _ : state) {
    check(cudaEventRecord(begin));
    work();
    check(cudaEventRecord(end));
    check(cudaEventSynchronize(end));
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, begin, end));
    state.SetIterationTime(milliseconds * 1e-3);
  }
  check(cudaEventDestroy(begin));
  check(cudaEventDestroy(end));
}

template <class T, std::size_t Rank>
DeviceTensor<T, Rank> filled(const std::array<Index, Rank>& extents, float low, float high) {
  Tensor<T, Rank> host(extents);
  std::uint64_t seed = 1;
  for (T& value : host) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    value = T(low + (high - low) * static_cast<float>(seed >> 40) * 0x1p-24f);
  }
  return ssm::to_device(cuda, host);
}

/// A scan with softplus, D and a gate.
struct Scan {
  Index batch, length, channels, state;
  DeviceTensor<Bfloat16, 3> u, delta, z, dy, y, du, ddelta, dz;
  DeviceTensor<Bfloat16, 4> B, C, dB, dC;
  DeviceTensor<float, 2> A, dA;
  DeviceTensor<float, 1> D, bias, dD, dbias;
  ssm::SelectiveScanScratch<Bfloat16, float, Device> scratch;

  Scan(Index b, Index l, Index c, Index n) : batch(b), length(l), channels(c), state(n) {
    const std::array<Index, 3> rows{b, l, c};
    const std::array<Index, 4> coefficients{b, l, 1, n};
    u = filled<Bfloat16>(rows, -1, 1), delta = filled<Bfloat16>(rows, -6, -2);
    z = filled<Bfloat16>(rows, -1, 1), dy = filled<Bfloat16>(rows, -1, 1);
    B = filled<Bfloat16>(coefficients, -1, 1), C = filled<Bfloat16>(coefficients, -1, 1);
    A = filled<float, 2>({c, n}, -16, -1), D = filled<float, 1>({c}, -1, 1);
    bias = filled<float, 1>({c}, 0, 1);
    y = {cuda, rows}, du = {cuda, rows}, ddelta = {cuda, rows}, dz = {cuda, rows};
    dB = {cuda, coefficients}, dC = {cuda, coefficients};
    dA = {cuda, A.extents()}, dD = {cuda, D.extents()}, dbias = {cuda, D.extents()};
  }
  [[nodiscard]] ssm::SelectiveScanInputs<Bfloat16, float, Device> inputs() const {
    ssm::SelectiveScanInputs<Bfloat16, float, Device> in;
    in.u = u, in.delta = delta, in.A = A, in.B.varying = B, in.C.varying = C;
    in.D = D, in.delta_bias = bias, in.z = z;
    return in;
  }
  void forward(bool keep) {
    ssm::selective_scan(cuda, inputs(), {.softplus = true, .keep = keep}, {y}, scratch);
  }
  void backward() {
    ssm::SelectiveScanInputGradients<Bfloat16, float, Device> gradients;
    gradients.u = du, gradients.delta = ddelta, gradients.A = dA, gradients.B.varying = dB;
    gradients.C.varying = dC, gradients.D = dD, gradients.delta_bias = dbias, gradients.z = dz;
    ssm::selective_scan_backward(cuda, inputs(), {.softplus = true}, {dy}, gradients, scratch);
  }
  void count(benchmark::State& s, Index sequences) const {
    s.SetItemsProcessed(s.iterations() * batch * length * channels);
    s.SetBytesProcessed(s.iterations() * 2 * batch * length * (sequences * channels + 2 * state));
  }
};

void forward(benchmark::State& state, Index batch, Index length) {
  Scan scan(batch, length, 1536, 16);
  measure(state, [&] { scan.forward(false); });
  scan.count(state, 4);
}
void backward(benchmark::State& state, Index batch, Index length) {
  Scan scan(batch, length, 1536, 16);
  scan.forward(true);
  measure(state, [&] { scan.backward(); });
  scan.count(state, 7);
}

__device__ float bits(const Bfloat16& x) { return __uint_as_float(unsigned{x.bits} << 16); }

__global__ void naive_scan(const Bfloat16* u, const Bfloat16* delta, const Bfloat16* z,
                           const float* A, const Bfloat16* B, const Bfloat16* C, const float* D,
                           const float* bias, Bfloat16* y, Index length, Index channels) {
  constexpr int states = 16;
  const Index c = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y;
  if (c >= channels) return;
  float x[states] = {};
  for (Index t = row * length; t < (row + 1) * length; ++t) {
    const Index at = t * channels + c;
    const float d = log1pf(expf(bits(delta[at]) + bias[c])), v = bits(u[at]), gate = bits(z[at]);
    float sum = D[c] * v;
    for (int n = 0; n < states; ++n) {
      x[n] = expf(d * A[c * states + n]) * x[n] + d * bits(B[t * states + n]) * v;
      sum += bits(C[t * states + n]) * x[n];
    }
    y[at].bits = __bfloat16_as_ushort(__float2bfloat16_rn(sum * gate / (1 + expf(-gate))));
  }
}
void naive(benchmark::State& state, Index batch, Index length) {
  Scan scan(batch, length, 1536, 16);
  measure(state, [&] {
    naive_scan<<<dim3(12, static_cast<unsigned>(batch)), 128>>>(
        scan.u.data(), scan.delta.data(), scan.z.data(), scan.A.data(), scan.B.data(),
        scan.C.data(), scan.D.data(), scan.bias.data(), scan.y.data(), length, scan.channels);
    check(cudaGetLastError());
  });
  scan.count(state, 4);
}

void step(benchmark::State& state, Index batch) {
  constexpr Index channels = 1536, states = 16;
  auto x = filled<float, 3>({batch, channels, states}, -1, 1);
  const auto u = filled<Bfloat16, 2>({batch, channels}, -1, 1);
  const auto B = filled<Bfloat16, 3>({batch, 1, states}, -1, 1);
  const auto A = filled<float, 2>({channels, states}, -16, -1);
  DeviceTensor<Bfloat16, 2> y(cuda, {batch, channels});
  ssm::SelectiveScanStepInputs<Bfloat16, float, Device> in;
  in.u = u, in.delta = u, in.A = A, in.B.varying = B, in.C.varying = B;
  measure(state, [&] { ssm::selective_scan_step(cuda, in, {.softplus = true}, x, y); });
  state.SetItemsProcessed(state.iterations() * batch * channels);
  state.SetBytesProcessed(state.iterations() * batch * channels * states * 8);
}

void copy_ceiling(benchmark::State& state) {
  constexpr Index bytes = Index{1} << 30;
  DeviceTensor<char, 1> from(cuda, {bytes}), to(cuda, {bytes});
  measure(state,
          [&] { check(cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyDeviceToDevice)); });
  state.SetBytesProcessed(state.iterations() * 2 * bytes);
}

constexpr int rounds = 4096;

__global__ void exp2_loop(float* out) {
  float x[8];
  for (int i = 0; i < 8; ++i) x[i] = -static_cast<float>(threadIdx.x + i) * 0x1p-10f;
  for (int r = 0; r < rounds; ++r)
    for (int i = 0; i < 8; ++i) asm volatile("ex2.approx.ftz.f32 %0, %0;" : "+f"(x[i]));
  for (int i = 1; i < 8; ++i) x[0] += x[i];
  out[blockIdx.x * blockDim.x + threadIdx.x] = x[0];
}
__global__ void fma_loop(float* out) {
  float x[8];
  for (int i = 0; i < 8; ++i) x[i] = static_cast<float>(threadIdx.x + i);
  for (int r = 0; r < rounds; ++r)
    for (int i = 0; i < 8; ++i)
      asm volatile("fma.rn.f32 %0, %0, %1, %1;" : "+f"(x[i]) : "f"(0.999f));
  for (int i = 1; i < 8; ++i) x[0] += x[i];
  out[blockIdx.x * blockDim.x + threadIdx.x] = x[0];
}
void arithmetic_ceiling(benchmark::State& state, void (*kernel)(float*)) {
  constexpr unsigned blocks = 132 * 8, threads = 256;
  DeviceTensor<float, 1> out(cuda, {blocks * threads});
  measure(state, [&] {
    kernel<<<blocks, threads>>>(out.data());
    check(cudaGetLastError());
  });
  state.SetItemsProcessed(state.iterations() * Index{blocks} * threads * rounds * 8);
}

/// Rows of scores become causal probabilities; a block a row.
__global__ void softmax_rows(__nv_bfloat16* scores, Index length) {
  const Index row = blockIdx.x;
  __nv_bfloat16* s = scores + (blockIdx.y * length + row) * length;
  __shared__ float shared[256];
  const auto reduce = [&](float value, bool maximum) {
    shared[threadIdx.x] = value;
    __syncthreads();
    for (unsigned half = 128; half > 0; half /= 2) {
      if (threadIdx.x < half)
        shared[threadIdx.x] = maximum ? fmaxf(shared[threadIdx.x], shared[threadIdx.x + half])
                                      : shared[threadIdx.x] + shared[threadIdx.x + half];
      __syncthreads();
    }
    const float result = shared[0];
    __syncthreads();
    return result;
  };
  float most = -INFINITY, sum = 0;
  for (Index i = threadIdx.x; i <= row; i += 256) most = fmaxf(most, __bfloat162float(s[i]));
  most = reduce(most, true);
  for (Index i = threadIdx.x; i <= row; i += 256) sum += __expf(__bfloat162float(s[i]) - most);
  sum = reduce(sum, false);
  for (Index i = threadIdx.x; i < length; i += 256)
    s[i] = __float2bfloat16(i <= row ? __expf(__bfloat162float(s[i]) - most) / sum : 0.0f);
}

void attention(benchmark::State& state, Index batch, Index length) {
  constexpr int heads = 12, width = 64;  // 768 channels, whose Mamba block has 1536
  const Index count = batch * heads;
  auto q = filled<Bfloat16, 3>({count, length, width}, -1, 1);
  DeviceTensor<Bfloat16, 3> scores(cuda, {count, length, length}), out(cuda, q.extents());
  cublasHandle_t handle;
  check(cublasCreate(&handle));
  const float one = 1, zero = 0, scale = 0.125f;
  const int n = static_cast<int>(length);
  const auto product = [&](cublasOperation_t by, const float* factor, int rows, int inner,
                           const void* a, Index a_size, const void* b, int b_rows, Index b_size,
                           void* c, Index c_size) {
    check(cublasGemmStridedBatchedEx(handle, by, CUBLAS_OP_N, rows, n, inner, factor, a,
                                     CUDA_R_16BF, width, a_size, b, CUDA_R_16BF, b_rows, b_size,
                                     &zero, c, CUDA_R_16BF, rows, c_size, static_cast<int>(count),
                                     CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
  };
  measure(state, [&] {
    product(CUBLAS_OP_T, &scale, n, width, q.data(), length * width, q.data(), width,
            length * width, scores.data(), length * length);
    softmax_rows<<<dim3(static_cast<unsigned>(length), static_cast<unsigned>(count)), 256>>>(
        reinterpret_cast<__nv_bfloat16*>(scores.data()), length);
    check(cudaGetLastError());
    product(CUBLAS_OP_N, &one, width, n, q.data(), length * width, scores.data(), n,
            length * length, out.data(), length * width);
  });
  check(cublasDestroy(handle));
  state.SetItemsProcessed(state.iterations() * batch * length * 1536);
}

template <class Function, class... Arguments>
void add(const std::string& name, Function function, Arguments... arguments) {
  benchmark::RegisterBenchmark(name.c_str(),
                               [=](benchmark::State& state) { function(state, arguments...); })
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond);
}

std::string sizes(Index batch, Index length) {
  return "/bf16/batch:" + std::to_string(batch) + "/length:" + std::to_string(length) +
         "/channels:1536/state:16";
}

}  // namespace

int main(int count, char** arguments) {
  if (ssm::device_count() == 0) {
    std::fputs("cuda_bench: there is no CUDA device here\n", stderr);
    return 1;
  }
  add("device/copy", copy_ceiling);
  add("device/exp2", arithmetic_ceiling, exp2_loop);
  add("device/fma", arithmetic_ceiling, fma_loop);
  for (const auto& [batch, length] :
       {std::pair<Index, Index>{8, 2048}, {1, 2048}, {1, 16384}, {1, 131072}, {1, 1048576}}) {
    add("selective_scan/forward" + sizes(batch, length), forward, batch, length);
    add("selective_scan/backward" + sizes(batch, length), backward, batch, length);
    if (batch * length <= 16384)
      add("selective_scan/naive" + sizes(batch, length), naive, batch, length);
  }
  for (const Index batch : {1, 16, 128})
    add("selective_scan/step/bf16/batch:" + std::to_string(batch), step, batch);
  for (const Index length : {512, 1024, 2048, 4096, 8192, 16384}) {
    add("attention/cublas" + sizes(1, length), attention, Index{1}, length);
    add("selective_scan/beside_attention" + sizes(1, length), forward, Index{1}, length);
  }
  benchmark::Initialize(&count, arguments);
  benchmark::RunSpecifiedBenchmarks();
}
