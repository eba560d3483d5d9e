#pragma once

#include <array>
#include <cmath>
#include <complex>
#include <cstdint>
#include <string>
#include <vector>

#include "ssm/conv/s4_truncate.hpp"
#include "ssm/core/detail/eigen_core.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/discretize/dplr_step.hpp"
#include "ssm/io/published_modes.hpp"
#include "ssm/io/safetensors_reader.hpp"
#include "ssm/io/state_dict.hpp"
#include "ssm/layers/gated.hpp"
#include "ssm/layers/s4.hpp"

/// @file
/// S4 out of the state dictionaries of its authors' code, github.com/state-spaces/s4. In Python,
/// `safetensors.torch.save_file(model.state_dict(), "model.safetensors")` makes a file of them:
///
///     const ssm::SafetensorsReader file("model.safetensors");
///     const auto layer = ssm::read_published_s4<float>(file, "s4_layers.0.layer.");
///
/// With H channels, N/2 conjugate pairs, S copies of Λ, P and B, of which channel h has copy
/// h mod S, and R = 2 for a bidirectional layer, otherwise 1, these names follow the prefix. The
/// last extent of P, B and C is their real and imaginary part. Of FFTConv with SSMKernelDPLR in
/// models/s4/s4.py:
///
///     kernel.A_real   (S, N/2)           log(−Re Λ), or behind another function
///     kernel.A_imag   (S, N/2)           −Im Λ
///     kernel.inv_dt   (H, 1)             log Δ, or behind another function
///     kernel.P        (rank, S, N/2, 2)
///     kernel.B        (1, S, N/2, 2)
///     kernel.C        (R, H, N/2, 2)     C̃
///     kernel.l_kernel ()                 L, an int64
///     D               (1, H)
///
/// Of S4 with SSKernelNPLR in the s4.py before that one:
///
///     kernel.kernel.inv_w_real (S, N/2)           log(−Re Λ), or behind another function
///     kernel.kernel.w_imag     (S, N/2)           Im Λ
///     kernel.kernel.log_dt     (H)                log Δ; or (H, 1)
///     kernel.kernel.P          (rank, S, N/2, 2)
///     kernel.kernel.B          (1, S, N/2, 2)
///     kernel.kernel.C          (R, H, N/2, 2)     C̃
///     kernel.kernel.L          ()                 L, an int64
///     D                        (1, H)
///
/// A = Λ − P P*, sampled by the bilinear method. C̃ = C (I − A_bar^L) is the output truncated for
/// kernels of L steps (Gu, Goel & Ré 2022, section 3.2), from which C is computed in double. A
/// module that never ran has L = 0 and C itself. L may be a multiple of the module's l_max.
///
/// The layer computes what the module does on sequences of at most L steps at the rate at which it
/// was trained. On longer ones the kernel of the module ends and that of the layer goes on. At
/// another rate the module keeps the C̃ of the first, an approximation, and the layer C, as the
/// module does when it runs step by step.
namespace ssm {

/// What a state dictionary of S4 does not say of its module.
struct PublishedS4Options {
  bool bidirectional = false;                               ///< bidirectional
  PublishedTransform decay = PublishedTransform::exp;       ///< real_transform, once real_type
  PublishedTransform frequency = PublishedTransform::none;  ///< imag_transform
  PublishedTransform delta = PublishedTransform::exp;       ///< dt_transform
};

namespace detail {

/// Under which names a state dictionary has an S4 layer.
struct PublishedS4Names {
  PublishedNames modes;
  std::string P, length;
};

/// The names that a dictionary has, those of the later s4.py where it has none.
inline PublishedS4Names published_s4_names(const StateDict& dict) {
  const auto named = [](const std::string& at, const char* decay, const char* frequency,
                        const char* delta, double sign, const char* length) -> PublishedS4Names {
    return {{at + decay, at + frequency, at + delta, at + "B", at + "C", sign, 1, true},
            at + "P",
            at + length};
  };
  if (dict.has("kernel.kernel.inv_w_real"))
    return named("kernel.kernel.", "inv_w_real", "w_imag", "log_dt", 1, "L");
  return named("kernel.", "A_real", "A_imag", "inv_dt", -1, "l_kernel");
}

/// C of one channel from its C̃: Λ, P and Δ are those of the channel.
inline Eigen::VectorXcd published_output(const PublishedModes& systems, const Tensor<double, 4>& P,
                                         Index copy, Index channel,
                                         const Eigen::VectorXcd& truncated, Index length) {
  const Index modes = truncated.size(), rank = P.extent(0);
  Eigen::VectorXcd lambda(modes), B = Eigen::VectorXcd::Zero(modes);
  Eigen::MatrixXcd low_rank(modes, rank);
  for (Index n = 0; n < modes; ++n) {
    lambda(n) = {-std::exp(systems.log_decay(channel, n)), systems.frequency(channel, n)};
    for (Index a = 0; a < rank; ++a) low_rank(n, a) = {P(a, copy, n, 0), P(a, copy, n, 1)};
  }
  const DplrStep<double> step(lambda, low_rank, B, std::exp(systems.log_delta(channel)));
  return s4_untruncate(step, truncated, length);
}

}  // namespace detail

/// The S4 layer that a module of the published code computes before its activation.
///
/// @param file its tensors, of which others may be there too
/// @param prefix what stands before the names above; for an S4Block of s4.py it ends with "layer."
/// @param options what the module was made with
/// Cost: O(H N³ log L) for the C of all channels.
/// @throws FileError that names the tensor, for names that are missing, shapes that do not fit each
///   other, a rank above 16, a Δ for each pair, numbers that are not finite, modes that do not
///   decay, and a C̃ from which C does not follow because I − A_bar^L is almost singular
template <class T>
[[nodiscard]] S4<T> read_published_s4(const SafetensorsReader& file, const std::string& prefix,
                                      const PublishedS4Options& options = {}) {
  const detail::StateDict dict(file, prefix);
  const auto [names, name_of_P, name_of_length] = detail::published_s4_names(dict);
  dict.require({names.decay, names.frequency, names.delta, name_of_P, names.B, names.C,
                name_of_length, "D"});
  const auto [C, D] = detail::read_published_outputs(dict, names, options.bidirectional);
  const Index width = C.extent(1), modes = C.extent(2);
  if (modes > 1 && dict.shape(names.delta) == std::vector<Index>{width, modes})
    dict.fail(names.delta, "has a Δ for each pair of states", "one for each channel");
  // Once relu did not add 1e-4.
  const bool plain_relu = names.sign > 0 && options.decay == PublishedTransform::relu;
  const auto systems = detail::read_published_modes(
      dict, names, width, modes,
      {plain_relu ? PublishedTransform::none : options.decay, options.frequency, options.delta});
  const Index copies = dict.shape(names.decay)[0];
  const std::vector<Index>& of_P = dict.shape(name_of_P);
  constexpr Index highest = DplrStep<double>::highest_rank;
  if (of_P.size() != 4 || of_P[0] < 1 || of_P[0] > highest)
    dict.fail(name_of_P, "is " + detail::to_string(of_P),
              "(rank, copies, modes, 2) of a rank from 1 to " + std::to_string(highest));
  const Index rank = of_P[0];
  const auto P = dict.read(name_of_P, std::array<Index, 4>{rank, copies, modes, 2});
  std::int64_t length = 0;
  file.read_into(prefix + name_of_length, {}, &length);
  if (length < 0)
    dict.fail(name_of_length, "has " + std::to_string(length), "a length of at least 0");

  S4<T> layer(
      {.width = width, .state = 2 * modes, .rank = rank, .bidirectional = options.bidirectional});
  detail::assign_elements(layer.log_decay, systems.log_decay);
  detail::assign_elements(layer.frequency, systems.frequency);
  detail::assign_elements(layer.log_delta, systems.log_delta);
  detail::assign_elements(layer.B, systems.B);
  detail::assign_elements(layer.C, C);
  detail::assign_elements(layer.D, D);
  for (Index h = 0; h < width; ++h)
    for (Index n = 0; n < modes; ++n)
      for (Index a = 0; a < rank; ++a)
        for (Index part = 0; part < 2; ++part)
          layer.P(h, n, a, part) = static_cast<T>(P(a, h % copies, n, part));
  Eigen::VectorXcd truncated(modes);
  for (Index d = 0; d < C.extent(0) && length > 0; ++d)
    for (Index h = 0; h < width; ++h) {
      if (!(std::exp(systems.log_delta(h)) > 0))
        dict.fail_at(names.delta, h, systems.log_delta(h), "a Δ above 0");
      for (Index n = 0; n < modes; ++n) truncated(n) = {C(d, h, n, 0), C(d, h, n, 1)};
      const Eigen::VectorXcd output =
          detail::published_output(systems, P, h % copies, h, truncated, length);
      // Numbers in single precision say nothing of what I − A_bar^L makes so much smaller.
      if (!(output.norm() <= 1e8 * truncated.norm()))
        dict.fail(names.C, "of channel " + std::to_string(h) + " does not give C",
                  "a system that forgets something in L = " + std::to_string(length) + " steps");
      for (Index n = 0; n < modes; ++n) {
        layer.C(d, h, n, 0) = static_cast<T>(output(n).real());
        layer.C(d, h, n, 1) = static_cast<T>(output(n).imag());
      }
    }
  dict.check_finite(layer);
  return layer;
}

/// The whole module, an S4Block of s4.py or the S4 before it: the layer, GELU, and `output_linear`
/// with its GLU, without dropout. Of the published code it is that with final_act "glu" and
/// activation "gelu". Its GELU is exact and ours the tanh form, within 5e-4 of it.
///
/// Besides the names of the layer, those of an S4Block with "layer." before them, it reads
/// output_linear.0.weight (2H, H) or (2H, H, 1) and output_linear.0.bias (2H).
/// @param prefix what stands before all names of the module
/// @throws as read_published_s4
template <class T>
[[nodiscard]] Gated<S4<T>> read_published_s4_block(const SafetensorsReader& file,
                                                   const std::string& prefix,
                                                   const PublishedS4Options& options = {}) {
  const detail::StateDict dict(file, prefix);
  return detail::read_published_gate(
      dict, read_published_s4<T>(file, prefix + detail::published_inner(dict), options));
}

}  // namespace ssm
