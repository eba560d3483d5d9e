#pragma once

#include <stdexcept>

#include "ssm/core/view.hpp"

/// What cudaStream_t points to.
struct CUstream_st;

namespace ssm {

/// A CUDA stream as a place to compute: the first argument of an operation over device views.
///
/// `cuda` is the default stream, `cuda(stream)` any other, of the device that is the calling
/// thread's current one. Operations are put into the stream and return; none waits for the device,
/// so that a captured stream becomes a graph. What they read and write must live until the stream
/// has come past. Results depend on the arguments alone, to the last bit: there are no
/// floating-point atomics.
///
/// Everything declared in ssm/cuda is defined in the library ssm::cuda.
struct Cuda {
  using space = Device;

  CUstream_st* stream = nullptr;

  [[nodiscard]] constexpr Cuda operator()(CUstream_st* s) const noexcept { return {s}; }
};

inline constexpr Cuda cuda{};

/// A call of the CUDA runtime failed: "function: call failed: reason". Errors of a kernel that was
/// put into a stream earlier may come with a later call, as CUDA reports them; errors that the
/// program's own calls left in cudaGetLastError are neither reported nor cleared.
class CudaError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// How many devices there are; 0 without a driver.
[[nodiscard]] int device_count() noexcept;

/// Waits until all that was put into the stream is done. Throws CudaError if any of it failed.
void synchronize(const Cuda& backend);

/// A stream of its own on the current device, for as long as this lives; it does not wait for the
/// default stream. What it was given to do is done even if it goes before.
class Stream {
 public:
  /// Throws CudaError.
  Stream();
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  operator Cuda() const noexcept { return {stream_}; }

 private:
  CUstream_st* stream_ = nullptr;
};

}  // namespace ssm
