#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "ssm/core/error.hpp"
#include "ssm/core/view.hpp"

/// What an operation asks of the memory of its arguments. Every check compares a few integers and
/// reads no element, so that it serves views of any space and costs a step nothing to speak of.
namespace ssm::detail {

/// Apart from the checks, which are called before every step.
template <class AnyView>
[[noreturn, gnu::cold, gnu::noinline]] void throw_not_given(std::string_view function,
                                                            std::string_view argument,
                                                            const AnyView& view,
                                                            std::string_view want) {
  if (!view) throw_shape(function, argument, "absent", std::string(want));
  for (const Index extent : view.extents())
    if (extent < 0)
      throw_shape(function, argument, to_string(view.extents()), "no negative extent");
  throw_shape(function, argument, "null with extents " + to_string(view.extents()),
              "memory of these extents");
}

/// Throws ShapeError for a view without memory of its own: absent, with a negative extent, or null
/// with elements. `want` says what it should be.
template <class AnyView>
void check_given(std::string_view function, std::string_view argument, const AnyView& view,
                 std::string_view want = "given") {
  bool good = static_cast<bool>(view), empty = false;
  for (const Index extent : view.extents()) {
    good = good & (extent >= 0);
    empty = empty | (extent == 0);
  }
  good = good & (empty | (view.data() != nullptr));
  if (!good) throw_not_given(function, argument, view, want);
}

/// Whether a view holds every element once: each extent steps over all that the ones with smaller
/// strides span.
template <class AnyView>
[[nodiscard, gnu::cold, gnu::noinline]] bool distinct_in_any_order(const AnyView& view) noexcept {
  for (const Index extent : view.extents())
    if (extent < 1) return true;
  std::array<std::size_t, AnyView::rank> order;
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto step = [&](std::size_t i) {
    return view.stride(i) < 0 ? -view.stride(i) : view.stride(i);
  };
  for (std::size_t i = 1; i < order.size(); ++i)
    for (std::size_t k = i; k > 0 && step(order[k]) < step(order[k - 1]); --k)
      std::swap(order[k], order[k - 1]);
  Index span = 0;
  for (const std::size_t i : order) {
    if (view.extent(i) == 1) continue;
    if (step(i) <= span) return false;
    span += (view.extent(i) - 1) * step(i);
  }
  return true;
}

template <class AnyView>
[[noreturn, gnu::cold, gnu::noinline]] void throw_woven(std::string_view function,
                                                        std::string_view argument,
                                                        const AnyView& view) {
  throw_shape(function, argument,
              to_string(view.extents()) + " strided as " + to_string(view.strides()),
              "memory that holds every element once");
}

/// Throws ShapeError for an output that holds an element twice, as with a stride of 0. Absent is
/// fine.
template <class AnyView>
void check_output(std::string_view function, std::string_view argument, const AnyView& view) {
  Index span = 0;
  bool row_major = true;
  for (std::size_t i = AnyView::rank; i-- > 0;) {
    row_major = row_major & ((view.extent(i) <= 1) | (view.stride(i) > span));
    span += (view.extent(i) - 1) * view.stride(i);
  }
  if (!row_major && !distinct_in_any_order(view)) throw_woven(function, argument, view);
}

template <class AnyView, std::size_t Rank>
[[gnu::cold, gnu::noinline]] void check_rows_in_turn(std::string_view function,
                                                     std::string_view argument, const AnyView& view,
                                                     const std::array<Index, Rank>& extents) {
  check_shape(function, argument, view, extents);
  check_given(function, argument, view);
  check_adjacent(function, argument, view);
}

/// Throws ShapeError unless a view is there, with these extents and the elements of its last one
/// adjacent.
template <class AnyView, std::size_t Rank>
void check_rows(std::string_view function, std::string_view argument, const AnyView& view,
                const std::array<Index, Rank>& extents) {
  static_assert(AnyView::rank == Rank, "a view is checked against as many extents as it has");
  // One branch for a view that is as it should be.
  bool good = static_cast<bool>(view) & (view.data() != nullptr) &
              ((extents[Rank - 1] <= 1) | (view.stride(Rank - 1) == 1));
  for (std::size_t i = 0; i < Rank; ++i)
    good = good & (view.extent(i) == extents[i]) & (extents[i] >= 0);
  if (!good) check_rows_in_turn(function, argument, view, extents);
}

/// The same for an output: it must also hold every element once.
template <class AnyView, std::size_t Rank>
void check_output_rows(std::string_view function, std::string_view argument, const AnyView& view,
                       const std::array<Index, Rank>& extents) {
  check_rows(function, argument, view, extents);
  check_output(function, argument, view);
}

/// The bytes that a view with elements spans, gaps among them.
struct ByteRange {
  std::uintptr_t begin, end;

