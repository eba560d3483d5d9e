#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <complex>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ssm/core/error.hpp"
#include "ssm/core/float16.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/phi.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/io/bytes.hpp"
#include "ssm/io/commit.hpp"
#include "ssm/io/file.hpp"
#include "ssm/io/npy_header.hpp"
#include "ssm/io/safetensors_header.hpp"

/// @file
/// One array as NumPy's `numpy.save` writes it and `numpy.load` reads it:
///
///     const auto u = ssm::load_npy<float, 2>("u.npy");
///     ssm::save_npy("y.npy", y);

namespace ssm {
namespace detail {

/// An array in .npy format, in a file or in memory: its header has been read.
class NpyArray {
 public:
  /// @param name how errors call it: the path of its file, and its name within
  NpyArray(std::string name, Bytes bytes) : name_(std::move(name)), bytes_(std::move(bytes)) {
    header_ = read_npy_header(name_, bytes_);
  }

  [[nodiscard]] const NpyHeader& header() const noexcept { return header_; }

  template <class T, std::size_t Rank>
  [[nodiscard]] Tensor<T, Rank> read(NonFinite non_finite) const {
    if (header_.shape.size() != Rank)
      fail("is " + to_string(header_.shape) + ", expected " + std::to_string(Rank) + " extents");
    if (!converts<T>())
      fail("is of dtype " + in_quotes(header_.dtype) + ", expected " + expected<T>());
    std::array<Index, Rank> extents;
    std::copy(header_.shape.begin(), header_.shape.end(), extents.begin());
    Tensor<T, Rank> tensor(extents);
    switch (header_.kind) {
      case 'f':
        header_.size == 2   ? convert<T, Half>(tensor, non_finite)
        : header_.size == 4 ? convert<T, float>(tensor, non_finite)
                            : convert<T, double>(tensor, non_finite);
        break;
      case 'c':
        header_.size == 8 ? convert<T, std::complex<float>>(tensor, non_finite)
                          : convert<T, std::complex<double>>(tensor, non_finite);
        break;
      case 'i':
        header_.size == 1   ? convert<T, std::int8_t>(tensor, non_finite)
        : header_.size == 2 ? convert<T, std::int16_t>(tensor, non_finite)
        : header_.size == 4 ? convert<T, std::int32_t>(tensor, non_finite)
                            : convert<T, std::int64_t>(tensor, non_finite);
        break;
      default:  // 'u', and 'b' of 1 byte
        header_.size == 1   ? convert<T, std::uint8_t>(tensor, non_finite)
        : header_.size == 2 ? convert<T, std::uint16_t>(tensor, non_finite)
        : header_.size == 4 ? convert<T, std::uint32_t>(tensor, non_finite)
                            : convert<T, std::uint64_t>(tensor, non_finite);
    }
    return tensor;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw FileError(name_ + ": " + what); }

  template <class T>
  static constexpr bool is_complex = !std::same_as<T, Real<T>>;

  template <class T>
  [[nodiscard]] bool converts() const noexcept {
    if constexpr (std::integral<T>) return header_.kind != 'f' && header_.kind != 'c';
    return is_complex<T> || header_.kind != 'c';
  }
  template <class T>
  [[nodiscard]] static std::string expected() {
    if constexpr (std::integral<T>) return "integers or booleans";
    return "real numbers, integers or booleans";
  }

  template <class T, class Source, std::size_t Rank>
  void convert(Tensor<T, Rank>& tensor, NonFinite non_finite) const {
    constexpr std::size_t chunk = 8192;
    std::array<char, chunk * sizeof(Source)> room;
    const auto count = static_cast<std::size_t>(tensor.size());
    std::array<Index, Rank> at{};  // where the next element of the file goes
    for (std::size_t done = 0; done < count; done += chunk) {
      const std::size_t now = (std::min)(chunk, count - done);
      bytes_.read(room.data(), now * sizeof(Source), header_.data + done * sizeof(Source));
      for (std::size_t i = 0; i < now; ++i) {
        const Index element = static_cast<Index>(done + i);
        const T x = converted<T>(source<Source>(room.data() + i * sizeof(Source)), element);
        if (non_finite == NonFinite::reject) check_finite(x, element);
        if (!header_.column_major) {
          tensor.data()[element] = x;
          continue;
        }
        Index to = 0;
        for (std::size_t d = 0; d < Rank; ++d) to = to * tensor.extent(d) + at[d];
        tensor.data()[to] = x;
        for (std::size_t d = 0; d < Rank && ++at[d] == tensor.extent(d); ++d) at[d] = 0;
      }
    }
  }

