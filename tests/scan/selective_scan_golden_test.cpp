#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "ssm/io/safetensors.hpp"
#include "ssm/scan/selective_scan.hpp"
#include "ssm/scan/selective_scan_reference.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"

namespace selective_scan_golden_test {

/// The selective scan against its published Python function; golden/make_selective_scan.py says
/// what the file holds.

using namespace ssm;

namespace {

template <class T>
const std::string precision = std::is_same_v<T, float> ? "/float32/" : "/float64/";

template <class K>
inline constexpr bool is_complex = false;
template <class T>
inline constexpr bool is_complex<std::complex<T>> = true;

SafetensorsReader golden() {
  return SafetensorsReader(SSM_SOURCE_DIR "/tests/golden/selective_scan.safetensors");
}

std::vector<std::string> case_names(const SafetensorsReader& file, bool complex) {
  std::vector<std::string> names;
  for (const auto& [tensor, entry] : file.tensors()) {
    const std::string name = tensor.substr(0, tensor.find('/'));
    if (tensor == name + "/A" && (entry.shape.size() == 3) == complex) names.push_back(name);
  }
  return names;
}

/// A complex tensor is stored with a last extent of 2.
template <class K, std::size_t Rank>
Tensor<K, Rank> read(SafetensorsReader& file, const std::string& name) {
  if constexpr (is_complex<K>) {
    const auto parts = file.read<typename K::value_type, Rank + 1>(name);
    std::array<Index, Rank> extents;
    std::copy_n(parts.extents().begin(), Rank, extents.begin());
    Tensor<K, Rank> tensor(extents);
    for (Index i = 0; i < tensor.size(); ++i)
      tensor.data()[i] = {parts.data()[2 * i], parts.data()[2 * i + 1]};
    return tensor;
  } else {
    return file.read<K, Rank>(name);
  }
}

/// The inputs of a scan, or their gradients. What a case lacks is empty.
template <class T, class K>
struct Values {
  Tensor<T, 3> u, delta, z;
  Tensor<K, 2> A, B_constant, C_constant;
  Tensor<K, 4> B_varying, C_varying;
  Tensor<T, 1> D, delta_bias;

  /// Calls f(name in the file, pointer to member) for each.
  template <class F>
  static void for_each(F&& f) {
    f("u", &Values::u);
    f("delta", &Values::delta);
    f("A", &Values::A);
    f("B", &Values::B_constant);
    f("B", &Values::B_varying);
    f("C", &Values::C_constant);
    f("C", &Values::C_varying);
    f("D", &Values::D);
    f("delta_bias", &Values::delta_bias);
    f("z", &Values::z);
  }

  static Values read_from(SafetensorsReader& file, const std::string& prefix) {
    Values values;
    for_each([&]<class Element, std::size_t Rank>(const char* name,
                                                  Tensor<Element, Rank> Values::*member) {
      const std::size_t rank = Rank + (is_complex<Element> ? 1 : 0);
      if (file.contains(prefix + name) && file.entry(prefix + name).shape.size() == rank)
        values.*member = read<Element, Rank>(file, prefix + name);
    });
    return values;
  }

  /// The same shapes, filled with what no result may keep.
  [[nodiscard]] Values unwritten() const {
    Values values = *this;
    for_each([&](const char*, auto member) {
      values.*member = *this.*member;
      (values.*member).fill(std::numeric_limits<T>::quiet_NaN());
    });
    return values;
  }
};

template <class AnyTensor>
auto present(AnyTensor& tensor) {
  using AnyView = decltype(tensor.view());
  return tensor.size() == 0 ? AnyView() : tensor.view();
}

/// The views that `Views`, inputs or gradients of them, shares with Values.
template <class Views, class AnyValues>
Views views_of(AnyValues& values) {
  Views views;
  views.u = present(values.u);
  views.delta = present(values.delta);
  views.A = present(values.A);
  views.B.constant = present(values.B_constant);
  views.B.varying = present(values.B_varying);
  views.C.constant = present(values.C_constant);
  views.C.varying = present(values.C_varying);
  views.D = present(values.D);
  views.delta_bias = present(values.delta_bias);
  views.z = present(values.z);
  return views;
}

/// One case of the file: inputs, options, and what the published code makes of them in T.
template <class T, class K>
struct Case {
  Values<T, K> values;
  Tensor<T, 3> dy, y;
  Tensor<K, 3> dfinal_state, final_state;
  Values<T, K> gradients;
  SelectiveScanOptions options;

  Case(SafetensorsReader& file, const std::string& name)
      : values(Values<T, K>::read_from(file, name + "/")),
        dy(read<T, 3>(file, name + "/y_gradient")),
        y(read<T, 3>(file, name + precision<T> + "y")),
        dfinal_state(read<K, 3>(file, name + "/state_gradient")),
        final_state(read<K, 3>(file, name + precision<T> + "final_state")),
        gradients(Values<T, K>::read_from(file, name + precision<T> + "gradient/")) {
    const std::string softplus = "," + file.metadata().at("softplus") + ",";
    options.softplus = softplus.find("," + name + ",") != std::string::npos;
  }

