#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <concepts>
#include <cstddef>
#include <limits>
#include <numbers>
#include <string>
#include <string_view>
#include <unsupported/Eigen/FFT>
#include <vector>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// The smallest multiple of 4 that is at least n and has no prime factor above 5: a length whose
/// transform is fast.
[[nodiscard]] constexpr Index good_fft_size(Index n) noexcept {
  for (Index size = n <= 4 ? 4 : (n + 3) / 4 * 4;; size += 4) {
    Index rest = size;
    for (const Index factor : {2, 3, 5})
      while (rest % factor == 0) rest /= factor;
    if (rest == 1) return size;
  }
}

/// The longest transform of RealFft. Eigen's transform counts in int, up to four times the length.
inline constexpr Index longest_fft = (std::numeric_limits<int>::max)() / 4;

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

[[nodiscard]] constexpr bool has_large_factor(Index n) noexcept {
  for (Index factor = 2; factor <= 50; ++factor)
    while (n > 0 && n % factor == 0) n /= factor;
  return n > 1;
}

[[noreturn]] inline void throw_fft_length(std::string_view function, std::string_view argument,
                                          Index n) {
  throw_domain(function, argument, std::to_string(n),
               "at most " + std::to_string(longest_fft) + ", the longest transform");
}

/// Throws DomainError unless RealFft can transform n numbers.
inline void check_fft_length(std::string_view function, std::string_view argument, Index n) {
  if (n > longest_fft) throw_fft_length(function, argument, n);
  if (has_large_factor(n) && 2 * n - 1 > longest_fft)
    throw_domain(function, argument, std::to_string(n) + ", which has a prime factor above 50",
                 "at most " + std::to_string(longest_fft / 2) + " for such a length");
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// The discrete Fourier transform of real sequences, X_k = Σ_t x_t e^{−2πikt/n} for k = 0 … n/2.
///
/// It uses Eigen's FFT, and for an n with a prime factor above 50 the convolution with a chirp
/// (Bluestein 1970). It keeps tables for the lengths that it has been used with, so one object
/// serves one thread at a time.
///
/// Cost: O(n log n). Multiples of 4 whose prime factors are small are fastest; the chirp takes ten
/// times as long. Every function throws DomainError for an n above longest_fft, and for an n with a
/// prime factor above 50 that is above half of longest_fft.
template <std::floating_point T>
class RealFft {
 public:
  /// A transform for any length, without tables yet.
  RealFft() { fft_.SetFlag(Eigen::FFT<T>::HalfSpectrum); }

  /// The transform X of a real sequence x.
  /// @param n the length, 0 or more
  /// @param time x (n)
  /// @param spectrum X (n/2 + 1), written
  void forward(Index n, const T* time, std::complex<T>* spectrum) {
    if (n == 1) {
      spectrum[0] = time[0];
    } else if (n > 1 && !detail::has_large_factor(n)) {
      fft_.fwd(spectrum, time, checked(n));
    } else if (n > 1) {
      with_chirp(n, [&](Index t) { return std::complex<T>(time[t]); });
      std::copy_n(product_.data(), n / 2 + 1, spectrum);
    }
  }

  /// The inverse of `forward`, with the factor 1/n. The imaginary parts of X_0 and, for an even n,
  /// of X_{n/2} are taken as zero.
  /// @param n the length, 0 or more
  /// @param spectrum X (n/2 + 1)
  /// @param time x (n), written
  void inverse(Index n, const std::complex<T>* spectrum, T* time) {
    if (n == 1) {
      time[0] = spectrum[0].real();
    } else if (n > 1 && !detail::has_large_factor(n)) {
      fft_.inv(time, spectrum, checked(n));
    } else if (n > 1) {  // of a real sequence: that of the conjugates
      with_chirp(n, [&](Index k) {
        const bool real = k == 0 || 2 * k == n;
        return real         ? std::complex<T>(spectrum[k].real())
               : k <= n / 2 ? std::conj(spectrum[k])
                            : spectrum[n - k];
      });
      for (Index t = 0; t < n; ++t)
        time[t] = product_[static_cast<std::size_t>(t)].real() / static_cast<T>(n);
    }
  }

 private:
  static int checked(Index n) {
    if (n > longest_fft) detail::throw_fft_length("RealFft", "n", n);
    return static_cast<int>(n);
  }

  /// X_k = c_k Σ_t (x_t c_t) conj(c_{k−t}) with c_t = e^{−πit²/n}, in product_.
  template <class Input>
  void with_chirp(Index n, const Input& x) {
    const int size = checked(good_fft_size(2 * Index{checked(n)} - 1));
    const auto at = [](Index i) { return static_cast<std::size_t>(i); };
    work_.assign(at(size), T(0));
    product_.resize(at(size));
    if (chirp_n_ != n) {
      chirp_.resize(at(n));
      chirp_spectrum_.resize(at(size));
      for (Index t = 0; t < n; ++t) {
        const double angle =
            -std::numbers::pi * static_cast<double>(t * t % (2 * n)) / static_cast<double>(n);
        chirp_[at(t)] = {static_cast<T>(std::cos(angle)), static_cast<T>(std::sin(angle))};
        work_[at(t)] = work_[at((size - t) % size)] = std::conj(chirp_[at(t)]);
      }
      fft_.fwd(chirp_spectrum_.data(), work_.data(), size);
      work_.assign(at(size), T(0));
      chirp_n_ = n;
    }
    for (Index t = 0; t < n; ++t) work_[at(t)] = x(t) * chirp_[at(t)];
    fft_.fwd(product_.data(), work_.data(), size);
    for (Index k = 0; k < size; ++k) work_[at(k)] = product_[at(k)] * chirp_spectrum_[at(k)];
    fft_.inv(product_.data(), work_.data(), size);
    for (Index k = 0; k < n; ++k) product_[at(k)] *= chirp_[at(k)];
  }

  Eigen::FFT<T> fft_;
  std::vector<std::complex<T>> chirp_, chirp_spectrum_, work_, product_;
  Index chirp_n_ = 0;
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
