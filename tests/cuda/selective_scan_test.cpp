#include "ssm/cuda/selective_scan.hpp"

#include <algorithm>
#include <complex>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/cuda_api.hpp"
#include "support/device_case.hpp"
#include "support/selective_case.hpp"

using ssm::Bfloat16;
using ssm::Half;
using ssm::Hold;
using ssm::Index;
using ssm::Tensor;
using ssm::test::SelectiveCase;
using Sizes = ssm::test::SelectiveCaseSizes;

namespace {

/// A case's tensors on the device, with sequences kept as T.
template <class T, class K>
class DeviceCase {
  using R = ssm::Real<K>;
  using V = ssm::detail::Varying<T, K>;
  template <class U, std::size_t Rank>
  using Array = ssm::DeviceTensor<U, Rank>;

 public:
  /// Rounds the case's sequences to T. Without states, none is given to the device and none asked
  /// of it.
  explicit DeviceCase(SelectiveCase<R, K>& c, bool with_states = true)
      : case_(c), with_states_(with_states) {
    u_ = upload<T>(c.u), delta_ = upload<T>(c.delta), z_ = upload<T>(c.z), dy_ = upload<T>(c.dy);
    A_ = upload<K>(c.A), D_ = upload<R>(c.D), bias_ = upload<R>(c.bias);
    B_constant_ = upload<K>(c.B_constant), C_constant_ = upload<K>(c.C_constant);
    B_ = upload<V>(c.B), C_ = upload<V>(c.C);
    initial_ = upload<K>(c.initial), dfinal_ = upload<K>(c.dfinal);
    offsets_ = upload<Index>(c.offsets);
    y_ = upload<T>(c.y), final_ = upload<K>(c.final);
    du_ = upload<T>(c.du), ddelta_ = upload<T>(c.ddelta), dz_ = upload<T>(c.dz);
    dA_ = upload<K>(c.dA), dD_ = upload<R>(c.dD), dbias_ = upload<R>(c.dbias);
    dB_constant_ = upload<K>(c.dB_constant), dC_constant_ = upload<K>(c.dC_constant);
    dB_ = upload<V>(c.dB), dC_ = upload<V>(c.dC), dinitial_ = upload<K>(c.dinitial);
  }

  [[nodiscard]] ssm::SelectiveScanInputs<T, K, ssm::Device> inputs() const {
    ssm::SelectiveScanInputs<T, K, ssm::Device> in;
    in.u = u_, in.delta = delta_, in.A = A_, in.D = D_, in.delta_bias = bias_;
    if (case_.sizes.constant_B)
      in.B.constant = B_constant_;
    else
      in.B.varying = B_;
    if (case_.sizes.constant_C)
      in.C.constant = C_constant_;
    else
      in.C.varying = C_;
    if (case_.sizes.gated) in.z = z_;
    if (with_states_) in.initial_state = initial_;
    if (!case_.sizes.offsets.empty()) in.sequences.offsets = offsets_;
    in.sequences.reversed = case_.sizes.reversed;
    return in;
  }
  ssm::SelectiveScanInputGradients<T, K, ssm::Device> gradients() {
    ssm::SelectiveScanInputGradients<T, K, ssm::Device> out;
    out.u = du_, out.delta = ddelta_, out.A = dA_, out.D = dD_, out.delta_bias = dbias_;
    if (case_.sizes.constant_B)
      out.B.constant = dB_constant_;
    else
      out.B.varying = dB_;
    if (case_.sizes.constant_C)
      out.C.constant = dC_constant_;
    else
      out.C.varying = dC_;
    if (case_.sizes.gated) out.z = dz_;
    if (with_states_) out.initial_state = dinitial_;
    return out;
  }

  /// Forward and backward, and what came of them to the case; in place, the final states take the
  /// memory of the initial ones, and so do their gradients.
  void run(bool in_place = false) {
    const auto& options = case_.sizes.options;
    const auto in = inputs();
    auto out = gradients();
    auto& final = in_place ? initial_ : final_;
    if (in_place) out.initial_state = dfinal_;
    const ssm::View<K, 3, ssm::Device> no_states;
    ssm::selective_scan(ssm::cuda, in, options, {y_, with_states_ ? final.view() : no_states},
                        scratch_);
    if (with_states_) download(case_.final, final);
    const ssm::View<const K, 3, ssm::Device> no_gradients;
    ssm::selective_scan_backward(ssm::cuda, in, options,
                                 {dy_, with_states_ ? std::as_const(dfinal_).view() : no_gradients},
                                 out, scratch_);
    download(case_.y, y_), download(case_.du, du_);
    download(case_.ddelta, ddelta_), download(case_.dz, dz_), download(case_.dA, dA_);
    download(case_.dD, dD_), download(case_.dbias, dbias_), download(case_.dB, dB_);
    download(case_.dC, dC_), download(case_.dB_constant, dB_constant_);
    download(case_.dC_constant, dC_constant_);
    if (with_states_) download(case_.dinitial, in_place ? dfinal_ : dinitial_);
  }

