#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ssm/io/file.hpp"
#include "ssm/io/json_text.hpp"

namespace ssm {

/// A JSON value. Objects keep the order of their fields. The default is null.
class Json {
 public:
  using Array = std::vector<Json>;                           ///< a JSON array
  using Object = std::vector<std::pair<std::string, Json>>;  ///< a JSON object

  Json() = default;  // null
  ///@{
  /// The JSON value of a C++ value.
  Json(bool value) : kind_(Kind::boolean) { boolean_ = value; }
  Json(int value) : Json(static_cast<std::int64_t>(value)) {}
  Json(std::int64_t value) : kind_(value < 0 ? Kind::integer : Kind::natural) {
    if (value < 0)
      integer_ = value;
    else
      natural_ = static_cast<std::uint64_t>(value);
  }
  Json(std::uint64_t value) : kind_(Kind::natural) { natural_ = value; }
  Json(double value) : kind_(Kind::real) { real_ = value; }
  Json(const char* text) : Json(std::string(text)) {}
  Json(std::string text) : kind_(Kind::text), text_(std::move(text)) {}
  Json(Array values) : kind_(Kind::array), array_(std::move(values)) {}
  Json(Object fields) : kind_(Kind::object), object_(std::move(fields)) {}
  ///@}

  ///@{
  /// The value, if it is of type V, otherwise a null pointer. V is bool, std::uint64_t (for whole
  /// numbers from 0), std::int64_t (for whole numbers below 0), double (for other numbers),
  /// std::string, Array or Object.
  template <class V>
  [[nodiscard]] const V* as() const noexcept {
    if constexpr (std::same_as<V, bool>) return kind_ == Kind::boolean ? &boolean_ : nullptr;
    if constexpr (std::same_as<V, std::uint64_t>)
      return kind_ == Kind::natural ? &natural_ : nullptr;
    if constexpr (std::same_as<V, std::int64_t>)
      return kind_ == Kind::integer ? &integer_ : nullptr;
    if constexpr (std::same_as<V, double>) return kind_ == Kind::real ? &real_ : nullptr;
    if constexpr (std::same_as<V, std::string>) return kind_ == Kind::text ? &text_ : nullptr;
    if constexpr (std::same_as<V, Array>) return kind_ == Kind::array ? &array_ : nullptr;
    if constexpr (std::same_as<V, Object>) return kind_ == Kind::object ? &object_ : nullptr;
  }
  template <class V>
  [[nodiscard]] V* as() noexcept {
    return const_cast<V*>(std::as_const(*this).template as<V>());
  }
  ///@}

  /// The field of an object with this name. A null pointer if there is none, or if this is not an
  /// object.
  [[nodiscard]] const Json* find(std::string_view name) const noexcept {
    if (const auto* fields = as<Object>())
      for (const auto& field : *fields)
        if (field.first == name) return &field.second;
    return nullptr;
  }
  /// The field of an object with this name, added if there is none. A value of another type becomes
  /// an object first.
  Json& operator[](std::string_view name) {
    if (kind_ != Kind::object) *this = Object{};
    for (auto& field : object_)
      if (field.first == name) return field.second;
    object_.emplace_back(std::string(name), Json());
    return object_.back().second;
  }

  friend bool operator==(const Json& a, const Json& b) {
    if (a.kind_ != b.kind_) return false;
    switch (a.kind_) {
      case Kind::null:
        return true;
      case Kind::boolean:
        return a.boolean_ == b.boolean_;
      case Kind::natural:
        return a.natural_ == b.natural_;
      case Kind::integer:
        return a.integer_ == b.integer_;
      case Kind::real:
        return a.real_ == b.real_;
      case Kind::text:
        return a.text_ == b.text_;
      case Kind::array:
        return a.array_ == b.array_;
      case Kind::object:
        return a.object_ == b.object_;
    }
    return false;
  }

  /// The JSON text of the value: with `indent` spaces for each level, or in one line when `indent`
  /// is negative. A double is written with the fewest digits that read back as the same number;
  /// numbers that are not finite are Infinity, -Infinity and NaN, as Python writes them.
  [[nodiscard]] std::string text(int indent = -1) const {
    std::string to;
    write(to, indent, 0);
    return to;
  }

 private:
  enum class Kind { null, boolean, natural, integer, real, text, array, object };

  void write(std::string& to, int indent, int level) const;

  // No std::variant: it takes longer to compile than all the rest.
  Kind kind_ = Kind::null;
  union {
    bool boolean_;
    std::uint64_t natural_ = 0;
    std::int64_t integer_;
    double real_;
  };
  std::string text_;
  Array array_;
  Object object_;
};

namespace detail {

/// Builds a value from the events of the parser.
class JsonBuilder {
 public:
  Json root;
  std::string failure;

