#include "serve_http.hpp"

#include <stdexcept>

#ifdef SSM_EXAMPLES_HTTP

#include <httplib.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <memory>
#include <mutex>
#include <set>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include "job.hpp"
#include "ssm/io/json.hpp"

namespace serve {
namespace {

using ssm::Json;

Clock::duration seconds(double count) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(count));
}

/// What a client has done with its side of a connection.
enum class Peer { there, half_closed, gone };

/// A connection, whose reads and writes end in time. The library's own wait by select(), which ends
/// at 1024 files.
class Connection final : public httplib::Stream {
 public:
  Connection(int file, double idle) : file_(file), idle_(seconds(idle)) {}

  /// Waits for the first byte of a request. False when none came in time, or `given_up` says so.
  template <class GivenUp>
  bool wait_for_request(double limit, const GivenUp& given_up) {
    const auto until = Clock::now() + seconds(limit);
    while (Clock::now() < until && !given_up())
      if (!held_.empty() || wait(POLLIN, std::chrono::milliseconds(200))) return true;
    return false;
  }
  /// From here on, so many bytes may be read, and until then.
  void allow(std::size_t bytes, double limit) {
    budget_ = bytes;
    deadline_ = Clock::now() + seconds(limit);
  }
  [[nodiscard]] Peer peer() const {
    pollfd file{file_, POLLIN, 0};
#ifdef POLLRDHUP
    file.events |= POLLRDHUP;
#endif
    if (poll(&file, 1, 0) <= 0) return Peer::there;
    if ((file.revents & (POLLERR | POLLHUP | POLLNVAL)) != 0) return Peer::gone;
#ifdef POLLRDHUP
    return (file.revents & POLLRDHUP) != 0 ? Peer::half_closed : Peer::there;
#else
    char byte = 0;
    return recv(file_, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0 ? Peer::half_closed : Peer::there;
#endif
  }
  /// Says that nothing more comes, and reads what the client still sends, so that what it was sent
  /// is not lost with the connection.
  void linger() {
    ::shutdown(file_, SHUT_WR);
    allow(std::size_t{1} << 20, 1);
    char bytes[4096];
    while (read(bytes, sizeof(bytes)) > 0) continue;
  }

  ///@{
  /// What the library calls, the last three in later versions of it.
  bool is_readable() const { return true; }
  bool is_writable() const { return !failed_; }
  ssize_t read(char* bytes, size_t size) {
    if (held_.empty()) {  // the library reads byte by byte
      const auto left = std::min<Clock::duration>(idle_, deadline_ - Clock::now());
      if (budget_ == 0 || !wait(POLLIN, left)) return -1;
      const ssize_t got = recv(file_, buffer_, sizeof(buffer_), 0);
      if (got <= 0) return got;
      held_ = {buffer_, static_cast<std::size_t>(got)};
    }
    size = std::min({size, budget_, held_.size()});
    if (size == 0) return -1;
    std::memcpy(bytes, held_.data(), size);
    held_.remove_prefix(size);
    budget_ -= size;
    return static_cast<ssize_t>(size);
  }
  ssize_t write(const char* bytes, size_t size) {
    if (size == 0) return 0;
    while (!failed_ && wait(POLLOUT, std::min<Clock::duration>(idle_, deadline_ - Clock::now()))) {
      const ssize_t sent = send(file_, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent >= 0) return sent;
      if (errno != EAGAIN && errno != EINTR) break;
    }
    failed_ = true;
    return -1;
  }
  void get_remote_ip_and_port(std::string&, int&) const {}
  void get_local_ip_and_port(std::string&, int&) const {}
  socket_t socket() const { return file_; }
  bool wait_readable() const { return true; }
  bool wait_writable() const { return !failed_; }
  time_t duration() const { return 0; }
  ///@}

  bool close_after = false;

 private:
  /// Whether the file is ready; false when the time is over.
  bool wait(short events, Clock::duration limit) const {
    const auto until = Clock::now() + limit;
    for (;;) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
      if (left <= 0) return false;
      pollfd file{file_, events, 0};
      const int ready = poll(&file, 1, static_cast<int>(std::min<long long>(left, 1000000)));
      if (ready > 0) return true;
      if (ready < 0 && errno != EINTR) return false;
    }
  }