 private:
  template <class U, class From, std::size_t Rank>
  static Array<U, Rank> upload(Tensor<From, Rank>& tensor) {
    return ssm::test::rounded_upload<U>(tensor);
  }
  template <class To, class U, std::size_t Rank>
  static void download(Tensor<To, Rank>& to, const Array<U, Rank>& from) {
    ssm::test::widened_download(to, from);
  }

  SelectiveCase<R, K>& case_;
  bool with_states_;
  Array<T, 3> u_, delta_, z_, dy_, y_, du_, ddelta_, dz_;
  Array<K, 2> A_, B_constant_, C_constant_, dA_, dB_constant_, dC_constant_;
  Array<V, 4> B_, C_, dB_, dC_;
  Array<R, 1> D_, bias_, dD_, dbias_;
  Array<K, 3> initial_, dfinal_, final_, dinitial_;
  Array<Index, 1> offsets_;
  ssm::SelectiveScanScratch<T, K, ssm::Device> scratch_;
};

template <class T>
constexpr double epsilon_of_storage = std::numeric_limits<T>::epsilon();
template <>
constexpr double epsilon_of_storage<Half> = 0x1p-10;
template <>
constexpr double epsilon_of_storage<Bfloat16> = 0x1p-7;

/// The device's run of a case against the formula in double on the same numbers.
template <class T, class K>
double error_of(const Sizes& sizes, std::uint64_t seed, bool in_place = false) {
  using Wide = std::conditional_t<std::is_same_v<K, ssm::Real<K>>, double, std::complex<double>>;
  SelectiveCase<ssm::Real<K>, K> device(sizes, seed);
  DeviceCase<T, K>(device).run(in_place);
  SelectiveCase<double, Wide> reference(sizes, seed);
  reference.take_inputs(device);
  reference.run_reference();
  return worst_error(device, reference);
}

template <class T, class K>
double tolerance(const Sizes& sizes) {
  return ssm::test::selective_tolerance<ssm::Real<K>>(sizes) + epsilon_of_storage<T>;
}

/// Sizes at every edge of how the scan lies over blocks: states of a part of a lane, of a warp and
/// beyond one, panels and groups that are not full, pieces of time, sequences that end anywhere.
std::vector<Sizes> edges() {
  std::vector<Sizes> all;
  const auto add = [&](Index batch, Index length, Index channels, Index state, Index groups) {
    Sizes s;
    s.batch = batch;
    s.length = length;
    s.channels = channels;
    s.state = state;
    s.groups = groups;
    s.reversed = all.size() % 2 == 1;
    s.gated = all.size() % 3 != 0;
    all.push_back(s);
  };
  add(1, 0, 3, 2, 1);
  add(2, 1, 5, 1, 1);
  add(2, 15, 33, 4, 1);
  add(1, 16, 70, 5, 2);
  add(1, 17, 9, 16, 3);
  add(3, 33, 34, 17, 2);
  add(1, 40, 17, 40, 1);
  add(1, 20, 5, 100, 1);
  add(2, 19, 6, 131, 2);
  add(1, 300, 5, 6, 1);                   // cut into pieces
  add(2, 700, 2, 130, 1);                 // cut and sliced
  for (const Index length : {64, 320}) {  // whole tiles of whole panels, whole rows and cut ones
    add(1, length, 32, 16, 1);
    all.back().gated = true;
  }
  for (const bool softplus : {false, true}) {  // without the gate, and without softplus
    add(1, 48, 32, 16, 1);
    all.back().gated = !softplus;
    all.back().options.softplus = softplus;
  }
  for (const Index groups : {1, 2}) {  // and more steps than whole tiles have
    add(groups, 76, 64, 16, groups);
    all.back().gated = true;
  }
  add(0, 5, 4, 1, 1);
  add(2, 5, 3, 0, 1);
  const auto pack = [&](std::vector<Index> offsets, Index channels, Index state) {
    add(1, offsets.back(), channels, state, 1);
    all.back().offsets = offsets;
    all.push_back(all.back());
    all.back().reversed = !all.back().reversed;
  };
  pack({0, 1, 1, 18, 50, 50, 66}, 40, 16);
  pack({0, 0, 0, 7, 7}, 3, 3);
  pack({0, 0, 0}, 3, 3);
  pack({0, 128, 128, 300, 411, 420}, 3, 5);  // cut: sequences start at, in and across pieces
  return all;
}

}  // namespace

