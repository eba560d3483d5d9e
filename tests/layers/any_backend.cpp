// Layers and models name no backend: what is compiled here, and never run, are their passes for two
// that the library does not have. One keeps its memory on a device, one in host memory, as a backend
// that cuts time over machines does. An operation that a layer calls is found by its first argument.

#include "ssm/cuda/memory.hpp"
#include "ssm/cuda/causal_conv.hpp"
#include "ssm/cuda/cross_entropy.hpp"
#include "ssm/cuda/linear.hpp"
#include "ssm/cuda/rms_norm.hpp"
#include "ssm/cuda/selective_scan.hpp"
#include "ssm/layers/attention.hpp"
#include "ssm/layers/attention_step.hpp"
#include "ssm/layers/gated.hpp"
#include "ssm/layers/gated_mlp.hpp"
#include "ssm/layers/mamba.hpp"
#include "ssm/layers/mamba_step.hpp"
#include "ssm/layers/one_of.hpp"
#include "ssm/layers/projected.hpp"
#include "ssm/layers/residual.hpp"
#include "ssm/layers/s4.hpp"
#include "ssm/layers/s4d.hpp"
#include "ssm/layers/s5.hpp"
#include "ssm/layers/stack.hpp"
#include "ssm/models/language_model.hpp"
#include "ssm/models/sequence_classifier.hpp"

// Room that a backend on a device will have for the operations that the library has on the host
// alone.
template <class T>
struct ssm::RotaryScratch<T, ssm::Device> {};
template <class T>
struct ssm::CausalAttentionScratch<T, ssm::Device> {};

namespace elsewhere {

template <class Space>
struct Backend {
  using space = Space;
};


}  // namespace elsewhere

