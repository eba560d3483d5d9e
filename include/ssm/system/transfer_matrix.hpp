#pragma once

#include <array>
#include <cmath>
#include <complex>
#include <concepts>
#include <cstddef>
#include <initializer_list>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/error.hpp"
#include "ssm/system/interconnection.hpp"
#include "ssm/system/kalman_decomposition.hpp"
#include "ssm/system/state_space.hpp"
#include "ssm/system/transfer_function.hpp"
#include "ssm/system/transfer_function_arithmetic.hpp"

namespace ssm {

/// The transfer functions of a system of any number of inputs and outputs: G(output, input), all in
/// s or all in z.
/// @tparam K float, double, or their complex numbers
template <class K>
class TransferMatrix {
 public:
  using Scalar = K;                       ///< of a coefficient
  using Complex = std::complex<Real<K>>;  ///< of a value

  /// Zeros: 0/1 for each channel.
  /// @throws ShapeError when a size is negative
  TransferMatrix(Index outputs, Index inputs) : outputs_(outputs), inputs_(inputs) {
    if (outputs < 0 || inputs < 0)
      detail::throw_shape("TransferMatrix", "its size",
                          detail::to_string(std::array<Index, 2>{outputs, inputs}),
                          "no negative one");
    channels_.assign(static_cast<std::size_t>(outputs * inputs), constant(K(0)));
  }
  /// Row by row: {{G_11, G_12}, {G_21, G_22}}.
  /// @throws ShapeError when the rows differ in length
  TransferMatrix(std::initializer_list<std::initializer_list<TransferFunction<K>>> rows)
      : TransferMatrix(static_cast<Index>(rows.size()),
                       rows.size() == 0 ? 0 : static_cast<Index>(rows.begin()->size())) {
    Index at = 0;
    for (const auto& row : rows) {
      if (static_cast<Index>(row.size()) != inputs_)
        detail::throw_shape("TransferMatrix", "a row", std::to_string(row.size()) + " long",
                            std::to_string(inputs_) + " as the first is");
      for (const auto& channel : row) channels_[static_cast<std::size_t>(at++)] = channel;
    }
  }

  /// How many outputs it has.
  [[nodiscard]] Index outputs() const noexcept { return outputs_; }
  /// How many inputs it has.
  [[nodiscard]] Index inputs() const noexcept { return inputs_; }
  /// The transfer function from an input to an output, which are not checked.
  [[nodiscard]] TransferFunction<K>& operator()(Index output, Index input) {
    return channels_[static_cast<std::size_t>(output * inputs_ + input)];
  }
  /// The transfer function from an input to an output, which are not checked.
  [[nodiscard]] const TransferFunction<K>& operator()(Index output, Index input) const {
    return channels_[static_cast<std::size_t>(output * inputs_ + input)];
  }
  /// G(s), (outputs, inputs).
  [[nodiscard]] Eigen::Matrix<Complex, Eigen::Dynamic, Eigen::Dynamic> at(Complex s) const {
    Eigen::Matrix<Complex, Eigen::Dynamic, Eigen::Dynamic> G(outputs_, inputs_);
    for (Index j = 0; j < outputs_; ++j)
      for (Index i = 0; i < inputs_; ++i) G(j, i) = (*this)(j, i)(s);
    return G;
  }

