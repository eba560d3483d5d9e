#pragma once

#include <Eigen/Core>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>

#include "ssm/core/eigen.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/layers/detail/initial_draws.hpp"
#include "ssm/layers/linear.hpp"

/// A gated recurrent unit (Cho et al. 2014, in the form of PyTorch and cuDNN), as the mixer of a
/// block: what an SSM layer is compared with.
///
///   [r, z] = σ(W u + b + R h),  n = tanh(W u + b + r ⊙ (R h + c)),  h ← (1 − z) ⊙ n + z ⊙ h.
namespace gru {

using ssm::Cpu;
using ssm::Index;
using ssm::Tensor;
using ssm::View;

struct Shape {
  Index width = 0;  ///< inputs, outputs and states

  friend bool operator==(const Shape&, const Shape&) = default;
};

template <class T>
struct Weights {
  Tensor<T, 2> input;      ///< W (3 · width, width): r, z, n
  Tensor<T, 1> bias;       ///< b (3 · width)
  Tensor<T, 2> recurrent;  ///< R (3 · width, width)
  Tensor<T, 1> candidate;  ///< c (width)

  Weights() = default;
  explicit Weights(const Shape& s)
      : input({3 * s.width, s.width}),
        bias({3 * s.width}),
        recurrent({3 * s.width, s.width}),
        candidate({s.width}) {}

  [[nodiscard]] Shape shape() const noexcept { return {candidate.extent(0)}; }

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
    f(std::string("input"), self.input, true);
    f(std::string("bias"), self.bias, false);
    f(std::string("recurrent"), self.recurrent, true);
    f(std::string("candidate"), self.candidate, false);
  }
};

/// U(±1/√width), as PyTorch draws it.
template <class T>
void initialize(Weights<T>& weights, std::uint64_t seed) {
  ssm::detail::InitialDraws draws(seed);
  const double bound = 1 / std::sqrt(static_cast<double>(weights.shape().width));
  weights.visit([&](const std::string&, auto& tensor, bool) { draws.uniform(tensor, bound); });
}

template <class T>
struct Saved {
  Tensor<T, 2> gates;  ///< (rows, 3 · width): r, z, n
  Tensor<T, 2> rest;   ///< (rows, width): R h + c of n
  Tensor<T, 2> h;      ///< (rows, width)
};

template <class T>
struct Workspace {
  Tensor<T, 2> dinput, drecurrent;  ///< (rows, 3 · width): gradients of W u + b and of R h
  Tensor<T, 2> before;              ///< (rows, width): h of the step before
  ssm::LinearWorkspace<T> linear;
};

struct Mixer {
  using Shape = gru::Shape;
  template <class T>
  using Weights = gru::Weights<T>;
  template <class T>
  struct State {};  // always from a state of zeros
  template <class T>
  struct Options {};
  template <class T>
  using Saved = gru::Saved<T>;
  template <class T>
  using Workspace = gru::Workspace<T>;

  template <class T>
  static void forward(const Cpu& backend, const Weights<T>& weights, const View<const T, 3>& input,
                      const State<T>*, const View<T, 3>& output, State<T>*, const Options<T>&,
                      Saved<T>& saved, Workspace<T>&) {
    const Index batch = input.extent(0), length = input.extent(1), width = input.extent(2);
    saved.gates.resize({batch * length, 3 * width});
    saved.rest.resize({batch * length, width});
    saved.h.resize({batch * length, width});
    ssm::linear_forward<T>(backend, ssm::detail::merge_rows("gru", "input", input), weights.input,
                           weights.bias, saved.gates);
    for_sequences(backend, batch, [&](Index first, Index count) {
      Rows<T> h = Rows<T>::Zero(count, width), recurrent(count, 3 * width);
      const auto c = ssm::as_eigen(weights.candidate.view()).array().transpose();
      for (Index t = 0; t < length; ++t) {
        recurrent.noalias() = h * matrix(weights.recurrent).transpose();
        auto gates = at_time(saved.gates, first, count, length, t);
        auto r = gates.leftCols(width).array();
        auto z = gates.middleCols(width, width).array();
        auto n = gates.rightCols(width).array();
        auto rest = at_time(saved.rest, first, count, length, t).array();
        r = sigmoid(r + recurrent.leftCols(width).array());
        z = sigmoid(z + recurrent.middleCols(width, width).array());
        rest = recurrent.rightCols(width).array().rowwise() + c;
        n = (n + r * rest).tanh();
        h = ((T(1) - z) * n + z * h.array()).matrix();
        at_time(saved.h, first, count, length, t) = h;
        for (Index b = 0; b < count; ++b)
          for (Index i = 0; i < width; ++i) output(first + b, t, i) = h(b, i);
      }
    });
  }

