#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <string>
#include <string_view>

#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/view.hpp"

/// What every operation asks of its views beside their shapes. All take a few integers' time,
/// whatever the size of the arrays, and read nothing but the views themselves.
namespace ssm::detail {

// What throws stands apart from what checks, which is called before every step.
[[noreturn, gnu::cold, gnu::noinline]] inline void throw_absent(std::string_view function,
                                                                std::string_view argument,
                                                                std::string_view shape) {
  throw_shape(function, argument, "absent", std::string(shape));
}
template <std::size_t Rank>
[[noreturn, gnu::cold, gnu::noinline]] void throw_negative(std::string_view function,
                                                           std::string_view argument,
                                                           const std::array<Index, Rank>& extents) {
  throw_shape(function, argument, to_string(extents), "no negative extent");
}
template <std::size_t Rank>
[[noreturn, gnu::cold, gnu::noinline]] void throw_repeated(std::string_view function,
                                                           std::string_view argument,
                                                           const std::array<Index, Rank>& strides) {
  throw_shape(function, argument, "strided as " + to_string(strides),
              "no stride of 0 in what is written");
}

template <class AnyView>
[[noreturn, gnu::cold, gnu::noinline]] void throw_woven(std::string_view function,
                                                        std::string_view argument,
                                                        const AnyView& view) {
  throw_shape(function, argument,
              to_string(view.extents()) + " strided as " + to_string(view.strides()),
              "memory that holds every element once");
}

/// Throws ShapeError unless `view` is there, with no negative extent: for an argument that others
/// are measured by. `shape` is what its extents are called, "(batch, length, channels)".
template <class AnyView>
void check_given(std::string_view function, std::string_view argument, const AnyView& view,
                 std::string_view shape = "given") {
  if (!view) throw_absent(function, argument, shape);
  Index all = 0;
  for (const Index extent : view.extents()) all |= extent;
  if (all < 0) throw_negative(function, argument, view.extents());
  check_memory(function, argument, view);
}

/// Throws ShapeError for a view that is written to and holds an element twice: unless each extent
/// steps over all that the ones with smaller strides span.
template <class AnyView>
[[gnu::cold, gnu::noinline]] void check_output_in_any_order(std::string_view function,
                                                            std::string_view argument,
                                                            const AnyView& view) {
  if (!view) return;
  for (const Index extent : view.extents())
    if (extent < 1) return;
  std::array<std::size_t, AnyView::rank> order{};
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto step = [&](std::size_t i) {
    return view.stride(i) < 0 ? -view.stride(i) : view.stride(i);
  };
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return step(a) < step(b); });
  Index span = 0;
  for (const std::size_t i : order) {
    if (view.extent(i) == 1) continue;
    if (step(i) == 0) throw_repeated(function, argument, view.strides());
    if (step(i) <= span) throw_woven(function, argument, view);
    span += (view.extent(i) - 1) * step(i);
  }
}

/// Throws ShapeError where elements of `view`, which is written to, share memory for want of a
/// stride.
template <class AnyView>
void check_output(std::string_view function, std::string_view argument, const AnyView& view) {
  // One branch for rows that follow each other.
  Index span = 0;
  bool row_major = true;
  for (std::size_t i = AnyView::rank; i-- > 0;) {
    const bool single = view.extent(i) <= 1, apart = view.stride(i) > span;
    row_major = row_major & (single | apart);
    span += (view.extent(i) - 1) * view.stride(i);
  }
  if (!row_major) check_output_in_any_order(function, argument, view);
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
  const bool given = static_cast<bool>(view), real = view.data() != nullptr;
  const bool single = extents[Rank - 1] <= 1, adjacent = view.stride(Rank - 1) == 1;
  bool good = given & real & (single | adjacent);
  for (std::size_t i = 0; i < Rank; ++i) {
    const bool fits = view.extent(i) == extents[i], counts = extents[i] >= 0;
    good = good & fits & counts;
  }
  if (!good) check_rows_in_turn(function, argument, view, extents);
}

