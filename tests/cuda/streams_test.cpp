#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ssm/cuda.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/cuda_api.hpp"
#include "support/random.hpp"

using namespace ssm;
using test::in_every_order;
using test::RawStream;

namespace {

/// The scratch of every operation, which several streams may share one after the other.
struct Scratches {
  SelectiveScanScratch<float, float, Device> selective;
  LinearScanScratch<float, Device> linear;
  DiagonalScanScratch<float, float, Device> diagonal;
  CausalConvScratch<float, Device> conv;
};

/// Every operation, one after the other, on tensors of its own.
struct Work {
  Index length;
  DeviceTensor<float, 3> u, y, dy, du, x, states, dstates;
  DeviceTensor<float, 4> B, dB;
  DeviceTensor<float, 2> A, weight, dweight;
  DeviceTensor<float, 1> delta;
  static constexpr Index channels = 3, state = 3;

  Work(const Cuda& stream, Index steps) : length(steps) {
    for (auto* sequence : {&u, &y, &dy, &du, &x}) resize(stream, *sequence, {1, length, channels});
    resize(stream, B, {1, length, 1, state}), resize(stream, dB, B.extents());
    resize(stream, A, {channels, state}), resize(stream, weight, {channels, 4});
    resize(stream, dweight, weight.extents()), resize(stream, delta, {channels});
    resize(stream, states, {1, channels, state}), resize(stream, dstates, states.extents());
  }
  /// Puts other numbers where the ones before are, from memory that lives as long as `hosts`.
  template <class Hosts>
  void fill(const Cuda& stream, std::uint64_t seed, Hosts& hosts) {
    test::Random random(seed);
    const auto put = [&](auto& to, double scale, double shift) {
      using To = std::remove_reference_t<decltype(to)>;
      const auto& host = std::get<std::vector<Tensor<float, To::rank>>>(hosts).emplace_back(
          random.normal<float, To::rank>(to.extents(), scale, shift));
      copy(stream, host.view(), to.view());
    };
    put(u, 1, 0), put(dy, 1, 0), put(B, 1, 0), put(A, 0.1, -1), put(weight, 1, 0);
    put(delta, 0.01, 0.2), put(states, 1, 0), put(dstates, 1, 0);
  }
  void run(const Cuda& stream, Scratches& scratch) {
    causal_conv(stream, CausalConvInputs<float, Device>{u, weight}, {.silu = true}, {x},
                scratch.conv);
    SelectiveScanInputs<float, float, Device> in;
    in.u = x, in.delta = u, in.A = A, in.B.varying = B, in.C.varying = B;
    in.initial_state = states;
    selective_scan(stream, in, {.softplus = true}, {y, states}, scratch.selective);
    SelectiveScanInputGradients<float, float, Device> gradients;
    gradients.u = du, gradients.B.varying = dB, gradients.initial_state = dstates;
    selective_scan_backward(stream, in, {.softplus = true}, {dy, dstates}, gradients,
                            scratch.selective);
    causal_conv_backward(stream, CausalConvInputs<float, Device>{u, weight}, {.silu = true}, {du},
                         {{}, dweight}, scratch.conv);
    const LinearScanInputs<float, Device> linear{u, du};
    linear_scan(stream, linear, {}, {x}, scratch.linear);
    linear_scan_backward(stream, linear, {}, {x}, {du, dy}, scratch.linear);
    diagonal_scan(stream, DiagonalScanInputs<float, float, Device>{x, A, delta, A, A}, {}, {x},
                  scratch.diagonal);
    diagonal_scan_backward(stream, DiagonalScanInputs<float, float, Device>{x, A, delta, A, A}, {},
                           {dy}, {.u = du}, scratch.diagonal);
  }
  /// All that was computed, one number after the other.
  [[nodiscard]] std::vector<float> results(const Cuda& stream) const {
    std::vector<float> all;
    const auto take = [&](const auto& from) {
      const auto host = to_host(stream, from);
      all.insert(all.end(), host.begin(), host.end());
    };
    take(y), take(du), take(dy), take(x), take(dB), take(dweight), take(states), take(dstates);
    return all;
  }
};
using Hosts = std::tuple<std::vector<Tensor<float, 1>>, std::vector<Tensor<float, 2>>,
                         std::vector<Tensor<float, 3>>, std::vector<Tensor<float, 4>>>;

/// What the work of this length on the numbers of this seed gives when nothing else runs.
std::vector<float> alone(Index length, std::uint64_t seed) {
  const Stream stream;
  Hosts hosts;
  Scratches scratch;
  Work work(stream, length);
  work.fill(stream, seed, hosts);
  synchronize(stream);
  work.run(stream, scratch);
  synchronize(stream);
  return work.results(stream);
}

constexpr Index whole = 40, cut = 260;

}  // namespace

