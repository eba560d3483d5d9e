#include "support/emulated_cuda.hpp"

#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "support/emulated_state.hpp"

using namespace ssm::test::emulated;
using ssm::test::EmulationError;
using ssm::test::MemoryBlock;

namespace {

std::string name_of(const std::type_info& kernel) {
  int status = 0;
  char* const name = abi::__cxa_demangle(kernel.name(), nullptr, nullptr, &status);
  std::string result = name != nullptr ? name : kernel.name();
  std::free(name);
  return result;
}

}  // namespace

namespace ssm::test {

Emulator& emulator() { return state().control; }

void Emulator::restart(std::uint64_t seed) {
  const Lock lock(state().mutex);
  state().failing.clear();
  state().broken = cudaSuccess;
  finish();
  *this = Emulator();
  state().random.seed(seed);
  state().most_shared.clear();
  state().streams_made = 0;
  last_error = cudaSuccess;
  current = 0;
}
std::size_t Emulator::allocated() const { return state().allocated.size(); }
void Emulator::forget_memory() { state().allocated.clear(); }
void Emulator::fail(const std::string& call, cudaError_t error) {
  state().failing.erase(call);
  if (error != cudaSuccess) state().failing[call] = error;
}
void Emulator::break_device(cudaError_t error) { state().broken = error; }

namespace emulator_detail {

cudaError_t set_attribute(const std::type_info& kernel, cudaFuncAttribute, int value) {
  const Lock lock(state().mutex);
  if (const cudaError_t error = fails("cudaFuncSetAttribute")) return error;
  if (value > state().control.model.block_shared) return returns(cudaErrorInvalidValue);
  int& before = state().most_shared[{kernel.name(), current}];
  if (value < before)
    throw EmulationError(name_of(kernel) + " is allowed " + std::to_string(value) +
                         " bytes of shared memory after " + std::to_string(before) +
                         ", which another thread may be about to launch it with");
  before = value;
  return cudaSuccess;
}

/// The most dynamic shared memory that a kernel may be launched with on the current device.
int most_shared(const std::type_info& kernel) {
  const auto found = state().most_shared.find({kernel.name(), current});
  return std::max(48 * 1024, found == state().most_shared.end() ? 0 : found->second);
}

cudaError_t resident_blocks(int* blocks, const std::type_info& kernel, int most_threads,
                            int threads, std::size_t shared_bytes) {
  const Lock lock(state().mutex);
  if (const cudaError_t error = fails("cudaOccupancyMaxActiveBlocksPerMultiprocessor"))
    return error;
  const auto shared = static_cast<std::int64_t>(shared_bytes);
  *blocks = threads > most_threads || shared > most_shared(kernel)
                ? 0
                : state().control.model.resident_blocks(state().control.registers(name_of(kernel)),
                                                        shared, threads);
  return cudaSuccess;
}

cudaError_t launch(const cudaLaunchConfig_t& config, const std::type_info& kernel, int most_threads,
                   std::function<void()> run_kernel) {
  const Lock lock(state().mutex);
  if (const cudaError_t error = fails("cudaLaunchKernelEx")) return error;
  CUstream_st& stream = stream_of(config.stream);
  if (stream.device != current) return returns(cudaErrorInvalidResourceHandle);
  const auto threads = static_cast<int>(config.blockDim.x);
  const auto shared = static_cast<std::int64_t>(config.dynamicSmemBytes);
  if (threads < 1 || threads > most_threads || shared > most_shared(kernel) ||
      config.gridDim.x < 1 || config.gridDim.x > 0x7fffffffu)
    return returns(cudaErrorInvalidValue);
  const std::string name = name_of(kernel);
  if (state().control.writes_down)
    state().control.launches.push_back({name, config.gridDim.x, threads, shared});
  const std::string what = name + " in stream " + stream.name;
  const int device = current;
  go_on();
  return put(stream, what, [what, device, run_kernel = std::move(run_kernel)] {
    if (state().control.runs_kernels) state().memory.run(device, what, run_kernel);
  });
}

}  // namespace emulator_detail
}  // namespace ssm::test

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorInvalidResourceHandle:
      return "invalid resource handle";
    case cudaErrorIllegalAddress:
      return "an illegal memory access was encountered";
    default:
      return "an operation that is not permitted during a capture";
  }
}
cudaError_t cudaGetLastError() {
  return state().broken != cudaSuccess ? state().broken : std::exchange(last_error, cudaSuccess);
}
cudaError_t cudaPeekAtLastError() {
  return state().broken != cudaSuccess ? state().broken : last_error;
}

