#pragma once

#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/tokens.hpp"

namespace ssm {

/// What cross_entropy reads.
template <class T, class Space = Host>
struct CrossEntropyInputs {
  View<const T, 2, Space> logits;  ///< (batch · length, vocab), elements of a row adjacent
  View<const Token, 2, Space> targets = {};  ///< (batch, length), each in [0, vocab) or to ignore
};

/// How cross_entropy is to run.
struct CrossEntropyOptions {
  Token ignore = -100;  ///< targets of this value count for nothing: padding, or a prompt; a token
                        ///< of the vocabulary may be named too
};

/// What cross_entropy writes.
template <class T, class Space = Host>
struct CrossEntropyOutputs {
  View<T, 2, Space> dlogits = {};  ///< (batch · length, vocab), optional: the gradient of the loss;
                                   ///< may be the memory of the logits
};

/// Room of the loss, grown to its largest call.
template <class T, class Space = Host>
struct CrossEntropyScratch;

template <class T>
struct CrossEntropyScratch<T, Host> {
  Tensor<double, 1> losses;  ///< (batch · length)
};

}  // namespace ssm
