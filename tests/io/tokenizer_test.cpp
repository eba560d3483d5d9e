#include "ssm/io/tokenizer.hpp"

#include <array>
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "support/catch.hpp"
#include "support/contains.hpp"
#include "support/random.hpp"
#include "support/temp_directory.hpp"

namespace tokenizer_test {

using namespace ssm;
using test::contains;
using test::TempDirectory;

namespace {

const std::filesystem::path golden = SSM_SOURCE_DIR "/tests/golden/tokenizer";

Json read_json(const std::filesystem::path& path) {
  return detail::parse_json(path, detail::read_file(path));
}

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  detail::split_words(text, [&](std::string_view word) { words.emplace_back(word); });
  return words;
}
using Words = std::vector<std::string>;

/// A tokenizer.json of bytes and these fields of the whole and of its model.
std::string of_bytes(const std::string& fields, const std::string& model) {
  Json json = read_json(golden / "tokenizer.json");
  Json vocabulary{Json::Object{}};
  for (const auto& [name, id] : *json["model"]["vocab"].as<Json::Object>())
    if (*id.as<std::uint64_t>() <= 256) vocabulary[name] = id;
  return "{\"model\": {\"type\": \"BPE\", \"vocab\": " + vocabulary.text() + ", " + model +
         "}, \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false}" + fields +
         "}";
}

}  // namespace

TEST_CASE("texts have the tokens that the Python package gives, and come back from them") {
  const Tokenizer tokenizer(golden / "tokenizer.json");
  CHECK(tokenizer.vocab() == 809);
  CHECK(tokenizer.find("<|pad|>") == 800);
  CHECK(!tokenizer.find("<|pa"));
  CHECK(tokenizer.encode("a") == std::vector<Token>{800, tokenizer.find("a").value(), 0});
  CHECK(tokenizer.encode("a", {.ends = false}) ==
        std::vector<Token>{800, tokenizer.find("a").value()});
  CHECK(tokenizer.knows(808));
  CHECK_FALSE(tokenizer.knows(809));
  CHECK_FALSE(tokenizer.knows(-1));
  const Json expected = read_json(golden / "expected.json");
  REQUIRE(expected.as<Json::Array>()->size() > 100);
  for (const Json& row : *expected.as<Json::Array>()) {
    const std::string& text = *row.find("text")->as<std::string>();
    std::vector<Token> tokens;
    for (const Json& token : *row.find("tokens")->as<Json::Array>())
      tokens.push_back(static_cast<Token>(*token.as<std::uint64_t>()));
    INFO(text);
    CHECK(tokenizer.encode(text) == tokens);
    if (const auto* decoded = row.find("decoded")->as<std::string>())
      CHECK(detail::to_utf8(tokenizer.decode(tokens)) == *decoded);
    const std::vector<Token> inner(tokens.begin() + 1, tokens.end() - 1);
    CHECK(tokenizer.encode(text, {.special = false}) == inner);
  }
}

TEST_CASE("special tokens are written when asked for") {
  const Tokenizer tokenizer(golden / "tokenizer.json");
  const auto tokens = tokenizer.encode("a<|endoftext|>b", {.special = false});
  CHECK(tokens == std::vector<Token>{65, 0, 66});
  CHECK(tokenizer.decode(tokens) == "ab");
  CHECK(tokenizer.decode(tokens, {.special = true}) == "a<|endoftext|>b");
  for (const Token wrong : {-1, 809})
    CHECK_THROWS_WITH(tokenizer.decode(std::array{wrong}), "Tokenizer::decode: a token is " +
                                                               std::to_string(wrong) +
                                                               ", expected one of the vocabulary");
}