TEMPLATE_TEST_CASE("the scan on a device and its gradients equal the formula in double", "", float,
                   double, Half, Bfloat16) {
  using K = ssm::Arithmetic<TestType>;
  std::uint64_t seed = 1;
  for (const Sizes& s : edges()) {
    INFO(name_of(s));
    CHECK(error_of<TestType, K>(s, ++seed) <= tolerance<TestType, K>(s));
  }
}

TEMPLATE_TEST_CASE("the scans that are measured equal the formula in double, whole and cut", "",
                   Half, Bfloat16, float) {
  Sizes s;
  s.batch = 2;
  s.channels = 64;                      // two whole panels
  s.state = 16;                         // four lanes a channel
  for (const Index length : {64, 320})  // whole tiles
    for (const bool with_states : {false, true}) {
      s.length = length;
      INFO(name_of(s) << (with_states ? "" : " from zero"));
      SelectiveCase<float> device(s, 9);
      if (!with_states) device.initial.fill(0), device.dfinal.fill(0);
#ifndef SSM_ON_DEVICE
      ssm::test::emulator().writes_down = true;
      ssm::test::emulator().launches.clear();
#endif
      DeviceCase<TestType, float>(device, with_states).run();
      SelectiveCase<double> reference(s, 9);
      reference.take_inputs(device);
      reference.run_reference();
      if (!with_states)
        std::copy_n(reference.final.begin(), device.final.size(), device.final.begin()),
            std::copy_n(reference.dinitial.begin(), device.dinitial.size(),
                        device.dinitial.begin());
      CHECK(worst_error(device, reference) <= tolerance<TestType, float>(s));
#ifndef SSM_ON_DEVICE
      std::size_t of_any_lanes = 0, pieces = 0;
      for (const auto& launch : ssm::test::emulator().launches) {
        of_any_lanes += launch.kernel.find("float, false, 0>") != std::string::npos;
        pieces += launch.kernel.find("SelectivePiece") != std::string::npos;
      }
      CHECK(of_any_lanes == 0);
      CHECK(pieces == (length == 64 ? 0 : 2));
      ssm::test::emulator().writes_down = false;
#endif
    }
}

TEMPLATE_TEST_CASE("every option of the scan on a device equals the formula in double", "", float,
                   double) {
  for (int bits = 0; bits < 32; ++bits) {
    Sizes s;
    s.batch = 2;
    s.length = 37;
    s.channels = 6;
    s.state = bits % 2 == 0 ? 3 : 18;
    s.groups = 2;
    s.constant_B = (bits & 1) != 0;
    s.constant_C = (bits & 2) != 0;
    s.options.hold = (bits & 4) != 0 ? Hold::zero_order : Hold::simplified;
    s.reversed = (bits & 8) != 0;
    s.options.softplus = (bits & 16) != 0;
    s.gated = bits % 3 != 0;
    if (bits % 3 == 0) {
      s.batch = 1;
      s.length = 290;
      s.offsets = {0, 2, 2, 140, 290};
    }
    INFO(name_of(s) << " options " << bits);
    using K = std::complex<TestType>;
    const auto seed = static_cast<std::uint64_t>(bits);
    CHECK(error_of<TestType, TestType>(s, seed) <= tolerance<TestType, TestType>(s));
    CHECK(error_of<TestType, K>(s, seed) <= tolerance<TestType, K>(s));
  }
}

TEST_CASE("final states of a scan on a device, and gradients, take the memory of initial ones") {
  std::uint64_t seed = 40;
  for (const Sizes& s : edges()) {
    INFO(name_of(s));
    CHECK(error_of<float, float>(s, ++seed, true) <= tolerance<float, float>(s));
  }
}

