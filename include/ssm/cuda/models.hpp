#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/parameters.hpp"
#include "ssm/cuda/backend.hpp"
#include "ssm/cuda/causal_conv.hpp"
#include "ssm/cuda/cross_entropy.hpp"
#include "ssm/cuda/diagonal_scan.hpp"
#include "ssm/cuda/elementwise.hpp"
#include "ssm/cuda/embedding.hpp"
#include "ssm/cuda/linear.hpp"
#include "ssm/cuda/linear_scan.hpp"
#include "ssm/cuda/mean_over_time.hpp"
#include "ssm/cuda/memory.hpp"
#include "ssm/cuda/mode_operations.hpp"
#include "ssm/cuda/rms_norm.hpp"
#include "ssm/cuda/selective_scan.hpp"
#include "ssm/layers/gated.hpp"
#include "ssm/layers/gated_mlp.hpp"
#include "ssm/layers/mamba.hpp"
#include "ssm/layers/residual.hpp"
#include "ssm/layers/s4d.hpp"
#include "ssm/layers/s5.hpp"
#include "ssm/layers/stack.hpp"
#include "ssm/models/language_model.hpp"
#include "ssm/models/sequence_classifier.hpp"

/// @file
/// Layers and models on a device. They are the ones of the host, whose tensors are on the device,
/// and run by the same functions:
///
///     const auto model = ssm::to_device(stream, host_model);
///     auto state = ssm::make_state(stream, model, batch);
///     forward(stream, model, tokens, ssm::Maybe(state), logits, {}, scratch);
///
/// A step is a forward pass of length 1, whose options.keep is false; a Graph of it costs one
/// launch.