  [[nodiscard]] SelectiveScanInputs<T, K> inputs() const {
    return views_of<SelectiveScanInputs<T, K>>(values);
  }

  /// Both sides round. What is left of a past rounding fades as the state forgets, whatever the
  /// length; the turning phases of a complex state cancel more of each sum than real decay does.
  static constexpr double tolerance =
      (is_complex<K> ? 128 : 32) * static_cast<double>(std::numeric_limits<T>::epsilon());
};

/// What the library makes of a case.
template <class T, class K>
struct Result {
  Tensor<T, 3> y;
  Tensor<K, 3> final_state;
  Values<T, K> gradients;

  explicit Result(const Case<T, K>& golden)
      : y(golden.y.extents()),
        final_state(golden.final_state.extents()),
        gradients(golden.values.unwritten()) {}

  void check(const Case<T, K>& golden) const {
    constexpr double tolerance = Case<T, K>::tolerance;
    CHECK(test::relative_error(y, golden.y) <= tolerance);
    CHECK(test::relative_error(final_state, golden.final_state) <= tolerance);
    Values<T, K>::for_each([&](const char* name, auto member) {
      CAPTURE(name);
      CHECK(test::relative_error(gradients.*member, golden.gradients.*member) <= tolerance);
    });
  }
};

template <class T, class K>
Result<T, K> scan(const Cpu& backend, const Case<T, K>& golden) {
  Result<T, K> result(golden);
  SelectiveScanScratch<T, K> scratch;
  const auto inputs = golden.inputs();
  selective_scan(backend, inputs, golden.options, {result.y, result.final_state}, scratch);
  selective_scan_backward(backend, inputs, golden.options,
                          {golden.dy.view(), golden.dfinal_state.view()},
                          views_of<SelectiveScanInputGradients<T, K>>(result.gradients), scratch);
  return result;
}

template <class T, class K>
Result<T, K> reference_scan(const Cpu& backend, const Case<T, K>& golden) {
  Result<T, K> result(golden);
  SelectiveScanScratch<T, K> scratch;
  const auto inputs = golden.inputs();
  selective_scan_reference(backend, inputs, golden.options, {result.y, result.final_state},
                           scratch);
  selective_scan_reference_backward(
      backend, inputs, golden.options, {golden.dy.view(), golden.dfinal_state.view()},
      views_of<SelectiveScanInputGradients<T, K>>(result.gradients), scratch);
  return result;
}

/// (batch, length, …) at one step: (batch, …).
template <class T, std::size_t Rank>
View<T, Rank - 1> at_time(const View<T, Rank>& view, Index t) {
  std::array<Index, Rank - 1> extents{view.extent(0)}, strides{view.stride(0)};
  for (std::size_t i = 2; i < Rank; ++i) {
    extents[i - 1] = view.extent(i);
    strides[i - 1] = view.stride(i);
  }
  return {view.data() + t * view.stride(1), extents, strides};
}
template <class K>
Selective<K, 3> at_time(const Selective<K>& coefficient, Index t) {
  if (coefficient.constant) return coefficient.constant;
  return at_time(coefficient.varying, t);
}

}  // namespace

TEMPLATE_TEST_CASE("the selective scan and every gradient equal the published function's", "",
                   float, double, std::complex<float>, std::complex<double>) {
  using K = TestType;
  using T = decltype(std::abs(K()));
  SafetensorsReader file = golden();
  const auto names = case_names(file, is_complex<K>);
  REQUIRE(names.size() >= 6);
  for (const std::string& name : names) {
    CAPTURE(name);
    const Case<T, K> golden(file, name);
    reference_scan(cpu(1), golden).check(golden);
    for (const int threads : {1, 2}) {
      CAPTURE(threads);
      scan(cpu(threads), golden).check(golden);
    }
  }
}

TEMPLATE_TEST_CASE("steps of the selective scan equal the published function", "", float, double,
                   std::complex<float>, std::complex<double>) {
  using K = TestType;
  using T = Real<K>;
  SafetensorsReader file = golden();
  const auto names = case_names(file, is_complex<K>);
  REQUIRE(names.size() >= 6);
  for (const std::string& name : names) {
    CAPTURE(name);
    const Case<T, K> golden(file, name);
    const auto in = golden.inputs();
    Tensor<T, 3> y(golden.y.extents());
    Tensor<K, 3> state(golden.final_state.extents());
    for (Index t = 0; t < y.extent(1); ++t) {
      const SelectiveScanStepInputs<T, K> now{.u = at_time(in.u, t),
                                              .delta = at_time(in.delta, t),
                                              .A = in.A,
                                              .B = at_time(in.B, t),
                                              .C = at_time(in.C, t),
                                              .D = in.D,
                                              .delta_bias = in.delta_bias,
                                              .z = in.z ? at_time(in.z, t) : View<const T, 2>()};
      selective_scan_step(now, golden.options, state, at_time(y.view(), t));
    }
    CHECK(test::relative_error(y, golden.y) <= golden.tolerance);
    CHECK(test::relative_error(state, golden.final_state) <= golden.tolerance);
  }
}

}  // namespace selective_scan_golden_test
