#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <type_traits>
#include <vector>

#include "ssm/io/published_s4.hpp"
#include "ssm/io/published_s4d.hpp"
#include "ssm/io/published_s5.hpp"
#include "ssm/io/safetensors.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/temp_directory.hpp"

/// Layers out of the state dictionaries of their authors' code, against what the published formulas
/// compute; golden/make_published_layers.py says what the file holds.

using namespace ssm;

namespace {

const std::filesystem::path golden = SSM_SOURCE_DIR "/tests/golden/published_layers.safetensors";

/// Numbers of float32 against formulas in double: in double a few roundings of sums that do not
/// cancel much, in float those of its own steps.
template <class T>
constexpr double tolerance = 64 * static_cast<double>(std::numeric_limits<T>::epsilon());

template <class Layer>
Tensor<double, 3> output_of(const Layer& layer, const Tensor<double, 3>& u, double rate = 1) {
  using T = typename Layer::value_type;
  Tensor<T, 3> x(u.extents()), y(u.extents());
  detail::assign_elements(x, u);
  LayerOptions<> options;
  options.rate = rate;
  ScratchOf<Layer> scratch;
  forward(cpu, layer, InputOf<Layer>(x), Maybe<StateOf<Layer>>(), OutputOf<Layer>(y), options,
          scratch);
  Tensor<double, 3> wide(u.extents());
  detail::assign_elements(wide, y);
  return wide;
}

/// A case of the golden file: `read` makes its layer.
template <class Read>
void check_case(const std::string& name, const Read& read) {
  INFO(name);
  const SafetensorsReader file(golden);
  const auto u = file.read<double, 3>(name + ".input");
  const auto layer = read(file, name + ".");
  using T = typename std::remove_cvref_t<decltype(layer)>::value_type;
  for (const double rate : {1.0, 2.0}) {
    INFO("rate " << rate);
    const auto want = file.read<double, 3>(name + (rate == 1 ? ".output" : ".slow_output"));
    CHECK(test::relative_error(output_of(layer, u, rate), want) <= tolerance<T>);
  }
}

template <class T>
void check_s4d(const std::string& name, const PublishedS4dOptions& options = {},
               const std::string& inner = "") {
  check_case(name, [&](const SafetensorsReader& file, const std::string& prefix) {
    return read_published_s4d<T>(file, prefix + inner, options);
  });
}

template <class T>
void check_s4(const std::string& name, const PublishedS4Options& options = {},
              const std::string& inner = "") {
  check_case(name, [&](const SafetensorsReader& file, const std::string& prefix) {
    return read_published_s4<T>(file, prefix + inner, options);
  });
}

template <class T>
void check_s5(const std::string& name, const PublishedS5Options& options = {}) {
  check_case(name, [&](const SafetensorsReader& file, const std::string& prefix) {
    return read_published_s5<T>(file, prefix, options);
  });
}

constexpr auto by_bilinear = Discretization::bilinear;

/// The parameters of a case of the golden file, to be changed and written to a file of their own.
struct Dictionary {
  std::map<std::string, std::vector<Index>> shapes;
  std::map<std::string, Tensor<float, 1>> tensors;
  std::map<std::string, std::int64_t> lengths;

  explicit Dictionary(const std::string& name) {
    const SafetensorsReader file(golden);
    for (const auto& [full, entry] : file.tensors()) {
      if (full.rfind(name + ".", 0) != 0) continue;
      const std::string own = full.substr(name.size() + 1);
      if (entry.dtype == DType::I64) file.read_into(full, {}, &lengths[own]);
      if (entry.dtype != DType::F32) continue;
      Index size = 1;
      for (const Index extent : entry.shape) size *= extent;
      shapes[own] = entry.shape;
      tensors[own].resize({size});
      file.read_into(full, entry.shape, tensors[own].data());
    }
  }
  void reshape(const std::string& name, const std::vector<Index>& shape) {
    Index size = 1;
    for (const Index extent : shape) size *= extent;
    shapes[name] = shape;
    tensors[name].resize({size});
  }
  std::filesystem::path save(const std::filesystem::path& path) const {
    SafetensorsWriter file;
    for (const auto& [name, tensor] : tensors)
      file.add("a." + name, shapes.at(name), tensor.data(), DType::F32);
    for (const auto& [name, length] : lengths) file.add("a." + name, {}, &length);
    file.save(path);
    return path;
  }
};

}  // namespace

