#pragma once

#include <algorithm>
#include <array>
#include <boost/context/fiber.hpp>
#include <boost/context/fixedsize_stack.hpp>
#include <boost/context/stack_context.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "ssm/core/index.hpp"
#include "support/emulated_memory.hpp"

#if __has_include(<sanitizer/asan_interface.h>)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) static_cast<void>(0)
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) static_cast<void>(0)
#endif

/// The blocks of a GPU on the CPU: a fiber for each thread, barriers and shuffles as the places
/// where all of them, or those of a warp, must meet. What a device would leave undefined throws:
/// lanes of a warp that part before a shuffle, threads that miss a barrier, and in shared memory
/// an element out of bounds, one read before it was written, and two threads at one word with no
/// barrier between them.

namespace ssm::kernels {

using test::EmulationError;

class Block;

/// Stacks of fibers, each lent again after its fiber's end: new memory is slow under sanitizers.
class Stacks {
 public:
  Stacks() = default;
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;
  ~Stacks() {
    for (boost::context::stack_context& stack : free_) {
      ASAN_UNPOISON_MEMORY_REGION(begin(stack), stack.size);
      memory_.deallocate(stack);
    }
  }

  boost::context::stack_context take() {
    if (free_.empty()) return memory_.allocate();
    const boost::context::stack_context stack = free_.back();
    free_.pop_back();
    ASAN_UNPOISON_MEMORY_REGION(begin(stack), stack.size);
    return stack;
  }
  void give(const boost::context::stack_context& stack) {
    ASAN_POISON_MEMORY_REGION(begin(stack), stack.size);
    free_.push_back(stack);
  }

  /// What Boost asks for the stack of a fiber.
  struct Allocator {
    Stacks* stacks;
    boost::context::stack_context allocate() { return stacks->take(); }
    void deallocate(const boost::context::stack_context& stack) { stacks->give(stack); }
  };

 private:
  static constexpr std::size_t stack_bytes = 128 * 1024;
  static void* begin(const boost::context::stack_context& stack) {
    return static_cast<char*>(stack.sp) - stack.size;
  }
  boost::context::fixedsize_stack memory_{stack_bytes};
  std::vector<boost::context::stack_context> free_;
};

/// An array in the shared memory of a block, whose every use is checked.
template <class T>
class Shared {
 public:
  class Element {
   public:
    Element(Block& block, std::size_t byte) : block_(block), byte_(byte) {}
    Element(const Element&) = default;
    operator T() const;
    Element& operator=(const T& value);
    Element& operator=(const Element& other) { return *this = T(other); }
    Element& operator+=(const T& value) { return *this = T(*this) + value; }

   private:
    Block& block_;
    std::size_t byte_;
  };

  Shared(Block& block, std::size_t begin, int count)
      : block_(&block), begin_(begin), count_(count) {}

  Element operator[](int i) const { return {*block_, at(i)}; }
  template <int Count>
  Pack<T, Count> load(int i) const;
  template <int Count>
  void store(int i, const Pack<T, Count>& pack) const;
  /// The same memory as an array of something else.
  template <class U>
  [[nodiscard]] Shared<U> as() const {
    return {*block_, begin_,
            static_cast<int>(static_cast<std::size_t>(count_) * sizeof(T) / sizeof(U))};
  }

 private:
  [[nodiscard]] std::size_t at(int i) const {
    if (i < 0 || i >= count_)
      throw EmulationError("element " + std::to_string(i) + " of an array of " +
                           std::to_string(count_) + " in shared memory");
    return begin_ + static_cast<std::size_t>(i) * sizeof(T);
  }
  template <int Count>
  [[nodiscard]] std::size_t pack_at(int i) const {
    if (i % Count != 0) throw EmulationError("a pack in shared memory is not aligned");
    static_cast<void>(at(i + Count - 1));
    return at(i);
  }
  Block* block_;
  std::size_t begin_;
  int count_;
};

/// What accesses of shared memory would take on a device, where anybody wants to know. A warp's
/// access of 8 or 16 bytes a lane goes in two or four groups of lanes, in half as many where
/// neighbours, or lanes two apart, share their addresses; a group takes as many wavefronts as one
/// of the 32 banks has different words of it.
struct SharedTraffic {
  double wavefronts = 0, conflicts = 0;  ///< conflicts: wavefronts beyond one for each group
  static inline thread_local SharedTraffic* counted = nullptr;