/// The same for one that is written to.
template <class AnyView, std::size_t Rank>
void check_output_rows(std::string_view function, std::string_view argument, const AnyView& view,
                       const std::array<Index, Rank>& extents) {
  check_rows(function, argument, view, extents);
  check_output(function, argument, view);
}

/// Throws DomainError unless every element of a host view is positive and finite.
template <class T>
void check_positive(std::string_view function, std::string_view argument,
                    const View<const T, 1>& view) {
  for (Index i = 0; i < view.extent(0); ++i)
    if (!(view(i) > 0 && view(i) <= (std::numeric_limits<T>::max)()))
      throw_domain(function, std::string(argument) + "[" + detail::number(i) + "]",
                   detail::number(view(i)), "positive and finite");
}

/// Where the elements of a view lie. Set by `set`; without initializers, as some operations are
/// shorter than it takes to fill a few of these with zeros.
struct Footprint {
  static constexpr std::size_t most = 6;

  const void* data;
  std::uintptr_t begin, end;  ///< bytes from the first element to the last
  std::size_t element;        ///< bytes of one
  std::size_t rank;           ///< extents that count: above 1, with a stride
  std::array<Index, most> extents, strides;

  template <class AnyView>
  void set(const AnyView& view) noexcept {
    static_assert(AnyView::rank <= most);
    data = view.data();
    element = sizeof(typename AnyView::value_type);
    rank = 0;
    begin = end = std::bit_cast<std::uintptr_t>(view.data());
    if (!view || view.data() == nullptr || view.size() == 0) return;
    for (std::size_t i = 0; i < AnyView::rank; ++i) {
      const Index extent = view.extent(i), stride = view.stride(i);
      if (extent == 1 || stride == 0) continue;
      extents[rank] = extent;
      strides[rank++] = stride;
      const Index length = (extent - 1) * stride * static_cast<Index>(element);
      if (length < 0)
        begin -= static_cast<std::uintptr_t>(-length);
      else
        end += static_cast<std::uintptr_t>(length);
    }
    end += element;
  }
  template <class AnyView>
  static Footprint of(const AnyView& view) noexcept {
    Footprint f;
    f.set(view);
    return f;
  }

  /// Elements lie in runs of `run` bytes without gaps, whose starts differ by multiples of `period`
  /// bytes; 0 for a single run.
  struct Pattern {
    std::uintptr_t run, period;
  };
  [[nodiscard]] Pattern pattern() const noexcept {
    std::array<std::size_t, most> order{};
    for (std::size_t i = 0; i < rank; ++i) order[i] = i;
    const auto step = [&](std::size_t i) {
      return static_cast<std::uintptr_t>(strides[i] < 0 ? -strides[i] : strides[i]) * element;
    };
    std::sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(rank),
              [&](std::size_t a, std::size_t b) { return step(a) < step(b); });
    Pattern p{element, 0};
    for (std::size_t i = 0; i < rank; ++i) {
      const std::size_t at = order[i];
      if (p.period == 0 && step(at) == p.run)
        p.run *= static_cast<std::uintptr_t>(extents[at]);
      else
        p.period = std::gcd(p.period, step(at));
    }
    return p;
  }

  /// Whether two views have elements in common, or may have: false for arrays apart, and for those
  /// that alternate in the same rows, as the halves of a wider array do.
  [[nodiscard]] bool overlaps(const Footprint& other) const noexcept {
    return (std::max)(begin, other.begin) < (std::min)(end, other.end) && alternates_not(other);
  }
  [[nodiscard]] bool is_same(const Footprint& other) const noexcept {
    bool same = data == other.data && end == other.end && rank == other.rank;
    for (std::size_t i = 0; same && i < rank; ++i)
      same = extents[i] == other.extents[i] && strides[i] == other.strides[i];
    return same;
  }

 private:
  [[gnu::noinline]] bool alternates_not(const Footprint& other) const noexcept {
    const Pattern mine = pattern(), theirs = other.pattern();
    const std::uintptr_t period = std::gcd(mine.period, theirs.period);
    if (period == 0) return true;
    const std::uintptr_t distance =
        (other.begin >= begin ? other.begin - begin : begin - other.begin) % period;
    const std::uintptr_t shift =
        other.begin >= begin || distance == 0 ? distance : period - distance;
    return shift < mine.run || shift + theirs.run > period;
  }
};

