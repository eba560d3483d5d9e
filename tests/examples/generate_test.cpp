#include "../../examples/generate.hpp"

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "../../examples/generate.cpp"
#include "../../examples/model_words.cpp"
#include "ssm/io/json.hpp"
#include "ssm/models/mamba_lm.hpp"
#include "support/catch.hpp"
#include "support/contains.hpp"
#include "support/temp_directory.hpp"

namespace generate_test {

using namespace generate;
using ssm::Json;
using ssm::test::contains;
using ssm::test::TempDirectory;

namespace {

const std::filesystem::path tokenizer_json =
    SSM_SOURCE_DIR "/tests/golden/tokenizer/tokenizer.json";

/// A model of a few tokens more than the tokenizer has.
std::unique_ptr<WritingModel> random_model(const ssm::SamplingOptions& sampling) {
  ssm::MambaLM<float> model(
      ssm::mamba_lm_config({.vocab = 816, .width = 8, .layers = 2, .state = 4}));
  initialize(model, 3);
  return writing_model(std::move(model), sampling, ssm::cpu(1));
}

/// A folder of that model, less its weights.
struct Folder : TempDirectory {
  Folder() { std::filesystem::copy_file(tokenizer_json, *this / "tokenizer.json"); }
  [[nodiscard]] Arguments arguments() const {
    Arguments a;
    a.model = path().string();
    a.sampling.temperature = 1;
    a.tokens = 40;
    return a;
  }
};

/// What a run prints.
std::string printed(const Arguments& arguments, int status = 0) {
  const TempDirectory directory;
  std::fflush(stdout);
  std::FILE* file = std::fopen((directory / "output").c_str(), "w");
  REQUIRE(file != nullptr);
  const int before = dup(STDOUT_FILENO), errors = dup(STDERR_FILENO);
  dup2(fileno(file), STDOUT_FILENO);
  dup2(fileno(file), STDERR_FILENO);
  std::string error;
  try {
    const Writing writing(arguments);
    const auto model = random_model(writing.sampling(816));
    const int ended = writing.run(*model);
    if (ended != status) error = "ended with " + std::to_string(ended);
  } catch (const std::exception& thrown) {
    error = thrown.what();
  }
  std::fflush(stdout);
  dup2(before, STDOUT_FILENO);
  dup2(errors, STDERR_FILENO);
  close(before);
  close(errors);
  std::fclose(file);
  if (!error.empty()) throw std::runtime_error(error);
  std::string text = ssm::test::read_bytes(directory / "output");
  return text.substr(0, text.rfind('\n', text.size() - 2) + 1);  // less the times
}

std::vector<Json> lines_of(const std::string& text) {
  std::vector<Json> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at);
    lines.push_back(ssm::detail::parse_json("output", text.substr(at, end - at)));
    at = end + 1;
  }
  return lines;
}
std::string text_in(const Json& line, const char* field = "text") {
  const Json* found = line.find(field);
  return found != nullptr ? *found->as<std::string>() : "";
}

}  // namespace

TEST_CASE("tokens are those of the tokenizer in the model's folder, or bytes") {
  const Folder folder;
  const ModelWords words(folder.path(), ""), beside(folder / "model.safetensors", ""),
      given("nowhere", tokenizer_json.parent_path());
  CHECK(words.count() == 809);
  CHECK(beside.count() == 809);
  CHECK(given.encode("a", true) == words.encode("a", true));
  CHECK(words.encode("a", true).size() == 2);  // one token stands before every text
  CHECK(words.encode("a", false).size() == 1);
  CHECK(words.decode(words.encode("a", false)[0]) == "a");
  CHECK(words.decode(0).empty());    // special
  CHECK(words.decode(812).empty());  // of the model alone
  CHECK(words.ends(0));
  CHECK_THROWS_WITH(words.check(800),
                    contains("has 809 tokens, and the model a vocabulary of 800"));
  const ModelWords bytes("nowhere", "");
  CHECK(bytes.encode("\xff", true) == std::vector<Token>{255});
  CHECK(bytes.decode(255) == "\xff");
  CHECK(!bytes.ends(0));
  CHECK_THROWS_WITH(bytes.check(300), contains("has a vocabulary of 300, expected 256"));
}

