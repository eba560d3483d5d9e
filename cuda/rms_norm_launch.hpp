#pragma once

#include <array>
#include <cmath>

#include "row_place.hpp"
#include "ssm/cuda/rms_norm.hpp"

namespace ssm {
namespace kernels {

template <class T>
struct RmsNormRows {
  static constexpr int most_threads = 256;
  Array<const T, 2> x;
  Array<const T, 1> weight;
  Array<T, 2> y;
  T* inverse_rms;
  Index rows, width;
  T epsilon;
  int lanes;

  SSM_DEVICE void operator()(Block& block) const {
    const Shared<T> room = block.shared<T>(block.threads() / warp);
    const RowPlace at(block, rows, lanes);
    T sum = 0;
    SSM_UNROLL_BY(4)
    for (Index c = at.lane; at.inside && c < width; c += lanes) {
      const T now = x(at.row, c);
      sum += now * now;
    }
    sum = join_row(block, room, sum, lanes, SumOf());
    const T scale = T(1) / std::sqrt(sum / static_cast<T>(width) + epsilon);
    SSM_UNROLL_BY(4)
    for (Index c = at.lane; at.inside && c < width; c += lanes)
      y(at.row, c) = x(at.row, c) * scale * (weight.present ? weight(c) : T(1));
    if (at.inside && at.lane == 0) inverse_rms[at.row] = scale;
  }
};

template <class T>
struct RmsNormRowsBackward {
  static constexpr int most_threads = 256;
  Array<const T, 2> x, dy;
  Array<const T, 1> weight;
  Array<T, 2> dx;
  const T* inverse_rms;
  Index rows, width;
  int lanes;
  bool accumulate;

  SSM_DEVICE T gradient(Index row, Index c) const {
    return dy(row, c) * (weight.present ? weight(c) : T(1));
  }
  SSM_DEVICE void operator()(Block& block) const {
    const Shared<T> room = block.shared<T>(block.threads() / warp);
    const RowPlace at(block, rows, lanes);
    const T scale = at.inside ? inverse_rms[at.row] : T(0);
    T sum = 0;
    SSM_UNROLL_BY(4)
    for (Index c = at.lane; at.inside && c < width; c += lanes)
      sum += gradient(at.row, c) * x(at.row, c);
    const T mean = scale * join_row(block, room, sum, lanes, SumOf()) / static_cast<T>(width);
    SSM_UNROLL_BY(4)
    for (Index c = at.lane; at.inside && c < width; c += lanes) {
      const T slope = scale * (gradient(at.row, c) - x(at.row, c) * (scale * mean));
      dx(at.row, c) = accumulate ? dx(at.row, c) + slope : slope;
    }
  }
};

/// What the gradient of the weight is a sum of.
template <class T>
struct RmsNormWeightTerm {
  using Value = T;
  Array<const T, 2> x, dy;
  const T* inverse_rms;

  SSM_DEVICE T operator()(Index row, Index c) const {
    return dy(row, c) * x(row, c) * inverse_rms[row];
  }
};

}  // namespace kernels

template <class T>
void rms_norm(const Cuda& backend, const RmsNormInputs<T, Device>& inputs,
              const RmsNormOptions& options,
              const std::type_identity_t<RmsNormOutputs<T, Device>>& outputs,
              RmsNormScratch<T, Device>& scratch) {
  using namespace kernels;
  const char* function = "rms_norm";
  const auto& [x, weight] = inputs;
  ssm::detail::check_rms_norm(function, inputs, options);
  ssm::detail::check_rms_norm_output(function, inputs, outputs.y);
  const Index rows = x.extent(0), width = x.extent(1);
  resize(backend, scratch.inverse_rms, {rows});
  scratch.extents = x.extents();
  launch_by_row(
      backend, function, rows,
      RmsNormRows<T>{Array<const T, 2>(x), Array<const T, 1>(weight), Array<T, 2>(outputs.y),
                     scratch.inverse_rms.data(), rows, width, static_cast<T>(options.epsilon),
                     row_lanes(width, RmsNormRows<T>::most_threads)});
}

template <class T>
void rms_norm_backward(
    const Cuda& backend, const RmsNormInputs<T, Device>& inputs, const RmsNormOptions& options,
    const std::type_identity_t<RmsNormOutputGradients<T, Device>>& output_gradients,
    const std::type_identity_t<RmsNormInputGradients<T, Device>>& input_gradients,
    RmsNormScratch<T, Device>& scratch) {
  using namespace kernels;
  const char* function = "rms_norm_backward";
  const auto& [x, weight] = inputs;
  const auto& din = input_gradients;
  ssm::detail::check_rms_norm(function, inputs, options);
  ssm::detail::check_rms_norm_gradients(function, inputs, output_gradients, din);
  if (!ssm::detail::same_extents(scratch.extents, x.extents()))
    ssm::detail::throw_shape(
        function, "scratch", "of another call, with x " + ssm::detail::to_string(scratch.extents),
        "one that rms_norm filled with x " + ssm::detail::to_string(x.extents()));
  const Index rows = x.extent(0), width = x.extent(1);
  const Array<const T, 2> x_rows(x), dy(output_gradients.y);
  const T* const inverse_rms = scratch.inverse_rms.data();
  if (din.weight)  // first: the gradient of x may take the memory of what it reads
    launch_column_sums(backend, function, rows, width,
                       RmsNormWeightTerm<T>{x_rows, dy, inverse_rms}, Array<T, 1>(din.weight),
                       scratch.partials);
  if (din.x)
    launch_by_row(backend, function, rows,
                  RmsNormRowsBackward<T>{x_rows, dy, Array<const T, 1>(weight), Array<T, 2>(din.x),
                                         inverse_rms, rows, width,
                                         row_lanes(width, RmsNormRowsBackward<T>::most_threads),
                                         options.write == Write::accumulate});
}

}  // namespace ssm
