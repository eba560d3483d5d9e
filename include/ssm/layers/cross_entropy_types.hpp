#pragma once

#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/tokens.hpp"

namespace ssm {

/// What cross_entropy reads.
template <class T, class Space = Host>
struct CrossEntropyInputs {
  View<const T, 2, Space> logits;  ///< (batch · length, vocab), elements of a row adjacent
  View<const Token, 2, Space> targets =
      {};  ///< (batch, length), each in [0, vocab), or options.ignore
};

/// How cross_entropy is to run.
struct CrossEntropyOptions {
  Token ignore = -100;  ///< targets of this value do not count, such as padding or a prompt; it may
                        ///< be a token of the vocabulary
  Index count = 0;  ///< the number of targets that the mean is over, where these are but a part of
                    ///< them; 0: those of this call that count
};

/// What cross_entropy writes.
template <class T, class Space = Host>
struct CrossEntropyOutputs {
  View<T, 2, Space> dlogits = {};  ///< (batch · length, vocab), optional: the gradient of the loss;
                                   ///< may be the memory of the logits
};

/// Scratch memory of cross_entropy. It grows to the largest call.
template <class T, class Space = Host>
struct CrossEntropyScratch;

template <class T>
struct CrossEntropyScratch<T, Host> {
  Tensor<double, 1> losses;  ///< (batch · length)
};

}  // namespace ssm