  bool start_object() { return add(Json(Json::Object{})); }
  bool start_array() { return add(Json(Json::Array{})); }
  bool end_array() { return leave(); }
  bool end_object() {
    // A field that comes twice has no meaning that all readers share.
    std::vector<std::string_view> names;
    for (const auto& field : *open_.back()->as<Json::Object>()) names.push_back(field.first);
    std::sort(names.begin(), names.end());
    const auto twice = std::adjacent_find(names.begin(), names.end());
    if (twice != names.end()) {
      failure = "has " + in_quotes(*twice) + " twice";
      return false;
    }
    return leave();
  }
  bool key(std::string& name) {
    open_.back()->as<Json::Object>()->emplace_back(std::move(name), Json());
    return true;
  }
  bool string(std::string& text) { return add(Json(std::move(text))); }
  bool number(std::uint64_t value) { return add(Json(value)); }
  bool number(std::int64_t value) { return add(Json(value)); }
  bool number(double value) { return add(Json(value)); }
  bool boolean(bool value) { return add(Json(value)); }
  bool null() { return add(Json()); }

 private:
  bool add(Json value) {
    const bool opens = value.as<Json::Object>() != nullptr || value.as<Json::Array>() != nullptr;
    Json* place = &root;
    if (!open_.empty()) {
      if (auto* fields = open_.back()->as<Json::Object>()) {
        place = &fields->back().second;
      } else {
        auto* values = open_.back()->as<Json::Array>();
        place = &values->emplace_back();
      }
    }
    *place = std::move(value);
    if (opens) open_.push_back(place);  // containers around it do not move while it is open
    return true;
  }
  bool leave() {
    open_.pop_back();
    return true;
  }

  std::vector<Json*> open_;
};

/// No configuration is longer; its values take at most some hundred times as much memory.
inline constexpr std::uint64_t longest_json = std::uint64_t{1} << 20;

/// Parses text that belongs to `path`; `what` is "" for the file itself, or names the part of it.
/// Infinity and NaN, which Python writes, are numbers. Throws FileError with line and column.
inline Json parse_json(const std::filesystem::path& path, std::string_view text,
                       const std::string& what = "", std::uint64_t longest = longest_json) {
  const std::string subject = what.empty() ? "" : what + " ";
  if (text.size() > longest)
    throw_file(path, subject + "has " + std::to_string(text.size()) + " bytes, expected at most " +
                         std::to_string(longest));
  JsonBuilder builder;
  const JsonFault fault = parse_json_events(text, builder, {.depth = 64, .non_finite = true});
  if (!fault) return std::move(builder.root);
  const auto [line, column] = line_and_column(text, fault.position);
  const std::string place = "line " + std::to_string(line) + ", column " + std::to_string(column);
  if (!builder.failure.empty()) throw_file(path, subject + builder.failure + " before " + place);
  throw_file(path, subject + "is not valid UTF-8 JSON at " + place + ": " + fault.what);
}

}  // namespace detail

inline void Json::write(std::string& to, int indent, int level) const {
  const auto new_line = [&](int deep) {
    if (indent >= 0) to.append(1, '\n').append(static_cast<std::size_t>(indent * deep), ' ');
  };
  const auto list = [&](char open, char close, const auto& items, auto&& write_item) {
    to += open;
    bool first = true;
    for (const auto& item : items) {
      if (!first) to += indent >= 0 ? "," : ", ";
      first = false;
      new_line(level + 1);
      write_item(item);
    }
    if (!first) new_line(level);
    to += close;
  };
  if (const auto* fields = as<Object>()) {
    list('{', '}', *fields, [&](const auto& field) {
      detail::write_json_string(to, field.first);
      to += ": ";
      field.second.write(to, indent, level + 1);
    });
  } else if (const auto* values = as<Array>()) {
    list('[', ']', *values, [&](const Json& item) { item.write(to, indent, level + 1); });
  } else if (const auto* text = as<std::string>()) {
    detail::write_json_string(to, *text);
  } else if (const auto* number = as<double>()) {
    to += detail::json_text(*number);
  } else if (const auto* natural = as<std::uint64_t>()) {
    to += std::to_string(*natural);
  } else if (const auto* integer = as<std::int64_t>()) {
    to += std::to_string(*integer);
  } else if (const auto* boolean = as<bool>()) {
    to += *boolean ? "true" : "false";
  } else {
    to += "null";
  }
}

}  // namespace ssm
