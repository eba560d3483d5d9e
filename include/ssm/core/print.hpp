#pragma once

#include <array>
#include <complex>
#include <cstddef>
#include <ostream>
#include <sstream>
#include <string>
#include <type_traits>

#include "ssm/core/index.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"

namespace ssm {
namespace detail {

/// A number as text of at most six digits, or as many as the stream is set to.
template <class T>
std::string number_text(const std::ostream& like, const T& value) {
  std::ostringstream text;
  text.precision(like.precision());
  text << value;
  return text.str();
}

/// Of an extent, the first and the last few.
inline constexpr Index most_shown = 8, shown_at_ends = 3;

template <class T, std::size_t Rank>
void print_nested(std::ostream& stream, const View<T, Rank>& view, std::size_t depth) {
  const Index extent = view.extent(0);
  stream << '[';
  for (Index i = 0; i < extent; ++i) {
    if (extent > most_shown && i == shown_at_ends) {
      stream << (Rank > 1 ? ",\n" + std::string(depth + 1, ' ') : ", ") << "...";
      i = extent - shown_at_ends;
    }
    if (i > 0) stream << (Rank > 1 ? ",\n" + std::string(depth + 1, ' ') : ", ");
    if constexpr (Rank > 1)
      print_nested(stream, view[i], depth + 1);
    else if constexpr (std::is_convertible_v<T, float> && !requires { stream << view(i); })
      stream << static_cast<float>(view(i));
    else
      stream << view(i);
  }
  stream << ']';
}

}  // namespace detail

/// The shape of a view and its elements, nested as they lie: of a long extent the first and last
/// three. An absent view prints as "absent", one of device memory as its shape.
/// @return the stream
template <class T, std::size_t Rank, class Space>
std::ostream& operator<<(std::ostream& stream, const View<T, Rank, Space>& view) {
  if (!view) return stream << "absent";
  stream << detail::to_string(view.extents());
  if constexpr (std::is_same_v<Space, Host>) {
    stream << ' ';
    detail::print_nested(stream, view, detail::to_string(view.extents()).size() + 1);
  }
  return stream;
}

/// A tensor as its view prints.
/// @return the stream
template <class T, std::size_t Rank>
std::ostream& operator<<(std::ostream& stream, const Tensor<T, Rank>& tensor) {
  return stream << tensor.view();
}

}  // namespace ssm
