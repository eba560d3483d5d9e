#pragma once

#include <cstdint>

namespace ssm::detail {

/// A thread's mode of floating-point arithmetic: its rounding, and what becomes of denormal
/// numbers. Without effect on processors that are not listed here.
#if defined(__SSE2__)
using FloatControl = unsigned;
inline constexpr FloatControl flush_denormals_bits = 0x8040;  // flush to zero, denormals are zero
[[nodiscard]] inline FloatControl float_control() noexcept { return __builtin_ia32_stmxcsr(); }
inline void set_float_control(FloatControl control) noexcept {
  asm volatile("" ::: "memory");  // no arithmetic on what is in memory passes the change
  __builtin_ia32_ldmxcsr(control);
  asm volatile("" ::: "memory");
}
#elif defined(__aarch64__)
using FloatControl = std::uint64_t;
inline constexpr FloatControl flush_denormals_bits = FloatControl{1} << 24;  // FZ
[[nodiscard]] inline FloatControl float_control() noexcept {
  FloatControl control;
  asm volatile("mrs %0, fpcr" : "=r"(control));
  return control;
}
inline void set_float_control(FloatControl control) noexcept {
  asm volatile("msr fpcr, %0" ::"r"(control) : "memory");
}
#else
using FloatControl = unsigned;
inline constexpr FloatControl flush_denormals_bits = 0;
[[nodiscard]] inline FloatControl float_control() noexcept { return 0; }
inline void set_float_control(FloatControl) noexcept {}
#endif

}  // namespace ssm::detail