  template <class AnyView>
  explicit ByteRange(const AnyView& view) noexcept {
    Index first = 0, last = 1;
    for (std::size_t i = 0; i < AnyView::rank; ++i) {
      const Index reach = (view.extent(i) - 1) * view.stride(i);
      first += std::min<Index>(reach, 0);
      last += std::max<Index>(reach, 0);
    }
    constexpr auto size = static_cast<Index>(sizeof(typename AnyView::element_type));
    const auto at = reinterpret_cast<std::uintptr_t>(view.data());
    begin = at + static_cast<std::uintptr_t>(first * size);
    end = at + static_cast<std::uintptr_t>(last * size);
  }
};

/// The distance in bytes between rows, of whose multiples all strides but the last are, or 0.
template <class AnyView>
[[nodiscard]] Index pitch_of(const AnyView& view) noexcept {
  Index pitch = 0;
  for (std::size_t i = 0; i + 1 < AnyView::rank; ++i)
    if (view.extent(i) > 1) pitch = std::gcd(pitch, view.stride(i));
  return pitch * static_cast<Index>(sizeof(typename AnyView::element_type));
}

/// Whether views whose ranges of bytes meet may share an element: without elements they do not, nor
/// do different columns of the same rows.
template <class A, class B>
[[nodiscard, gnu::cold, gnu::noinline]] bool elements_meet(const A& a, const B& b) noexcept {
  if (a.size() == 0 || b.size() == 0) return false;
  const auto adjacent = [](const auto& v) {
    constexpr std::size_t last = std::remove_cvref_t<decltype(v)>::rank - 1;
    return v.extent(last) <= 1 || v.stride(last) == 1;
  };
  const Index pitch = std::gcd(pitch_of(a), pitch_of(b));
  if (pitch == 0 || !adjacent(a) || !adjacent(b)) return true;
  const auto width = [](const auto& v) {
    using V = std::remove_cvref_t<decltype(v)>;
    return v.extent(V::rank - 1) * static_cast<Index>(sizeof(typename V::element_type));
  };
  const auto apart = static_cast<Index>(reinterpret_cast<std::uintptr_t>(b.data()) -
                                        reinterpret_cast<std::uintptr_t>(a.data()));
  const Index column = ((apart % pitch) + pitch) % pitch;
  return column < width(a) || column + width(b) > pitch;
}

/// Whether two views may share an element.
template <class A, class B>
[[nodiscard]] bool overlap(const A& a, const B& b) noexcept {
  const ByteRange x(a), y(b);
  return ((x.begin < y.end) & (y.begin < x.end)) && elements_meet(a, b);
}

/// Whether element by element two views are the same.
template <class A, class B>
[[nodiscard]] bool same_memory(const A& a, const B& b) noexcept {
  if constexpr (A::rank != B::rank) {
    return false;
  } else {
    if (static_cast<const void*>(a.data()) != static_cast<const void*>(b.data())) return false;
    for (std::size_t i = 0; i < A::rank; ++i)
      if (a.extent(i) != b.extent(i) || (a.extent(i) > 1 && a.stride(i) != b.stride(i)))
        return false;
    return sizeof(typename A::element_type) == sizeof(typename B::element_type);
  }
}

[[noreturn, gnu::cold, gnu::noinline]] inline void throw_overlap(std::string_view function,
                                                                 std::string_view output,
                                                                 std::string_view other) {
  throw_shape(function, output, "in the memory of " + std::string(other), "memory of its own");
}

[[noreturn, gnu::cold, gnu::noinline]] inline void throw_part(std::string_view function,
                                                              std::string_view output,
                                                              std::string_view other) {
  throw_shape(function, output, "over a part of the memory of " + std::string(other),
              "all of it or memory of its own");
}

/// Throws ShapeError if an output shares elements with another argument.
template <class Output, class Other>
void check_apart(std::string_view function, std::string_view output, const Output& view,
                 std::string_view other, const Other& other_view) {
  if (overlap(view, other_view)) throw_overlap(function, output, other);
}

/// The same for an output that may be the memory of the other argument, element by element.
template <class Output, class Other>
void check_apart_or_same(std::string_view function, std::string_view output, const Output& view,
                         std::string_view other, const Other& other_view) {
  if (overlap(view, other_view) && !same_memory(view, other_view))
    throw_part(function, output, other);
}

}  // namespace ssm::detail