  int file_;
  Clock::duration idle_;
  char buffer_[4096];
  std::string_view held_;  // of the buffer, not read yet
  std::size_t budget_ = 0;
  Clock::time_point deadline_;
  bool failed_ = false;
};

/// The one that this thread serves.
thread_local Connection* connection = nullptr;

class HttpServer final : public httplib::Server {
 public:
  HttpServer(StreamQueue& queue, const Words& words, const HttpOptions& options)
      : queue_(queue), words_(words), options_(options) {
    set_keep_alive_max_count(1000);  // what clients are told
    set_routes();
  }
  ~HttpServer() override {
    if (const int file = svr_sock_.exchange(INVALID_SOCKET); file != INVALID_SOCKET) close(file);
  }

  void bind();
  void run();

 private:
  static constexpr std::size_t head_bytes = 1 << 16;  // of a request before its body

  void set_routes();
  HandlerResponse before_route(const httplib::Request& request, httplib::Response& response);
  void answer_call(bool chat, const httplib::Request& request, httplib::Response& response,
                   const httplib::ContentReader& reader);
  void answer_whole(const std::shared_ptr<Answer>& answer, const AnswerWriter& writer,
                    bool old_http, httplib::Response& response);
  void answer_stream(const std::shared_ptr<Answer>& answer, const AnswerWriter& writer,
                     bool old_http, httplib::Response& response);
  [[nodiscard]] std::string health() const;

  void accept_one();
  void serve_connection(int file, bool refuses);
  bool process_and_close_socket(socket_t file) override {
    close(file);  // `serve_connection` does that work
    return false;
  }
  /// The library's work on one request, in the form that its version has.
  template <class Self, class Setup>
  static bool process(Self& self, Connection& c, bool& closed, const Setup& setup) {
    if constexpr (requires { self.process_request(c, false, closed, setup); })
      return self.process_request(c, false, closed, setup);
    else
      return self.process_request(c, std::string(), 0, std::string(), 0, false, closed, setup);
  }

  StreamQueue& queue_;
  const Words& words_;
  HttpOptions options_;
  std::atomic<bool> draining_{false};
  std::mutex parsing_;  // a body takes many times its size while it is read

  /// The connections, which the last of their threads outlives the server with.
  struct Open {
    std::mutex mutex;
    std::condition_variable all_closed;
    std::set<int> files;
    std::size_t threads = 0;
  };
  std::shared_ptr<Open> open_ = std::make_shared<Open>();
};

void send_error(httplib::Response& response, const Refusal& refusal) {
  response.status = refusal.status;
  if (refusal.status == 429 || refusal.status == 503) response.set_header("Retry-After", "1");
  response.set_content(
      error_json(refusal.status, refusal.what(), refusal.param, refusal.code) + "\n",
      "application/json");
}

/// What is not read to its end leaves no place for another request.
void close_after(httplib::Response& response) {
  connection->close_after = true;
  response.set_header("Connection", "close");
}

bool is_number(const std::string& text) {
  return !text.empty() && text.size() < 19 &&
         text.find_first_not_of("0123456789") == std::string::npos;
}

const char* methods_of(const std::string& path) {
  if (path == "/v1/completions" || path == "/v1/chat/completions") return "POST";
  if (path == "/" || path == "/health" || path == "/v1/models" ||
      (path.starts_with("/v1/models/") && path.size() < 256))
    return "GET, HEAD";
  return nullptr;
}