TEST_CASE("the files of a model say which tokens end a text") {
  const Folder folder;
  const auto ends = [&](std::vector<Token> tokens) {
    const ModelWords words(folder.path(), "");
    for (Token token = 0; token < 20; ++token)
      CHECK(words.ends(token) == (std::find(tokens.begin(), tokens.end(), token) != tokens.end()));
  };
  ends({0});  // <|endoftext|>
  folder.write("tokenizer_config.json", R"({"eos_token": {"content": "!"}})");
  ends({*ssm::Tokenizer(tokenizer_json).find("!")});
  folder.write("config.json", R"({"eos_token_id": null})");
  folder.write("tokenizer_config.json", R"({"eos_token": "nobody knows it"})");
  ends({});
  folder.write("config.json", R"({"eos_token_id": 7})");
  ends({7});
  folder.write("generation_config.json", R"({"eos_token_id": [3, 9]})");
  ends({3, 9});
  folder.write("generation_config.json", R"({"eos_token_id": "3"})");
  CHECK_THROWS_WITH(ends({}), contains("eos_token_id is \"3\", expected tokens"));
}

TEST_CASE("a transcript shows whole characters, and ends before a stop over several tokens") {
  const ModelWords words("nowhere", tokenizer_json);
  const auto written = [&](std::string_view text, Transcript transcript) {
    std::string all;
    for (const Token token : words.encode(text, false)) {
      const std::string shown = transcript.take(token);
      CHECK(ssm::detail::utf8_prefix(shown) == shown.size());
      all += shown;
      if (!transcript.reason().empty()) break;
    }
    return all + "|" + transcript.reason();
  };
  const auto limits = [](std::vector<std::string> stops, std::int64_t tokens = 1000) {
    return Transcript::Limits{.stops = ssm::StopStrings(std::move(stops)), .tokens = tokens};
  };
  const std::string text = "one \xf0\x9f\x91\xa9 two three<|endoftext|>four";
  CHECK(written(text, {words, limits({})}) == "one \xf0\x9f\x91\xa9 two three|end of text");
  CHECK(written(text, {words, limits({"\xf0\x9f\x91\xa9 tw"})}) == "one |stop");
  CHECK(written(text, {words, limits({"threefour", "threes"})}) ==
        "one \xf0\x9f\x91\xa9 two three|end of text");
  auto past = limits({"efo"});
  past.past_ends = true;
  CHECK(written(text, {words, past}) == "one \xf0\x9f\x91\xa9 two thre|stop");
  CHECK(written("\xf0\x9f\x91\xa9", {words, limits({}, 2)}) == "\xef\xbf\xbd|length");
  CHECK(written("", {words, limits({}, 0)}) == "|length");

  auto halves = limits({}, 2);
  halves.goes_on = true;
  const auto tokens = words.encode("\xf0\x9f\x91\xa9!", false);
  REQUIRE(tokens.size() == 5);
  Transcript before(words, halves);
  std::string both = before.take(tokens[0]);
  both += before.take(tokens[1]);
  CHECK(both.empty());
  Transcript after(words, limits({}), before.cut());
  for (std::size_t i = 2; i < tokens.size(); ++i) both += after.take(tokens[i]);
  CHECK(both == "\xf0\x9f\x91\xa9!");

  const ModelWords bytes("nowhere", "");
  auto raw = limits({}, 5);
  raw.as_bytes = true;
  Transcript transcript(bytes, raw);
  std::string all;
  for (const char c : std::string_view("a\xc3\xa9\xff\xc3"))
    all += transcript.take(static_cast<unsigned char>(c));
  CHECK(all == "a\xc3\xa9\xff\xc3");
}

TEST_CASE("JSON lines are the tokens of the text, and say why it ended") {
  const Folder folder;
  Arguments a = folder.arguments();
  a.prompt = "The first";
  a.past_ends = true;
  std::string text = printed(a);
  REQUIRE(text.starts_with("The first"));
  text = text.substr(9, text.size() - 10);
  a.no_echo = true;
  CHECK(printed(a) == text + "\n");
  a.json = true;
  const auto collect = [&](const std::vector<Json>& lines) {
    std::string all;
    for (const Json& line : lines) all += text_in(line);
    return all;
  };
  const auto run = [&] {  // its last line has no times
    return lines_of(printed(a) + "{}\n");
  };
  auto lines = run();
  CHECK(collect(lines) == text);
  CHECK(*lines[2].find("token")->as<std::uint64_t>() < 809);
  const Json& last = lines[lines.size() - 2];
  CHECK(text_in(last, "reason") == "length");
  CHECK(*last.find("tokens") == Json(40));
  CHECK(*last.find("prompt_tokens") ==
        Json(static_cast<std::uint64_t>(
            ModelWords(folder.path(), "").encode("The first", true).size())));
  const std::string stop = text.substr(text.size() / 2, 3);
  a.stops = {"no such text", stop};
  lines = run();
  CHECK(text_in(lines[lines.size() - 2], "stop") == stop);
  CHECK(collect(lines) == text.substr(0, text.find(stop)));
}

