#pragma once

#include <algorithm>
#include <array>
#include <complex>
#include <cstddef>
#include <type_traits>

#include "ssm/conv/detail/cauchy.hpp"
#include "ssm/conv/fft.hpp"
#include "ssm/conv/s4_kernel_types.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"

namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// The shape of an S4 kernel: its nodes are j = 0 … (L − 1)/2, and for even L apart from them
/// ω = −1, where z is infinite.
struct S4KernelShape {
  Index channels, modes, rank, length;
  Index nodes;   ///< without ω = −1
  Index padded;  ///< to whole vectors
  Index pairs;   ///< (1 + rank)²
};

/// Groups of pairs that share the denominators of a Cauchy sum.
inline constexpr int pairs_together = 4;

inline S4KernelShape s4_kernel_shape(Index channels, Index modes, Index rank, Index length) {
  const Index nodes = (length + 1) / 2, width = lanes<double>;
  return {channels,
          modes,
          rank,
          length,
          nodes,
          (nodes + width - 1) / width * width,
          (1 + rank) * (1 + rank)};
}

/// Scratch of one thread. It grows to the largest call it has served.
struct S4ChannelScratch {
  RealFft<double> fft;
  Tensor<double, 1> time;                       ///< (length)
  Tensor<std::complex<double>, 1> spectrum;     ///< (length/2 + 1)
  Tensor<double, 1> tau;                        ///< (nodes)
  Tensor<double, 2> re, im;                     ///< (pairs, nodes): the sums, then their gradients
  Tensor<double, 1> coefficients;               ///< of one group of pairs
  Tensor<std::complex<double>, 2> left, right;  ///< (1 + rank, state/2): C̃, P*; B, P
  Tensor<std::complex<double>, 2> dleft, dright;  ///< conjugates of their gradients
  Tensor<std::complex<double>, 1> lambda;         ///< (state/2)
  Tensor<std::complex<double>, 1> dlambda;        ///< (state/2), likewise
  Tensor<std::complex<double>, 2> node;           ///< (1 + rank, 2 + rank), of one node
};

/// The kernels of single channels in double, and their gradients.
class S4Channel {
 public:
  using Complex = std::complex<double>;

  S4Channel(const S4KernelShape& shape, const double* tangents, S4ChannelScratch& scratch)
      : s_(shape), tangents_(tangents), w_(scratch), sides_(shape.rank + 1) {
    w_.time.resize({s_.length});
    w_.spectrum.resize({s_.length / 2 + 1});
    w_.tau.resize({s_.padded});
    w_.re.resize({s_.pairs + pairs_together, s_.padded});
    w_.im.resize({s_.pairs + pairs_together, s_.padded});
    w_.coefficients.resize({s_.modes * (2 + 2 * pairs_together)});
    w_.lambda.resize({s_.modes});
    w_.dlambda.resize({s_.modes});
    w_.node.resize({sides_, sides_ + 1});
    for (auto* side : {&w_.left, &w_.right, &w_.dleft, &w_.dright})
      side->resize({sides_, s_.modes});
  }

  template <class T>
  void load(const S4KernelInputs<T>& in, Index channel) {
    delta_ = static_cast<double>(in.delta(channel));
    for (Index n = 0; n < s_.modes; ++n) {
      w_.lambda(n) = Complex(in.lambda(channel, n));
      w_.left(0, n) = Complex(in.C(channel, n));
      w_.right(0, n) = Complex(in.B(channel, n));
      for (Index a = 0; a < s_.rank; ++a) {
        w_.right(a + 1, n) = Complex(in.P(channel, n, a));
        w_.left(a + 1, n) = std::conj(w_.right(a + 1, n));
      }
    }
    for (Index j = 0; j < s_.padded; ++j) w_.tau.data()[j] = 2 / delta_ * tangents_[j];
  }

