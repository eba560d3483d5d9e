#include "ssm/core/error.hpp"

#include <stdexcept>
#include <string>
#include <type_traits>

#include "ssm/core/tensor.hpp"
#include "support/catch.hpp"
#include "support/contains.hpp"
#include "support/last_words.hpp"

using namespace ssm;

static_assert(std::is_base_of_v<std::invalid_argument, ShapeError>);
static_assert(std::is_base_of_v<std::domain_error, DomainError>);
static_assert(std::is_base_of_v<std::runtime_error, FileError>);

TEST_CASE("a shape check names the function, the argument, what was given and what was wanted") {
  const Tensor<float, 3> tensor({2, 3, 4});
  CHECK_NOTHROW(detail::check_shape("scan", "u", tensor, std::array<Index, 3>{2, 3, 4}));
  CHECK_THROWS_WITH(detail::check_shape("scan", "u", tensor, std::array<Index, 3>{2, 3, 5}),
                    "scan: u is (2, 3, 4), expected (2, 3, 5)");
  const Tensor<float, 1> row({7});
  CHECK_THROWS_AS(detail::check_shape("scan", "D", row.view(), std::array<Index, 1>{8}),
                  ShapeError);
  CHECK_THROWS_WITH(detail::check_shape("scan", "D", row.view(), std::array<Index, 1>{8}),
                    "scan: D is (7), expected (8)");
}

TEST_CASE("an absent argument passes an optional check, and a wrong one does not") {
  const std::array<Index, 2> want{2, 3};
  CHECK_NOTHROW(detail::check_optional_shape("scan", "z", View<float, 2>(), want));
  const Tensor<float, 2> wrong({3, 2});
  CHECK_THROWS_WITH(detail::check_optional_shape("scan", "z", wrong.view(), want),
                    "scan: z is (3, 2), expected (2, 3)");
  CHECK_THROWS_WITH(detail::check_shape("scan", "z", View<float, 2>(), want),
                    "scan: z is absent, expected (2, 3)");
}

TEST_CASE("a domain error names the value and what it should be") {
  CHECK_THROWS_AS(detail::throw_domain("f", "x", "-1", ">= 0"), DomainError);
  CHECK_THROWS_WITH(detail::throw_domain("f", "x", "-1", ">= 0"), "f: x is -1, expected >= 0");
}

TEST_CASE("checks in a function that may not throw end the program, and say why") {
  const auto words_of = [](Index got) {
    return test::last_words([&] {
      detail::check_or_terminate([&] {
        if (got != 2) detail::throw_domain("step", "rate", std::to_string(got), "2");
      });
    });
  };
  CHECK(words_of(2).empty());
  CHECK_THAT(words_of(3), test::contains("step: rate is 3, expected 2"));
}