namespace ssm {

/// How a layer or model of host memory is one of a device: its type there, and its configuration,
/// which may name the layers inside. Other layers have none, and to_device does not take them.
template <class Layer>
struct DeviceForm;

/// Of Mamba.
template <class T>
struct DeviceForm<Mamba<T>> {
  using type = Mamba<T, DeviceTensor<T, 2>>;  ///< the layer on a device
  /// The same configuration.
  [[nodiscard]] static MambaConfig config(const MambaConfig& c) { return c; }
};

/// Of S4D.
template <class T>
struct DeviceForm<S4d<T>> {
  using type = S4d<T, Device>;  ///< the layer on a device
  /// The same configuration; every form is the scan there.
  [[nodiscard]] static S4dConfig config(const S4dConfig& c) { return c; }
};

/// Of S5.
template <class T>
struct DeviceForm<S5<T>> {
  using type = S5<T, Device>;  ///< the layer on a device
  /// The same configuration.
  [[nodiscard]] static S5Config config(const S5Config& c) { return c; }
};

/// Of the gated perceptron.
template <class T>
struct DeviceForm<GatedMlp<T>> {
  using type = GatedMlp<T, DeviceTensor<T, 2>>;  ///< the layer on a device
  /// The same configuration.
  [[nodiscard]] static GatedMlpConfig config(const GatedMlpConfig& c) { return c; }
};

/// Of a gated layer.
template <class Layer>
struct DeviceForm<Gated<Layer>> {
  using type = Gated<typename DeviceForm<Layer>::type>;  ///< the layer on a device
  /// The same configuration.
  [[nodiscard]] static typename type::Config config(const GatedConfig<Layer>& c) {
    return {DeviceForm<Layer>::config(c.mixer)};
  }
};

/// Of a residual block.
template <class Layer>
struct DeviceForm<Residual<Layer>> {
  using type = Residual<typename DeviceForm<Layer>::type>;  ///< the layer on a device
  /// The same configuration.
  [[nodiscard]] static typename type::Config config(const ResidualConfig<Layer>& c) {
    return {DeviceForm<Layer>::config(c.mixer), c.epsilon};
  }
};

/// Of a stack.
template <class Layer>
struct DeviceForm<Stack<Layer>> {
  using type = Stack<typename DeviceForm<Layer>::type>;  ///< the layer on a device
  /// The same configuration.
  [[nodiscard]] static typename type::Config config(const StackConfig<Layer>& c) {
    typename type::Config result;
    result.channels = c.channels;
    for (const auto& layer : c.layers) result.layers.push_back(DeviceForm<Layer>::config(layer));
    return result;
  }
};

/// Of a language model.
template <class Layer>
struct DeviceForm<LanguageModel<Layer>> {
  using type = LanguageModel<typename DeviceForm<Layer>::type>;  ///< the model on a device
  /// The same configuration.
  [[nodiscard]] static typename type::Config config(const LanguageModelConfig<Layer>& c) {
    return {c.vocab, DeviceForm<Stack<Layer>>::config(c.backbone), c.epsilon, c.tied};
  }
};

/// Of a classifier.
template <class Layer>
struct DeviceForm<SequenceClassifier<Layer>> {
  using type = SequenceClassifier<typename DeviceForm<Layer>::type>;  ///< the model on a device
  /// The same configuration.
  [[nodiscard]] static typename type::Config config(const SequenceClassifierConfig<Layer>& c) {
    return {c.inputs, c.classes, DeviceForm<Stack<Layer>>::config(c.backbone), c.epsilon};
  }
};

/// What a layer or model of host memory is on a device.
template <class Layer>
using OnDevice = typename DeviceForm<Layer>::type;

namespace detail {

/// The memory of a parameter, and its bytes.
struct ParameterBytes {
  std::string name;
  void* data;
  std::size_t bytes;
};

template <class Layer>
[[nodiscard]] std::vector<ParameterBytes> parameter_bytes(Layer& layer) {
  std::vector<ParameterBytes> all;
  parameters(layer, [&](const auto& name, auto& tensor, const auto&, bool) {
    using K = typename std::remove_cvref_t<decltype(tensor)>::value_type;
    all.push_back({std::string(name), const_cast<void*>(static_cast<const void*>(tensor.data())),
                   static_cast<std::size_t>(tensor.size()) * sizeof(K)});
  });
  return all;
}

}  // namespace detail

/// Copies the parameters of a layer or model to one of the same configuration in the other memory,
/// or from one device model to another, in the order of the stream and without waiting: host memory
/// must live, and must not be changed, until the stream has done the copies.
/// @throws ShapeError for a model of another configuration, CudaError
template <class From, class To>
void copy_parameters(const Cuda& backend, const From& from, To& to) {
  using FromSpace = typename From::space;
  using ToSpace = typename To::space;
  static_assert(std::is_same_v<FromSpace, Device> || std::is_same_v<ToSpace, Device>,
                "one side of the copy is on the device");
  constexpr detail::Copy direction = std::is_same_v<FromSpace, Host> ? detail::Copy::to_device
                                     : std::is_same_v<ToSpace, Host> ? detail::Copy::to_host
                                                                     : detail::Copy::on_device;
  const auto source = detail::parameter_bytes(from);
  const auto target = detail::parameter_bytes(to);
  for (std::size_t i = 0; i < source.size() || i < target.size(); ++i)
    if (i >= source.size() || i >= target.size() || source[i].name != target[i].name ||
        source[i].bytes != target[i].bytes)
      detail::throw_shape("copy_parameters", "to", "of another configuration", "that of from");
  for (std::size_t i = 0; i < source.size(); ++i)
    detail::copy_bytes(backend, direction, target[i].data, source[i].data, source[i].bytes);
}

/// A layer or model of host memory on a device. It waits for the stream, so the layer may be a
/// temporary object.
/// @throws as the layer's constructor does; CudaError
template <class Layer>
requires requires { typename DeviceForm<Layer>::type; }
[[nodiscard]] OnDevice<Layer> to_device(const Cuda& backend, const Layer& layer) {
  OnDevice<Layer> result(DeviceForm<Layer>::config(layer.config));
  resize_parameters(backend, result);
  copy_parameters(backend, layer, result);
  synchronize(backend);
  return result;
}

namespace detail {

/// States x, and x_back of a layer of two directions, all zero.
template <class State, class Extents>
[[nodiscard]] State make_direction_states(const Cuda& backend, const Extents& extents, bool both) {
  State state;
  resize(backend, state.x, extents);
  zero(backend, state.x.view());
  if (!both) return state;
  resize(backend, state.x_back, extents);
  zero(backend, state.x_back.view());
  return state;
}

}  // namespace detail

///@{
/// The state of so many sequences before their first step, all zero, on the device.
/// @throws CudaError
template <class T>
[[nodiscard]] MambaState<T, Device> make_state(const Cuda& backend,
                                               const Mamba<T, DeviceTensor<T, 2>>& layer,
                                               Index sequences) {
  const MambaConfig& c = layer.config;
  MambaState<T, Device> state{
      DeviceTensor<T, 3>(backend, {sequences, c.conv_width - 1, c.channels()}),
      DeviceTensor<T, 3>(backend, {sequences, c.channels(), c.state})};
  zero(backend, state.conv.view());
  zero(backend, state.scan.view());
  return state;
}
template <class T>
[[nodiscard]] S4dState<T, Device> make_state(const Cuda& backend, const S4d<T, Device>& layer,
                                             Index sequences) {
  const S4dConfig& c = layer.config;
  return detail::make_direction_states<S4dState<T, Device>>(
      backend, std::array<Index, 3>{sequences, c.width, c.modes()}, c.bidirectional);
}
template <class T>
[[nodiscard]] S5State<T, Device> make_state(const Cuda& backend, const S5<T, Device>& layer,
                                            Index sequences) {
  return detail::make_direction_states<S5State<T, Device>>(
      backend, std::array<Index, 2>{sequences, layer.config.modes()}, layer.config.bidirectional);
}
template <class T>
[[nodiscard]] GatedMlpState make_state(const Cuda&, const GatedMlp<T, DeviceTensor<T, 2>>&, Index) {
  return {};
}
template <class Layer>
[[nodiscard]] StateOf<Layer> make_state(const Cuda& backend, const Gated<Layer>& layer,
                                        Index sequences) {
  return make_state(backend, layer.mixer, sequences);
}
template <class Layer>
[[nodiscard]] StateOf<Layer> make_state(const Cuda& backend, const Residual<Layer>& layer,
                                        Index sequences) {
  return make_state(backend, layer.mixer, sequences);
}
template <class Layer>
[[nodiscard]] StackState<Layer> make_state(const Cuda& backend, const Stack<Layer>& stack,
                                           Index sequences) {
  StackState<Layer> state;
  state.layers.reserve(stack.layers.size());
  for (const Layer& layer : stack.layers)
    state.layers.push_back(make_state(backend, layer, sequences));
  return state;
}
template <class Layer>
[[nodiscard]] StackState<Layer> make_state(const Cuda& backend, const LanguageModel<Layer>& model,
                                           Index sequences) {
  return make_state(backend, model.backbone, sequences);
}
///@}

}  // namespace ssm
