#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

#include "ssm/layers/dropout.hpp"
#include "ssm/layers/gelu_glu.hpp"
#include "ssm/layers/linear.hpp"
#include "ssm/layers/mixers.hpp"
#include "ssm/layers/rms_norm.hpp"

namespace ssm {

/// Weights of an S4 block around a mixer (S4dMixer says what that is), or their gradient.
template <class T, class Mixer = S4dMixer>
struct S4BlockWeights {
  using Shape = typename Mixer::Shape;

  Tensor<T, 1> norm;  ///< (width)
  typename Mixer::template Weights<T> mixer;
  Tensor<T, 2> out_proj;  ///< (2 · width, width)
  Tensor<T, 1> out_bias;  ///< (2 · width)

  S4BlockWeights() = default;
  /// All zero. @throws DomainError as the mixer's weights
  explicit S4BlockWeights(const Shape& s)
      : norm({s.width}), mixer(s), out_proj({2 * s.width, s.width}), out_bias({2 * s.width}) {}

  [[nodiscard]] Shape shape() const noexcept { return mixer.shape(); }

  /// Calls f(name, tensor, decay) for every parameter in a fixed order; weight decay applies to
  /// out_proj.
  template <class F>
  void visit(F&& f) {
    visit_parameters(*this, f);
  }
  template <class F>
  void visit(F&& f) const {
    visit_parameters(*this, f);
  }

 private:
  template <class Self, class F>
  static void visit_parameters(Self& self, F& f) {
    f(std::string("norm"), self.norm, false);
    self.mixer.visit([&](const std::string& name, auto& tensor, bool decay) {
      f("mixer." + name, tensor, decay);
    });
    f(std::string("out_proj"), self.out_proj, true);
    f(std::string("out_bias"), self.out_bias, false);
  }
};

/// Draws the weights of an S4 block: the mixer's by draw(weights.mixer, seed), a norm of 1, the
/// projection U(±1/√width), no bias.
template <class T, class Mixer,
          std::invocable<typename Mixer::template Weights<T>&, std::uint64_t> Draw>
void initialize(S4BlockWeights<T, Mixer>& weights, std::uint64_t seed, const Draw& draw) {
  draw(weights.mixer, seed);
  weights.norm.fill(T(1));
  detail::InitialDraws(~seed).uniform(weights.out_proj,
                                      1 / std::sqrt(static_cast<double>(weights.norm.extent(0))));
  weights.out_bias.fill(T(0));
}

/// The same where Λ and B of the mixer are given: S4D's modes, S5's block.
/// @throws as initialize of the mixer's weights
template <class T, class Mixer>
void initialize(S4BlockWeights<T, Mixer>& weights, const DiagonalModes<double>& modes,
                std::uint64_t seed, double delta_min = 1e-3, double delta_max = 1e-1) {
  initialize(weights, seed, [&](auto& mixer, std::uint64_t mixer_seed) {
    initialize(mixer, modes, mixer_seed, delta_min, delta_max);
  });
}

template <class T, class Mixer = S4dMixer>
struct S4BlockOptions {
  typename Mixer::template Options<T> mixer = {};
  T epsilon = T(1e-5);   ///< of the norm
  Dropout dropout = {};  ///< of training
  Index layer = 0;  ///< tells the masks of one pass apart: each block uses 2 layer, 2 layer + 1
};

/// What forward leaves for backward, with rows = batch · length.
template <class T, class Mixer = S4dMixer>
struct S4BlockSaved {
  Tensor<T, 2> normed;  ///< (rows, width)
  Tensor<T, 1> inverse_rms;
  typename Mixer::template Saved<T> mixer;
  Tensor<T, 2> mixed;      ///< (rows, width): output of the mixer
  Tensor<T, 2> activated;  ///< (rows, width): after GELU and dropout
  Tensor<T, 2> projected;  ///< (rows, 2 · width)