  /// Writes the kernel (length).
  template <class T>
  void forward(const View<T, 1>& kernel) {
    sum_pairs();
    for (Index j = 0; j < s_.nodes; ++j) {
      w_.spectrum(j) = Complex(1, tangents_[j]) * solve(j);
    }
    if (s_.length % 2 == 0) {  // (Δ/2) Σ C̃ B over both halves; the correction vanishes
      double sum = 0;
      for (Index n = 0; n < s_.modes; ++n) sum += (w_.left(0, n) * w_.right(0, n)).real();
      w_.spectrum(s_.length / 2) = delta_ * sum;
    }
    w_.fft.inverse(s_.length, w_.spectrum.data(), w_.time.data());
    for (Index l = 0; l < s_.length; ++l) kernel(l) = static_cast<T>(w_.time(l));
  }

  /// From the gradient of the kernel (length), the conjugates of the gradients. Returns that by Δ.
  template <class T>
  double backward(const View<const T, 1>& dkernel) {
    for (Index l = 0; l < s_.length; ++l) w_.time(l) = static_cast<double>(dkernel(l));
    for (auto* gradient : {&w_.dleft, &w_.dright}) gradient->fill(0.0);
    w_.dlambda.fill(0.0);
    if (s_.length == 0) return 0;
    w_.fft.forward(s_.length, w_.time.data(), w_.spectrum.data());
    sum_pairs();
    const auto length = static_cast<double>(s_.length);
    double delta_gradient = 0;
    for (Index j = 0; j < s_.nodes; ++j) {
      const Complex k = w_.spectrum(j) * ((j == 0 ? 1 : 2) / length);
      delta_gradient += solve_backward(j, std::conj(Complex(1, tangents_[j])) * k);
    }
    for (Index pair = 0; pair < s_.pairs; pair += step()) transpose(pair);
    for (Index n = 0; n < s_.modes; ++n) delta_gradient += (w_.dlambda(n) * w_.lambda(n)).real();
    delta_gradient /= delta_;
    if (s_.length % 2 == 0) {
      const double k = w_.spectrum(s_.length / 2).real() / length;
      for (Index n = 0; n < s_.modes; ++n) {
        const Complex C = w_.left(0, n), B = w_.right(0, n);
        w_.dleft(0, n) += k * delta_ * B;
        w_.dright(0, n) += k * delta_ * C;
        delta_gradient += k * (C * B).real();
      }
    }
    return delta_gradient;
  }

 private:
  /// Sums of pair (x, y) lie in row x (1 + rank) + y of re and im.
  [[nodiscard]] Complex sum(Index x, Index y, Index j) const noexcept {
    const Index pair = x * sides_ + y;
    return {w_.re(pair, j), w_.im(pair, j)};
  }
  /// x/y where |y|² is in range: half the time of a complex division.
  [[nodiscard]] static Complex ratio(Complex x, Complex y) noexcept {
    return x * std::conj(y) * (1 / std::norm(y));
  }
  [[nodiscard]] Index step() const noexcept { return s_.rank == 0 ? 1 : pairs_together; }

  void sum_pairs() {
    for (Index pair = 0; pair < s_.pairs; pair += step()) {
      const Index together = step();
      double* row = w_.coefficients.data();
      for (Index n = 0; n < s_.modes; ++n, row += 2 + 2 * together) {
        const Complex lambda = w_.lambda(n);
        row[0] = std::norm(lambda);
        row[1] = -2 * lambda.real();
        for (Index i = 0; i < together; ++i) {
          const bool present = pair + i < s_.pairs;
          const Complex v =
              present ? w_.left((pair + i) / sides_, n) * w_.right((pair + i) % sides_, n) : 0.0;
          row[2 + i] = -2 * (v * std::conj(lambda)).real();
          row[2 + together + i] = 2 * v.real();
        }
      }
      const auto run = [&](auto count) {
        cauchy_sums<count>(s_.modes, w_.coefficients.data(), s_.padded, w_.tau.data(),
                           &w_.re(pair, 0), &w_.im(pair, 0));
      };
      if (together == 1)
        run(std::integral_constant<int, 1>());
      else
        run(std::integral_constant<int, pairs_together>());
    }
  }

  /// r00 − r01 (I + r11)⁻¹ r10 at node j, the last row of an elimination.
  [[nodiscard]] Complex solve(Index j) const noexcept {
    if (s_.rank == 0) return sum(0, 0, j);
    if (s_.rank == 1) return sum(0, 0, j) - ratio(sum(0, 1, j) * sum(1, 0, j), 1.0 + sum(1, 1, j));
    eliminate(j);
    Complex value = sum(0, 0, j);
    for (Index a = 1; a < sides_; ++a) value -= sum(0, a, j) * w_.node(a, sides_);
    return value;
  }

