#pragma once

#include <string_view>

#include "ssm/core/detail/isa.hpp"

/// @file
/// How a configuration lists its fields. Writing it to files and reading it follow from that list.
///
/// A configuration `C` has a function `fields` in its own namespace:
///
///     template <class Visit>
///     void fields(C& c, Visit&& visit) {
///       visit("width", c.width);
///       visit("method", c.method);
///       visit("epsilon", c.epsilon, ssm::Field::optional);
///     }
///
/// which calls `visit` with the name that each field has in files and the member itself. A member
/// is a whole number, a floating-point number, a bool, a std::string, an enumeration, another
/// configuration with fields, or a std::vector or std::variant of these. An optional field that a
/// file does not have keeps its default; every other field must be in the file. An enumeration `E`
/// lists the names of its values, in its own namespace:
///
///     constexpr std::array<ssm::Named<E>, 2> names(E) {
///       return {{{E::first, "first"}, {E::second, "second"}}};
///     }
///
/// A layer that contains other layers also has a function `configure`, which sets the
/// configurations of all of them and allocates no parameter. Loading calls it first, so that the
/// shapes in a file are checked before memory is allocated for them. A layer that has tensors only
/// needs no such function.
///
///     template <class Inner>
///     void configure(L<Inner>& layer, const typename L<Inner>::Config& c) {
///       layer.config = c;
///       configure(layer.inner, c.inner);
///     }
namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// Whether a file must have a field.
enum class Field { required, optional };

/// A value of an enumeration and its name in files.
template <class E>
struct Named {
  E value;                ///< the value
  std::string_view name;  ///< its name in files
};

/// Sets the configuration of a layer, and allocates no parameter.
template <class Layer>
void configure(Layer& layer, const typename Layer::Config& config) {
  layer.config = config;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
