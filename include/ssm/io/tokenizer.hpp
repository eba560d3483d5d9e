#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ssm/core/error.hpp"
#include "ssm/io/byte_pairs.hpp"
#include "ssm/io/file.hpp"
#include "ssm/io/json.hpp"
#include "ssm/io/json_object.hpp"
#include "ssm/io/split_words.hpp"
#include "ssm/io/unicode.hpp"
#include "ssm/layers/tokens.hpp"

/// @file
/// Text to tokens and back, as the tokenizer.json beside a published model says:
///
///     const ssm::Tokenizer tokenizer("model/tokenizer.json");
///     const std::vector<ssm::Token> tokens = tokenizer.encode("In the beginning");
///     const std::string text = tokenizer.decode(tokens);

namespace ssm {

/// How text becomes tokens.
struct EncodeOptions {
  bool special = true;  ///< whether tokens that the file puts around every text are put there
  bool ends = true;     ///< whether those after it are among them; not where text will follow
  bool exact = false;   ///< whether bytes that are no UTF-8 are their own tokens, so that a text
                        ///< comes back from its tokens whatever it is; otherwise they are U+FFFD
};
/// How tokens become text.
struct DecodeOptions {
  bool special = false;  ///< whether special tokens, such as the end of a text, are written too
};

/// A byte-level byte-pair tokenizer, as GPT-2, GPT-NeoX and the published Mamba have it: text is
/// split into words (detail::split_words), each byte of a word is a token, and neighbours are
/// merged by rank. It gives what the Python package `tokenizers` gives. Const calls may run on
/// several threads at once.
class Tokenizer {
 public:
  /// Reads a tokenizer.json: models of type BPE, the pre-tokenizer ByteLevel, normalizers NFC and
  /// none, added tokens, and tokens put around every text.
  /// @throws FileError that names the file and the field, for one that is not as said or asks for
  ///   anything else
  explicit Tokenizer(const std::filesystem::path& path) : Tokenizer(path, read(path)) {}
  /// The tokenizer that the content of a tokenizer.json is, such as train_tokenizer learns.
  /// @param name what errors call it
  /// @throws FileError as above
  [[nodiscard]] static Tokenizer from_json(const Json& json,
                                           const std::filesystem::path& name = "tokenizer.json") {
    return Tokenizer(name, json);
  }

  /// One more than the largest token.
  [[nodiscard]] Token vocab() const noexcept { return static_cast<Token>(texts_.size()); }
  /// The token with this text, special ones and those of the vocabulary as they stand in the file.
  [[nodiscard]] std::optional<Token> find(std::string_view text) const {
    const auto found = tokens_.find(text);
    return found != tokens_.end() ? std::optional<Token>(found->second) : std::nullopt;
  }

  /// Whether a token is of this tokenizer: its numbers may have gaps.
  [[nodiscard]] bool knows(Token token) const noexcept {
    return token >= 0 && token < vocab() && texts_[static_cast<std::size_t>(token)].known;
  }

  /// The tokens of a text. What is no UTF-8 is read as U+FFFD, unless `exact` says otherwise.
  /// Special tokens within the text are found, as `tokenizers` does: take them out of text that
  /// strangers wrote.
  ///
  /// Cost: O(n log n) in bytes at most, O(n) of ordinary text.
  [[nodiscard]] std::vector<Token> encode(std::string_view text,
                                          const EncodeOptions& options = {}) const {
    std::string valid;
    if (!options.exact && detail::utf8_prefix(text) < text.size()) {
      valid = detail::to_utf8(text);
      text = valid;
    }
    std::vector<Token> tokens;
    if (options.special) tokens = before_;
    Words words;
    detail::split_utf8(
        text,
        [&](std::string_view part) {
          raw_.split(
              part, [&](Token token) { tokens.push_back(token); },
              [&](std::string_view piece) { encode_piece(piece, words, tokens); });
        },
        [&](std::string_view byte) { pairs_.encode(byte, tokens); });
    if (options.special && options.ends) tokens.insert(tokens.end(), after_.begin(), after_.end());
    return tokens;
  }