  template <class T>
  static void backward(const Cpu& backend, const Weights<T>& weights, const View<const T, 3>& input,
                       const State<T>*, const Options<T>&, const Saved<T>& saved,
                       const View<const T, 3>& doutput, const State<T>*, Weights<T>& gradients,
                       const View<T, 3>& dinput, State<T>*, Workspace<T>& w) {
    const Index batch = input.extent(0), length = input.extent(1), width = input.extent(2);
    w.dinput.resize({batch * length, 3 * width});
    w.drecurrent.resize({batch * length, 3 * width});
    w.before.resize({batch * length, width});
    for_sequences(backend, batch, [&](Index first, Index count) {
      Rows<T> dh = Rows<T>::Zero(count, width);
      for (Index t = length; t-- > 0;) {
        for (Index b = 0; b < count; ++b)
          for (Index i = 0; i < width; ++i) dh(b, i) += doutput(first + b, t, i);
        auto before = at_time(w.before, first, count, length, t);
        if (t > 0)
          before = at_time(saved.h, first, count, length, t - 1);
        else
          before.setZero();
        const auto gates = at_time(saved.gates, first, count, length, t);
        const auto r = gates.leftCols(width).array();
        const auto z = gates.middleCols(width, width).array();
        const auto n = gates.rightCols(width).array();
        const auto rest = at_time(saved.rest, first, count, length, t).array();
        auto by_input = at_time(w.dinput, first, count, length, t);
        auto by_recurrent = at_time(w.drecurrent, first, count, length, t);
        by_input.rightCols(width) = (dh.array() * (T(1) - z) * (T(1) - n * n)).matrix();
        by_input.middleCols(width, width) =
            (dh.array() * (before.array() - n) * z * (T(1) - z)).matrix();
        by_input.leftCols(width) =
            (by_input.rightCols(width).array() * rest * r * (T(1) - r)).matrix();
        by_recurrent = by_input;
        by_recurrent.rightCols(width).array() *= r;
        dh.array() *= z;
        dh.noalias() += by_recurrent * matrix(weights.recurrent);
      }
    });
    ssm::linear_backward<T>(backend, w.before, weights.recurrent, w.drecurrent,
                            {.x = {}, .weight = gradients.recurrent, .bias = gradients.bias},
                            w.linear);
    std::copy_n(gradients.bias.data() + 2 * width, width, gradients.candidate.data());
    ssm::linear_backward<T>(backend, ssm::detail::merge_rows("gru", "input", input), weights.input,
                            w.dinput,
                            {.x = ssm::detail::merge_rows("gru", "the gradient of input", dinput),
                             .weight = gradients.input,
                             .bias = gradients.bias},
                            w.linear);
  }

 private:
  template <class T>
  using Rows = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

  static constexpr Index sequences_at_once = 8;

  /// Calls body(first, count) for groups of sequences, on the threads of the backend.
  template <class Body>
  static void for_sequences(const Cpu& backend, Index batch, const Body& body) {
    const ssm::detail::Pieces pieces(batch, sequences_at_once);
    ssm::parallel_for(backend, pieces.pieces,
                      [&](Index i) { body(pieces.begin(i), pieces.size(i)); });
  }
  template <class T>
  static auto matrix(const Tensor<T, 2>& tensor) {
    return Eigen::Map<const Rows<T>>(tensor.data(), tensor.extent(0), tensor.extent(1));
  }
  /// The rows of `count` sequences at one time.
  template <class AnyTensor>
  static auto at_time(AnyTensor& rows, Index first, Index count, Index length, Index t) {
    using Plain = Rows<std::remove_cvref_t<decltype(*rows.data())>>;
    using Matrix =
        std::conditional_t<std::is_const_v<std::remove_reference_t<decltype(*rows.data())>>,
                           const Plain, Plain>;
    const Index columns = rows.extent(1);
    return Eigen::Map<Matrix, 0, Eigen::OuterStride<>>(rows.data() + (first * length + t) * columns,
                                                       count, columns,
                                                       Eigen::OuterStride<>(length * columns));
  }
  template <class Array>
  static auto sigmoid(const Array& x) {
    using T = typename Array::Scalar;
    return ((x * T(0.5)).tanh() + T(1)) * T(0.5);
  }
};

}  // namespace gru