TEMPLATE_TEST_CASE("S4D of s4d.py computes what its authors' formulas say", "", float, double) {
  check_s4d<TestType>("s4d_minimal");
}

TEMPLATE_TEST_CASE("S4D of s4.py computes what its authors' formulas say, with every option", "",
                   float, double) {
  using T = TestType;
  using Transform = PublishedTransform;
  check_s4d<T>("s4d_general");
  check_s4d<T>("s4d_general_block", {}, "layer.");
  check_s4d<T>("s4d_bilinear", {.method = by_bilinear});
  check_s4d<T>("s4d_shared");
  check_s4d<T>("s4d_tied");
  check_s4d<T>("s4d_bidirectional", {.bidirectional = true});
  check_s4d<T>("s4d_every_dt");
  check_s4d<T>("s4d_every_dt_bilinear", {.method = by_bilinear});
  check_s4d<T>(
      "s4d_softplus",
      {.decay = Transform::softplus, .frequency = Transform::exp, .delta = Transform::softplus});
  check_s4d<T>("s4d_plain", {.decay = Transform::none, .delta = Transform::none});
  check_s4d<T>("s4d_relu", {.decay = Transform::relu, .frequency = Transform::relu});
  check_s4d<T>("s4d_sigmoid", {.decay = Transform::sigmoid, .delta = Transform::sigmoid});
}

TEMPLATE_TEST_CASE("S4D of the s4.py before computes what its authors' formulas say", "", float,
                   double) {
  check_s4d<TestType>("s4d_earlier", {.method = by_bilinear});
  check_s4d<TestType>("s4d_earlier_plain_dt");
}

TEMPLATE_TEST_CASE("S4 of s4.py computes what its authors' formulas say of its truncated output",
                   "", float, double) {
  using T = TestType;
  using Transform = PublishedTransform;
  check_s4<T>("s4");
  check_s4<T>("s4_block", {}, "layer.");
  check_s4<T>("s4_shared");
  check_s4<T>("s4_tied");
  check_s4<T>("s4_bidirectional", {.bidirectional = true});
  check_s4<T>("s4_untruncated");
  check_s4<T>(
      "s4_softplus",
      {.decay = Transform::softplus, .frequency = Transform::exp, .delta = Transform::softplus});
}

TEMPLATE_TEST_CASE("S4 of the s4.py before computes what its authors' formulas say", "", float,
                   double) {
  check_s4<TestType>("s4_earlier");
  check_s4<TestType>("s4_earlier_relu", {.decay = PublishedTransform::relu});
}

TEST_CASE("whole modules of S4 and S4D compute what theirs do, but for the form of GELU") {
  const SafetensorsReader file(golden);
  const auto check = [&](const std::string& name, const auto& block) {
    INFO(name);
    const auto y = output_of(block, file.read<double, 3>(name + ".input"));
    const auto want = file.read<double, 3>(name + ".block_output");
    // GELU is off by at most 5e-4, and a gate by a quarter of what its argument is off.
    const Index width = block.config.width();
    double largest = 0, weights = 0, error = 0;
    for (Index r = 0; r < 2 * width; ++r) {
      double sum = 0;
      for (Index c = 0; c < width; ++c) sum += std::abs(block.weight(r, c));
      weights = std::max(weights, sum);
    }
    for (Index i = 0; i < want.size(); ++i) {
      largest = std::max(largest, std::abs(want.data()[i]));
      error = test::worse(error, std::abs(y.data()[i] - want.data()[i]));
    }
    CHECK(error <= 5e-4 * weights * (1 + largest));
    CHECK(error > 0);
  };
  check("s4d_minimal", read_published_s4d_block<double>(file, "s4d_minimal."));
  check("s4d_general_block", read_published_s4d_block<double>(file, "s4d_general_block."));
  check("s4d_earlier",
        read_published_s4d_block<double>(file, "s4d_earlier.", {.method = by_bilinear}));
  check("s4_block", read_published_s4_block<double>(file, "s4_block."));
  check("s4_earlier", read_published_s4_block<double>(file, "s4_earlier."));
}

TEMPLATE_TEST_CASE("S5 computes what its authors' formulas say, with every option", "", float,
                   double) {
  using T = TestType;
  check_s5<T>("s5");
  check_s5<T>("s5_bilinear", {.method = by_bilinear});
  check_s5<T>("s5_bidirectional");
  check_s5<T>("s5_complex_normal", {.method = by_bilinear});
  check_s5<T>("s5_every_eigenvalue", {.conj_sym = false});
  check_s5<T>("s5_clipped", {.clip_eigs = true});
}