  /// The bytes that tokens stand for, one after the other. They need not end with a whole
  /// character: Utf8Stream makes text of them that can be shown at once.
  /// @throws DomainError for a token that is not of this tokenizer
  [[nodiscard]] std::string decode(std::span<const Token> tokens,
                                   const DecodeOptions& options = {}) const {
    std::string bytes;
    for (const Token token : tokens) {
      const auto at = static_cast<std::size_t>(token);
      if (!knows(token))
        detail::throw_domain("Tokenizer::decode", "a token", std::to_string(token),
                             "one of the vocabulary");
      if (options.special || !texts_[at].special) bytes += texts_[at].bytes;
    }
    return bytes;
  }

 private:
  /// What a token stands for.
  struct Text {
    std::string bytes;
    bool known = false, special = false;
  };
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const noexcept {
      return std::hash<std::string_view>()(text);
    }
  };
  template <class Value>
  using Map = std::unordered_map<std::string, Value, Hash, std::equal_to<>>;
  /// The tokens of the words of one text that came before.
  using Words = Map<std::vector<Token>>;

  /// Tokens that are found in a text before it is split: of those that begin at a place the
  /// longest.
  class Added {
   public:
    /// One of them.
    struct Item {
      std::string text;  ///< as it stands in texts
      Token token;       ///< its number
      ///@{
      /// Whether it takes the spaces on that side.
      bool left = false, right = false;
      ///@}
    };
    void add(Item item) {
      if (item.text.empty()) return;
      begins_[static_cast<unsigned char>(item.text[0])].push_back(std::move(item));
    }
    void sort() {
      for (auto& items : begins_)
        std::stable_sort(items.begin(), items.end(), [](const Item& a, const Item& b) {
          return a.text.size() > b.text.size();
        });
    }
    /// found(token) and rest(text between), in order.
    template <class Found, class Rest>
    void split(std::string_view text, const Found& found, const Rest& rest) const {
      std::size_t begin = 0;
      for (std::size_t at = 0; at < text.size();) {
        const Item* item = nullptr;
        for (const Item& each : begins_[static_cast<unsigned char>(text[at])])
          if (text.substr(at).starts_with(each.text)) {
            item = &each;
            break;
          }
        if (item == nullptr) {
          ++at;
          continue;
        }
        std::size_t from = at, to = at + item->text.size();
        if (item->left) from = begin + without_spaces(text.substr(begin, at - begin));
        if (item->right) to += leading_spaces(text.substr(to));
        if (from > begin) rest(text.substr(begin, from - begin));
        found(item->token);
        begin = at = to;
      }
      if (begin < text.size()) rest(text.substr(begin));
    }

   private:
    static std::size_t leading_spaces(std::string_view text) noexcept {
      std::size_t at = 0;
      while (at < text.size()) {
        const detail::Utf8Char c = detail::utf8_char(text.substr(at));
        if (detail::char_kind(c.code) != detail::CharKind::space) break;
        at += c.bytes;
      }
      return at;
    }
    /// Where the spaces at the end begin.
    static std::size_t without_spaces(std::string_view text) noexcept {
      std::size_t end = 0;
      for (std::size_t at = 0; at < text.size();) {
        const detail::Utf8Char c = detail::utf8_char(text.substr(at));
        at += c.bytes;
        if (detail::char_kind(c.code) != detail::CharKind::space) end = at;
      }
      return end;
    }

    std::array<std::vector<Item>, 256> begins_;
  };

  static Json read(const std::filesystem::path& path) {
    constexpr std::uint64_t longest = std::uint64_t{1} << 28;
    return detail::parse_json(path, detail::read_file(path, longest), "", longest);
  }

