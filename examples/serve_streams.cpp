#include "serve_streams.hpp"

#include <algorithm>
#include <exception>
#include <iterator>

#include "job.hpp"

namespace serve {

StreamQueue::StreamQueue(Streams& streams, const Words& words, const QueueLimits& limits)
    : streams_(streams), words_(words), limits_(limits), thread_([this] { run(); }) {}

StreamQueue::~StreamQueue() { stop(); }

void StreamQueue::stop() {
  {
    const std::lock_guard lock(mutex_);
    refuses_ = ends_all_ = stops_ = true;
  }
  woken_.notify_one();
  if (thread_.joinable()) thread_.join();
}

std::shared_ptr<Answer> StreamQueue::submit(Call call) {
  auto answer = std::make_shared<Answer>(std::move(call));
  const auto deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                           std::chrono::duration<double>(limits_.seconds));
  std::vector<Job> jobs;
  for (std::size_t i = 0; i < answer->choices.size(); ++i)
    jobs.push_back({answer, i, deadline, {answer->call.stops, answer->call.skip_blanks}});
  {
    const std::lock_guard lock(mutex_);
    if (refuses_) throw Refusal(503, "the server is about to end", "", "shutting_down");
    const std::size_t streams = waiting_.size() + counts_.running + counts_.suspended;
    if (streams + jobs.size() > limits_.running + limits_.waiting)
      throw Refusal(429, job::format("%zu streams run or wait already; try again later", streams),
                    "", "queue_full");
    std::move(jobs.begin(), jobs.end(), std::back_inserter(waiting_));
    counts_.waiting = waiting_.size();
    wakes_ = true;
  }
  woken_.notify_one();
  return answer;
}

void StreamQueue::wake() {
  {
    const std::lock_guard lock(mutex_);
    wakes_ = true;
  }
  woken_.notify_one();
}

void StreamQueue::refuse_new() {
  const std::lock_guard lock(mutex_);
  refuses_ = true;
}

void StreamQueue::end_all() {
  {
    const std::lock_guard lock(mutex_);
    refuses_ = ends_all_ = true;
  }
  woken_.notify_one();
}

StreamQueue::Counts StreamQueue::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

void StreamQueue::run() {
  for (;;) {
    take_jobs();
    {
      std::unique_lock lock(mutex_);
      if (stops_ && running_.empty() && suspended_.empty() && waiting_.empty()) return;
      if (running_.empty()) {
        // Some may wait for readers, or for nothing but their deadline.
        woken_.wait_for(lock, std::chrono::milliseconds(suspended_.empty() ? 1000 : 50),
                        [&] { return wakes_ || stops_ || ends_all_ || !waiting_.empty(); });
        wakes_ = false;
      }
    }
    look_after_streams();
    if (!running_.empty()) advance();
    publish();
  }
}

/// Lets as many in as there is room for.
void StreamQueue::take_jobs() {
  std::deque<Job> in, out;
  {
    const std::lock_guard lock(mutex_);
    const auto now = Clock::now();
    std::deque<Job> waiting;
    for (Job& job : waiting_) {
      const std::size_t run = running_.size() + suspended_.size() + in.size();
      if (ends_all_ || job.answer->left || now >= job.deadline)
        out.push_back(std::move(job));
      else if (run < limits_.running)
        in.push_back(std::move(job));
      else
        waiting.push_back(std::move(job));
    }
    waiting_ = std::move(waiting);
  }
  for (Job& job : out)
    finish(job, Finish::failed, 503,
           Clock::now() >= job.deadline ? "the call waited too long for a free stream"
                                        : "the server is about to end");
  for (Job& job : in) open(std::move(job));
  publish();
}

void StreamQueue::open(Job job) {
  ssm::SamplingOptions sampling = job.answer->call.sampling;
  sampling.seed += 0x9e3779b97f4a7c15u * job.choice;  // the first is that of the call
  try {
    job.stream = streams_.open(job.answer->prompt_of(job.choice), sampling, job.answer->call.most);
  } catch (const std::exception& error) {
    return finish(job, Finish::failed, 500, error.what());
  }
  running_.emplace(job.stream, std::move(job));
}

