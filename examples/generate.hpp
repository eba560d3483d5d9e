#pragma once

#include <optional>
#include <string>
#include <vector>

#include "job.hpp"
#include "model_words.hpp"
#include "ssm/models/drafts.hpp"
#include "ssm/models/sampling.hpp"
#include "transcript.hpp"
#include "writing_model.hpp"

/// Text that a language model writes: after a prompt, or after each of many.
namespace generate {

struct Arguments {
  std::string model, tokenizer;
  std::optional<std::string> prompt;
  std::string prompt_file, prompts;
  bool no_echo = false, json = false;
  std::optional<long long> tokens;
  std::vector<std::string> stops;
  bool past_ends = false;
  std::string state, save_state;
  bool overwrite = false;
  ssm::SamplingOptions sampling{.temperature = 0.7, .min_p = 0.05};
  std::optional<double> repetition_penalty;
  int batch = 16;
  std::string speculate;  ///< "lookup", or where a small model is
  ssm::Index drafts = 16;
  job::Stopwatch started;  ///< with the program
};

/// Everything but the model: made before that is read, so that what is wrong is said at once.
class Writing {
 public:
  explicit Writing(const Arguments& arguments);

  /// How the tokens of a model are drawn. Throws for one that does not go with the tokenizer.
  [[nodiscard]] ssm::SamplingOptions sampling(ssm::Index vocab) const;
  /// What drafts by look-up, of the tokens of the model.
  [[nodiscard]] ssm::PromptLookup lookup() const;
  /// Writes. Returns the status to end the program with.
  int run(WritingModel& model) const;

 private:
  [[nodiscard]] Transcript transcript(const std::string& cut) const;
  void read_prompts();
  void check_save_path() const;
  int write_one(WritingModel& model, const std::string& cut) const;
  int write_all(WritingModel& model, const std::string& cut) const;

  Arguments a_;
  ModelWords words_;
  std::string echo_;
  std::vector<std::vector<ssm::Token>> prompts_;
};

}  // namespace generate
