#pragma once

#include "products.hpp"
#include "rows.hpp"
#include "ssm/cuda/linear.hpp"

namespace ssm {
namespace kernels {

template <class T>
struct ZeroRows {
  using Value = T;
  Array<T, 2> y;

  SSM_DEVICE T load(Index, Index) const { return T(0); }
  SSM_DEVICE void store(Index r, Index c, T value) const { y(r, c) = value; }
};

template <class T>
struct AddBias {
  using Value = T;
  Array<const T, 1> bias;
  Array<T, 2> y;

  SSM_DEVICE T load(Index r, Index c) const { return y(r, c) + bias(c); }
  SSM_DEVICE void store(Index r, Index c, T value) const { y(r, c) = value; }
};

/// What the gradient of the bias is a sum of.
template <class T>
struct BiasTerm {
  using Value = T;
  Array<const T, 2> dy;

  SSM_DEVICE T operator()(Index row, Index c) const { return dy(row, c); }
};

/// d = a b, or d += a b, for matrices of any size.
template <class T>
void multiply(const Cuda& backend, const char* function, const Columns& a, const Columns& b,
              const View<T, 2, Device>& d, const char* argument, bool accumulate,
              LinearScratch<T, Device>& scratch) {
  if (d.size() == 0) return;
  if (a.inner() == 0) {  // a sum of nothing
    if (!accumulate)
      launch_rows(backend, function, d.extent(0), d.extent(1), d.contiguous(),
                  ZeroRows<T>{Array<T, 2>(d)});
    return;
  }
  plans_of<T>(scratch.plans)
      .multiply(backend, function, a, b, Columns(function, argument, d, false), accumulate,
                scratch.workspace);
}

}  // namespace kernels

template <class T>
void linear(const Cuda& backend, const LinearInputs<T, Device>& inputs,
            const LinearOptions& options,
            const std::type_identity_t<LinearOutputs<T, Device>>& outputs,
            LinearScratch<T, Device>& scratch) {
  using namespace kernels;
  const char* function = "linear";
  const auto& [x, weight, bias] = inputs;
  const auto& y = outputs.y;
  ssm::detail::check_linear(function, inputs);
  ssm::detail::check_linear_output(function, inputs, y);
  multiply(backend, function, Columns(function, "weight", weight, true),
           Columns(function, "x", x, false), y, "y", options.write == Write::accumulate, scratch);
  if (bias)
    launch_rows(backend, function, y.extent(0), y.extent(1), false,
                AddBias<T>{Array<const T, 1>(bias), Array<T, 2>(y)});
}

template <class T>
void linear_backward(const Cuda& backend, const LinearInputs<T, Device>& inputs,
                     const LinearOptions& options,
                     const std::type_identity_t<LinearOutputGradients<T, Device>>& output_gradients,
                     const std::type_identity_t<LinearInputGradients<T, Device>>& input_gradients,
                     LinearScratch<T, Device>& scratch) {
  using namespace kernels;
  const char* function = "linear_backward";
  const auto& [x, weight, bias] = inputs;
  const auto& dy = output_gradients.y;
  const auto& din = input_gradients;
  ssm::detail::check_linear(function, inputs);
  ssm::detail::check_linear_gradients(function, inputs, output_gradients, din);
  if (din.x)
    multiply(backend, function, Columns(function, "weight", weight, false),
             Columns(function, "the gradient of y", dy, false), din.x, "the gradient of x",
             options.write == Write::accumulate, scratch);
  if (din.weight)
    multiply(backend, function, Columns(function, "x", x, false),
             Columns(function, "the gradient of y", dy, true), din.weight, "the gradient of weight",
             false, scratch);
  if (din.bias)
    launch_column_sums(backend, function, dy.extent(0), dy.extent(1),
                       BiasTerm<T>{Array<const T, 2>(dy)}, Array<T, 1>(din.bias), scratch.column);
}

}  // namespace ssm
