#pragma once

#include "ssm/core/detail/float_control.hpp"
#include "ssm/core/index.hpp"

namespace ssm {

/// Flushes denormal numbers to zero in the arithmetic of the thread that made it, for as long as
/// this object lives. Its destructor restores the mode that the thread had before.
///
/// Denormal numbers are those below the smallest normal one. A state that decays while its input is
/// zero ends among them, where arithmetic is slow on many processors. Around the steps of a stream:
///
///   const ssm::FlushDenormals flush;
///   ssm::selective_scan_step(inputs, options, state, output);
///
/// Results change by less than 1.2e-38 in float and 2.3e-308 in double. No function of the library
/// sets this mode by itself. Other threads keep their own mode, and a parallel loop runs in that of
/// the thread that called it. Where `available` is false, this object does nothing.
class FlushDenormals {
 public:
  /// Whether denormals can be flushed on the processor that this is compiled for.
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