TEMPLATE_TEST_CASE("whole modules of S5 compute what theirs do", "", float, double) {
  using T = TestType;
  const SafetensorsReader file(golden);
  const auto check = [&](const std::string& name, PublishedS5Gate gate) {
    INFO(name);
    const auto block = read_published_s5_block<T>(file, name + ".", gate);
    const auto y = output_of(block, file.read<double, 3>(name + ".input"));
    CHECK(test::relative_error(y, file.read<double, 3>(name + ".block_output")) <= tolerance<T>);
  };
  check("s5_full_glu", PublishedS5Gate::full_glu);
  check("s5_half_glu1", PublishedS5Gate::half_glu1);
  CHECK_THROWS_WITH(
      read_published_s5_block<T>(file, "s5_half_glu1.", PublishedS5Gate::full_glu),
      test::contains("missing tensors: \"s5_half_glu1.out1.bias\", \"s5_half_glu1.out1.kernel\""));
}

TEST_CASE("layers that were read have the configuration of their modules, and their very numbers") {
  const SafetensorsReader file(golden);
  const auto layer = read_published_s4d<float>(file, "s4d_bidirectional.", {.bidirectional = true});
  CHECK(layer.config == S4dConfig{.width = 4, .state = 6, .bidirectional = true});
  CHECK(layer.log_decay(0, 0) ==
        file.read<float, 2>("s4d_bidirectional.kernel.A_real")(0, 0));  // to the bit
  const auto s4 = read_published_s4<float>(file, "s4_bidirectional.", {.bidirectional = true});
  CHECK(s4.config == S4Config{.width = 4, .state = 6, .rank = 3, .bidirectional = true});
  CHECK(s4.P(1, 2, 0, 1) == file.read<float, 4>("s4_bidirectional.kernel.P")(0, 1, 2, 1));
  CHECK(read_published_s4<float>(file, "s4_untruncated.").C(0, 3, 1, 0) ==
        file.read<float, 4>("s4_untruncated.kernel.C")(0, 3, 1, 0));
  const auto s5 = read_published_s5<float>(file, "s5_bidirectional.");
  CHECK(s5.config == S5Config{.width = 3, .state = 8, .bidirectional = true});
}

TEST_CASE("a state dictionary that is no S4D is refused by the names of its tensors") {
  const test::TempDirectory directory;
  const auto fails = [&](const std::string& name, const std::function<void(Dictionary&)>& change,
                         const std::string& what, const PublishedS4dOptions& options = {}) {
    INFO(what);
    Dictionary dictionary(name);
    change(dictionary);
    const SafetensorsReader file(dictionary.save(directory / "a.safetensors"));
    CHECK_THROWS_WITH(read_published_s4d<float>(file, "a.", options), test::contains(what));
    CHECK_THROWS_AS(read_published_s4d<float>(file, "a.", options), FileError);
  };
  const auto without = [](const std::string& tensor) {
    return [tensor](Dictionary& d) { d.tensors.erase(tensor); };
  };
  const auto shaped = [](const std::string& tensor, const std::vector<Index>& shape) {
    return [=](Dictionary& d) { d.reshape(tensor, shape); };
  };
  const auto set = [](const std::string& tensor, Index at, float value) {
    return [=](Dictionary& d) { d.tensors[tensor](at) = value; };
  };
  fails("s4d_general", without("kernel.B"), "missing tensors: \"a.kernel.B\"");
  fails("s4d_general", without("D"), "missing tensors: \"a.D\"");
  fails("s4d_minimal", without("kernel.log_A_real"),
        "missing tensors: \"a.kernel.A_real\", \"a.kernel.inv_dt\"");
  fails("s4d_general", shaped("kernel.C", {2, 4, 3, 2}),
        "tensor \"a.kernel.C\" is (2, 4, 3, 2), expected (1, 4, 3, 2)");
  fails("s4d_general", [](Dictionary&) {},
        "tensor \"a.kernel.C\" is (1, 4, 3, 2), expected (2, 4, 3, 2)", {.bidirectional = true});
  fails("s4d_minimal", [](Dictionary&) {},
        "tensor \"a.kernel.C\" is (4, 3, 2), expected (2, channels, modes, 2)",
        {.bidirectional = true});
  fails("s4d_general", shaped("kernel.C", {1, 4, 0, 2}),
        "tensor \"a.kernel.C\" is (1, 4, 0, 2), expected (1, channels, modes, 2)");
  fails("s4d_general", shaped("kernel.A_real", {3, 3}),
        "tensor \"a.kernel.A_real\" is (3, 3), expected (4, 3)");
  fails("s4d_general", shaped("kernel.A_imag", {2, 3}),
        "tensor \"a.kernel.A_imag\" is (2, 3), expected (4, 3)");
  fails("s4d_general", shaped("kernel.B", {4, 3, 2}),
        "tensor \"a.kernel.B\" is (4, 3, 2), expected (1, 4, 3, 2)");
  fails("s4d_general", shaped("kernel.inv_dt", {4, 2}),
        "tensor \"a.kernel.inv_dt\" is (4, 2), expected (4, 1)");
  fails("s4d_general", shaped("D", {4}), "tensor \"a.D\" is (4), expected (1, 4)");
  fails("s4d_minimal", shaped("D", {1, 4}), "tensor \"a.D\" is (1, 4), expected (4)");
  fails("s4d_plain", set("kernel.A_real", 7, -0.5f),
        "tensor \"a.kernel.A_real\" has -0.500000 at element 7, expected a decay −Re Λ above 0",
        {.decay = PublishedTransform::none, .delta = PublishedTransform::none});
  fails("s4d_plain", set("kernel.inv_dt", 2, 0),
        "tensor \"a.kernel.inv_dt\" has 0.000000 at element 2, expected a Δ above 0",
        {.decay = PublishedTransform::none, .delta = PublishedTransform::none});
  const SafetensorsReader file(golden);
  CHECK_THROWS_AS(
      read_published_s4d<float>(file, "s4d_general.", {.method = Discretization::tustin}),
      DomainError);
  CHECK_THROWS_WITH(read_published_s4d_block<float>(file, "s4d_general."),
                    test::contains("missing tensors: \"s4d_general.output_linear.0.bias\", "
                                   "\"s4d_general.output_linear.0.weight\""));
}

