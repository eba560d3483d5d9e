#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ssm/core/index.hpp"
#include "ssm/io/tokenizer.hpp"
#include "ssm/models/stop_strings.hpp"

/// Text of `mamba_lm serve`: words and tokens, chats, and where an answer stops.
namespace serve {

/// How messages become the text that a model goes on with.
enum class ChatForm { none, plain, chatml, zephyr };

struct Message {
  std::string role, content;
};
/// A chat as a prompt, and the texts at which its answer ends.
struct Chat {
  std::string prompt;
  std::vector<std::string> stops;
  bool skip_blanks = false;  ///< whether the answer begins after blanks
};

/// What a model calls its tokens.
class Words {
 public:
  /// Reads the tokenizer.json of the model's folder. Where there is none, a token is a byte.
  /// @param form "auto": what tokenizer_config.json asks for, if it is known here
  /// @throws FileError, and std::runtime_error for words that do not fit the model
  Words(const std::filesystem::path& model, ssm::Index vocab, const std::string& form);

  /// The tokens of a text that goes on, with those that the file puts before any text unless it is
  /// `whole` as it stands. Of an empty text a token that ends one, or a line break.
  [[nodiscard]] std::vector<ssm::Token> encode(const std::string& text, bool whole = false) const;
  /// The bytes of a token; none of those that are no text.
  [[nodiscard]] std::string decode(ssm::Token token) const;
  /// Whether a token ends a text.
  [[nodiscard]] bool ends(ssm::Token token) const;

  /// The number of tokens of the model.
  [[nodiscard]] ssm::Index vocab() const noexcept { return vocab_; }
  [[nodiscard]] ChatForm form() const noexcept { return form_; }
  /// Why there is no form.
  [[nodiscard]] const std::string& why_no_form() const noexcept { return why_no_form_; }
  /// A chat in that form. What the messages hold of the marks of the form is left out.
  [[nodiscard]] Chat chat(const std::vector<Message>& messages) const;

 private:
  void find_ends(const std::filesystem::path& folder);
  void find_form(const std::filesystem::path& folder, const std::string& wanted);

  ssm::Index vocab_;
  std::optional<ssm::Tokenizer> tokenizer_;  // none: bytes
  std::vector<ssm::Token> ends_;
  std::string end_text_;  // of the first of them
  ChatForm form_ = ChatForm::plain;
  std::string why_no_form_;
};

/// The text of an answer, of the bytes of its tokens: whole characters, up to the first stop.
class AnswerText {
 public:
  AnswerText(const std::vector<std::string>& stops, bool skip_blanks)
      : stops_(stops), skip_blanks_(skip_blanks) {}
  /// What can be shown after these bytes.
  [[nodiscard]] std::string take(std::string_view bytes);
  /// What was held back, once nothing more comes.
  [[nodiscard]] std::string finish();
  /// Whether a stop has come; nothing is shown from there on.
  [[nodiscard]] bool stopped() const noexcept { return stops_.stopped(); }

 private:
  std::string without_blanks(std::string shown);

  ssm::Utf8Stream characters_;
  ssm::StopStrings stops_;
  bool skip_blanks_;
};

}  // namespace serve
