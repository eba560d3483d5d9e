#pragma once

#include <cmath>
#include <cstdint>

#include "hash.hpp"
#include "rows.hpp"
#include "ssm/core/detail/hash.hpp"
#include "ssm/cuda/elementwise.hpp"

namespace ssm {
namespace kernels {

template <class T>
struct AddRows {
  using Value = T;
  Array<const T, 2> a, b;
  Array<T, 2> y;

  SSM_DEVICE T load(Index r, Index c) const { return a(r, c) + b(r, c); }
  SSM_DEVICE void store(Index r, Index c, T value) const { y(r, c) = value; }
};

template <class T>
struct CopyRows {
  using Value = T;
  Array<const T, 2> x;
  Array<T, 2> y;

  SSM_DEVICE T load(Index r, Index c) const { return x(r, c); }
  SSM_DEVICE void store(Index r, Index c, T value) const { y(r, c) = value; }
};

/// 1/(1 + e^{−x}), of full accuracy in both tails.
template <class T>
SSM_DEVICE T sigmoid(T x) {
  const T e = std::exp(-std::fabs(x));
  return (x < T(0) ? e : T(1)) / (T(1) + e);
}

/// σ(q) of gelu's q(x) = 2√(2/π) (x + 0.044715 x³), and q'.
template <class T>
struct GeluGate {
  static constexpr T slope = T(1.5957691216057307117597842397375L), cubic = T(0.044715L);
  T q, derivative;

  SSM_DEVICE explicit GeluGate(T x)
      : q(slope * x * (cubic * x * x + T(1))), derivative(slope * (3 * cubic * x * x + T(1))) {}
};

template <class T>
struct GeluRows {
  using Value = T;
  Array<const T, 2> x;
  Array<T, 2> y;

  SSM_DEVICE T load(Index r, Index c) const {
    const T value = x(r, c);
    return value * sigmoid(GeluGate<T>(value).q);
  }
  SSM_DEVICE void store(Index r, Index c, T value) const { y(r, c) = value; }
};

template <class T>
struct GeluRowsBackward {
  using Value = T;
  Array<const T, 2> x, dy;
  Array<T, 2> dx;

  SSM_DEVICE T load(Index r, Index c) const {
    const T value = x(r, c);
    const GeluGate<T> gate(value);
    const T on = sigmoid(gate.q), off = sigmoid(-gate.q);
    // Far out the slope is 0 or 1, where q' is too large to be multiplied by 0.
    const T bend = on == T(0) || off == T(0) ? T(0) : value * off * gate.derivative;
    return dy(r, c) * on * (T(1) + bend);
  }
  SSM_DEVICE void store(Index r, Index c, T value) const { dx(r, c) = value; }
};

template <class T>
struct GluRows {
  using Value = T;
  Array<const T, 2> a, g;
  Array<T, 2> y;

  SSM_DEVICE T load(Index r, Index c) const { return a(r, c) * sigmoid(g(r, c)); }
  SSM_DEVICE void store(Index r, Index c, T value) const { y(r, c) = value; }
};

template <class T>
struct GluRowsBackward {
  using Value = Pack<T, 2>;
  Array<const T, 2> a, g, dy;
  Array<T, 2> da, dg;

  SSM_DEVICE Value load(Index r, Index c) const {
    const T gate = g(r, c), by_a = dy(r, c) * sigmoid(gate);
    return {by_a, by_a * a(r, c) * sigmoid(-gate)};
  }
  SSM_DEVICE void store(Index r, Index c, const Value& value) const {
    da(r, c) = value[0], dg(r, c) = value[1];
  }
};

template <class T>
struct SwigluRows {
  using Value = T;
  Array<const T, 2> gate, up;
  Array<T, 2> y;

  SSM_DEVICE T load(Index r, Index c) const {
    const T g = gate(r, c);
    return g * sigmoid(g) * up(r, c);
  }
  SSM_DEVICE void store(Index r, Index c, T value) const { y(r, c) = value; }
};

template <class T>
struct SwigluRowsBackward {
  using Value = Pack<T, 2>;
  Array<const T, 2> gate, up, dy;
  Array<T, 2> dgate, dup;

  SSM_DEVICE Value load(Index r, Index c) const {
    const T g = gate(r, c), slope = dy(r, c) * sigmoid(g);
    return {slope * up(r, c) * (T(1) + g * sigmoid(-g)), slope * g};
  }
  SSM_DEVICE void store(Index r, Index c, const Value& value) const {
    dgate(r, c) = value[0], dup(r, c) = value[1];
  }
};

/// Of rows that follow each other without gaps: the index of an element decides.
template <class T>
struct DropRows {
  using Value = T;
  Array<const T, 2> x;
  Array<T, 2> y;
  std::uint64_t key, threshold;  ///< of 53 bits
  T scale;

  SSM_DEVICE T load(Index r, Index c) const {
    const bool kept = mixed(key + static_cast<std::uint64_t>(c)) >> 11 >= threshold;
    return kept ? x(r, c) * scale : T(0);
  }
  SSM_DEVICE void store(Index r, Index c, T value) const { y(r, c) = value; }
};

template <class T>
struct DecayRows {
  using Value = T;
  Array<const T, 2> A_log, dA;  ///< dA: absent where A is wanted
  Array<T, 2> to;

