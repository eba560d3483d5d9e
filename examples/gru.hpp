#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "ssm/core/eigen.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/layers/detail/initial_draws.hpp"
#include "ssm/layers/layer.hpp"
#include "ssm/layers/linear.hpp"
#include "ssm/layers/step_by_forward.hpp"

/// What an SSM layer is compared with, and how a layer of one's own is written: all that follows is
/// asked of a ssm::SequenceLayer, and it serves wherever one does.
namespace gru {

using ssm::Cpu;
using ssm::Index;
using ssm::InputOf;
using ssm::Maybe;
using ssm::OptionsOf;
using ssm::OutputOf;
using ssm::Tensor;
using ssm::View;

struct Config {
  Index width = 0;  ///< inputs, outputs and states

  friend bool operator==(const Config&, const Config&) = default;
};
template <class Visit>
void fields(Config& config, Visit&& visit) {
  visit("width", config.width);
}

template <class T>
struct State {
  Tensor<T, 2> h;  ///< (sequences, width)
};

/// What forward leaves for backward, and room.
template <class T>
struct Scratch {
  ssm::LayerCall call;
  Tensor<T, 2> gates;               ///< (rows, 3 · width): r, z, n
  Tensor<T, 2> rest;                ///< (rows, width): R h + c of n
  Tensor<T, 2> before;              ///< (rows, width): h of the step before
  Tensor<T, 2> running, recurrent;  ///< (batch, width), (batch, 3 · width): h now, and R h
  Tensor<T, 2> dinput, drecurrent;  ///< (rows, 3 · width): gradients of W u + b and of R h
  ssm::LinearScratch<T> linear;
};

/// A gated recurrent unit (Cho et al. 2014, in the form of PyTorch and cuDNN), or its gradient:
///
///   [r, z] = σ(W u + b + R h),  n = tanh(W u + b + r ⊙ (R h + c)),  h ← (1 − z) ⊙ n + z ⊙ h.
template <class T>
struct Gru {
  using value_type = T;
  using space = ssm::Host;
  using Config = gru::Config;
  using State = gru::State<T>;
  using Scratch = gru::Scratch<T>;
  using Stepper = ssm::StepByForward<Gru>;

  gru::Config config;
  Tensor<T, 2> input;      ///< W (3 · width, width): r, z, n
  Tensor<T, 1> bias;       ///< b (3 · width)
  Tensor<T, 2> recurrent;  ///< R (3 · width, width)
  Tensor<T, 1> candidate;  ///< c (width)

  Gru() = default;
  explicit Gru(const gru::Config& c) : config(c) { ssm::resize_parameters(*this); }
};

template <class T, class Visit>
void parameters(Gru<T>& layer, Visit&& visit) {
  const Index width = layer.config.width;
  visit("input", layer.input, ssm::shape(3 * width, width), true);
  visit("bias", layer.bias, ssm::shape(3 * width), false);
  visit("recurrent", layer.recurrent, ssm::shape(3 * width, width), true);
  visit("candidate", layer.candidate, ssm::shape(width), false);
}

template <class T>
[[nodiscard]] State<T> make_state(const Gru<T>& layer, Index sequences) {
  return {Tensor<T, 2>({sequences, layer.config.width})};
}
template <class T, class Visit>
void tensors(State<T>& state, Visit&& visit) {
  visit("h", state.h);
}

/// U(±1/√width), as PyTorch draws it.
template <class T>
void initialize(Gru<T>& layer, std::uint64_t seed, Index = 1) {
  ssm::detail::InitialDraws draws(seed);
  const double bound = 1 / std::sqrt(static_cast<double>(layer.config.width));
  parameters(layer,
             [&](const auto&, auto& tensor, const auto&, bool) { draws.uniform(tensor, bound); });
}

namespace detail {

constexpr ssm::LayerSupports supports{.packed = true, .reversed = true, .rate = false};

template <class T>
using Rows = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Sequences of one length that run side by side, their steps in arrays of rows.
struct Group {
  Index first, count;   ///< of the sequences
  Index begin, length;  ///< the row of the first step of the first one, and the steps of each
  bool reversed;        ///< time runs from the last step to the first