namespace elsewhere {

using namespace ssm;

template <class Space, class T, std::size_t Rank>
void resize(const Backend<Space>&, Tensor<T, Rank>&,
            const std::type_identity_t<std::array<Index, Rank>>&) {}
template <class Space, class T, std::size_t Rank>
void resize(const Backend<Space>&, DeviceTensor<T, Rank>&,
            const std::type_identity_t<std::array<Index, Rank>>&) {}
template <class Space, class From, class To, std::size_t Rank, class FromSpace, class ToSpace>
void copy(const Backend<Space>&, const View<From, Rank, FromSpace>&,
          const View<To, Rank, ToSpace>&) {}

// An operation of the grammar: inputs are named, all else may be a braced list.
template <class S, class T, class W = View<const T, 2, S>>
void linear(const Backend<S>&, const LinearInputs<T, S, W>&, const LinearOptions&,
            const std::type_identity_t<LinearOutputs<T, S>>&, LinearScratch<T, S>&) {}
template <class S, class T, class W = View<const T, 2, S>>
void linear_backward(const Backend<S>&, const LinearInputs<T, S, W>&, const LinearOptions&,
                     const std::type_identity_t<LinearOutputGradients<T, S>>&,
                     const std::type_identity_t<LinearInputGradients<T, S>>&,
                     LinearScratch<T, S>&) {}

#define OPERATION(op, Op)                                                                    \
  template <class S, class T>                                                                \
  void op(const Backend<S>&, const std::type_identity_t<Op##Inputs<T, S>>&, const Op##Options&, \
          const std::type_identity_t<Op##Outputs<T, S>>&, Op##Scratch<T, S>&) {}
#define OPERATION_WITH_GRADIENTS(op, Op)                                                       \
  OPERATION(op, Op)                                                                            \
  template <class S, class T>                                                                  \
  void op##_backward(const Backend<S>&, const std::type_identity_t<Op##Inputs<T, S>>&,         \
                     const Op##Options&, const std::type_identity_t<Op##OutputGradients<T, S>>&, \
                     const std::type_identity_t<Op##InputGradients<T, S>>&, Op##Scratch<T, S>&) {}
OPERATION(add, Add)
OPERATION(copy_rows, CopyRows)
OPERATION_WITH_GRADIENTS(rms_norm, RmsNorm)
OPERATION_WITH_GRADIENTS(gelu, Gelu)
OPERATION_WITH_GRADIENTS(glu, Glu)
OPERATION_WITH_GRADIENTS(dropout, Dropout)
OPERATION_WITH_GRADIENTS(decay, Decay)
OPERATION_WITH_GRADIENTS(embedding, Embedding)
OPERATION_WITH_GRADIENTS(causal_conv, CausalConv)
OPERATION_WITH_GRADIENTS(mean_over_time, MeanOverTime)
OPERATION_WITH_GRADIENTS(rotary, Rotary)
OPERATION_WITH_GRADIENTS(causal_attention, CausalAttention)
OPERATION_WITH_GRADIENTS(swiglu, Swiglu)
template <class S, class T>
double cross_entropy(const Backend<S>&, const std::type_identity_t<CrossEntropyInputs<T, S>>&,
                     const CrossEntropyOptions&,
                     const std::type_identity_t<CrossEntropyOutputs<T, S>>&,
                     CrossEntropyScratch<T, S>&) {
  return 0;
}
template <class S, class T, class K>
void selective_scan(const Backend<S>&, const SelectiveScanInputs<T, K, S>&,
                    const SelectiveScanOptions&,
                    const std::type_identity_t<SelectiveScanOutputs<T, K, S>>&,
                    SelectiveScanScratch<T, K, S>&) {}
template <class S, class T, class K>
void selective_scan_backward(const Backend<S>&, const SelectiveScanInputs<T, K, S>&,
                             const SelectiveScanOptions&,
                             const std::type_identity_t<SelectiveScanOutputGradients<T, K, S>>&,
                             const std::type_identity_t<SelectiveScanInputGradients<T, K, S>>&,
                             SelectiveScanScratch<T, K, S>&) {}

/// Compiles both passes of a layer.
template <class Layer>
void passes(const Layer& layer, Layer& gradients, typename Layer::State& state,
            typename Layer::Scratch& scratch) {
  const Backend<typename Layer::space> backend;
  InputOf<Layer> input;
  OutputOf<Layer> output;
  forward(backend, layer, input, state, output, {}, scratch);
  backward(backend, layer, input, state, input, output, gradients, {}, scratch);
}

template <class Matrix>
using Block = Residual<Mamba<float, Matrix>>;
template <class Layer>
void compile() {
  Layer layer, gradients;
  typename Layer::State state;
  typename Layer::Scratch scratch;
  passes(layer, gradients, state, scratch);
}

template <class Layer>
void compile_models() {
  using Space = typename Layer::space;
  const Backend<Space> backend;
  LanguageModel<Layer> model, gradients;
  LanguageModelScratch<Layer> scratch;
  StackState<Layer> state;
  View<const Token, 2, Space> tokens;
  forward(backend, model, tokens, state, {}, {}, scratch);
  loss(backend, model, tokens, tokens, state, gradients, {}, scratch);
  SequenceClassifier<Layer> classifier, slopes;
  SequenceClassifierScratch<Layer> room;
  InputOf<Layer> sequences;
  View<const Token, 1, Space> labels;
  forward(backend, classifier, sequences, {}, {}, room);
  loss(backend, classifier, sequences, labels, slopes, {}, room);
}

template void compile<Mamba<float, DeviceTensor<float, 2>>>();
template void compile<Stack<Residual<Gated<Mamba<float, DeviceTensor<float, 2>>>>>>();
template void compile<Projected<Block<DeviceTensor<float, 2>>>>();
template void compile_models<Block<DeviceTensor<float, 2>>>();
template void compile<Attention<float, DeviceTensor<float, 2>>>();
template void compile<GatedMlp<float, DeviceTensor<float, 2>>>();
template void compile_models<OneOf<Residual<Attention<float>>, Residual<GatedMlp<float>>>>();
template void compile<Stack<OneOf<Block<Tensor<float, 2>>, Gated<Mamba<float>>>>>();
template void compile_models<Block<Tensor<float, 2>>>();

}  // namespace elsewhere
