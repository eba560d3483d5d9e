// Language models, from any text file to a model of its bytes, or of tokens learnt from it, that
// writes, and published ones with their tokenizers:
//
//   mamba_lm train    --text book.txt --out model
//   mamba_lm eval     --text book.txt --model model
//   mamba_lm generate --model model --prompt "In the beginning"
//   mamba_lm quantize --model model --out model-q8 --format q8
//   mamba_lm tokenize --model folder-with-tokenizer.json < text
//   mamba_lm serve    --model model
//
// and with the text cut over processes, on one machine or many:
//
//   mpirun -n 4 mamba_lm train --text book.txt --out model --length 4096

#include "ssm/models/mamba_lm.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "generate.hpp"
#include "job.hpp"
#include "model_words.hpp"
#include "options.hpp"
#include "progress.hpp"
#include "quantize.hpp"
#include "serve.hpp"
#include "ssm/models/drafts.hpp"
#include "ssm/train/trainer.hpp"
#include "text_models.hpp"
#include "text_place.hpp"
#include "text_run.hpp"
#include "text_scoring.hpp"
#include "text_tokens.hpp"
#include "writing_model.hpp"

namespace {

using job::exit_interrupted;
using job::format;
using job::Stopwatch;
using options::between;
using text_place::Place;
using text_scoring::bits_per_nat;
using text_scoring::Bytes;
using text_scoring::Text;

struct EvaluateArguments {
  std::string model, text;
  double held_out = 0.1;
  std::size_t prime = 0;  ///< KiB
  double adapt = 0;
  int threads = 0;
};

template <class Model>
int evaluate(Place& place, const EvaluateArguments& a, const Model& model) {
  const generate::ModelWords words(a.model, "");
  words.check(model.config.vocab);
  place.use(a.threads, 0);
  const Text text(a.text, a.held_out);
  const Bytes held_out = text.held_out();
  if (held_out.empty()) throw std::runtime_error(a.text + ": nothing is held out of it");
  const std::size_t prime = std::min(text.split, a.prime * 1024);  // bytes
  const text_scoring::Reading reading(text.all().subspan(text.split - prime), words.tokenizer(),
                                      prime);
  const std::size_t tokens = reading.text().size() - reading.prime();
  const double bytes_per_token = static_cast<double>(held_out.size()) / static_cast<double>(tokens);
  place.wait_for_all(format(
      "%zu %zu %zu %zu %.17g, %lld parameters", std::hash<std::string>()(text.bytes), text.split,
      prime, reading.text().size(), a.adapt, static_cast<long long>(parameter_count(model))));
  job::end_in_order_on_interrupt();
  Progress progress(words.bytes() ? "byte" : "token",
                    static_cast<std::int64_t>(tokens - (prime == 0 ? 1 : 0)));
  const Stopwatch watch;
  // One that goes on learning (dynamic evaluation, Krause et al. 2018). A long memory of how large
  // gradients are: a piece alone is a noisy measure.
  ssm::Trainer<Model> learner;
  if (a.adapt > 0)
    learner = ssm::Trainer<Model>(model, {.schedule = {.peak = a.adapt, .final_fraction = 1},
                                          .adamw = {.beta2 = 0.999, .weight_decay = 0}});
  const double bits = place.bits(
      model, a.adapt > 0 ? &learner : nullptr, reading.text(), reading.prime(),
      [&](std::size_t done, double nats) {
        if (place.first() && done > 0)
          progress.update(
              static_cast<std::int64_t>(done),
              format("%.4f bits/byte",
                     nats * bits_per_nat / (static_cast<double>(done) * bytes_per_token)));
        return !place.interrupted();
      });
  progress.finish();
  if (place.interrupted()) return exit_interrupted;
  if (!place.first()) return 0;
  const auto read = static_cast<double>(prime + held_out.size());
  std::printf("%.4f bits/byte over the last %zu of %zu bytes, %.0f bytes/s\n",
              bits / static_cast<double>(held_out.size()), held_out.size(), text.bytes.size(),
              read / watch.seconds());
  return 0;
}

void add_evaluate(options::Command& app, EvaluateArguments& a) {
  const auto add = [&](const char* name, auto& value, double most, const char* what) {
    app.add(name, value, what).check(between(0, most)).show_default();
  };
  app.add("--model", a.model, "directory or safetensors file").required();
  app.add("--text", a.text, "file to measure on").required();
  add("--held-out", a.held_out, 1, "part of the text, at its end, that is measured");
  add("--prime", a.prime, 1e12, "KiB before the measured part that are read first");
  add("--adapt", a.adapt, 1,
      "learning rate at which the model goes on learning from what it has predicted, as "
      "compressors "
      "do; 0: it does not");
  add("--threads", a.threads, 4096, "0: all");
}

void add_running(options::Command& app, text_models::Running& how) {
  app.add("--format", how.format,
          "of the matrices: f32, f16, bf16, q8, q4; when not given that of the file")
      .one_of({"f32", "f16", "bf16", "q8", "q4"});
  app.flag("--resident", how.resident,
           "copy the matrices into large pages: starts later, writes faster");
}

void add_generate(options::Command& app, generate::Arguments& a, int& threads) {
  const auto add = [&](const char* name, auto& value, double least, double most,
                       const char* what = "") {
    return app.add(name, value, what).check(between(least, most));
  };
  const auto shown = [&](const char* name, auto& value, double least, double most,
                         const char* what = "") {
    add(name, value, least, most, what).show_default();
  };
  auto& s = a.sampling;
  app.add("--model", a.model, "directory or safetensors file").required();
  app.add("--tokenizer", a.tokenizer,
          "a tokenizer.json; when not given that in the model's directory, or bytes");
  auto prompt = app.add("--prompt", a.prompt, "text to go on from");
  auto file = app.add("--prompt-file", a.prompt_file,
                      "file with that text; -, and when nothing is given: standard input");
  app.add("--prompts", a.prompts,
          "file of many prompts, a JSON text a line, each written on from alone")
      .excludes(prompt)
      .excludes(file);
  prompt.excludes(file);
  shown("--batch", a.batch, 1, 4096, "of so many of these at once");
  app.add("--speculate", a.speculate,
          "draft tokens that are checked many at once: lookup, by what followed the same words "
          "before; or a directory or file of a small model of the same vocabulary");
  shown("--drafts", a.drafts, 1, 1024, "of so many at once at most");
  app.flag("--no-echo", a.no_echo, "do not print the prompt");
  app.flag("--json", a.json, "a JSON object a line: text and token, at the end reason and counts");
  add("--tokens,--bytes", a.tokens, 0, 1e15,
      "how many to write at most; when not given 256, or 1000 of bytes");
  app.add("--stop", a.stops, "text to end before; may be given several times").one_at_a_time();
  app.flag("--past-end", a.past_ends, "go on after a token that ends a text");
  app.add("--state", a.state, "file with a state to go on from");
  app.add("--save-state", a.save_state, "file to save the state to at the end");
  app.flag("--overwrite", a.overwrite, "replace a state that is there");
  shown("--temperature", s.temperature, 0, 1e9, "0: always the likeliest");
  shown("--top-k", s.top_k, 0, 1e9, "0: all");
  shown("--top-p", s.top_p, 1e-9, 1);
  shown("--min-p", s.min_p, 0, 1, "only those so likely beside the likeliest");
  add("--repetition-penalty", a.repetition_penalty, 1, 1e9, "when not given 1.2, or 1 of bytes");
  shown("--repetition-window", s.repetition_window, 0, 1e6);
  shown("--seed", s.seed, 0, 1.8e19);
  shown("--threads", threads, 0, 4096, "0: all");
}

int run(int argc, char** argv, Place& place) {
  options::Command app("Language models: Mamba, attention, S4D, or layers of several");
  text_run::Arguments train_arguments;
  EvaluateArguments evaluate_arguments;
  generate::Arguments generate_arguments;
  int generate_threads = 0;
  train_arguments.called = argv[0];
  options::Command train_command = app.command("train", "learn from a text");
  options::Command evaluate_command = app.command("eval", "measure bits per byte");
  options::Command generate_command = app.command("generate", "write after a prompt");
  options::Command tokenize_command = app.command("tokenize", "text on standard input to tokens");
  options::Command serve_command = app.command("serve", "answer calls for completions over HTTP");
  options::Command quantize_command =
      app.command("quantize", "write a model with fewer bits a weight");
  text_run::add_options(train_command, train_arguments);
  add_evaluate(evaluate_command, evaluate_arguments);
  text_models::Running running;
  add_generate(generate_command, generate_arguments, generate_threads);
  add_running(generate_command, running);
  text_tokens::Arguments tokenize_arguments;
  tokenize_command.add("--model", tokenize_arguments.model, "directory, or its tokenizer.json")
      .required();
  tokenize_command.flag("--json", tokenize_arguments.json, "a JSON text a line, a list a line");
  tokenize_command.flag("--plain", tokenize_arguments.plain, "no tokens around a text");
  serve::Arguments serve_arguments;
  serve::add_options(serve_command, serve_arguments);
  add_running(serve_command, running);
  quantize::Arguments quantize_arguments;
  quantize::add_options(quantize_command, quantize_arguments);
  if (const auto ended = app.parse(argc, argv, !place.first())) return *ended;
  if (evaluate_command.parsed())
    return text_models::with_model(evaluate_arguments.model, [&](const auto& model) {
      return evaluate(place, evaluate_arguments, model);
    });
  if (generate_command.parsed()) {
    if (place.size() > 1)
      throw std::runtime_error("generate writes a token after the other: it runs without mpirun");
    const generate::Writing writing(generate_arguments);
    const ssm::Cpu backend = ssm::cpu(generate_threads);
    const generate::Arguments& a = generate_arguments;
    std::optional<ssm::AnyDrafter> drafter;
    if (a.speculate == "lookup")
      drafter = writing.lookup();
    else if (!a.speculate.empty())
      (void)text_models::with_running_model(a.speculate, {}, backend, [&](auto model) {
        drafter = ssm::DraftModel(std::move(model), backend);
        return 0;
      });
    return text_models::with_running_model(a.model, running, backend, [&](auto model) {
      const ssm::SamplingOptions sampling = writing.sampling(model.config.vocab);
      return writing.run(drafter
                             ? *generate::speculating_model(std::move(model), std::move(*drafter),
                                                            sampling, a.drafts, backend)
                             : *generate::writing_model(std::move(model), sampling, backend));
    });
  }
  if (serve_command.parsed()) {
    if (place.size() > 1) throw std::runtime_error("serve runs without mpirun");
    serve::require_http();
    return text_models::with_running_model(
        serve_arguments.model, running, ssm::cpu(serve_arguments.threads),
        [&](auto model) { return serve::run(serve_arguments, std::move(model)); });
  }
  if (quantize_command.parsed()) return place.first() ? quantize::run(quantize_arguments) : 0;
  if (tokenize_command.parsed())
    return place.first() ? text_tokens::tokenize(tokenize_arguments) : 0;
  return text_run::train_or_resume(app, argc, argv, place, train_arguments);
}

}  // namespace

int main(int argc, char** argv) {
  return text_place::main(argc, argv, [&](Place& place) { return run(argc, argv, place); });
}
