#pragma once

#include <stdexcept>

#include "ssm/core/view.hpp"

/// What cudaStream_t points to.
struct CUstream_st;

namespace ssm {

/// A CUDA stream as a place to compute: the first argument of an operation over device views.
///
/// `cuda` is the default stream, `cuda(stream)` any other, of the calling thread's current device.
/// An operation puts its work into the stream and returns. None waits for the device but those that
/// return a number of it, so a captured stream becomes a graph. The memory that an operation reads
/// and writes must live until the stream has done the work. Arrays of complex numbers begin at a
/// multiple of their size, as all that is allocated does; others are refused by a ShapeError.
/// Results depend on the arguments and the kind of device only, to the last bit: there are no
/// floating-point atomics, and how time is cut follows from the shape and from how much of a kernel
/// such a device holds at once.
///
/// Everything that ssm/cuda declares is defined in the library ssm::cuda.
struct Cuda {
  using space = Device;  ///< where the memory is that this backend computes on

  CUstream_st* stream = nullptr;  ///< a cudaStream_t; null is the default stream

  /// The backend of the stream `s`, a cudaStream_t.
  [[nodiscard]] constexpr Cuda operator()(CUstream_st* s) const noexcept { return {s}; }
};

/// The default stream of the current device.
inline constexpr Cuda cuda{};

/// A call of the CUDA runtime failed: "function: call failed: reason". As CUDA reports errors late,
/// the error of a kernel that was put into a stream before may come with a later call. Errors that
/// calls of the program itself left in cudaGetLastError are neither reported nor cleared.
class CudaError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The number of devices; 0 without a driver.
[[nodiscard]] int device_count() noexcept;

/// Waits until all work in the stream is done. @throws CudaError if any of it failed
void synchronize(const Cuda& backend);

namespace detail {

/// Whether the stream is captured into a graph. `function` is what errors say.
[[nodiscard]] bool is_captured(const char* function, const Cuda& backend);

}  // namespace detail

/// A new stream on the current device, which does not wait for the default stream. The destructor
/// ends it; work that is still in it is done nevertheless.
class Stream {
 public:
  /// Makes a stream on the current device. @throws CudaError
  Stream();
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  /// The stream as a backend.
  operator Cuda() const noexcept { return {stream_}; }

 private:
  CUstream_st* stream_ = nullptr;
};

}  // namespace ssm