cudaError_t cudaGetDeviceCount(int* count) { return *count = devices, fails("cudaGetDeviceCount"); }
cudaError_t cudaGetDevice(int* device) { return *device = current, fails("cudaGetDevice"); }
cudaError_t cudaSetDevice(int device) {
  if (const cudaError_t error = fails("cudaSetDevice")) return error;
  if (device < 0 || device >= devices) return returns(cudaErrorInvalidDevice);
  current = device;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const auto& model = state().control.model;
  *value = attribute == cudaDevAttrMultiProcessorCount ? model.count : model.block_shared;
  return fails("cudaDeviceGetAttribute");
}
cudaError_t cudaDeviceSynchronize() {
  const Lock lock(state().mutex);
  if (const cudaError_t error = fails("cudaDeviceSynchronize")) return error;
  finish();
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  const Lock lock(state().mutex);
  if (const cudaError_t error = fails("cudaStreamCreateWithFlags")) return error;
  *stream = new CUstream_st{std::to_string(++state().streams_made), current,
                            flags != cudaStreamNonBlocking};
  state().streams.insert(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const Lock lock(state().mutex);
  const CUstream_st& ended = stream_of(stream);
  if (ended.waits_for_default)  // what is in it is done nevertheless
    state().defaults[static_cast<std::size_t>(ended.device)].left.push_back(ended.last);
  state().streams.erase(stream);
  delete stream;
  return fails("cudaStreamDestroy");
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const Lock lock(state().mutex);
  if (const cudaError_t error = fails("cudaStreamSynchronize")) return error;
  CUstream_st& waited = stream_of(stream);
  if (waited.capture != nullptr) {
    waited.capture->broken = true;
    return returns(cudaErrorStreamCaptureUnsupported);
  }
  wait_for(waited.last);
  return fails("cudaStreamSynchronize");  // of what was just done
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const Lock lock(state().mutex);
  if (const cudaError_t error = fails("cudaStreamIsCapturing")) return error;
  const auto& capture = stream_of(stream).capture;
  *status = capture == nullptr ? cudaStreamCaptureStatusNone
            : capture->broken  ? cudaStreamCaptureStatusInvalidated
                               : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  const Lock lock(state().mutex);
  if (stream == nullptr || stream_of(stream).capture != nullptr)
    return returns(cudaErrorStreamCaptureUnsupported);
  stream->capture = std::make_shared<Capture>(Capture{stream});
  stream->ends.clear();
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const Lock lock(state().mutex);
  *graph = nullptr;
  const auto capture = stream_of(stream).capture;
  if (capture == nullptr || capture->origin != stream) return returns(cudaErrorInvalidValue);
  bool joined = true;
  std::set<std::size_t> reached;
  const std::function<void(std::size_t)> reach = [&](std::size_t node) {
    if (!reached.insert(node).second) return;
    for (const std::size_t before : capture->nodes[node].after) reach(before);
  };
  for (const std::size_t end : stream->ends) reach(end);
  for (const cudaStream_t other : state().streams) {
    if (other->capture != capture) continue;
    for (const std::size_t end : other->ends) joined = joined && reached.count(end) > 0;
    other->capture = nullptr;
  }
  if (capture->broken) return returns(cudaErrorStreamCaptureInvalidated);
  if (!joined) return returns(cudaErrorStreamCaptureUnjoined);
  *graph = new CUgraph_st{capture->nodes};
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  *exec = new CUgraphExec_st{graph->nodes};
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  const Lock lock(state().mutex);
  if (const cudaError_t error = fails("cudaGraphLaunch")) return error;
  CUstream_st& into = stream_of(stream);
  if (into.capture != nullptr) return returns(cudaErrorStreamCaptureUnsupported);
  if (const cudaError_t error = put(into, "a graph begins", {}, {exec->last})) return error;
  std::vector<Pending> all;
  for (const Node& node : exec->nodes) {
    std::vector<Pending> after{into.last};
    for (const std::size_t before : node.after) after.push_back(all[before]);
    all.push_back(std::make_shared<Operation>(
        Operation{node.what + " of a graph", node.device, node.work, std::move(after)}));
  }
  state().pending.insert(state().pending.end(), all.begin(), all.end());
  const cudaError_t error = put(into, "a graph ends", {}, all);
  exec->last = into.last;
  return error;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) { return delete exec, cudaSuccess; }
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete graph, cudaSuccess; }

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  if (const cudaError_t error = fails("cudaEventCreateWithFlags")) return error;
  return *event = new CUevent_st{current}, cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const Lock lock(state().mutex);
  if (const cudaError_t error = fails("cudaEventRecord")) return error;
  const CUstream_st& recorded = stream_of(stream);
  if (event->device != recorded.device) return returns(cudaErrorInvalidResourceHandle);
  event->stream = recorded.name;
  event->until = recorded.last;
  event->capture = recorded.capture;
  event->ends = recorded.ends;
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const Lock lock(state().mutex);
  if (const cudaError_t error = fails("cudaStreamWaitEvent")) return error;
  CUstream_st& waits = stream_of(stream);
  write_down("stream " + waits.name + " waits for " + event->stream);
  if (event->capture == nullptr) {
    if (waits.capture != nullptr) return returns(cudaErrorStreamCaptureIsolation);
    return put(waits, "a wait", {}, {event->until});
  }
  if (waits.capture == nullptr) {
    waits.capture = event->capture;  // it joins
    waits.ends.clear();
  }
  if (waits.capture != event->capture) return returns(cudaErrorStreamCaptureIsolation);
  waits.ends.insert(waits.ends.end(), event->ends.begin(), event->ends.end());
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) { return delete event, cudaSuccess; }

