#pragma once

#include <complex>
#include <concepts>
#include <limits>
#include <string>
#include <unsupported/Eigen/FFT>

#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"

namespace ssm {

/// The discrete Fourier transform of real sequences, X_k = Σ_t x_t e^{−2πikt/n} for k = 0 … n/2, by
/// Eigen's FFT. It keeps the tables of every length it has met, and so serves one thread at a time.
///
/// Lengths of small prime factors cost O(n log n) and multiples of 4 half of that; a prime factor p
/// costs O(n p).
template <std::floating_point T>
class RealFft {
 public:
  RealFft() { fft_.SetFlag(Eigen::FFT<T>::HalfSpectrum); }

  /// @param time (n)
  /// @param spectrum (n/2 + 1), written
  void forward(Index n, const T* time, std::complex<T>* spectrum) {
    if (n == 1)
      spectrum[0] = time[0];
    else if (n > 1)
      fft_.fwd(spectrum, time, checked(n));
  }

  /// The inverse, 1/n included. Imaginary parts of X_0 and, for even n, X_{n/2} do not count.
  /// @param spectrum (n/2 + 1)
  /// @param time (n), written
  void inverse(Index n, const std::complex<T>* spectrum, T* time) {
    if (n == 1)
      time[0] = spectrum[0].real();
    else if (n > 1)
      fft_.inv(time, spectrum, checked(n));
  }

 private:
  static int checked(Index n) {
    if (n > std::numeric_limits<int>::max())
      detail::throw_domain("RealFft", "n", std::to_string(n), "at most 2147483647");
    return static_cast<int>(n);
  }

  Eigen::FFT<T> fft_;
};

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

}  // namespace ssm