  /// Makes room for this many rows. Never allocates for no more rows than before.
  void resize(Index width, Index rows) {
    for (auto* tensor : {&normed, &mixed, &activated}) tensor->resize({rows, width});
    inverse_rms.resize({rows});
    projected.resize({rows, 2 * width});
  }
};

/// Scratch of an S4 block, grown to its largest call.
template <class T, class Mixer = S4dMixer>
struct S4BlockWorkspace {
  Tensor<T, 2> rows, other;  ///< (rows, width)
  Tensor<T, 2> projected;    ///< (rows, 2 · width)
  typename Mixer::template Workspace<T> mixer;
  LinearWorkspace<T> linear;
  RmsNormWorkspace<T> norm;
};

/// The S4 block (Gu, Goel & Ré 2022; pre-norm), on any number of steps from any state:
///
///   output = input + dropout(glu(out_proj · dropout(gelu(mixer(rms_norm(input)))) + out_bias)).
///
/// @param input, output (batch, length, width), rows evenly spaced; may be the same memory
/// @param initial null: a state of zeros; final null: not wanted. The two must differ.
/// @throws ShapeError, DomainError as the mixer
/// Cost per step: 2 · width² multiply-adds beside the mixer.
template <class T, class Mixer>
void s4_block_forward(const Cpu& backend, const S4BlockWeights<T, Mixer>& weights,
                      const View<const T, 3>& input,
                      const typename Mixer::template State<T>* initial, const View<T, 3>& output,
                      typename Mixer::template State<T>* final,
                      const S4BlockOptions<T, Mixer>& options, S4BlockSaved<T, Mixer>& saved,
                      S4BlockWorkspace<T, Mixer>& workspace) {
  constexpr const char* function = "s4_block_forward";
  const Index width = weights.norm.extent(0);
  const std::array<Index, 3> extents{input.extent(0), input.extent(1), width};
  detail::check_shape(function, "input", input, extents);
  detail::check_shape(function, "output", output, extents);
  const auto x = detail::merge_rows(function, "input", input);
  const auto y = detail::merge_rows(function, "output", output);
  saved.resize(width, x.extent(0));
  rms_norm_forward<T>(backend, x, weights.norm, options.epsilon, saved.normed, saved.inverse_rms);
  Mixer::template forward<T>(backend, weights.mixer, View<const T, 3>(saved.normed.data(), extents),
                             initial, View<T, 3>(saved.mixed.data(), extents), final, options.mixer,
                             saved.mixer, workspace.mixer);
  gelu_forward<T>(backend, saved.mixed, saved.activated);
  apply_dropout<T>(backend, options.dropout, 2 * options.layer, saved.activated);
  linear_forward<T>(backend, saved.activated, weights.out_proj, weights.out_bias, saved.projected);
  workspace.rows.resize({x.extent(0), width});
  glu_forward<T>(backend, saved.projected, workspace.rows);
  apply_dropout<T>(backend, options.dropout, 2 * options.layer + 1, workspace.rows);
  detail::for_row_vectors<T>(backend, x.extent(0), width, [&](Index r, Index i, Index n) {
    const auto added = detail::Vec<T>::load(&workspace.rows(r, i), n);
    (detail::Vec<T>::load(detail::at(x, r, i), n) + added).store(detail::at(y, r, i), n);
  });
}

/// Gradients of s4_block_forward: of every weight and the input, overwritten, and of the initial
/// state unless `dinitial` is null. `dfinal` is the gradient of the final state, null: zero. The
/// other arguments are those of the forward call.
/// @param dinput may be the memory of doutput
template <class T, class Mixer>
void s4_block_backward(const Cpu& backend, const S4BlockWeights<T, Mixer>& weights,
                       const View<const T, 3>& input,
                       const typename Mixer::template State<T>* initial,
                       const S4BlockOptions<T, Mixer>& options, const S4BlockSaved<T, Mixer>& saved,
                       const View<const T, 3>& doutput,
                       const typename Mixer::template State<T>* dfinal,
                       S4BlockWeights<T, Mixer>& gradients, const View<T, 3>& dinput,
                       typename Mixer::template State<T>* dinitial,
                       S4BlockWorkspace<T, Mixer>& workspace) {
  constexpr const char* function = "s4_block_backward";
  const Index width = weights.norm.extent(0);
  const std::array<Index, 3> extents{input.extent(0), input.extent(1), width};
  detail::check_shape(function, "input", input, extents);
  detail::check_shape(function, "the gradient of output", doutput, extents);
  detail::check_shape(function, "the gradient of input", dinput, extents);
  const auto x = detail::merge_rows(function, "input", input);
  const auto dy = detail::merge_rows(function, "the gradient of output", doutput);
  const auto dx = detail::merge_rows(function, "the gradient of input", dinput);
  const Index rows = x.extent(0);
  if (gradients.shape() != weights.shape()) gradients = S4BlockWeights<T, Mixer>(weights.shape());
  S4BlockWorkspace<T, Mixer>& d = workspace;
  d.rows.resize({rows, width});
  d.other.resize({rows, width});
  d.projected.resize({rows, 2 * width});
  for (Index r = 0; r < rows; ++r) std::copy_n(detail::at(dy, r, 0), width, &d.rows(r, 0));
  apply_dropout<T>(backend, options.dropout, 2 * options.layer + 1, d.rows);
  glu_backward<T>(backend, saved.projected, d.rows, d.projected);
  linear_backward<T>(backend, saved.activated, weights.out_proj, d.projected,
                     {.x = d.rows, .weight = gradients.out_proj, .bias = gradients.out_bias},
                     d.linear);
  apply_dropout<T>(backend, options.dropout, 2 * options.layer, d.rows);
  gelu_backward<T>(backend, saved.mixed, d.rows, d.rows);
  Mixer::template backward<T>(
      backend, weights.mixer, View<const T, 3>(saved.normed.data(), extents), initial,
      options.mixer, saved.mixer, View<const T, 3>(d.rows.data(), extents), dfinal, gradients.mixer,
      View<T, 3>(d.other.data(), extents), dinitial, d.mixer);
  for (Index r = 0; r < rows; ++r)
    if (detail::at(dy, r, 0) != detail::at(dx, r, 0))
      std::copy_n(detail::at(dy, r, 0), width, detail::at(dx, r, 0));
  rms_norm_backward<T>(backend, x, weights.norm, saved.inverse_rms, d.other, dx, gradients.norm,
                       d.norm, Write::accumulate);
}

/// What s4_block_step needs beside the weights: the options, and room for a batch.
template <class T, class Mixer = S4dMixer>
struct S4BlockStepScratch {
  T epsilon;
  typename Mixer::template StepScratch<T> mixer;
  Tensor<T, 2> normed, mixed, activated;  ///< (batch, width)
  Tensor<T, 2> projected;                 ///< (batch, 2 · width)

