#include "ssm/layers/stored_matrix.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "ssm/layers/linear.hpp"
#include "ssm/layers/store_matrix.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/random.hpp"

using namespace ssm;
using test::Random;

namespace {

constexpr std::array formats{MatrixFormat::f32, MatrixFormat::f16, MatrixFormat::bf16,
                             MatrixFormat::q8, MatrixFormat::q4};

/// The numbers that a stored matrix stands for, element by element as its documentation says.
Tensor<float, 2> numbers_of(const StoredMatrix& matrix) {
  const StoredMatrixView m = matrix.view();
  const Index row = detail::row_bytes(m.format, m.extents[1]);
  const Index scales = detail::scale_bytes(m.format, m.extents[1]);
  Tensor<float, 2> result(m.extents);
  for (Index r = 0; r < m.extents[0]; ++r)
    for (Index k = 0; k < m.extents[1]; ++k) {
      const std::byte* numbers = m.numbers + r * row;
      std::uint16_t half = 0;
      if (m.format == MatrixFormat::f16 || m.format == MatrixFormat::bf16)
        std::memcpy(&half, numbers + 2 * k, 2);
      if (m.format == MatrixFormat::q8 || m.format == MatrixFormat::q4)
        std::memcpy(&half, m.scales + r * scales + k / 32 * 2, 2);
      float& value = result(r, k);
      switch (m.format) {
        case MatrixFormat::f32:
          std::memcpy(&value, numbers + 4 * k, 4);
          break;
        case MatrixFormat::f16:
          value = half_to_float(half);
          break;
        case MatrixFormat::bf16:
          value = bfloat16_to_float(half);
          break;
        case MatrixFormat::q8:
          value =
              static_cast<float>(static_cast<std::int8_t>(numbers[k])) * bfloat16_to_float(half);
          break;
        case MatrixFormat::q4: {
          const Index word = 16 * (k / 128) + k % 16;
          std::uint32_t bits;
          std::memcpy(&bits, numbers + 4 * word, 4);
          const auto q = static_cast<int>((bits >> (4 * (k % 128 / 16))) & 15u) - 8;
          value = static_cast<float>(q) * bfloat16_to_float(half);
        }
      }
    }
  return result;
}

}  // namespace

TEST_CASE("a stored matrix multiplies as the numbers that it stands for, for every size") {
  Random random(1);
  const double epsilon = std::numeric_limits<float>::epsilon();
  for (const MatrixFormat format : formats)
    for (const Index in : {0, 1, 31, 48, 129, 768, 2049})
      for (const Index out : {1, 4, 19, 400}) {
        const auto weight = random.normal<float, 2>({out, in});
        const StoredMatrix stored = store_matrix(cpu(2), weight, format);
        const Tensor<float, 2> plain = numbers_of(stored);
        for (const Index rows : {1, 2, 5, 16, 17, 45}) {
          if (out > 20 && (in > 1000 || (rows > 17 && in > 130))) continue;
          INFO(name_of(format) << ' ' << rows << " x " << in << " to " << out);
          const auto x = random.normal<float, 2>({rows, in});
          Tensor<float, 2> want({rows, out}), y({rows, out}), alone({1, out});
          for (Index i = 0; i < rows; ++i)
            for (Index o = 0; o < out; ++o) {
              double sum = 0;
              for (Index k = 0; k < in; ++k) sum += double{x(i, k)} * double{plain(o, k)};
              want(i, o) = static_cast<float>(sum);
            }
          LinearScratch<float> scratch;
          const LinearInputs<float, Host, StoredMatrixView> inputs{x, stored.view()};
          linear(cpu(2), inputs, {}, {y}, scratch);
          const double rounding = 4 * epsilon * std::sqrt(static_cast<double>(in + 1));
          const bool blocks = format == MatrixFormat::q8 || format == MatrixFormat::q4;
          double bound = rounding;
          if (SSM_DETAIL_BYTE_PRODUCTS && blocks) {  // x in 15 bits and a sign
            double largest = 0, sizes = 0, scale = 1e-30;
            for (const float value : x) largest = std::max(largest, std::abs(double{value}));
            for (const float value : want) scale = std::max(scale, std::abs(double{value}));
            for (Index o = 0; o < out; ++o) {
              double row = 0;
              for (Index k = 0; k < in; ++k) row += std::abs(double{plain(o, k)});
              sizes = std::max(sizes, row);
            }
            bound += 0x1p-16 * largest * sizes / scale;
          }
          CHECK(test::relative_error(y, want) <= bound);
          if (rows > 16) continue;
          linear_step(cpu(2), inputs, {}, y);
          for (Index i = 0; i < rows; ++i) {
            linear_step(
                LinearInputs<float, Host, StoredMatrixView>{x.view().slice(0, i, 1), stored.view()},
                {}, alone);
            CHECK(std::memcmp(&y(i, 0), &alone(0, 0), sizeof(float) * size_t(out)) == 0);
          }
          linear_step(cpu(1), inputs, {Write::accumulate}, y);
          for (float& value : y) value /= 2;
          CHECK(test::relative_error(y, want) <= bound);
        }
      }
}

