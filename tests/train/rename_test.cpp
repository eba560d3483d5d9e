#include "ssm/train/rename.hpp"

#include <array>
#include <cctype>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "ssm/train/text_streams.hpp"
#include "support/catch.hpp"

using ssm::Index;

namespace {

const std::string verses =
    "Ge1:1 In the beginning\nGe1:2 And the Spirit moved; the waters\n1Sa2:3 And Samuel said\n"
    "1Sa2:4 And Samuel, LORD's \xc3\x89t\xc3\xa9 x-Ray";

std::span<const unsigned char> bytes(const std::string& text) {
  return {reinterpret_cast<const unsigned char*>(text.data()), text.size()};
}

std::string renamed(const std::string& text, std::uint64_t key, double probability,
                    std::size_t first = 0, std::size_t count = std::string::npos) {
  std::string out(std::min(count, text.size() - first), '?');
  ssm::copy_renamed(bytes(text), first, key, probability,
                    {reinterpret_cast<unsigned char*>(out.data()), out.size()});
  return out;
}

bool is_letter(char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0; }
bool is_upper(char c) { return std::isupper(static_cast<unsigned char>(c)) != 0; }

}  // namespace

TEST_CASE("without renaming a text is copied as it is") { CHECK(renamed(verses, 1, 0) == verses); }

TEST_CASE("renaming changes names alone, keeps their lengths and capitals, and is consistent") {
  std::set<std::string> seen;
  for (std::uint64_t key = 0; key < 50; ++key) {
    const std::string other = renamed(verses, key, 1);
    REQUIRE(other.size() == verses.size());
    std::map<std::string, std::string> names;
    for (std::size_t i = 0; i < verses.size();) {
      std::size_t end = i;
      while (end < verses.size() && is_letter(verses[end])) ++end;
      if (end == i || !is_upper(verses[i])) {
        end = std::max(end, i + 1);
        CHECK(other.substr(i, end - i) == verses.substr(i, end - i));
      } else {
        const std::string name = verses.substr(i, end - i), given = other.substr(i, end - i);
        for (std::size_t k = 0; k < name.size(); ++k) {
          CHECK(is_letter(given[k]));
          CHECK(is_upper(given[k]) == is_upper(name[k]));
        }
        CHECK(names.emplace(name, given).first->second == given);
      }
      i = end;
    }
    seen.insert(names["Samuel"]);
  }
  CHECK(seen.size() > 25);
}

TEST_CASE("a piece of a renamed text is that piece of the whole, wherever words are cut") {
  const std::string whole = renamed(verses, 7, 0.6);
  CHECK(whole != verses);
  for (std::size_t first = 0; first <= verses.size(); ++first)
    for (const std::size_t count : std::array<std::size_t, 5>{0, 1, 2, 9, 1000})
      CHECK(renamed(verses, 7, 0.6, first, count) == whole.substr(first, count));
}

TEST_CASE("names change as often as asked for") {
  std::string text;
  for (char a = 'a'; a <= 'z'; ++a)
    for (char b = 'a'; b <= 'z'; ++b) text += std::string("Mor") + a + b + ' ';
  int changed = 0;
  for (std::uint64_t key = 0; key < 10; ++key) {
    const std::string other = renamed(text, key, 0.25);
    for (std::size_t i = 0; i < text.size(); i += 6)
      changed += other.substr(i, 5) != text.substr(i, 5);
  }
  CHECK(changed > 1540);  // 6760 draws of 1/4: 1690 ± 4 deviations of 36
  CHECK(changed < 1840);
}

TEST_CASE("a stream keeps its names until it starts afresh") {
  std::string text = "Name ";
  for (int i = 0; i < 9999; ++i) text += static_cast<char>('a' + i * i % 89 % 26);
  ssm::TextStreams reader(4);
  ssm::TextStreams::Batch batch;
  const auto first_name = [&](Index step, std::uint64_t jump_interval, Index b) {
    reader.positions.assign(4, 0);
    reader.read(bytes(text), step, {.length = 5, .jump_interval = jump_interval, .rename = 1},
                batch);
    return std::string(&batch.tokens(b, 0), &batch.tokens(b, 0) + 5);
  };
  int kept = 0, starts = 0;
  for (Index b = 0; b < 4; ++b) {
    first_name(0, 0, b);
    for (Index step = 1; step < 60; ++step) {
      const std::string before = first_name(step, 0, b), after = first_name(step, 6, b);
      if (batch.fresh[static_cast<std::size_t>(b)])
        starts += before != first_name(step, 0, b);
      else
        kept += before == after;
    }
  }
  CHECK(starts > 10);
  CHECK(kept > 150);
  CHECK(kept + starts > 4 * 59 - 5);  // two names may agree by chance
}