  void add(const std::vector<std::size_t>& bytes, std::size_t size) {
    constexpr std::size_t bank_bytes = 4, banks = 32;
    std::size_t groups = size <= 4 ? 1 : size / 4;
    for (const std::size_t apart : {std::size_t(1), std::size_t(2)}) {
      bool shared = size > 4;
      for (std::size_t lane = 0; lane < bytes.size(); ++lane)
        shared = shared && bytes[lane] == bytes[lane ^ apart];
      if (shared) {
        groups /= 2;
        break;
      }
    }
    const std::size_t lanes = bytes.size() / groups;
    for (std::size_t group = 0; group < groups; ++group) {
      std::array<std::set<std::size_t>, banks> words;
      for (std::size_t lane = group * lanes; lane < (group + 1) * lanes; ++lane)
        for (std::size_t b = 0; b < size; b += bank_bytes) {
          const std::size_t w = (bytes[lane] + b) / bank_bytes;
          words[w % banks].insert(w);
        }
      std::size_t most = 0;
      for (const auto& bank : words) most = (std::max)(most, bank.size());
      wavefronts += static_cast<double>(most);
      conflicts += static_cast<double>(most) - 1;
    }
  }
};

/// Adjacent elements of global memory, whose address must be aligned to all of them.
template <class T, int Count>
void check_pack_address(const T* at) {
  if (reinterpret_cast<std::uintptr_t>(at) % alignof(Pack<T, Count>) != 0)
    throw EmulationError("a pack in memory is not aligned");
}
template <int Count, class T>
Words<T, Count> load_words(const T* from) {
  check_pack_address<T, Count>(from);
  Words<T, Count> words;
  std::memcpy(&words, from, sizeof words);
  return words;
}
template <int Count, class T>
void store_pack(T* to, const Pack<T, Count>& pack) {
  check_pack_address<T, Count>(to);
  for (int k = 0; k < Count; ++k) to[k] = pack[k];
}

class Block {
 public:
  Block(Index index, int threads, Index shared_bytes)
      : index_(index),
        threads_(static_cast<std::size_t>(threads)),
        memory_(static_cast<std::size_t>(shared_bytes)),
        words_(memory_.size() / word + 1) {
    if (threads < 1 || threads > 1024 || threads % warp != 0)
      throw EmulationError("a block of " + std::to_string(threads) + " threads");
  }

  [[nodiscard]] int thread() const { return current_; }
  [[nodiscard]] int threads() const { return static_cast<int>(threads_.size()); }
  [[nodiscard]] Index index() const { return index_; }
  void sync() { meet(Place::barrier); }
  [[nodiscard]] bool all(bool condition) {
    me().condition = condition;
    meet(Place::barrier);
    return all_;
  }
  template <class T>
  [[nodiscard]] T shuffle_xor(T value, int mask) {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(Thread::given));
    std::memcpy(me().given, &value, sizeof(T));
    const int from = current_ ^ mask;
    if (from / warp != current_ / warp) throw EmulationError("a shuffle beyond the warp");
    meet(Place::shuffle);
    std::memcpy(&value, threads_[static_cast<std::size_t>(from)].shown, sizeof(T));
    return value;
  }
  template <class T>
  [[nodiscard]] Shared<T> shared(int count) {
    const std::size_t begin = me().used;
    me().used += (static_cast<std::size_t>(count) * sizeof(T) + 15) / 16 * 16;
    if (me().used > memory_.size()) throw EmulationError("more shared memory than was asked for");
    return {*this, begin, count};
  }

  /// Runs a kernel in all threads of this block.
  template <class Kernel>
  void run(Stacks& stacks, const Kernel& kernel) {
    for (Thread& t : threads_) {
      t.fiber = boost::context::fiber(std::allocator_arg, Stacks::Allocator{&stacks},
                                      [this, &kernel, &t](boost::context::fiber&& caller) {
                                        scheduler_ = std::move(caller);
                                        try {
                                          kernel(*this);
                                        } catch (const boost::context::detail::forced_unwind&) {
                                          throw;
                                        } catch (...) {
                                          error_ = std::current_exception();
                                        }
                                        t.place = Place::end;
                                        return std::move(scheduler_);
                                      });
    }
    for (;;) {
      for (std::size_t first = 0; first < threads_.size(); first += warp) run_warp(first);
      if (all_at(0, threads_.size(), Place::end)) return;
      if (!all_at(0, threads_.size(), Place::barrier))
        throw EmulationError("some threads ended before a barrier");
      all_ = true;
      for (const Thread& t : threads_) all_ = all_ && t.condition;
      ++epoch_;
    }
  }

  void read(void* to, std::size_t byte, std::size_t bytes) {
    note(byte, bytes);
    for_words(byte, bytes, [&](Word& w) {
      if (w.write_epoch < 0) throw EmulationError("shared memory is read before it is written");
      if (w.write_epoch == epoch_ && w.writer != current_)
        throw EmulationError("shared memory is read in a race with a write");
      if (w.read_epoch == epoch_ && w.reader != current_)
        w.reader = several;
      else
        w.reader = current_;
      w.read_epoch = epoch_;
    });
    std::memcpy(to, memory_.data() + byte, bytes);
  }
  void write(std::size_t byte, const void* from, std::size_t bytes) {
    note(byte, bytes);
    for_words(byte, bytes, [&](Word& w) {
      if ((w.write_epoch == epoch_ && w.writer != current_) ||
          (w.read_epoch == epoch_ && w.reader != current_))
        throw EmulationError("shared memory is written in a race");
      w.writer = current_;
      w.write_epoch = epoch_;
    });
    std::memcpy(memory_.data() + byte, from, bytes);
  }

