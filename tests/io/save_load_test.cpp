#include "ssm/io/save_load.hpp"

#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "ssm/layers/mamba.hpp"
#include "ssm/layers/mamba_step.hpp"
#include "ssm/layers/one_of.hpp"
#include "ssm/layers/projected.hpp"
#include "ssm/layers/residual.hpp"
#include "ssm/layers/s4.hpp"
#include "ssm/layers/s4d.hpp"
#include "ssm/layers/s5.hpp"
#include "ssm/models/language_model.hpp"
#include "ssm/models/sequence_classifier.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/random.hpp"
#include "support/temp_directory.hpp"

namespace save_load_test {

namespace elsewhere {  // a user's own layer, in a user's own namespace

struct ToyConfig {
  ssm::Index width = 0;
  ssm::Index taps = 4;
  friend bool operator==(const ToyConfig&, const ToyConfig&) = default;
};
template <class Visit>
void fields(ToyConfig& c, Visit&& visit) {
  visit("width", c.width);
  visit("taps", c.taps, ssm::Field::optional);
}

template <class T, class Matrix = ssm::Tensor<T, 2>>
struct Toy {
  using Config = ToyConfig;
  Config config;
  Matrix weight;
  ssm::Tensor<T, 2> filter;
  ssm::Tensor<T, 1> bias;

  Toy() = default;
  explicit Toy(const Config& c) : config(c) {
    if (c.taps < 1) throw ssm::DomainError("Toy: taps is " + std::to_string(c.taps));
    ssm::resize_parameters(*this);
  }
};
template <class T, class Matrix, class Visit>
void parameters(Toy<T, Matrix>& l, Visit&& visit) {
  const ToyConfig& c = l.config;
  visit("weight", l.weight, ssm::shape(2 * c.width, c.width), true);
  visit("conv1d.weight", l.filter, ssm::shape(c.width, c.taps), true);
  visit("bias", l.bias, ssm::shape(c.width), false);
}

}  // namespace elsewhere

using elsewhere::Toy;
using elsewhere::ToyConfig;
using ssm::DType;
using ssm::FileError;
using ssm::Index;
using ssm::Mamba;
using ssm::Residual;
using ssm::SafetensorsReader;
using ssm::Tensor;
using ssm::test::contains;
using ssm::test::TempDirectory;

namespace {

template <class L>
L random_layer(const typename L::Config& config, std::uint64_t seed = 1) {
  L layer(config);
  ssm::test::Random random(seed);
  parameters(layer, [&](const auto&, auto& tensor, const auto&, bool) {
    for (auto& x : tensor)
      x = std::remove_reference_t<decltype(x)>(static_cast<float>(random.normal()));
  });
  return layer;
}

/// The elements of all parameters, in their order.
template <class L>
std::vector<double> elements(const L& layer) {
  std::vector<double> all;
  parameters(layer, [&](const auto&, const auto& tensor, const auto&, bool) {
    using Element = typename std::remove_cvref_t<decltype(tensor)>::value_type;
    for (const auto& x : tensor) all.push_back(static_cast<ssm::Arithmetic<Element>>(x));
  });
  return all;
}

template <class L>
void check_round_trip(const typename L::Config& config) {
  const TempDirectory directory;
  const L layer = random_layer<L>(config);
  ssm::save(directory / "a", layer);
  const L loaded = ssm::load<L>(directory / "a");
  CHECK(loaded.config == layer.config);
  CHECK(elements(loaded) == elements(layer));
}

/// What loading says; "" when it succeeds.
template <class L>
std::string complaint(const std::filesystem::path& path) {
  try {
    (void)ssm::load<L>(path);
    return "";
  } catch (const FileError& error) {
    return error.what();
  }
}

/// A file with these tensors of zeros and this config.
void write_file(const std::filesystem::path& path, const std::string& config,
                const std::vector<std::pair<std::string, std::vector<Index>>>& tensors) {
  const std::vector<float> zeros(1000);
  ssm::SafetensorsWriter file;
  if (!config.empty()) file.metadata["config"] = config;
  for (const auto& [name, extents] : tensors) file.add(name, extents, zeros.data());
  file.save(path);
}

using Shapes = std::vector<std::pair<std::string, std::vector<Index>>>;

const Shapes toy_tensors{{"weight", {6, 3}}, {"conv1d.weight", {3, 1, 4}}, {"bias", {3}}};

}  // namespace

static_assert(ssm::Keepable<Toy<float>> && !ssm::Keepable<Tensor<float, 1>>);

TEST_CASE("a layer comes back from its file with its configuration and its bits") {
  check_round_trip<Toy<float>>({.width = 3, .taps = 2});
  check_round_trip<Toy<double>>({.width = 3});
  check_round_trip<Toy<float, Tensor<ssm::Bfloat16, 2>>>({.width = 3});
  check_round_trip<Toy<float, Tensor<ssm::Half, 2>>>({.width = 3});
  check_round_trip<Toy<float>>({.width = 0});
  check_round_trip<Mamba<float>>({.width = 6, .state = 3});
  check_round_trip<ssm::S4<double>>({.width = 3, .state = 4, .rank = 2});
  check_round_trip<ssm::S4d<float>>({.width = 3,
                                     .state = 4,
                                     .bidirectional = true,
                                     .method = ssm::Discretization::bilinear,
                                     .form = ssm::S4dForm::scan});
  check_round_trip<ssm::S5<double>>({.width = 3, .state = 4, .bidirectional = true});
}

TEST_CASE("configurations of Mamba written before it had choices are those of the first one") {
  const auto config = [](const char* text) {
    return ssm::config_from_json<ssm::LanguageModelConfig<Mamba<float>>>(
        ssm::detail::parse_json("old", text), "old");
  };
  const auto old = config(R"({"vocab": 16, "epsilon": 1e-05, "backbone": {"channels": 6, "layers":
      [{"width": 6, "inner": 0, "state": 16, "conv_width": 4, "dt_rank": 0}]}})");
  CHECK(old == ssm::LanguageModelConfig<Mamba<float>>{16, {1, {.width = 6}}});
  const ssm::MambaConfig all{
      .width = 6, .bias = true, .conv_bias = false, .projection_epsilon = 1e-6};
  check_round_trip<Mamba<float>>(all);
  check_round_trip<ssm::LanguageModel<Residual<Mamba<float>>>>({16, {1, {all, 1e-5}}, 1e-5, false});
}

