// What ssm::compiled needs: the same headers either carry the bodies of what is expensive to
// compile, or, where that target defines SSM_COMPILED, leave them to its library.
//
// - A function that is no template is declared in its header within SSM_BEGIN_COMPILED …
//   SSM_END_COMPILED, and defined, marked SSM_INLINE, in <room>/detail/<header>_impl.hpp, which the
//   header includes at its end unless SSM_DECLARE_ONLY. Where its body is cheap to read, it stays
//   in the header, marked SSM_OUTLINE. Constructors are never marked: clang++ would compile one of
//   their two forms.
// - Instances of templates stand at the end of the header, where SSM_HAS_LIBRARY:
//   `SSM_INSTANCE_OPERATION(rms_norm, RmsNorm, float)`.
//
// The library is what CMakeLists.txt makes of the umbrella headers it lists: each is compiled with
// SSM_COMPILED_SOURCE, after those before it with SSM_COMPILED, so that nothing is compiled twice.
// For that this header may be included again, and has no #pragma once.
//
// The shared library may have wider vectors than the program that calls it, under the same names:
// what programs inline must not lay out by lanes<T> what functions of the library read.

#ifndef SSM_COMPILED_NAME
#include "ssm/core/detail/eigen_core.hpp"
#endif

#undef SSM_HAS_LIBRARY
#undef SSM_DECLARE_ONLY
#undef SSM_INLINE
#undef SSM_OUTLINE
#undef SSM_INSTANCE
#if defined(SSM_COMPILED_SOURCE)  // within the library
#define SSM_HAS_LIBRARY 1
#define SSM_DECLARE_ONLY 0
#define SSM_INLINE [[gnu::used]] inline
#define SSM_OUTLINE [[gnu::used, gnu::noinline]]
#define SSM_INSTANCE template
#elif defined(SSM_COMPILED)
#define SSM_HAS_LIBRARY 1
#define SSM_DECLARE_ONLY 1
#define SSM_INLINE inline
// gnu_inline: the body makes no code of its own. noinline: else compilers would instantiate every
// template again to see whether it is worth inlining.
#define SSM_OUTLINE [[gnu::gnu_inline, gnu::noinline]]
#define SSM_INSTANCE extern template __attribute__((noinline))
#else
#define SSM_HAS_LIBRARY 0
#define SSM_DECLARE_ONLY 0
#define SSM_INLINE inline
#define SSM_OUTLINE [[gnu::noinline]]
#define SSM_INSTANCE extern template
#endif

#ifndef SSM_COMPILED_NAME
// Eigen aligns its memory by the vector registers that it is compiled for, and what one translation
// unit allocates so another must not free otherwise. The names of compiled functions carry the
// alignment: a library built with other vector flags than the program does not link, and the names
// that the linker misses say why. Operations carry the name of the processor: they take a Cpu.
#define SSM_COMPILED_NAME(bytes) SSM_COMPILED_PASTE(vectors_of_, bytes)
#define SSM_COMPILED_PASTE(name, bytes) name##bytes##_bytes
#define SSM_BEGIN_COMPILED \
  namespace ssm::detail {  \
  inline namespace SSM_COMPILED_NAME(EIGEN_MAX_ALIGN_BYTES) {
#define SSM_END_COMPILED \
  }                      \
  }

// An operation for the scalar types given, in the one form that operations have, and its gradient.
// Within namespace ssm.
#define SSM_INSTANCE_FORWARD(op, Op, ...)                                              \
  SSM_INSTANCE void op(const Cpu&, const Op##Inputs<__VA_ARGS__>&, const Op##Options&, \
                       const Op##Outputs<__VA_ARGS__>&, Op##Scratch<__VA_ARGS__>&);
#define SSM_INSTANCE_BACKWARD(op, Op, ...)                                             \
  SSM_INSTANCE void op(const Cpu&, const Op##Inputs<__VA_ARGS__>&, const Op##Options&, \
                       const Op##OutputGradients<__VA_ARGS__>&,                        \
                       const Op##InputGradients<__VA_ARGS__>&, Op##Scratch<__VA_ARGS__>&);
#define SSM_INSTANCE_OPERATION(op, Op, ...) \
  SSM_INSTANCE_FORWARD(op, Op, __VA_ARGS__) \
  SSM_INSTANCE_BACKWARD(op##_backward, Op, __VA_ARGS__)

// The passes of a layer over sequences on the CPU.
#define SSM_INSTANCE_LAYER(...)                                                           \
  SSM_INSTANCE void forward(const Cpu&, const __VA_ARGS__&, const InputOf<__VA_ARGS__>&,  \
                            Maybe<StateOf<__VA_ARGS__>>, const OutputOf<__VA_ARGS__>&,    \
                            const OptionsOf<__VA_ARGS__>&, ScratchOf<__VA_ARGS__>&);      \
  SSM_INSTANCE void backward(const Cpu&, const __VA_ARGS__&, const InputOf<__VA_ARGS__>&, \
                             Maybe<StateOf<__VA_ARGS__>>, const InputOf<__VA_ARGS__>&,    \
                             const OutputOf<__VA_ARGS__>&, __VA_ARGS__&,                  \
                             const OptionsOf<__VA_ARGS__>&, ScratchOf<__VA_ARGS__>&);
#endif