cudaError_t cudaMallocAsync(void** memory, std::size_t bytes, cudaStream_t stream) {
  const Lock lock(state().mutex);
  if (const cudaError_t error = fails("cudaMallocAsync")) return error;
  CUstream_st& into = stream_of(stream);
  if (into.capture != nullptr) {
    into.capture->broken = true;  // a node of a graph has its own memory: nobody here wants that
    return returns(cudaErrorStreamCaptureUnsupported);
  }
  std::shared_ptr<MemoryBlock> before;
  if (state().control.reuses_memory && !into.freed.empty() && state().chance(2)) {
    before = into.freed.back();
    into.freed.pop_back();
  }
  const auto block = state().memory.promise(bytes, into.device, before);
  if (block == nullptr) return returns(cudaErrorMemoryAllocation);
  state().allocated[block->data] = block;
  *memory = block->data;
  go_on();
  return put(into, "an allocation",
             [block] { state().memory.make_live(*block, state().control.runs_kernels); });
}
cudaError_t cudaFreeAsync(void* memory, cudaStream_t stream) {
  const Lock lock(state().mutex);
  CUstream_st& into = stream_of(stream);
  const auto found = state().allocated.find(memory);
  if (found == state().allocated.end()) return returns(cudaErrorInvalidValue);
  if (into.capture != nullptr) {
    into.capture->broken = true;
    return returns(cudaErrorStreamCaptureUnsupported);
  }
  if (const cudaError_t error = fails("cudaFreeAsync")) return error;
  const auto block = found->second;
  state().allocated.erase(found);
  write_down("free " + std::to_string(block->bytes) + " bytes on stream " + into.name);
  const cudaError_t error = put(into, "a free", [block, name = into.name] {
    state().memory.free(*block, "on stream " + name, state().control.runs_kernels);
  });
  into.freed.push_back(block);
  return error;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const Lock lock(state().mutex);
  if (const cudaError_t error = fails("cudaMemcpyAsync")) return error;
  CUstream_st& into = stream_of(stream);
  go_on();
  return put(into, "a copy", [=, name = "a copy in stream " + into.name] {
    auto& memory = state().memory;
    const MemoryBlock* const source = memory.find(from, bytes, name);
    const MemoryBlock* const target = memory.find(to, bytes, name);
    if ((source != nullptr) != (kind != cudaMemcpyHostToDevice) ||
        (target != nullptr) != (kind != cudaMemcpyDeviceToHost))
      throw EmulationError(name + " is of another direction than its pointers");
    if (source != nullptr && target != nullptr && source->device != target->device)
      throw EmulationError(name + " is between devices");
    if (!state().control.runs_kernels) return;
    memory.run(source != nullptr ? source->device : target->device, name,
               [&] { std::memmove(to, from, bytes); });
  });
}
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  const Lock lock(state().mutex);
  if (const cudaError_t error = fails("cudaMemsetAsync")) return error;
  CUstream_st& into = stream_of(stream);
  go_on();
  return put(into, "a fill", [=, name = "a fill in stream " + into.name] {
    auto& memory = state().memory;
    const MemoryBlock* const target = memory.find(to, bytes, name);
    if (target == nullptr) throw EmulationError(name + " is of host memory");
    if (!state().control.runs_kernels) return;
    memory.run(target->device, name, [&] { std::memset(to, value, bytes); });
  });
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* memory) {
  const Lock lock(state().mutex);
  if (const cudaError_t error = fails("cudaPointerGetAttributes")) return error;
  const auto found = state().allocated.find(const_cast<void*>(memory));
  *attributes = found == state().allocated.end()
                    ? cudaPointerAttributes{cudaMemoryTypeUnregistered, -2}
                    : cudaPointerAttributes{cudaMemoryTypeDevice, found->second->device};
  return cudaSuccess;
}
