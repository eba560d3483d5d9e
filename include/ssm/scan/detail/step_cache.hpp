#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <unordered_map>

#include "ssm/core/detail/isa.hpp"

namespace ssm::detail {
inline namespace SSM_DETAIL_ISA {

/// What belongs to each step size Δ met, made when it is first asked for: steps that repeat cost
/// one making, steps that never repeat one each and bounded memory.
template <class T, class Step>
class StepCache {
 public:
  /// Holds at most `capacity` of them, and drops all when it is full.
  explicit StepCache(std::size_t capacity) : capacity_(capacity) {}

  /// What `make()` gave for this very Δ, valid until the next call.
  template <class Make>
  const Step& at(T delta, const Make& make) {
    const Key key = std::bit_cast<Key>(delta);
    if (const auto found = steps_.find(key); found != steps_.end()) return found->second;
    if (steps_.size() >= capacity_) steps_.clear();
    return steps_.emplace(key, make()).first->second;
  }

  [[nodiscard]] std::size_t size() const noexcept { return steps_.size(); }

 private:
  using Key = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;

  std::size_t capacity_;
  std::unordered_map<Key, Step> steps_;
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm::detail
