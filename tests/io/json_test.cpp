#include "ssm/io/json.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include "support/catch.hpp"
#include "support/contains.hpp"
#include "support/random.hpp"

namespace json_test {

using ssm::FileError;
using ssm::Json;
using ssm::test::contains;

namespace {

Json parse(const std::string& text) { return ssm::detail::parse_json("a.json", text); }

/// What is said of a text; "" when it is JSON.
std::string complaint(const std::string& text) {
  try {
    (void)parse(text);
    return "";
  } catch (const FileError& error) {
    return error.what();
  }
}

}  // namespace

TEST_CASE("every kind of JSON value is read as itself") {
  const Json json =
      parse("\r\n\t {\"a\": [1, -2, 0.5, -1e2, true, false, null, \"x\"], \"b\": {}, \"c\": [ ]} ");
  const auto& a = *json.find("a")->as<Json::Array>();
  CHECK(*a[0].as<std::uint64_t>() == 1);
  CHECK(*a[1].as<std::int64_t>() == -2);
  CHECK(*a[2].as<double>() == 0.5);
  CHECK(*a[3].as<double>() == -100);
  CHECK(*a[4].as<bool>());
  CHECK_FALSE(*a[5].as<bool>());
  CHECK(a[6] == Json());
  CHECK(a[7] == Json("x"));
  CHECK(json.find("b")->as<Json::Object>()->empty());
  CHECK(json.find("c")->as<Json::Array>()->empty());
  CHECK(json.find("d") == nullptr);
  CHECK(*parse("18446744073709551615").as<std::uint64_t>() == UINT64_MAX);
  CHECK(*parse("-9223372036854775808").as<std::int64_t>() == INT64_MIN);
  CHECK(*parse("18446744073709551616").as<double>() == 0x1p64);
  CHECK(parse("-0") == Json(0));
}

TEST_CASE("texts hold any character, as itself or escaped") {
  CHECK(parse(R"("\"\\\/\b\f\n\r\t")") == Json("\"\\/\b\f\n\r\t"));
  CHECK(parse(R"("\u0041\u00e9\u4E2D\ud83d\ude00")") == Json("Aé中😀"));
  CHECK(parse("\"Aé中😀\x7f\"") == Json("Aé中😀\x7f"));
  CHECK(*parse(R"("a\u0000b")").as<std::string>() == std::string("a\0b", 3));
}

TEST_CASE("what is written is read as the same value, in one line or many") {
  Json json = Json::Object{{"text", "a\"\\\n\x01\x7f é"}, {"empty", Json::Object{}}};
  json["list"] = Json::Array{1, -1, 0.1, 1e300, 5e-324, -0.0, 1.0, true, Json(), Json::Array{}};
  json["seed"] = UINT64_MAX;
  json["text"] = "changed";
  for (int indent : {-1, 0, 2}) CHECK(parse(json.text(indent)) == json);
  CHECK(parse(Json(1.0).text()).as<double>() != nullptr);
  CHECK(Json(Json::Object{{"a", Json::Array{1, 2}}, {"b", 0.25}}).text() ==
        R"({"a": [1, 2], "b": 0.25})");
  ssm::test::Random random(1);
  for (int i = 0; i < 1000; ++i) {
    const double x = random.normal() * std::pow(10, random.uniform(-300, 300));
    CHECK(*parse(Json(x).text()).as<double>() == x);
  }
}

TEST_CASE("numbers that Python writes and JSON lacks are numbers here") {
  const Json json = parse(R"({"time_step_limit": [0.0, Infinity], "x": [-Infinity, NaN]})");
  CHECK(*(*json.find("time_step_limit")->as<Json::Array>())[1].as<double>() == HUGE_VAL);
  const auto& x = *json.find("x")->as<Json::Array>();
  CHECK(*x[0].as<double>() == -HUGE_VAL);
  CHECK(std::isnan(*x[1].as<double>()));
  CHECK(Json(Json::Array{HUGE_VAL, -HUGE_VAL, std::nan("")}).text() ==
        "[Infinity, -Infinity, NaN]");
  for (const char* text : {"infinity", "Inf", "nan", "-NaN", "+Infinity", "Infinit", "Infinity1"})
    CHECK_FALSE(complaint(text).empty());
}

TEST_CASE("numbers beyond a double are refused, those below are zero") {
  for (const char* text : {"1e999", "-1e999", "0.1e999"}) {
    INFO(text);
    CHECK_THAT(complaint(text), contains("number too large"));
  }
  CHECK_FALSE(complaint(std::string(400, '9')).empty());
  CHECK(*parse("1e-999").as<double>() == 0);
  CHECK(*parse("0." + std::string(400, '0') + "1").as<double>() == 0);
}

TEST_CASE("what is no JSON is refused") {
  for (const char* text : {"",
                           " ",
                           "{",
                           "}",
                           "[",
                           "]",
                           "[1,]",
                           "[,1]",
                           "[1 2]",
                           "{\"a\"}",
                           "{\"a\":}",
                           "{\"a\":1,}",
                           "{,}",
                           "{a:1}",
                           "{'a':1}",
                           "{\"a\" 1}",
                           "{\"a\":1 \"b\":2}",
                           "{1:2}",
                           "01",
                           "-",
                           "+1",
                           "1.",
                           ".5",
                           "1e",
                           "1e+",
                           "0x1",
                           "1_0",
                           "- 1",
                           "tru",
                           "True",
                           "nul",
                           "1 2",
                           "{} {}",
                           "[]x",
                           "\"",
                           "\"\\\"",
                           "\"\\x\"",
                           "\"\\u12\"",
                           "\"\\u12g4\"",
                           "\"\\u-123\"",
                           "\"\\ud800\"",
                           "\"\\udc00\"",
                           "\"\\ud800\\u0041\"",
                           "\"\\ud800\\n\"",
                           "\"\t\"",
                           "\"\n\"",
                           "\"\xff\"",
                           "\"\xc3\"",
                           "\"\xc0\x80\"",
                           "\"\xe0\x80\x80\"",
                           "\"\xed\xa0\x80\"",
                           "\"\xf4\x90\x80\x80\"",
                           "\"\xf8\x88\x80\x80\x80\"",
                           "\xef\xbb\xbf{}",
                           "// x\n1",
                           "[1]\x01"}) {
    INFO(text);
    CHECK_FALSE(complaint(text).empty());
  }
  CHECK_FALSE(complaint(std::string("1\0", 2)).empty());
  CHECK_FALSE(complaint(std::string("{}\0{}", 5)).empty());
  CHECK_THAT(complaint(R"({"a": 1, "b": 2, "a": 3})"), contains("\"a\" twice"));
}

TEST_CASE("an error says where, in lines and characters, and why") {
  CHECK_THAT(complaint("{\n  \"width\": 8,\n  \"é\": 1 \"x\"\n}"),
             contains("a.json: is not valid UTF-8 JSON at line 3, column 10: expected ',' or '}'"));
  CHECK_THAT(complaint("[1,\n 2"), contains("line 2, column 3: it ends too soon"));
  CHECK_THAT(complaint("oops"), contains("line 1, column 1: expected a value"));
}

TEST_CASE("depth and length are bounded") {
  const auto nested = [](std::size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  CHECK(complaint(nested(64)).empty());
  CHECK_THAT(complaint(nested(65)), contains("64 levels"));
  CHECK_THAT(complaint(std::string(1'000'000, '[')), contains("64 levels"));
  CHECK_THAT(complaint(std::string(2'000'000, ' ')), contains("at most 1048576"));
}

}  // namespace json_test
