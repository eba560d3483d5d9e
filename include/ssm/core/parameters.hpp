#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"

/// @file
/// How a layer lists its parameters. Making, counting, clipping, optimizing, averaging, saving and
/// loading them follow from that list.
///
/// A layer `L` has a function `parameters` in its own namespace:
///
///     template <class T, class Visit>
///     void parameters(L<T>& layer, Visit&& visit) {
///       visit("weight", layer.weight, ssm::shape(layer.config.width, 4), true);   // decays
///       visit("bias", layer.bias, ssm::shape(layer.config.width), false);         // does not
///     }
///
/// which calls `visit` for each parameter, in a fixed order, with its name in files, the tensor,
/// the shape that the layer's configuration gives it, and whether weight decay applies to it. A
/// layer that contains another visits the parameters of that one with `within("mixer.", visit)`.
namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// The extents of a parameter, as an array: shape(width, 4) has rank 2.
template <std::convertible_to<Index>... Extents>
[[nodiscard]] constexpr std::array<Index, sizeof...(Extents)> shape(Extents... extents) noexcept {
  return {static_cast<Index>(extents)...};
}

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// A visitor that asks for no names, so that none are made.
template <class Visit>
struct Nameless {
  Visit visit;  // (tensor, extents)

  explicit Nameless(Visit v) : visit(std::move(v)) {}

  template <class AnyTensor, class Extents>
  void operator()(std::string_view, AnyTensor& tensor, const Extents& extents, bool) {
    visit(tensor, extents);
  }
};

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// A visitor of parameters that puts `prefix` before every name and passes all on to `visit`.
template <class Visit>
[[nodiscard]] auto within(const std::string& prefix, Visit& visit) {
  return [prefix, &visit](std::string_view name, auto& tensor, const auto& extents, bool decay) {
    visit(prefix + std::string(name), tensor, extents, decay);
  };
}

/// Passes all on to a visitor that asks for no names.
template <class Visit>
[[nodiscard]] detail::Nameless<Visit>& within(const std::string&,
                                              detail::Nameless<Visit>& visit) noexcept {
  return visit;
}

/// Calls visit(name, tensor, extents, decay) for every parameter of a layer that is const, with
/// const tensors.
template <class Layer, class Visit>
void parameters(const Layer& layer, Visit&& visit) {
  // The list is written once, for layers that may change; nothing is changed here.
  parameters(const_cast<Layer&>(layer),
             [&](const auto& name, auto& tensor, const auto& extents, bool decay) {
               visit(name, std::as_const(tensor), extents, decay);
             });
}

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// Makes a tensor of the host this shape; one elsewhere waits for a backend to make it.
template <class AnyTensor, class Extents>
void resize_on_host(AnyTensor& tensor, const Extents& extents) {
  if constexpr (requires { tensor.resize(extents); }) tensor.resize(extents);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// Gives every parameter of a layer in host memory the shape that the layer's configuration says;
/// new elements are zero.
/// @throws ShapeError for an extent that is negative or a size that cannot be addressed
template <class Layer>
void resize_parameters(Layer& layer) {
  parameters(layer, [](const auto&, auto& tensor, const auto& extents, bool) {
    detail::resize_on_host(tensor, extents);
  });
}

/// Gives every parameter of a layer, in the memory of the backend, the shape that the layer's
/// configuration says; new elements have any value.
template <class Backend, class Layer>
void resize_parameters(const Backend& backend, Layer& layer) {
  parameters(layer, [&](const auto&, auto& tensor, const auto& extents, bool) {
    resize(backend, tensor, extents);
  });
}

/// Sets every parameter to zero.
template <class Layer>
void zero_parameters(Layer& layer) {
  parameters(layer, [](const auto&, auto& tensor, const auto&, bool) {
    tensor.fill(typename std::remove_reference_t<decltype(tensor)>::value_type(0));
  });
}

/// Makes `gradients` a layer of the same configuration as `layer`, in the memory of the backend.
/// When it already is one, with every tensor of its shape, nothing is changed.
template <class Backend, class Layer>
void resize_gradients(const Backend& backend, const Layer& layer, Layer& gradients) {
  if (gradients.config == layer.config) {
    bool same = true;
    parameters(gradients, detail::Nameless([&](const auto& tensor, const auto& extents) {
                 same = same && tensor.extents() == extents;
               }));
    if (same) return;
  }
  gradients = Layer(layer.config);
  resize_parameters(backend, gradients);
}

/// The number of elements of all parameters of a layer together.
template <class Layer>
[[nodiscard]] Index parameter_count(const Layer& layer) {
  Index count = 0;
  parameters(layer,
             [&](const auto&, const auto& tensor, const auto&, bool) { count += tensor.size(); });
  return count;
}

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// Throws ShapeError, naming the parameter, unless every one has the shape that the configuration
/// says. Costs a comparison of a few integers for each.
template <class Layer>
void check_parameters(std::string_view function, const Layer& layer) {
  parameters(layer, [&](const auto& name, const auto& tensor, const auto& extents, bool) {
    if (!same_extents(tensor.extents(), extents))
      throw_extents(function, std::string_view(name), tensor.extents(), extents);
  });
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
}  // namespace ssm
