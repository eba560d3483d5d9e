#pragma once

#include <cstddef>

#include "ssm/core/index.hpp"

/// What the compiler's flags say of the processor, and a name for it.
///
/// Code that depends on the width of vectors lives in `inline namespace SSM_DETAIL_ISA`, or has
/// `detail::Isa` among its template arguments or the types of its parameters, as `Cpu` is: two
/// objects of one program that were compiled for different processors then share none of it, where
/// the linker would keep one copy for both. A library for one kind of processor in place of
/// another's has the other's name defined for it, as CMakeLists.txt does for the shared
/// ssm::compiled.

/// Whether the processor multiplies bytes, four products a lane.
#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512BW__) && \
    defined(__AVX512VNNI__) && defined(__AVX512VBMI__)
#define SSM_DETAIL_BYTE_PRODUCTS 1
#else
#define SSM_DETAIL_BYTE_PRODUCTS 0
#endif

#if defined(SSM_DETAIL_ISA)
#elif SSM_DETAIL_BYTE_PRODUCTS
#define SSM_DETAIL_ISA avx512_vnni
#elif defined(__AVX512F__) && defined(__AVX512DQ__)
#define SSM_DETAIL_ISA avx512
#elif defined(__AVX2__) && defined(__FMA__)
#define SSM_DETAIL_ISA avx2
#elif defined(__AVX__) && defined(__FMA__)
#define SSM_DETAIL_ISA avx_fma
#elif defined(__AVX__)
#define SSM_DETAIL_ISA avx
#elif defined(__SSE4_1__)
#define SSM_DETAIL_ISA sse4
#elif defined(__aarch64__) && defined(__ARM_FEATURE_SVE)
#define SSM_DETAIL_ISA sve
#elif defined(__aarch64__)
#define SSM_DETAIL_ISA neon
#else
#define SSM_DETAIL_ISA baseline
#endif

namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// A type of another name for each such processor: a template argument that nobody passes.
struct Isa {};

#if defined(__AVX512F__) && defined(__AVX512DQ__)
inline constexpr std::size_t vector_bytes = 64;
inline constexpr int vector_registers = 32;
#elif defined(__AVX__)
inline constexpr std::size_t vector_bytes = 32;
inline constexpr int vector_registers = 16;
#elif defined(__aarch64__)
inline constexpr std::size_t vector_bytes = 16;
inline constexpr int vector_registers = 32;
#else
inline constexpr std::size_t vector_bytes = 16;
inline constexpr int vector_registers = 16;
#endif

/// Lanes of a vector of T.
template <class T>
inline constexpr Index lanes = static_cast<Index>(vector_bytes / sizeof(T));

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
