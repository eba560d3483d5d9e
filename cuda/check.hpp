#pragma once

#include <string>

#include "ssm/cuda/backend.hpp"
#ifndef __CUDACC__
#include "support/emulated_cuda.hpp"
#endif

namespace ssm::kernels {

/// Throws what a call of the CUDA runtime returned, if that is an error. Only what it returned:
/// cudaGetLastError may tell of errors that are not ours.
inline void check(const char* function, const char* call, cudaError_t error) {
  if (error == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());  // the call left it there too
  throw CudaError(std::string(function) + ": " + call + " failed: " + cudaGetErrorString(error) +
                  (error == cudaErrorInvalidResourceHandle
                       ? " (expected a stream of the thread's current device)"
                       : ""));
}

}  // namespace ssm::kernels
