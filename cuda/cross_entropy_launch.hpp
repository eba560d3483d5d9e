#pragma once

#include <cmath>
#include <string>

#include "row_place.hpp"
#include "ssm/core/checks.hpp"
#include "ssm/cuda/cross_entropy.hpp"

namespace ssm {
namespace kernels {

/// How many targets count: one block.
struct CountTargets {
  static constexpr int most_threads = 256;
  Array<const Token, 2> targets;
  Index rows, length;
  Token ignore;
  double* count;

  SSM_DEVICE void operator()(Block& block) const {
    const double sum = sum_by_block(block, rows, [&](Index i) {
      return targets(i / length, i % length) != ignore ? 1.0 : 0.0;
    });
    if (block.thread() == 0) *count = sum;
  }
};

/// The loss of each row and its gradient; `lanes` threads share a row.
template <class T>
struct CrossEntropyRows {
  static constexpr int most_threads = 256;
  Array<const T, 2> logits;
  Array<const Token, 2> targets;
  Array<T, 2> dlogits;
  const double* count;
  double* losses;
  Index rows, length, vocab;
  Token ignore;
  int lanes;

  SSM_DEVICE void operator()(Block& block) const {
    const Shared<T> room = block.shared<T>(block.threads() / warp);
    const RowPlace at(block, rows, lanes);
    const Token target = at.inside ? targets(at.row / length, at.row % length) : ignore;
    const bool counts = at.inside && target != ignore;
    const bool valid = counts && target >= 0 && target < vocab;
    const T at_target = valid ? T(logits(at.row, target)) : not_a_number<T>;
    T top = -infinity<T>, sum = 0;
    for (Index c = at.lane; counts && c < vocab; c += lanes)
      top = LargerOf()(top, T(logits(at.row, c)));
    top = join_row(block, room, top, lanes, LargerOf());
    for (Index c = at.lane; counts && c < vocab; c += lanes)
      sum += std::exp(logits(at.row, c) - top);
    sum = join_row(block, room, sum, lanes, SumOf());
    if (!at.inside) return;
    if (at.lane == 0)
      losses[at.row] = counts ? std::log(static_cast<double>(sum)) + static_cast<double>(top) -
                                    static_cast<double>(at_target)
                              : 0.0;
    if (!dlogits.present) return;
    const T share = T(1) / static_cast<T>(*count), scale = valid ? share / sum : not_a_number<T>;
    for (Index c = at.lane; c < vocab; c += lanes) {
      T slope = counts ? std::exp(logits(at.row, c) - top) * scale : T(0);
      if (c == target && counts) slope -= share;
      dlogits(at.row, c) = slope;
    }
  }
};

/// The mean over all targets that count: one block.
struct MeanLoss {
  static constexpr int most_threads = 256;
  const double *losses, *count;
  Array<double, 1> loss;
  Index rows;

  SSM_DEVICE void operator()(Block& block) const {
    const double sum = sum_by_block(block, rows, [&](Index i) { return losses[i]; });
    if (block.thread() == 0) loss(0) = *count == 0 ? 0 : sum / *count;
  }
};

struct GivenCount {
  double value;
  double* count;

  SSM_DEVICE void operator()(Index) const { *count = value; }
};

}  // namespace kernels

template <class T>
void cross_entropy(const Cuda& backend, const CrossEntropyInputs<T, Device>& inputs,
                   const CrossEntropyOptions& options,
                   const std::type_identity_t<CrossEntropyOutputs<T, Device>>& outputs,
                   const View<double, 1, Device>& loss, CrossEntropyScratch<T, Device>& scratch) {
  using namespace kernels;
  const char* function = "cross_entropy";
  const auto& [logits, targets] = inputs;
  const auto& dlogits = outputs.dlogits;
  ssm::detail::check_given(function, "targets", targets, "(batch, length)");
  const Index rows = targets.size(), vocab = logits.extent(1), length = targets.extent(1);
  ssm::detail::check_rows(function, "logits", logits, std::array<Index, 2>{rows, vocab});
  if (dlogits) {
    ssm::detail::check_output_rows(function, "the gradient of logits", dlogits, logits.extents());
    ssm::detail::check_same_or_apart(function, "the gradient of logits", dlogits, "logits", logits);
  }
  ssm::detail::check_output_shape(function, "loss", loss, std::array<Index, 1>{1});
  if (options.count < 0)
    ssm::detail::throw_domain(function, "count", std::to_string(options.count), "0 or more");
  struct Arrays {
    double *losses, *count;
  };
  const Arrays arrays = lay_out(backend, scratch.memory, [&](Scratch& s) {
    return Arrays{s.array<double>(rows), s.array<double>(1)};
  });
  constexpr int threads = 256;
  const Index room = shared_size<double>(threads / warp);
  const Array<const Token, 2> target(targets);
  if (options.count > 0)
    launch_elementwise(backend, function, 1,
                       GivenCount{static_cast<double>(options.count), arrays.count});
  else
    launch(backend, function, 1, threads, room,
           CountTargets{target, rows, length, options.ignore, arrays.count});
  launch_by_row(
      backend, function, rows,
      CrossEntropyRows<T>{Array<const T, 2>(logits), target, Array<T, 2>(dlogits), arrays.count,
                          arrays.losses, rows, length, vocab, options.ignore,
                          row_lanes(vocab, CrossEntropyRows<T>::most_threads)});
  launch(backend, function, 1, threads, room,
         MeanLoss{arrays.losses, arrays.count, Array<double, 1>(loss), rows});
}

template <class T>
double cross_entropy(const Cuda& backend, const CrossEntropyInputs<T, Device>& inputs,
                     const CrossEntropyOptions& options,
                     const std::type_identity_t<CrossEntropyOutputs<T, Device>>& outputs,
                     CrossEntropyScratch<T, Device>& scratch) {
  if (ssm::detail::is_captured("cross_entropy", backend))
    throw CudaError(
        "cross_entropy: its stream is captured, expected a loss that stays on the device: give it "
        "a view for that");
  resize(backend, scratch.loss, {1});
  cross_entropy(backend, inputs, options, outputs, scratch.loss.view(), scratch);
  return to_host(backend, scratch.loss)(0);
}

}  // namespace ssm

#define SSM_CROSS_ENTROPY(T)                                                         \
  template void ssm::cross_entropy(                                                  \
      const Cuda&, const CrossEntropyInputs<T, Device>&, const CrossEntropyOptions&, \
      const CrossEntropyOutputs<T, Device>&, const View<double, 1, Device>&,         \
      CrossEntropyScratch<T, Device>&);                                              \
  template double ssm::cross_entropy(                                                \
      const Cuda&, const CrossEntropyInputs<T, Device>&, const CrossEntropyOptions&, \
      const CrossEntropyOutputs<T, Device>&, CrossEntropyScratch<T, Device>&);
