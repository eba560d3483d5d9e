#pragma once

#include <Eigen/Core>

// What ssm::compiled needs: the same headers either carry the bodies of what is expensive to
// compile, or, where that target defines SSM_COMPILED, leave them to its library.
//
// A function that is no template is declared in its header within SSM_BEGIN_COMPILED …
// SSM_END_COMPILED, and defined, marked SSM_INLINE, in <room>/detail/<header>_impl.hpp, which the
// header includes at its end unless SSM_DECLARE_ONLY. Instances of templates stand at the end of
// the header, where SSM_HAS_LIBRARY: `SSM_INSTANCE void scan(View<float, 3>);`. The library is
// what CMakeLists.txt makes of the umbrella headers it lists: each compiled with
// SSM_COMPILED_SOURCE.

#if defined(SSM_COMPILED_SOURCE)  // within the library
#define SSM_HAS_LIBRARY 1
#define SSM_DECLARE_ONLY 0
#define SSM_INLINE [[gnu::used]] inline
#define SSM_INSTANCE template
#else
#if defined(SSM_COMPILED)
#define SSM_HAS_LIBRARY 1
#define SSM_DECLARE_ONLY 1
#else
#define SSM_HAS_LIBRARY 0
#define SSM_DECLARE_ONLY 0
#endif
#define SSM_INLINE inline
#define SSM_INSTANCE extern template
#endif

// Eigen aligns its memory by the vector registers that it is compiled for, and what one translation
// unit allocates so another must not free otherwise. The names of compiled functions carry the
// alignment: a library built with other vector flags than the program does not link, and the names
// that the linker misses say why.
#define SSM_COMPILED_NAME(bytes) SSM_COMPILED_PASTE(vectors_of_, bytes)
#define SSM_COMPILED_PASTE(name, bytes) name##bytes##_bytes
#define SSM_BEGIN_COMPILED \
  namespace ssm::detail {  \
  inline namespace SSM_COMPILED_NAME(EIGEN_MAX_ALIGN_BYTES) {
#define SSM_END_COMPILED \
  }                      \
  }