TEST_CASE("a state dictionary that is no S4 is refused by the names of its tensors") {
  const test::TempDirectory directory;
  const auto fails = [&](const std::string& name, const std::function<void(Dictionary&)>& change,
                         const std::string& what, const PublishedS4Options& options = {}) {
    INFO(what);
    Dictionary dictionary(name);
    change(dictionary);
    const SafetensorsReader file(dictionary.save(directory / "a.safetensors"));
    CHECK_THROWS_WITH(read_published_s4<float>(file, "a.", options), test::contains(what));
    CHECK_THROWS_AS(read_published_s4<float>(file, "a.", options), FileError);
  };
  const auto shaped = [](const std::string& tensor, const std::vector<Index>& shape) {
    return [=](Dictionary& d) { d.reshape(tensor, shape); };
  };
  const auto lasting = [](std::int64_t length) {
    return [=](Dictionary& d) { d.lengths["kernel.l_kernel"] = length; };
  };
  fails(
      "s4", [](Dictionary& d) { d.tensors.erase("kernel.P"); }, "missing tensors: \"a.kernel.P\"");
  fails(
      "s4", [](Dictionary& d) { d.lengths.clear(); }, "missing tensors: \"a.kernel.l_kernel\"");
  fails(
      "s4_earlier", [](Dictionary& d) { d.lengths.clear(); },
      "missing tensors: \"a.kernel.kernel.L\"");
  fails(
      "s4",
      [](Dictionary& d) {
        d.lengths.clear();
        d.reshape("kernel.l_kernel", {});
      },
      "tensor \"a.kernel.l_kernel\" is of dtype \"F32\", expected I64");
  fails("s4", lasting(-1), "tensor \"a.kernel.l_kernel\" has -1, expected a length of at least 0");
  fails(
      "s4", shaped("kernel.inv_dt", {4, 3}),
      "tensor \"a.kernel.inv_dt\" has a Δ for each pair of states, expected one for each channel");
  fails("s4", shaped("kernel.inv_dt", {4, 2}),
        "tensor \"a.kernel.inv_dt\" is (4, 2), expected (4, 1)");
  fails("s4", shaped("kernel.P", {17, 4, 3, 2}),
        "tensor \"a.kernel.P\" is (17, 4, 3, 2), expected (rank, copies, modes, 2) of a rank from "
        "1 to 16");
  fails("s4", shaped("kernel.P", {1, 3, 3, 2}),
        "tensor \"a.kernel.P\" is (1, 3, 3, 2), expected (1, 4, 3, 2)");
  fails("s4", shaped("kernel.B", {4, 3, 2}),
        "tensor \"a.kernel.B\" is (4, 3, 2), expected (1, 4, 3, 2)");
  fails("s4", [](Dictionary&) {}, "tensor \"a.kernel.C\" is (1, 4, 3, 2), expected (2, 4, 3, 2)",
        {.bidirectional = true});
  fails("s4", shaped("D", {4}), "tensor \"a.D\" is (4), expected (1, 4)");
  fails(
      "s4", [](Dictionary& d) { d.tensors["kernel.inv_dt"](2) = -1000; },
      "tensor \"a.kernel.inv_dt\" has -1000.000000 at element 2, expected a Δ above 0");
  fails(
      "s4",
      [](Dictionary& d) {
        for (const char* name : {"kernel.A_real", "kernel.inv_dt"}) d.tensors[name].fill(-30);
        d.tensors["kernel.P"].fill(0);
        d.tensors["kernel.A_imag"].fill(0);
      },
      "tensor \"a.kernel.C\" of channel 0 does not give C, expected a system that forgets "
      "something in L = 32 steps");
}

