#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <type_traits>
#include <vector>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/detail/simd_lanes.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/view.hpp"

/// How channels lie side by side in the lanes of a convolution, and come and go.
namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// Neighbouring channels that are convolved together, one in each lane; or one channel, whose
/// neighbouring numbers are in the lanes.
struct LongConvBlock {
  Index channel, used;  ///< the first, and how many
  Index width;          ///< of the block in memory: the lanes of a vector, or 1
  Index memory;         ///< lanes in memory of the blocks before it
};

/// Channels in lanes where most lanes get one, the others one by one.
template <class T>
void cut_into_blocks(Index channels, std::vector<LongConvBlock>& blocks) {
  blocks.clear();
  Index before = 0;
  for (Index c = 0; c < channels;) {
    const Index used = (std::min)(channels - c, lanes<T>);
    const bool together = 2 * used > lanes<T>;
    blocks.push_back(together ? LongConvBlock{c, used, lanes<T>, before}
                              : LongConvBlock{c, 1, 1, before});
    c += blocks.back().used;
    before += blocks.back().width;
  }
}

/// From the taps of a block of channels, (channels, taps), to memory (taps, width); lanes without a
/// channel are zero.
template <class T>
void load_taps(const View<const T, 2>& kernel, const LongConvBlock& block, Index taps,
               T* to) noexcept {
  constexpr Index W = lanes<T>;
  for (Index l = 0; l < taps; l += block.width) {
    if (block.width == 1) {
      to[l] = kernel(block.channel, l);
      continue;
    }
    const Index some = (std::min)(W, taps - l);
    Square<T> square;
    for (Index c = 0; c < W; ++c) {
      Vec<T>& row = square[static_cast<std::size_t>(c)];
      row = Vec<T>(T(0));
      if (c >= block.used) continue;
      const T* const from = &kernel(block.channel + c, l);
      if (kernel.stride(1) == 1) {
        row = Vec<T>::load(from, some);
      } else {
        std::array<T, static_cast<std::size_t>(W)> numbers{};
        for (Index i = 0; i < some; ++i)
          numbers[static_cast<std::size_t>(i)] = from[i * kernel.stride(1)];
        row = Vec<T>::load(numbers.data());
      }
    }
    square = transpose(square);
    for (Index i = 0; i < some; ++i) square[static_cast<std::size_t>(i)].store(to + (l + i) * W);
  }
}
/// And back.
template <class T>
void store_taps(const T* from, const LongConvBlock& block, const View<T, 2>& kernel) noexcept {
  constexpr Index W = lanes<T>;
  const Index taps = kernel.extent(1);
  for (Index l = 0; l < taps; l += block.width) {
    if (block.width == 1) {
      kernel(block.channel, l) = from[l];
      continue;
    }
    const Index some = (std::min)(W, taps - l);
    Square<T> square;
    square.fill(Vec<T>(T(0)));
    for (Index i = 0; i < some; ++i)
      square[static_cast<std::size_t>(i)] = Vec<T>::load(from + (l + i) * W);
    square = transpose(square);
    for (Index c = 0; c < block.used; ++c) {
      T* const to = &kernel(block.channel + c, l);
      if (kernel.stride(1) == 1) {
        square[static_cast<std::size_t>(c)].store(to, some);
      } else {
        std::array<T, static_cast<std::size_t>(W)> numbers;
        square[static_cast<std::size_t>(c)].store(numbers.data());
        for (Index i = 0; i < some; ++i)
          to[i * kernel.stride(1)] = numbers[static_cast<std::size_t>(i)];
      }
    }
  }
}

/// The rows of a block of lanes of (length, channels), as vectors.
template <class U>
class BlockRows {
 public:
  using T = std::remove_const_t<U>;

  BlockRows(const View<U, 2>& steps, const LongConvBlock& block) noexcept
      : first_(steps.extent(0) == 0 ? nullptr : &steps(0, block.channel)),
        stride_(steps.stride(0)),
        apart_(steps.stride(1)),
        used_(block.used) {}

  // Inlined: a call between them would put every vector of the caller into memory.
  [[nodiscard, gnu::always_inline]] Vec<T> load(Index t) const noexcept {
    const U* const row = first_ + t * stride_;
    __builtin_prefetch(row + 24 * stride_);
    return apart_ == 1 ? Vec<T>::load(row, used_) : load_apart(row);
  }
  [[gnu::always_inline]] void store(Index t, Vec<T> row) const noexcept {
    U* const to = first_ + t * stride_;
    __builtin_prefetch(to + 24 * stride_, 1);
    apart_ == 1 ? row.store(to, used_) : store_apart(to, row);
  }

 private:
  [[nodiscard, gnu::noinline]] Vec<T> load_apart(const U* row) const noexcept {
    std::array<T, static_cast<std::size_t>(lanes<T>)> numbers{};
    for (Index c = 0; c < used_; ++c) numbers[static_cast<std::size_t>(c)] = row[c * apart_];
    return Vec<T>::load(numbers.data());
  }
  [[gnu::noinline]] void store_apart(U* to, Vec<T> row) const noexcept {
    std::array<T, static_cast<std::size_t>(lanes<T>)> numbers;
    row.store(numbers.data());
    for (Index c = 0; c < used_; ++c) to[c * apart_] = numbers[static_cast<std::size_t>(c)];
  }

  U* first_;
  Index stride_, apart_, used_;
};

/// From a block of channels of (length, channels) to memory (length, width); lanes without a
/// channel are zero. And back.
template <class T>
void load_block(const View<const T, 2>& steps, const LongConvBlock& block, T* to) noexcept {
  const BlockRows<const T> rows(steps, block);
  for (Index t = 0; t < steps.extent(0); ++t)
    if (block.width == 1)
      to[t] = steps(t, block.channel);
    else
      rows.load(t).store(to + t * lanes<T>);
}
template <class T>
void store_block(const T* from, const LongConvBlock& block, const View<T, 2>& steps) noexcept {
  const BlockRows<T> rows(steps, block);
  for (Index t = 0; t < steps.extent(0); ++t)
    if (block.width == 1)
      steps(t, block.channel) = from[t];
    else
      rows.store(t, Vec<T>::load(from + t * lanes<T>));
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
