// As CMakeLists.txt makes the sources of ssm::compiled.
#define SSM_COMPILED_SOURCE
#include "ssm/layers/rms_norm.hpp"

/// How wide the vectors are of the library that the loader chose.
int bytes_of_vectors() { return static_cast<int>(ssm::detail::vector_bytes); }
