#pragma once

#include <cstdint>

#include "block.hpp"

namespace ssm::kernels {

/// ssm::detail::mix, as a device may call it.
SSM_DEVICE std::uint64_t mixed(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace ssm::kernels
