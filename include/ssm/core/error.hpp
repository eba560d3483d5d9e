#pragma once

#include <array>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

#include "ssm/core/index.hpp"

namespace ssm {

/// An argument has the wrong extents: "function: argument is (2, 3), expected (2, 4)".
class ShapeError : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

/// An argument has the right shape and a value outside the function's domain.
class DomainError : public std::domain_error {
 public:
  using std::domain_error::domain_error;
};

/// An iteration ended before it reached the accuracy that it promises, because the problem is too
/// close to one that has no solution.
class ConvergenceError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A file cannot be read or written, or its contents are wrong. An object that the file was to be
/// loaded into is unchanged.
class FileError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

namespace detail {

template <std::size_t Rank>
std::string to_string(const std::array<Index, Rank>& extents) {
  std::string text = "(";
  for (std::size_t i = 0; i < Rank; ++i) {
    if (i != 0) text += ", ";
    text += std::to_string(extents[i]);
  }
  return text += ")";
}

/// A number as text, without the last digits, which may be rounding: "0.1", "1e-12", "42".
template <class T>
[[nodiscard]] std::string number(const T& value) {
  if constexpr (std::is_floating_point_v<T>) {
    constexpr int digits = std::is_same_v<T, float> ? 6 : 12;
    char text[40];
    std::snprintf(text, sizeof text, "%.*g", digits, static_cast<double>(value));
    return text;
  } else {
    return std::to_string(value);
  }
}

/// Throws an Error that says `sentence`; in a program without exceptions, says it and ends.
template <class Error>
[[noreturn, gnu::cold]] void raise(const std::string& sentence) {
#if defined(__cpp_exceptions)
  throw Error(sentence);
#else
  std::fputs((sentence + "\n").c_str(), stderr);
  std::terminate();
#endif
}

/// "function: argument is got, expected want"
[[nodiscard]] inline std::string complaint(std::string_view function, std::string_view argument,
                                           const std::string& got, std::string_view want) {
  return std::string(function) + ": " + std::string(argument) + " is " + got + ", expected " +
         std::string(want);
}

[[noreturn]] inline void throw_shape(std::string_view function, std::string_view argument,
                                     const std::string& got, const std::string& want) {
  raise<ShapeError>(complaint(function, argument, got, want));
}

[[noreturn]] inline void throw_domain(std::string_view function, std::string_view argument,
                                      const std::string& got, std::string_view want) {
  raise<DomainError>(complaint(function, argument, got, want));
}

[[noreturn]] inline void throw_convergence(std::string_view function, std::string_view argument,
                                           const std::string& got, std::string_view want) {
  raise<ConvergenceError>(complaint(function, argument, got, want));
}

/// Runs checks that throw, in a function that may not: an error ends the program, and its message
/// is printed, which compilers lose where they see that an exception would meet noexcept.
template <class Checks>
void check_or_terminate(const Checks& checks) noexcept {
#if defined(__cpp_exceptions)
  try {
    checks();
  } catch (...) {
    std::terminate();
  }
#else
  checks();
#endif
}

/// Apart from check_shape, which is called before every step.
template <std::size_t Rank>
[[noreturn, gnu::cold, gnu::noinline]] void throw_extents(std::string_view function,
                                                          std::string_view argument,
                                                          const std::array<Index, Rank>& got,
                                                          const std::array<Index, Rank>& want,
                                                          bool given = true) {
  throw_shape(function, argument, given ? to_string(got) : "absent", to_string(want));
}

/// False for a view that is an argument that was not given.
template <class AnyView>
[[nodiscard]] bool is_given(const AnyView& view) noexcept {
  if constexpr (requires { static_cast<bool>(view); }) return static_cast<bool>(view);
  return true;
}

/// a == b, of which compilers make a call that takes longer than a small step.
template <std::size_t Rank>
[[nodiscard]] bool same_extents(const std::array<Index, Rank>& a,
                                const std::array<Index, Rank>& b) noexcept {
  bool same = true;
  for (std::size_t i = 0; i < Rank; ++i) same = same && a[i] == b[i];
  return same;
}

/// Apart from check_memory, as throw_extents is.
template <std::size_t Rank>
[[noreturn, gnu::cold, gnu::noinline]] void throw_no_memory(
    std::string_view function, std::string_view argument, const std::array<Index, Rank>& extents) {
  throw_shape(function, argument, "a null pointer to " + to_string(extents), "elements");
}

/// Throws ShapeError when `view` has elements and no memory.
template <class AnyView>
void check_memory(std::string_view function, std::string_view argument, const AnyView& view) {
  if (view.data() == nullptr && view.size() > 0)
    throw_no_memory(function, argument, view.extents());
}

/// Throws ShapeError unless `view` has the extents `want`, and memory for them.
template <class AnyView, std::size_t Rank>
void check_shape(std::string_view function, std::string_view argument, const AnyView& view,
                 const std::array<Index, Rank>& want) {
  static_assert(AnyView::rank == Rank, "a view is checked against as many extents as it has");
  if (!same_extents(view.extents(), want))
    throw_extents(function, argument, view.extents(), want, is_given(view));
  check_memory(function, argument, view);
}

/// Throws ShapeError unless the elements of the last extent of `view`, if given, are adjacent.
template <class AnyView>
void check_adjacent(std::string_view function, std::string_view argument, const AnyView& view) {
  constexpr std::size_t last = AnyView::rank - 1;
  if (view && view.extent(last) > 1 && view.stride(last) != 1)
    throw_shape(function, argument, "strided as " + to_string(view.strides()),
                "adjacent elements in the last extent");
}

/// check_shape for an argument that may be absent.
template <class AnyView, std::size_t Rank>
void check_optional_shape(std::string_view function, std::string_view argument, const AnyView& view,
                          const std::array<Index, Rank>& want) {
  if (view) check_shape(function, argument, view, want);
}

}  // namespace detail
}  // namespace ssm
