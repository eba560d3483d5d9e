#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "serve_calls.hpp"
#include "serve_text.hpp"
#include "ssm/models/token_streams.hpp"

/// The streams of `mamba_lm serve`: who runs, who waits, and what each has written.
namespace serve {

using Clock = std::chrono::steady_clock;

/// ssm::TokenStreams of any model. One thread uses it.
class Streams {
 public:
  virtual ~Streams() = default;
  virtual std::uint64_t open(const std::vector<ssm::Token>& prompt,
                             const ssm::SamplingOptions& sampling, std::size_t most) = 0;
  virtual void close(std::uint64_t stream) = 0;
  /// Sets a stream aside, and goes on with it under another name.
  virtual void suspend(std::uint64_t stream) = 0;
  virtual std::uint64_t resume(std::uint64_t stream) = 0;
  virtual std::span<const ssm::StreamToken> advance() = 0;
  [[nodiscard]] virtual std::size_t reading() const = 0;
  [[nodiscard]] virtual std::size_t bytes_each() const = 0;
  [[nodiscard]] virtual ssm::Index vocab() const = 0;
};

template <class Layer>
class StreamsOf final : public Streams {
 public:
  StreamsOf(ssm::LanguageModel<Layer> model, const ssm::Cpu& backend)
      : streams_(std::move(model), backend) {}

  std::uint64_t open(const std::vector<ssm::Token>& prompt, const ssm::SamplingOptions& sampling,
                     std::size_t most) override {
    const ssm::View<const ssm::Token, 1> tokens(prompt.data(),
                                                {static_cast<ssm::Index>(prompt.size())});
    return streams_.open(tokens, sampling, static_cast<ssm::Index>(most));
  }
  void close(std::uint64_t stream) override {
    if (suspended_.erase(stream) == 0) streams_.close(stream);
  }
  void suspend(std::uint64_t stream) override { suspended_.emplace(stream, streams_.take(stream)); }
  std::uint64_t resume(std::uint64_t stream) override {
    const auto suspended = suspended_.extract(stream);
    return streams_.open(std::move(suspended.mapped()));
  }
  std::span<const ssm::StreamToken> advance() override { return streams_.advance(); }
  [[nodiscard]] std::size_t reading() const override { return streams_.reading(); }
  [[nodiscard]] std::size_t bytes_each() const override { return streams_.bytes_each(); }
  [[nodiscard]] ssm::Index vocab() const override { return streams_.model().config.vocab; }

 private:
  ssm::TokenStreams<Layer> streams_;
  std::map<std::uint64_t, ssm::TokenStream<Layer>> suspended_;
};

/// What was written for a call and not fetched yet. The thread of the streams adds to it, the
/// thread of the connection takes from it.
struct Answer {
  struct Choice {
    std::string text;  ///< not fetched yet
    Finish finish = Finish::none;
    std::size_t written = 0;  ///< tokens
  };

  explicit Answer(Call c) : call(std::move(c)), choices(call.prompts.size() * call.choices) {}
  [[nodiscard]] const std::vector<ssm::Token>& prompt_of(std::size_t choice) const {
    return call.prompts[choice / call.choices];
  }

  const Call call;
  std::atomic<bool> left{false};  ///< nobody waits for it any more

  std::mutex mutex;  // of what follows
  std::condition_variable changed;
  std::vector<Choice> choices;
  int failure = 0;  ///< an HTTP status, where a choice has failed
  std::string why;
};

struct QueueLimits {
  std::size_t running = 256;  ///< streams at once
  std::size_t waiting = 1024;
  std::size_t unread = 4096;  ///< bytes that a stream may be ahead of its reader
  double seconds = 600;       ///< for one call, with the time that it waits
};

/// Runs the streams of all calls on a thread of its own.
class StreamQueue {
 public:
  struct Counts {
    std::size_t running, reading, suspended, waiting;
    std::uint64_t written, answered;
  };

  StreamQueue(Streams& streams, const Words& words, const QueueLimits& limits);
  ~StreamQueue();

  /// Begins the answer to a call. @throws Refusal where too much waits, or nothing more is taken
  std::shared_ptr<Answer> submit(Call call);
  /// Says that something was fetched from an answer, or that nobody waits for it.
  void wake();
  /// Takes no calls any more.
  void refuse_new();
  /// Ends all that runs and waits.
  void end_all();
  /// That, and waits until it is done. Only `counts` may follow.
  void stop();
  [[nodiscard]] Counts counts() const;

 private:
  struct Job {
    std::shared_ptr<Answer> answer;
    std::size_t choice;
    Clock::time_point deadline;
    AnswerText text;
    std::uint64_t stream = 0;
  };

  void run();
  void take_jobs();
  void open(Job job);
  void look_after_streams();
  void advance();
  void write(Job& job, const ssm::StreamToken& token);
  void finish(Job& job, Finish finish, int failure = 0, const std::string& why = "");
  void add(Job& job, const std::string& text, Finish finish, std::size_t tokens);
  void publish();

  Streams& streams_;
  const Words& words_;
  QueueLimits limits_;

  mutable std::mutex mutex_;  // of what follows
  std::condition_variable woken_;
  std::deque<Job> waiting_;
  Counts counts_{};
  bool refuses_ = false, ends_all_ = false, stops_ = false, wakes_ = false;

  std::map<std::uint64_t, Job> running_;  // the thread's own
  std::vector<Job> suspended_;
  std::uint64_t written_ = 0, answered_ = 0;
  std::thread thread_;
};

}  // namespace serve
