#pragma once

#include <cassert>

namespace ssm {

/// An optional reference, for arguments that may be absent: callers pass an object, or `{}` for
/// none. Like a View it does not own what it refers to.
template <class T>
class Maybe {
 public:
  constexpr Maybe() noexcept = default;
  /// Refers to `value`.
  constexpr Maybe(T& value) noexcept : value_(&value) {}

  /// True when it refers to an object.
  [[nodiscard]] constexpr explicit operator bool() const noexcept { return value_ != nullptr; }
  /// The object that it refers to, which must be there.
  [[nodiscard]] constexpr T& operator*() const noexcept {
    assert(value_ != nullptr);
    return *value_;
  }
  /// A member of the object that it refers to, which must be there.
  [[nodiscard]] constexpr T* operator->() const noexcept {
    assert(value_ != nullptr);
    return value_;
  }

 private:
  T* value_ = nullptr;
};

}  // namespace ssm
