#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"
#include "ssm/io/byte_pairs.hpp"
#include "ssm/io/commit.hpp"
#include "ssm/io/json.hpp"
#include "ssm/io/split_words.hpp"
#include "ssm/io/unicode.hpp"
#include "ssm/layers/tokens.hpp"

/// @file
/// A tokenizer of one's own text:
///
///     const ssm::Json learnt = ssm::train_tokenizer(text, {.vocab = 4096});
///     ssm::save_tokenizer("model/tokenizer.json", learnt);
///     const ssm::Tokenizer tokenizer = ssm::Tokenizer::from_json(learnt);

namespace ssm {

/// How a tokenizer is learnt.
struct TokenizerTraining {
  Index vocab = 4096;  ///< tokens at most: 256 bytes, the end of a text, and one for each merge
  Index least = 2;     ///< how often a pair must occur to be merged
  std::function<void(Index)> progress = {};  ///< told after each merge how many tokens there are
};

namespace detail {

/// The end of a text in a vocabulary that is learnt; its token is 0.
inline constexpr std::string_view end_of_text = "<|endoftext|>";

/// How often each pair of neighbours occurs in words, while pairs are merged.
///
/// The words lie one after the other as lists of symbols. For each pair stands where it may be; a
/// place is looked at when its pair is merged, and left alone where something else is there by
/// then. So a merge costs what it changes.
class PairCounts {
 public:
  /// Two tokens.
  struct Pair {
    Token left, right;
  };

  /// A word of these tokens that occurs so often.
  void add(const std::vector<Token>& word, Index times) {
    const auto begin = static_cast<Index>(symbols_.size());
    const auto end = begin + static_cast<Index>(word.size());
    for (Index at = begin; at < end; ++at)
      symbols_.push_back({word[static_cast<std::size_t>(at - begin)], at > begin ? at - 1 : none,
                          at + 1 < end ? at + 1 : none, times});
    for (Index at = begin; at + 1 < end; ++at) count(at);
  }

  /// The pair that occurs most often, of several the one with the smallest left and then the
  /// smallest right token; nothing where none occurs `least` times.
  [[nodiscard]] std::optional<Pair> most_frequent(Index least) {
    queue_changed();
    while (!queue_.empty()) {
      std::pop_heap(queue_.begin(), queue_.end());
      Counted top = queue_.back();
      queue_.pop_back();
      const auto found = places_.find(top.key);
      const Index now = found != places_.end() ? found->second.count : 0;
      if (now == top.count && now >= least)
        return Pair{static_cast<Token>(top.key >> 32), static_cast<Token>(top.key & 0xffffffffU)};
      // It has become rarer since it was put here.
      if (now >= least) push({now, top.key});
    }
    return std::nullopt;
  }

  /// Merges a pair wherever it is, from the beginning of each word on.
  void merge(const Pair& pair, Token merged) {
    const auto found = places_.find(key_of(pair.left, pair.right));
    if (found == places_.end()) return;
    std::vector<Index> places = std::move(found->second.at);
    places_.erase(found);
    std::sort(places.begin(), places.end());
    for (const Index at : places) {
      Symbol& left = symbol(at);
      if (left.token != pair.left || left.after == none) continue;
      Symbol& right = symbol(left.after);
      if (right.token != pair.right) continue;
      if (left.before != none) uncount(left.before);
      if (right.after != none) uncount(left.after);
      left.token = merged;
      left.after = right.after;
      right.token = gone;
      if (left.after != none) {
        symbol(left.after).before = at;
        count(at);
      }
      if (left.before != none) count(left.before);
    }
  }

 private:
  static constexpr Index none = -1;
  static constexpr Token gone = -1;

  struct Symbol {
    Token token;
    Index before, after;  ///< of the same word
    Index times;          ///< that the word occurs
  };
  struct Places {
    Index count = 0;
    std::vector<Index> at;  ///< of the left symbol
  };
  struct Counted {
    Index count;
    std::uint64_t key;
    bool operator<(const Counted& other) const noexcept {
      return count != other.count ? count < other.count : key > other.key;
    }
  };