  /// Of the options the mixer's and epsilon count: a step knows no dropout.
  /// @throws as the mixer's scratch
  S4BlockStepScratch(const S4BlockWeights<T, Mixer>& weights, Index batch,
                     const S4BlockOptions<T, Mixer>& options = {})
      : epsilon(options.epsilon),
        mixer(weights.mixer, options.mixer),
        normed({batch, weights.norm.extent(0)}),
        mixed(normed.extents()),
        activated(normed.extents()),
        projected({batch, 2 * weights.norm.extent(0)}) {}
};

/// One step of a block on the calling thread, without dropout, `state` moved on in place. Nothing
/// is allocated. A shape that does not fit ends the program with a ShapeError.
///
/// @param input, output (batch, width), rows contiguous; may be the same memory
/// @param scratch made for this batch, and weights of this shape and any values
template <class T, class Mixer>
void s4_block_step(const S4BlockWeights<T, Mixer>& weights, const View<const T, 2>& input,
                   typename Mixer::template State<T>& state, const View<T, 2>& output,
                   S4BlockStepScratch<T, Mixer>& scratch) noexcept {
  const Index batch = input.extent(0), width = weights.norm.extent(0);
  detail::check_or_terminate([&] {
    constexpr std::string_view function = "s4_block_step";
    detail::check_shape(function, "input", input, scratch.normed.extents());
    detail::check_shape(function, "output", output, scratch.normed.extents());
    detail::check_shape(function, "norm", weights.norm, std::array{scratch.normed.extent(1)});
    detail::check_shape(function, "out_proj", weights.out_proj, std::array{2 * width, width});
    detail::check_shape(function, "out_bias", weights.out_bias, std::array{2 * width});
    detail::check_adjacent(function, "input", input);
  });
  for (Index b = 0; b < batch; ++b)
    detail::rms_norm_row(detail::at(input, b, 0), weights.norm.data(), width, scratch.epsilon,
                         &scratch.normed(b, 0));
  Mixer::template step<T>(weights.mixer, scratch.normed, state, scratch.mixed, scratch.mixer);
  gelu_forward<T>(cpu(1), scratch.mixed, scratch.activated);
  linear_step<T>(scratch.activated, weights.out_proj, weights.out_bias, scratch.projected);
  glu_forward<T>(cpu(1), scratch.projected, scratch.mixed);
  for (Index b = 0; b < batch; ++b)
    for (Index c = 0; c < width; ++c) output(b, c) = input(b, c) + scratch.mixed(b, c);
}

}  // namespace ssm
