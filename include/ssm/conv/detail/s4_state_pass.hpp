#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <complex>
#include <cstdint>

#include "ssm/conv/detail/dplr_powers.hpp"
#include "ssm/conv/s4_state_types.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/discretize/dplr_step.hpp"

namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// Scratch of one thread. It grows to the largest call it has served.
struct S4StateThread {
  DplrStep<double> step{0, 0};
  DplrStep<double>::Vector lambda, B;
  DplrStep<double>::Matrix P;
  DplrPowers powers;
  Tensor<double, 2> A_bar;            ///< (state, state)
  Tensor<double, 2> inputs, outputs;  ///< (block, state), (1 + block, state)
  Tensor<double, 3> rows;             ///< (blocks + 1, rows, state): the states between blocks
  Tensor<double, 2> columns;          ///< (rows, block): a block of u or y
  Tensor<double, 2> dinputs, doutputs, drows, before;
  Tensor<double, 2> inverse, product;  ///< (state, state)
};

/// Takes the state of one channel through groups of sequences of one length, `block` steps at once
/// while there are as many, then one by one:
///
///   h ← h N^k + Σ_j u_j b N^{k−1−j},  y_j += c N^{j+1} h.
///
/// Rows of states are those of the group twice over, where needed: first those that are driven by u
/// from rest, then those that move freely from the initial state. Their sum is the state; the
/// second alone is what a kernel does not know of.
template <class T>
class S4StatePass {
 public:
  static constexpr Index longest_block = 64;

  /// @param longest the steps of the longest group
  /// @param driven, free whether the states of either kind count; `outputs`: whether y does
  S4StatePass(const S4KernelInputs<T>& model, Index truncated, Index longest, bool driven,
              bool free, bool outputs, S4StateThread& scratch)
      : model_(model),
        truncated_(truncated),
        w_(scratch),
        state_(2 * model.lambda.extent(1)),
        rank_(s4_rank(model)),
        has_driven_(driven),
        has_free_(free),
        outputs_(outputs && free && longest > 0) {
    const Index modes = state_ / 2;
    block_ = static_cast<Index>(
        std::bit_floor(static_cast<std::uint64_t>(std::clamp<Index>(longest, 1, longest_block))));
    levels_ = DplrPowers::bits(outputs_ ? (std::max)(block_, truncated_) : block_);
    if (w_.step.modes() != modes || w_.P.rows() != modes || w_.P.cols() != rank_) {
      w_.step = DplrStep<double>(modes, rank_);
      w_.lambda.resize(modes);
      w_.B.resize(modes);
      w_.P.resize(modes, rank_);
    }
    w_.powers.resize(state_, outputs_ ? (std::max)(block_, truncated_) : block_);
    w_.A_bar.resize({state_, state_});
    w_.inputs.resize({block_, state_});
    w_.outputs.resize({1 + block_, state_});
  }

  /// Makes the tables of a channel.
  void load(Index channel) noexcept {
    for (Index n = 0; n < state_ / 2; ++n) {
      w_.lambda(n) = std::complex<double>(model_.lambda(channel, n));
      w_.B(n) = std::complex<double>(model_.B(channel, n));
      for (Index a = 0; a < rank_; ++a) w_.P(n, a) = std::complex<double>(model_.P(channel, n, a));
    }
    w_.step.assign(w_.lambda, w_.P, w_.B, static_cast<double>(model_.delta(channel)));
    w_.powers.load(w_.step, levels_);
    const auto as_state = [](double* row) { return reinterpret_cast<std::complex<double>*>(row); };
    const View<double, 2> in = w_.inputs, out = w_.outputs;
    std::fill_n(&in(block_ - 1, 0), state_, 0.0);
    w_.step(1, as_state(&in(block_ - 1, 0)));
    for (Index j = block_ - 1; j > 0; --j) {
      std::copy_n(&in(j, 0), state_, &in(j - 1, 0));
      w_.step(0, as_state(&in(j - 1, 0)));
    }
    for (Index i = 0; i < state_; ++i)
      for (Index j = 0; j < state_; ++j) w_.A_bar(i, j) = w_.powers.square(0)(j, i);
    if (!outputs_) return;
    for (Index n = 0; n < state_ / 2; ++n) {
      const std::complex<double> C = std::complex<double>(model_.C(channel, n));
      out(0, 2 * n) = 2 * C.real();
      out(0, 2 * n + 1) = -2 * C.imag();
    }
    w_.powers.untruncate(truncated_, &out(0, 0));
    for (Index j = 0; j < block_; ++j)
      set_product(out.slice(0, j, 1), w_.A_bar, out.slice(0, j + 1, 1));
  }