  static std::uint64_t key_of(Token left, Token right) noexcept {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 |
           static_cast<std::uint32_t>(right);
  }
  Symbol& symbol(Index at) noexcept { return symbols_[static_cast<std::size_t>(at)]; }
  [[nodiscard]] std::uint64_t key_at(Index at) noexcept {
    return key_of(symbol(at).token, symbol(symbol(at).after).token);
  }
  void count(Index at) {
    const std::uint64_t key = key_at(at);
    Places& places = places_[key];
    places.count += symbol(at).times;
    places.at.push_back(at);
    changed_.push_back(key);
  }
  void uncount(Index at) {
    // The pair that is being merged is not there any more.
    if (const auto found = places_.find(key_at(at)); found != places_.end())
      found->second.count -= symbol(at).times;
  }
  void push(const Counted& counted) {
    queue_.push_back(counted);
    std::push_heap(queue_.begin(), queue_.end());
  }
  void queue_changed() {
    std::sort(changed_.begin(), changed_.end());
    changed_.erase(std::unique(changed_.begin(), changed_.end()), changed_.end());
    for (const std::uint64_t key : changed_) push({places_[key].count, key});
    changed_.clear();
  }

  std::vector<Symbol> symbols_;
  std::unordered_map<std::uint64_t, Places> places_;
  std::vector<Counted> queue_;  ///< a heap; a count in it is the pair's or was, and then larger
  std::vector<std::uint64_t> changed_;  ///< pairs that have become more frequent
};

/// The words of a text as an exact Tokenizer splits it, each with how often it occurs. The end of a
/// text and bytes that are no UTF-8 are in no word.
[[nodiscard]] inline std::unordered_map<std::string_view, Index> count_words(
    std::string_view text) {
  std::unordered_map<std::string_view, Index> times;
  const auto count = [&](std::string_view word) { ++times[word]; };
  split_utf8(
      text,
      [&](std::string_view part) {
        for (std::size_t end = 0; end != part.npos;) {
          end = part.find(end_of_text);
          split_words(part.substr(0, end), count);
          if (end != part.npos) part.remove_prefix(end + end_of_text.size());
        }
      },
      [](std::string_view) {});
  return times;
}

/// A vocabulary that grows from bytes.
struct LearntPairs {
  std::vector<std::string> names{std::string(end_of_text)};  ///< of each token, as files have them
  std::array<Token, 256> bytes{};                            ///< the token of each byte
  std::vector<PairCounts::Pair> merges;

  /// Of bytes alone, in the order of the characters that stand for them.
  LearntPairs() {
    const auto of = byte_names();
    std::array<std::size_t, 256> order{};
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(), [&](auto a, auto b) { return of[a] < of[b]; });
    for (const std::size_t byte : order) bytes[byte] = know(of[byte]);
  }
  /// The token of two, a new one unless what it stands for has one.
  Token merge(const PairCounts::Pair& pair) {
    merges.push_back(pair);
    return know(name(pair.left) + name(pair.right));
  }
  [[nodiscard]] const std::string& name(Token token) const {
    return names[static_cast<std::size_t>(token)];
  }
  [[nodiscard]] Index size() const noexcept { return static_cast<Index>(names.size()); }

