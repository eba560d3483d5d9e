#include "ssm/train/text_streams.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "support/catch.hpp"

using ssm::Index;
using ssm::TextStreams;

namespace {

/// A text whose byte at i is i mod 251, so that a byte tells its place.
std::vector<unsigned char> counting_text(std::size_t size) {
  std::vector<unsigned char> text(size);
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<unsigned char>(i % 251);
  return text;
}

}  // namespace

TEST_CASE("targets are the tokens one byte later, and a stream goes on where it stopped") {
  const auto text = counting_text(5000);
  TextStreams reader(3);
  TextStreams::Batch batch;
  std::vector<int> next(3, -1);
  for (Index step = 0; step < 40; ++step) {
    reader.read(text, step, {.length = 17, .jump_interval = 0}, batch);
    for (Index b = 0; b < 3; ++b) {
      const auto stream = static_cast<std::size_t>(b);
      if (!batch.fresh[stream]) CHECK(batch.tokens(b, 0) == next[stream]);
      for (Index t = 0; t < 17; ++t) CHECK(batch.targets(b, t) == (batch.tokens(b, t) + 1) % 251);
      next[stream] = batch.targets(b, 16);
    }
  }
}

TEST_CASE("what shares of a step read is together what the step reads") {
  std::vector<unsigned char> text;
  for (int i = 0; i < 40; ++i)
    for (const char c : std::string("Adam and Eve. "))
      text.push_back(static_cast<unsigned char>(c));
  const ssm::StreamOptions options{.length = 29, .seed = 3, .jump_interval = 2, .rename = 0.7};
  TextStreams whole(3), apart(3);
  TextStreams::Batch want, got;
  const std::vector<ssm::Share> parts{{0, 5}, {17, 12}, {5, 0}, {5, 12}};  // in any order
  for (Index step = 0; step < 10; ++step) {
    whole.read(text, step, options, want);
    const ssm::Share own{1, 2};
    apart.read(text, step, options, own, parts, got);
    CHECK(apart.positions == whole.positions);
    CHECK(apart.starts == whole.starts);
    CHECK(got.fresh == want.fresh);
    REQUIRE(got.tokens.extents() == std::array<Index, 2>{2, 29});
    for (Index b = 0; b < own.count; ++b) {
      Index t = 0;
      for (const ssm::Share& part : parts)
        for (Index i = part.begin; i < part.begin + part.count; ++i, ++t) {
          CHECK(got.tokens(b, t) == want.tokens(own.begin + b, i));
          CHECK(got.targets(b, t) == want.targets(own.begin + b, i));
        }
    }
  }
}

TEST_CASE("every stream starts afresh at step 0, at its own place, and without jumps not again") {
  const auto text = counting_text(100000);
  const ssm::StreamOptions options{.length = 10, .seed = 5, .jump_interval = 0};
  TextStreams reader(8);
  TextStreams::Batch batch;
  reader.read(text, 0, options, batch);
  CHECK(batch.fresh == std::vector<bool>(8, true));
  CHECK(std::set<Index>(reader.positions.begin(), reader.positions.end()).size() == 8);
  reader.positions.assign(8, 0);
  for (Index step = 1; step < 100; ++step) {
    reader.read(text, step, options, batch);
    CHECK(batch.fresh == std::vector<bool>(8, false));
  }
}

TEST_CASE("a stream that cannot read on starts afresh at the beginning") {
  const auto text = counting_text(21);
  const ssm::StreamOptions options{.length = 10, .jump_interval = 0};
  TextStreams reader(1);
  TextStreams::Batch batch;
  reader.positions[0] = 10;  // the last ten tokens and their targets just fit
  reader.read(text, 1, options, batch);
  CHECK_FALSE(batch.fresh[0]);
  CHECK(batch.targets(0, 9) == 20);
  reader.read(text, 2, options, batch);
  CHECK(batch.fresh[0]);
  CHECK(batch.tokens(0, 0) == 0);
}