  /// Leaves the states between the blocks in rows. All views are of the group.
  void forward(Index channel, const View<const T, 3>& u,
               const View<const std::complex<T>, 3>& initial_state, const View<T, 3>& y) {
    batch_ = u.extent(0);
    length_ = u.extent(1);
    driven_ = has_driven_ ? batch_ : 0;
    free_ = has_free_ ? batch_ : 0;
    w_.rows.resize({pieces() + 1, driven_ + free_, state_});
    w_.columns.resize({batch_, block_});
    const View<double, 3> rows = w_.rows;
    for (Index i = 0; i < driven_ * state_; ++i) rows.data()[i] = 0;
    for (Index b = 0; b < free_; ++b)
      for (Index k = 0; k < state_; ++k)
        rows(0, driven_ + b, k) = initial_state ? part(initial_state, b, channel, k) : 0.0;
    for (Index piece = 0; piece < pieces(); ++piece) {
      const Piece at = piece_of(piece);
      const View<double, 2> now = rows[piece], next = rows[piece + 1];
      set_product(now, power(at), next);
      if (driven_ > 0) {
        load_columns(u, at, channel);
        add_product(columns(at), inputs(w_.inputs, at), next.slice(0, 0, driven_));
      }
      if (!outputs_ || !y) continue;
      set_product(now.slice(0, driven_, free_), flipped(outputs(w_.outputs, at)), columns(at));
      for (Index b = 0; b < batch_; ++b)
        for (Index j = 0; j < at.steps; ++j)
          y(b, at.begin + j, channel) += static_cast<T>(w_.columns(b, j));
    }
  }

  void store_final(Index channel, const View<std::complex<T>, 3>& to) const {
    const View<const double, 2> last = w_.rows.view()[pieces()];
    for (Index b = 0; b < batch_; ++b)
      for (Index k = 0; k < state_; ++k) {
        const double sum =
            (driven_ > 0 ? last(b, k) : 0.0) + (free_ > 0 ? last(driven_ + b, k) : 0);
        set_part(to, b, channel, k, sum);
      }
  }

  /// Before the first backward of a channel.
  void begin_backward() {
    w_.powers.resize_gradients();
    for (auto* square : {&w_.inverse, &w_.product}) square->resize({state_, state_});
    w_.dinputs.resize({block_, state_});
    w_.doutputs.resize({1 + block_, state_});
    for (auto* sum : {&w_.dinputs, &w_.doutputs}) sum->fill(0.0);
  }