TEST_CASE("parameters that are no S5 are refused by the names of their tensors") {
  const test::TempDirectory directory;
  const auto fails = [&](const std::string& name, const std::function<void(Dictionary&)>& change,
                         const std::string& what) {
    INFO(what);
    Dictionary dictionary(name);
    change(dictionary);
    const SafetensorsReader file(dictionary.save(directory / "a.safetensors"));
    CHECK_THROWS_WITH(read_published_s5<double>(file, "a."), test::contains(what));
    CHECK_THROWS_AS(read_published_s5<double>(file, "a."), FileError);
  };
  fails(
      "s5", [](Dictionary& d) { d.tensors.erase("log_step"); }, "missing tensors: \"a.log_step\"");
  fails(
      "s5_bidirectional", [](Dictionary& d) { d.tensors.erase("C1"); },
      "missing tensors: \"a.C1\"");
  fails(
      "s5_bidirectional", [](Dictionary& d) { d.tensors.erase("C2"); },
      "missing tensors: \"a.C2\"");
  fails(
      "s5",
      [](Dictionary& d) {
        d.reshape("B", {4, 3});
      },
      "tensor \"a.B\" is (4, 3), expected (eigenvalues, width, 2)");
  fails(
      "s5",
      [](Dictionary& d) {
        d.reshape("C", {3, 5, 2});
      },
      "tensor \"a.C\" is (3, 5, 2), expected (3, 4, 2)");
  fails(
      "s5", [](Dictionary& d) { d.reshape("log_step", {4}); },
      "tensor \"a.log_step\" is (4), expected (4, 1)");
  fails(
      "s5", [](Dictionary& d) { d.reshape("Lambda_im", {3}); },
      "tensor \"a.Lambda_im\" is (3), expected (4)");
  fails(
      "s5_clipped", [](Dictionary&) {},
      "tensor \"a.Lambda_re\" has 0.250000 at element 1, expected a number below 0, or a module "
      "with clip_eigs");
}

TEST_CASE("published numbers that are too large for the type of the layer are refused") {
  const test::TempDirectory directory;
  const auto with_huge = [&](const std::string& name, const std::string& own, double value) {
    const Dictionary dictionary(name);
    SafetensorsWriter file;
    Tensor<double, 1> wide(dictionary.tensors.at(own).extents());
    detail::assign_elements(wide, dictionary.tensors.at(own));
    wide(1) = value;
    for (const auto& [other, tensor] : dictionary.tensors)
      if (other == own)
        file.add("a." + own, dictionary.shapes.at(own), wide.data(), DType::F64);
      else
        file.add("a." + other, dictionary.shapes.at(other), tensor.data(), DType::F32);
    file.save(directory / "a.safetensors");
    return SafetensorsReader(directory / "a.safetensors");
  };
  const auto s5 = with_huge("s5", "Lambda_im", 1e39);
  CHECK_THROWS_WITH(read_published_s5<float>(s5, "a."),
                    test::contains("the tensors of \"a.\" give frequency inf at element 1, "
                                   "expected finite numbers"));
  CHECK(read_published_s5<double>(s5, "a.").frequency(1) == 1e39);
  const auto s4d = with_huge("s4d_plain", "D", -1e39);
  CHECK_THROWS_WITH(read_published_s4d<float>(s4d, "a."), test::contains("give D -inf"));
  CHECK_THROWS_AS(read_published_s4d<float>(s4d, "a."), FileError);
}
