#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "serve_text.hpp"
#include "ssm/io/json.hpp"
#include "ssm/models/sampling.hpp"

/// The calls of `mamba_lm serve` and their answers, as JSON.
namespace serve {

/// How much one call may ask for.
struct Limits {
  std::size_t body = 1 << 20;    ///< bytes
  std::size_t prompt = 1 << 16;  ///< tokens of a prompt
  std::size_t tokens = 4096;     ///< that one answer may have
  static constexpr std::size_t choices = 64, stops = 16, stop_bytes = 256;
};

/// Why a call is not answered: an HTTP status and the interface's words for it.
struct Refusal : std::runtime_error {
  Refusal(int status_, const std::string& message, std::string param_ = "", std::string code_ = "")
      : std::runtime_error(message),
        status(status_),
        param(std::move(param_)),
        code(std::move(code_)) {}
  int status;
  std::string param, code;
};

/// What is asked for, all of it checked.
struct Call {
  bool chat = false, stream = false, usage = false;
  std::vector<std::vector<ssm::Token>> prompts;
  std::vector<std::string> echoes;  ///< what each answer begins with
  ssm::SamplingOptions sampling;
  std::size_t most = 16, choices = 1;
  std::vector<std::string> stops;
  bool skip_blanks = false;
};

/// Reads the body of a call. @throws Refusal that names the field
Call read_call(bool chat, std::string_view body, const std::string& model, const Words& words,
               const Limits& limits, const ssm::SamplingOptions& defaults);

enum class Finish { none, stop, length, failed };

/// A part of an answer, or all of it.
struct Part {
  std::size_t choice = 0;
  std::string text;
  Finish finish = Finish::none;
};
struct Usage {
  std::size_t prompt = 0, written = 0;
};

/// Writes the answer to one call.
class AnswerWriter {
 public:
  AnswerWriter(const Call& call, std::string model, std::int64_t now);

  /// The whole answer: one part for each choice.
  [[nodiscard]] std::string whole(const std::vector<Part>& choices, const Usage& usage) const;
  ///@{
  /// Events of a stream: what comes before the text of all choices, a part, what comes at the end.
  [[nodiscard]] std::string first(std::size_t choices) const;
  [[nodiscard]] std::string event(const Part& part) const;
  [[nodiscard]] std::string last(const Usage& usage) const;
  ///@}

 private:
  [[nodiscard]] ssm::Json head(const char* object) const;
  [[nodiscard]] std::string event_of(ssm::Json choice) const;

  bool chat_, usage_;
  std::string id_, model_;
  std::uint64_t created_;
};

/// The JSON of an error.
std::string error_json(int status, const std::string& message, const std::string& param = "",
                       const std::string& code = "");

}  // namespace serve