  Tokenizer(const std::filesystem::path& path, const Json& json)
      : Tokenizer(detail::JsonObject(path, "tokenizer", json)) {}
  explicit Tokenizer(const detail::JsonObject& file) {
    for (const char* field : {"truncation", "padding"}) file.require(field, Json());
    read_normalizer(file);
    read_splitting(file);
    read_vocabulary(file.object("model"));
    if (file.contains("added_tokens")) read_added(file);
    read_around(file);
  }

  [[noreturn]] static void fail(const detail::JsonObject& in, const std::string& what) {
    detail::throw_file(in.path(), what);
  }
  static bool is_null(const detail::JsonObject& in, std::string_view field) {
    return !in.contains(field) || in.at(field) == Json();
  }
  static std::string text(const detail::JsonObject& in, std::string_view field) {
    const auto* found = in.at(field).as<std::string>();
    if (found == nullptr) in.fail(field, "a text");
    return *found;
  }
  static bool boolean(const detail::JsonObject& in, std::string_view field, bool otherwise) {
    if (!in.contains(field)) return otherwise;
    const auto* found = in.at(field).as<bool>();
    if (found == nullptr) in.fail(field, "true or false");
    return *found;
  }
  static const Json::Array& list(const detail::JsonObject& in, std::string_view field) {
    const auto* found = in.at(field).as<Json::Array>();
    if (found == nullptr) in.fail(field, "a list");
    return *found;
  }
  static Token token(const detail::JsonObject& in, std::string_view field, const Json& json) {
    constexpr std::uint64_t most = (1U << 21) - 1;  // a small file takes no large memory
    const auto* id = json.as<std::uint64_t>();
    if (id == nullptr || *id > most) in.fail(field, "whole numbers from 0 to 2097151");
    return static_cast<Token>(*id);
  }

  void read_normalizer(const detail::JsonObject& file) {
    if (is_null(file, "normalizer")) return;
    const auto one = [&](const detail::JsonObject& normalizer) {
      if (text(normalizer, "type") != "NFC") normalizer.fail("type", "\"NFC\" or no normalizer");
      nfc_ = true;
    };
    const auto normalizer = file.object("normalizer");
    if (text(normalizer, "type") != "Sequence") return one(normalizer);
    for (const Json& each : list(normalizer, "normalizers"))
      one({file.path(), "tokenizer.normalizer.normalizers", each});
  }

  void read_splitting(const detail::JsonObject& file) {
    const auto splitter = file.object("pre_tokenizer");
    if (text(splitter, "type") != "ByteLevel") splitter.fail("type", "\"ByteLevel\"");
    if (!boolean(splitter, "use_regex", true)) splitter.fail("use_regex", "true");
    prefix_space_ = boolean(splitter, "add_prefix_space", true);
  }

  /// The bytes that a token's name stands for; the name itself where it has other characters.
  static std::string bytes_of(std::string_view name) {
    static const Map<char> bytes = [] {
      Map<char> map;
      const auto names = detail::byte_names();
      for (std::size_t i = 0; i < names.size(); ++i) map.emplace(names[i], static_cast<char>(i));
      return map;
    }();
    std::string found;
    for (std::size_t at = 0; at < name.size();) {
      const std::size_t size = detail::utf8_char(name.substr(at)).bytes;
      const auto byte = bytes.find(name.substr(at, size));
      if (byte == bytes.end()) return std::string(name);
      found += byte->second;
      at += size;
    }
    return found;
  }

  void know(Token token, const std::string& name, std::string bytes, bool special) {
    const auto at = static_cast<std::size_t>(token);
    if (at >= texts_.size()) texts_.resize(at + 1);
    texts_[at] = {std::move(bytes), true, special};
    tokens_[name] = token;
  }

