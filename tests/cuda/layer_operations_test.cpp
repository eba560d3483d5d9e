#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <vector>

#include "ssm/cuda.hpp"
#include "ssm/layers/add.hpp"
#include "ssm/layers/copy_rows.hpp"
#include "ssm/layers/cross_entropy.hpp"
#include "ssm/layers/decay.hpp"
#include "ssm/layers/dropout.hpp"
#include "ssm/layers/embedding.hpp"
#include "ssm/layers/gelu_glu.hpp"
#include "ssm/layers/linear.hpp"
#include "ssm/layers/mean_over_time.hpp"
#include "ssm/layers/rms_norm.hpp"
#include "ssm/layers/swiglu.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/cuda_api.hpp"
#include "support/random.hpp"

/// The operations of a layer on a device, against those of the CPU in double on the same numbers.
namespace cuda_layer_operations_test {

using namespace ssm;
using test::Random;

namespace {

/// Numbers of type T on the device, and the same ones in double on the host, as a part of wider
/// rows where `gap` says so.
template <class T, std::size_t Rank>
struct Both {
  Tensor<double, Rank> host;
  DeviceTensor<T, Rank> device;
  Index width;

  Both(Random& random, std::array<Index, Rank> extents, Index gap = 0) : width(extents[Rank - 1]) {
    extents[Rank - 1] += gap;
    const auto drawn = random.normal<T, Rank>(extents);
    host.resize(extents);
    std::copy(drawn.begin(), drawn.end(), host.begin());
    device = to_device(cuda, drawn);
  }
  [[nodiscard]] View<double, Rank> on_host() { return host.view().slice(Rank - 1, 0, width); }
  [[nodiscard]] View<T, Rank, Device> on_device() {
    return device.view().slice(Rank - 1, 0, width);
  }
  /// How far what the device holds is from what the host does, gaps included.
  [[nodiscard]] double error() const {
    return test::relative_error(to_host(cuda, device), host, 1);
  }
};

template <class T>
double epsilon() {
  return static_cast<double>(std::numeric_limits<T>::epsilon());
}

constexpr std::array<std::array<Index, 2>, 7> shapes{
    {{0, 3}, {3, 0}, {1, 1}, {3, 5}, {33, 70}, {2, 300}, {5, 1100}}};

}  // namespace

TEMPLATE_TEST_CASE("operations on elements on a device are those of the CPU, in place and strided",
                   "", float, double) {
  using T = TestType;
  for (const auto& [rows, width] : shapes)
    for (const Index gap : {0, 3}) {
      CAPTURE(rows, width, gap);
      Random random(1);
      const std::array<Index, 2> extents{rows, width};
      const double tolerance = 40 * epsilon<T>();
      const auto fresh = [&] { return Both<T, 2>(random, extents, gap); };
      auto a = fresh(), b = fresh(), y = fresh(), dy = fresh(), da = fresh(), db = fresh();
      AddScratch<double> add_host;
      AddScratch<T, Device> add_device;
      add(cpu, AddInputs<double>{a.on_host(), b.on_host()}, {}, {y.on_host()}, add_host);
      add(cuda, AddInputs<T, Device>{a.on_device(), b.on_device()}, {}, {y.on_device()},
          add_device);
      CHECK(y.error() <= tolerance);
      add(cpu, AddInputs<double>{y.on_host(), b.on_host()}, {}, {y.on_host()}, add_host);
      add(cuda, AddInputs<T, Device>{y.on_device(), b.on_device()}, {}, {y.on_device()},
          add_device);
      CHECK(y.error() <= tolerance);

      CopyRowsScratch<double> copy_host;
      CopyRowsScratch<T, Device> copy_device;
      copy_rows(cpu, CopyRowsInputs<double>{a.on_host()}, {}, {y.on_host()}, copy_host);
      copy_rows(cuda, CopyRowsInputs<T, Device>{a.on_device()}, {}, {y.on_device()}, copy_device);
      CHECK(y.error() == 0);

      GeluScratch<double> gelu_host;
      GeluScratch<T, Device> gelu_device;
      gelu(cpu, GeluInputs<double>{a.on_host()}, {}, {y.on_host()}, gelu_host);
      gelu(cuda, GeluInputs<T, Device>{a.on_device()}, {}, {y.on_device()}, gelu_device);
      CHECK(y.error() <= tolerance);
      gelu_backward(cpu, GeluInputs<double>{a.on_host()}, {}, {dy.on_host()}, {da.on_host()},
                    gelu_host);
      gelu_backward(cuda, GeluInputs<T, Device>{a.on_device()}, {}, {dy.on_device()},
                    {da.on_device()}, gelu_device);
      CHECK(da.error() <= tolerance);

      SwigluScratch<double> swiglu_host;
      SwigluScratch<T, Device> swiglu_device;
      const SwigluInputs<double> on_host{a.on_host(), b.on_host()};
      const SwigluInputs<T, Device> on_device{a.on_device(), b.on_device()};
      swiglu(cpu, on_host, {}, {y.on_host()}, swiglu_host);
      swiglu(cuda, on_device, {}, {y.on_device()}, swiglu_device);
      CHECK(y.error() <= tolerance);
      swiglu_backward(cpu, on_host, {}, {dy.on_host()}, {da.on_host(), db.on_host()}, swiglu_host);
      swiglu_backward(cuda, on_device, {}, {dy.on_device()}, {da.on_device(), db.on_device()},
                      swiglu_device);
      CHECK(da.error() <= tolerance);
      CHECK(db.error() <= tolerance);

      GluScratch<double> glu_host;
      GluScratch<T, Device> glu_device;
      Both<T, 2> pair(random, {rows, 2 * width}, gap), dpair(random, {rows, 2 * width}, gap);
      glu(cpu, GluInputs<double>{pair.on_host()}, {}, {y.on_host()}, glu_host);
      glu(cuda, GluInputs<T, Device>{pair.on_device()}, {}, {y.on_device()}, glu_device);
      CHECK(y.error() <= tolerance);
      glu_backward(cpu, GluInputs<double>{pair.on_host()}, {}, {dy.on_host()}, {dpair.on_host()},
                   glu_host);
      glu_backward(cuda, GluInputs<T, Device>{pair.on_device()}, {}, {dy.on_device()},
                   {dpair.on_device()}, glu_device);
      CHECK(dpair.error() <= tolerance);
      if (gap > 0) continue;  // what follows takes whole arrays

      DropoutScratch<double> dropout_host;
      DropoutScratch<T, Device> dropout_device;
      for (const double probability : {0.0, 0.3}) {
        const Dropout some{probability, 7};
        dropout(cpu, DropoutInputs<double>{a.on_host()}, some, {y.on_host()}, dropout_host);
        dropout(cuda, DropoutInputs<T, Device>{a.on_device()}, some, {y.on_device()},
                dropout_device);
        CHECK(y.error() <= tolerance);
        dropout_backward(cpu, DropoutInputs<double>{a.on_host()}, some, {dy.on_host()},
                         {dy.on_host()}, dropout_host);
        dropout_backward(cuda, DropoutInputs<T, Device>{a.on_device()}, some, {dy.on_device()},
                         {dy.on_device()}, dropout_device);
        CHECK(dy.error() <= tolerance);
      }
      DecayScratch<double> decay_host;
      DecayScratch<T, Device> decay_device;
      decay(cpu, DecayInputs<double>{a.on_host()}, {}, {y.on_host()}, decay_host);
      decay(cuda, DecayInputs<T, Device>{a.on_device()}, {}, {y.on_device()}, decay_device);
      CHECK(y.error() <= tolerance);
      decay_backward(cpu, DecayInputs<double>{a.on_host()}, {}, {y.on_host()}, {y.on_host()},
                     decay_host);
      decay_backward(cuda, DecayInputs<T, Device>{a.on_device()}, {}, {y.on_device()},
                     {y.on_device()}, decay_device);
      CHECK(y.error() <= tolerance);
    }
}

TEMPLATE_TEST_CASE("rms_norm on a device and its gradients are those of the CPU", "", float,
                   double) {
  using T = TestType;
  for (const auto& [rows, width] : shapes)
    for (const bool weighted : {false, true})
      for (const Write write : {Write::overwrite, Write::accumulate}) {
        CAPTURE(rows, width, weighted);
        Random random(2);
        const std::array<Index, 2> extents{rows, width};
        Both<T, 2> x(random, extents, 2), y(random, extents), dy(random, extents, 1),
            dx(random, extents);
        Both<T, 1> weight(random, {width}), dweight(random, {width});
        RmsNormInputs<double> on_host{x.on_host(), {}};
        RmsNormInputs<T, Device> on_device{x.on_device(), {}};
        RmsNormInputGradients<double> host_gradients{dx.on_host(), {}};
        RmsNormInputGradients<T, Device> device_gradients{dx.on_device(), {}};
        if (weighted) {
          on_host.weight = weight.host, on_device.weight = weight.device;
          host_gradients.weight = dweight.host, device_gradients.weight = dweight.device;
        }
        RmsNormScratch<double> host_scratch;
        RmsNormScratch<T, Device> scratch;
        const RmsNormOptions options{.epsilon = 1e-3, .write = write};
        rms_norm(cpu, on_host, options, {y.on_host()}, host_scratch);
        rms_norm(cuda, on_device, options, {y.on_device()}, scratch);
        rms_norm_backward(cpu, on_host, options, {dy.on_host()}, host_gradients, host_scratch);
        rms_norm_backward(cuda, on_device, options, {dy.on_device()}, device_gradients, scratch);
        const double tolerance = (40 + static_cast<double>(rows)) * epsilon<T>();
        CHECK(y.error() <= tolerance);
        CHECK(dx.error() <= tolerance);
        CHECK(dweight.error() <= tolerance);
      }
  RmsNormScratch<T, Device> scratch;
  const DeviceTensor<T, 2> x(cuda, {2, 3});
  DeviceTensor<T, 2> y(cuda, {2, 3});
  CHECK_THROWS_AS(
      rms_norm_backward(cuda, RmsNormInputs<T, Device>{x, {}}, {}, {x}, {y, {}}, scratch),
      ShapeError);
}

TEMPLATE_TEST_CASE("products on a device and their gradients are those of the CPU", "", float,
                   double) {
  using T = TestType;
  LinearScratch<double> host_scratch;
  LinearScratch<T, Device> scratch;  // plans of all shapes
  for (const auto& [rows, in, out] :
       {std::array<Index, 3>{0, 3, 2}, {2, 0, 3}, {3, 2, 0}, {1, 1, 1}, {33, 7, 5}, {5, 70, 130}})
    for (const Index gap : {0, 3})
      for (const Write write : {Write::overwrite, Write::accumulate}) {
        CAPTURE(rows, in, out, gap);
        Random random(3);
        Both<T, 2> x(random, {rows, in}, gap), y(random, {rows, out}, gap),
            dy(random, {rows, out}, gap), dx(random, {rows, in}, gap);
        Both<T, 2> weight(random, {out, in}, gap), dweight(random, {out, in}, gap);
        Both<T, 1> bias(random, {out}), dbias(random, {out});
        const LinearInputs<double> on_host{x.on_host(), weight.on_host(), bias.on_host()};
        const LinearInputs<T, Device> on_device{x.on_device(), weight.on_device(),
                                                bias.on_device()};
        linear(cpu, on_host, {write}, {y.on_host()}, host_scratch);
        linear(cuda, on_device, {write}, {y.on_device()}, scratch);
        linear_backward(cpu, on_host, {write}, {dy.on_host()},
                        {dx.on_host(), dweight.on_host(), dbias.on_host()}, host_scratch);
        linear_backward(cuda, on_device, {write}, {dy.on_device()},
                        {dx.on_device(), dweight.on_device(), dbias.on_device()}, scratch);
        const double tolerance = 4 * (4 + static_cast<double>(rows + in + out)) * epsilon<T>();
        CHECK(y.error() <= tolerance);
        CHECK(dx.error() <= tolerance);
        CHECK(dweight.error() <= tolerance);
        CHECK(dbias.error() <= tolerance);
      }
}

TEST_CASE("a product takes rows at addresses of any alignment, and refuses what overlaps itself") {
  DeviceTensor<float, 1> memory(cuda, {100});
  LinearScratch<float, Device> scratch;
  const auto at = [&](Index offset, Index stride) {
    return View<float, 2, Device>(memory.data() + offset, {3, 4}, {stride, 1});
  };
  for (const Index offset : {0, 1, 2, 3})
    CHECK_NOTHROW(linear(cuda, LinearInputs<float, Device>{at(offset, 4), at(20 + offset, 5)}, {},
                         {View<float, 2, Device>(memory.data() + 60 + offset, {3, 3})}, scratch));
  CHECK_THROWS_WITH(linear(cuda, LinearInputs<float, Device>{at(0, 2), at(20, 4)}, {},
                           {View<float, 2, Device>(memory.data() + 60, {3, 3})}, scratch),
                    "linear: x is strided as (2, 1), expected rows that follow each other in "
                    "memory");
  synchronize(cuda);
}

TEST_CASE("a captured stream multiplies shapes that were multiplied before, and no others") {
  const Stream stream;
  Random random(4);
  Both<float, 2> x(random, {3, 4}), weight(random, {5, 4}), y(random, {3, 5});
  synchronize(cuda);
  LinearScratch<float, Device> scratch;
  const auto product = [&] {
    linear(stream, LinearInputs<float, Device>{x.device, weight.device}, {}, {y.device}, scratch);
  };
  const Cuda backend = stream;
  CHECK_THROWS_AS(test::Graph(backend.stream, product), CudaError);
  product();
  synchronize(stream);
  const test::Graph graph(backend.stream, product);
  LinearScratch<double> host_scratch;
  for (const double scale : {1.0, 2.0}) {  // on other numbers in the same memory
    for (double& value : x.host) value *= scale;
    Tensor<float, 2> now(x.host.extents());
    std::transform(x.host.begin(), x.host.end(), now.begin(),
                   [](double value) { return static_cast<float>(value); });
    copy(stream, now.view(), x.device.view());
    graph.launch(backend.stream);
    synchronize(stream);
    linear(cpu, LinearInputs<double>{x.host, weight.host}, {}, {y.host}, host_scratch);
    CHECK(y.error() <= 100 * epsilon<float>());
  }
}

TEMPLATE_TEST_CASE("an embedding on a device and its gradient are those of the CPU", "", float,
                   double) {
  using T = TestType;
  for (const auto& [batch, length, vocab, width] :
       {std::array<Index, 4>{0, 3, 5, 2}, {2, 1, 1, 1}, {3, 7, 20, 5}, {2, 200, 9, 300}})
    for (const Write write : {Write::overwrite, Write::accumulate}) {
      CAPTURE(batch, length, vocab, width);
      Random random(5);
      Both<T, 3> y(random, {batch, length, width}), dy(random, {batch, length, width}, 2);
      Both<T, 2> weight(random, {vocab, width}, 1), dweight(random, {vocab, width}, 3);
      Tensor<Token, 2> tokens({batch, length});
      for (Token& token : tokens) token = static_cast<Token>(random.integer(0, vocab - 1));
      const auto on_tokens = to_device(cuda, tokens);
      const EmbeddingInputs<double> on_host{tokens, weight.on_host()};
      const EmbeddingInputs<T, Device> on_device{on_tokens, weight.on_device()};
      EmbeddingScratch<double> host_scratch;
      EmbeddingScratch<T, Device> scratch;
      embedding(cpu, on_host, {}, {y.on_host()}, host_scratch);
      embedding(cuda, on_device, {}, {y.on_device()}, scratch);
      embedding_backward(cpu, on_host, {write}, {dy.on_host()}, {dweight.on_host()}, host_scratch);
      embedding_backward(cuda, on_device, {write}, {dy.on_device()}, {dweight.on_device()},
                         scratch);
      CHECK(y.error() == 0);
      CHECK(dweight.error() <= static_cast<double>(4 + batch * length) * epsilon<T>());
    }
}

TEST_CASE("a token outside the vocabulary gives NaN on a device, and moves no row of the table") {
  Tensor<Token, 2> tokens({1, 4});
  tokens(0, 0) = 1, tokens(0, 1) = -1, tokens(0, 2) = 3, tokens(0, 3) = 2;
  const auto on_tokens = to_device(cuda, tokens);
  Random random(6);
  Both<float, 2> weight(random, {3, 2}), dweight(random, {3, 2});
  Both<float, 3> dy(random, {1, 4, 2}), y(random, {1, 4, 2});
  EmbeddingScratch<float, Device> scratch;
  const EmbeddingInputs<float, Device> in{on_tokens, weight.device};
  embedding(cuda, in, {}, {y.device}, scratch);
  embedding_backward(cuda, in, {Write::overwrite}, {dy.device}, {dweight.device}, scratch);
  const auto rows = to_host(cuda, y.device);
  const auto slope = to_host(cuda, dweight.device);
  for (Index t = 0; t < 4; ++t) CHECK((rows(0, t, 0) != rows(0, t, 0)) == (t == 1 || t == 2));
  CHECK(slope(0, 0) == 0);
  CHECK(slope(1, 1) == static_cast<float>(dy.host(0, 0, 1)));
  CHECK(slope(2, 1) == static_cast<float>(dy.host(0, 3, 1)));

  CrossEntropyScratch<float, Device> loss;
  DeviceTensor<float, 2> dlogits(cuda, {4, 2});
  const double nats =
      cross_entropy(cuda,
                    CrossEntropyInputs<float, Device>{
                        View<float, 2, Device>(dy.device.data(), {4, 2}), on_tokens},
                    {.ignore = 2}, {dlogits}, loss);
  CHECK(nats != nats);
  const auto rows_of_loss = to_host(cuda, dlogits);
  for (Index t = 0; t < 4; ++t)
    CHECK((rows_of_loss(t, 0) != rows_of_loss(t, 0)) == (t == 1 || t == 2));
}

TEMPLATE_TEST_CASE("the cross-entropy on a device and its gradient are those of the CPU", "", float,
                   double) {
  using T = TestType;
  for (const auto& [batch, length, vocab] :
       {std::array<Index, 3>{0, 3, 5}, {1, 1, 1}, {2, 7, 20}, {3, 100, 7}, {1, 3, 1500}})
    for (const CrossEntropyOptions& options :
         {CrossEntropyOptions{}, CrossEntropyOptions{.ignore = 0}, CrossEntropyOptions{.count = 9}})
      for (const bool wanted : {false, true}) {
        CAPTURE(batch, length, vocab, options.ignore, options.count);
        Random random(7);
        Both<T, 2> logits(random, {batch * length, vocab}, 2);
        Tensor<Token, 2> targets({batch, length});
        for (Token& token : targets) token = static_cast<Token>(random.integer(0, vocab - 1));
        if (targets.size() > 2) targets(0, 1) = options.ignore;
        const auto on_targets = to_device(cuda, targets);
        CrossEntropyScratch<double> host_scratch;
        CrossEntropyScratch<T, Device> scratch;
        CrossEntropyOutputs<double> host_out;
        CrossEntropyOutputs<T, Device> out;
        if (wanted) host_out.dlogits = logits.on_host(), out.dlogits = logits.on_device();
        const double want =
            cross_entropy(cpu, CrossEntropyInputs<double>{logits.on_host(), targets}, options,
                          host_out, host_scratch);
        const double got =
            cross_entropy(cuda, CrossEntropyInputs<T, Device>{logits.on_device(), on_targets},
                          options, out, scratch);
        CHECK(std::abs(got - want) <= 100 * epsilon<T>() * std::max(std::abs(want), 1.0));
        CHECK(logits.error() <= 100 * epsilon<T>());
      }
}

TEST_CASE("a captured stream takes a loss that stays on the device, and no other") {
  const Stream stream;
  const Cuda backend = stream;
  DeviceTensor<float, 2> logits(stream, {2, 3});
  DeviceTensor<Token, 2> targets(stream, {1, 2});
  DeviceTensor<double, 1> loss(stream, {1});
  const CrossEntropyInputs<float, Device> in{logits, targets};
  CrossEntropyScratch<float, Device> scratch;
  const auto on_device = [&] { cross_entropy(stream, in, {}, {}, loss.view(), scratch); };
  on_device();
  CHECK_NOTHROW(test::Graph(backend.stream, on_device));
  CHECK_THROWS_AS(
      test::Graph(backend.stream,
                  [&] { static_cast<void>(cross_entropy(stream, in, {}, {}, scratch)); }),
      CudaError);
  synchronize(stream);
}

TEMPLATE_TEST_CASE("the mean over time on a device and its gradient are those of the CPU", "",
                   float, double) {
  using T = TestType;
  struct Rows {
    Index batch, length, width;
    std::vector<Index> packed;
  };
  for (const Rows& shape : {Rows{0, 3, 2, {}}, Rows{2, 0, 3, {}}, Rows{2, 1, 1, {}},
                            Rows{3, 37, 70, {}}, Rows{1, 30, 5, {0, 0, 1, 30, 30}}}) {
    CAPTURE(shape.batch, shape.length, shape.width, shape.packed.size());
    Random random(8);
    Tensor<Index, 1> offsets({static_cast<Index>(shape.packed.size())});
    std::copy(shape.packed.begin(), shape.packed.end(), offsets.begin());
    const auto on_offsets = to_device(cuda, offsets);
    Both<T, 3> x(random, {shape.batch, shape.length, shape.width}, 2);
    MeanOverTimeInputs<double> on_host{x.on_host(), {}};
    MeanOverTimeInputs<T, Device> on_device{x.on_device(), {}};
    on_host.sequences.reversed = on_device.sequences.reversed = true;
    if (!shape.packed.empty())
      on_host.sequences.offsets = offsets, on_device.sequences.offsets = on_offsets;
    const std::array<Index, 2> means{on_host.sequences.count(shape.batch), shape.width};
    Both<T, 2> y(random, means, 1), dy(random, means);
    Both<T, 3> dx(random, {shape.batch, shape.length, shape.width});
    MeanOverTimeScratch<double> host_scratch;
    MeanOverTimeScratch<T, Device> scratch;
    mean_over_time(cpu, on_host, {}, {y.on_host()}, host_scratch);
    mean_over_time(cuda, on_device, {}, {y.on_device()}, scratch);
    mean_over_time_backward(cpu, on_host, {}, {dy.on_host()}, {dx.on_host()}, host_scratch);
    mean_over_time_backward(cuda, on_device, {}, {dy.on_device()}, {dx.on_device()}, scratch);
    CHECK(y.error() <= 40 * epsilon<T>());
    CHECK(dx.error() <= 4 * epsilon<T>());
  }
}

}  // namespace cuda_layer_operations_test
