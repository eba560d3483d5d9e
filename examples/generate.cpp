#include "generate.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <utility>

#include "ssm/io/json.hpp"
#include "ssm/io/json_object.hpp"
#include "ssm/io/state_file.hpp"

namespace generate {
namespace {

using job::exit_interrupted;
using job::Stopwatch;
using ssm::Json;

std::string read_text(const std::string& path) {
  if (path != "-") return ssm::detail::read_file(path);
#if defined(__unix__) || defined(__APPLE__)
  if (isatty(STDIN_FILENO)) std::fputs("prompt, ended by Ctrl-D:\n", stderr);
#endif
  return {std::istreambuf_iterator<char>(std::cin), {}};
}

/// Reads a prompt in pieces, between which the program may be asked to end. Returns how much it has
/// read.
std::size_t read_prompt(WritingModel& model, const std::vector<Token>& prompt) {
  constexpr std::size_t piece = 2048;
  std::size_t at = 0;
  while (at < prompt.size() && job::interrupted == 0) {
    const std::size_t now = std::min(piece, prompt.size() - at);
    model.read({prompt.data() + at, now});
    at += now;
  }
  return at;
}

double rate(double count, double seconds) { return seconds > 0 ? count / seconds : 0; }

void print(const Json& line) {
  std::puts(line.text().c_str());
  job::flush_output();
}
void print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  job::flush_output();
}

/// Why a text has ended, and its numbers of tokens.
Json::Object ending(const Transcript& text, std::size_t prompt) {
  Json::Object fields{{"reason", text.reason()}};
  if (!text.stop().empty()) fields.emplace_back("stop", text.stop());
  fields.emplace_back("prompt_tokens", static_cast<std::uint64_t>(prompt));
  fields.emplace_back("tokens", text.tokens());
  return fields;
}

/// The bytes of a character that a text was cut in, kept with its state: what goes on from there
/// has it whole.
Notes note_of(const std::string& cut) {
  Json::Array bytes;
  for (const char byte : cut)
    bytes.emplace_back(static_cast<int>(static_cast<unsigned char>(byte)));
  return {{"cut", Json(std::move(bytes)).text()}};
}
std::string cut_of(const Notes& notes, const std::string& path) {
  std::string cut;
  const auto note = notes.find("cut");
  if (note == notes.end()) return cut;
  const Json json = ssm::detail::parse_json(path, note->second, "cut", 32);
  const auto* bytes = json.as<Json::Array>();
  for (const Json& byte : bytes != nullptr ? *bytes : Json::Array{json}) {
    const auto* value = byte.as<std::uint64_t>();
    if (value == nullptr || *value > 255 || cut.size() == 3)
      throw std::runtime_error(path + ": cut is " + ssm::detail::JsonObject::describe(json) +
                               ", expected at most three bytes");
    cut += static_cast<char>(static_cast<unsigned char>(*value));
  }
  return cut;
}

}  // namespace

Writing::Writing(const Arguments& arguments) : a_(arguments), words_(a_.model, a_.tokenizer) {
  for (const std::string& stop : a_.stops)
    if (stop.empty()) throw std::runtime_error("--stop is empty, expected at least one byte");
  if (!a_.speculate.empty() && !a_.prompts.empty())
    throw std::runtime_error("--speculate drafts for one text, --prompts has many");
  if (!a_.save_state.empty()) check_save_path();
  read_prompts();
}

void Writing::check_save_path() const {
  if (!a_.prompts.empty())
    throw std::runtime_error("--save-state keeps the state of one text, --prompts has many");
  std::error_code none;
  if (std::filesystem::exists(a_.save_state) && ssm::detail::holds_state(a_.save_state) &&
      !a_.overwrite && !std::filesystem::equivalent(a_.save_state, a_.state, none))
    throw std::runtime_error(a_.save_state +
                             ": holds a state already; --state goes on from it, and --overwrite "
                             "replaces it");
  ssm::check_state_path(a_.save_state);
}

