#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "block.hpp"
#include "complex.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/view.hpp"

namespace ssm::kernels {

/// A view as a kernel reads it. Absent where the view was.
template <class T, int Rank>
struct Array {
  T* data = nullptr;
  Index stride[Rank] = {};
  bool present = false;

  Array() = default;
  template <class K, class Space>
  explicit Array(const View<K, static_cast<std::size_t>(Rank), Space>& view)
      : data(reinterpret_cast<T*>(view.data())), present(static_cast<bool>(view)) {
    static_assert(sizeof(K) == sizeof(T));
    const auto address = reinterpret_cast<std::uintptr_t>(view.data());
    if (address % alignof(T) != 0)  // the parts of a complex number move at once
      ssm::detail::throw_shape("ssm::cuda", "the address of an array of complex numbers",
                               std::to_string(address),
                               "a multiple of " + std::to_string(alignof(T)));
    for (std::size_t i = 0; i < static_cast<std::size_t>(Rank); ++i) stride[i] = view.stride(i);
  }

  /// A view (rows, steps, …) in the order of time.
  template <class K, class Space>
  Array(const View<K, static_cast<std::size_t>(Rank), Space>& view,
        const Sequences<Space>& sequences)
      : Array(ssm::detail::in_time(view, sequences)) {}

  template <class... Is>
  SSM_DEVICE T& operator()(Is... at) const {
    static_assert(sizeof...(Is) == Rank);
    const Index indices[] = {static_cast<Index>(at)...};
    Index offset = 0;
    for (int i = 0; i < Rank; ++i) offset += indices[i] * stride[i];
    return data[offset];
  }
};

}  // namespace ssm::kernels
