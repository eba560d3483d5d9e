#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "ssm/core/checks.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/view.hpp"

namespace ssm {

/// How the numbers of a stored matrix are kept. `q8` and `q4` keep blocks of 32 neighbours of a row
/// as whole numbers of 8 or 4 bits and one bfloat16 factor for all of them.
enum class MatrixFormat { f32, f16, bf16, q8, q4 };

/// The name of a format: "f32", "f16", "bf16", "q8" or "q4".
[[nodiscard]] constexpr std::string_view name_of(MatrixFormat format) noexcept {
  constexpr std::array<std::string_view, 5> names{"f32", "f16", "bf16", "q8", "q4"};
  return names[static_cast<std::size_t>(format)];
}

namespace detail {

/// Elements from the beginning of a row to that of the next: rows are whole pairs or fours of
/// blocks.
[[nodiscard]] constexpr Index row_elements(MatrixFormat format, Index in) noexcept {
  const Index whole = format == MatrixFormat::q4 ? 128 : format == MatrixFormat::q8 ? 64 : 1;
  return (in + whole - 1) / whole * whole;
}
[[nodiscard]] constexpr Index row_bytes(MatrixFormat format, Index in) noexcept {
  const Index elements = row_elements(format, in);
  switch (format) {
    case MatrixFormat::f32:
      return 4 * elements;
    case MatrixFormat::f16:
    case MatrixFormat::bf16:
      return 2 * elements;
    case MatrixFormat::q8:
      return elements;
    default:
      return elements / 2;
  }
}
/// Bytes of the factors of a row; 0 where there are none.
[[nodiscard]] constexpr Index scale_bytes(MatrixFormat format, Index in) noexcept {
  const bool blocks = format == MatrixFormat::q8 || format == MatrixFormat::q4;
  return blocks ? 2 * (row_elements(format, in) / 32) : 0;
}

/// The bytes of a matrix.
[[nodiscard]] constexpr Index stored_bytes(MatrixFormat format,
                                           const std::array<Index, 2>& extents) noexcept {
  return extents[0] * (row_bytes(format, extents[1]) + scale_bytes(format, extents[1]));
}

}  // namespace detail

/// A view of a stored matrix, which `linear` and `embedding` read as they read a matrix of floats.
struct StoredMatrixView {
  MatrixFormat format = MatrixFormat::f32;  ///< how numbers are kept
  std::array<Index, 2> extents{};           ///< (out, in)
  const std::byte* numbers = nullptr;       ///< row after row, at any address
  const std::byte* scales = nullptr;        ///< of q8 and q4: the factors, row after row

  /// The length of dimension `i`.
  [[nodiscard]] Index extent(std::size_t i) const noexcept { return extents[i]; }
  /// Whether there is a matrix.
  [[nodiscard]] explicit operator bool() const noexcept { return numbers != nullptr; }
};

/// A matrix of weights that is read only, in the memory that its file is mapped to or in its own,
/// which copies share. It takes the place of Tensor<float, 2> as the matrix of a layer that runs
/// and is not trained: Mamba<float, StoredMatrix>. Products convert its numbers to float as they
/// read them. Where the processor multiplies bytes (AVX-512 VNNI), products of q8 and q4 with up to
/// 16 rows x round each x to 15 bits and a sign, which errs by at most 2^{−16} of its largest number,
/// and sum a block exactly.
class StoredMatrix {
 public:
  using value_type = float;                 ///< type of a number in computations
  using space = Host;                       ///< where the numbers are
  static constexpr std::size_t rank = 2;    ///< number of dimensions
  using Extents = std::array<Index, rank>;  ///< (out, in)

  StoredMatrix() = default;
  /// A matrix in memory that `owner` keeps.
  /// @param view where it is
  /// @throws ShapeError for a negative extent, and for numbers or factors that are absent
  StoredMatrix(const StoredMatrixView& view, std::shared_ptr<const void> owner)
      : view_(view), owner_(std::move(owner)) {
    if (view.extents[0] < 0 || view.extents[1] < 0)
      detail::throw_shape("StoredMatrix", "extents", detail::to_string(view.extents),
                          "no negative extent");
    if (view.numbers == nullptr && size() > 0)
      detail::throw_absent("StoredMatrix", "numbers", "(out, in)");
    if (view.scales == nullptr && bytes() > 0 &&
        detail::scale_bytes(view.format, view.extents[1]) > 0)
      detail::throw_absent("StoredMatrix", "scales", "(out, blocks)");
  }

  /// A view of it, valid as long as a copy of the matrix is.
  [[nodiscard]] StoredMatrixView view() const noexcept { return view_; }
  /// (out, in).
  [[nodiscard]] const Extents& extents() const noexcept { return view_.extents; }
  /// The length of dimension `i`.
  [[nodiscard]] Index extent(std::size_t i) const noexcept { return view_.extents[i]; }
  /// The memory of its numbers.
  [[nodiscard]] const std::byte* data() const noexcept { return view_.numbers; }
  /// The number of elements.
  [[nodiscard]] Index size() const noexcept { return view_.extents[0] * view_.extents[1]; }
  /// How its numbers are kept.
  [[nodiscard]] MatrixFormat format() const noexcept { return view_.format; }
  /// The bytes that a product reads.
  [[nodiscard]] Index bytes() const noexcept {
    return detail::stored_bytes(view_.format, view_.extents);
  }

 private:
  StoredMatrixView view_;
  std::shared_ptr<const void> owner_;
};

}  // namespace ssm
