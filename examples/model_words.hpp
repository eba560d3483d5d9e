#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ssm/io/tokenizer.hpp"

namespace generate {

/// What the tokens of a model are: those of the tokenizer.json in its folder, or bytes.
class ModelWords {
 public:
  /// @param model a folder, or a file in it
  /// @param tokenizer a tokenizer.json or its folder; "": that of the model, where there is one
  ModelWords(const std::filesystem::path& model, const std::filesystem::path& tokenizer);

  /// Whether a token is a byte.
  [[nodiscard]] bool bytes() const { return !tokenizer_; }
  /// What a token is called: "tokens" or "bytes".
  [[nodiscard]] const char* unit() const { return bytes() ? "bytes" : "tokens"; }
  /// Null where a token is a byte.
  [[nodiscard]] const ssm::Tokenizer* tokenizer() const { return tokenizer_.get(); }
  /// How many tokens there are.
  [[nodiscard]] ssm::Index count() const { return bytes() ? 256 : tokenizer_->vocab(); }
  /// Throws unless a model with a vocabulary of this size has all of them.
  void check(ssm::Index vocab) const;

  /// @param begins whether the tokens are put before it that stand before every text
  [[nodiscard]] std::vector<ssm::Token> encode(std::string_view text, bool begins) const;
  /// The bytes that a token stands for; none for a special one.
  [[nodiscard]] std::string decode(ssm::Token token) const;

  /// Whether a token ends a text, as the files of the model say: eos_token_id of
  /// generation_config.json or config.json, eos_token of tokenizer_config.json, or <|endoftext|>.
  [[nodiscard]] bool ends(ssm::Token token) const;

 private:
  std::filesystem::path model_, file_;
  std::unique_ptr<ssm::Tokenizer> tokenizer_;
  std::vector<ssm::Token> ends_;
};

}  // namespace generate