  /// After forward of the same group, which `y` need not have been given to.
  void backward(Index channel, const View<const T, 3>& u,
                const DiagonalStateOutputGradients<T>& dout, const View<T, 3>& du,
                const View<std::complex<T>, 3>& dinitial_state) {
    const Index count = driven_ + free_;
    for (auto* one : {&w_.drows, &w_.before}) one->resize({count, state_});
    w_.drows.fill(0.0);
    const View<double, 2> g = w_.drows;
    for (Index b = 0; dout.final_state && b < batch_; ++b)
      for (Index k = 0; k < state_; ++k)
        for (Index r = b; r < count; r += batch_) g(r, k) = part(dout.final_state, b, channel, k);
    for (Index piece = pieces() - 1; piece >= 0; --piece) {
      const Piece at = piece_of(piece);
      const View<const double, 2> now = w_.rows.view()[piece];
      const View<double, 2> before = w_.before;
      add_product(flipped(now), g, w_.powers.square_gradient(level(at)));
      set_product(g, flipped(power(at)), before);
      if (driven_ > 0) {
        load_columns(u, at, channel);
        const View<double, 2> driven = g.slice(0, 0, driven_);
        add_product(flipped(columns(at)), driven, inputs(w_.dinputs, at));
        set_product(driven, flipped(inputs(w_.inputs, at)), columns(at));
        for (Index b = 0; du && b < batch_; ++b)
          for (Index j = 0; j < at.steps; ++j)
            du(b, at.begin + j, channel) += static_cast<T>(w_.columns(b, j));
      }
      if (outputs_ && dout.y) {
        load_columns(dout.y, at, channel);
        add_product(columns(at), outputs(w_.outputs, at), before.slice(0, driven_, free_));
        add_product(flipped(columns(at)), now.slice(0, driven_, free_), outputs(w_.doutputs, at));
      }
      std::copy_n(before.data(), before.size(), g.data());
    }
    for (Index b = 0; dinitial_state && b < batch_; ++b)
      for (Index k = 0; k < state_; ++k) set_part(dinitial_state, b, channel, k, g(driven_ + b, k));
  }

  /// After the last backward of a channel: the gradients of its model.
  void end_backward(Index channel, const S4KernelInputGradients<T>& to) noexcept {
    turn_tables_back();
    store_model(channel, to);
  }

 private:
  struct Piece {
    Index begin, steps;
  };

  [[nodiscard]] Index pieces() const noexcept { return length_ / block_ + length_ % block_; }
  [[nodiscard]] Piece piece_of(Index i) const noexcept {
    const Index whole = length_ / block_;
    return i < whole ? Piece{i * block_, block_} : Piece{whole * block_ + i - whole, 1};
  }
  [[nodiscard]] Index level(const Piece& at) const noexcept {
    return DplrPowers::bits(at.steps) - 1;
  }
  [[nodiscard]] View<const double, 2> power(const Piece& at) const noexcept {
    return w_.powers.square(level(at));
  }
  /// b N^{steps−1}, …, b.
  [[nodiscard]] View<double, 2> inputs(Tensor<double, 2>& table, const Piece& at) const noexcept {
    return table.view().slice(0, block_ - at.steps, at.steps);
  }
  /// c N, …, c N^steps, as columns of N meet them.
  [[nodiscard]] View<double, 2> outputs(Tensor<double, 2>& table, const Piece& at) const noexcept {
    return table.view().slice(0, 1, at.steps);
  }
  [[nodiscard]] View<double, 2> columns(const Piece& at) const noexcept {
    return w_.columns.view().slice(1, 0, at.steps);
  }

  template <class V>
  [[nodiscard]] static double part(const V& states, Index b, Index channel, Index k) noexcept {
    const auto value = states(b, channel, k / 2);
    return static_cast<double>(k % 2 == 0 ? value.real() : value.imag());
  }
  template <class V>
  static void set_part(const V& states, Index b, Index channel, Index k, double value) noexcept {
    auto& to = states(b, channel, k / 2);
    if (k % 2 == 0)
      to.real(static_cast<T>(value));
    else
      to.imag(static_cast<T>(value));
  }
  void load_columns(const View<const T, 3>& from, const Piece& at, Index channel) noexcept {
    for (Index b = 0; b < batch_; ++b)
      for (Index j = 0; j < at.steps; ++j)
        w_.columns(b, j) = static_cast<double>(from(b, at.begin + j, channel));
  }

