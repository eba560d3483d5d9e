#pragma once

#include "ssm/core/sequences.hpp"
#include "ssm/core/view.hpp"

namespace ssm {

/// What the causal convolution with a long kernel reads. Of S sequences, every row of the batch or
/// every packed one, each has a state of its own.
template <class T, class Space = Host>
struct LongConvInputs {
  View<const T, 3, Space> u;       ///< (batch, length, channels)
  View<const T, 2, Space> kernel;  ///< K (channels, taps), the first tap meets the present
                                   ///< input; at least one tap
  View<const T, 1, Space> D = {};  ///< (channels), optional: no feedthrough when absent
  View<const T, 3, Space> initial_state = {};  ///< (S, taps − 1, channels), optional: the inputs
                                               ///< before the first, oldest first; zero when absent
  Sequences<Space> sequences = {};             ///< what time means
};

/// How a long convolution is computed; all give the same but for rounding.
enum class ConvMethod {
  automatic,  ///< whichever takes the fewest operations
  direct,     ///< the sum as it stands: length · taps multiply-adds
  fft,        ///< one transform over everything
  chunked     ///< overlap-save: transforms of a few times the taps, one after the other
};

struct LongConvOptions {
  ConvMethod method = ConvMethod::automatic;
};

/// What it writes. No output shares memory with another, nor with an input but where said.
template <class T, class Space = Host>
struct LongConvOutputs {
  View<T, 3, Space> y;                 ///< (batch, length, channels), may be the view that u is
  View<T, 3, Space> final_state = {};  ///< (S, taps − 1, channels), optional: the last inputs,
                                       ///< oldest first; may be the view that the initial state is
};

template <class T, class Space = Host>
struct LongConvOutputGradients {
  View<const T, 3, Space> y;                 ///< (batch, length, channels)
  View<const T, 3, Space> final_state = {};  ///< optional: zero when absent
};

/// Gradients that backward overwrites; absent ones are skipped. Shapes are those of the inputs.
template <class T, class Space = Host>
struct LongConvInputGradients {
  View<T, 3, Space> u = {};              ///< may be the view that the gradient of y is
  View<T, 2, Space> kernel = {};         ///< summed over the sequences
  View<T, 1, Space> D = {};              ///< summed over the sequences
  View<T, 3, Space> initial_state = {};  ///< may be the view that the final state's gradient is
};

/// Scratch of the long convolution, of both directions. It grows to the largest call it has served,
/// and keeps nothing from one call to the next. Defined with the operation of each space.
template <class T, class Space = Host>
struct LongConvScratch;

}  // namespace ssm
