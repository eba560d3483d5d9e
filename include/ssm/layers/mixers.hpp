#pragma once

#include "ssm/layers/s4.hpp"
#include "ssm/layers/s4d.hpp"
#include "ssm/layers/s4d_step.hpp"
#include "ssm/layers/s5.hpp"

/// Layers that mix a sequence along time, under the names by which a block finds their parts. A
/// StepScratch is made from weights and options.
namespace ssm {

/// s4d_forward, s4d_backward and s4d_step.
struct S4dMixer {
  using Shape = S4dShape;
  template <class T>
  using Weights = S4dWeights<T>;
  template <class T>
  using State = S4dState<T>;
  template <class T>
  using Options = S4dOptions<T>;
  template <class T>
  struct Saved {};  // backward computes the states again
  template <class T>
  using Workspace = S4dWorkspace<T>;
  template <class T>
  using StepScratch = S4dStepScratch<T>;

  template <class T>
  static void forward(const Cpu& backend, const Weights<T>& weights, const View<const T, 3>& input,
                      const State<T>* initial, const View<T, 3>& output, State<T>* final,
                      const Options<T>& options, Saved<T>&, Workspace<T>& workspace) {
    s4d_forward<T>(backend, weights, input, initial, output, final, options, workspace);
  }
  template <class T>
  static void backward(const Cpu& backend, const Weights<T>& weights, const View<const T, 3>& input,
                       const State<T>* initial, const Options<T>& options, const Saved<T>&,
                       const View<const T, 3>& doutput, const State<T>* dfinal,
                       Weights<T>& gradients, const View<T, 3>& dinput, State<T>* dinitial,
                       Workspace<T>& workspace) {
    s4d_backward<T>(backend, weights, input, initial, options, doutput, dfinal, gradients, dinput,
                    dinitial, workspace);
  }
  template <class T>
  static void step(const Weights<T>& weights, const View<const T, 2>& input, State<T>& state,
                   const View<T, 2>& output, StepScratch<T>& scratch) noexcept {
    s4d_step<T>(weights, input, state, output, scratch);
  }
};

/// s4_forward, s4_backward and s4_step.
struct S4Mixer {
  using Shape = S4Shape;
  template <class T>
  using Weights = S4Weights<T>;
  template <class T>
  using State = S4State<T>;
  template <class T>
  using Options = S4Options<T>;
  template <class T>
  struct Saved {};
  template <class T>
  using Workspace = S4Workspace<T>;
  template <class T>
  using StepScratch = S4StepScratch<T>;

  template <class T>
  static void forward(const Cpu& backend, const Weights<T>& weights, const View<const T, 3>& input,
                      const State<T>* initial, const View<T, 3>& output, State<T>* final,
                      const Options<T>& options, Saved<T>&, Workspace<T>& workspace) {
    s4_forward<T>(backend, weights, input, initial, output, final, options, workspace);
  }
  template <class T>
  static void backward(const Cpu& backend, const Weights<T>& weights, const View<const T, 3>& input,
                       const State<T>* initial, const Options<T>& options, const Saved<T>&,
                       const View<const T, 3>& doutput, const State<T>* dfinal,
                       Weights<T>& gradients, const View<T, 3>& dinput, State<T>* dinitial,
                       Workspace<T>& workspace) {
    s4_backward<T>(backend, weights, input, initial, options, doutput, dfinal, gradients, dinput,
                   dinitial, workspace);
  }
  template <class T>
  static void step(const Weights<T>& weights, const View<const T, 2>& input, State<T>& state,
                   const View<T, 2>& output, StepScratch<T>& scratch) noexcept {
    s4_step<T>(weights, input, state, output, scratch);
  }
};

/// s5_forward, s5_backward and s5_step.
struct S5Mixer {
  using Shape = S5Shape;
  template <class T>
  using Weights = S5Weights<T>;
  template <class T>
  using State = S5State<T>;
  template <class T>
  using Options = S5Options<T>;
  template <class T>
  using Saved = S5Saved<T>;
  template <class T>
  using Workspace = S5Workspace<T>;
  template <class T>
  using StepScratch = S5StepScratch<T>;

  template <class T>
  static void forward(const Cpu& backend, const Weights<T>& weights, const View<const T, 3>& input,
                      const State<T>* initial, const View<T, 3>& output, State<T>* final,
                      const Options<T>& options, Saved<T>& saved, Workspace<T>& workspace) {
    s5_forward<T>(backend, weights, input, initial, output, final, options, saved, workspace);
  }
  template <class T>
  static void backward(const Cpu& backend, const Weights<T>& weights, const View<const T, 3>& input,
                       const State<T>* initial, const Options<T>& options, const Saved<T>& saved,
                       const View<const T, 3>& doutput, const State<T>* dfinal,
                       Weights<T>& gradients, const View<T, 3>& dinput, State<T>* dinitial,
                       Workspace<T>& workspace) {
    s5_backward<T>(backend, weights, input, initial, options, saved, doutput, dfinal, gradients,
                   dinput, dinitial, workspace);
  }
  template <class T>
  static void step(const Weights<T>& weights, const View<const T, 2>& input, State<T>& state,
                   const View<T, 2>& output, StepScratch<T>& scratch) noexcept {
    s5_step<T>(weights, input, state, output, scratch);
  }
};

}  // namespace ssm