TEST_CASE("so do layers of layers, stacks of mixed kinds, and models") {
  using Block = Residual<Mamba<float>>;
  using Mixed = ssm::OneOf<Block, Mamba<float>>;
  const ssm::MambaConfig mamba{.width = 4, .state = 2};
  check_round_trip<Block>({mamba, 1e-3});
  check_round_trip<ssm::Projected<ssm::Stack<Block>>>({2, {3, {mamba, 1e-5}}});
  ssm::StackConfig<Mixed> mixed(1, {mamba});
  mixed.layers.push_back({ssm::ResidualConfig<Mamba<float>>{mamba, 0.1}});
  check_round_trip<ssm::Stack<Mixed>>(mixed);
  check_round_trip<ssm::SequenceClassifier<Block>>({3, 5, {2, {mamba, 1e-5}}, 1e-4});
  check_round_trip<ssm::LanguageModel<Block>>({11, {2, {mamba, 1e-5}}, 1e-4});
}

TEST_CASE("a file has plain names, PyTorch's shapes, and its configuration to be read by anybody") {
  const TempDirectory directory;
  ssm::save(directory / "a", random_layer<Toy<float>>({.width = 3}),
            {.matrices = DType::F16, .metadata = {{"note", "of mine"}}});
  const SafetensorsReader file(directory / "a");
  CHECK(file.metadata() ==
        std::map<std::string, std::string>{
            {"config", R"({"width": 3, "taps": 4})"}, {"format", "pt"}, {"note", "of mine"}});
  CHECK(file.tensors().size() == 3);
  CHECK(file.entry("weight").shape == std::vector<Index>{6, 3});
  CHECK(file.entry("weight").dtype == DType::F16);
  CHECK(file.entry("conv1d.weight").shape == std::vector<Index>{3, 1, 4});
  CHECK(file.entry("bias").dtype == DType::F32);
  CHECK_THROWS_AS(
      ssm::save(directory / "b", Toy<float>({.width = 1}), {.metadata = {{"config", ""}}}),
      ssm::DomainError);
}