void Writing::read_prompts() {
  const bool begins = a_.state.empty();
  if (a_.prompts.empty()) {
    if (a_.prompt) {
      echo_ = *a_.prompt;
    } else if (!a_.prompt_file.empty() || begins) {
      echo_ = read_text(a_.prompt_file.empty() ? "-" : a_.prompt_file);
    }
    prompts_.push_back(words_.encode(echo_, begins));
    if (begins && prompts_[0].empty())
      throw std::runtime_error("the prompt is empty, expected at least one of the model's " +
                               std::string(words_.unit()));
    return;
  }
  const std::string text = read_text(a_.prompts);
  const std::string path = a_.prompts == "-" ? "standard input" : a_.prompts;
  for (std::size_t at = 0, number = 1; at < text.size(); ++number) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = "line " + std::to_string(number);
    const Json json = ssm::detail::parse_json(path, std::string_view(text).substr(at, end - at),
                                              line, text.size());
    const auto* prompt = json.as<std::string>();
    if (prompt == nullptr)
      throw std::runtime_error(path + ": " + line +
                               " is no JSON text, expected one for each prompt");
    prompts_.push_back(words_.encode(*prompt, begins));
    if (begins && prompts_.back().empty())
      throw std::runtime_error(path + ": " + line +
                               " is an empty prompt, expected at least one of the model's " +
                               words_.unit());
    at = end + 1;
  }
  if (prompts_.empty()) throw std::runtime_error(path + ": has no prompts");
}

ssm::SamplingOptions Writing::sampling(ssm::Index vocab) const {
  words_.check(vocab);
  ssm::SamplingOptions sampling = a_.sampling;
  // Words that were just written come again too easily; bytes must.
  sampling.repetition_penalty = a_.repetition_penalty.value_or(words_.bytes() ? 1 : 1.2);
  sampling.tokens = words_.count();
  return sampling;
}

ssm::PromptLookup Writing::lookup() const {
  // Three letters occur before without what follows being the same.
  return ssm::PromptLookup({.match = words_.bytes() ? 8 : 3});
}

Transcript Writing::transcript(const std::string& cut) const {
  return {words_,
          {.stops = ssm::StopStrings(a_.stops),
           .tokens = a_.tokens.value_or(words_.bytes() ? 1000 : 256),
           .past_ends = a_.past_ends,
           .as_bytes = words_.bytes() && !a_.json && a_.prompts.empty(),
           .goes_on = !a_.save_state.empty()},
          cut};
}

int Writing::run(WritingModel& model) const {
  std::string cut;
  if (!a_.state.empty()) cut = cut_of(model.load(a_.state), a_.state);
  job::end_in_order_on_interrupt();
  return a_.prompts.empty() ? write_one(model, cut) : write_all(model, cut);
}

int Writing::write_one(WritingModel& model, const std::string& cut) const {
  const std::vector<Token>& prompt = prompts_[0];
  Transcript text = transcript(prompt.empty() ? cut : "");
  const auto save = [&] {
    if (!a_.save_state.empty() && model.started())
      model.save(a_.save_state, note_of(words_.bytes() && !a_.json ? "" : text.cut()));
  };
#if defined(SIGPIPE)
  if (!a_.save_state.empty()) std::signal(SIGPIPE, SIG_IGN);  // a reader that left is an error
#endif
  // The state is saved also where the text cannot be written.
  const auto show = [&](const auto& line) {
    try {
      print(line);
    } catch (...) {
      save();
      throw;
    }
  };
  const auto show_text = [&](const std::string& shown, std::optional<Token> token) {
    if (!a_.json) return show(shown);
    Json::Object line{{"text", shown}};
    if (token) line.emplace_back("token", static_cast<std::int64_t>(*token));
    show(Json(std::move(line)));
  };
  if (!a_.json && !a_.no_echo) show(echo_);

  const Stopwatch reading;
  const std::size_t read = read_prompt(model, prompt);
  const double read_seconds = reading.seconds();

  double first_seconds = 0;
  const Stopwatch writing;
  while (text.reason().empty() && job::interrupted == 0) {
    const Token token = model.next();
    const std::string shown = text.take(token);
    show_text(shown, token);
    if (text.tokens() == 1) first_seconds = a_.started.seconds();
  }
  const double write_seconds = writing.seconds();
  if (text.reason().empty()) {
    const std::string rest = text.finish("interrupted");
    if (!rest.empty()) show_text(rest, {});
  }
  const auto counts = model.counts();
  if (a_.json) {
    Json::Object last = ending(text, read);
    if (counts) {
      last.emplace_back("drafted", counts->drafted);
      last.emplace_back("accepted", counts->accepted);
    }
    if (text.tokens() > 0) last.emplace_back("first_token_seconds", first_seconds);
    last.emplace_back("prompt_tokens_per_second", rate(static_cast<double>(read), read_seconds));
    last.emplace_back("tokens_per_second", rate(static_cast<double>(text.tokens()), write_seconds));
    show(Json(std::move(last)));
  } else {
    show(std::string("\n"));
  }
  save();

  const char* unit = words_.unit();
  if (read < prompt.size())
    std::fprintf(stderr, "interrupted after %zu of %zu %s of the prompt\n", read, prompt.size(),
                 unit);
  if (text.tokens() > 0)
    std::fprintf(stderr, "first %s after %.3f s; ", words_.bytes() ? "byte" : "token",
                 first_seconds);
  std::fprintf(stderr, "prompt: %zu %s, %.0f %s/s; written: %lld %s, %.0f %s/s\n", read, unit,
               rate(static_cast<double>(read), read_seconds), unit,
               static_cast<long long>(text.tokens()), unit,
               rate(static_cast<double>(text.tokens()), write_seconds), unit);
  if (counts)
    std::fprintf(stderr, "drafted: %llu %s in %llu passes, accepted: %llu\n",
                 static_cast<unsigned long long>(counts->drafted), unit,
                 static_cast<unsigned long long>(counts->passes),
                 static_cast<unsigned long long>(counts->accepted));
  return job::interrupted != 0 ? exit_interrupted : 0;
}