TEST_CASE("words are those of GPT-2's expression") {
  CHECK(words_of("I'll don't IT'S 's") ==
        Words{"I", "'ll", " don", "'t", " IT", "'", "S", " '", "s"});
  CHECK(words_of("a  b\n\n c \n") == Words{"a", " ", " b", "\n\n", " c", " \n"});
  CHECK(words_of("x=12;  \t3") == Words{"x", "=", "12", ";", "  ", "\t", "3"});
  CHECK(words_of("\xc3\xa9t\xc3\xa9\xc2\xa0\xd9\xa1") ==
        Words{"\xc3\xa9t\xc3\xa9", "\xc2\xa0", "\xd9\xa1"});
  CHECK(words_of("").empty());
}

TEST_CASE(
    "a long word has the tokens of its merges in order of rank, whatever way they are found") {
  std::array<Token, 256> bytes{};
  for (Token i = 0; i < 256; ++i) bytes[static_cast<std::size_t>(i)] = i;
  detail::BytePairs pairs(bytes);
  test::Random random(3);
  std::vector<std::array<Token, 3>> merges;
  for (Token merged = 256; merged < 400; ++merged) {
    const auto any = [&] {
      const auto of = static_cast<Token>(random.integer(0, merged - 253));
      return of < 3 ? 'a' + of : 253 + of;
    };
    merges.push_back({any(), any(), merged});
    pairs.add(merges.back()[0], merges.back()[1], merged);
  }
  for (int length = 0; length < 120; ++length) {
    std::string word;
    for (int i = 0; i < length; ++i) word += static_cast<char>('a' + random.integer(0, 2));
    std::vector<Token> want(word.begin(), word.end()), got;
    for (bool merged = true; merged;) {  // the lowest rank, and of these the first
      merged = false;
      for (const auto& [left, right, both] : merges) {
        for (std::size_t i = 0; i + 1 < want.size() && !merged; ++i)
          if (want[i] == left && want[i + 1] == right) {
            want[i] = both;
            want.erase(want.begin() + static_cast<std::ptrdiff_t>(i) + 1);
            merged = true;
          }
        if (merged) break;
      }
    }
    pairs.encode(word, got);
    CHECK(got == want);
  }
}

TEST_CASE("composition is Unicode's form C: marks in order, Hangul, what is not composed") {
  const auto nfc = [](std::string_view text) { return detail::ToNfc()(text); };
  CHECK(nfc("e\xcc\x81") == "\xc3\xa9");
  CHECK(nfc("a\xcc\x81\xcc\xa7") == "\xc3\xa1\xcc\xa7");                 // 301 327
  CHECK(nfc("\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8") == "\xea\xb0\x81");  // 1100 1161 11a8
  CHECK(nfc("\xe2\x84\xab") == "\xc3\x85");                              // Angstrom
  CHECK(nfc("\xe0\xa5\x98") == "\xe0\xa4\x95\xe0\xa4\xbc");              // 958: excluded
  CHECK(nfc("\xcc\x81"
            "a") ==
        "\xcc\x81"
        "a");
  CHECK(nfc("plain \xc3\xbf") == "plain \xc3\xbf");
}

TEST_CASE("bytes that come piece by piece become whole characters as soon as they can") {
  const std::string text = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z";
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    Utf8Stream stream;
    const std::string first = stream.take(text.substr(0, cut));
    CHECK(detail::utf8_prefix(first) == first.size());
    CHECK(cut - first.size() < 4);
    const std::string second = stream.take(text.substr(cut));
    CHECK(first + second == text);
    CHECK(stream.finish().empty());
  }
  Utf8Stream stream;
  CHECK(stream.take("\xf0\x9f") == "");
  CHECK(stream.take("x\xff\xe2") == "\xef\xbf\xbdx\xef\xbf\xbd");
  CHECK(stream.finish() == "\xef\xbf\xbd");
  CHECK(stream.finish() == "");
}