TEMPLATE_TEST_CASE("16-bit sequences meet a complex A on a device", "", Half, Bfloat16) {
  using K = std::complex<float>;
  Sizes s;
  s.batch = 2;
  s.length = 21;
  s.channels = 5;
  s.state = 7;
  CHECK(error_of<TestType, K>(s, 4) <= tolerance<TestType, K>(s));
}

TEST_CASE("a scan on a device, split in time, hands on its state and its adjoint") {
  Sizes s;
  s.batch = 2;
  s.length = 45;
  s.channels = 35;
  s.state = 9;
  const std::array<Index, 3> rows{s.batch, s.length, s.channels}, states{2, s.channels, s.state};
  SelectiveCase<float> c(s, 5);
  DeviceCase<float, float> device(c);
  const auto in = device.inputs();
  const auto dy = to_device(ssm::cuda, c.dy);
  const auto dfinal = to_device(ssm::cuda, c.dfinal);
  device.run();

  ssm::DeviceTensor<float, 3> y(ssm::cuda, rows), du(ssm::cuda, rows), between(ssm::cuda, states),
      final_state(ssm::cuda, states), adjoint(ssm::cuda, states), dinitial(ssm::cuda, states);
  const auto part = [&](Index begin, Index count) {
    auto half = in;
    half.u = in.u.slice(1, begin, count), half.delta = in.delta.slice(1, begin, count);
    half.z = in.z.slice(1, begin, count);
    half.B.varying = in.B.varying.slice(1, begin, count);
    half.C.varying = in.C.varying.slice(1, begin, count);
    return half;
  };
  auto early = part(0, 19), late = part(19, 26);
  late.initial_state = between;
  ssm::SelectiveScanScratch<float, float, ssm::Device> scratch_early, scratch_late;
  ssm::selective_scan(ssm::cuda, early, s.options, {y.view().slice(1, 0, 19), between},
                      scratch_early);
  ssm::selective_scan(ssm::cuda, late, s.options, {y.view().slice(1, 19, 26), final_state},
                      scratch_late);
  ssm::SelectiveScanInputGradients<float, float, ssm::Device> of_late, of_early;
  of_late.u = du.view().slice(1, 19, 26), of_late.initial_state = adjoint;
  of_early.u = du.view().slice(1, 0, 19), of_early.initial_state = dinitial;
  ssm::selective_scan_backward(ssm::cuda, late, s.options, {dy.view().slice(1, 19, 26), dfinal},
                               of_late, scratch_late);
  ssm::selective_scan_backward(ssm::cuda, early, s.options, {dy.view().slice(1, 0, 19), adjoint},
                               of_early, scratch_early);
  const double bound = ssm::test::selective_tolerance<float>(s);
  CHECK(ssm::test::relative_error(to_host(ssm::cuda, y), c.y) <= bound);
  CHECK(ssm::test::relative_error(to_host(ssm::cuda, final_state), c.final) <= bound);
  CHECK(ssm::test::relative_error(to_host(ssm::cuda, du), c.du) <= bound);
  CHECK(ssm::test::relative_error(to_host(ssm::cuda, dinitial), c.dinitial) <= bound);
}

TEST_CASE(
    "a scan on a device takes views at addresses that no pack has, and writes what is wanted") {
  Sizes s;
  s.length = 40;
  s.channels = 32;
  s.state = 16;
  SelectiveCase<float> c(s, 8);
  DeviceCase<float, float> device(c);
  device.run();
  auto in = device.inputs();
  Tensor<float, 3> wide({1, s.length, 33});
  wide.fill(0);
  for (Index t = 0; t < s.length; ++t)
    for (Index i = 0; i < s.channels; ++i) wide(0, t, i + 1) = c.u(0, t, i);
  const auto on_wide = to_device(ssm::cuda, wide);
  const auto dy = to_device(ssm::cuda, c.dy);
  const auto dfinal = to_device(ssm::cuda, c.dfinal);
  const double bound = ssm::test::selective_tolerance<float>(s);
  for (const bool odd : {false, true}) {
    CAPTURE(odd);
    if (odd) in.u = on_wide.view().slice(2, 1, s.channels);
    ssm::DeviceTensor<float, 3> y(ssm::cuda, {1, s.length, s.channels});
    ssm::DeviceTensor<float, 3> ddelta(ssm::cuda, {1, s.length, s.channels});
    ssm::SelectiveScanScratch<float, float, ssm::Device> scratch;
    ssm::selective_scan(ssm::cuda, in, s.options, {y}, scratch);
    ssm::SelectiveScanInputGradients<float, float, ssm::Device> wanted;
    wanted.delta = ddelta;
    ssm::selective_scan_backward(ssm::cuda, in, s.options, {dy, dfinal}, wanted, scratch);
    CHECK(ssm::test::relative_error(to_host(ssm::cuda, y), c.y) <= bound);
    CHECK(ssm::test::relative_error(to_host(ssm::cuda, ddelta), c.ddelta) <= bound);
  }
}

