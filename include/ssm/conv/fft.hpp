#pragma once

#include <complex>
#include <concepts>
#include <limits>
#include <string>
#include <string_view>

#include "ssm/conv/detail/eigen_fft.hpp"
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
  if (has_large_factor(n))
    throw_domain(function, argument, std::to_string(n) + ", which has a prime factor above 50",
                 "a length of small factors, such as " + std::to_string(good_fft_size(n)));
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// The discrete Fourier transform of real sequences, X_k = Σ_t x_t e^{−2πikt/n} for k = 0 … n/2, by
/// Eigen's FFT. It keeps tables for the lengths that it has been used with, so one object serves
/// one thread at a time.
///
/// Cost: O(n log n) for an n of small factors; a prime factor p costs O(n p). Every function throws
/// DomainError for an n above longest_fft.
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
    } else if (n > 1) {
      fft_.fwd(spectrum, time, checked(n));
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
    } else if (n > 1) {
      fft_.inv(time, spectrum, checked(n));
    }
  }

 private:
  static int checked(Index n) {
    if (n > longest_fft) detail::throw_fft_length("RealFft", "n", n);
    return static_cast<int>(n);
  }

  Eigen::FFT<T> fft_;
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