TEST_CASE("any bytes have tokens, and bytes that are UTF-8 come back") {
  const Tokenizer tokenizer([&] {
    static const TempDirectory directory;
    return directory.write("tokenizer.json", of_bytes("", "\"merges\": []"));
  }());
  test::Random random(4);
  for (int i = 0; i < 2000; ++i) {
    std::string bytes(static_cast<std::size_t>(random.integer(0, 40)), '\0');
    for (char& byte : bytes) byte = static_cast<char>(random.integer(0, 255));
    const std::string valid = detail::to_utf8(bytes);
    CHECK(detail::utf8_prefix(valid) == valid.size());
    CHECK(tokenizer.decode(tokenizer.encode(bytes)) == valid);
  }
  const std::string long_word(300000, 'a');
  CHECK(tokenizer.decode(tokenizer.encode(long_word)) == long_word);
}

TEST_CASE(
    "a file that asks for something else, or is damaged, is refused by the name of the field") {
  const TempDirectory directory;
  const auto refuses = [&](const std::string& json, const std::string& sentence) {
    const auto path = directory.write("tokenizer.json", json);
    CHECK_THROWS_WITH(Tokenizer(path), path.string() + ": " + sentence);
  };
  const std::string none = "\"merges\": []";
  refuses("{}", "tokenizer has no pre_tokenizer");
  refuses(of_bytes(", \"normalizer\": {\"type\": \"Lowercase\"}", none),
          "tokenizer.normalizer.type is \"Lowercase\", expected \"NFC\" or no normalizer");
  refuses(of_bytes(", \"truncation\": {}", none),
          "tokenizer.truncation is an object, expected null");
  refuses(of_bytes("", "\"merges\": [\"a\"]"),
          "tokenizer.model.merges has \"a\", expected two tokens");
  refuses(of_bytes("", "\"merges\": [\"a b\"]"),
          "tokenizer.model.merges needs token \"ab\", which the vocabulary has not");
  refuses(of_bytes("", none + ", \"byte_fallback\": true"),
          "tokenizer.model.byte_fallback is true, expected false");
  refuses(of_bytes(", \"added_tokens\": [{\"id\": -1, \"content\": \"x\"}]", none),
          "tokenizer.added_tokens.id is -1, expected whole numbers from 0 to 2097151");
  refuses(of_bytes(", \"post_processor\": {\"type\": \"BertProcessing\"}", none),
          "tokenizer.post_processor.type is \"BertProcessing\", expected \"ByteLevel\" or "
          "\"TemplateProcessing\"");
  refuses(of_bytes(", \"added_tokens\": [{\"id\": 2097152, \"content\": \"x\"}]", none),
          "tokenizer.added_tokens.id is 2097152, expected whole numbers from 0 to 2097151");
  refuses(of_bytes(", \"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": "
                   "[{\"SpecialToken\": {\"id\": \"x\"}}, {\"Sequence\": {\"id\": \"A\"}}], "
                   "\"special_tokens\": {\"x\": {\"ids\": [999]}}}",
                   none),
          "tokenizer.post_processor.special_tokens.x.ids is [999], expected tokens of the "
          "vocabulary");
  refuses("{\"model\": {\"type\": \"Unigram\"}, \"pre_tokenizer\": {\"type\": \"ByteLevel\"}}",
          "tokenizer.model.type is \"Unigram\", expected \"BPE\"");
  refuses(
      "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": []}, "
      "\"pre_tokenizer\": {\"type\": \"ByteLevel\"}}",
      "tokenizer.model.vocab has no token for byte 0");
  const std::string whole = detail::read_file(golden / "tokenizer.json");
  test::Random random(5);
  for (int i = 0; i < 100; ++i) {
    const auto at = static_cast<std::size_t>(random.integer(0, static_cast<int>(whole.size()) - 1));
    std::string wrong = whole;
    wrong[at] = static_cast<char>(random.integer(0, 255));
    for (const std::string& json : {wrong, whole.substr(0, at)}) {
      const auto path = directory.write("tokenizer.json", json);
      try {
        (void)Tokenizer(path).encode("In the beginning<|x|>");
      } catch (const FileError&) {
      }
    }
  }
}

}  // namespace tokenizer_test