TEST_CASE("elements convert between what the file has and what the layer computes in") {
  const TempDirectory directory;
  const auto layer = random_layer<Toy<float>>({.width = 5});
  for (DType dtype : {DType::F16, DType::BF16}) {
    ssm::save(directory / "a", layer, {.matrices = dtype});
    const auto wide = ssm::load<Toy<double>>(directory / "a");
    const auto narrow = ssm::load<Toy<float, Tensor<ssm::Bfloat16, 2>>>(directory / "a");
    for (Index i = 0; i < layer.weight.size(); ++i) {
      const float x = layer.weight.data()[i];
      CHECK(wide.weight.data()[i] == Approx(x).epsilon(0x1p-8));
      CHECK(static_cast<float>(narrow.weight.data()[i]) == Approx(x).epsilon(0x1p-7));
    }
    CHECK(wide.bias(2) == static_cast<double>(layer.bias(2)));
  }
  ssm::save(directory / "a", random_layer<Toy<double>>({.width = 5}), {.matrices = DType::F16});
  CHECK(SafetensorsReader(directory / "a").entry("weight").dtype == DType::F64);
}

TEST_CASE("a file that is not the layer's is refused by what is wrong with it") {
  const TempDirectory directory;
  const auto path = directory / "a";
  const auto with = [&](const std::string& config, const Shapes& tensors) {
    write_file(path, config, tensors);
    return complaint<Toy<float>>(path);
  };
  const std::string good = R"({"width": 3})";
  CHECK(with(good, toy_tensors).empty());
  CHECK_THAT(with("", toy_tensors), contains("carries no config"));
  CHECK_THAT(with("{\"width\": 3,}", toy_tensors),
             contains("config is not valid UTF-8 JSON at line 1"));
  CHECK_THAT(with(R"({"width": 3, "heads": 1})", toy_tensors), contains("\"heads\""));
  CHECK_THAT(with(R"({"width": 4})", toy_tensors),
             contains("\"weight\" is (6, 3), expected (8, 4)"));
  CHECK_THAT(with(R"({"width": 3, "taps": 0})",
                  {{"weight", {6, 3}}, {"conv1d.weight", {3, 1, 0}}, {"bias", {3}}}),
             contains("a: config: Toy: taps is 0"));
  CHECK_THAT(with(R"({"width": -3})", toy_tensors), contains("expected (-6, -3)"));
  auto tensors = toy_tensors;
  tensors[1].second = {3, 4};
  CHECK_THAT(with(good, tensors), contains("(3, 4), expected (3, 1, 4)"));
  tensors = toy_tensors;
  tensors[2].first = "in_proj.bias";
  CHECK_THAT(with(good, tensors),
             contains("missing tensors: \"bias\"; left over: \"in_proj.bias\""));
  ssm::save(path, random_layer<Mamba<float>>({.width = 4}));
  CHECK_THAT(complaint<Toy<float>>(path), contains("unknown field \"inner\""));
}

TEST_CASE("a layer that cannot be read again is not saved") {
  const TempDirectory directory;
  auto layer = random_layer<Toy<float>>({.width = 3});
  layer.bias(1) = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_WITH(ssm::save(directory / "a", layer), contains("\"bias\" has NaN at element 1"));
  layer.bias(1) = 1e5f;
  CHECK_NOTHROW(ssm::save(directory / "a", layer, {.matrices = DType::F16}));
  layer.weight(0, 1) = 1e5f;
  CHECK_THROWS_WITH(ssm::save(directory / "a", layer, {.matrices = DType::F16}),
                    contains("\"weight\" has 1e+05 at element 1, too large for F16"));
  layer.bias.resize({4});
  CHECK_THROWS_AS(ssm::save(directory / "a", layer), ssm::ShapeError);
}

TEST_CASE("a layer whose parts are not those of its configuration is not saved") {
  const TempDirectory directory;
  using Block = Residual<Mamba<float>>;
  const ssm::MambaConfig narrow{.width = 4, .state = 3}, wide{.width = 4, .state = 5};
  Block block({narrow});
  block.mixer = Mamba<float>(wide);
  CHECK_THROWS_WITH(
      ssm::save(directory / "a", block),
      contains("save: a parameter of the layer is mixer.") && contains(", expected mixer."));
  ssm::Stack<Block> stack({2, {narrow}});
  stack.layers.pop_back();
  CHECK_THROWS_WITH(ssm::save(directory / "b", stack), contains("is absent, expected layers.1."));
  using Mixed = ssm::OneOf<Block, Mamba<float>>;
  Mixed mixed({narrow});
  mixed.kind = Block({narrow});
  CHECK_THROWS_WITH(ssm::save(directory / "c", mixed), contains("is norm.weight (4), expected "));
}