  void read_vocabulary(const detail::JsonObject& model) {
    if (text(model, "type") != "BPE") model.fail("type", "\"BPE\"");
    if (!is_null(model, "dropout")) model.require("dropout", Json(0));
    for (const char* field : {"continuing_subword_prefix", "end_of_word_suffix"})
      if (!is_null(model, field)) model.require(field, Json(""));
    model.require("byte_fallback", Json(false));
    whole_words_ = boolean(model, "ignore_merges", false);
    const auto vocabulary = model.object("vocab");
    for (const auto& [name, id] : vocabulary.fields()) {
      const Token own = token(model, "vocab", id);
      if (static_cast<std::size_t>(own) < texts_.size() &&
          texts_[static_cast<std::size_t>(own)].known)
        fail(model, "tokenizer.model.vocab has token " + std::to_string(own) + " twice");
      know(own, name, bytes_of(name), false);
    }
    std::array<Token, 256> bytes{};
    const auto names = detail::byte_names();
    for (std::size_t i = 0; i < names.size(); ++i) {
      const auto found = find(names[i]);
      if (!found) fail(model, "tokenizer.model.vocab has no token for byte " + std::to_string(i));
      bytes[i] = *found;
    }
    pairs_ = detail::BytePairs(bytes);
    for (const Json& merge : list(model, "merges")) add_merge(model, merge);
  }

  void add_merge(const detail::JsonObject& model, const Json& merge) {
    std::string left, right;
    if (const auto* pair = merge.as<std::string>()) {
      const std::size_t space = pair->find(' ');
      if (space != std::string::npos)
        left = pair->substr(0, space), right = pair->substr(space + 1);
    } else if (const auto* parts = merge.as<Json::Array>();
               parts != nullptr && parts->size() == 2) {
      const auto *first = (*parts)[0].as<std::string>(), *second = (*parts)[1].as<std::string>();
      if (first != nullptr && second != nullptr) left = *first, right = *second;
    }
    if (left.empty() || right.empty())
      fail(model, "tokenizer.model.merges has " + detail::JsonObject::describe(merge) +
                      ", expected two tokens");
    const auto known = [&](const std::string& name) {
      const auto found = find(name);
      if (!found)
        fail(model, "tokenizer.model.merges needs token " + detail::in_quotes(name) +
                        ", which the vocabulary has not");
      return *found;
    };
    pairs_.add(known(left), known(right), known(left + right));
  }

  void read_added(const detail::JsonObject& file) {
    for (const Json& each : list(file, "added_tokens")) {
      const detail::JsonObject item(file.path(), "tokenizer.added_tokens", each);
      const std::string name = text(item, "content");
      const Token own = token(item, "id", item.at("id"));
      if (boolean(item, "single_word", false)) item.fail("single_word", "false");
      const bool special = boolean(item, "special", false);
      know(own, name, find(name) == own ? bytes_of(name) : name, special);
      const bool normalized = boolean(item, "normalized", !special);
      Added& where = normalized ? normalized_ : raw_;
      where.add({normalized && nfc_ ? detail::ToNfc()(name) : name, own,
                 boolean(item, "lstrip", false), boolean(item, "rstrip", false)});
    }
    raw_.sort();
    normalized_.sort();
  }

  void read_around(const detail::JsonObject& file) {
    if (is_null(file, "post_processor")) return;
    read_around_one(file.object("post_processor"));
  }
  void read_around_one(const detail::JsonObject& processor) {
    const std::string type = text(processor, "type");
    if (type == "ByteLevel") return;  // says where words begin, not what they are
    if (type == "Sequence") {
      for (const Json& each : list(processor, "processors"))
        read_around_one({processor.path(), "tokenizer.post_processor.processors", each});
      return;
    }
    if (type != "TemplateProcessing")
      processor.fail("type", "\"ByteLevel\" or \"TemplateProcessing\"");
    bool after = false;
    const auto tokens = processor.object("special_tokens");
    for (const Json& each : list(processor, "single")) {
      const detail::JsonObject part(processor.path(), "tokenizer.post_processor.single", each);
      if (part.contains("Sequence")) {
        after = true;
        continue;
      }
      const auto special = tokens.object(text(part.object("SpecialToken"), "id"));
      for (const Json& id : list(special, "ids")) {
        const auto own = token(special, "ids", id);
        if (static_cast<std::size_t>(own) >= texts_.size() ||
            !texts_[static_cast<std::size_t>(own)].known)
          special.fail("ids", "tokens of the vocabulary");
        (after ? after_ : before_).push_back(own);
      }
    }
    if (!after) processor.fail("single", "a list with a Sequence");
  }

