#include "model_words.hpp"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <utility>

#include "ssm/io/json.hpp"
#include "ssm/io/json_object.hpp"

namespace generate {
namespace {

namespace fs = std::filesystem;
using ssm::Json;
using ssm::Token;
using ssm::detail::JsonObject;

/// A field of a JSON file, null where there is none.
Json field_of(const fs::path& path, const char* field) {
  if (!fs::exists(path)) return {};
  constexpr std::uint64_t longest = std::uint64_t{1} << 24;
  const Json json =
      ssm::detail::parse_json(path, ssm::detail::read_file(path, longest), "", longest);
  const Json* found = json.find(field);
  return found != nullptr ? *found : Json();
}

/// A token or several, by number.
std::vector<Token> tokens_in(const fs::path& path, const char* field) {
  const Json json = field_of(path, field);
  Json::Array list;
  if (const auto* several = json.as<Json::Array>())
    list = *several;
  else if (!(json == Json()))
    list.push_back(json);
  std::vector<Token> tokens;
  for (const Json& each : list) {
    const auto* number = each.as<std::uint64_t>();
    if (number == nullptr || *number > 0x7fffffff)
      throw std::runtime_error(path.string() + ": " + field + " is " + JsonObject::describe(json) +
                               ", expected tokens");
    tokens.push_back(static_cast<Token>(*number));
  }
  return tokens;
}

std::vector<Token> ends_of(const fs::path& folder, const ssm::Tokenizer* tokenizer) {
  for (const char* file : {"generation_config.json", "config.json"}) {
    std::vector<Token> tokens = tokens_in(folder / file, "eos_token_id");
    if (!tokens.empty()) return tokens;
  }
  if (tokenizer == nullptr) return {};
  Json name = field_of(folder / "tokenizer_config.json", "eos_token");
  if (const Json* content = name.find("content")) name = Json(*content);
  const auto* text = name.as<std::string>();
  const std::optional<Token> found = tokenizer->find(text != nullptr ? *text : "<|endoftext|>");
  return found ? std::vector<Token>{*found} : std::vector<Token>();
}

}  // namespace

ModelWords::ModelWords(const fs::path& model, const fs::path& tokenizer) : model_(model) {
  const fs::path folder = fs::is_directory(model) ? model : model.parent_path();
  if (!tokenizer.empty()) {
    file_ = fs::is_directory(tokenizer) ? tokenizer / "tokenizer.json" : tokenizer;
  } else if (fs::exists(folder / "tokenizer.json")) {
    file_ = folder / "tokenizer.json";
  }
  if (!file_.empty()) tokenizer_ = std::make_unique<ssm::Tokenizer>(file_);
  ends_ = ends_of(folder, tokenizer_.get());
}

void ModelWords::check(ssm::Index vocab) const {
  if (bytes() && vocab != 256)
    throw std::runtime_error(model_.string() + ": has a vocabulary of " + std::to_string(vocab) +
                             ", expected 256 where there is no tokenizer.json: a token is a byte");
  if (count() > vocab)
    throw std::runtime_error(file_.string() + ": has " + std::to_string(count()) +
                             " tokens, and the model a vocabulary of " + std::to_string(vocab) +
                             ": they do not belong together");
}

std::vector<Token> ModelWords::encode(std::string_view text, bool begins) const {
  if (tokenizer_) return tokenizer_->encode(text, {.special = begins, .ends = false});
  std::vector<Token> tokens(text.size());
  std::transform(text.begin(), text.end(), tokens.begin(),
                 [](char c) { return static_cast<Token>(static_cast<unsigned char>(c)); });
  return tokens;
}

std::string ModelWords::decode(Token token) const {
  if (!tokenizer_) return {static_cast<char>(static_cast<unsigned char>(token))};
  return tokenizer_->knows(token) ? tokenizer_->decode({&token, 1}) : std::string();
}

bool ModelWords::ends(Token token) const {
  return std::find(ends_.begin(), ends_.end(), token) != ends_.end();
}

}  // namespace generate
