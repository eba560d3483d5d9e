#pragma once

#include <cstdint>

namespace ssm {

/// Signed 64-bit type of every extent, stride and offset.
using Index = std::int64_t;

}  // namespace ssm
