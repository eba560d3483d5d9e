#pragma once

#include <cstdint>

namespace ssm {

/// While it lives, the arithmetic of the thread that made it takes numbers below the smallest
/// normal one for zero, and gives zero in their place; before and after as the thread had it.
///
/// A state that decays in silence ends among these denormal numbers and stays there, which slows a
/// step on many processors. Around the steps of a stream:
///
///   const ssm::FlushDenormals flush;
///   ssm::s4d_step<float>(weights, input, state, output, scratch);
///
/// Results move by less than 1.2e-38 in float, 2.3e-308 in double. No library function sets the
/// mode by itself, and other threads keep theirs. Without effect where `available` is false.
class FlushDenormals {
 public:
#if defined(__SSE2__) || defined(__aarch64__)
  static constexpr bool available = true;
#else
  static constexpr bool available = false;
#endif

  FlushDenormals() noexcept : before_(read()) { write(before_ | bits); }
  ~FlushDenormals() { write(before_); }
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
#if defined(__SSE2__)
  using Control = unsigned;
  static constexpr Control bits = 0x8040;  // flush to zero, denormals are zero
  static Control read() noexcept { return __builtin_ia32_stmxcsr(); }
  static void write(Control control) noexcept {
    asm volatile("" ::: "memory");  // no arithmetic on what is in memory passes the change
    __builtin_ia32_ldmxcsr(control);
    asm volatile("" ::: "memory");
  }
#elif defined(__aarch64__)
  using Control = std::uint64_t;
  static constexpr Control bits = Control{1} << 24;  // FZ
  static Control read() noexcept {
    Control control;
    asm volatile("mrs %0, fpcr" : "=r"(control));
    return control;
  }
  static void write(Control control) noexcept {
    asm volatile("msr fpcr, %0" ::"r"(control) : "memory");
  }
#else
  using Control = unsigned;
  static constexpr Control bits = 0;
  static Control read() noexcept { return 0; }
  static void write(Control) noexcept {}
#endif

  Control before_;
};

}  // namespace ssm
