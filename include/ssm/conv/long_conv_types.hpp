#pragma once

#include "ssm/core/index.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/view.hpp"

namespace ssm {

/// Kernels made ready by long_conv_spectra, for sequences of one length.
template <class T, class Space = Host>
struct LongConvSpectra;

/// What long_conv reads. S is the number of sequences: the rows of the batch, or the packed
/// sequences. Each sequence has a state of its own.
template <class T, class Space = Host>
struct LongConvInputs {
  View<const T, 3, Space> u;                   ///< (batch, length, channels)
  View<const T, 2, Space> kernel;              ///< K (channels, taps); tap 0 multiplies the present
                                               ///< input; at least one tap
  View<const T, 1, Space> D = {};              ///< (channels), optional: no feedthrough when absent
  View<const T, 3, Space> initial_state = {};  ///< (S, taps − 1, channels), optional: the inputs
                                               ///< before the first, oldest first; zero when absent
  Sequences<Space> sequences = {};             ///< packed sequences, and the direction of time
  const LongConvSpectra<T, Space>* spectra = nullptr;  ///< optional: what long_conv_spectra made of
                                                       ///< this kernel and D
};

/// How long_conv computes. All methods give the same result up to rounding.
enum class ConvMethod {
  automatic,  ///< whichever takes the fewest operations
  direct,     ///< the sum as it stands: length · taps multiply-adds
  fft,        ///< one transform over the whole sequence
  chunked     ///< overlap-save: transforms of a few times the taps, one after the other
};

/// How long_conv is to run.
struct LongConvOptions {
  ConvMethod method = ConvMethod::automatic;  ///< how it computes
};

/// What long_conv writes. Outputs share no memory with each other or with inputs, except as said
/// below.
template <class T, class Space = Host>
struct LongConvOutputs {
  View<T, 3, Space> y;                 ///< (batch, length, channels), may be the same view as u
  View<T, 3, Space> final_state = {};  ///< (S, taps − 1, channels), optional: the last inputs,
                                       ///< oldest first; may be the same view as initial_state
};

/// The gradients of a scalar loss with respect to the outputs, which long_conv_backward reads.
template <class T, class Space = Host>
struct LongConvOutputGradients {
  View<const T, 3, Space> y;  ///< (batch, length, channels)
  View<const T, 3, Space> final_state =
      {};  ///< (S, taps − 1, channels), optional: zero when absent
};

/// The gradients that long_conv_backward overwrites. Absent ones are not computed. Shapes are those
/// of the inputs.
template <class T, class Space = Host>
struct LongConvInputGradients {
  View<T, 3, Space> u = {};              ///< may be the same view as the gradient of y
  View<T, 2, Space> kernel = {};         ///< summed over the sequences
  View<T, 1, Space> D = {};              ///< summed over the sequences
  View<T, 3, Space> initial_state = {};  ///< may be the same view as the gradient of final_state
};

/// What long_conv_spectra reads.
template <class T, class Space = Host>
struct LongConvSpectraInputs {
  View<const T, 2, Space> kernel;  ///< K (channels, taps), at least one tap
  View<const T, 1, Space> D = {};  ///< (channels), optional: no feedthrough when absent
};

/// What the kernels are made ready for.
struct LongConvSpectraOptions {
  Index length;                               ///< steps of the sequences to be convolved
  ConvMethod method = ConvMethod::automatic;  ///< as long_conv will be given
};

/// What long_conv_spectra writes.
template <class T, class Space = Host>
struct LongConvSpectraOutputs {
  LongConvSpectra<T, Space>& spectra;  ///< overwritten
};

/// Scratch memory of long_conv and long_conv_backward. It grows to the largest call, and nothing in
/// it is kept from one call for another.
template <class T, class Space = Host>
struct LongConvScratch;

/// Scratch memory of long_conv_spectra.
template <class T, class Space = Host>
struct LongConvSpectraScratch {
  LongConvScratch<T, Space> conv;  ///< of a convolution
};

}  // namespace ssm