  /// Of text without raw added tokens.
  void encode_piece(std::string_view piece, Words& words, std::vector<Token>& tokens) const {
    const std::string normalized = nfc_ ? detail::ToNfc()(piece) : std::string();
    normalized_.split(
        nfc_ ? std::string_view(normalized) : piece, [&](Token token) { tokens.push_back(token); },
        [&](std::string_view rest) {
          std::string prefixed;
          if (prefix_space_ && !rest.starts_with(' ')) {
            prefixed.append(1, ' ').append(rest);
            rest = prefixed;
          }
          detail::split_words(rest,
                              [&](std::string_view word) { encode_word(word, words, tokens); });
        });
  }
  void encode_word(std::string_view word, Words& words, std::vector<Token>& tokens) const {
    constexpr std::size_t longest = 32, most = 1 << 16;  // of what is kept
    const auto before = words.find(word);
    if (before != words.end()) {
      tokens.insert(tokens.end(), before->second.begin(), before->second.end());
      return;
    }
    const std::size_t begin = tokens.size();
    const auto whole = whole_words_ ? find_bytes(word) : std::nullopt;
    if (whole)
      tokens.push_back(*whole);
    else
      pairs_.encode(word, tokens);
    if (word.size() <= longest && words.size() < most)
      words.emplace(word, std::vector<Token>(tokens.begin() + static_cast<std::ptrdiff_t>(begin),
                                             tokens.end()));
  }
  [[nodiscard]] std::optional<Token> find_bytes(std::string_view word) const {
    static const std::array<std::string, 256> names = detail::byte_names();
    std::string name;
    for (const char byte : word) name += names[static_cast<unsigned char>(byte)];
    return find(name);
  }

  bool nfc_ = false, prefix_space_ = false, whole_words_ = false;
  std::vector<Text> texts_;
  Map<Token> tokens_;
  detail::BytePairs pairs_{std::array<Token, 256>{}};
  Added raw_, normalized_;
  std::vector<Token> before_, after_;
};

/// Makes text of bytes that come piece by piece: whole characters at once, those that are cut when
/// their rest has come.
class Utf8Stream {
 public:
  /// What can be shown after these bytes. What will never be a character is U+FFFD.
  [[nodiscard]] std::string take(std::string_view bytes) {
    open_ += bytes;
    std::size_t end = 0;
    while (end < open_.size()) {
      const std::string_view rest = std::string_view(open_).substr(end);
      const detail::Utf8Char c = detail::utf8_char(rest);
      if (c.bytes == 0 && c.skip == rest.size() && may_begin(rest)) break;
      end += c.bytes > 0 ? c.bytes : c.skip;
    }
    const std::string shown = detail::to_utf8(std::string_view(open_).substr(0, end));
    open_.erase(0, end);
    return shown;
  }
  /// The bytes of a character whose rest has not come; none between characters.
  [[nodiscard]] const std::string& open() const noexcept { return open_; }
  /// What is left at the end: one U+FFFD where a character was cut.
  [[nodiscard]] std::string finish() {
    const std::string shown = detail::to_utf8(open_);
    open_.clear();
    return shown;
  }

 private:
  /// Whether bytes begin a character that more of them would end.
  static bool may_begin(std::string_view bytes) noexcept {
    const auto first = static_cast<unsigned char>(bytes[0]);
    return first >= 0xc2 && first <= 0xf4;
  }

  std::string open_;
};

}  // namespace ssm