  /// Solves (I + r11) w = r10 and x (I + r11) = r01 at node j: w in the last column of node and x
  /// in its first row. The Hermitian part of I + r11 is at least I for a stable Λ, so that no pivot
  /// is node.
  void eliminate(Index j) const noexcept {
    auto& m = w_.node;
    for (Index a = 1; a < sides_; ++a) {
      for (Index b = 1; b < sides_; ++b) m(a, b) = sum(a, b, j) + (a == b ? 1.0 : 0.0);
      m(a, sides_) = sum(a, 0, j);
      m(0, a) = sum(0, a, j);
    }
    for (Index k = 1; k < sides_; ++k)
      for (Index i = k + 1; i < sides_; ++i) {
        m(i, k) = ratio(m(i, k), m(k, k));
        for (Index b = k + 1; b <= sides_; ++b) m(i, b) -= m(i, k) * m(k, b);
      }
    for (Index a = sides_ - 1; a >= 1; --a) {
      for (Index b = a + 1; b < sides_; ++b) m(a, sides_) -= m(a, b) * m(b, sides_);
      m(a, sides_) = ratio(m(a, sides_), m(a, a));
    }
    for (Index b = 1; b < sides_; ++b) {
      for (Index a = 1; a < b; ++a) m(0, b) -= m(0, a) * m(a, b);
      m(0, b) = ratio(m(0, b), m(b, b));
    }
    for (Index b = sides_ - 1; b >= 1; --b)
      for (Index a = b + 1; a < sides_; ++a) m(0, b) -= m(0, a) * m(a, b);
  }

  /// Replaces the sums of node j by their gradients, s being that of the value of solve. Returns
  /// Σ Re(conj(gradient) sum).
  double solve_backward(Index j, Complex s) noexcept {
    if (s_.rank > 0) eliminate(j);
    double product = 0;
    for (Index x = 0; x < sides_; ++x)
      for (Index y = 0; y < sides_; ++y) {
        const Complex by_x = x == 0 ? 1.0 : -w_.node(0, x);
        const Complex by_y = y == 0 ? 1.0 : -w_.node(y, sides_);
        const Complex gradient = s * std::conj(by_x * by_y);
        product += (std::conj(gradient) * sum(x, y, j)).real();
        w_.re(x * sides_ + y, j) = gradient.real();
        w_.im(x * sides_ + y, j) = gradient.imag();
      }
    return product;
  }

  /// Adds what the pairs of one group give to dleft, dright and dlambda.
  void transpose(Index pair) {
    const Index together = step();
    for (Index i = 0; i < together; ++i)  // beyond the nodes, and beyond the pairs, lies padding
      for (Index j = pair + i < s_.pairs ? s_.nodes : 0; j < s_.padded; ++j)
        w_.re(pair + i, j) = w_.im(pair + i, j) = 0;
    std::array<Complex, pairs_together> p, slope;
    for (Index n = 0; n < s_.modes; ++n) {
      const auto run = [&](auto count) {
        cauchy_transpose<count>(w_.lambda(n), s_.padded, w_.tau.data(), &w_.re(pair, 0),
                                &w_.im(pair, 0), p.data(), slope.data());
      };
      if (together == 1)
        run(std::integral_constant<int, 1>());
      else
        run(std::integral_constant<int, pairs_together>());
      for (Index i = 0; i < (std::min)(together, s_.pairs - pair); ++i) {
        const Index x = (pair + i) / sides_, y = (pair + i) % sides_;
        const Complex left = w_.left(x, n), right = w_.right(y, n);
        w_.dleft(x, n) += p[static_cast<std::size_t>(i)] * right;
        w_.dright(y, n) += p[static_cast<std::size_t>(i)] * left;
        w_.dlambda(n) += slope[static_cast<std::size_t>(i)] * left * right;
      }
    }
  }

  S4KernelShape s_;
  const double* tangents_;
  S4ChannelScratch& w_;
  Index sides_;
  double delta_ = 0;
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
