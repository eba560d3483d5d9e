#pragma once

// What a kernel is written in. A kernel is a struct of its parameters with an operator() that every
// thread of a block runs; all that it may ask of the machine is here. nvcc maps it to the device,
// any other compiler to the emulator of the tests.

#include <cstdint>

#include "ssm/core/index.hpp"

#ifdef __CUDACC__
#define SSM_DEVICE __device__ __forceinline__
#define SSM_HOST_DEVICE __host__ __device__ __forceinline__
#define SSM_UNROLL _Pragma("unroll")
#define SSM_PRAGMA(text) _Pragma(#text)
#define SSM_UNROLL_BY(count) SSM_PRAGMA(unroll count)
#else
#define SSM_DEVICE inline
#define SSM_HOST_DEVICE inline
#define SSM_UNROLL
#define SSM_UNROLL_BY(count)
#endif

namespace ssm::kernels {

inline constexpr int warp = 32;

/// `Count` adjacent elements that move as one.
template <class T, int Count>
struct alignas(sizeof(T) * Count < 16 ? sizeof(T) * Count : 16) Pack {
  T value[Count];

  SSM_DEVICE T& operator[](int i) { return value[i]; }
  SSM_DEVICE const T& operator[](int i) const { return value[i]; }
};

/// `Count` elements as memory holds them. As elements, nvcc would take those of 16 bits apart as
/// soon as they arrive, and so wait for them, and keep each in a register of its own.
template <class T, int Count>
struct Words {
  static_assert(sizeof(T) == 2 || sizeof(T) == 4);
  using Word = std::uint32_t;
  Pack<Word, static_cast<int>(sizeof(T)) * Count / 4> word;

  SSM_DEVICE T operator[](int i) const {
    if constexpr (sizeof(T) == 2) {
      T value;
      value.bits = static_cast<std::uint16_t>(word[i / 2] >> (i % 2 * 16));
      return value;
    } else {
      return __builtin_bit_cast(T, word[i]);
    }
  }
};

/// Calls use(i, load(i)) for 0 ≤ i < count, `Ahead` loads at a time and those of the next ones
/// before any use: what a use stores might else be what the next load reads, for all nvcc knows,
/// and each load would wait for it.
template <int Ahead, class Load, class Use>
SSM_DEVICE void walk_ahead(Index count, const Load& load, const Use& use) {
  decltype(load(Index(0))) next[Ahead], now[Ahead];
  const auto fetch = [&](Index first) {
    SSM_UNROLL
    for (int s = 0; s < Ahead; ++s)
      if (first + s < count) next[s] = load(first + s);
  };
  fetch(0);
  for (Index first = 0; first < count; first += Ahead) {
    SSM_UNROLL
    for (int s = 0; s < Ahead; ++s) now[s] = next[s];
    fetch(first + Ahead);
    SSM_UNROLL
    for (int s = 0; s < Ahead; ++s)
      if (first + s < count) use(first + s, now[s]);
  }
}

}  // namespace ssm::kernels

#ifdef __CUDACC__

namespace ssm::kernels {

/// An array in the shared memory of a block.
template <class T>
struct Shared {
  T* data;

  SSM_DEVICE T& operator[](int i) const { return data[i]; }
  template <int Count>
  SSM_DEVICE Pack<T, Count> load(int i) const {
    return *reinterpret_cast<const Pack<T, Count>*>(data + i);
  }
  template <int Count>
  SSM_DEVICE void store(int i, const Pack<T, Count>& pack) const {
    *reinterpret_cast<Pack<T, Count>*>(data + i) = pack;
  }
  /// The same memory as an array of something else.
  template <class U>
  SSM_DEVICE Shared<U> as() const {
    return {reinterpret_cast<U*>(data)};
  }
};

/// Reads or writes adjacent elements of global memory at once; the address is aligned to them.
template <int Count, class T>
SSM_DEVICE Words<T, Count> load_words(const T* from) {
  return *reinterpret_cast<const Words<T, Count>*>(from);
}
template <int Count, class T>
SSM_DEVICE void store_pack(T* to, const Pack<T, Count>& pack) {
  *reinterpret_cast<Pack<T, Count>*>(to) = pack;
}

/// What a thread sees of its block.
class Block {
 public:
  SSM_DEVICE int thread() const { return static_cast<int>(threadIdx.x); }
  SSM_DEVICE int threads() const { return static_cast<int>(blockDim.x); }
  SSM_DEVICE Index index() const { return static_cast<Index>(blockIdx.x); }
  SSM_DEVICE void sync() const { __syncthreads(); }
  /// sync(), and whether the condition holds in all threads.
  SSM_DEVICE bool all(bool condition) const { return __syncthreads_and(condition) != 0; }
  /// The value of the lane whose number differs in the bits of the mask.
  template <class T>
  SSM_DEVICE T shuffle_xor(T value, int mask) const {
    return __shfl_xor_sync(0xffffffffu, value, mask);
  }
  /// The next `count` elements of shared memory, aligned to 16 bytes; every thread asks for the
  /// same arrays in the same order.
  template <class T>
  SSM_DEVICE Shared<T> shared(int count) {
    extern __shared__ __align__(16) unsigned char memory[];
    T* data = reinterpret_cast<T*>(memory + used_);
    used_ += (count * static_cast<int>(sizeof(T)) + 15) / 16 * 16;
    return {data};
  }

 private:
  int used_ = 0;
};

}  // namespace ssm::kernels

#else
#include "support/block_emulator.hpp"
#endif