void HttpServer::set_routes() {
  set_pre_routing_handler(
      [this](const auto& request, auto& response) { return before_route(request, response); });
  // Refusals of the library itself have no words yet.
  set_error_handler([](const auto&, auto& response) {
    if (!response.body.empty()) return;
    const int status = response.status;
    send_error(response, Refusal(status, status == 413   ? "the body is too long"
                                         : status == 414 ? "the target is too long"
                                                         : "the request is no good HTTP"));
    close_after(response);
  });
  set_exception_handler([](const auto&, auto& response, std::exception_ptr error) {
    try {
      std::rethrow_exception(error);
    } catch (const Refusal& refusal) {
      send_error(response, refusal);
    } catch (const std::exception& other) {
      send_error(response, Refusal(500, other.what()));
    }
    close_after(response);
  });
  const auto post = [this](const char* path, bool chat) {
    Post(path, [this, chat](const httplib::Request& request, httplib::Response& response,
                            const httplib::ContentReader& reader) {
      answer_call(chat, request, response, reader);
    });
  };
  post("/v1/completions", false);
  post("/v1/chat/completions", true);
  Get("/", [](const auto&, auto& response) {
    response.set_header("Content-Security-Policy",
                        "default-src 'none'; style-src 'unsafe-inline'; script-src "
                        "'unsafe-inline'; connect-src 'self'");
    response.set_content(page, "text/html; charset=utf-8");
  });
  Get("/health", [this](const auto&, auto& response) {
    response.status = draining_ ? 503 : 200;
    response.set_content(health() + "\n", "application/json");
  });
  const auto model = [this] {
    return Json(Json::Object{{"id", options_.model},
                             {"object", "model"},
                             {"created", std::uint64_t{0}},
                             {"owned_by", "local"}});
  };
  Get("/v1/models", [model](const auto&, auto& response) {
    const Json list = Json::Object{{"object", "list"}, {"data", Json::Array{model()}}};
    response.set_content(list.text() + "\n", "application/json");
  });
  Get("/v1/models/.+", [this, model](const auto& request, auto& response) {
    if (request.path != "/v1/models/" + options_.model)
      return send_error(response,
                        Refusal(404, "there is no such model", "model", "model_not_found"));
    response.set_content(model().text() + "\n", "application/json");
  });
}

/// Refuses, before a body is read, what cannot be answered.
HttpServer::HandlerResponse HttpServer::before_route(const httplib::Request& request,
                                                     httplib::Response& response) {
  const auto refuse = [&](int status, const std::string& message, const char* code = "") {
    send_error(response, Refusal(status, message, "", code));
    close_after(response);
    return HandlerResponse::Handled;
  };
  const bool post = request.method == "POST", chunked = request.has_header("Transfer-Encoding"),
             counted = request.has_header("Content-Length");
  const std::string size = request.get_header_value("Content-Length");
  if (request.get_header_value_count("Content-Length") > 1 || (counted && !is_number(size)) ||
      (chunked && counted) ||
      (chunked && request.get_header_value("Transfer-Encoding") != "chunked"))
    return refuse(400, "the length of the body is not clear");
  const char* methods = methods_of(request.path);
  if (methods == nullptr) return refuse(404, "there is nothing at this path", "not_found");
  if (std::string(methods).find(request.method) == std::string::npos) {
    response.set_header("Allow", methods);
    return refuse(405, std::string("the method is ") + request.method + ", expected " + methods);
  }
  if (!post && (chunked || (counted && size != "0")))
    return refuse(400, "a body came where none is expected");
  if (!post) return HandlerResponse::Unhandled;

  if (draining_) return refuse(503, "the server is about to end", "shutting_down");
  const std::string type = request.get_header_value("Content-Type");
  if (type.substr(0, type.find_first_of("; ")) != "application/json")
    return refuse(
        415, "the content type is " + ssm::detail::in_quotes(type) + ", expected application/json");
  if (const std::string coding = request.get_header_value("Content-Encoding");
      !coding.empty() && coding != "identity")
    return refuse(415, "the body is encoded, expected plain JSON");
  if (!chunked && !counted) return refuse(411, "the length of the body is missing");
  if (counted && std::stoull(size) > options_.limits.body)
    return refuse(413, "the body has " + size + " bytes, expected at most " +
                           std::to_string(options_.limits.body));
  connection->allow(head_bytes + 2 * options_.limits.body, options_.idle);  // pieces have heads too
  return HandlerResponse::Unhandled;
}

void HttpServer::answer_call(bool chat, const httplib::Request& request,
                             httplib::Response& response, const httplib::ContentReader& reader) {
  std::string body;
  bool fits = true;
  const bool whole = reader([&](const char* bytes, size_t size) {
    fits = body.size() + size <= options_.limits.body;
    if (fits) body.append(bytes, size);
    return fits;
  });
  connection->allow(0, options_.idle);  // for a refusal
  if (!fits)
    throw Refusal(413,
                  "the body is longer than " + std::to_string(options_.limits.body) + " bytes");
  if (!whole) throw Refusal(408, "the body did not come whole, or not in time");

  std::shared_ptr<Answer> answer;
  try {
    Call call = [&] {
      const std::lock_guard lock(parsing_);
      return read_call(chat, body, options_.model, words_, options_.limits, options_.sampling);
    }();
    body = {};
    answer = queue_.submit(std::move(call));
  } catch (const Refusal& refusal) {  // after which the connection is as good as before
    return send_error(response, refusal);
  }
  connection->allow(0, options_.seconds + options_.idle);
  const AnswerWriter writer(answer->call, options_.model, std::time(nullptr));
  const bool old_http = request.version != "HTTP/1.1";
  if (old_http) close_after(response);
  if (answer->call.stream)
    answer_stream(answer, writer, old_http, response);
  else
    answer_whole(answer, writer, old_http, response);
}

