#include "serve_text.hpp"

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <utility>

#include "ssm/io/json.hpp"

namespace serve {
namespace {

using ssm::Json;
using ssm::Token;

/// The JSON of a file beside a model, or null.
Json beside(const std::filesystem::path& folder, const char* name) {
  const std::filesystem::path path = folder / name;
  if (!std::filesystem::exists(path)) return {};
  return ssm::detail::parse_json(path, ssm::detail::read_file(path, ssm::detail::longest_json));
}

const std::string* text_of(const Json* json) {
  if (json == nullptr) return nullptr;
  if (const Json* content = json->find("content")) json = content;
  return json->as<std::string>();
}

void erase_all(std::string& text, const std::string& part) {
  if (part.empty()) return;
  // What is left of both sides may make it anew.
  for (std::size_t at = 0; (at = text.find(part, at)) != std::string::npos;) {
    text.erase(at, part.size());
    at -= std::min(at, part.size());
  }
}

}  // namespace

Words::Words(const std::filesystem::path& model, ssm::Index vocab, const std::string& form)
    : vocab_(vocab) {
  const std::filesystem::path folder =
      std::filesystem::is_directory(model) ? model : model.parent_path();
  if (std::filesystem::exists(folder / "tokenizer.json")) {
    tokenizer_.emplace(folder / "tokenizer.json");
    if (tokenizer_->vocab() > vocab)
      throw std::runtime_error((folder / "tokenizer.json").string() + ": has " +
                               std::to_string(tokenizer_->vocab()) + " tokens, and the model " +
                               std::to_string(vocab));
    find_ends(folder);
  } else if (vocab != 256) {
    throw std::runtime_error(model.string() + ": has a vocabulary of " + std::to_string(vocab) +
                             " and no tokenizer.json; without one a token is a byte, of 256");
  }
  find_form(folder, form);
}

void Words::find_ends(const std::filesystem::path& folder) {
  const auto add = [&](std::optional<Token> token) {
    if (token && *token >= 0 && *token < tokenizer_->vocab() && !ends(*token))
      ends_.push_back(*token);
  };
  const auto add_number = [&](const Json& json) {
    const auto* number = json.as<std::uint64_t>();
    if (number != nullptr && *number < 0x7fffffffu) add(static_cast<Token>(*number));
  };
  const Json words = beside(folder, "tokenizer_config.json");
  if (const std::string* text = text_of(words.find("eos_token"))) add(tokenizer_->find(*text));
  for (const char* name : {"generation_config.json", "config.json"}) {
    const Json config = beside(folder, name);
    const Json* tokens = config.find("eos_token_id");
    if (tokens == nullptr) continue;
    add_number(*tokens);
    if (const auto* list = tokens->as<Json::Array>())
      for (const Json& token : *list) add_number(token);
  }
  for (const char* text : {"<|endoftext|>", "<|im_end|>"}) add(tokenizer_->find(text));
  if (!ends_.empty()) {
    const Token first[] = {ends_.front()};
    try {
      end_text_ = tokenizer_->decode(first, {.special = true});
    } catch (const ssm::DomainError&) {  // a number that no text has
      ends_.erase(ends_.begin());
    }
  }
}

void Words::find_form(const std::filesystem::path& folder, const std::string& wanted) {
  if (wanted == "plain") form_ = ChatForm::plain;
  if (wanted == "chatml") form_ = ChatForm::chatml;
  if (wanted == "zephyr") form_ = ChatForm::zephyr;
  if (wanted != "auto") return;
  const Json config = beside(folder, "tokenizer_config.json");
  const Json* given = config.find("chat_template");
  if (given == nullptr || *given == Json()) return;
  const std::string* text = text_of(given);
  const auto has = [&](const char* mark) {
    return text != nullptr && text->find(mark) != std::string::npos;
  };
  if (has("<|im_start|>")) {
    form_ = ChatForm::chatml;
  } else if (has("<|user|>") && has("<|assistant|>")) {
    form_ = ChatForm::zephyr;
  } else {
    form_ = ChatForm::none;
    why_no_form_ =
        "the chat template of this model is not one that is known here; start the server with "
        "--chat plain, chatml or zephyr, or use /v1/completions";
  }
}

std::vector<Token> Words::encode(const std::string& text, bool whole) const {
  std::vector<Token> tokens;
  if (!tokenizer_) {
    for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
  } else {
    tokens = tokenizer_->encode(text, {.special = false});
    if (!whole) {
      // What the file puts around a text comes before it; what it puts behind one would end it.
      const std::vector<Token> around = tokenizer_->encode(text);
      const auto at = std::search(around.begin(), around.end(), tokens.begin(), tokens.end());
      tokens.insert(tokens.begin(), around.begin(), tokens.empty() ? around.begin() : at);
    }
  }
  if (tokens.empty())
    tokens.push_back(!ends_.empty() ? ends_.front() : tokenizer_ ? Token{0} : Token{'\n'});
  return tokens;
}

std::string Words::decode(Token token) const {
  if (!tokenizer_) return std::string(1, static_cast<char>(static_cast<unsigned char>(token)));
  try {
    const Token one[] = {token};
    return tokenizer_->decode(one);
  } catch (const ssm::DomainError&) {  // one that only makes a vocabulary a round number
    return "";
  }
}

bool Words::ends(Token token) const {
  return std::find(ends_.begin(), ends_.end(), token) != ends_.end();
}

Chat Words::chat(const std::vector<Message>& messages) const {
  Chat chat;
  const auto clean = [&](std::string text, std::initializer_list<const char*> marks) {
    for (const char* mark : marks) erase_all(text, mark);
    erase_all(text, end_text_);
    return text;
  };
  for (const Message& m : messages) {
    const bool user = m.role == "user", assistant = m.role == "assistant";
    if (form_ == ChatForm::chatml)
      chat.prompt += "<|im_start|>" + m.role + "\n" +
                     clean(m.content, {"<|im_start|>", "<|im_end|>"}) + "<|im_end|>\n";
    else if (form_ == ChatForm::zephyr)
      chat.prompt += "<|" + m.role + "|>\n" +
                     clean(m.content, {"<|system|>", "<|user|>", "<|assistant|>"}) + end_text_ +
                     "\n";
    else
      chat.prompt += (user        ? "User: "
                      : assistant ? "Assistant: "
                                  : "") +
                     clean(m.content, {}) + (user || assistant ? "\n" : "\n\n");
  }
  if (form_ == ChatForm::chatml) {
    chat.prompt += "<|im_start|>assistant\n";
    chat.stops = {"<|im_end|>", "<|im_start|>"};
  } else if (form_ == ChatForm::zephyr) {
    chat.prompt += "<|assistant|>\n";
    chat.stops = {"<|user|>", "<|system|>"};
  } else {
    chat.prompt += "Assistant:";
    chat.stops = {"\nUser:"};
    chat.skip_blanks = true;
  }
  return chat;
}

std::string AnswerText::take(std::string_view bytes) {
  return without_blanks(stops_.take(characters_.take(bytes)));
}

std::string AnswerText::finish() {
  std::string rest = stops_.take(characters_.finish());
  rest += stops_.finish();
  return without_blanks(std::move(rest));
}

std::string AnswerText::without_blanks(std::string shown) {
  if (!skip_blanks_) return shown;
  shown.erase(0, std::min(shown.find_first_not_of(" \n\t"), shown.size()));
  skip_blanks_ = shown.empty();
  return shown;
}

}  // namespace serve
