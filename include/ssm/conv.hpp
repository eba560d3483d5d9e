#pragma once

/// The room conv: convolution kernels of S4, S4D and DSS, causal convolutions.

#include "ssm/conv/fft.hpp"
#include "ssm/conv/long_conv.hpp"
#include "ssm/conv/s4_kernel.hpp"
#include "ssm/conv/s4_state.hpp"
#include "ssm/conv/s4_truncate.hpp"
#include "ssm/conv/s4d_kernel.hpp"
#include "ssm/conv/s4d_state.hpp"
#include "ssm/conv/vandermonde.hpp"