TEST_CASE("streams that share a scratch one after the other compute what each would alone") {
  const auto first = alone(cut, 1), second = alone(whole, 2), third = alone(cut, 3);
  CHECK(std::all_of(first.begin(), first.end(), [](float x) { return x == x; }));
  in_every_order(12, [&] {
    const Stream a, b;
    const RawStream c(cudaStreamDefault);  // which waits for the default stream
    Hosts hosts;
    Work one(a, cut), two(b, whole), three(cuda(c), cut);
    one.fill(a, 1, hosts), two.fill(b, 2, hosts), three.fill(cuda(c), 3, hosts);
    Scratches scratch;
    two.run(b, scratch);
    one.run(a, scratch);  // the scratch grows
    three.run(cuda(c), scratch);
    two.fill(b, 2, hosts);
    two.run(b, scratch);
    CHECK(one.results(a) == first);
    CHECK(three.results(cuda(c)) == third);
    CHECK(two.results(b) == second);
  });
}

TEST_CASE("memory that is given up serves the work that a stream was given before") {
  const auto want = alone(cut, 4);
  in_every_order(12, [&] {
    const Stream stream, other;
    Hosts hosts;
    std::vector<float> got(want.size());
    {
      Work work(stream, cut);
      work.fill(stream, 4, hosts);
      {
        Scratches scratch;
        work.run(stream, scratch);
      }
      Work next(stream, cut);  // perhaps in the same memory
      next.fill(stream, 5, hosts);
      CHECK(work.results(stream) == want);
    }
    // A tensor that another stream takes over, larger, while the first still works on it.
    DeviceTensor<float, 1> result(stream, {1}), large(stream, {1000});
    Tensor<float, 1> host({1}), back({1});
    host(0) = 3;
    copy(stream, host.view(), result.view());
    copy(stream, result.view(), View<float, 1, Device>(large.data(), {1}));
    result.resize(other, {2000});
    copy(stream, View<const float, 1, Device>(large.data(), {1}), back.view());
    synchronize(stream);
    CHECK(back(0) == 3);
  });
}

TEST_CASE("every operation becomes a graph that gives the call's results, on other data, again") {
  const auto sixth = alone(cut, 6), seventh = alone(cut, 7), eighth = alone(whole, 8);
  in_every_order(6, [&] {
    const RawStream stream;
    Hosts hosts;
    Scratches scratch;
    Work work(cuda(stream), cut), longer(cuda(stream), 2 * cut), other(cuda(stream), whole);
    work.fill(cuda(stream), 5, hosts);
    CHECK_THROWS_AS(test::Graph(stream, [&] { work.run(cuda(stream), scratch); }),
                    CudaError);  // its scratch must have grown
    work.run(cuda(stream), scratch);
    const test::Graph graph(stream, [&] { work.run(cuda(stream), scratch); });
    work.fill(cuda(stream), 6, hosts);
    graph.launch(stream);
    CHECK(work.results(cuda(stream)) == sixth);
    longer.fill(cuda(stream), 9, hosts);
    longer.run(cuda(stream), scratch);  // the scratch grows beyond what the graph keeps
    other.fill(cuda(stream), 8, hosts);
    other.run(cuda(stream), scratch);
    work.fill(cuda(stream), 7, hosts);
    graph.launch(stream);
    CHECK(work.results(cuda(stream)) == seventh);
    CHECK(other.results(cuda(stream)) == eighth);
    work.fill(cuda(stream), 6, hosts);
    graph.launch(stream);
    CHECK(work.results(cuda(stream)) == sixth);
  });
}