 private:
  Token know(const std::string& name) {
    const auto [at, is_new] = tokens_.emplace(name, static_cast<Token>(names.size()));
    if (is_new) names.push_back(name);
    return at->second;
  }
  std::unordered_map<std::string, Token> tokens_;
};

[[nodiscard]] inline Json tokenizer_json(const LearntPairs& learnt) {
  Json::Object vocabulary;
  Json::Array merges;
  for (std::size_t i = 0; i < learnt.names.size(); ++i)
    vocabulary.emplace_back(learnt.names[i], static_cast<std::uint64_t>(i));
  for (const auto& [left, right] : learnt.merges)
    merges.emplace_back(learnt.name(left) + " " + learnt.name(right));
  const auto byte_level = [](bool prefix) {
    return Json::Object{{"type", "ByteLevel"},
                        {"add_prefix_space", prefix},
                        {"trim_offsets", true},
                        {"use_regex", true}};
  };
  return Json::Object{{"version", "1.0"},
                      {"truncation", Json()},
                      {"padding", Json()},
                      {"added_tokens", Json::Array{Json::Object{{"id", 0},
                                                                {"content", learnt.names[0]},
                                                                {"single_word", false},
                                                                {"lstrip", false},
                                                                {"rstrip", false},
                                                                {"normalized", false},
                                                                {"special", true}}}},
                      {"normalizer", Json()},
                      {"pre_tokenizer", byte_level(false)},
                      {"post_processor", Json()},
                      {"decoder", byte_level(true)},
                      {"model", Json::Object{{"type", "BPE"},
                                             {"dropout", Json()},
                                             {"unk_token", Json()},
                                             {"continuing_subword_prefix", Json()},
                                             {"end_of_word_suffix", Json()},
                                             {"fuse_unk", false},
                                             {"byte_fallback", false},
                                             {"ignore_merges", false},
                                             {"vocab", std::move(vocabulary)},
                                             {"merges", std::move(merges)}}}};
}

}  // namespace detail

/// Learns a byte-level byte-pair tokenizer from a text (Sennrich, Haddow and Birch 2016, algorithm
/// 1, on the bytes of words, as GPT-2 does): the text is split into words (detail::split_words),
/// each byte is a token, and the pair of neighbours within words that occurs most often becomes a
/// token of its own, again and again, until there are `vocab` tokens or no pair occurs `least`
/// times. Tokenizer(…).vocab() tells how many there are: a short text cannot fill a large
/// vocabulary.
///
/// Of pairs that occur equally often the one with the smallest left token, then the smallest right
/// token comes first. Tokens are numbered as `tokenizers` does: 0 is `<|endoftext|>`, then the
/// bytes in the order of the characters that stand for them in files, then each merge. Its
/// BpeTrainer breaks ties by the same rule, so that with min_frequency=least, the ByteLevel
/// alphabet, special_tokens=["<|endoftext|>"] and the text in one piece it learns the same merges;
/// files it reads line by line, and counts no words that go on over line ends.
///
/// Where `<|endoftext|>` stands in the text, one text ends and another begins, and nothing is
/// learnt of its letters, as `tokenizers` would. Bytes that are no UTF-8 end a word and are in none
/// (see EncodeOptions::exact). The same text gives the same tokenizer on any machine.
///
/// Cost: O(n) for the text, then for each merge what it changes in the different words, times the
/// logarithm of their number.
///
/// @param text to learn from: what the model will be trained on, and not what it is judged by
/// @return the content of a tokenizer.json, which ssm and `tokenizers` read
/// @throws DomainError for a vocab outside of [257, 2097152] and a least below 1
[[nodiscard]] inline Json train_tokenizer(std::string_view text,
                                          const TokenizerTraining& options = {}) {
  constexpr Index most = Index{1} << 21;  // that Tokenizer reads
  const auto require = [](const char* name, Index value, bool valid, const char* want) {
    if (!valid) detail::throw_domain("train_tokenizer", name, std::to_string(value), want);
  };
  require("vocab", options.vocab, options.vocab >= 257 && options.vocab <= most,
          "from 257 to 2097152");
  require("least", options.least, options.least >= 1, "at least 1");
  detail::LearntPairs learnt;
  detail::PairCounts counts;
  std::vector<Token> tokens;
  for (const auto& [word, times] : detail::count_words(text)) {
    tokens.clear();
    for (const char byte : word) tokens.push_back(learnt.bytes[static_cast<unsigned char>(byte)]);
    counts.add(tokens, times);
  }
  while (learnt.size() < options.vocab) {
    const auto pair = counts.most_frequent(options.least);
    if (!pair) break;
    counts.merge(*pair, learnt.merge(*pair));
    if (options.progress) options.progress(learnt.size());
  }
  return detail::tokenizer_json(learnt);
}

/// Writes the content of a tokenizer.json, in one step where one was before. @throws FileError
inline void save_tokenizer(const std::filesystem::path& path, const Json& json) {
  detail::write_atomically(path,
                           [&](detail::OutputFile& file) { file.write(json.text(2) + "\n"); });
}

}  // namespace ssm
