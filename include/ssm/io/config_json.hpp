#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "ssm/core/fields.hpp"
#include "ssm/core/index.hpp"
#include "ssm/io/file.hpp"
#include "ssm/io/json.hpp"
#include "ssm/io/json_object.hpp"

namespace ssm {
namespace detail {

struct AnyVisitor {
  void operator()(std::string_view, auto&, Field = Field::required) const {}
};

}  // namespace detail

/// A configuration with a function `fields`, as ssm/core/fields.hpp describes.
template <class C>
concept HasFields = requires(C& config, detail::AnyVisitor& visit) {
  fields(config, visit);
};

namespace detail {

template <class V>
inline constexpr bool is_vector = false;
template <class V>
inline constexpr bool is_vector<std::vector<V>> = true;
template <class V>
inline constexpr bool is_variant = false;
template <class... V>
inline constexpr bool is_variant<std::variant<V...>> = true;

template <class V>
Json value_to_json(const V& value) {
  if constexpr (std::same_as<V, bool> || std::same_as<V, std::string>) {
    return Json(value);
  } else if constexpr (std::unsigned_integral<V>) {
    return Json(static_cast<std::uint64_t>(value));
  } else if constexpr (std::integral<V>) {
    return Json(static_cast<std::int64_t>(value));
  } else if constexpr (std::floating_point<V>) {
    return Json(static_cast<double>(value));
  } else if constexpr (std::is_enum_v<V>) {
    for (const auto& named : names(value))
      if (named.value == value) return Json(std::string(named.name));
    throw_domain("to_json", "enumeration", std::to_string(static_cast<long long>(value)),
                 "a value that has a name");
  } else if constexpr (is_vector<V>) {
    Json::Array array;
    for (const auto& item : value) array.push_back(value_to_json(item));
    return Json(std::move(array));
  } else if constexpr (is_variant<V>) {
    return Json(Json::Object{
        {"kind", Json(static_cast<std::uint64_t>(value.index()))},
        {"config", std::visit([](const auto& kind) { return value_to_json(kind); }, value)}});
  } else {
    static_assert(HasFields<V>, "a configuration names its fields: see ssm/core/fields.hpp");
    Json::Object object;
    // The list is written once, for configurations that may change; nothing is changed here.
    fields(const_cast<V&>(value),
           [&](std::string_view name, const auto& field, Field = Field::required) {
             object.emplace_back(std::string(name), value_to_json(field));
           });
    return Json(std::move(object));
  }
}

[[noreturn]] inline void throw_value(const std::filesystem::path& path, const std::string& where,
                                     const Json& got, const std::string& want) {
  throw_file(path, where + " is " + JsonObject::describe(got) + ", expected " + want);
}

template <class V>
void value_from_json(const std::filesystem::path& path, const std::string& where, const Json& json,
                     V& value);

template <class V>
void integer_from_json(const std::filesystem::path& path, const std::string& where,
                       const Json& json, V& value) {
  // Sizes are products of a few of these, which must not overflow; seeds are unsigned.
  constexpr std::int64_t most = 0x7fffffff;
  const auto* natural = json.as<std::uint64_t>();
  const auto* integer = json.as<std::int64_t>();
  if constexpr (std::unsigned_integral<V>) {
    if (natural == nullptr || !std::in_range<V>(*natural))
      throw_value(path, where, json, "a whole number from 0");
    value = static_cast<V>(*natural);
  } else {
    const bool fits = natural != nullptr ? *natural <= std::uint64_t{most}
                                         : integer != nullptr && *integer >= -most;
    const std::int64_t number = natural != nullptr && fits ? static_cast<std::int64_t>(*natural)
                                : integer != nullptr       ? *integer
                                                           : 0;
    if (!fits || !std::in_range<V>(number))
      throw_value(path, where, json, "a whole number up to " + std::to_string(most));
    value = static_cast<V>(number);
  }
}

template <class V>
void enum_from_json(const std::filesystem::path& path, const std::string& where, const Json& json,
                    V& value) {
  std::string expected;
  for (const auto& named : names(V{})) {
    if (json == Json(std::string(named.name))) {
      value = named.value;
      return;
    }
    expected += (expected.empty() ? "" : ", ") + in_quotes(named.name);
  }
  throw_value(path, where, json, "one of " + expected);
}

template <class V>
void variant_from_json(const std::filesystem::path& path, const std::string& where,
                       const Json& json, V& value) {
  const JsonObject object(path, where, json);
  std::uint64_t kind = 0;
  integer_from_json(path, where + ".kind", object.at("kind"), kind);
  const auto read = [&]<std::size_t I>(std::integral_constant<std::size_t, I>) {
    if (kind != I) return;
    std::variant_alternative_t<I, V> config{};
    value_from_json(path, where + ".config", object.at("config"), config);
    value = V(std::in_place_index<I>, std::move(config));
  };
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    (read(std::integral_constant<std::size_t, I>()), ...);
  }
  (std::make_index_sequence<std::variant_size_v<V>>());
  if (kind >= std::variant_size_v<V>)
    throw_value(path, where + ".kind", object.at("kind"),
                "less than " + std::to_string(std::variant_size_v<V>));
}

template <class V>
void object_from_json(const std::filesystem::path& path, const std::string& where, const Json& json,
                      V& config) {
  static_assert(HasFields<V>, "a configuration names its fields: see ssm/core/fields.hpp");
  const JsonObject object(path, where, json);
  std::vector<std::string> known;
  fields(config, [&](std::string_view name, auto& field, Field need = Field::required) {
    known.emplace_back(name);
    if (need == Field::optional && !object.contains(name)) return;
    value_from_json(path, where + "." + known.back(), object.at(name), field);
  });
  for (const auto& [name, value] : object.fields())
    if (std::find(known.begin(), known.end(), name) == known.end())
      throw_file(path, where + " has the unknown field " + in_quotes(name));
}

template <class V>
void value_from_json(const std::filesystem::path& path, const std::string& where, const Json& json,
                     V& value) {
  if constexpr (std::same_as<V, bool>) {
    if (json.as<bool>() == nullptr) throw_value(path, where, json, "true or false");
    value = *json.as<bool>();
  } else if constexpr (std::same_as<V, std::string>) {
    if (json.as<std::string>() == nullptr) throw_value(path, where, json, "a text");
    value = *json.as<std::string>();
  } else if constexpr (std::integral<V>) {
    integer_from_json(path, where, json, value);
  } else if constexpr (std::floating_point<V>) {
    const double number = JsonObject::to_double(json);
    if (std::isnan(number)) throw_value(path, where, json, "a number");
    value = static_cast<V>(number);
  } else if constexpr (std::is_enum_v<V>) {
    enum_from_json(path, where, json, value);
  } else if constexpr (is_vector<V>) {
    const auto* array = json.as<Json::Array>();
    if (array == nullptr) throw_value(path, where, json, "a list");
    value.clear();
    for (const Json& item : *array) {
      const std::string here = where + "[" + std::to_string(value.size()) + "]";
      value_from_json(path, here, item, value.emplace_back());
    }
  } else if constexpr (is_variant<V>) {
    variant_from_json(path, where, json, value);
  } else {
    object_from_json(path, where, json, value);
  }
}

}  // namespace detail

/// A configuration as a JSON object: its fields in order, nested configurations as objects, values
/// of enumerations by name, and a std::variant as {"kind": index, "config": ...}.
template <HasFields Config>
[[nodiscard]] Json to_json(const Config& config) {
  return detail::value_to_json(config);
}

/// Reads a configuration that to_json made. Signed whole numbers may be at most 2^31 − 1.
/// @param path the file, for error messages
/// @param where the place in the file, for error messages: "path: where.field is …"
/// @throws FileError for a field that is missing and not optional, unknown, or of another type
template <HasFields Config>
[[nodiscard]] Config config_from_json(const Json& json, const std::filesystem::path& path,
                                      const std::string& where = "config") {
  Config config;
  detail::object_from_json(path, where, json, config);
  return config;
}

}  // namespace ssm
