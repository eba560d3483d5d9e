#pragma once

#include <Eigen/Core>
#include <Eigen/LU>
#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <cstddef>
#include <numbers>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "ssm/conv/detail/cauchy.hpp"
#include "ssm/conv/fft.hpp"
#include "ssm/core/backend.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/discretize/dplr_step.hpp"

namespace ssm {

/// A diagonal plus low-rank model of every channel by itself, A = Λ − P P*, one of every conjugate
/// pair given. The output is truncated: C̃ = C (I − A_bar^L) for the length L of the kernel
/// (s4_truncate), which is what S4 trains.
template <class T>
struct S4KernelInputs {
  View<const std::complex<T>, 2> lambda;  ///< Λ (channels, state/2), 1/s
  View<const std::complex<T>, 3> P;       ///< (channels, state/2, rank), optional: rank 0
  View<const std::complex<T>, 2> B;       ///< (channels, state/2)
  View<const std::complex<T>, 2> C;       ///< C̃ (channels, state/2)
  View<const T, 1> delta;                 ///< Δ (channels), s
};

/// Gradients that backward overwrites; absent ones are skipped. The gradient by a complex k is
/// ∂/∂Re k + i ∂/∂Im k.
template <class T>
struct S4KernelGradients {
  View<std::complex<T>, 2> lambda;
  View<std::complex<T>, 3> P;
  View<std::complex<T>, 2> B;
  View<std::complex<T>, 2> C;
  View<T, 1> delta;
};

/// Scratch of the S4 kernel. It grows to the largest call it has served.
struct S4KernelWorkspace {
  struct Thread {
    RealFft<double> fft;
    Tensor<double, 1> time;                    ///< (length)
    Tensor<std::complex<double>, 1> spectrum;  ///< (length/2 + 1)
    Tensor<double, 1> tau;                     ///< (nodes)
    Tensor<double, 2> re, im;                  ///< (pairs, nodes): the sums, then their gradients
    Tensor<double, 1> coefficients;            ///< of one group of pairs
    Tensor<std::complex<double>, 2> left, right;    ///< (1 + rank, state/2): C̃, P*; B, P
    Tensor<std::complex<double>, 2> dleft, dright;  ///< conjugates of their gradients
    Tensor<std::complex<double>, 1> lambda;         ///< (state/2)
    Tensor<std::complex<double>, 1> dlambda;        ///< (state/2), likewise
    Tensor<std::complex<double>, 2> small;          ///< (1 + rank, 2 + rank), of one node
  };
  std::vector<Thread> threads;
  Tensor<double, 1> tangents;  ///< (nodes): tan(πj/L)
  Index length = -1;           ///< L of the tangents
};

namespace detail {

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

template <class T>
S4KernelShape check_s4(std::string_view name, const S4KernelInputs<T>& in, std::string_view kernel,
                       const View<const T, 2>& K) {
  const Index channels = in.lambda.extent(0), modes = in.lambda.extent(1);
  const Index rank = in.P ? in.P.extent(2) : 0, length = K.extent(1);
  check_optional_shape(name, "P", in.P, std::array{channels, modes, rank});
  check_shape(name, "B", in.B, std::array{channels, modes});
  check_shape(name, "C", in.C, std::array{channels, modes});
  check_shape(name, "delta", in.delta, std::array{channels});
  check_shape(name, kernel, K, std::array{channels, length});
  const Index nodes = (length + 1) / 2, width = lanes<double>;
  return {channels,
          modes,
          rank,
          length,
          nodes,
          (nodes + width - 1) / width * width,
          (1 + rank) * (1 + rank)};
}

/// The kernels of single channels in double, and their gradients.
class S4Channel {
 public:
  using Complex = std::complex<double>;