 private:
  static constexpr std::size_t word = 4;
  static constexpr int several = -1;
  enum class Place { start, barrier, shuffle, end };

  struct Thread {
    boost::context::fiber fiber;
    Place place = Place::start;
    bool condition = true;
    std::size_t used = 0;
    std::vector<std::array<std::size_t, 2>> accesses;  ///< since it met others, if counted
    alignas(16) unsigned char given[16] = {}, shown[16] = {};
  };
  struct Word {
    int writer = 0, reader = 0;
    long write_epoch = -1, read_epoch = -1;
  };

  [[nodiscard]] Thread& me() { return threads_[static_cast<std::size_t>(current_)]; }

  void meet(Place place) {
    me().place = place;
    scheduler_ = std::move(scheduler_).resume();
    me().condition = true;
  }
  void note(std::size_t byte, std::size_t bytes) {
    if (SharedTraffic::counted != nullptr) me().accesses.push_back({byte, bytes});
  }
  /// Counts what the lanes of a warp did since they met, the i-th accesses of all as one. Where
  /// lanes differ in how many they made, there is no saying which went together.
  void count_traffic(std::size_t first) {
    const std::size_t count = threads_[first].accesses.size();
    bool even = true;
    for (std::size_t i = first; i < first + warp; ++i)
      even = even && threads_[i].accesses.size() == count;
    for (std::size_t k = 0; even && k < count; ++k) {
      std::vector<std::size_t> bytes;
      for (std::size_t i = first; i < first + warp; ++i)
        bytes.push_back(threads_[i].accesses[k][0]);
      SharedTraffic::counted->add(bytes, threads_[first].accesses[k][1]);
    }
    for (std::size_t i = first; i < first + warp; ++i) threads_[i].accesses.clear();
  }
  [[nodiscard]] bool all_at(std::size_t first, std::size_t count, Place place) const {
    for (std::size_t i = first; i < first + count; ++i)
      if (threads_[i].place != place) return false;
    return true;
  }
  /// Runs the threads of a warp to their next barrier or their end.
  void run_warp(std::size_t first) {
    if (all_at(first, warp, Place::end)) return;
    do {
      for (std::size_t i = first; i < first + warp; ++i) {
        current_ = static_cast<int>(i);
        threads_[i].fiber = std::move(threads_[i].fiber).resume();
        if (error_) std::rethrow_exception(error_);
      }
      if (SharedTraffic::counted != nullptr) count_traffic(first);
      for (std::size_t i = first; i < first + warp; ++i)
        std::memcpy(threads_[i].shown, threads_[i].given, sizeof(Thread::given));
    } while (all_at(first, warp, Place::shuffle));
    if (!all_at(first, warp, Place::barrier) && !all_at(first, warp, Place::end))
      throw EmulationError("the lanes of a warp part");
  }
  template <class Visit>
  void for_words(std::size_t byte, std::size_t bytes, const Visit& visit) {
    for (std::size_t w = byte / word; w <= (byte + bytes - 1) / word; ++w) visit(words_[w]);
  }

  Index index_;
  std::vector<Thread> threads_;
  std::vector<unsigned char> memory_;
  std::vector<Word> words_;
  boost::context::fiber scheduler_;
  std::exception_ptr error_;
  int current_ = 0;
  long epoch_ = 0;
  bool all_ = true;
};

template <class T>
Shared<T>::Element::operator T() const {
  T value;
  block_.read(&value, byte_, sizeof(T));
  return value;
}
template <class T>
typename Shared<T>::Element& Shared<T>::Element::operator=(const T& value) {
  block_.write(byte_, &value, sizeof(T));
  return *this;
}

template <class T>
template <int Count>
Pack<T, Count> Shared<T>::load(int i) const {
  Pack<T, Count> pack;
  block_->read(&pack, pack_at<Count>(i), sizeof(T) * Count);
  return pack;
}
template <class T>
template <int Count>
void Shared<T>::store(int i, const Pack<T, Count>& pack) const {
  block_->write(pack_at<Count>(i), &pack, sizeof(T) * Count);
}

/// Runs all blocks of a kernel, the last one first: no block may wait for another. Threads that
/// never meet need no fibers.
template <class Kernel>
void emulate(Index blocks, int threads, Index shared_bytes, const Kernel& kernel) {
  if constexpr (requires(Index i) { kernel.each(i); }) {
    for (Index i = kernel.count; i-- > 0;) kernel.each(i);
    return;
  }
  thread_local Stacks stacks;
  for (Index i = blocks; i-- > 0;) Block(i, threads, shared_bytes).run(stacks, kernel);
}

}  // namespace ssm::kernels
