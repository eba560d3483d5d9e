#pragma once

/// @defgroup conv conv: convolution kernels and long convolutions
/// The convolution kernels of S4, S4D and DSS, causal convolutions with long kernels, of sequences
/// and of streams, and the passage of a state through them.

#include "ssm/conv/fft.hpp"
#include "ssm/conv/long_conv.hpp"
#include "ssm/conv/s4_kernel.hpp"
#include "ssm/conv/s4_truncate.hpp"
#include "ssm/conv/s4d_kernel.hpp"
#include "ssm/conv/s4d_state.hpp"
#include "ssm/conv/stream_conv.hpp"
#include "ssm/conv/vandermonde.hpp"