TEST_CASE("an input of a scan on a device reaches its own channel and later steps alone") {
  Sizes s;
  s.batch = 2;
  s.length = 300;  // cut into pieces
  s.channels = 3;
  s.state = 16;
  const auto outputs = [&](float pulse) {
    SelectiveCase<float> c(s, 6);
    c.u(0, 150, 1) += pulse;
    DeviceCase<float, float>(c).run();
    return c.y;
  };
  const auto before = outputs(0), after = outputs(1);
  for (Index row = 0; row < s.batch; ++row)
    for (Index t = 0; t < s.length; ++t)
      for (Index channel = 0; channel < s.channels; ++channel) {
        const bool reached = row == 0 && channel == 1 && t >= 150;
        if (!reached) REQUIRE(before(row, t, channel) == after(row, t, channel));
        if (reached && t < 160) CHECK(before(row, t, channel) != after(row, t, channel));
      }
}

TEST_CASE("a number that is not finite shows in all that follows, across pieces of time") {
  for (const bool whole_tiles : {false, true}) {
    Sizes s;
    s.length = 900;
    s.channels = whole_tiles ? 32 : 2;
    s.state = whole_tiles ? 16 : 2;
    SelectiveCase<float> c(s, 3);
    c.A.fill(-100);  // forgets within a step or two
    c.u(0, 5, 0) = std::numeric_limits<float>::quiet_NaN();
    DeviceCase<float, float>(c).run();
    CHECK(c.y(0, 4, 0) == c.y(0, 4, 0));
    for (Index t = 5; t < s.length; ++t) CHECK(c.y(0, t, 0) != c.y(0, t, 0));
    CHECK(c.y(0, 899, 1) == c.y(0, 899, 1));
  }
}

TEST_CASE("a device refuses the shapes that the CPU refuses, and the scratch of another call") {
  Sizes s;
  s.batch = 2;
  s.length = 3;
  s.channels = 4;
  s.state = 2;
  SelectiveCase<float> c(s, 1);
  DeviceCase<float, float> device(c);
  const auto message = [&](auto&& change) {
    auto in = device.inputs();
    change(in);
    ssm::SelectiveScanScratch<float, float, ssm::Device> scratch;
    ssm::DeviceTensor<float, 3> y(ssm::cuda, {2, 3, 4});
    try {
      ssm::selective_scan(ssm::cuda, in, s.options, {y}, scratch);
    } catch (const ssm::ShapeError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK(message([](auto&) {}).empty());
  CHECK(message([](auto& in) { in.A = in.A.slice(0, 0, 3); }) ==
        "selective_scan: A is (3, 2), expected (4, 2)");
  const ssm::DeviceTensor<Index, 1> offsets(ssm::cuda, {3});
  CHECK(message([&](auto& in) { in.sequences.offsets = offsets; }) ==
        "selective_scan: offsets is given with batch 2, expected packed sequences in a batch of 1");
  const ssm::DeviceTensor<float, 3> dy(ssm::cuda, {2, 3, 4});
  ssm::DeviceTensor<float, 3> y(ssm::cuda, {2, 3, 4});
  ssm::SelectiveScanScratch<float, float, ssm::Device> scratch;
  auto in = device.inputs();
  auto options = s.options;
  const auto backward = [&] {
    ssm::selective_scan_backward(ssm::cuda, in, options, {dy}, {}, scratch);
  };
  const auto forward = [&](bool keep) {
    options.keep = keep;
    ssm::selective_scan(ssm::cuda, in, options, {y}, scratch);
  };
  CHECK_THROWS_AS(backward(), ssm::ShapeError);
  forward(true);
  CHECK_NOTHROW(backward());
  options.softplus = false;
  CHECK_THROWS_AS(backward(), ssm::ShapeError);
  options.softplus = true;
  in.sequences.reversed = true;
  CHECK_THROWS_AS(backward(), ssm::ShapeError);
  in.sequences.reversed = false;
  forward(false);
  CHECK_THROWS_AS(backward(), ssm::ShapeError);
}
