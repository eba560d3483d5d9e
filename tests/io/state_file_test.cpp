#include "ssm/io/state_file.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ssm/layers/attention.hpp"
#include "ssm/layers/attention_step.hpp"
#include "ssm/layers/gated.hpp"
#include "ssm/layers/one_of.hpp"
#include "ssm/layers/s4d.hpp"
#include "ssm/layers/s4d_step.hpp"
#include "ssm/models/mamba_lm.hpp"
#include "support/catch.hpp"
#include "support/contains.hpp"
#include "support/random.hpp"
#include "support/temp_directory.hpp"

namespace state_file_test {

using namespace ssm;
using test::contains;
using test::TempDirectory;

namespace {

using Model = MambaLM<float>;
using Mixed = LanguageModel<OneOf<Residual<Mamba<float>>, S4Block<S4d<float>>>>;

Model model_of(std::uint64_t seed, Index width = 8, Index vocab = 256) {
  Model model(mamba_lm_config({.vocab = vocab, .width = width, .layers = 2, .state = 4}));
  initialize(model, seed);
  return model;
}

Mixed mixed_model() {
  Mixed::Config config{
      .vocab = 256,
      .backbone = {2, {ResidualConfig<Mamba<float>>{.mixer = {.width = 6, .state = 3}}}}};
  config.backbone.layers[1].kind =
      S4Block<S4d<float>>::Config{.mixer = {.mixer = {.width = 6, .state = 4}}};
  Mixed model(config);
  initialize(model, 5);
  return model;
}

const SamplingOptions sampling{.repetition_penalty = 1.2, .seed = 9};

/// A generator that has read and written, in a file.
std::filesystem::path saved_in(const TempDirectory& directory) {
  TextGenerator writer(model_of(1), sampling);
  writer.read("a prompt");
  (void)writer.write(20);
  save_state(directory / "state", writer);
  return directory / "state";
}

/// A file with one of its texts or tensors changed by `change(writer, metadata)`.
template <class Change>
std::filesystem::path spoiled(const TempDirectory& directory, const Change& change) {
  const SafetensorsReader good(saved_in(directory));
  SafetensorsWriter bad;
  bad.metadata = good.metadata();
  std::map<std::string, std::vector<float>> numbers;
  std::vector<Token> recent(static_cast<std::size_t>(good.entry("recent").shape[0]), 65);
  std::map<std::string, std::vector<Index>> shapes;
  for (const auto& [name, entry] : good.tensors())
    if (name != "recent") {
      shapes[name] = entry.shape;
      Index size = 1;
      for (const Index extent : entry.shape) size *= extent;
      numbers[name].assign(static_cast<std::size_t>(size), 0.5f);
    }
  change(bad.metadata, numbers, shapes, recent);
  for (const auto& [name, shape] : shapes) bad.add(name, shape, numbers[name].data());
  bad.add("recent", {static_cast<Index>(recent.size())}, recent.data());
  bad.save(directory / "bad", NonFinite::allow);
  return directory / "bad";
}

}  // namespace

TEST_CASE("writing, saving and writing on in another program is writing at once") {
  const TempDirectory directory;
  const auto check = [&](const auto& model) {
    TextGenerator whole(model, sampling), first(model, sampling), second(model, sampling);
    whole.read("a prompt");
    first.read("a prompt");
    const std::string all = whole.write(40);
    CHECK(first.write(20) == all.substr(0, 20));
    save_state(directory / "state", first, {{"of", "a test"}});
    const auto notes = load_state(directory / "state", second);
    CHECK(notes == std::map<std::string, std::string>{{"of", "a test"}});
    CHECK(second.write(20) == all.substr(20));
    second.reset();
    load_state(directory / "state", second);
    second.read("more");
    first.read("more");
    CHECK(second.write(20) == first.write(20));
  };
  check(model_of(1));
  check(mixed_model());
}

TEST_CASE("with another seed the random numbers begin anew, and the text goes on") {
  const TempDirectory directory;
  TextGenerator first(model_of(1), {.seed = 2}), second(model_of(1), {.seed = 3}),
      third(model_of(1), {.seed = 3});
  first.read("a prompt");
  (void)first.write(20);
  save_state(directory / "state", first);
  load_state(directory / "state", second);
  third.resume(first.state(), first.logits());
  CHECK(second.write(20) == third.write(20));
}

TEST_CASE("the state of any layer comes back, for as many sequences as it has") {
  const TempDirectory directory;
  S4d<float> layer({.width = 3, .state = 4});
  initialize(layer, 1);
  auto state = make_state(layer, 5);
  test::Random random(3);
  tensors(state, [&](std::string_view, auto& tensor) {
    for (auto& x : tensor) x = {static_cast<float>(random.normal()), 2};
  });
  save_state(directory / "state", layer, state, {{"rate", "8000"}});
  auto loaded = load_state(directory / "state", layer);
  CHECK(loaded.notes.at("rate") == "8000");
  CHECK(loaded.state.x.extents() == state.x.extents());
  CHECK(std::equal(state.x.begin(), state.x.end(), loaded.state.x.begin()));
  CHECK_THROWS_AS(save_state(directory / "state", layer, state, {{"state", ""}}), DomainError);
}

TEST_CASE("the state of another model is refused in words, and the generator has not changed") {
  const TempDirectory directory;
  const auto path = saved_in(directory);
  const auto refuses = [&](Model model, const std::string& sentence) {
    const Token some[] = {1, 2};
    TextGenerator writer(model, sampling), same(std::move(model), sampling);
    writer.read(View<const Token, 1>(some, {2}));
    same.read(View<const Token, 1>(some, {2}));
    CHECK_THROWS_WITH(load_state(path, writer), contains(sentence));
    for (int i = 0; i < 10; ++i) CHECK(writer.next() == same.next());
  };
  refuses(model_of(1, 8, 300), "is the state of another model: config.vocab is 256, expected 300");
  refuses(model_of(1, 16),
          "is the state of another model: config.backbone.channels is 8, expected 16");
  refuses(model_of(2), "is the state of a model with other weights");
  Model trained = model_of(1);
  for (float& x : trained.backbone.layers[1].mixer.out_proj) x += 1e-3f;
  refuses(trained, "is the state of a model with other weights");
  const S4d<float> layer({.width = 3, .state = 4});
  CHECK_THROWS_WITH(load_state(path, layer), contains("is the state of another model"));
  Model model = model_of(1);
  CHECK_THROWS_WITH(load_state(path, model), contains("tensors left over: \"logits\", \"recent\""));
  save_state(path, model, make_state(model, 1));
  TextGenerator writer(model);
  CHECK_THROWS_WITH(load_state(path, writer), contains("missing tensors: \"logits\", \"recent\""));
}

TEST_CASE("only a state file is replaced, and it is known before whether one can be written") {
  const TempDirectory directory;
  TextGenerator writer(model_of(1));
  CHECK_THROWS_WITH(save_state(directory / "state", writer), contains("text read so far is empty"));
  writer.read("ab");
  for (const char* text : {"", "a text of somebody's"}) {
    const auto path = directory.write("text", text);
    CHECK_THROWS_WITH(check_state_path(path), contains("is no state file, and is not replaced"));
    CHECK_THROWS_AS(save_state(path, writer), FileError);
    CHECK(test::read_bytes(path) == text);
  }
  save(directory / "model", writer.model());
  CHECK_THROWS_AS(save_state(directory / "model", writer), FileError);
  CHECK_THROWS_WITH(check_state_path(directory / "no" / "state"),
                    contains("its folder does not exist"));
  CHECK_THROWS_WITH(check_state_path(directory.path()), contains("it is not a regular file"));
  check_state_path(directory / "state");
  CHECK(!std::filesystem::exists(directory / "state"));
  save_state(directory / "state", writer);
  save_state(directory / "state", writer);
  const auto files = std::filesystem::directory_iterator(directory.path());
  CHECK(std::distance(begin(files), end(files)) == 3);
}

TEST_CASE("a state file that says what cannot be is refused in words") {
  const TempDirectory directory;
  TextGenerator writer(model_of(1), sampling);
  const auto refuses = [&](const std::string& sentence, const auto& change) {
    CHECK_THROWS_WITH(load_state(spoiled(directory, change), writer), contains(sentence));
    CHECK(!writer.started());
  };
  const auto says = [&](const std::string& text, const std::string& from, const std::string& to,
                        const std::string& sentence) {
    refuses(sentence, [&](auto& metadata, auto&, auto&, auto&) {
      std::string& json = metadata.at(text);
      REQUIRE(json.find(from) != std::string::npos);
      json.replace(json.find(from), from.size(), to);
    });
  };
  load_state(spoiled(directory, [](auto&...) {}), writer);
  writer.reset();
  says("state", "ssm-state-1", "ssm-state-2", "state.format is");
  says("state", "\"sequences\": 1", "\"sequences\": 2", "expected (2, ");
  says("state", "\"sequences\": 1", "\"sequences\": 0", "expected (0, ");
  says("state", "\"sequences\": 1", "\"sequences\": 4294967296", "at most 2147483647");
  says("state", "\"sequences\": 1", "\"sequences\": -1", "a whole number from 0");
  says("state", "{", "[", "state is not valid UTF-8 JSON");
  says("generator", "\"drawn\": 20", "\"drawn\": 18446744073709551615", "at most 2^33");
  says("generator", "\"drawn\"", "\"done\"", "generator has no drawn");
  refuses("is no state file", [](auto& metadata, auto&, auto&, auto&) { metadata.erase("state"); });
  refuses("is no state of a generator",
          [](auto& metadata, auto&, auto&, auto&) { metadata.erase("generator"); });
  refuses("missing tensors: \"state.0.",
          [](auto&, auto&, auto& shapes, auto&) { shapes.erase(std::next(shapes.begin())); });
  refuses("tensors left over: \"more\"",
          [](auto&, auto&, auto& shapes, auto&) { shapes["more"] = {0}; });
  refuses("\"logits\" is (256)",
          [](auto&, auto&, auto& shapes, auto&) { shapes["logits"] = {256}; });
  refuses("\"logits\" has NaN", [](auto&, auto& numbers, auto&, auto&) {
    numbers["logits"][3] = std::numeric_limits<float>::quiet_NaN();
  });
  refuses("token is 256, expected below vocab",
          [](auto&, auto&, auto&, auto& recent) { recent[3] = 256; });
  refuses("token is -1", [](auto&, auto&, auto&, auto& recent) { recent[0] = -1; });
}

TEST_CASE("a number of steps that none can be is refused in a state, not used as a position") {
  using Attentive = LanguageModel<Residual<Attention<float>>>;
  const Attentive model(
      {.vocab = 256, .backbone = {1, {.mixer = {.width = 6, .heads = 1, .window = 5}}}});
  auto state = make_state(model, 1);
  const TempDirectory directory;
  for (const Index none : {Index{-1}, (std::numeric_limits<Index>::max)() - 2}) {
    state.layers[0].steps(0) = none;
    save_state(directory / "state", model, state);
    CHECK_THROWS_WITH(load_state(directory / "state", model),
                      contains("state.0.steps is no number of steps"));
  }
}

TEST_CASE("a state file with any bytes of its header changed or cut is loaded or refused") {
  const TempDirectory directory;
  const std::string good = test::read_bytes(saved_in(directory));
  std::uint64_t header = 0;
  std::memcpy(&header, good.data(), sizeof(header));
  TextGenerator writer(model_of(1), sampling);
  test::Random random(11);
  int refused = 0;
  for (int trial = 0; trial < 300; ++trial) {
    std::string bytes = good;
    if (trial % 10 == 0) {
      bytes.resize(
          static_cast<std::size_t>(random.integer(0, static_cast<Index>(good.size()) - 1)));
    } else {
      for (int change = 0; change < 2; ++change)
        bytes[static_cast<std::size_t>(random.integer(0, static_cast<Index>(header) + 7))] =
            "0123456789-.e{}[]\",:"[random.integer(0, 19)];
    }
    try {
      load_state(directory.write("bad", bytes), writer);
      (void)writer.write(2);
    } catch (const FileError&) {
      ++refused;
    }
  }
  CHECK(refused > 100);
}

}  // namespace state_file_test