TEST_CASE("jumps come as often as asked for, and depend on the seed and the step alone") {
  const auto text = counting_text(100000);
  const auto jumps = [&](std::uint64_t seed) {
    TextStreams reader(16);
    TextStreams::Batch batch;
    std::vector<bool> all;
    for (Index step = 1; step <= 500; ++step) {
      reader.positions.assign(16, 0);
      reader.read(text, step, {.length = 4, .seed = seed, .jump_interval = 32}, batch);
      all.insert(all.end(), batch.fresh.begin(), batch.fresh.end());
    }
    return all;
  };
  const std::vector<bool> one = jumps(1);
  const auto count = std::count(one.begin(), one.end(), true);
  CHECK(count > 190);  // 8000 draws of 1/32: 250 ± 4 deviations of 15.6
  CHECK(count < 310);
  CHECK(one == jumps(1));
  CHECK(one != jumps(2));
}

TEST_CASE("the shortest text a stream can read has one byte more than its length") {
  TextStreams reader(2);
  TextStreams::Batch batch;
  CHECK_NOTHROW(reader.read(counting_text(6), 0, {.length = 5}, batch));
  CHECK_THROWS_AS(reader.read(counting_text(5), 0, {.length = 5}, batch), ssm::DomainError);
  CHECK_THROWS_AS(reader.read({}, 0, {.length = 0}, batch), ssm::DomainError);
  CHECK_THROWS_WITH(
      reader.read(counting_text(5), 0, {.length = std::numeric_limits<Index>::max()}, batch),
      "TextStreams: text is 5 bytes, expected more than length, which is 9223372036854775807 and "
      "at least 1");
}

TEST_CASE("the latest of three random places favours the end of the text as its law says") {
  // Of three draws the latest lies in the last third with probability 1 − (2/3)³.
  const auto text = counting_text(30001);
  const std::size_t count = 9000;
  TextStreams reader(count);
  TextStreams::Batch batch;
  reader.read(text, 0, {.length = 1, .seed = 3, .jump_interval = 0, .latest_of = 3}, batch);
  const auto late = std::count_if(reader.positions.begin(), reader.positions.end(),
                                  [](Index next) { return next - 1 >= 20000; });
  const double wanted = 1 - 8.0 / 27.0;
  const double deviation = std::sqrt(wanted * (1 - wanted) / static_cast<double>(count));
  CHECK(std::abs(static_cast<double>(late) / static_cast<double>(count) - wanted) <= 4 * deviation);
}

TEST_CASE("streams of tokens read what streams of bytes do, and change no names") {
  const auto bytes = counting_text(3000);
  const std::vector<ssm::Token> tokens(bytes.begin(), bytes.end());
  const ssm::StreamOptions options{.length = 17, .seed = 4, .jump_interval = 3};
  TextStreams of_bytes(3), of_tokens(3);
  TextStreams::Batch want, got;
  for (Index step = 0; step < 30; ++step) {
    of_bytes.read(bytes, step, options, want);
    of_tokens.read(tokens, step, options, got);
    CHECK(of_tokens.positions == of_bytes.positions);
    CHECK(std::equal(got.tokens.begin(), got.tokens.end(), want.tokens.begin()));
    CHECK(std::equal(got.targets.begin(), got.targets.end(), want.targets.begin()));
  }
  const std::vector<ssm::Token> large{70000, 300, 5};
  of_tokens.read(large, 0, {.length = 2}, got);
  CHECK(got.tokens(0, 0) == 70000);
  CHECK(got.targets(0, 1) == 5);
  CHECK_THROWS_WITH(of_tokens.read(large, 0, {.length = 3}, got),
                    "TextStreams: text is 3 tokens, expected more than length, which is 3 and at "
                    "least 1");
  CHECK_THROWS_WITH(of_tokens.read(large, 0, {.length = 2, .rename = 0.25}, got),
                    "TextStreams: rename is 0.250000, expected 0 for a text of tokens, in which no "
                    "letter can be changed");
}
