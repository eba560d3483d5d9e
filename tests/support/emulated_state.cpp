#include "support/emulated_state.hpp"

#include <algorithm>

namespace ssm::test::emulated {

State& state() {
  static State all;
  return all;
}

cudaError_t returns(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}
cudaError_t fails(const char* call) {
  if (state().broken != cudaSuccess) return returns(state().broken);
  const auto found = state().failing.find(call);
  return found == state().failing.end() ? cudaSuccess : returns(found->second);
}
void write_down(const std::string& line) {
  if (state().control.writes_down) state().control.log.push_back(line);
}

CUstream_st& stream_of(cudaStream_t stream) {
  if (stream == nullptr) return state().defaults[static_cast<std::size_t>(current)];
  if (state().streams.count(stream) == 0)
    throw EmulationError("a stream is used that was destroyed or never made");
  return *stream;
}

namespace {

bool is_ready(const Operation& operation) {
  return std::all_of(operation.after.begin(), operation.after.end(),
                     [](const Pending& before) { return before->done; });
}
void run(const Pending& operation) {
  auto& all = state().pending;
  all.erase(std::find(all.begin(), all.end(), operation));
  operation->done = true;
  operation->after.clear();
  if (operation->work) operation->work();
  operation->work = nullptr;
}
void need(const Pending& operation, std::set<Pending>& needed) {
  if (operation == nullptr || operation->done || !needed.insert(operation).second) return;
  for (const Pending& before : operation->after) need(before, needed);
}
/// Runs one of those that may run, if any: of the `needed` ones, of the others, or of all.
bool run_one(const std::set<Pending>& needed, bool with_needed, bool with_others) {
  std::vector<Pending> ready;
  for (const Pending& operation : state().pending)
    if ((needed.count(operation) > 0 ? with_needed : with_others) && is_ready(*operation))
      ready.push_back(operation);
  if (ready.empty()) return false;
  run(ready[state().random() % ready.size()]);
  return true;
}
}  // namespace

void wait_for(const Pending& last) {
  std::set<Pending> needed;
  need(last, needed);
  const auto manner = state().random() % 3;
  if (manner == 1)
    while (run_one(needed, false, true)) {
    }
  while (last != nullptr && !last->done) run_one(needed, true, manner == 2);
  if (state().control.hides_memory) state().memory.open(-1);
}

cudaError_t put(CUstream_st& stream, const std::string& what, std::function<void()> work,
                std::vector<Pending> after) {
  State& all = state();
  if (stream.capture != nullptr) {
    if (stream.capture->broken) return returns(cudaErrorStreamCaptureInvalidated);
    stream.capture->nodes.push_back({what, stream.device, std::move(work), stream.ends});
    stream.ends = {stream.capture->nodes.size() - 1};
    return cudaSuccess;
  }
  CUstream_st& of_device = all.defaults[static_cast<std::size_t>(stream.device)];
  after.push_back(stream.last);
  if (&stream == &of_device) {
    after.insert(after.end(), stream.left.begin(), stream.left.end());
    stream.left.clear();
    for (const cudaStream_t other : all.streams) {
      if (!other->waits_for_default || other->device != stream.device) continue;
      if (other->capture != nullptr) {
        other->capture->broken = true;
        return returns(cudaErrorStreamCaptureImplicit);
      }
      after.push_back(other->last);
    }
  } else if (stream.waits_for_default) {
    after.push_back(of_device.last);
  }
  after.erase(
      std::remove_if(after.begin(), after.end(),
                     [](const Pending& before) { return before == nullptr || before->done; }),
      after.end());
  stream.last = std::make_shared<Operation>(
      Operation{what, stream.device, std::move(work), std::move(after)});
  all.pending.push_back(stream.last);
  return cudaSuccess;
}
void go_on() {
  while (state().chance(8) && run_one({}, false, true)) {
  }
}
void finish() {
  while (run_one({}, false, true)) {
  }
}

}  // namespace ssm::test::emulated