/// What a part of an answer was so far.
struct Progress {
  bool all_ended = true, any_text = false;
  Usage usage;
};
/// Call with the answer locked.
Progress progress_of(const Answer& answer) {
  Progress progress;
  for (const auto& prompt : answer.call.prompts) progress.usage.prompt += prompt.size();
  for (const auto& choice : answer.choices) {
    progress.all_ended = progress.all_ended && choice.finish != Finish::none;
    progress.any_text = progress.any_text || !choice.text.empty();
    progress.usage.written += choice.written;
  }
  return progress;
}

/// Waits a moment, or until `ready`. Returns what the client does meanwhile.
template <class Ready>
Peer wait_for(Answer& answer, const Ready& ready) {
  std::unique_lock lock(answer.mutex);
  answer.changed.wait_for(lock, std::chrono::milliseconds(250), ready);
  return ready() ? Peer::there : connection->peer();
}

/// Gives a response a body that `provide(sink)` writes, and that ends the answer with it.
template <class Provide>
void set_body(httplib::Response& response, const char* type, bool old_http, StreamQueue& queue,
              const std::shared_ptr<Answer>& answer, Provide provide) {
  const auto provider = [provide](size_t, httplib::DataSink& sink) mutable {
    return provide(sink);
  };
  const auto end = [&queue, answer](bool) {
    answer->left = true;
    queue.wake();
  };
  if (old_http)
    response.set_content_provider(type, provider, end);
  else
    response.set_chunked_content_provider(type, provider, end);
}

bool send(httplib::DataSink& sink, const std::string& text) {
  return text.empty() || (sink.write(text.data(), text.size()) && sink.is_writable());
}

void HttpServer::answer_whole(const std::shared_ptr<Answer>& answer, const AnswerWriter& writer,
                              bool old_http, httplib::Response& response) {
  const auto ended = [answer] { return answer->failure != 0 || progress_of(*answer).all_ended; };
  const auto text = [answer, writer] {
    std::vector<Part> parts;
    for (std::size_t i = 0; i < answer->choices.size(); ++i)
      parts.push_back({i, answer->call.echoes[i / answer->call.choices] + answer->choices[i].text,
                       answer->choices[i].finish});
    return writer.whole(parts, progress_of(*answer).usage) + "\n";
  };
  Peer peer = Peer::there;
  for (;;) {
    peer = wait_for(*answer, ended);
    if (peer != Peer::there) break;
    const std::lock_guard lock(answer->mutex);
    if (!ended()) continue;
    answer->left = true;  // of several choices one may have failed
    if (answer->failure != 0) return send_error(response, Refusal(answer->failure, answer->why));
    return response.set_content(text(), "application/json");
  }
  if (peer == Peer::gone) {
    answer->left = true;
    queue_.wake();
    return close_after(response);
  }
  // Whether it closed one half of the connection or all of it shows when something is sent: blanks,
  // which may stand before any JSON.
  set_body(response, "application/json", old_http, queue_, answer,
           [answer, ended, text](httplib::DataSink& sink) {
             wait_for(*answer, ended);
             std::string whole = " ";
             bool over = false;
             {
               const std::lock_guard lock(answer->mutex);
               over = ended();
               if (over)
                 whole = answer->failure != 0 ? error_json(answer->failure, answer->why) : text();
             }
             if (!send(sink, whole)) return false;
             if (over) sink.done();
             return true;
           });
}

