#pragma once

#include "ssm/core/detail/float_control.hpp"
#include "ssm/core/index.hpp"

namespace ssm {

/// While it lives, the arithmetic of the thread that made it takes numbers below the smallest
/// normal one for zero, and gives zero in their place; before and after as the thread had it.
///
/// A state that decays in silence ends among these denormal numbers and stays there, which slows a
/// step on many processors. Around the steps of a stream:
///
///   const ssm::FlushDenormals flush;
///   ssm::selective_scan_step(inputs, options, state, output);
///
/// Results move by less than 1.2e-38 in float, 2.3e-308 in double. No library function sets the
/// mode by itself, other threads keep theirs, and a parallel loop runs in its caller's. Without
/// effect where `available` is false.
class FlushDenormals {
 public:
  static constexpr bool available = detail::flush_denormals_bits != 0;

  FlushDenormals() noexcept : before_(detail::float_control()) {
    detail::set_float_control(before_ | detail::flush_denormals_bits);
  }
  ~FlushDenormals() { detail::set_float_control(before_); }
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  detail::FloatControl before_;
};

}  // namespace ssm