  /// A number as it lies in the file.
  template <class Source>
  [[nodiscard]] Source source(const char* from) const noexcept {
    std::array<char, sizeof(Source)> bytes;
    std::memcpy(bytes.data(), from, sizeof(Source));
    if (header_.swapped) {
      constexpr std::size_t part = is_complex<Source> ? sizeof(Source) / 2 : sizeof(Source);
      for (std::size_t begin = 0; begin < sizeof(Source); begin += part)
        std::reverse(bytes.begin() + begin, bytes.begin() + begin + part);
    }
    if constexpr (is_complex<Source>) {
      std::array<Real<Source>, 2> parts;
      std::memcpy(parts.data(), bytes.data(), sizeof(Source));
      return {parts[0], parts[1]};
    } else {
      return std::bit_cast<Source>(bytes);
    }
  }

  template <class T, class Source>
  [[nodiscard]] T converted(Source x, Index element) const {
    if constexpr (std::integral<T> && std::integral<Source>) {
      if (!std::in_range<T>(x)) fail_at(element, std::to_string(x), "a number that fits");
      return static_cast<T>(x);
    } else if constexpr (std::integral<T>) {
      return T(0);  // converts() has refused it
    } else if constexpr (std::integral<Source>) {
      using Number = Arithmetic<Real<T>>;
      constexpr int digits = std::same_as<Real<T>, Half> ? 11
                             : std::same_as<Real<T>, Bfloat16>
                                 ? 8
                                 : std::numeric_limits<Number>::digits;
      constexpr std::int64_t most = std::int64_t{1} << digits;  // all up to it are exact
      if (std::cmp_greater(x, most) || std::cmp_less(x, -most))
        fail_at(element, std::to_string(x), "at most 2^" + std::to_string(digits) + " in size");
      return T(Real<T>(static_cast<Number>(x)));
    } else if constexpr (is_complex<Source> && is_complex<T>) {
      return T(static_cast<Real<T>>(x.real()), static_cast<Real<T>>(x.imag()));
    } else if constexpr (is_complex<Source>) {
      return T(Arithmetic<T>(0));  // converts() has refused it
    } else {
      using Number = Arithmetic<Real<T>>;
      return T(Real<T>(static_cast<Number>(static_cast<Arithmetic<Source>>(x))));
    }
  }

  template <class T>
  void check_finite(T x, Index element) const {
    if constexpr (is_complex<T>) {
      check_finite(x.real(), element);
      check_finite(x.imag(), element);
    } else if constexpr (!std::integral<T>) {
      const auto number = static_cast<Arithmetic<T>>(x);
      if (!std::isfinite(number))
        fail_at(element, std::isnan(number) ? "NaN" : "infinity", "finite numbers");
    }
  }

  [[noreturn]] void fail_at(Index element, const std::string& got, const std::string& want) const {
    fail("has " + got + " at element " + std::to_string(element) + ", expected " + want);
  }

  std::string name_;
  Bytes bytes_;
  NpyHeader header_;
};

}  // namespace detail

/// Reads an array of the given rank, of any shape. Real numbers, integers and booleans convert to
/// float, double, Half and Bfloat16, complex numbers to complex ones, integers and booleans to any
/// integer; bytes in either order and arrays in Fortran's order are turned.
///
/// Cost: one pass over the file.
/// @param path a file that numpy.save wrote
/// @param non_finite whether NaN and infinity are let through
/// @throws FileError that names the file, for one that is cut short, has another rank or a dtype
///   that does not convert, integers that do not fit (in a float: above 2^24), and for NaN and
///   infinity unless they are allowed
template <class T, std::size_t Rank>
[[nodiscard]] Tensor<T, Rank> load_npy(const std::filesystem::path& path,
                                       NonFinite non_finite = NonFinite::reject) {
  return detail::NpyArray(path.string(), detail::Bytes(detail::InputFile(path)))
      .read<T, Rank>(non_finite);
}

/// Writes an array of adjacent elements, row-major, as numpy.load reads it. An old file is replaced
/// in one step.
/// @throws ShapeError for a view with gaps; FileError with the reason that the system gives
template <class T, std::size_t Rank>
void save_npy(const std::filesystem::path& path, const View<const T, Rank>& array) {
  if (!array.contiguous())
    detail::throw_shape("save_npy", "array", "a view with gaps", "a contiguous one");
  const std::string header =
      detail::npy_header<T>({array.extents().begin(), array.extents().end()});
  detail::write_atomically(path, [&](detail::OutputFile& file) {
    file.write(header);
    file.write(array.data(), static_cast<std::size_t>(array.size()) * sizeof(T));
  });
}
/// The same of a tensor.
template <class T, std::size_t Rank>
void save_npy(const std::filesystem::path& path, const Tensor<T, Rank>& array) {
  save_npy(path, View<const T, Rank>(array.view()));
}

}  // namespace ssm
