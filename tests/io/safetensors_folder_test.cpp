#include "ssm/io/safetensors_folder.hpp"

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ssm/io/checkpoint.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/contains.hpp"
#include "support/random.hpp"
#include "support/temp_directory.hpp"

namespace safetensors_folder_test {

using ssm::FileError;
using ssm::Index;
using ssm::Json;
using ssm::SafetensorsFolder;
using ssm::Tensor;
using ssm::test::contains;
using ssm::test::TempDirectory;

namespace {

constexpr const char* index_name = "model.safetensors.index.json";

/// A file with a tensor of three numbers under each of these names.
void write_file(const std::filesystem::path& path, const std::vector<std::string>& names) {
  Tensor<float, 1> x({3});
  for (float& value : x) value = static_cast<float>(path.filename().string().size());
  ssm::SafetensorsWriter file;
  for (const std::string& name : names) file.add(name, x);
  file.save(path);
}

void write_index(const TempDirectory& directory,
                 const std::vector<std::pair<std::string, Json>>& where) {
  Json json = Json::Object{{"metadata", Json::Object{{"total_size", 1}}}};
  json["weight_map"] = Json::Object(where.begin(), where.end());
  directory.write(index_name, json.text());
}

std::string complaint(const std::filesystem::path& path) {
  try {
    const SafetensorsFolder folder(path);
    return "";
  } catch (const FileError& error) {
    return error.what();
  }
}

}  // namespace

TEST_CASE("tensors of one file or of several beside an index are read by name") {
  const TempDirectory directory;
  write_file(directory / "a.safetensors", {"x", "y"});
  write_file(directory / "long.safetensors", {"z"});
  write_index(directory,
              {{"x", "a.safetensors"}, {"y", "a.safetensors"}, {"z", "long.safetensors"}});
  for (const auto& path : {directory.path(), directory / index_name}) {
    const SafetensorsFolder folder(path);
    CHECK(folder.path() == directory / index_name);
    CHECK(folder.files().size() == 2);
    CHECK(folder.tensors().size() == 3);
    CHECK(folder.read<float, 1>("y", {3})(2) == 13);
    CHECK(folder.read<float, 1>("z", {3})(2) == 16);
    CHECK(folder.file_of("z").path() == directory / "long.safetensors");
    CHECK(folder.entry("x").shape == std::vector<Index>{3});
    CHECK_THROWS_WITH(folder.entry("w"), contains(index_name) && contains("no tensor \"w\""));
    CHECK_THROWS_WITH((folder.read<float, 1>("z", {4})),
                      contains("long.safetensors: tensor \"z\""));
  }
  const SafetensorsFolder one(directory / "a.safetensors");
  CHECK(one.contains("x"));
  CHECK_FALSE(one.contains("z"));
  // One whole file is what is meant where there are both.
  write_file(directory / "model.safetensors", {"w"});
  CHECK(SafetensorsFolder(directory.path()).contains("w"));
}

TEST_CASE("an index that names anything but files beside it is refused") {
  const TempDirectory directory;
  write_file(directory / "a.safetensors", {"x"});
  std::filesystem::create_directory(directory / "sub");
  write_file(directory / "sub/b.safetensors", {"x"});
  for (const std::string name :
       {"sub/b.safetensors", "../x.safetensors", "/etc/passwd", "/tmp/x.safetensors", "..", ".", "",
        "a", "model.safetensors.index.json", "sub\\b.safetensors", "c:b.safetensors"}) {
    INFO(name);
    write_index(directory, {{"x", name}});
    CHECK_THAT(complaint(directory.path()), contains("index puts tensor \"x\" into") &&
                                                contains("a .safetensors file beside it"));
  }
  for (const Json& value : {Json(), Json(3), Json(Json::Array{"a.safetensors"}),
                            Json(std::string("a.safetensors\0.safetensors", 26))}) {
    write_index(directory, {{"x", value}});
    CHECK_THAT(complaint(directory.path()), contains("index puts tensor \"x\" into"));
  }
  std::filesystem::create_directory(directory / "folder.safetensors");
  write_index(directory, {{"x", "folder.safetensors"}});
  CHECK_THAT(complaint(directory.path()), contains("not a regular file"));
}

TEST_CASE("an index and its files that do not agree are refused by the tensor") {
  const TempDirectory directory;
  write_file(directory / "a.safetensors", {"x", "y"});
  write_file(directory / "b.safetensors", {"z"});
  write_index(directory, {{"x", "a.safetensors"}, {"z", "c.safetensors"}});
  CHECK_THAT(complaint(directory.path()), contains("c.safetensors: no such file"));
  write_index(directory, {{"x", "a.safetensors"}, {"w", "b.safetensors"}});
  CHECK_THAT(complaint(directory.path()),
             contains("index puts tensor \"w\" into \"b.safetensors\", which has no such tensor"));
  write_index(directory, {{"x", "a.safetensors"}, {"y", "b.safetensors"}, {"z", "b.safetensors"}});
  CHECK_THAT(complaint(directory.path()),
             contains("a.safetensors: has tensor \"y\", expected in \"b.safetensors\" alone"));
  write_file(directory / "b.safetensors", {"y", "z"});
  write_index(directory, {{"x", "a.safetensors"}, {"z", "b.safetensors"}});
  CHECK_THAT(complaint(directory.path()), contains("has tensor \"y\", expected in one file alone"));
  directory.write(index_name, R"({"weight_map": {"x": "a.safetensors", "x": "b.safetensors"}})");
  CHECK_THAT(complaint(directory.path()), contains("\"x\" twice"));
  for (const char* text : {"", "{", "[]", "{}", R"({"weight_map": []})", R"({"weight_map": null})",
                           "{\"weight_map\": {\"x\": \"a\xff.safetensors\"}}"}) {
    INFO(text);
    directory.write(index_name, text);
    CHECK_THAT(complaint(directory.path()), contains("index"));
  }
  directory.write(index_name, std::string((1 << 20) + 1, ' '));
  CHECK_THAT(complaint(directory.path()), contains("at most 1048576"));
  directory.write("a.safetensors", std::string("\xff\xff\xff\xff\0\0\0\0{}", 10));
  write_index(directory, {{"x", "a.safetensors"}});
  CHECK_THAT(complaint(directory.path()), contains("a.safetensors") && contains("cut short"));
}

TEST_CASE("a model cut anywhere into several files is the model") {
  const TempDirectory directory;
  ssm::MambaLM<float> model(ssm::mamba_lm_config<float>({.vocab = 11, .width = 6, .layers = 2}));
  ssm::initialize(model, 3);
  ssm::save_mamba_lm(directory.path(), model);
  std::filesystem::remove(directory / "model.safetensors");
  for (const int files : {1, 3, 22}) {
    std::map<std::string, ssm::SafetensorsWriter> writers;
    std::vector<std::pair<std::string, Json>> where;
    int next = 0;
    parameters(model, [&](std::string_view view, const auto& tensor, const auto&, bool) {
      const std::string name(view), file = std::to_string(next++ % files) + ".safetensors";
      where.emplace_back(name, file);
      writers[file].add(name, ssm::detail::shape_in_file(name, tensor.extents()), tensor.data());
    });
    for (auto& [file, writer] : writers) writer.save(directory / file);
    write_index(directory, where);
    const auto loaded = ssm::load_mamba_lm(directory.path());
    CHECK(loaded.config == model.config);
    parameters(model, [&](std::string_view name, const auto& tensor, const auto&, bool) {
      parameters(loaded, [&](std::string_view its, const auto& other, const auto&, bool) {
        if (name == its) CHECK(std::equal(tensor.begin(), tensor.end(), other.begin()));
      });
    });
  }
  // What the index leaves out counts as well: it is left over.
  Tensor<float, 1> extra({2});
  ssm::SafetensorsWriter more;
  more.add("backbone.layers.2.mixer.D", extra);
  more.add("backbone.norm_f.weight", model.norm);
  more.save(directory / "21.safetensors");
  CHECK_THROWS_WITH(ssm::load_mamba_lm(directory.path()),
                    contains(index_name) && contains("left over: \"backbone.layers.2.mixer.D\""));
  std::filesystem::remove(directory / "config.json");
  CHECK_THROWS_WITH(ssm::load_mamba_lm(directory.path()), contains("config.json: no such file"));
}

TEST_CASE("an index or a config with any byte changed gives the model or a FileError") {
  const std::filesystem::path golden = SSM_SOURCE_DIR "/tests/golden/mamba_variants/sharded";
  const TempDirectory directory;
  std::filesystem::copy(golden, directory.path());
  ssm::test::Random random(6);
  const std::string likely = "\"{}[]:,.0123456789-e\\/ \xff\n";
  int read = 0, refused = 0;
  for (const char* name : {index_name, "config.json"}) {
    const std::string good = ssm::test::read_bytes(golden / name);
    const auto last = static_cast<Index>(good.size()) - 1;
    for (int round = 0; round < 400; ++round) {
      std::string bad = good;
      for (Index changes = random.integer(1, 3); changes > 0; --changes) {
        const auto at = static_cast<std::size_t>(random.integer(0, last));
        const auto pick =
            static_cast<std::size_t>(random.integer(0, static_cast<Index>(likely.size()) - 1));
        if (changes == 3)
          bad.erase(at, 20);
        else if (at < bad.size())
          bad[at] = likely[pick];
      }
      directory.write(name, bad);
      try {
        (void)ssm::load_mamba_lm(directory.path());
        ++read;
      } catch (const FileError&) {
        ++refused;
      }
    }
    directory.write(name, good);
  }
  CHECK(read > 0);
  CHECK(refused > 400);
}

}  // namespace safetensors_folder_test
