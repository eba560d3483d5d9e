#include "ssm/io/config_json.hpp"

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "support/catch.hpp"
#include "support/contains.hpp"

namespace elsewhere {  // a user's own configurations, in a user's own namespace

enum class Color { red, green };
constexpr std::array<ssm::Named<Color>, 2> names(Color) {
  return {{{Color::red, "red"}, {Color::green, "green"}}};
}

struct Part {
  ssm::Index size = 3;
  Color color = Color::red;
  friend bool operator==(const Part&, const Part&) = default;
};
template <class Visit>
void fields(Part& c, Visit&& visit) {
  visit("size", c.size);
  visit("color", c.color, ssm::Field::optional);
}

struct Whole {
  ssm::Index width = 0;
  std::uint64_t seed = 0;
  double rate = 1;
  float scale = 1;
  bool both = false;
  std::string name;
  Part part;
  std::vector<Part> parts;
  std::variant<Part, ssm::Index> either;
  friend bool operator==(const Whole&, const Whole&) = default;
};
template <class Visit>
void fields(Whole& c, Visit&& visit) {
  visit("width", c.width);
  visit("seed", c.seed);
  visit("rate", c.rate);
  visit("scale", c.scale);
  visit("both", c.both);
  visit("name", c.name);
  visit("part", c.part);
  visit("parts", c.parts);
  visit("either", c.either);
}

struct Nothing {};

}  // namespace elsewhere

using elsewhere::Color;
using elsewhere::Part;
using elsewhere::Whole;
using ssm::Json;
using ssm::test::contains;

namespace {

Whole some() {
  Whole c{.width = 7,
          .seed = UINT64_MAX,
          .rate = std::numeric_limits<double>::infinity(),
          .scale = 0.1f,
          .both = true,
          .name = "λ \"x\"",
          .part = {5, Color::green},
          .parts = {{1, Color::red}, {2, Color::green}},
          .either = ssm::Index{-4}};
  return c;
}

/// What is said of a configuration with one field another value; "" when it is read.
std::string complaint(const char* field, const Json& value) {
  Json json = ssm::to_json(some());
  json[field] = value;
  try {
    (void)ssm::config_from_json<Whole>(json, "file");
    return "";
  } catch (const ssm::FileError& error) {
    return error.what();
  }
}

}  // namespace

static_assert(ssm::HasFields<Whole> && !ssm::HasFields<elsewhere::Nothing>);

TEST_CASE("a configuration becomes JSON in its own words and comes back") {
  const Json json = ssm::to_json(some());
  CHECK(json.find("part")->text() == R"({"size": 5, "color": "green"})");
  CHECK(json.find("either")->text() == R"({"kind": 1, "config": -4})");
  const Json read = ssm::detail::parse_json("file", json.text(2));
  CHECK(ssm::config_from_json<Whole>(read, "file") == some());
  Whole other = some();
  other.either = Part{8, Color::green};
  other.parts.clear();
  CHECK(ssm::config_from_json<Whole>(ssm::to_json(other), "file") == other);
}

TEST_CASE("what is unknown, missing or of another kind is refused by its place") {
  CHECK_THAT(complaint("extra", 1), contains("file: config has the unknown field \"extra\""));
  CHECK_THAT(complaint("width", 1.5), contains("config.width is 1.5, expected a whole number"));
  CHECK_THAT(complaint("width", Json::Array{}), contains("config.width"));
  CHECK_THAT(complaint("width", UINT64_MAX), contains("config.width"));
  CHECK_THAT(complaint("width", std::int64_t{1} << 31), contains("up to 2147483647"));
  CHECK_THAT(complaint("width", std::numeric_limits<std::int64_t>::min()), contains("width"));
  CHECK_THAT(complaint("seed", -1), contains("config.seed is -1"));
  CHECK_THAT(complaint("rate", "fast"), contains("config.rate is \"fast\", expected a number"));
  CHECK_THAT(complaint("rate", std::numeric_limits<double>::quiet_NaN()), contains("rate"));
  CHECK_THAT(complaint("both", 1), contains("config.both is 1, expected true or false"));
  CHECK_THAT(complaint("name", 1), contains("config.name is 1, expected a text"));
  CHECK_THAT(complaint("part", 3), contains("config.part is 3, expected a JSON object"));
  CHECK_THAT(complaint("part", Json::Object{}), contains("config.part has no size"));
  CHECK_THAT(complaint("part", Json::Object{{"size", 1}, {"color", "blue"}}),
             contains("config.part.color is \"blue\", expected one of \"red\", \"green\""));
  CHECK_THAT(complaint("parts", Json::Array{Json::Object{{"size", 1}}, 3}),
             contains("config.parts[1] is 3"));
  CHECK_THAT(complaint("either", Json::Object{{"kind", 2}, {"config", 1}}),
             contains("config.either.kind is 2, expected less than 2"));
  Json json = ssm::to_json(some());
  json.as<Json::Object>()->erase(json.as<Json::Object>()->begin());
  CHECK_THROWS_WITH(ssm::config_from_json<Whole>(json, "file"), contains("config has no width"));
}

TEST_CASE("only a field that is optional keeps its default") {
  CHECK(ssm::config_from_json<Part>(Json::Object{{"size", 1}}, "file") == Part{1, Color::red});
  CHECK_THROWS_AS(ssm::config_from_json<Part>(Json::Object{{"color", "red"}}, "file"),
                  ssm::FileError);
  CHECK(complaint("width", -3).empty());
}
