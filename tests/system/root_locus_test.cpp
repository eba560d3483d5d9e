#include "ssm/system/root_locus.hpp"

#include <Eigen/LU>
#include <algorithm>
#include <cmath>
#include <complex>
#include <vector>

#include "ssm/system/frequency_response.hpp"
#include "ssm/system/transfer_matrix.hpp"
#include "support/catch.hpp"
#include "support/contains.hpp"
#include "support/matrices.hpp"
#include "support/random.hpp"

namespace root_locus_test {

using namespace ssm;
using ssm::test::contains;
using ssm::test::distance;
using ssm::test::random_matrix;
using Complex = std::complex<double>;
using Eigen::MatrixXcd;
using Eigen::MatrixXd;
using Transfer = TransferFunction<double>;

namespace {

MatrixXcd transfer(const StateSpace<double>& system, Complex s) {
  return FrequencyResponse(system).at(s);
}

}  // namespace

TEST_CASE("branches of a root locus begin at the poles, end at the zeros and do not jump") {
  for (const Transfer& loop :
       {Transfer{{1, 3}, {1, 3, 2, 0}}, Transfer{{1}, {1, 6, 11, 6}},
        Transfer{{1, 1, 4}, {1, 0.4, 9, 2, 0}}, Transfer{{2, 1}, {1, 0}}, Transfer{{3}, {1}}}) {
    const auto locus = root_locus(loop);
    const auto poles = static_cast<std::size_t>(loop.denominator.size() - 1);
    REQUIRE(locus.branch.size() == poles);
    double residual = 0, jump = 0;
    for (const auto& branch : locus.branch) {
      REQUIRE(branch.size() == locus.gain.size());
      for (std::size_t i = 0; i < branch.size(); ++i) {
        if (!std::isfinite(std::abs(branch[i]))) continue;
        const Complex value = 1. / loop(branch[i]);
        if (std::isfinite(std::abs(value)))
          residual = std::max(residual, std::abs(value + locus.gain[i]) / (1 + std::abs(value)));
        if (i > 0)
          jump = std::max(jump, std::abs(branch[i] - branch[i - 1]) / (1 + std::abs(branch[i])));
      }
    }
    CHECK(residual <= 1e-5);
    CHECK(jump <= 0.2);
  }
}

TEST_CASE("break points are where the textbook has them") {
  // 1/(s (s + 1) (s + 2)): leaves the axis at −1 + 1/√3 with k = 2/(3√3)
  const auto locus = root_locus(Transfer{{1}, {1, 3, 2, 0}});
  REQUIRE(locus.break_points.size() == 1);
  CHECK(locus.break_points[0].point.real() == Approx(-1 + 1 / std::sqrt(3.)).epsilon(1e-14));
  CHECK(locus.break_points[0].point.imag() == 0);
  CHECK(locus.break_points[0].gain == Approx(2 / (3 * std::sqrt(3.))).epsilon(1e-13));
  // (s + 2)/(s (s + 1)): leaves and comes back at −2 ± √2
  const auto circle = root_locus(Transfer{{1, 2}, {1, 1, 0}});
  REQUIRE(circle.break_points.size() == 2);
  CHECK(circle.break_points[0].gain == Approx(3 - 2 * std::sqrt(2.)).epsilon(1e-13));
  CHECK(circle.break_points[1].gain == Approx(3 + 2 * std::sqrt(2.)).epsilon(1e-13));
  // the gains that were asked for, and no others
  const auto few = root_locus(Transfer{{1, 2}, {1, 1, 0}}, {0, 1, 100});
  CHECK(few.gain.size() == 3);
  CHECK(std::abs(few.branch[0][1] - std::conj(few.branch[1][1])) <= 1e-15);
  // a pole that leaves for infinity
  const auto away = root_locus(Transfer{{-1, 1}, {1, 1}}, {0, 1});
  CHECK(std::isinf(std::abs(away.branch[0][1])));

  CHECK_THROWS_AS(root_locus(Transfer{{1, 2, 3}, {1, 1}}), ShapeError);
  CHECK_THROWS_WITH(root_locus(Transfer{{0}, {1, 1}}), "root_locus: the loop is 0, expected not 0");
  CHECK_THROWS_WITH(root_locus(Transfer{{1e200}, {1e-200, 1e-200}}), contains("of gains beyond"));
  CHECK_THROWS_WITH(root_locus(Transfer{{1e200}, {1e-200, 1e-200}}, {0, 1}),
                    contains("root_locus: gain 1"));
  const auto far = root_locus(Transfer{{1e200}, {1e-100, 3e-100, 2e-100}});
  REQUIRE(far.break_points.size() == 1);
  CHECK(far.break_points[0].gain == Approx(0.25e-300));
  CHECK_THROWS_WITH(root_locus(state_space(Transfer{{1}, {1, 1}}), {}, 1),
                    contains("root_locus: the channel"));
  for (const std::vector<double>& bad :
       {std::vector<double>{-1}, {1, 1}, {1, std::nan("")}, {HUGE_VAL}})
    CHECK_THROWS_WITH(root_locus(Transfer{{1}, {1, 1}}, bad), contains("root_locus: gain"));
}

TEST_CASE("a locus begins at double poles") {
  const auto locus = root_locus(Transfer{{1}, {1, 0, -2, 0, 1}});
  REQUIRE(locus.branch.size() == 4);
  for (const auto& branch : locus.branch)
    CHECK(std::abs(std::abs(branch.front().real()) - 1) <= 1e-7);
}

TEST_CASE("transfer matrices compose as their values do, and become systems and back") {
  ssm::test::Random random(1);
  const Complex s(0.3, 1.7);
  const auto system = [&](Index n, Index m, Index p) {
    return StateSpace<double>(random_matrix(random, n, n), random_matrix(random, n, m),
                              random_matrix(random, p, n), random_matrix(random, p, m));
  };
  for (const Index n : {0, 1, 3}) {
    CAPTURE(n);
    const auto first = system(n, 2, 3), second = system(2, 2, 3), after = system(1, 3, 2);
    const auto G = transfer_matrix(first), H = transfer_matrix(second), K = transfer_matrix(after);
    const MatrixXcd g = transfer(first, s), h = transfer(second, s), k = transfer(after, s);
    CHECK(distance(G.at(s), g) <= 1e-11);
    CHECK(distance((G + H).at(s), g + h) <= 1e-11);
    CHECK(distance((2. * G - H).at(s), 2 * g - h) <= 1e-11);
    CHECK(distance((K * G).at(s), k * g) <= 1e-11);
    const auto again = state_space(G);
    CHECK(again.states() == 2 * n);
    CHECK(distance(transfer(again, s), g) <= 1e-10);
    const auto sampled = discrete_state_space(G, 0.5);
    CHECK(sampled.delta() == 0.5);
    CHECK(distance(transfer_matrix(sampled).at(s), g) <= 1e-8);
  }
  const TransferMatrix<double> listed{{Transfer{{1}, {1, 1}}, Transfer{{2}, {1}}},
                                      {Transfer{{1, 0}, {1, 2}}, Transfer{{1}, {1, 1}}}};
  CHECK(state_space(listed).states() == 3);
  CHECK(distance(transfer(state_space(listed), s), listed.at(s)) <= 1e-13);
  CHECK_THROWS_WITH((TransferMatrix<double>{{Transfer{{1}, {1}}}, {}}),
                    contains("a row is 0 long"));
  CHECK_THROWS_AS((TransferMatrix<double>(-1, 2)), ShapeError);
  CHECK_THROWS_AS(listed + TransferMatrix<double>(1, 2), ShapeError);
  CHECK_THROWS_AS(listed * TransferMatrix<double>(1, 2), ShapeError);
  CHECK_THROWS_AS(state_space(TransferMatrix<double>{{Transfer{{1, 2}, {1}}}}), ShapeError);
  CHECK_THROWS_AS(discrete_state_space(listed, 0), DomainError);
}

TEST_CASE("matrices of transfer functions close loops, and cancel where they are asked to") {
  const Transfer lag{{1}, {1, 1}}, slow{{2}, {1, 3}}, none{{0}, {1}};
  const TransferMatrix<double> G{{lag, slow}, {none, lag}}, H{{slow, none}, {lag, lag}};
  const Complex s(0.2, 1.1);
  const Eigen::MatrixXcd g = G.at(s), h = H.at(s);
  const Eigen::MatrixXcd want = (Eigen::MatrixXcd::Identity(2, 2) + g * h).partialPivLu().solve(g);
  CHECK(distance(feedback(G, H).at(s), want) <= 1e-10);
  CHECK_THROWS_AS(feedback(G, TransferMatrix<double>(1, 2)), ShapeError);
  const auto product = G * TransferMatrix<double>{{Transfer{{1, 1}, {1, 2}}}, {none}};
  CHECK(product(0, 0).denominator.size() == 4);
  CHECK(minimal(product)(0, 0).denominator.size() == 2);
  CHECK(distance(minimal(product).at(s), product.at(s)) <= 1e-12);
  // a locus of a system is that of its transfer function
  const auto one = root_locus(state_space(lag * slow), {0, 1.5}),
             other = root_locus(lag * slow, {0, 1.5});
  REQUIRE(one.branch.size() == 2);
  for (std::size_t b = 0; b < 2; ++b)
    CHECK(std::abs(one.branch[b][1] - other.branch[b][1]) <= 1e-12);
}

}  // namespace root_locus_test
