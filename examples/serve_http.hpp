#pragma once

#include <cstddef>
#include <string>

#include "serve_calls.hpp"
#include "serve_streams.hpp"

/// The HTTP server of `mamba_lm serve`.
namespace serve {

struct HttpOptions {
  std::string host = "127.0.0.1", model;
  int port = 8080;  ///< 0: any that is free
  Limits limits;
  ssm::SamplingOptions sampling;  ///< of calls that do not say
  std::size_t connections = 2048;
  double idle = 30;      ///< seconds without a byte from or to a client
  double drain = 30;     ///< seconds for which streams go on after SIGTERM
  double seconds = 600;  ///< for one call
  std::size_t most_running = 0, state_bytes = 0, streams_that_fit = 0;
};

/// Whether this program was built with an HTTP library.
bool has_http();

/// Serves until the program is asked to end, and then until all streams have ended or their time is
/// over. @throws std::runtime_error where the port cannot be had
void serve_http(StreamQueue& queue, const Words& words, const HttpOptions& options);

/// The page that is at /.
extern const char* const page;

}  // namespace serve