  /// Where the i-th step in time of the first sequence lies.
  [[nodiscard]] Index row(Index i) const { return begin + (reversed ? length - 1 - i : i); }
};

/// Calls body(group) for groups of sequences, on the threads of the backend. Packed sequences run
/// one by one.
template <class Body>
void for_groups(const Cpu& backend, const ssm::Sequences<>& sequences, Index batch, Index length,
                const Body& body) {
  const Index count = sequences.count(batch), pieces = ssm::detail::Pieces(count, 8).pieces;
  ssm::parallel_for(backend, sequences.offsets || count == 0 ? count : pieces, [&](Index i) {
    const Index first = sequences.offsets ? i : count * i / pieces;
    const Index last = sequences.offsets ? i + 1 : count * (i + 1) / pieces;
    const auto span = ssm::detail::span_of(sequences, first, length);
    body(Group{first, last - first, span.row * length + span.begin, span.length(),
               sequences.reversed});
  });
}

/// `count` rows of an array, every `stride`-th from `first` on.
template <class AnyTensor>
auto rows_of(AnyTensor& rows, Index first, Index count, Index stride) {
  using Plain = Rows<std::remove_cvref_t<decltype(*rows.data())>>;
  using Matrix =
      std::conditional_t<std::is_const_v<std::remove_reference_t<decltype(*rows.data())>>,
                         const Plain, Plain>;
  const Index columns = rows.extent(1);
  return Eigen::Map<Matrix, 0, Eigen::OuterStride<>>(rows.data() + first * columns, count, columns,
                                                     Eigen::OuterStride<>(stride * columns));
}
/// The rows of the i-th step in time of a group, of an array with one for each step.
template <class AnyTensor>
auto at_time(AnyTensor& rows, const Group& group, Index i) {
  return rows_of(rows, group.row(i), group.count, group.length);
}
/// The rows of a group, of an array with one a sequence.
template <class AnyTensor>
auto at(AnyTensor& rows, const Group& group) {
  return rows_of(rows, group.first, group.count, 1);
}

template <class T>
auto matrix(const Tensor<T, 2>& tensor) {
  return Eigen::Map<const Rows<T>>(tensor.data(), tensor.extent(0), tensor.extent(1));
}

template <class Array>
auto sigmoid(const Array& x) {
  using T = typename Array::Scalar;
  return ((x * T(0.5)).tanh() + T(1)) * T(0.5);
}

}  // namespace detail

/// @param input, output (batch, length, width), rows evenly spaced, not the same memory
/// @throws ShapeError, DomainError for offsets that do not fit, or a rate
/// Cost: 6 · width² multiply-adds a step. A call of length 1 takes its rows one by one and
/// allocates nothing in a scratch that has served one as large.
template <class T>
void forward(const Cpu& backend, const Gru<T>& layer, const InputOf<Gru<T>>& input,
             Maybe<ssm::StateOf<Gru<T>>> state, const OutputOf<Gru<T>>& output,
             const OptionsOf<Gru<T>>& options, Scratch<T>& scratch) {
  ssm::check_forward("Gru forward", layer, input, state, output, options, detail::supports,
                     scratch.call);
  const Index batch = input.extent(0), length = input.extent(1), width = input.extent(2);
  const Index sequences = options.sequences.count(batch);
  const View<const T, 2> u = ssm::detail::merge_rows("Gru forward", "input", input);
  const View<T, 2> y = ssm::detail::merge_rows("Gru forward", "output", output);
  scratch.gates.resize({batch * length, 3 * width});
  scratch.rest.resize({batch * length, width});
  scratch.before.resize({batch * length, width});
  scratch.running.resize({sequences, width});
  scratch.recurrent.resize({sequences, 3 * width});
  if (state)
    std::copy(state->h.begin(), state->h.end(), scratch.running.begin());
  else
    scratch.running.fill(T(0));
  if (length == 1)
    linear_step(ssm::LinearInputs<T>{u, layer.input, layer.bias}, {}, scratch.gates);
  else
    linear(backend, {u, layer.input, layer.bias}, {}, {scratch.gates}, scratch.linear);
  detail::for_groups(backend, options.sequences, batch, length, [&](const detail::Group& group) {
    auto h = detail::at(scratch.running, group);
    auto recurrent = detail::at(scratch.recurrent, group);
    const auto c = ssm::as_eigen(layer.candidate.view()).array().transpose();
    for (Index i = 0; i < group.length; ++i) {
      if (length == 1)
        linear_step(ssm::LinearInputs<T>{scratch.running.view().slice(0, group.first, group.count),
                                         layer.recurrent},
                    {}, scratch.recurrent.view().slice(0, group.first, group.count));
      else
        recurrent.noalias() = h * detail::matrix(layer.recurrent).transpose();
      detail::at_time(scratch.before, group, i) = h;
      auto gates = detail::at_time(scratch.gates, group, i);
      auto r = gates.leftCols(width).array();
      auto z = gates.middleCols(width, width).array();
      auto n = gates.rightCols(width).array();
      auto rest = detail::at_time(scratch.rest, group, i).array();
      r = detail::sigmoid(r + recurrent.leftCols(width).array());
      z = detail::sigmoid(z + recurrent.middleCols(width, width).array());
      rest = recurrent.rightCols(width).array().rowwise() + c;
      n = (n + r * rest).tanh();
      h = ((T(1) - z) * n + z * h.array()).matrix();
      for (Index s = 0; s < group.count; ++s)
        for (Index k = 0; k < width; ++k) y(group.row(i) + s * group.length, k) = h(s, k);
    }
  });
  if (state) std::copy(scratch.running.begin(), scratch.running.end(), state->h.begin());
}

/// The gradients, of every weight and the input, overwritten; `dstate` from that by the state after
/// the last step to that by the state before the first.
/// @throws as forward, and ShapeError for the scratch of another call
template <class T>
void backward(const Cpu& backend, const Gru<T>& layer, const InputOf<Gru<T>>& input,
              Maybe<ssm::StateOf<Gru<T>>> dstate, const InputOf<Gru<T>>& doutput,
              const OutputOf<Gru<T>>& dinput, Gru<T>& gradients, const OptionsOf<Gru<T>>& options,
              Scratch<T>& scratch) {
  constexpr const char* function = "Gru backward";
  ssm::check_backward(function, layer, input, dstate, doutput, dinput, options, detail::supports,
                      scratch.call);
  const Index batch = input.extent(0), length = input.extent(1), width = input.extent(2);
  const View<const T, 2> dy = ssm::detail::merge_rows(function, "the gradient of output", doutput);
  ssm::resize_gradients(backend, layer, gradients);
  scratch.dinput.resize({batch * length, 3 * width});
  scratch.drecurrent.resize({batch * length, 3 * width});
  scratch.running.resize({options.sequences.count(batch), width});
  if (dstate)
    std::copy(dstate->h.begin(), dstate->h.end(), scratch.running.begin());
  else
    scratch.running.fill(T(0));
  detail::for_groups(backend, options.sequences, batch, length, [&](const detail::Group& group) {
    auto dh = detail::at(scratch.running, group);
    for (Index i = group.length; i-- > 0;) {
      for (Index s = 0; s < group.count; ++s)
        for (Index k = 0; k < width; ++k) dh(s, k) += dy(group.row(i) + s * group.length, k);
      const auto before = detail::at_time(scratch.before, group, i).array();
      const auto gates = detail::at_time(scratch.gates, group, i);
      const auto r = gates.leftCols(width).array();
      const auto z = gates.middleCols(width, width).array();
      const auto n = gates.rightCols(width).array();
      const auto rest = detail::at_time(scratch.rest, group, i).array();
      auto by_input = detail::at_time(scratch.dinput, group, i);
      auto by_recurrent = detail::at_time(scratch.drecurrent, group, i);
      by_input.rightCols(width) = (dh.array() * (T(1) - z) * (T(1) - n * n)).matrix();
      by_input.middleCols(width, width) = (dh.array() * (before - n) * z * (T(1) - z)).matrix();
      by_input.leftCols(width) =
          (by_input.rightCols(width).array() * rest * r * (T(1) - r)).matrix();
      by_recurrent = by_input;
      by_recurrent.rightCols(width).array() *= r;
      dh.array() *= z;
      dh.noalias() += by_recurrent * detail::matrix(layer.recurrent);
    }
  });
  if (dstate) std::copy(scratch.running.begin(), scratch.running.end(), dstate->h.begin());
  linear_backward(backend, {scratch.before, layer.recurrent}, {}, {scratch.drecurrent},
                  {.weight = gradients.recurrent, .bias = gradients.bias}, scratch.linear);
  std::copy_n(gradients.bias.data() + 2 * width, width, gradients.candidate.data());
  linear_backward(backend, {ssm::detail::merge_rows(function, "input", input), layer.input}, {},
                  {scratch.dinput},
                  {.x = ssm::detail::merge_rows(function, "the gradient of input", dinput),
                   .weight = gradients.input,
                   .bias = gradients.bias},
                  scratch.linear);
}

}  // namespace gru