  S4Channel(const S4KernelShape& shape, const double* tangents, S4KernelWorkspace::Thread& scratch)
      : s_(shape), tangents_(tangents), w_(scratch), sides_(shape.rank + 1) {
    w_.time.resize({s_.length});
    w_.spectrum.resize({s_.length / 2 + 1});
    w_.tau.resize({s_.padded});
    w_.re.resize({s_.pairs + pairs_together, s_.padded});
    w_.im.resize({s_.pairs + pairs_together, s_.padded});
    w_.coefficients.resize({s_.modes * (2 + 2 * pairs_together)});
    w_.lambda.resize({s_.modes});
    w_.dlambda.resize({s_.modes});
    w_.small.resize({sides_, sides_ + 1});
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

  /// Leaves the kernel in time.
  void forward() {
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
  }

  /// From the gradient of the kernel in time, the conjugates of the gradients. Returns that by Δ.
  double backward() {
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
    for (Index a = 1; a < sides_; ++a) value -= sum(0, a, j) * w_.small(a, sides_);
    return value;
  }

  /// Solves (I + r11) w = r10 and x (I + r11) = r01 at node j: w in the last column of small and x
  /// in its first row. The Hermitian part of I + r11 is at least I for a stable Λ, so that no pivot
  /// is small.
  void eliminate(Index j) const noexcept {
    auto& m = w_.small;
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
        const Complex by_x = x == 0 ? 1.0 : -w_.small(0, x);
        const Complex by_y = y == 0 ? 1.0 : -w_.small(y, sides_);
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
      for (Index i = 0; i < std::min(together, s_.pairs - pair); ++i) {
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
  S4KernelWorkspace::Thread& w_;
  Index sides_;
  double delta_ = 0;
};

/// Calls body(channel, kernel, scratch) for every channel.
template <class T, class Body>
void for_s4_channels(const Cpu& backend, const S4KernelShape& shape, const S4KernelInputs<T>& in,
                     S4KernelWorkspace& workspace, const Body& body) {
  if (workspace.length != shape.length) {
    workspace.tangents.resize({shape.padded});
    workspace.tangents.fill(0.0);
    for (Index j = 0; j < shape.nodes; ++j)
      workspace.tangents(j) =
          std::tan(std::numbers::pi * static_cast<double>(j) / static_cast<double>(shape.length));
    workspace.length = shape.length;
  }
  const Index runs = std::min<Index>(shape.channels, backend.thread_count());
  if (static_cast<Index>(workspace.threads.size()) < runs)
    workspace.threads.resize(static_cast<std::size_t>(runs));
  parallel_for(backend, runs, [&](Index run) {
    auto& scratch = workspace.threads[static_cast<std::size_t>(run)];
    S4Channel kernel(shape, workspace.tangents.data(), scratch);
    for (Index c = shape.channels * run / runs; c < shape.channels * (run + 1) / runs; ++c) {
      kernel.load(in, c);
      body(c, kernel, scratch);
    }
  });
}

}  // namespace detail

/// The convolution kernel of S4, K_l = C A_bar^l B_bar of the bilinear step for l = 0 … L − 1, from
/// its transform at the roots of unity ω_j = e^{−2πij/L} (Gu, Goel & Ré 2022, algorithm 1 and
/// appendix C.3), z_j = (2/Δ) i tan(πj/L):
///
///   K̂(ω) = 2/(1 + ω) · [r(C̃, B) − r(C̃, P) (I + r(P*, P))⁻¹ r(P*, B)],
///   r(X, Y) = Σ X_n Y_n/(z − Λ_n) over both halves of the pairs,  K̂(−1) = (Δ/2) Σ C̃ B.
///
/// Everything is computed in double, whatever T.
///
/// @param K (channels, L), written, any L
/// @throws ShapeError
/// Cost: about (10 + 16 (1 + rank)²) · state · L/4 flops and a transform of L a channel; the same
/// bits for every number of threads; allocates while the workspace grows.
template <class T>
void s4_kernel(const Cpu& backend, const S4KernelInputs<T>& in,
               const std::type_identity_t<View<T, 2>>& K, S4KernelWorkspace& workspace) {
  const auto shape = detail::check_s4<T>("s4_kernel", in, "K", K);
  if (shape.length == 0) return;
  detail::for_s4_channels(backend, shape, in, workspace,
                          [&](Index c, detail::S4Channel& kernel, auto& scratch) {
                            kernel.forward();
                            for (Index l = 0; l < shape.length; ++l)
                              K(c, l) = static_cast<T>(scratch.time(l));
                          });
}

/// The gradients of s4_kernel, that of C being by the truncated C̃ as it stands.
/// @param dK the gradient of K (channels, L)
/// @throws ShapeError
/// Cost: about three times s4_kernel.
template <class T>
void s4_kernel_backward(const Cpu& backend, const S4KernelInputs<T>& in,
                        const std::type_identity_t<View<const T, 2>>& dK,
                        const S4KernelGradients<T>& gradients, S4KernelWorkspace& workspace) {
  constexpr std::string_view name = "s4_kernel_backward";
  const auto shape = detail::check_s4<T>(name, in, "gradient of K", dK);
  const std::array modes{shape.channels, shape.modes};
  detail::check_optional_shape(name, "gradient of lambda", gradients.lambda, modes);
  detail::check_optional_shape(name, "gradient of P", gradients.P,
                               std::array{shape.channels, shape.modes, shape.rank});
  detail::check_optional_shape(name, "gradient of B", gradients.B, modes);
  detail::check_optional_shape(name, "gradient of C", gradients.C, modes);
  detail::check_optional_shape(name, "gradient of delta", gradients.delta,
                               std::array{shape.channels});
  detail::for_s4_channels(
      backend, shape, in, workspace, [&](Index c, detail::S4Channel& kernel, auto& w) {
        for (Index l = 0; l < shape.length; ++l) w.time(l) = static_cast<double>(dK(c, l));
        const double delta = kernel.backward();
        const auto narrow = [](std::complex<double> p) { return std::complex<T>(std::conj(p)); };
        for (Index n = 0; n < shape.modes; ++n) {
          if (gradients.lambda) gradients.lambda(c, n) = narrow(w.dlambda(n));
          if (gradients.B) gradients.B(c, n) = narrow(w.dright(0, n));
          if (gradients.C) gradients.C(c, n) = narrow(w.dleft(0, n));
          for (Index a = 0; gradients.P && a < shape.rank; ++a)
            gradients.P(c, n, a) = narrow(w.dright(a + 1, n) + std::conj(w.dleft(a + 1, n)));
        }
        if (gradients.delta) gradients.delta(c) = static_cast<T>(delta);
      });
}

/// C (I + sign · A_bar^length) of one channel: with sign −1 the truncated output C̃ of a kernel of
/// that length, which s4_kernel reads; with sign +1 and the C̃ of a length, that of its double,
/// C̃_2L = C̃_L (I + A_bar^L).
///
/// @param step the bilinear step of the channel
/// @param C (state/2), of y = 2 Re(C h)
/// Cost: O(state³ log length), in double where T is.
template <std::floating_point T>
[[nodiscard]] typename DplrStep<T>::Vector s4_truncate(const DplrStep<T>& step,
                                                       const typename DplrStep<T>::Vector& C,
                                                       Index length, T sign = T(-1)) {
  const Index modes = step.modes();
  detail::check_matrix("s4_truncate", "C", C, modes, 1);
  if (length < 0)
    detail::throw_domain("s4_truncate", "length", std::to_string(length), "at least 0");
  // 2 Re(C h) = row · (Re h; Im h)
  Eigen::Matrix<T, 1, Dynamic> row(2 * modes);
  row << T(2) * C.real().transpose(), T(-2) * C.imag().transpose();
  Eigen::Matrix<T, 1, Dynamic> power = row;
  Eigen::Matrix<T, Dynamic, Dynamic> A_bar = transition_matrix(step);
  for (Index rest = length; rest > 0; rest /= 2) {
    if (rest % 2 == 1) power = (power * A_bar).eval();
    if (rest > 1) A_bar = (A_bar * A_bar).eval();
  }
  row += sign * power;
  typename DplrStep<T>::Vector truncated(modes);
  truncated.real() = row.head(modes).transpose() / T(2);
  truncated.imag() = row.tail(modes).transpose() / T(-2);
  return truncated;
}

/// The true C of one channel from C̃ = C (I − A_bar^length), the inverse of s4_truncate.
///
/// @param step the bilinear step of the channel, Λ stable
/// @param length at least 1
/// Cost: O(state³ log length), in double where T is.
template <std::floating_point T>
[[nodiscard]] typename DplrStep<T>::Vector s4_untruncate(const DplrStep<T>& step,
                                                         const typename DplrStep<T>::Vector& C,
                                                         Index length) {
  const Index modes = step.modes();
  detail::check_matrix("s4_untruncate", "C", C, modes, 1);
  if (length < 1)
    detail::throw_domain("s4_untruncate", "length", std::to_string(length), "at least 1");
  using Matrix = Eigen::Matrix<T, Dynamic, Dynamic>;
  Matrix power = Matrix::Identity(2 * modes, 2 * modes), A_bar = transition_matrix(step);
  for (Index rest = length; rest > 0; rest /= 2) {
    if (rest % 2 == 1) power = (power * A_bar).eval();
    if (rest > 1) A_bar = (A_bar * A_bar).eval();
  }
  Eigen::Matrix<T, Dynamic, 1> row(2 * modes);
  row << C.real(), -C.imag();
  const Matrix left = (Matrix::Identity(2 * modes, 2 * modes) - power).transpose();
  row = left.partialPivLu().solve(row).eval();
  typename DplrStep<T>::Vector result(modes);
  result.real() = row.head(modes);
  result.imag() = -row.tail(modes);
  return result;
}

}  // namespace ssm
