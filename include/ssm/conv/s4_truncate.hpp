#pragma once

#include <concepts>
#include <string>

#include "ssm/conv/detail/eigen_lu.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"
#include "ssm/discretize/dplr_step.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// C (I + sign · A_bar^length) of one channel.
///
/// With sign −1 and the output C of y = 2 Re(C h), this is the truncated output
/// C̃ = C (I − A_bar^length) of a kernel of that length, which s4_kernel reads. With sign +1 and the
/// C̃ of that length, it is the truncated output of kernels twice as long: C̃_2L = C̃_L (I + A_bar^L).
///
/// @param step the bilinear step of the channel
/// @param C (state/2)
/// Cost: O(state³ log length). The arithmetic is that of T.
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

/// The output C of one channel from the truncated output C̃ = C (I − A_bar^length): the inverse of
/// s4_truncate with sign −1.
///
/// @param step the bilinear step of the channel, whose Λ must be stable
/// @param length at least 1
/// Cost: O(state³ log length). The arithmetic is that of T.
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

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
