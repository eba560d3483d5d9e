#pragma once

#include <concepts>
#include <string>
#include <string_view>

#include "ssm/core/error.hpp"
#include "ssm/core/view.hpp"

namespace ssm::detail {

/// Checks the offsets of sequences packed end to end in a batch of one: sequence s is
/// [offsets(s), offsets(s + 1)). Their values are not read on a device, as that would wait for it.
template <class Space>
void check_offsets(std::string_view function, const View<const Index, 1, Space>& offsets,
                   Index batch, Index length) {
  if (batch != 1)
    throw_shape(function, "offsets", "given with batch " + std::to_string(batch),
                "packed sequences in a batch of 1");
  const Index count = offsets.extent(0);
  if (count < 1) throw_shape(function, "offsets", "(0)", "at least one offset");
  if constexpr (std::same_as<Space, Host>) {
    if (offsets(0) != 0) throw_domain(function, "offsets[0]", std::to_string(offsets(0)), "0");
    for (Index s = 1; s < count; ++s)
      if (offsets(s) < offsets(s - 1))
        throw_domain(function, "offsets[" + std::to_string(s) + "]", std::to_string(offsets(s)),
                     "no less than the offset before it");
    if (offsets(count - 1) != length)
      throw_domain(function, "the last offset", std::to_string(offsets(count - 1)),
                   "the length, " + std::to_string(length));
  }
}

}  // namespace ssm::detail
