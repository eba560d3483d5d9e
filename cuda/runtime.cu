#include <string>
#include <utility>

#include "check.hpp"
#include "ssm/cuda/backend.hpp"
#include "ssm/cuda/graph.hpp"
#include "ssm/cuda/memory.hpp"

namespace ssm {

using kernels::check;

namespace {

/// For where nobody can be told of an error: it is not left for the next caller to find.
void forget(cudaError_t error) noexcept {
  if (error != cudaSuccess) static_cast<void>(cudaGetLastError());
}

int current_device() {
  int device = 0;
  check("DeviceBuffer", "cudaGetDevice", cudaGetDevice(&device));
  return device;
}

/// Lets `after` go on when `before` has done what it was given so far.
void wait(const Cuda& after, const Cuda& before) {
  cudaEvent_t event = nullptr;
  check("DeviceBuffer", "cudaEventCreateWithFlags",
        cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  cudaError_t error = cudaEventRecord(event, before.stream);
  if (error == cudaSuccess) error = cudaStreamWaitEvent(after.stream, event, 0);
  forget(cudaEventDestroy(event));  // the driver keeps it for as long as a stream waits for it
  check("DeviceBuffer", "waiting for the stream that it served before", error);
}

/// New memory in the order of the stream, which is one of `device`, the current one.
void* allocate(const Cuda& backend, int device, std::size_t bytes) {
  void* memory = nullptr;
  check("DeviceBuffer", "cudaMallocAsync", cudaMallocAsync(&memory, bytes, backend.stream));
  cudaPointerAttributes of_memory{};
  const cudaError_t error = cudaPointerGetAttributes(&of_memory, memory);
  if (error == cudaSuccess && of_memory.device == device) return memory;
  forget(cudaFreeAsync(memory, backend.stream));
  check("DeviceBuffer", "cudaPointerGetAttributes", error);
  throw CudaError("DeviceBuffer: the stream is one of device " + std::to_string(of_memory.device) +
                  ", expected one of the current device, " + std::to_string(device));
}

}  // namespace

int device_count() noexcept {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  forget(error);
  return error == cudaSuccess ? count : 0;
}

bool detail::is_captured(const char* function, const Cuda& backend) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(function, "cudaStreamIsCapturing", cudaStreamIsCapturing(backend.stream, &status));
  return status != cudaStreamCaptureStatusNone;
}

void synchronize(const Cuda& backend) {
  check("synchronize", "cudaStreamSynchronize", cudaStreamSynchronize(backend.stream));
}

Stream::Stream() {
  check("Stream", "cudaStreamCreateWithFlags",
        cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
}
Stream::~Stream() { forget(cudaStreamDestroy(stream_)); }

DeviceBuffer::~DeviceBuffer() {
  if (data_ == nullptr) return;
  int device = device_;
  forget(cudaGetDevice(&device));
  if (device != device_) forget(cudaSetDevice(device_));
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  forget(cudaStreamIsCapturing(backend_.stream, &status));
  if (status == cudaStreamCaptureStatusNone) {  // else freeing would break the capture
    for (void* memory : of_graphs_) forget(cudaFreeAsync(memory, backend_.stream));
    forget(cudaFreeAsync(data_, backend_.stream));
  }
  if (device != device_) forget(cudaSetDevice(device));
}

void* DeviceBuffer::reserve(const Cuda& backend, std::size_t bytes) {
  if (bytes == 0) return data_;
  const int device = current_device();
  if (data_ != nullptr && device != device_)
    throw CudaError("DeviceBuffer: its memory is on device " + std::to_string(device_) +
                    ", expected on the current one, " + std::to_string(device));
  if (detail::is_captured("DeviceBuffer", backend)) {
    if (bytes > size_)
      throw CudaError(
          "DeviceBuffer: it holds " + std::to_string(size_) + " bytes, expected " +
          std::to_string(bytes) +
          ": it cannot grow while its stream is captured; run the operation once before");
    in_graph_ = true;
    return data_;
  }
  if (data_ != nullptr && backend.stream != backend_.stream) {
    // An event of that stream would draw this one into its capture.
    if (detail::is_captured("DeviceBuffer", backend_))
      throw CudaError(
          "DeviceBuffer: the stream that it served before is being captured, expected another "
          "stream to reserve it before or after");
    wait(backend, backend_);
    backend_ = backend;
  }
  if (bytes <= size_) return data_;
  if (in_graph_) of_graphs_.reserve(of_graphs_.size() + 1);
  void* const grown = allocate(backend, device, bytes);
  void* const before = std::exchange(data_, grown);
  size_ = bytes;
  backend_ = backend;
  device_ = device;
  if (std::exchange(in_graph_, false))
    of_graphs_.push_back(before);
  else if (before != nullptr)
    check("DeviceBuffer", "cudaFreeAsync", cudaFreeAsync(before, backend.stream));
  return data_;
}

void detail::copy_bytes(const Cuda& backend, Copy direction, void* to, const void* from,
                        std::size_t bytes) {
  if (bytes == 0) return;
  const cudaMemcpyKind kind = direction == Copy::to_device ? cudaMemcpyHostToDevice
                              : direction == Copy::to_host ? cudaMemcpyDeviceToHost
                                                           : cudaMemcpyDeviceToDevice;
  check("copy", "cudaMemcpyAsync", cudaMemcpyAsync(to, from, bytes, kind, backend.stream));
}

void detail::zero_bytes(const Cuda& backend, void* to, std::size_t bytes) {
  if (bytes == 0) return;
  check("zero", "cudaMemsetAsync", cudaMemsetAsync(to, 0, bytes, backend.stream));
}

Graph::~Graph() { end(); }

Graph& Graph::operator=(Graph&& other) noexcept {
  if (this == &other) return *this;
  end();
  graph_ = std::exchange(other.graph_, nullptr);
  exec_ = std::exchange(other.exec_, nullptr);
  return *this;
}

void Graph::end() noexcept {
  if (exec_ != nullptr) forget(cudaGraphExecDestroy(exec_));
  if (graph_ != nullptr) forget(cudaGraphDestroy(graph_));
  exec_ = nullptr, graph_ = nullptr;
}

Graph::Capture::Capture(const Cuda& backend) : backend_(backend) {
  check("Graph", "cudaStreamBeginCapture",
        cudaStreamBeginCapture(backend.stream, cudaStreamCaptureModeThreadLocal));
}

Graph::Capture::~Capture() {
  if (!runs_) return;
  CUgraph_st* broken = nullptr;
  forget(cudaStreamEndCapture(backend_.stream, &broken));
  if (broken != nullptr) forget(cudaGraphDestroy(broken));
}

void Graph::Capture::end(Graph& graph) {
  runs_ = false;
  Graph made;
  check("Graph", "cudaStreamEndCapture", cudaStreamEndCapture(backend_.stream, &made.graph_));
  check("Graph", "cudaGraphInstantiate", cudaGraphInstantiate(&made.exec_, made.graph_, 0));
  graph = std::move(made);
}

void Graph::launch(const Cuda& backend) const {
  if (exec_ == nullptr) throw CudaError("Graph: it holds nothing, expected a captured one");
  check("Graph", "cudaGraphLaunch", cudaGraphLaunch(exec_, backend.stream));
}

}  // namespace ssm
