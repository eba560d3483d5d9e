#include <algorithm>
#include <array>
#include <complex>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "ssm/cuda.hpp"
#include "ssm/cuda/models.hpp"
#include "ssm/layers/s4d.hpp"
#include "ssm/layers/s5.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/cuda_api.hpp"
#include "support/random.hpp"

/// S4D and S5 on a device, through the same code as on the CPU and held to it in double.
namespace cuda_mode_layers_test {

using namespace ssm;
using test::Random;
using test::relative_error;

namespace {

/// The parameters of a layer, in double.
template <class Layer>
std::vector<double> numbers(const Layer& layer) {
  std::vector<double> all;
  parameters(layer, [&](const auto&, const auto& tensor, const auto&, bool) {
    for (const auto x : tensor) all.push_back(static_cast<double>(x));
  });
  return all;
}
template <class Layer>
void set_numbers(Layer& layer, const std::vector<double>& all) {
  auto next = all.begin();
  parameters(layer, [&](const auto&, auto& tensor, const auto&, bool) {
    for (auto& x : tensor) x = static_cast<std::remove_cvref_t<decltype(x)>>(*next++);
  });
}

/// The largest error of each parameter over its own size.
template <class Layer, class Want>
double parameter_error(const Layer& got, const Want& want) {
  std::vector<double> errors;
  std::vector<double> flat = numbers(got);
  auto at = flat.begin();
  parameters(want, [&](const auto&, const auto& tensor, const auto&, bool) {
    double most = 1e-3, error = 0;
    for (const double x : tensor) most = std::max(most, std::abs(x));
    for (const double x : tensor) error = test::worse(error, std::abs(*at++ - x));
    errors.push_back(error / most);
  });
  double worst = 0;
  for (const double error : errors) worst = test::worse(worst, error);
  return worst;
}

template <class K, class T, std::size_t Rank>
Tensor<K, Rank> as(const Tensor<T, Rank>& from) {
  Tensor<K, Rank> to(from.extents());
  std::transform(from.begin(), from.end(), to.begin(), [](const T& x) { return K(x); });
  return to;
}

struct Call {
  Index batch, length;
  std::vector<Index> packed = {};
  bool reversed = false, stateful = true;
};

/// Forward and backward of a layer on the device in T against those of the CPU in double.
/// `Narrow` and `Wide` are the layer of host memory in either type.
template <class Narrow, class Wide>
void check(const typename Narrow::Config& config, const Call& call) {
  using T = typename Narrow::value_type;
  CAPTURE(call.batch, call.length, call.packed.size(), call.reversed, call.stateful,
          config.bidirectional);
  const double epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
  const Stream stream;
  Narrow narrow(config);
  initialize(narrow, 3);
  Wide wide(config);
  set_numbers(wide, numbers(narrow));
  const auto layer = to_device(stream, narrow);
  using OnLayer = OnDevice<Narrow>;

  Random random(4);
  const std::array<Index, 3> rows{call.batch, call.length, config.width};
  const auto u = random.normal<T>(rows), dy = random.normal<T>(rows);
  const auto wide_u = as<double>(u), wide_dy = as<double>(dy);
  Tensor<Index, 1> offsets({static_cast<Index>(call.packed.size())});
  std::copy(call.packed.begin(), call.packed.end(), offsets.begin());
  const auto on_offsets = to_device(stream, offsets);
  LayerOptions<> options{.rate = 1.5};
  LayerOptions<Device> on_options{.rate = 1.5};
  options.sequences.reversed = on_options.sequences.reversed = call.reversed;
  if (!call.packed.empty())
    options.sequences.offsets = offsets, on_options.sequences.offsets = on_offsets;

  const Index sequences = options.sequences.count(call.batch);
  auto state = make_state(wide, sequences), dstate = make_state(wide, sequences);
  auto on_state = make_state(stream, layer, sequences),
       on_dstate = make_state(stream, layer, sequences);
  const auto draw = [&](auto& host, auto& device) {
    using K = typename std::remove_cvref_t<decltype(device)>::value_type;
    const auto drawn = random.normal<K>(host.extents());
    host = as<std::complex<double>>(drawn);
    copy(stream, drawn.view(), device.view());
    synchronize(stream);
  };
  draw(state.x, on_state.x), draw(dstate.x, on_dstate.x);
  if (config.bidirectional)
    draw(state.x_back, on_state.x_back), draw(dstate.x_back, on_dstate.x_back);

  const auto on_u = to_device(stream, u), on_dy = to_device(stream, dy);
  Tensor<double, 3> y(rows), du(rows);
  DeviceTensor<T, 3> on_y(stream, rows), on_du(stream, rows);
  typename Wide::Scratch scratch;
  typename OnLayer::Scratch on_scratch;
  Wide gradients;
  OnLayer on_gradients;
  using MaybeState = Maybe<typename Wide::State>;
  using OnMaybe = Maybe<typename OnLayer::State>;
  forward(cpu, wide, wide_u, call.stateful ? MaybeState(state) : MaybeState(), y, options, scratch);
  forward(stream, layer, on_u, call.stateful ? OnMaybe(on_state) : OnMaybe(), on_y, on_options,
          on_scratch);
  backward(cpu, wide, wide_u, call.stateful ? MaybeState(dstate) : MaybeState(),
           std::as_const(wide_dy), du, gradients, options, scratch);
  backward(stream, layer, on_u, call.stateful ? OnMaybe(on_dstate) : OnMaybe(),
           std::as_const(on_dy), on_du, on_gradients, on_options, on_scratch);
  Narrow back(config);
  copy_parameters(stream, on_gradients, back);
  synchronize(stream);
  const double tolerance = 60 * (8 + static_cast<double>(call.length)) * epsilon;
  CHECK(relative_error(to_host(stream, on_y), y, 1e-3) <= tolerance);
  CHECK(relative_error(to_host(stream, on_du), du, 1e-3) <= tolerance);
  CHECK(parameter_error(back, gradients) <= tolerance);
  if (!call.stateful) return;
  CHECK(relative_error(to_host(stream, on_state.x), state.x, 1e-3) <= tolerance);
  CHECK(relative_error(to_host(stream, on_dstate.x), dstate.x, 1e-3) <= tolerance);
  if (!config.bidirectional) return;
  CHECK(relative_error(to_host(stream, on_state.x_back), state.x_back, 1e-3) <= tolerance);
  CHECK(relative_error(to_host(stream, on_dstate.x_back), dstate.x_back, 1e-3) <= tolerance);
}

template <class Narrow, class Wide>
void check_calls(const typename Narrow::Config& config) {
  for (const bool reversed : {false, true})
    for (const bool stateful : {false, true}) {
      check<Narrow, Wide>(config, {2, 0, {}, reversed, stateful});
      check<Narrow, Wide>(config, {2, 1, {}, reversed, stateful});
      check<Narrow, Wide>(config, {2, 37, {}, reversed, stateful});
      check<Narrow, Wide>(config, {1, 23, {0, 0, 1, 20, 23, 23}, reversed, stateful});
    }
}

}  // namespace

TEMPLATE_TEST_CASE("S4D on a device computes what it does on the CPU, in one direction and both",
                   "", float, double) {
  for (const bool both : {false, true})
    check_calls<S4d<TestType>, S4d<double>>({.width = 5, .state = 6, .bidirectional = both});
  check<S4d<TestType>, S4d<double>>(
      {.width = 3, .state = 4, .method = Discretization::bilinear, .form = S4dForm::convolution},
      {1, 300});
  check<S4d<TestType>, S4d<double>>({.width = 3, .state = 4, .dss = true, .dss_length = 20},
                                    {2, 20});
  check<S4d<TestType>, S4d<double>>({.width = 3, .state = 4, .dss = true},
                                    {.batch = 2, .length = 20, .stateful = false});
}

TEMPLATE_TEST_CASE("S5 on a device computes what it does on the CPU, in one direction and both", "",
                   float, double) {
  for (const bool both : {false, true})
    check_calls<S5<TestType>, S5<double>>({.width = 5, .state = 8, .bidirectional = both});
  check<S5<TestType>, S5<double>>({.width = 3, .state = 4, .method = Discretization::bilinear},
                                  {1, 300});
}

TEST_CASE("stacks of S4D and S5 in the block of S4 run on a device as classifiers") {
  const auto check_model = [](auto layer) {
    using Block = S4Block<decltype(layer)>;
    using Model = SequenceClassifier<Block>;
    const Stream stream;
    Model host({.inputs = 2, .classes = 3, .backbone = {2, {{{.width = 4, .state = 4}}}}});
    initialize(host, 5);
    const auto model = to_device(stream, host);
    const auto sequences = Random(6).normal<double, 3>({3, 25, 2});
    Tensor<Token, 1> labels({3});
    labels(1) = 2;
    const auto on_sequences = to_device(stream, sequences);
    const auto on_labels = to_device(stream, labels);
    Model gradients;
    OnDevice<Model> on_gradients;
    SequenceClassifierScratch<Block> scratch;
    ScratchOf<OnDevice<Model>> on_scratch;
    const double want = loss(cpu, host, sequences, labels, gradients, {}, scratch);
    const double got = loss(stream, model, std::as_const(on_sequences).view(),
                            std::as_const(on_labels).view(), on_gradients, {}, on_scratch);
    CHECK(std::abs(got - want) <= 1e-12 * want);
    Model back(host.config);
    copy_parameters(stream, on_gradients, back);
    synchronize(stream);
    CHECK(parameter_error(back, gradients) <= 1e-9);
  };
  check_model(S4d<double>());
  check_model(S5<double>());
}

TEST_CASE("DSS of the length of each packed sequence is refused on a device, in words") {
  const Stream stream;
  S4d<float> host({.width = 2, .state = 4, .dss = true});
  initialize(host, 7);
  const auto layer = to_device(stream, host);
  DeviceTensor<float, 3> u(stream, {1, 6, 2}), y(stream, {1, 6, 2});
  const DeviceTensor<Index, 1> offsets(stream, {3});
  LayerOptions<Device> options;
  options.sequences.offsets = offsets;
  S4dScratch<float, Device> scratch;
  CHECK_THROWS_WITH(forward(stream, layer, std::as_const(u).view(), {}, y, options, scratch),
                    "S4d forward: dss_length is 0, the length of each packed sequence, expected a "
                    "length, as offsets on a device are not read");
}

}  // namespace cuda_mode_layers_test