TEST_CASE("a capture is neither joined nor broken by what happens to buffers meanwhile") {
  in_every_order(3, [&] {
    const RawStream captured, other;
    DeviceBuffer first, second;
    std::optional<DeviceBuffer> third(std::in_place);
    static_cast<void>(first.reserve(cuda(captured), 100));
    static_cast<void>(second.reserve(cuda(other), 100));
    static_cast<void>(third->reserve(cuda(other), 100));
    const test::Graph graph(captured, [&] {
      CHECK_THROWS_AS(first.reserve(cuda(other), 50), CudaError);   // by an event it would join
      CHECK_THROWS_AS(first.reserve(cuda(other), 500), CudaError);  // and leave memory in use
      CHECK_THROWS_AS(second.reserve(cuda(captured), 500), CudaError);
      CHECK(second.reserve(cuda(captured), 50) == second.data());
      CHECK(second.reserve(cuda(other), 200) != nullptr);
      third.reset();
    });
    CHECK(first.size() == 100);
    CHECK(second.size() == 200);
    CHECK_NOTHROW(first.reserve(cuda(other), 500));
  });
}

TEST_CASE("a buffer that is moved from is empty, and what was moved onto is given up") {
  in_every_order(2, [] {
    DeviceBuffer first, second;
    static_cast<void>(first.reserve(cuda, 100));
    static_cast<void>(second.reserve(cuda, 200));
    second = std::move(first);
    CHECK(first.size() == 0);  // NOLINT: what it is afterwards is documented
    CHECK(first.data() == nullptr);
    CHECK(second.size() == 100);
    DeviceBuffer& same = second;
    second = std::move(same);
    CHECK(second.size() == 100);
  });
}

TEST_CASE("memory belongs to the device that was current, and goes back there") {
  if (device_count() < 2) return;
  const auto reason = [](auto&& call) {
    try {
      call();
    } catch (const CudaError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  in_every_order(3, [&] {
    const Stream of_first;
    std::optional<DeviceBuffer> buffer(std::in_place);
    static_cast<void>(buffer->reserve(cuda, 100));
    REQUIRE(cudaSetDevice(1) == cudaSuccess);
    CHECK(reason([&] { static_cast<void>(buffer->reserve(cuda, 10)); }) ==
          "DeviceBuffer: its memory is on device 0, expected on the current one, 1");
    DeviceBuffer of_second;
    CHECK(reason([&] { static_cast<void>(of_second.reserve(of_first, 100)); }) ==
          "DeviceBuffer: the stream is one of device 0, expected one of the current device, 1");
    CHECK(of_second.size() == 0);
    const DeviceTensor<float, 2> x(cuda, {2, 3}), weight(cuda, {3, 2});
    const DeviceTensor<float, 3> states(cuda, {2, 1, 3});
    CHECK(reason([&] {
            causal_conv_step(of_first, CausalConvStepInputs<float, Device>{x, weight}, {},
                             View<float, 3, Device>(const_cast<float*>(states.data()), {2, 1, 3}),
                             View<float, 2, Device>(const_cast<float*>(x.data()), {2, 3}));
          }) ==
          "causal_conv_step: the launch of a kernel failed: invalid resource handle "
          "(expected a stream of the thread's current device)");
    buffer.reset();
    int device = -1;
    CHECK(cudaGetDevice(&device) == cudaSuccess);
    CHECK(device == 1);
    CHECK(cudaPeekAtLastError() == cudaSuccess);
    REQUIRE(cudaSetDevice(0) == cudaSuccess);
  });
}
