#include "ssm/core/detail/doubled.hpp"

#include "support/catch.hpp"

using Eigen::MatrixXd;
using Wide = ssm::detail::Doubled<MatrixXd>;

TEST_CASE("doubled matrices keep the digits that double drops") {
  const double small = 0x1p-40;
  const auto one = [](double x) { return MatrixXd(MatrixXd::Constant(1, 1, x)); };
  const Wide product = Wide(one(1 + small)) * Wide(one(1 - small));
  CHECK(product.high(0) == 1);
  CHECK(product.low(0) == -small * small);
  CHECK((product - Wide(one(1))).high(0) == -small * small);
  CHECK((product + Wide(one(-1))).high(0) == -small * small);

  // a sum whose terms are 2^80 times as large as it, in each element
  MatrixXd rows(2, 3), columns(3, 2);
  rows << 0x1p80, 3, -0x1p80, -0x1p80, 5, 0x1p80;
  columns << 7, 11, 1, -1, 7, 11;
  const Wide sums = Wide(rows) * Wide(columns);
  MatrixXd want(2, 2);
  want << 3, -3, 5, -5;
  CHECK(sums.high == want);
  CHECK(sums.low.isZero(0));
  const Wide turned = Wide(columns).transpose() * Wide(rows).transpose();
  CHECK(turned.high == want.transpose());
}
