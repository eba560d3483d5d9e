#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ssm/io/unicode.hpp"
#include "ssm/layers/tokens.hpp"

namespace ssm::detail {

/// The character that stands for each byte in a vocabulary: itself where it can be seen, else one
/// from U+0100 on.
[[nodiscard]] inline std::array<std::string, 256> byte_names() {
  std::array<std::string, 256> names;
  char32_t next = 0x100;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool seen = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
    add_utf8(names[byte], seen ? byte : next++);
  }
  return names;
}

/// Byte-pair encoding (Sennrich, Haddow and Birch 2016) of one word: its bytes are tokens at first;
/// of the neighbours that may be merged those of the lowest rank are, the first of them before the
/// others, until none is left.
class BytePairs {
 public:
  /// @param bytes the token of each byte
  explicit BytePairs(const std::array<Token, 256>& bytes) : bytes_(bytes) {}

  /// Lets `left` and `right` be merged into `merged`; pairs that were added before go first. A pair
  /// that is there already keeps its rank.
  void add(Token left, Token right, Token merged) {
    if (2 * (count_ + 1) > slots_.size()) grow();
    Slot& slot = slot_of(key_of(left, right));
    if (slot.rank == none) slot = {key_of(left, right), count_, merged};
    ++count_;
  }

  /// Appends the tokens of a word.
  void encode(std::string_view word, std::vector<Token>& to) const {
    if (word.size() <= short_word) return encode_short(word, to);
    encode_long(word, to);
  }

 private:
  static constexpr std::uint32_t none = (std::numeric_limits<std::uint32_t>::max)();
  static constexpr std::size_t short_word = 32;

  struct Slot {
    std::uint64_t key = 0;
    std::uint32_t rank = none;
    Token merged = 0;
  };

  static std::uint64_t key_of(Token left, Token right) noexcept {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 |
           static_cast<std::uint32_t>(right);
  }
  template <class Slots>
  static auto& find(Slots& slots, std::uint64_t key) noexcept {
    std::uint64_t mixed = key * 0x9e3779b97f4a7c15U;
    for (std::size_t i = mixed >> 32;; ++i) {
      auto& slot = slots[i & (slots.size() - 1)];
      if (slot.rank == none || slot.key == key) return slot;
    }
  }
  Slot& slot_of(std::uint64_t key) noexcept { return find(slots_, key); }
  [[nodiscard]] const Slot& slot_of(Token left, Token right) const noexcept {
    return find(slots_, key_of(left, right));
  }
  void grow() {
    std::vector<Slot> larger(2 * slots_.size());
    for (const Slot& slot : slots_)
      if (slot.rank != none) find(larger, slot.key) = slot;
    slots_ = std::move(larger);
  }
  [[nodiscard]] Token of(char byte) const noexcept {
    return bytes_[static_cast<unsigned char>(byte)];
  }

  void encode_short(std::string_view word, std::vector<Token>& to) const {
    std::array<Token, short_word> tokens;
    std::array<Slot, short_word> pairs;  // pairs[i] is of tokens i and i + 1
    std::size_t count = word.size();
    for (std::size_t i = 0; i < count; ++i) tokens[i] = of(word[i]);
    for (std::size_t i = 0; i + 1 < count; ++i) pairs[i] = slot_of(tokens[i], tokens[i + 1]);
    while (count > 1) {
      std::size_t best = 0;
      for (std::size_t i = 1; i + 1 < count; ++i)
        if (pairs[i].rank < pairs[best].rank) best = i;
      if (pairs[best].rank == none) break;
      tokens[best] = pairs[best].merged;
      --count;
      for (std::size_t i = best + 1; i < count; ++i) tokens[i] = tokens[i + 1];
      for (std::size_t i = best; i + 1 < count; ++i) pairs[i] = pairs[i + 1];
      if (best > 0) pairs[best - 1] = slot_of(tokens[best - 1], tokens[best]);
      if (best + 1 < count) pairs[best] = slot_of(tokens[best], tokens[best + 1]);
    }
    to.insert(to.end(), tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(count));
  }

  /// In O(n log n): a list of tokens, and a queue of the pairs that could be merged.
  void encode_long(std::string_view word, std::vector<Token>& to) const {
    struct Node {
      Token token;
      std::size_t before, after;
      bool gone;
    };
    struct Pair {
      std::uint32_t rank;
      std::size_t at;
      Token left, right;
      bool operator<(const Pair& other) const noexcept {
        return std::pair(rank, at) > std::pair(other.rank, other.at);
      }
    };
    const std::size_t count = word.size();
    std::vector<Node> nodes(count);
    std::vector<Pair> queue;  // a heap
    const auto consider = [&](std::size_t at) {
      const std::size_t next = nodes[at].after;
      if (next >= count) return;
      const Slot& slot = slot_of(nodes[at].token, nodes[next].token);
      if (slot.rank == none) return;
      queue.push_back({slot.rank, at, nodes[at].token, nodes[next].token});
      std::push_heap(queue.begin(), queue.end());
    };
    for (std::size_t i = 0; i < count; ++i) nodes[i] = {of(word[i]), i - 1, i + 1, false};
    for (std::size_t i = 0; i < count; ++i) consider(i);
    while (!queue.empty()) {
      std::pop_heap(queue.begin(), queue.end());
      const Pair pair = queue.back();
      queue.pop_back();
      Node& left = nodes[pair.at];
      if (left.gone || left.token != pair.left || left.after >= count) continue;
      Node& right = nodes[left.after];
      if (right.token != pair.right) continue;
      left.token = slot_of(pair.left, pair.right).merged;
      right.gone = true;
      left.after = right.after;
      if (left.after < count) nodes[left.after].before = pair.at;
      if (left.before < count) consider(left.before);
      consider(pair.at);
    }
    for (std::size_t i = 0; i < count; i = nodes[i].after) to.push_back(nodes[i].token);
  }

  std::array<Token, 256> bytes_;
  std::vector<Slot> slots_ = std::vector<Slot>(16);
  std::uint32_t count_ = 0;
};

}  // namespace ssm::detail
