#pragma once

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/detail/simd_lanes.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/view.hpp"
#include "ssm/scan/detail/selective_scan_kernel.hpp"

/// Tiles of a sequence, channels side by side in memory, as rows of time and back.
namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// Whether a block may be read and written a vector of channels at a time.
template <class T, class U>
[[nodiscard]] bool is_vector_block(const View<U, 2>& block) noexcept {
  return block.extent(1) == lanes<T> && block.stride(1) == 1;
}

/// A block (steps, channels) as rows of `chunk` steps, a multiple of lanes<T>: row r of channel c
/// starts at to + c · buffer + r · row. What the last row lacks is zero.
template <class T>
void load_chunks(const View<const T, 2>& from, Index chunk, T* to, Index buffer,
                 Index row) noexcept {
  constexpr Index W = lanes<T>;
  const Index steps = from.extent(0), step = from.stride(0);
  const Index whole = is_vector_block<T>(from) ? steps / W * W : 0;
  for (Index t = 0; t < whole; t += W) {
    Vec<T> x[W];
    unroll<W>([&](auto i) {
      x[i] = Vec<T>::load(from.data() + (t + i) * step);
      prefetch(from.data() + (t + i) * step, 2 * W * step);
    });
    transpose(x);
    T* const at = to + t / chunk * row + t % chunk;
    unroll<W>([&](auto i) { x[i].store(at + i * buffer); });
  }
  const Index end = (steps + chunk - 1) / chunk * chunk;
  for (Index c = 0; c < from.extent(1); ++c)
    for (Index t = whole; t < end; ++t)
      to[c * buffer + t / chunk * row + t % chunk] =
          t < steps ? from.data()[t * step + c * from.stride(1)] : T(0);
}

/// Channel c of a block (steps, channels) from from + c · buffer.
template <class T>
void store_chunks(const T* from, Index buffer, const View<T, 2>& to) noexcept {
  constexpr Index W = lanes<T>;
  const Index steps = to.extent(0), step = to.stride(0);
  const Index whole = is_vector_block<T>(to) ? steps / W * W : 0;
  for (Index t = 0; t < whole; t += W) {
    Vec<T> x[W];
    unroll<W>([&](auto i) {
      x[i] = Vec<T>::load(from + i * buffer + t);
      prefetch(to.data() + (t + i) * step, 2 * W * step);
    });
    transpose(x);
    unroll<W>([&](auto i) { x[i].store(to.data() + (t + i) * step); });
  }
  for (Index c = 0; c < to.extent(1); ++c)
    for (Index t = whole; t < steps; ++t)
      to.data()[t * step + c * to.stride(1)] = from[c * buffer + t];
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
