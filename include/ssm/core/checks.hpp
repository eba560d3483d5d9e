#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <string_view>

#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"

/// What every operation asks of its views beside their shapes. All take a few integers' time,
/// whatever the size of the arrays, and read nothing but the views themselves.
namespace ssm::detail {

/// Throws ShapeError unless `view` is there, with no negative extent: for an argument that others
/// are measured by. `shape` is what its extents are called, "(batch, length, channels)".
template <class AnyView>
void check_given(std::string_view function, std::string_view argument, const AnyView& view,
                 std::string_view shape) {
  if (!view) throw_shape(function, argument, "absent", std::string(shape));
  for (const Index extent : view.extents())
    if (extent < 0)
      throw_shape(function, argument, to_string(view.extents()), "no negative extent");
  check_memory(function, argument, view);
}

/// Throws ShapeError where two elements of `view`, which is written to, are the same memory for
/// want of a stride.
template <class AnyView>
void check_output(std::string_view function, std::string_view argument, const AnyView& view) {
  if (!view) return;
  for (std::size_t i = 0; i < AnyView::rank; ++i)
    if (view.stride(i) == 0 && view.extent(i) > 1)
      throw_shape(function, argument, "strided as " + to_string(view.strides()),
                  "no stride of 0 in what is written");
}

/// check_shape and check_output of an argument that is written to.
template <class AnyView, std::size_t Rank>
void check_output_shape(std::string_view function, std::string_view argument, const AnyView& view,
                        const std::array<Index, Rank>& want) {
  check_shape(function, argument, view, want);
  check_output(function, argument, view);
}

/// The same for one that may be absent.
template <class AnyView, std::size_t Rank>
void check_optional_output_shape(std::string_view function, std::string_view argument,
                                 const AnyView& view, const std::array<Index, Rank>& want) {
  if (view) check_output_shape(function, argument, view, want);
}

/// The bytes from a view's first element to its last, and how they repeat: elements lie in
/// [begin, begin + run) modulo any common divisor of `strides`.
struct Footprint {
  std::uintptr_t begin = 0, end = 0;
  std::uintptr_t run = 0;  ///< bytes of the elements of the last extent, where they are adjacent
  std::uintptr_t strides = 0;  ///< greatest common divisor of the other strides; 0 for none

  template <class AnyView>
  static Footprint of(const AnyView& view) noexcept {
    Footprint f;
    if (!view || view.data() == nullptr) return f;
    constexpr auto bytes = sizeof(typename AnyView::value_type);
    const auto first = std::bit_cast<std::uintptr_t>(view.data());
    f.begin = f.end = first;
    f.run = bytes;
    for (std::size_t i = 0; i < AnyView::rank; ++i) {
      const Index extent = view.extent(i), stride = view.stride(i);
      if (extent == 0) return {};
      if (extent == 1) continue;
      const std::uintptr_t step =
          static_cast<std::uintptr_t>(stride < 0 ? -stride : stride) * bytes;
      const std::uintptr_t length = static_cast<std::uintptr_t>(extent - 1) * step;
      if (stride < 0)
        f.begin -= length;
      else
        f.end += length;
      if (step == bytes && i + 1 == AnyView::rank)
        f.run += length;
      else
        f.strides = std::gcd(f.strides, step);
    }
    f.end += bytes;
    return f;
  }

  /// Whether two views have elements in common, or may have: false for arrays apart, and for those
  /// that alternate in the same rows, as the halves of a wider array do.
  [[nodiscard]] bool overlaps(const Footprint& other) const noexcept {
    if (begin >= other.end || other.begin >= end) return false;
    const std::uintptr_t period = std::gcd(strides, other.strides);
    if (period == 0) return true;
    const std::uintptr_t shift = other.begin >= begin
                                     ? (other.begin - begin) % period
                                     : (period - (begin - other.begin) % period) % period;
    return shift < run || shift + other.run > period;
  }
};

/// Throws ShapeError when `output`, which is written to, has memory in common with `input`.
template <class Output, class Input>
void check_no_overlap(std::string_view function, std::string_view output_name, const Output& output,
                      std::string_view input_name, const Input& input) {
  if (output && input && Footprint::of(output).overlaps(Footprint::of(input)))
    throw_shape(function, output_name, "in the memory of " + std::string(input_name),
                "memory of its own");
}

/// The same where the output may be the very same elements as the input, in the same places.
template <class Output, class Input>
void check_same_or_apart(std::string_view function, std::string_view output_name,
                         const Output& output, std::string_view input_name, const Input& input) {
  if (output && input && output.data() == input.data() && output.strides() == input.strides())
    return;
  check_no_overlap(function, output_name, output, input_name, input);
}

/// Whether both are given and are the same elements.
template <class A, class B>
[[nodiscard]] bool is_same_memory(const A& a, const B& b) noexcept {
  return a && b && a.data() == b.data() && a.size() > 0;
}

/// Which call of an operation filled its scratch for backward: the extents of that call, and its
/// options as bits of `variant`.
template <std::size_t Rank>
class KeptCall {
 public:
  using Extents = std::array<Index, Rank>;

  void keep(const Extents& extents, Index variant = 0) noexcept {
    extents_ = extents;
    variant_ = variant;
    present_ = true;
  }
  void drop() noexcept { present_ = false; }

  /// Throws ShapeError unless the call was of these extents and options.
  void check(std::string_view backward, std::string_view forward, const Extents& extents,
             Index variant = 0) const {
    if (present_ && same_extents(extents_, extents) && variant_ == variant) return;
    std::string got = "of no call that kept anything";
    if (present_) {
      got = "of another call, " + to_string(extents_);
      if (same_extents(extents_, extents)) got += " with other options";
    }
    throw_shape(
        backward, "scratch", got,
        "one that " + std::string(forward) + " filled with these inputs, " + to_string(extents));
  }

 private:
  Extents extents_{};
  Index variant_ = 0;
  bool present_ = false;
};

}  // namespace ssm::detail
