#pragma once

#include <string_view>

/// The list of a configuration's fields, from which writing it to files and reading it follow.
///
/// A configuration `C` says it once, in its own namespace:
///
///     template <class Visit>
///     void fields(C& c, Visit&& visit) {
///       visit("width", c.width);
///       visit("method", c.method);
///       visit("epsilon", c.epsilon, ssm::Field::optional);
///     }
///
/// with each field's name in files and the member: a whole number, a floating-point number, a bool,
/// a text, an enumeration, another configuration with fields, or a std::vector or std::variant of
/// these. A field that is optional keeps its default where a file does not have it; every other
/// must be there. An enumeration `E` names its values, in its own namespace:
///
///     constexpr std::array<ssm::Named<E>, 2> names(E) {
///       return {{{E::first, "first"}, {E::second, "second"}}};
///     }
///
/// A layer made of layers also says how it becomes one of a configuration without memory for its
/// parameters, so that their shapes can be held against a file before any is taken. What has
/// tensors alone needs no such function.
///
///     template <class Inner>
///     void configure(L<Inner>& layer, const typename L<Inner>::Config& c) {
///       layer.config = c;
///       configure(layer.inner, c.inner);
///     }
namespace ssm {

/// Whether a file must have a field.
enum class Field { required, optional };

/// A value of an enumeration and its name in files.
template <class E>
struct Named {
  E value;
  std::string_view name;
};

/// Makes a layer one of this configuration, without memory for its parameters.
template <class Layer>
void configure(Layer& layer, const typename Layer::Config& config) {
  layer.config = config;
}

}  // namespace ssm
