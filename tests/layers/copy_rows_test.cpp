#include "ssm/layers/copy_rows.hpp"

#include "support/catch.hpp"
#include "support/compare.hpp"
#include "support/random.hpp"

using namespace ssm;

TEST_CASE("copy_rows copies strided rows to strided rows and nothing between") {
  test::Random random(1);
  CopyRowsScratch<float> scratch;
  for (const Index rows : {0, 1, 150}) {
    const auto from = random.normal<float, 2>({rows, 9});
    Tensor<float, 2> to({rows, 12});
    copy_rows(cpu(2), {from.view().slice(1, 3, 5)}, {}, {to.view().slice(1, 1, 5)}, scratch);
    for (Index i = 0; i < rows; ++i)
      for (Index c = 0; c < 12; ++c) CHECK(to(i, c) == (c >= 1 && c < 6 ? from(i, c + 2) : 0.0f));
    auto columns = from;  // from columns to others of the same rows, and onto themselves
    copy_rows(cpu(2), {columns.view().slice(1, 0, 4)}, {}, {columns.view().slice(1, 5, 4)},
              scratch);
    copy_rows(cpu(2), {columns}, {}, {columns}, scratch);
    for (Index i = 0; i < rows; ++i)
      for (Index c = 0; c < 9; ++c) CHECK(columns(i, c) == from(i, c < 5 ? c : c - 5));
  }
}

TEST_CASE("copy_rows names the argument that it refuses") {
  Tensor<float, 2> x({2, 3}), y({3, 2});
  CopyRowsScratch<float> scratch;
  CHECK_THROWS_WITH(copy_rows(cpu, {x}, {}, {y}, scratch),
                    "copy_rows: y is (3, 2), expected (2, 3)");
  CHECK_THROWS_WITH(
      copy_rows(cpu, {x}, {}, {View<float, 2>(y.data(), {2, 3}, {0, 1})}, scratch),
      "copy_rows: y is strided as (0, 1), expected no stride of 0 in what is written");
  CHECK_THROWS_WITH(
      copy_rows(cpu, {x.view().slice(1, 0, 2)}, {}, {x.view().slice(1, 1, 2)}, scratch),
      "copy_rows: y is over a part of the memory of x, "
      "expected all of it or memory of its own");
}
