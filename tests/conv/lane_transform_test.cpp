#include "ssm/conv/detail/lane_transform.hpp"

#include <array>
#include <complex>
#include <limits>
#include <numbers>

#include "ssm/conv/fft.hpp"
#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/random.hpp"

using ssm::good_fft_size;
using ssm::Index;
using ssm::RealFft;
using ssm::Tensor;
using ssm::test::Random;
using ssm::test::relative_error;

TEMPLATE_TEST_CASE("the transform of a real sequence is its sum, and its inverse undoes it", "",
                   float, double) {
  RealFft<TestType> fft;
  for (const Index n : {1, 2, 3, 4, 5, 6, 7, 8, 30, 47, 105, 128, 210, 1001}) {
    const auto x = Random(4).normal<TestType>(std::array{n});
    Tensor<std::complex<TestType>, 1> X({n / 2 + 1});
    Tensor<std::complex<double>, 1> want({n / 2 + 1});
    for (Index k = 0; k <= n / 2; ++k)
      for (Index t = 0; t < n; ++t)
        want(k) +=
            double(x(t)) * std::polar(1.0, -2 * std::numbers::pi * double(k * t % n) / double(n));
    fft.forward(n, x.data(), X.data());
    CHECK(relative_error(X, want) <= 20 * std::numeric_limits<TestType>::epsilon());
    Tensor<TestType, 1> back({n});
    fft.inverse(n, X.data(), back.data());
    CHECK(relative_error(back, x) <= 20 * std::numeric_limits<TestType>::epsilon());
  }
  for (const Index n : {0, 1, 5, 17, 1000, 1001, 4097}) {
    CHECK(good_fft_size(n) >= n);
    CHECK(good_fft_size(n) % 4 == 0);
  }
  CHECK(good_fft_size(1001) == 1024);
  CHECK(good_fft_size(4097) == 4320);
}

TEMPLATE_TEST_CASE("a lane transform multiplies sequences, for every length and order of lanes", "",
                   float, double) {
  using Transform = ssm::detail::LaneTransform<TestType>;
  constexpr Index W = ssm::detail::lanes<TestType>;
  for (const Index least : {Index{1}, 2 * W * W + 1, 4 * W * W + 1, 8 * W * W + 1})
    for (const auto order : {ssm::detail::Lanes::sequences, ssm::detail::Lanes::times}) {
      const Transform transform(Transform::size_for(least), order);
      const Index size = transform.size(), rows = transform.memory() / size;
      CAPTURE(size, rows);
      CHECK(size >= least);
      const auto a = Random(1).normal<TestType>(std::array{size, rows});
      const auto b = Random(2).normal<TestType>(std::array{size, rows});
      Tensor<TestType, 1> A({size * rows}), B = A, product({size * rows});
      transform.load(a.data(), 0, size * rows, A.data());
      transform.load(b.data(), 0, size * rows, B.data());
      transform.forward(A.data());
      transform.forward_and_back(B.data(), [&](TestType* x, Index first, Index points) {
        using Complex = ssm::detail::ComplexVec<TestType>;
        for (Index p = 0; p < points; ++p)
          (Complex::load(x + p * 2 * W) * Complex::load(A.data() + (first + p) * 2 * W))
              .store(x + p * 2 * W);
      });
      transform.read(B.data(), 0, size * rows, [&](Index i, const TestType* x, Index some) {
        std::copy_n(x, some, product.data() + i);
      });
      constexpr Index some = 4;
      Tensor<double, 2> got({rows, some}), want({rows, some});
      for (Index r = 0; r < rows; ++r)
        for (Index i = 0; i < some; ++i) {
          const Index t = i < some / 2 ? i : size - i + 1;  // from both ends
          got(r, i) = double(product(t * rows + r)) * 2 / double(size);
          for (Index l = 0; l < size; ++l)
            want(r, i) += (l <= t ? 1 : -1) * double(a(l, r)) * double(b((t - l + size) % size, r));
        }
      CHECK(relative_error(got, want) <= 30 * std::numeric_limits<TestType>::epsilon());
    }
}