  /// From the gradients of the tables to those of N, b and c̃, which end in square_gradient(0), in
  /// the last row of dinputs and in the first of doutputs.
  void turn_tables_back() noexcept {
    const View<double, 2> in = w_.inputs, din = w_.dinputs;
    for (Index j = 0; j + 1 < block_; ++j)
      add_product(din.slice(0, j, 1), w_.A_bar, din.slice(0, j + 1, 1));
    add_product(flipped(in.slice(0, 1, block_ - 1)), din.slice(0, 0, block_ - 1),
                w_.powers.square_gradient(0));
    if (outputs_) {
      const View<double, 2> out = w_.outputs, dout = w_.doutputs;
      for (Index j = block_; j > 0; --j)
        add_product(dout.slice(0, j, 1), w_.powers.square(0), dout.slice(0, j - 1, 1));
      add_product(flipped(dout.slice(0, 1, block_)), out.slice(0, 0, block_),
                  w_.powers.square_gradient(0));
      w_.powers.untruncate_backward(truncated_, &out(0, 0), &dout(0, 0));
    }
    w_.powers.load_backward(levels_);
  }

  /// With κ = 2/Δ and V = (κI − Aᵀ)⁻¹: N = 2κV − I and b = 2 B V.
  void store_model(Index channel, const S4KernelInputGradients<T>& to) noexcept {
    const auto delta = static_cast<double>(model_.delta(channel));
    const double kappa = 2 / delta;
    const View<double, 2> V = w_.inverse, dN = w_.powers.square_gradient(0), dV = w_.A_bar;
    const View<double, 2> dA = w_.A_bar;  // transposed
    const double* const db = &w_.dinputs(block_ - 1, 0);
    const auto number = [](std::complex<double> value, Index k) {
      return k % 2 == 0 ? value.real() : value.imag();
    };
    double dkappa = 0;
    for (Index i = 0; i < state_; ++i)
      for (Index j = 0; j < state_; ++j) {
        V(i, j) = (w_.powers.square(0)(i, j) + (i == j ? 1.0 : 0.0)) / (2 * kappa);
        dV(i, j) = 2 * kappa * dN(i, j) + 2 * number(w_.B(i / 2), i) * db[j];
        dkappa += 2 * dN(i, j) * V(i, j);
      }
    set_product(flipped(V), dV, w_.product);
    set_product(w_.product, flipped(V), dA);
    for (Index i = 0; i < state_; ++i) dkappa -= dA(i, i);
    if (to.delta) to.delta(channel) = static_cast<T>(-dkappa * kappa / delta);
    for (Index n = 0; n < state_ / 2; ++n) {
      const Index re = 2 * n, im = re + 1;
      const auto give = [&](auto& slot, double real, double imaginary) {
        slot = {static_cast<T>(real), static_cast<T>(imaginary)};
      };
      if (to.lambda) give(to.lambda(channel, n), dA(re, re) + dA(im, im), dA(re, im) - dA(im, re));
      if (to.B)
        give(to.B(channel, n), 2 * dot_rows(state_, &V(re, 0), db),
             2 * dot_rows(state_, &V(im, 0), db));
      if (to.C)
        give(to.C(channel, n), outputs_ ? 2 * w_.doutputs(0, re) : 0.0,
             outputs_ ? -2 * w_.doutputs(0, im) : 0.0);
      for (Index a = 0; to.P && a < rank_; ++a) {
        std::array<double, 2> sum{};
        for (Index k = 0; k < state_; ++k) {
          const double p = number(w_.P(k / 2, a), k);
          sum[0] -= 2 * (dA(re, k) + dA(k, re)) * p;
          sum[1] -= 2 * (dA(im, k) + dA(k, im)) * p;
        }
        give(to.P(channel, n, a), sum[0], sum[1]);
      }
    }
  }

  const S4KernelInputs<T>& model_;
  Index truncated_;
  S4StateThread& w_;
  Index state_, rank_;
  bool has_driven_, has_free_;
  bool outputs_;  // of the free rows
  Index block_ = 1, levels_ = 1;
  Index batch_ = 0, length_ = 0;  // of the group at hand
  Index driven_ = 0, free_ = 0;   // its rows
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
