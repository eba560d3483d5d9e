#include "ssm/models/token_streams.hpp"

#include <limits>
#include <map>
#include <utility>
#include <vector>

#include "ssm/models/mamba_lm.hpp"
#include "ssm/models/text_generator.hpp"
#include "support/catch.hpp"
#include "support/contains.hpp"

namespace token_streams_test {

using namespace ssm;

namespace {

constexpr Index vocab = 256;
MambaLM<float> small_model() {
  MambaLM<float> model(mamba_lm_config(vocab, 2, {.width = 8, .state = 4}));
  initialize(model, 5);
  return model;
}
using Streams = TokenStreams<Residual<Mamba<float>>>;
using Texts = std::map<std::uint64_t, std::vector<Token>>;

struct Call {
  std::vector<Token> prompt;
  SamplingOptions sampling;
  Index most;
};
/// Prompts of many lengths, among them one token, and those around the ends of pieces.
std::vector<Call> calls() {
  std::vector<Call> result;
  for (const Index length : {1, 2, 31, 32, 33, 34, 64, 65, 200, 5, 7, 3}) {
    Call call{
        {}, {.temperature = 0.9, .seed = static_cast<std::uint64_t>(length)}, 10 + length % 7};
    if (length % 2 == 1) call.sampling.repetition_penalty = 1.3;
    if (length == 34) call.sampling.temperature = 0;
    for (Index i = 0; i < length; ++i)
      call.prompt.push_back(static_cast<Token>((i * i + length) % vocab));
    result.push_back(call);
  }
  return result;
}
View<const Token, 1> view(const std::vector<Token>& tokens) {
  return {tokens.data(), {static_cast<Index>(tokens.size())}};
}
std::uint64_t open(Streams& streams, const Call& call) {
  return streams.open(view(call.prompt), call.sampling, call.most);
}
void advance(Streams& streams, Texts& texts) {
  for (const StreamToken& t : streams.advance()) texts[t.stream].push_back(t.token);
}
std::vector<Token> alone(const Call& call, Index piece = 32) {
  Streams streams(small_model(), cpu(1), piece);
  Texts texts;
  const auto stream = open(streams, call);
  while (streams.count() > 0) advance(streams, texts);
  return texts[stream];
}

}  // namespace

TEST_CASE("a stream writes the tokens that it writes alone, whoever comes and goes beside it") {
  const std::vector<Call> all = calls();
  for (const int threads : {1, 3}) {
    Streams streams(small_model(), cpu(threads), 32);
    std::vector<std::uint64_t> names;
    Texts texts;
    for (const Call& call : all) {  // they come one after the other
      names.push_back(open(streams, call));
      const auto passing = streams.open(view(all[2].prompt), {.seed = names.size()}, 1000);
      for (int i = 0; i < 2; ++i) advance(streams, texts);
      streams.close(passing);
    }
    while (streams.count() > 0) advance(streams, texts);
    for (std::size_t i = 0; i < all.size(); ++i) {
      INFO("stream " << i << ", threads " << threads);
      CHECK(static_cast<Index>(texts[names[i]].size()) == all[i].most);
      CHECK(texts[names[i]] == alone(all[i]));
    }
  }
}

TEST_CASE("a stream writes what a TextGenerator writes that reads its prompt in the same pieces") {
  for (const Call& call : calls()) {
    TextGenerator writer(small_model(), call.sampling);
    writer.read(view(call.prompt));
    std::vector<Token> expected;
    for (Index i = 0; i < call.most; ++i) expected.push_back(writer.next());
    CHECK(alone(call, 1024) == expected);
  }
}

TEST_CASE("a stream that is taken out goes on where it was, in its prompt and within its text") {
  const Call call = calls()[8];
  const std::vector<Token> expected = alone(call);
  for (int when = 0; when < 12; ++when) {
    Streams first(small_model(), cpu(1), 32), second(small_model(), cpu(1), 32);
    Texts texts;
    const auto name = open(first, call);
    open(first, calls()[1]);
    for (int i = 0; i < when; ++i) advance(first, texts);
    const TokenStream<Residual<Mamba<float>>> kept = first.take(name);
    CHECK(kept.left == call.most - static_cast<Index>(texts[name].size()));
    open(second, calls()[3]);
    for (int copy = 0; copy < 2; ++copy) {
      Texts more;
      const auto again = second.open(kept);
      while (second.count() > 0) advance(second, more);
      std::vector<Token> whole = texts[name];
      whole.insert(whole.end(), more[again].begin(), more[again].end());
      CHECK(whole == expected);
    }
  }
}

TEST_CASE("a long prompt keeps nobody waiting: not those who write, not another's short prompt") {
  Streams streams(small_model(), cpu(1), 32);
  const std::vector<Token> book(3200, 7), word(4, 9);
  const auto writer = streams.open(view(word), {}, 1000);
  CHECK(streams.advance().size() == 1);
  const auto reader = streams.open(view(book), {}, 3);
  Texts texts;
  for (int i = 0; i < 10; ++i) advance(streams, texts);
  CHECK(texts[writer].size() == 10);
  const auto late = streams.open(view(word), {}, 1000);
  for (int i = 0; i < 4; ++i) advance(streams, texts);
  CHECK(texts[late].size() >= 2);
  CHECK(streams.reading() == 1);
  for (int i = 0; i < 100; ++i) advance(streams, texts);
  CHECK(texts[reader].size() == 3);
  CHECK(streams.count() == 2);
}

TEST_CASE("the memory of a stream is that of its state, its logits and its sampler") {
  Streams streams(small_model());
  const std::size_t state = 2 * 16 * (4 + 3) * sizeof(float);  // layers, channels, state and taps
  CHECK(streams.bytes_each() == state + vocab * (sizeof(float) + 16));
}

TEST_CASE("streams refuse what no stream could run on, and tell of one that cannot go on") {
  Streams streams(small_model());
  const std::vector<Token> none, good{1, 2}, bad{1, 256};
  CHECK_THROWS_WITH(streams.open(view(none), {}, 1), test::contains("prompt is"));
  CHECK_THROWS_AS(streams.open(view(bad), {}, 1), DomainError);
  CHECK_THROWS_WITH(streams.open(view(good), {}, 0), test::contains("most is 0"));
  CHECK_THROWS_AS(streams.open(view(good), {.temperature = -1}, 1), DomainError);
  CHECK_THROWS_WITH(streams.close(77), test::contains("stream is 77, expected one that is open"));
  CHECK_THROWS_AS(streams.take(77), DomainError);
  CHECK_THROWS_AS(Streams(small_model(), cpu, 0), DomainError);
  CHECK(streams.count() == 0);
  CHECK(streams.advance().empty());

  const auto name = streams.open(view(good), {}, 100), other = streams.open(view(good), {}, 100);
  CHECK(streams.advance().size() == 2);
  auto taken = streams.take(name);
  auto other_sampler = taken;
  other_sampler.sampler = Sampler(vocab + 1);
  CHECK_THROWS_AS(streams.open(other_sampler), ShapeError);
  auto other_state = taken;
  other_state.state.layers[0].scan.resize({1, 16, 5});
  CHECK_THROWS_AS(streams.open(other_state), ShapeError);

  // NaN stays in its own stream.
  taken.state.layers[0].scan.fill(std::numeric_limits<float>::quiet_NaN());
  const auto spoiled = streams.open(taken);
  std::map<std::uint64_t, StreamEnd> ends;
  for (const StreamToken& t : streams.advance()) ends[t.stream] = t.end;
  CHECK(ends.at(spoiled) == StreamEnd::failed);
  CHECK(ends.at(other) == StreamEnd::none);
  CHECK(streams.count() == 1);
}

}  // namespace token_streams_test