void HttpServer::answer_stream(const std::shared_ptr<Answer>& answer, const AnswerWriter& writer,
                               bool old_http, httplib::Response& response) {
  const auto ready = [answer] {
    const Progress progress = progress_of(*answer);
    return answer->failure != 0 || progress.any_text || progress.all_ended;
  };
  // As long as nothing was sent, a failure has a status.
  while (wait_for(*answer, ready) == Peer::there) {
    const std::lock_guard lock(answer->mutex);
    if (answer->failure != 0) {
      answer->left = true;
      return send_error(response, Refusal(answer->failure, answer->why));
    }
    if (ready()) break;
  }
  response.set_header("Cache-Control", "no-cache");
  response.set_header("X-Accel-Buffering", "no");
  std::string before = writer.first(answer->choices.size());
  for (std::size_t i = 0; i < answer->choices.size(); ++i)
    if (const std::string& echo = answer->call.echoes[i / answer->call.choices]; !echo.empty())
      before += writer.event({i, echo});
  set_body(response, "text/event-stream", old_http, queue_, answer,
           [this, answer, writer, ready, before,
            told = std::vector<bool>(answer->choices.size())](httplib::DataSink& sink) mutable {
             std::string events = std::exchange(before, "");
             const Peer peer = events.empty() ? wait_for(*answer, ready) : Peer::there;
             if (peer == Peer::gone) return false;
             if (peer == Peer::half_closed) events = ":\n\n";  // a comment, to see whether it reads
             bool over = false, fetched = false;
             {
               const std::lock_guard lock(answer->mutex);
               for (std::size_t i = 0; i < told.size(); ++i) {
                 Answer::Choice& choice = answer->choices[i];
                 fetched = fetched || !choice.text.empty();
                 if (!choice.text.empty())
                   events += writer.event({i, std::exchange(choice.text, "")});
                 if (choice.finish == Finish::none || choice.finish == Finish::failed || told[i])
                   continue;
                 events += writer.event({i, "", choice.finish});
                 told[i] = true;
               }
               const Progress progress = progress_of(*answer);
               over = answer->failure != 0 || progress.all_ended;
               if (answer->failure != 0)
                 events += "data: " + error_json(answer->failure, answer->why) + "\n\n";
               if (over) events += writer.last(progress.usage);
             }
             if (!send(sink, events)) return false;
             if (fetched && !over) queue_.wake();
             if (over) sink.done();
             return true;
           });
}

std::string HttpServer::health() const {
  const StreamQueue::Counts now = queue_.counts();
  const Json json = Json::Object{
      {"status", draining_ ? "draining" : "ok"},
      {"model", options_.model},
      {"streams", Json::Object{{"running", std::uint64_t{now.running}},
                               {"reading_their_prompt", std::uint64_t{now.reading}},
                               {"suspended", std::uint64_t{now.suspended}},
                               {"waiting", std::uint64_t{now.waiting}},
                               {"most_running", std::uint64_t{options_.most_running}}}},
      {"bytes_of_state_a_stream", std::uint64_t{options_.state_bytes}},
      {"streams_that_fit", std::uint64_t{options_.streams_that_fit}},
      {"tokens_written", now.written},
      {"answers", now.answered}};
  return json.text();
}

void HttpServer::bind() {
  addrinfo hints{}, *found = nullptr;
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  const std::string port = std::to_string(options_.port), place = options_.host + ":" + port;
  if (const int error = getaddrinfo(options_.host.c_str(), port.c_str(), &hints, &found);
      error != 0)
    throw std::runtime_error(place + ": " + gai_strerror(error));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> addresses(found, freeaddrinfo);
  int error = 0;
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    const int file = ::socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);
    const int yes = 1;
    if (file >= 0) setsockopt(file, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    if (file >= 0 && ::bind(file, at->ai_addr, at->ai_addrlen) == 0 && ::listen(file, 1024) == 0) {
      sockaddr_storage address{};
      socklen_t size = sizeof(address);
      char name[16] = "";
      getsockname(file, reinterpret_cast<sockaddr*>(&address), &size);
      getnameinfo(reinterpret_cast<sockaddr*>(&address), size, nullptr, 0, name, sizeof(name),
                  NI_NUMERICSERV);
      options_.port = std::atoi(name);
      svr_sock_ = file;
      return;
    }
    error = errno;
    if (file >= 0) close(file);
  }
  throw std::runtime_error(place + ": cannot be had: " + std::strerror(error));
}

