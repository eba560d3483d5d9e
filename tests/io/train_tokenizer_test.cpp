#include "ssm/io/train_tokenizer.hpp"

#include <algorithm>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ssm/io/tokenizer.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"
#include "support/temp_directory.hpp"

namespace train_tokenizer_test {

using namespace ssm;
using test::TempDirectory;

namespace {

using Merges = std::vector<std::string>;  // as they stand in a file

Merges merges_of(const Json& json) {
  Merges merges;
  for (const Json& merge : *json.find("model")->find("merges")->as<Json::Array>())
    merges.push_back(*merge.as<std::string>());
  return merges;
}
Index vocab_of(const Json& json) {
  return static_cast<Index>(json.find("model")->find("vocab")->as<Json::Object>()->size());
}

/// The definition: all pairs of all words are counted anew for each merge. Of ASCII that can be
/// seen and spaces, whose tokens have the order of their names.
Merges by_definition(std::string_view text, Index vocab, Index least) {
  std::vector<std::vector<std::string>> words;
  detail::split_words(text, [&](std::string_view word) {
    for (words.emplace_back(); !word.empty(); word.remove_prefix(1))
      words.back().push_back(word[0] == ' ' ? "\xc4\xa0" : std::string(1, word[0]));
  });
  std::vector<std::string> tokens;  // in their order, after those of bytes
  const auto order = [&](const std::string& token) {
    const auto at = std::find(tokens.begin(), tokens.end(), token);
    return at == tokens.end() ? std::pair(std::ptrdiff_t{-1}, token)
                              : std::pair(at - tokens.begin(), std::string());
  };
  Merges merges;
  while (257 + static_cast<Index>(tokens.size()) < vocab) {
    std::map<std::pair<std::string, std::string>, Index> counts;
    for (const auto& word : words)
      for (std::size_t i = 0; i + 1 < word.size(); ++i) ++counts[{word[i], word[i + 1]}];
    auto best = counts.begin();
    for (auto at = counts.begin(); at != counts.end(); ++at) {
      const auto rank = [&](const auto& each) {
        return std::pair(order(each.first.first), order(each.first.second));
      };
      if (at->second > best->second || (at->second == best->second && rank(*at) < rank(*best)))
        best = at;
    }
    if (best == counts.end() || best->second < least) break;
    const auto [left, right] = best->first;
    merges.push_back(left + " " + right);
    if (order(left + right).first < 0) tokens.push_back(left + right);
    for (auto& word : words)
      for (std::size_t i = 0; i + 1 < word.size(); ++i)
        if (word[i] == left && word[i + 1] == right) {
          word[i] += right;
          word.erase(word.begin() + static_cast<std::ptrdiff_t>(i) + 1);
        }
  }
  return merges;
}

std::string random_text(test::Random& random, std::string_view letters, int length) {
  std::string text;
  for (int i = 0; i < length; ++i)
    text += letters[static_cast<std::size_t>(
        random.integer(0, static_cast<Index>(letters.size()) - 1))];
  return text;
}

}  // namespace

TEST_CASE("merges are those of counting all pairs anew each time, ties included") {
  test::Random random(1);
  for (int i = 0; i < 150; ++i) {
    const std::string_view letters = i % 3 == 0 ? "ab" : i % 3 == 1 ? "aab " : "abcde  1";
    const std::string text = random_text(random, letters, static_cast<int>(random.integer(0, 150)));
    const Index vocab = random.integer(257, 320), least = random.integer(1, 3);
    INFO(text);
    CHECK(merges_of(train_tokenizer(text, {.vocab = vocab, .least = least})) ==
          by_definition(text, vocab, least));
  }
  const std::string text = random_text(random, "aabcdeeeefgh    ", 3000);
  CHECK(merges_of(train_tokenizer(text, {.vocab = 400})) == by_definition(text, 400, 2));
}

TEST_CASE("a text comes back from its tokens, and they are fewer than its bytes") {
  const TempDirectory directory;
  const std::string text = detail::read_file(SSM_SOURCE_DIR "/README.md");
  std::vector<Index> told;
  const Json learnt = train_tokenizer(
      text, {.vocab = 700, .progress = [&](Index tokens) { told.push_back(tokens); }});
  REQUIRE(told.size() == 700 - 257);
  CHECK(told.front() == 258);
  CHECK(told.back() == 700);
  save_tokenizer(directory / "tokenizer.json", learnt);
  const Tokenizer tokenizer(directory / "tokenizer.json");
  CHECK(tokenizer.vocab() == 700);
  CHECK(tokenizer.find("<|endoftext|>") == 0);
  const std::vector<Token> tokens = tokenizer.encode(text);
  CHECK(tokenizer.decode(tokens) == text);
  CHECK(2 * tokens.size() < text.size());
  CHECK(Tokenizer::from_json(learnt).encode(text) == tokens);
  CHECK(train_tokenizer(text, {.vocab = 700}) == learnt);
  Merges first = merges_of(learnt);
  first.resize(400 - 257);
  CHECK(merges_of(train_tokenizer(text, {.vocab = 400})) == first);
}

TEST_CASE("a text that cannot fill a vocabulary has a smaller one") {
  CHECK(vocab_of(train_tokenizer("")) == 257);
  CHECK(vocab_of(train_tokenizer("The quick brown fox")) == 257);
  CHECK(vocab_of(train_tokenizer("abc", {.vocab = 4096, .least = 1})) == 259);
  CHECK(merges_of(train_tokenizer("abab abab")) == Merges{"a b", "ab ab"});
  CHECK(vocab_of(train_tokenizer("aaaa", {.vocab = 257})) == 257);
}

TEST_CASE("merges do not cross words, nor the ends of texts") {
  for (const Json& learnt : {train_tokenizer("a1a1a1a1"), train_tokenizer("a\na\na\na\n"),
                             train_tokenizer("a<|endoftext|>a<|endoftext|>")})
    CHECK(merges_of(learnt).empty());
}

TEST_CASE("any bytes come back from exact tokens, whatever was learnt from") {
  test::Random random(2);
  for (int i = 0; i < 50; ++i) {
    std::string bytes;
    for (int k = 0; k < 200; ++k)
      bytes += i % 2 == 0 ? static_cast<char>(random.integer(0, 255))
                          : "a\xc3\xa9\xe2\x82\xac\xff "[random.integer(0, 7)];
    const Tokenizer tokenizer =
        Tokenizer::from_json(train_tokenizer(bytes, {.vocab = 300, .least = 1}));
    CHECK(tokenizer.decode(tokenizer.encode(bytes, {.exact = true})) == bytes);
    CHECK(tokenizer.decode(tokenizer.encode(bytes)) == detail::to_utf8(bytes));
    const std::string other = random_text(random, bytes, 100);
    CHECK(tokenizer.decode(tokenizer.encode(other, {.exact = true})) == other);
  }
}

TEST_CASE("one long word is learnt as fast as many short ones") {
  test::Random random(3);
  const std::string text = random_text(random, "acgt", 200'000);
  const Json learnt = train_tokenizer(text, {.vocab = 1000});
  CHECK(vocab_of(learnt) == 1000);
  CHECK(Tokenizer::from_json(learnt).encode(text).size() < 60'000);
  CHECK(vocab_of(train_tokenizer(std::string(100'000, 'a'))) == 257 + 16);  // 2, 4, …, 65536
}

TEST_CASE("a vocabulary that none can be is refused") {
  for (const Index vocab : {Index{-1}, Index{256}, Index{2097153}})
    CHECK_THROWS_WITH(
        train_tokenizer("a", {.vocab = vocab}),
        "train_tokenizer: vocab is " + std::to_string(vocab) + ", expected from 257 to 2097152");
  CHECK_THROWS_WITH(train_tokenizer("a", {.least = 0}),
                    "train_tokenizer: least is 0, expected at least 1");
}

}  // namespace train_tokenizer_test