  SSM_DEVICE T load(Index r, Index c) const {
    const T A = -std::exp(A_log(r, c));
    return dA.present ? dA(r, c) * A : A;
  }
  SSM_DEVICE void store(Index r, Index c, T value) const { to(r, c) = value; }
};

/// The halves of rows [a, g].
template <class View>
View half(const View& x, Index i) {
  const Index width = x.extent(1) / 2;
  return x.slice(1, i * width, width);
}

template <class T>
void drop_rows(const Cuda& backend, const char* function, const char* from,
               const View<const T, 2, Device>& x, const Dropout& options, const char* to,
               const View<T, 2, Device>& y) {
  ssm::detail::check_dropout(function, options);
  ssm::detail::check_rows(function, from, x, x.extents());
  ssm::detail::check_rows(function, to, y, x.extents());
  ssm::detail::check_contiguous(function, from, x);
  ssm::detail::check_contiguous(function, to, y);
  ssm::detail::check_same_or_apart(function, to, y, from, x);
  if (options.probability == 0) {
    if (y.data() != x.data())
      launch_rows(backend, function, x.extent(0), x.extent(1), true,
                  CopyRows<T>{Array<const T, 2>(x), Array<T, 2>(y)});
    return;
  }
  launch_rows(backend, function, x.extent(0), x.extent(1), true,
              DropRows<T>{Array<const T, 2>(x), Array<T, 2>(y), ssm::detail::mix(options.seed),
                          static_cast<std::uint64_t>(std::ldexp(options.probability, 53)),
                          static_cast<T>(1 / (1 - options.probability))});
}

}  // namespace kernels

template <class T>
void add(const Cuda& backend, const AddInputs<T, Device>& inputs, const AddOptions&,
         const std::type_identity_t<AddOutputs<T, Device>>& outputs, AddScratch<T, Device>&) {
  using namespace kernels;
  const auto& [a, b] = inputs;
  const auto& y = outputs.y;
  ssm::detail::check_add("add", inputs, y);
  launch_rows(backend, "add", y.extent(0), y.extent(1), are_flat(a, b, y),
              AddRows<T>{Array<const T, 2>(a), Array<const T, 2>(b), Array<T, 2>(y)});
}

template <class T>
void copy_rows(const Cuda& backend, const CopyRowsInputs<T, Device>& inputs, const CopyRowsOptions&,
               const std::type_identity_t<CopyRowsOutputs<T, Device>>& outputs,
               CopyRowsScratch<T, Device>&) {
  using namespace kernels;
  const auto& x = inputs.x;
  const auto& y = outputs.y;
  ssm::detail::check_copy_rows("copy_rows", inputs, y);
  if (ssm::detail::same_elements(x, y)) return;
  launch_rows(backend, "copy_rows", y.extent(0), y.extent(1), are_flat(x, y),
              CopyRows<T>{Array<const T, 2>(x), Array<T, 2>(y)});
}

template <class T>
void gelu(const Cuda& backend, const GeluInputs<T, Device>& inputs, const GeluOptions&,
          const std::type_identity_t<GeluOutputs<T, Device>>& outputs, GeluScratch<T, Device>&) {
  using namespace kernels;
  const auto& x = inputs.x;
  const auto& y = outputs.y;
  ssm::detail::check_gelu("gelu", inputs, y);
  launch_rows(backend, "gelu", y.extent(0), y.extent(1), are_flat(x, y),
              GeluRows<T>{Array<const T, 2>(x), Array<T, 2>(y)});
}

template <class T>
void gelu_backward(const Cuda& backend, const GeluInputs<T, Device>& inputs, const GeluOptions&,
                   const std::type_identity_t<GeluOutputGradients<T, Device>>& output_gradients,
                   const std::type_identity_t<GeluInputGradients<T, Device>>& input_gradients,
                   GeluScratch<T, Device>&) {
  using namespace kernels;
  const auto& x = inputs.x;
  const auto& dy = output_gradients.y;
  const auto& dx = input_gradients.x;
  ssm::detail::check_gelu_gradients("gelu_backward", inputs, output_gradients, input_gradients);
  launch_rows(backend, "gelu_backward", x.extent(0), x.extent(1), are_flat(x, dy, dx),
              GeluRowsBackward<T>{Array<const T, 2>(x), Array<const T, 2>(dy), Array<T, 2>(dx)});
}

template <class T>
void glu(const Cuda& backend, const GluInputs<T, Device>& inputs, const GluOptions&,
         const std::type_identity_t<GluOutputs<T, Device>>& outputs, GluScratch<T, Device>&) {
  using namespace kernels;
  const auto& y = outputs.y;
  ssm::detail::check_glu("glu", inputs, y);
  launch_rows(backend, "glu", y.extent(0), y.extent(1), false,
              GluRows<T>{Array<const T, 2>(half(inputs.x, 0)), Array<const T, 2>(half(inputs.x, 1)),
                         Array<T, 2>(y)});
}

template <class T>
void glu_backward(const Cuda& backend, const GluInputs<T, Device>& inputs, const GluOptions&,
                  const std::type_identity_t<GluOutputGradients<T, Device>>& output_gradients,
                  const std::type_identity_t<GluInputGradients<T, Device>>& input_gradients,
                  GluScratch<T, Device>&) {
  using namespace kernels;
  const auto& x = inputs.x;
  const auto& dy = output_gradients.y;
  const auto& dx = input_gradients.x;
  ssm::detail::check_glu_gradients("glu_backward", inputs, output_gradients, input_gradients);
  launch_rows(backend, "glu_backward", dy.extent(0), dy.extent(1), false,
              GluRowsBackward<T>{Array<const T, 2>(half(x, 0)), Array<const T, 2>(half(x, 1)),
                                 Array<const T, 2>(dy), Array<T, 2>(half(dx, 0)),
                                 Array<T, 2>(half(dx, 1))});
}

template <class T>
void swiglu(const Cuda& backend, const SwigluInputs<T, Device>& inputs, const SwigluOptions&,
            const std::type_identity_t<SwigluOutputs<T, Device>>& outputs,
            SwigluScratch<T, Device>&) {
  using namespace kernels;
  const auto& [gate, up] = inputs;
  const auto& y = outputs.y;
  ssm::detail::check_swiglu("swiglu", inputs, y);
  launch_rows(backend, "swiglu", y.extent(0), y.extent(1), are_flat(gate, up, y),
              SwigluRows<T>{Array<const T, 2>(gate), Array<const T, 2>(up), Array<T, 2>(y)});
}

template <class T>
void swiglu_backward(const Cuda& backend, const SwigluInputs<T, Device>& inputs,
                     const SwigluOptions&,
                     const std::type_identity_t<SwigluOutputGradients<T, Device>>& output_gradients,
                     const std::type_identity_t<SwigluInputGradients<T, Device>>& input_gradients,
                     SwigluScratch<T, Device>&) {
  using namespace kernels;
  const auto& [gate, up] = inputs;
  const auto& dy = output_gradients.y;
  const auto& din = input_gradients;
  ssm::detail::check_swiglu_gradients("swiglu_backward", inputs, output_gradients, din);
  launch_rows(
      backend, "swiglu_backward", dy.extent(0), dy.extent(1),
      are_flat(gate, up, dy, din.gate, din.up),
      SwigluRowsBackward<T>{Array<const T, 2>(gate), Array<const T, 2>(up), Array<const T, 2>(dy),
                            Array<T, 2>(din.gate), Array<T, 2>(din.up)});
}

template <class T>
void dropout(const Cuda& backend, const DropoutInputs<T, Device>& inputs,
             const DropoutOptions& options,
             const std::type_identity_t<DropoutOutputs<T, Device>>& outputs,
             DropoutScratch<T, Device>&) {
  kernels::drop_rows<T>(backend, "dropout", "x", inputs.x, options, "y", outputs.y);
}

template <class T>
void dropout_backward(
    const Cuda& backend, const DropoutInputs<T, Device>& inputs, const DropoutOptions& options,
    const std::type_identity_t<DropoutOutputGradients<T, Device>>& output_gradients,
    const std::type_identity_t<DropoutInputGradients<T, Device>>& input_gradients,
    DropoutScratch<T, Device>&) {
  const char* function = "dropout_backward";
  ssm::detail::check_shape(function, "the gradient of y", output_gradients.y, inputs.x.extents());
  kernels::drop_rows<T>(backend, function, "the gradient of y", output_gradients.y, options,
                        "the gradient of x", input_gradients.x);
}

template <class T>
void decay(const Cuda& backend, const DecayInputs<T, Device>& inputs, const DecayOptions&,
           const std::type_identity_t<DecayOutputs<T, Device>>& outputs, DecayScratch<T, Device>&) {
  using namespace kernels;
  ssm::detail::check_decay("decay", inputs, outputs);
  const auto& A = outputs.A;
  launch_rows(backend, "decay", A.extent(0), A.extent(1), true,
              DecayRows<T>{Array<const T, 2>(inputs.A_log), {}, Array<T, 2>(A)});
}

template <class T>
void decay_backward(const Cuda& backend, const DecayInputs<T, Device>& inputs, const DecayOptions&,
                    const std::type_identity_t<DecayOutputGradients<T, Device>>& output_gradients,
                    const std::type_identity_t<DecayInputGradients<T, Device>>& input_gradients,
                    DecayScratch<T, Device>&) {
  using namespace kernels;
  ssm::detail::check_decay_gradients("decay_backward", inputs, output_gradients, input_gradients);
  const auto& to = input_gradients.A_log;
  launch_rows(backend, "decay_backward", to.extent(0), to.extent(1), true,
              DecayRows<T>{Array<const T, 2>(inputs.A_log), Array<const T, 2>(output_gradients.A),
                           Array<T, 2>(to)});
}

}  // namespace ssm