TEST_CASE("a stack of a negative width is not loaded") {
  const TempDirectory directory;
  using Stack = ssm::Stack<Mamba<float>>;
  write_file(directory / "a", R"({"channels": -3, "layers": []})", {});
  CHECK_THAT(complaint<Stack>(directory / "a"), contains("channels is -3, expected 0 or more"));
}

TEST_CASE("sizes are held against the file before memory is taken for them") {
  const TempDirectory directory;
  const auto path = directory / "a";
  write_file(path, R"({"width": 2147483647, "taps": 2147483647})", toy_tensors);
  CHECK_THAT(complaint<Toy<float>>(path), contains("expected (4294967294, 2147483647)"));

  using Model = ssm::SequenceClassifier<Residual<Mamba<float>>>;
  const std::string mamba =
      R"({"mixer": {"width": 2147483647, "inner": 2147483647, "state": 2147483647,
          "conv_width": 4, "dt_rank": 0}, "epsilon": 1e-5})";
  std::string layers = mamba;
  for (int i = 0; i < 3000; ++i) layers += ", " + mamba;
  write_file(path,
             R"({"inputs": 1, "classes": 2, "epsilon": 1e-5, "backbone": {"channels": 2147483647,
                 "layers": [)" +
                 layers + "]}}",
             {{"head.bias", {2}}});
  CHECK_THAT(complaint<Model>(path), contains("missing tensors") && contains("more"));
}

TEST_CASE("a layer that is there keeps what it has unless all is read") {
  const TempDirectory directory;
  const auto saved = random_layer<Toy<float>>({.width = 3}, 1);
  const auto before = random_layer<Toy<float>>({.width = 3}, 2);
  ssm::save(directory / "good", saved);
  auto layer = before;
  ssm::load(directory / "good", layer);
  CHECK(elements(layer) == elements(saved));

  ssm::SafetensorsWriter file;
  auto poisoned = saved;
  poisoned.bias(2) = std::numeric_limits<float>::infinity();  // the last that is read
  ssm::add_parameters(file, "", poisoned);
  ssm::add_parameters(file, "other.", saved);
  file.save(directory / "bad", ssm::NonFinite::allow);
  layer = before;
  CHECK_THROWS_AS(ssm::load(directory / "bad", layer), FileError);
  const SafetensorsReader bad(directory / "bad");
  CHECK_THROWS_WITH(ssm::read_into(bad, "", layer), contains("\"bias\" has infinity"));
  CHECK_THROWS_WITH(ssm::read_into(bad, "none.", layer), contains("missing tensors: \"none."));
  CHECK(elements(layer) == elements(before));
  ssm::read_into(bad, "other.", layer);
  CHECK(elements(layer) == elements(saved));

  Toy<float> wider({.width = 4});
  CHECK_THROWS_WITH(ssm::read_into(bad, "other.", wider), contains("expected (8, 4)"));
}

TEST_CASE(
    "a model's file with any bytes of its header changed is loaded or refused, nothing else") {
  using Mixed = ssm::OneOf<Residual<Mamba<float>>, Mamba<float>>;
  using Model = ssm::LanguageModel<Mixed>;
  const ssm::MambaConfig mamba{.width = 2, .inner = 3, .state = 1};
  ssm::StackConfig<Mixed> stack(1, {mamba});
  stack.layers.push_back({ssm::ResidualConfig<Mamba<float>>{mamba, 0.1}});
  const TempDirectory directory;
  ssm::save(directory / "good", random_layer<Model>({3, stack, 1e-5}));
  const std::string good = ssm::test::read_bytes(directory / "good");
  const auto config_end = static_cast<Index>(good.find("\"format\""));
  ssm::test::Random random(3);
  int loaded = 0, refused = 0;
  for (int trial = 0; trial < 2000; ++trial) {
    std::string bytes = good;
    for (Index change = random.integer(1, 2); change > 0; --change)
      bytes[static_cast<std::size_t>(random.integer(8, config_end))] =
          "0123456789-.e{}[]\",:"[random.integer(0, 19)];
    ++(complaint<Model>(directory.write("bad", bytes)).empty() ? loaded : refused);
  }
  CHECK(loaded + refused == 2000);
  CHECK(refused > 1000);
}

}  // namespace save_load_test
