#include "serve.hpp"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <stdexcept>

#include "job.hpp"
#include "serve_http.hpp"

namespace serve {

void add_options(options::Command& app, Arguments& a) {
  const auto add = [&](const char* name, auto& value, double least, double most,
                       const char* what = "") {
    app.add(name, value, what).check(options::between(least, most)).show_default();
  };
  app.add("--model", a.model, "directory or safetensors file").required();
  app.add("--name", a.name, "of the model, for those who call; that of its folder when not given");
  app.add("--host", a.host, "address to listen on; others than this one let anybody in")
      .show_default();
  add("--port", a.port, 0, 65535, "0: any that is free");
  add("--threads", a.threads, 0, 4096, "0: all");
  app.add("--chat", a.chat, "how a chat becomes a text; auto: as tokenizer_config.json says")
      .one_of({"auto", "plain", "chatml", "zephyr"})
      .show_default();
  add("--temperature", a.sampling.temperature, 0, 100, "where a call does not say; so the next");
  add("--top-k", a.sampling.top_k, 0, 1e9, "0: all");
  add("--top-p", a.sampling.top_p, 1e-9, 1);
  add("--min-p", a.sampling.min_p, 0, 1);
  add("--repetition-penalty", a.sampling.repetition_penalty, 1, 100);
  add("--max-tokens", a.max_tokens, 1, 1e9, "that an answer may have");
  add("--max-prompt", a.max_prompt, 1, 1e9, "tokens");
  add("--max-body", a.max_body, 1, 1e9, "bytes of a call");
  add("--max-streams", a.max_streams, 1, 1e6, "that run at once");
  add("--max-waiting", a.max_waiting, 0, 1e6, "streams that wait until there is room");
  add("--max-connections", a.max_connections, 1, 1e5, "each with a thread");
  app.add("--memory", a.memory, "bytes of the streams that run, such as 2G").bytes();
  add("--seconds", a.seconds, 0.001, 1e9, "that an answer may take, waiting included");
  add("--idle", a.idle, 0.001, 1e9, "seconds without a byte after which a client is left alone");
  add("--drain", a.drain, 0, 1e9, "seconds for which answers go on after SIGTERM");
}

void require_http() {
  if (!has_http())
    throw std::runtime_error(
        "serve needs cpp-httplib (Debian: libcpp-httplib-dev), and this program was built without "
        "it");
}

int run(const Arguments& a, Streams& streams) {
  std::filesystem::path folder = std::filesystem::absolute(a.model).lexically_normal();
  if (!folder.has_filename()) folder = folder.parent_path();
  const std::filesystem::path name =
      std::filesystem::is_directory(folder) ? folder.filename() : folder.stem();
  const Words words(a.model, streams.vocab(), a.chat);
  const std::size_t bytes = streams.bytes_each(), fit = a.memory / bytes;
  if (fit == 0) throw std::runtime_error(job::format("--memory: a stream takes %zu bytes", bytes));

  HttpOptions http{.host = a.host,
                   .model = a.name.empty() ? name.string() : a.name,
                   .port = a.port,
                   .limits = {.body = a.max_body, .prompt = a.max_prompt, .tokens = a.max_tokens},
                   .sampling = a.sampling,
                   .connections = a.max_connections,
                   .idle = a.idle,
                   .drain = a.drain,
                   .seconds = a.seconds,
                   .most_running = std::min(a.max_streams, fit),
                   .state_bytes = bytes,
                   .streams_that_fit = fit};
  StreamQueue queue(streams, words,
                    {.running = http.most_running, .waiting = a.max_waiting, .seconds = a.seconds});
  std::fprintf(stderr,
               "model %s: %zu bytes a stream, however long it becomes; %zu streams fit into %.3g "
               "GB, %zu run at once\n",
               http.model.c_str(), bytes, fit, static_cast<double>(a.memory) / 1e9,
               http.most_running);
  job::end_in_order_on_interrupt();
  serve_http(queue, words, http);
  queue.stop();
  const StreamQueue::Counts counts = queue.counts();
  std::fprintf(stderr, "ended: %llu answers, %llu tokens\n",
               static_cast<unsigned long long>(counts.answered),
               static_cast<unsigned long long>(counts.written));
  return 0;
}

}  // namespace serve
