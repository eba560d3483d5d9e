#pragma once

#include <cstdint>
#include <type_traits>

#include "ssm/core/view.hpp"
#include "ssm/cuda/backend.hpp"
#include "ssm/cuda/memory.hpp"
#include "ssm/layers/tokens.hpp"
#include "ssm/models/sampling_types.hpp"

namespace ssm {

/// What sample_tokens reads.
template <class T>
struct SampleTokensInputs {
  View<const T, 2, Device> logits;  ///< (batch, vocab), elements of a row adjacent
};

/// What sample_tokens writes.
struct SampleTokensOutputs {
  View<Token, 1, Device> tokens;  ///< (batch)
};

/// Scratch memory of sample_tokens, with how often it has drawn: each call, and each launch of a
/// graph of it, draws other numbers.
struct SampleTokensScratch {
  DeviceTensor<std::uint64_t, 1> draws;  ///< (1)
};

/// Draws a token for each row of logits, on the device: by options.temperature, then of the top_k
/// most likely, then of the fewest whose probability is top_p, then of those at least min_p as
/// likely as the likeliest, as Sampler does with the logits of one row. At temperature 0 it is the
/// most likely token. Ties go to the smaller token. T is float or double.
///
/// The random number of a row is a hash of options.seed, of the number of the call and of the row,
/// so the tokens are others than those of a Sampler, and always the same. A row with a NaN or +∞,
/// or with nothing but −∞, gives −1, which is no token. A block works on a row; with top_k or top_p
/// it reads the row once for each bit of a number. Nothing waits for the device.
/// @throws ShapeError; DomainError for an option out of range, and for a repetition_penalty, as
///   nothing on a device remembers tokens; CudaError
template <class T>
void sample_tokens(const Cuda& backend, const SampleTokensInputs<T>& inputs,
                   const SamplingOptions& options, const SampleTokensOutputs& outputs,
                   SampleTokensScratch& scratch);

}  // namespace ssm