/// Closes streams that nobody waits for, and those whose time is over; sets those aside that are
/// too far ahead of their reader, until it has caught up.
void StreamQueue::look_after_streams() {
  const auto now = Clock::now();
  bool ends_all = false;
  {
    const std::lock_guard lock(mutex_);
    ends_all = ends_all_;
  }
  const auto unread = [](const Job& job) {
    const std::lock_guard lock(job.answer->mutex);
    return job.answer->choices[job.choice].text.size();
  };
  const auto ended = [&](Job& job) {
    if (!ends_all && !job.answer->left && now < job.deadline) return false;
    streams_.close(job.stream);
    if (ends_all)
      finish(job, Finish::failed, 503, "the server ended before the answer did");
    else
      finish(job, Finish::length);
    return true;
  };
  for (auto at = running_.begin(); at != running_.end();) {
    Job& job = at->second;
    if (ended(job)) {
      at = running_.erase(at);
    } else if (job.answer->call.stream && unread(job) > limits_.unread) {
      streams_.suspend(job.stream);
      suspended_.push_back(std::move(job));
      at = running_.erase(at);
    } else {
      ++at;
    }
  }
  for (std::size_t i = suspended_.size(); i-- > 0;) {
    Job& job = suspended_[i];
    const bool over = ended(job);
    if (!over && unread(job) > limits_.unread / 2) continue;
    if (!over) {
      job.stream = streams_.resume(job.stream);
      running_.emplace(job.stream, std::move(job));
    }
    suspended_.erase(suspended_.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

void StreamQueue::advance() {
  std::span<const ssm::StreamToken> tokens;
  try {
    tokens = streams_.advance();
  } catch (const std::exception& error) {  // want of memory; nobody's prompt is to blame
    for (auto& [stream, job] : running_) {
      try {
        streams_.close(stream);
      } catch (const std::exception&) {  // it was the one that failed
      }
      finish(job, Finish::failed, 500, error.what());
    }
    running_.clear();
    return;
  }
  const std::vector<ssm::StreamToken> written(tokens.begin(), tokens.end());
  for (const ssm::StreamToken& token : written)
    if (const auto job = running_.find(token.stream); job != running_.end())
      write(job->second, token);
}

void StreamQueue::write(Job& job, const ssm::StreamToken& token) {
  const bool open = token.end == ssm::StreamEnd::none;
  Finish end = Finish::none;
  std::string text;
  if (token.end == ssm::StreamEnd::failed) {
    finish(job, Finish::failed, 500, "the model's logits are not numbers");
    running_.erase(token.stream);
    return;
  }
  ++written_;
  if (words_.ends(token.token)) {
    end = Finish::stop;
  } else {
    text = job.text.take(words_.decode(token.token));
    end = job.text.stopped() ? Finish::stop : open ? Finish::none : Finish::length;
  }
  if (end != Finish::none) text += job.text.finish();
  add(job, text, end, 1);
  if (end == Finish::none) return;
  if (open) streams_.close(token.stream);
  running_.erase(token.stream);
}

/// Ends a job whose stream is closed or was never open.
void StreamQueue::finish(Job& job, Finish end, int failure, const std::string& why) {
  const std::string text = job.text.finish();
  if (end == Finish::failed) {
    const std::lock_guard lock(job.answer->mutex);
    job.answer->failure = failure;
    job.answer->why = why;
  }
  add(job, text, end, 0);
}

void StreamQueue::add(Job& job, const std::string& text, Finish end, std::size_t tokens) {
  if (end != Finish::none) ++answered_;
  Answer& answer = *job.answer;
  {
    const std::lock_guard lock(answer.mutex);
    Answer::Choice& choice = answer.choices[job.choice];
    choice.text += text;
    choice.finish = end;
    choice.written += tokens;
  }
  if (!text.empty() || end != Finish::none) answer.changed.notify_one();
}

void StreamQueue::publish() {
  const std::lock_guard lock(mutex_);
  counts_ = {running_.size(), streams_.reading(), suspended_.size(),
             waiting_.size(), written_,           answered_};
}

}  // namespace serve