TEST_CASE("a file of prompts is written on as each alone, however many at once") {
  const Folder folder;
  Arguments a = folder.arguments();
  a.stops = {"e"};
  const std::vector<std::string> prompts{"The first", "and", "a longer one, of more tokens", "x\ny",
                                         "\xc3\xa9t\xc3\xa9"};
  std::string file;
  std::vector<std::string> alone;
  for (const std::string& prompt : prompts) {
    file += Json(prompt).text() + "\n";
    a.prompt = prompt;
    a.no_echo = true;
    alone.push_back(printed(a));
    alone.back().pop_back();
  }
  a.prompt.reset();
  a.prompts = folder.write("prompts", file).string();
  for (const int batch : {1, 2, 16}) {
    a.batch = batch;
    const auto lines = lines_of(printed(a));
    REQUIRE(lines.size() == prompts.size());
    for (std::size_t i = 0; i < lines.size(); ++i) CHECK(text_in(lines[i]) == alone[i]);
  }
  a.tokens = 0;
  CHECK(lines_of(printed(a)).size() == prompts.size());
  CHECK_THROWS_WITH((folder.write("prompts", "\"a\"\n5\n"), printed(a)),
                    contains("prompts: line 2 is no JSON text"));
  CHECK_THROWS_WITH((folder.write("prompts", ""), printed(a)), contains("has no prompts"));
}

TEST_CASE("a text goes on from a state in a file, and so does each of many prompts") {
  const Folder folder;
  Arguments a = folder.arguments();
  a.no_echo = a.past_ends = true;
  a.prompt = "The first";
  const std::string all = printed(a);
  a.save_state = (folder / "state").string();
  a.overwrite = true;
  std::size_t cuts = 0;  // within a character
  for (const int split : {1, 5, 6, 7, 8, 9, 10, 11, 12, 20}) {
    a.prompt = "The first";
    a.state.clear();
    a.tokens = split;
    const std::string first = printed(a);
    a.prompt.reset();
    a.state = a.save_state;
    a.tokens = 40 - split;
    cuts += ssm::SafetensorsReader(a.state).metadata().at("cut") != "[]" ? 1 : 0;
    CHECK(first.substr(0, first.size() - 1) + printed(a) == all);
  }
  CHECK(cuts > 0);

  a.tokens = 20;
  a.prompt = "and then";
  a.save_state.clear();
  const std::string more = printed(a);
  a.prompt.reset();
  a.prompts = folder.write("prompts", "\"and then\"\n\"\"\n\"and then\"\n").string();
  const auto lines = lines_of(printed(a));
  CHECK(text_in(lines.at(0)) + "\n" == more);
  CHECK(text_in(lines.at(2)) + "\n" == more);

  const auto model = random_model({});
  model->load(a.state);
  a.state = (folder / "spoiled").string();
  for (const char* cut : {"[256]", "[1,2,3,4]", "\"a\"", "[", "{}"}) {
    model->save(a.state, {{"cut", cut}});
    CHECK_THROWS_WITH(printed(a), contains("spoiled: cut is "));
  }
}

TEST_CASE("a state is not replaced unasked, nor is what is none, and this is said at once") {
  const Folder folder;
  Arguments a = folder.arguments();
  a.prompt = "a";
  a.save_state = (folder / "tokenizer.json").string();
  CHECK_THROWS_WITH(Writing(a), contains("is no state file, and is not replaced"));
  a.save_state = (folder / "state").string();
  printed(a);
  CHECK_THROWS_WITH(Writing(a), contains("holds a state already"));
  a.overwrite = true;
  CHECK_NOTHROW(Writing(a));
  a.model = "nowhere";
  a.prompt = "";
  CHECK_THROWS_WITH(Writing(a), "the prompt is empty, expected at least one of the model's bytes");
  a.prompt = "a";
  a.stops = {""};
  CHECK_THROWS_WITH(Writing(a), "--stop is empty, expected at least one byte");
}

TEST_CASE("who is asked to end has written and saved what there was") {
  const Folder folder;
  Arguments a = folder.arguments();
  a.prompt = "The first";
  a.save_state = (folder / "state").string();
  job::interrupted = 1;
  const std::string text = printed(a, job::exit_interrupted);
  job::interrupted = 0;
  CHECK(text.starts_with("The first\n"));
  CHECK(!std::filesystem::exists(a.save_state));  // nothing was read
}

}  // namespace generate_test