/// The bytes that a view with elements spans, gaps among them.
struct ByteRange {
  std::uintptr_t begin, end;

  template <class AnyView>
  explicit ByteRange(const AnyView& view) noexcept {
    Index first = 0, last = 1;
    for (std::size_t i = 0; i < AnyView::rank; ++i) {
      const Index reach = (view.extent(i) - 1) * view.stride(i);
      first += (std::min<Index>)(reach, 0);
      last += (std::max<Index>)(reach, 0);
    }
    constexpr auto size = static_cast<Index>(sizeof(typename AnyView::value_type));
    const auto at = std::bit_cast<std::uintptr_t>(view.data());
    begin = at + static_cast<std::uintptr_t>(first * size);
    end = at + static_cast<std::uintptr_t>(last * size);
  }
};

template <class A, class B>
[[nodiscard, gnu::cold, gnu::noinline]] bool elements_meet(const A& a, const B& b) noexcept {
  return a && b && Footprint::of(a).overlaps(Footprint::of(b));
}

/// Whether two views may share an element. Arrays apart cost a few integers' time.
template <class A, class B>
[[nodiscard]] bool overlap(const A& a, const B& b) noexcept {
  const ByteRange x(a), y(b);
  return ((x.begin < y.end) & (y.begin < x.end)) && elements_meet(a, b);
}

/// Whether element by element two views are the same.
template <class A, class B>
[[nodiscard]] bool same_elements(const A& a, const B& b) noexcept {
  return a && b && Footprint::of(a).is_same(Footprint::of(b));
}

/// Throws ShapeError when `output`, which is written to, has memory in common with `other`.
template <class Output, class Other>
void check_no_overlap(std::string_view function, std::string_view output_name, const Output& output,
                      std::string_view other_name, const Other& other) {
  if (overlap(output, other))
    throw_shape(function, output_name, "in the memory of " + std::string(other_name),
                "memory of its own");
}

/// The same for an output that may be the memory of the other argument, element by element.
template <class Output, class Other>
void check_same_or_apart(std::string_view function, std::string_view output_name,
                         const Output& output, std::string_view other_name, const Other& other) {
  if (overlap(output, other) && !same_elements(output, other))
    throw_shape(function, output_name, "over a part of the memory of " + std::string(other_name),
                "all of it or memory of its own");
}

/// Throws ShapeError when an output has memory in common with an input or another output. Inputs
/// come first, outputs after all of them; what is absent has no memory.
template <std::size_t Most>
class OverlapChecks {
 public:
  explicit OverlapChecks(std::string_view function) noexcept : function_(function) {}

  template <class AnyView>
  void input(std::string_view name, const AnyView& view) noexcept {
    if (!view) return;
    if (count_ == Most) std::abort();  // Most is too small for the operation that asks
    names_[count_] = name;
    footprints_[count_++].set(view);  // in its place: a copy would wait for what was just written
  }
  /// `same` names an argument whose very elements, in the same places, the output may be.
  template <class AnyView>
  void output(std::string_view name, const AnyView& view, std::string_view same = {}) {
    if (!view) return;
    const std::size_t before = count_;
    input(name, view);
    for (std::size_t i = 0; i < before; ++i)
      if (footprints_[before].overlaps(footprints_[i]) &&
          !(names_[i] == same && footprints_[before].is_same(footprints_[i])))
        throw_overlap(name, names_[i]);
  }

 private:
  [[noreturn, gnu::cold, gnu::noinline]] void throw_overlap(std::string_view name,
                                                            std::string_view other) const {
    throw_shape(function_, name, "in the memory of " + std::string(other), "memory of its own");
  }

  std::string_view function_;
  std::size_t count_ = 0;
  std::array<std::string_view, Most> names_;
  std::array<Footprint, Most> footprints_;
};

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