/// Lets this process have a file for each connection, as far as the system allows.
void allow_files(std::size_t count) {
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur >= count) return;
  files.rlim_cur = std::min<rlim_t>(count, files.rlim_max);
  setrlimit(RLIMIT_NOFILE, &files);
}

void HttpServer::run() {
  allow_files(options_.connections + 256);
  const bool in_brackets = options_.host.find(':') != std::string::npos;
  std::fprintf(stderr, "listening on http://%s%s%s:%d\n", in_brackets ? "[" : "",
               options_.host.c_str(), in_brackets ? "]" : "", options_.port);
  const auto accept_for = [&](const auto& goes_on) {
    while (goes_on()) {
      pollfd file{svr_sock_, POLLIN, 0};
      if (poll(&file, 1, 100) > 0) accept_one();
    }
  };
  accept_for([] { return job::interrupted == 0; });

  draining_ = true;
  queue_.refuse_new();
  std::fprintf(stderr, "asked to end: streams go on for at most %g s\n", options_.drain);
  const auto until = Clock::now() + seconds(options_.drain);
  const auto busy = [&] {
    const StreamQueue::Counts now = queue_.counts();
    return now.running + now.suspended + now.waiting > 0;
  };
  accept_for([&] { return busy() && Clock::now() < until; });
  if (busy()) std::fprintf(stderr, "their time is over: streams end where they are\n");
  queue_.end_all();

  // Answers go out; who does not take them in time, or says nothing, is hung up on.
  std::unique_lock lock(open_->mutex);
  const auto none = [&] { return open_->threads == 0; };
  if (!open_->all_closed.wait_for(lock, std::chrono::seconds(2), none))
    for (const int file : open_->files) ::shutdown(file, SHUT_RDWR);
  open_->all_closed.wait(lock, none);
}

void HttpServer::accept_one() {
  const int file = ::accept(svr_sock_, nullptr, nullptr);
  if (file < 0) {
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return;
  }
  constexpr std::size_t to_refuse = 64;  // that are told so
  std::size_t threads = 0;
  {
    const std::lock_guard lock(open_->mutex);
    threads = open_->threads;
    if (threads < options_.connections + to_refuse) {
      ++open_->threads;
      open_->files.insert(file);
    }
  }
  if (threads >= options_.connections + to_refuse) {
    close(file);
    return;
  }
  // What the system holds of an answer is not much, as what waits here is not.
  const int yes = 1, buffer = 1 << 16;
  setsockopt(file, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
  setsockopt(file, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
  const auto end = [file](Open& open) {
    const std::lock_guard lock(open.mutex);
    open.files.erase(file);
    close(file);
    --open.threads;
    open.all_closed.notify_all();
  };
  try {
    std::thread([this, open = open_, end, file, refuses = threads >= options_.connections] {
      serve_connection(file, refuses);
      end(*open);
    }).detach();
  } catch (const std::system_error&) {  // no more threads
    end(*open_);
  }
}

void HttpServer::serve_connection(int file, bool refuses) {
  Connection c(file, options_.idle);
  connection = &c;
  const auto setup = [](httplib::Request& request) {
    request.headers.erase("Accept-Encoding");  // events go out as they come
    request.ranges.clear();
  };
  try {
    for (bool first = true;; first = false) {
      const auto given_up = [&] { return draining_ && !first; };
      if (!c.wait_for_request(first ? options_.idle : 5, given_up)) break;
      if (refuses) {
        const std::string body =
            error_json(503, "there are too many connections; try again later", "", "connections");
        const std::string whole = job::format(
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
            "Retry-After: 1\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
            body.size(), body.c_str());
        c.allow(0, 1);
        c.write(whole.data(), whole.size());
        break;
      }
      c.allow(head_bytes, options_.idle);
      bool closed = false;
      if (!process(*this, c, closed, setup) || closed || c.close_after) break;
    }
    c.linger();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "a connection ends: %s\n", error.what());
  }
  connection = nullptr;
}

}  // namespace

bool has_http() { return true; }

void serve_http(StreamQueue& queue, const Words& words, const HttpOptions& options) {
  HttpServer server(queue, words, options);
  server.bind();
  server.run();
}

}  // namespace serve

#else

bool serve::has_http() { return false; }
void serve::serve_http(StreamQueue&, const Words&, const HttpOptions&) {
  throw std::runtime_error("serve needs cpp-httplib, and this program was built without it");
}

#endif