TEST_CASE("a vector beside others that are not finite, zero or tiny is multiplied as alone") {
  Random random(3);
  constexpr Index in = 800, out = 21, rows = 19;
  auto x = random.normal<float, 2>({rows, in});
  for (Index k = 0; k < in; ++k) {
    x(1, k) = 0;
    x(4, k) *= 1e-35f;
    x(5, k) *= 1e30f;
  }
  x(2, 799) = std::numeric_limits<float>::quiet_NaN();
  x(3, 0) = std::numeric_limits<float>::infinity();
  for (const MatrixFormat format : formats) {
    INFO(name_of(format));
    const StoredMatrix stored = store_matrix(cpu, random.normal<float, 2>({out, in}), format);
    const Tensor<float, 2> plain = numbers_of(stored);
    Tensor<float, 2> y({rows, out}), alone({1, out}), twice({rows, out});
    using Inputs = LinearInputs<float, Host, StoredMatrixView>;
    linear_step(cpu(3), Inputs{x, stored.view()}, {}, y);
    for (Index i = 0; i < rows; ++i) {
      linear_step(Inputs{x.view().slice(0, i, 1), stored.view()}, {}, alone);
      CHECK(std::memcmp(&y(i, 0), &alone(0, 0), sizeof(float) * size_t(out)) == 0);
      double largest = 0, worst = 0;
      for (Index o = 0; o < out; ++o) {
        double sum = 0, sizes = 0;
        for (Index k = 0; k < in; ++k) {
          sum += double{x(i, k)} * double{plain(o, k)};
          sizes += std::abs(double{plain(o, k)});
          largest = std::max(largest, std::abs(double{x(i, k)}));
        }
        if (i == 2 || i == 3) {
          CHECK(!std::isfinite(y(i, o)));
          continue;
        }
        worst = std::max(worst, std::abs(y(i, o) - sum) / sizes);
      }
      const double of_x = SSM_DETAIL_BYTE_PRODUCTS ? 0x1p-16 : 0;
      CHECK(worst <= (of_x + 0x1p-21) * largest + 1e-45);
    }
    twice = y;
    linear_step(cpu(1), Inputs{x, stored.view()}, {Write::accumulate}, twice);
    for (Index o = 0; o < out; ++o) CHECK(twice(0, o) == Approx(2 * y(0, o)).epsilon(1e-5));
  }
}

TEST_CASE("rounding to fewer bits errs by no more than the format says") {
  Random random(2);
  const auto weight = random.normal<float, 2>({50, 200});
  double power = 0;
  for (const float w : weight) power += double{w} * double{w};
  // Of normal numbers: half a unit of f16 and bf16; a block's largest over 254 and over √12 · 8.
  const std::array<double, 5> most{0, 0x1p-11, 0x1p-8, 0.0065, 0.095};
  for (std::size_t i = 0; i < formats.size(); ++i) {
    const Tensor<float, 2> rounded = numbers_of(store_matrix(cpu, weight, formats[i]));
    double error = 0;
    for (Index j = 0; j < weight.size(); ++j)
      error += std::pow(double{weight.data()[j]} - double{rounded.data()[j]}, 2);
    INFO(name_of(formats[i]));
    CHECK(std::sqrt(error / power) <= most[i]);
  }
}

TEST_CASE("rounding to fewer bits keeps zero, the largest number of a block and its neighbours") {
  Tensor<float, 2> weight({2, 64});
  weight(0, 3) = 1e-3f;
  weight(0, 40) = -7e4f;  // beyond f16
  weight(1, 63) = 1e-30f;
  for (const MatrixFormat format : {MatrixFormat::bf16, MatrixFormat::q8, MatrixFormat::q4}) {
    const Tensor<float, 2> rounded = numbers_of(store_matrix(cpu(1), weight, format));
    INFO(name_of(format));
    for (Index j = 0; j < weight.size(); ++j)
      CHECK(std::abs(rounded.data()[j] - weight.data()[j]) <= std::abs(weight.data()[j]) / 100);
  }
}

TEST_CASE("numbers that a format cannot hold are refused, and tiny ones become zero") {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  for (const MatrixFormat format : formats)
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), infinity, -infinity}) {
      Tensor<float, 2> weight({3, 40});
      weight(2, 37) = bad;
      INFO(name_of(format) << ' ' << bad);
      CHECK_THROWS_AS(store_matrix(cpu(2), weight, format), DomainError);
    }
  Tensor<float, 2> weight({1, 64});
  weight(0, 1) = 7e4f;
  CHECK_THROWS_AS(store_matrix(cpu(1), weight, MatrixFormat::f16), DomainError);
  weight(0, 1) = std::numeric_limits<float>::max();
  CHECK_THROWS_AS(store_matrix(cpu(1), weight, MatrixFormat::bf16), DomainError);
  weight(0, 1) = std::numeric_limits<float>::denorm_min() * 1000;  // beside zeros
  for (const MatrixFormat format : {MatrixFormat::q8, MatrixFormat::q4})
    for (const float number : numbers_of(store_matrix(cpu(1), weight, format)))
      CHECK(std::abs(number) <= weight(0, 1));
}

TEST_CASE("a stored matrix is shared by its copies") {
  const Tensor<float, 2> weight({3, 5});
  StoredMatrix copy;
  {
    const StoredMatrix stored = store_matrix(cpu(1), weight, MatrixFormat::bf16);
    copy = stored;
    CHECK(copy.view().numbers == stored.view().numbers);
  }
  CHECK(copy.size() == 15);
  CHECK(copy.bytes() == 30);
  CHECK(numbers_of(copy)(2, 4) == 0);
  const std::byte there{};
  CHECK_THROWS_AS(StoredMatrix({MatrixFormat::f32, {1, 2}, nullptr, nullptr}, nullptr), ShapeError);
  CHECK_THROWS_AS(StoredMatrix({MatrixFormat::q8, {1, 2}, &there, nullptr}, nullptr), ShapeError);
  CHECK_THROWS_AS(StoredMatrix({MatrixFormat::f32, {-1, 2}, nullptr, nullptr}, nullptr),
                  ShapeError);
}