 private:
  Index outputs_, inputs_;
  std::vector<TransferFunction<K>> channels_;
};

namespace detail {

template <class K>
void check_same_size(std::string_view function, const TransferMatrix<K>& G,
                     const TransferMatrix<K>& H) {
  const std::array<Index, 2> got{H.outputs(), H.inputs()}, want{G.outputs(), G.inputs()};
  if (got != want) throw_shape(function, "the second matrix", to_string(got), to_string(want));
}

/// op(G, H) channel by channel.
template <class K, class Op>
TransferMatrix<K> channel_by_channel(std::string_view function, TransferMatrix<K> G,
                                     const TransferMatrix<K>& H, const Op& op) {
  check_same_size(function, G, H);
  for (Index j = 0; j < G.outputs(); ++j)
    for (Index i = 0; i < G.inputs(); ++i) G(j, i) = op(G(j, i), H(j, i));
  return G;
}

}  // namespace detail

/// G + H, channel by channel.
/// @throws ShapeError when they differ in size; and as a sum of transfer functions does
template <class K>
[[nodiscard]] TransferMatrix<K> operator+(TransferMatrix<K> G, const TransferMatrix<K>& H) {
  return detail::channel_by_channel("operator+", std::move(G), H,
                                    [](const auto& g, const auto& h) { return g + h; });
}
/// G − H, channel by channel.
/// @throws ShapeError when they differ in size; and as a difference of transfer functions does
template <class K>
[[nodiscard]] TransferMatrix<K> operator-(TransferMatrix<K> G, const TransferMatrix<K>& H) {
  return detail::channel_by_channel("operator-", std::move(G), H,
                                    [](const auto& g, const auto& h) { return g - h; });
}
/// G H, the second after the first as matrices multiply: (G H)_ji = Σ_k G_jk H_ki.
/// @throws ShapeError when the inputs of G are not as many as the outputs of H; and as products and
///   sums of transfer functions do
template <class K>
[[nodiscard]] TransferMatrix<K> operator*(const TransferMatrix<K>& G, const TransferMatrix<K>& H) {
  if (G.inputs() != H.outputs())
    detail::throw_shape("operator*", "outputs of the second matrix", std::to_string(H.outputs()),
                        std::to_string(G.inputs()));
  TransferMatrix<K> product(G.outputs(), H.inputs());
  for (Index j = 0; j < G.outputs(); ++j)
    for (Index i = 0; i < H.inputs(); ++i)
      for (Index k = 0; k < G.inputs(); ++k)
        product(j, i) = k == 0 ? G(j, 0) * H(0, i) : product(j, i) + G(j, k) * H(k, i);
  return product;
}
/// k G.
template <class K>
[[nodiscard]] TransferMatrix<K> operator*(const std::type_identity_t<K>& k, TransferMatrix<K> G) {
  for (Index j = 0; j < G.outputs(); ++j)
    for (Index i = 0; i < G.inputs(); ++i) G(j, i) = k * G(j, i);
  return G;
}

/// The transfer functions of every channel of a system, as transfer_function gives them.
/// @param system continuous or discrete
/// @param readout of a discrete system; a continuous one has none
/// @throws DomainError when the system is not finite
/// Cost: outputs · inputs times that of transfer_function.
template <LinearSystem System>
[[nodiscard]] TransferMatrix<typename System::Scalar> transfer_matrix(
    const System& system, Readout readout = Readout::before) {
  TransferMatrix<typename System::Scalar> G(system.outputs(), system.inputs());
  for (Index j = 0; j < G.outputs(); ++j)
    for (Index i = 0; i < G.inputs(); ++i) G(j, i) = transfer_function(system, j, i, readout);
  return G;
}

namespace detail {

/// What state_space and discrete_state_space share: controllable companion forms side by side, one
/// for each denominator that an input meets, balanced as one.
template <class T>
StateSpace<T> matrix_form(std::string_view function, const TransferMatrix<T>& G) {
  struct Block {
    Index input;
    DenseVector<double> below;
    std::vector<std::pair<Index, DenseVector<double>>> above;  // of an output
  };
  std::vector<Block> blocks;
  Index states = 0;
  for (Index i = 0; i < G.inputs(); ++i)
    for (Index j = 0; j < G.outputs(); ++j) {
      auto [above, below] = proper_fraction_of(function, G(j, i));
      const double leading = below(0);
      for (Index k = 0; k < above.size(); ++k) above(k) /= leading;
      for (Index k = 0; k < below.size(); ++k) below(k) /= leading;
      Block* home = nullptr;
      for (Block& block : blocks) {
        bool same = block.input == i && block.below.size() == below.size();
        for (Index k = 0; same && k < below.size(); ++k) same = block.below(k) == below(k);
        if (same) home = &block;
      }
      if (home == nullptr) {
        states += below.size() - 1;
        blocks.push_back({i, std::move(below), {}});
        home = &blocks.back();
      }
      home->above.emplace_back(j, std::move(above));
    }
  using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;
  Matrix A = Matrix::Zero(states, states), B = Matrix::Zero(states, G.inputs());
  Matrix C = Matrix::Zero(G.outputs(), states), D = Matrix::Zero(G.outputs(), G.inputs());
  Index at = 0;
  for (const Block& block : blocks) {
    const Index k = block.below.size() - 1;
    for (Index j = 0; j < k; ++j) {
      if (j > 0) A(at + j - 1, at + j) = T(1);
      A(at + k - 1, at + j) = static_cast<T>(-block.below(k - j));
    }
    if (k > 0) B(at + k - 1, block.input) = T(1);
    for (const auto& [output, above] : block.above) {
      const double direct = above.size() == k + 1 ? above(0) : 0;
      D(output, block.input) += static_cast<T>(direct);
      for (Index j = 0; j < k; ++j) {
        const Index from = above.size() - 1 - j;
        C(output, at + j) =
            static_cast<T>((from >= 0 ? above(from) : 0) - block.below(k - j) * direct);
      }
    }
    at += k;
  }
  return balance_states(StateSpace<T>(A, B, C, D));
}

}  // namespace detail

/// A continuous system with these transfer functions. Outputs that share a denominator for an input
/// share its states, so that transfer_matrix and back gives inputs · states of them; it is minimal
/// only by chance.
/// @throws ShapeError, DomainError as state_space of a transfer function does for each
template <std::floating_point T>
[[nodiscard]] StateSpace<T> state_space(const TransferMatrix<T>& G) {
  return detail::matrix_form("state_space", G);
}

/// A discrete system with these transfer functions in z, read before the step; its states are those
/// of state_space.
/// @param G proper transfer functions
/// @param delta Δ, s
/// @throws ShapeError, DomainError as state_space does, and DomainError when Δ is not positive and
///   finite
template <std::floating_point T>
[[nodiscard]] DiscreteStateSpace<T> discrete_state_space(const TransferMatrix<T>& G,
                                                         std::type_identity_t<T> delta) {
  const auto form = detail::matrix_form("discrete_state_space", G);
  return {form.A(), form.B(), form.C(), form.D(), delta};
}

/// Each channel without the zeros and poles that cancel within it, as minimal of a transfer
/// function has them. What cancels between channels only a state space can show:
/// minimal_realization.
/// @param G the transfer functions
/// @param tolerance relative, ≥ 0, as of a transfer function; the square root of epsilon when it is
///   not given
/// @throws ShapeError, DomainError as minimal of a transfer function does
template <class K>
[[nodiscard]] TransferMatrix<K> minimal(
    TransferMatrix<K> G, Real<K> tolerance = std::sqrt(std::numeric_limits<Real<K>>::epsilon())) {
  for (Index j = 0; j < G.outputs(); ++j)
    for (Index i = 0; i < G.inputs(); ++i) G(j, i) = minimal(G(j, i), tolerance);
  return G;
}

/// The closed loop (I + G H)⁻¹ G of negative feedback through H; for positive feedback give −1 · H.
/// It is closed in state space, of which the minimal realization is taken, so that the channels
/// carry no factors of the loop that cancel.
/// @param G proper transfer functions
/// @param H proper transfer functions from the outputs of G to its inputs, both in s or both in z
/// @throws ShapeError when the sizes do not fit or one is improper
/// @throws DomainError as state_space does, and when I + G H is singular at infinity
/// Cost: 100 states³ and that of transfer_matrix.
template <std::floating_point T>
[[nodiscard]] TransferMatrix<T> feedback(const TransferMatrix<T>& G, const TransferMatrix<T>& H) {
  return transfer_matrix(minimal_realization(
      feedback(detail::matrix_form("feedback", G), detail::matrix_form("feedback", H))));
}

}  // namespace ssm
