#pragma once

#include <cassert>

namespace ssm {

/// A reference that may be absent: `{}` where a function's argument is optional, an lvalue where it
/// is given. It owns nothing, as a View does not.
template <class T>
class Maybe {
 public:
  constexpr Maybe() noexcept = default;
  constexpr Maybe(T& value) noexcept : value_(&value) {}

  [[nodiscard]] constexpr explicit operator bool() const noexcept { return value_ != nullptr; }
  [[nodiscard]] constexpr T& operator*() const noexcept {
    assert(value_ != nullptr);
    return *value_;
  }
  [[nodiscard]] constexpr T* operator->() const noexcept {
    assert(value_ != nullptr);
    return value_;
  }

 private:
  T* value_ = nullptr;
};

}  // namespace ssm
