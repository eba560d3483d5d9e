#pragma once

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include "ssm/core/index.hpp"
#include "ssm/io/file.hpp"
#include "ssm/io/json.hpp"

namespace ssm::detail {

/// A JSON object of a file, read field by field with errors that name file and field.
class JsonObject {
 public:
  JsonObject(std::filesystem::path path, std::string name, const Json& object)
      : path_(std::move(path)), name_(std::move(name)), object_(object) {
    if (object.as<Json::Object>() == nullptr)
      throw_file(path_, name_ + " is " + describe(object) + ", expected a JSON object");
  }

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  /// What messages call it.
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] const Json::Object& fields() const { return *object_.as<Json::Object>(); }
  [[nodiscard]] bool contains(std::string_view field) const {
    return object_.find(field) != nullptr;
  }
  [[nodiscard]] const Json& at(std::string_view field) const {
    const Json* found = object_.find(field);
    if (found == nullptr) throw_file(path_, name_ + " has no " + std::string(field));
    return *found;
  }

  /// A whole number from 1 to 2³¹ − 1.
  [[nodiscard]] Index size(std::string_view field) const {
    const auto* value = at(field).as<std::uint64_t>();
    if (value == nullptr || *value < 1 || *value > 0x7fffffffu)
      fail(field, "a whole number from 1 to 2147483647");
    return static_cast<Index>(*value);
  }
  [[nodiscard]] Index size(std::string_view field, Index otherwise) const {
    return contains(field) ? size(field) : otherwise;
  }
  /// Like size, where the word "auto" stands for 0.
  [[nodiscard]] Index size_or_auto(std::string_view field) const {
    if (!contains(field)) return 0;
    return at(field) == Json("auto") ? 0 : size(field);
  }
  [[nodiscard]] Index count(std::string_view field) const {
    const auto* value = at(field).as<std::uint64_t>();
    if (value == nullptr || *value > std::uint64_t{1} << 62) fail(field, "a whole number from 0");
    return static_cast<Index>(*value);
  }
  [[nodiscard]] std::uint64_t bits(std::string_view field) const {
    const auto* value = at(field).as<std::uint64_t>();
    if (value == nullptr) fail(field, "a whole number from 0 to 2^64 - 1");
    return *value;
  }
  /// A word.
  [[nodiscard]] const std::string& text(std::string_view field) const {
    const auto* value = at(field).as<std::string>();
    if (value == nullptr) fail(field, "a string");
    return *value;
  }
  [[nodiscard]] bool flag(std::string_view field, bool otherwise) const {
    if (!contains(field)) return otherwise;
    const auto* value = at(field).as<bool>();
    if (value == nullptr) fail(field, "true or false");
    return *value;
  }
  /// Any finite number from 0.
  [[nodiscard]] double number(std::string_view field) const {
    const double value = number_or_infinity(field);
    if (!std::isfinite(value)) fail(field, "a number from 0");
    return value;
  }
  [[nodiscard]] double number(std::string_view field, double otherwise) const {
    return contains(field) ? number(field) : otherwise;
  }
  [[nodiscard]] double number_or_infinity(std::string_view field) const {
    const double value = to_double(at(field));
    if (!(value >= 0)) fail(field, "a number from 0");
    return value;
  }
  [[nodiscard]] JsonObject object(std::string_view field) const {
    return {path_, name_ + "." + std::string(field), at(field)};
  }

  /// Throws when the field is there with another value: one that would change what the model does.
  void require(std::string_view field, const Json& only) const {
    if (!contains(field)) return;
    const Json& got = at(field);
    const bool numbers = !std::isnan(to_double(got)) && to_double(got) == to_double(only);
    if (!numbers && !(got == only)) fail(field, only.text());
  }

  [[noreturn]] void fail(std::string_view field, const std::string& want) const {
    throw_file(path_, name_ + "." + std::string(field) + " is " + describe(at(field)) +
                          ", expected " + want);
  }

  /// A JSON number as a double, or NaN.
  static double to_double(const Json& json) {
    if (const auto* real = json.as<double>()) return *real;
    if (const auto* natural = json.as<std::uint64_t>()) return static_cast<double>(*natural);
    if (const auto* integer = json.as<std::int64_t>()) return static_cast<double>(*integer);
    return std::nan("");
  }

  /// A value in a few words.
  static std::string describe(const Json& json) {
    if (json.as<Json::Object>() != nullptr) return "an object";
    if (const auto* text = json.as<std::string>()) return in_quotes(*text);
    const std::string text = json.text();
    return text.size() <= 80 ? text : "a long list";
  }

 private:
  std::filesystem::path path_;
  std::string name_;
  const Json& object_;
};

}  // namespace ssm::detail
