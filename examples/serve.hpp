#pragma once

#include <memory>
#include <string>
#include <utility>

#include "options.hpp"
#include "serve_streams.hpp"
#include "ssm/models/sampling.hpp"

/// A language model behind the usual HTTP interface for completions and chats.
namespace serve {

struct Arguments {
  std::string model, name, host = "127.0.0.1", chat = "auto";
  int port = 8080, threads = 0;
  ssm::SamplingOptions sampling{.temperature = 0.7, .min_p = 0.05};  // as generate draws
  std::size_t max_tokens = 4096, max_prompt = 65536, max_body = 1 << 20, max_streams = 256,
              max_waiting = 1024, max_connections = 2048, memory = std::size_t{1} << 30;
  double seconds = 600, idle = 30, drain = 30;
};

void add_options(options::Command& command, Arguments& arguments);

/// Throws where this program cannot serve, before a model is read.
void require_http();

/// Serves until the program is asked to end.
int run(const Arguments& arguments, Streams& streams);

template <class Layer>
int run(const Arguments& arguments, ssm::LanguageModel<Layer> model) {
  StreamsOf<Layer> streams(std::move(model), ssm::cpu(arguments.threads));
  return run(arguments, static_cast<Streams&>(streams));
}

}  // namespace serve