int Writing::write_all(WritingModel& model, const std::string& cut) const {
  struct Row {
    std::size_t number;  // of the prompt
    Transcript transcript;
    std::string text;
  };
  std::vector<Row> rows;  // in the order of those of the model
  std::vector<std::optional<Json>> done(prompts_.size());
  std::size_t begun = 0, printed = 0, read = 0;
  std::int64_t written = 0;
  double read_seconds = 0;
  const auto finish = [&](Row& row) {
    Json::Object line{{"text", row.text}};
    for (auto& field : ending(row.transcript, prompts_[row.number].size()))
      line.push_back(std::move(field));
    done[row.number] = Json(std::move(line));
    for (; printed < done.size() && done[printed]; ++printed) {
      print(*done[printed]);
      done[printed].reset();
    }
  };
  const Stopwatch watch;
  if (model.started()) model.mark();
  while (job::interrupted == 0) {
    while (rows.size() < static_cast<std::size_t>(a_.batch) && begun < prompts_.size() &&
           job::interrupted == 0) {
      const Stopwatch reading;
      model.rewind();
      read += read_prompt(model, prompts_[begun]);
      read_seconds += reading.seconds();
      if (job::interrupted != 0) break;
      model.add_row();
      rows.push_back({begun, transcript(prompts_[begun].empty() ? cut : ""), {}});
      ++begun;
    }
    const auto drop_ended = [&] {
      for (std::size_t i = rows.size(); i-- > 0;)
        if (!rows[i].transcript.reason().empty()) {
          finish(rows[i]);
          model.drop_row(i);
          rows.erase(rows.begin() + static_cast<std::ptrdiff_t>(i));
        }
    };
    drop_ended();  // of no tokens
    if (rows.empty() && begun == prompts_.size()) break;
    if (rows.empty()) continue;
    const std::vector<Token> tokens = model.next_of_rows();
    for (std::size_t i = 0; i < rows.size(); ++i)
      rows[i].text += rows[i].transcript.take(tokens[i]);
    written += static_cast<std::int64_t>(rows.size());
    drop_ended();
  }
  for (Row& row : rows) {
    row.text += row.transcript.finish("interrupted");
    finish(row);
  }
  const char* unit = words_.unit();
  std::fprintf(stderr, "%zu of %zu prompts: %zu %s, %.0f %s/s; written: %lld %s, %.0f %s/s\n",
               printed, prompts_.size(), read, unit, rate(static_cast<double>(read), read_seconds),
               unit, static_cast<long long>(written), unit,
               rate(static_cast<double>(written), watch.seconds() - read_seconds), unit);
  return job::interrupted != 0 ? exit_interrupted : 0;
}

}  // namespace generate
