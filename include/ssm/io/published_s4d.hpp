#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <string_view>
#include <vector>

#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/discretize/discretize.hpp"
#include "ssm/io/safetensors_reader.hpp"
#include "ssm/io/state_dict.hpp"
#include "ssm/layers/gated.hpp"
#include "ssm/layers/s4d.hpp"

/// @file
/// S4D out of the state dictionaries of its authors' code, github.com/state-spaces/s4. In Python,
/// `safetensors.torch.save_file(model.state_dict(), "model.safetensors")` makes a file of them:
///
///     const ssm::SafetensorsReader file("model.safetensors");
///     const auto layer = ssm::read_published_s4d<float>(file, "s4_layers.0.");
///
/// With H channels and N/2 conjugate pairs, these names follow the prefix. The last extent of B and
/// C is their real and imaginary part. Of S4D in models/s4/s4d.py, whose B is 1:
///
///     kernel.log_A_real (H, N/2)     log(−Re Λ)
///     kernel.A_imag     (H, N/2)     Im Λ
///     kernel.log_dt     (H)          log Δ
///     kernel.C          (H, N/2, 2)
///     D                 (H)
///
/// Of FFTConv with SSMKernelDiag in models/s4/s4.py, with S copies of Λ and B, of which channel h
/// has copy h mod S, and with R = 2 for a bidirectional layer, otherwise 1:
///
///     kernel.A_real (S, N/2)          log(−Re Λ), or behind another function
///     kernel.A_imag (S, N/2)          −Im Λ
///     kernel.inv_dt (H, 1)            log Δ, or behind another function; or (H, N/2)
///     kernel.B      (1, S, N/2, 2)
///     kernel.C      (R, H, N/2, 2)
///     D             (1, H)
///
/// Of S4 with SSKernelDiag in the s4.py before that one:
///
///     kernel.kernel.inv_A_real (S, N/2)         log(−Re Λ), or behind another function
///     kernel.kernel.A_imag     (S, N/2)         Im Λ
///     kernel.kernel.log_dt     (H, 1)           log Δ; or (H) or (H, N/2)
///     kernel.kernel.B          (S, N/2, 2)
///     kernel.kernel.C          (R, H, N/2, 2)
///     D                        (1, H)
///
/// The kernel of all is 2 Re Σ C B (e^{ΔΛ} − 1)/Λ e^{lΔΛ} over the pairs, l = 0, 1, …, or that of
/// the bilinear method. Where every pair has a Δ of its own, (H, N/2), the layer has their
/// geometric mean and scales Λ and B of each pair, which changes nothing that it computes, at any
/// rate.
namespace ssm {

/// Behind which function the published code stores a number x > 0.
enum class PublishedTransform {
  exp,      ///< as log x
  none,     ///< as x
  relu,     ///< as x − 1e-4
  sigmoid,  ///< as log(x/(1 − x))
  softplus  ///< as log(eˣ − 1)
};

/// What a state dictionary of S4D does not say of its module. The defaults are those of s4d.py and
/// of s4.py; those of the s4.py before differ in `method`, which is bilinear.
struct PublishedS4dOptions {
  Discretization method = Discretization::zero_order_hold;  ///< disc: "zoh" or "bilinear"
  bool bidirectional = false;                               ///< bidirectional
  PublishedTransform decay = PublishedTransform::exp;       ///< real_transform, once real_type
  PublishedTransform frequency = PublishedTransform::none;  ///< imag_transform
  PublishedTransform delta = PublishedTransform::exp;       ///< dt_transform
};

namespace detail {

/// log x of a number that is stored behind a function; not finite where x is not above 0.
inline double log_of_published(double stored, PublishedTransform transform) {
  switch (transform) {
    case PublishedTransform::exp:
      return stored;
    case PublishedTransform::none:
      return std::log(stored);
    case PublishedTransform::relu:
      return std::log((std::max)(stored, 0.0) + 1e-4);
    case PublishedTransform::sigmoid:
      return stored < 0 ? stored - std::log1p(std::exp(stored)) : -std::log1p(std::exp(-stored));
    default:  // softplus, which for large negative numbers is the exponential
      return stored < -30
                 ? stored
                 : std::log((std::max)(stored, 0.0) + std::log1p(std::exp(-std::abs(stored))));
  }
}

/// Λ, Δ and B of every channel, in double.
struct PublishedModes {
  Tensor<double, 2> log_decay, frequency;  ///< (width, modes)
  Tensor<double, 3> B;                     ///< (width, modes, 2)
  Tensor<double, 1> log_delta;             ///< (width)
};

/// Under which names a state dictionary has them. B is 1 where it has no name.
struct PublishedNames {
  std::string decay, frequency, delta, B, C;
  double sign = 1;         ///< of the frequencies
  Index before_B = 0;      ///< extents of 1 before those of B
  bool directions = true;  ///< whether C has an extent for them
};

/// The names that a dictionary has, those of s4.py where it has none.
inline PublishedNames published_names(const StateDict& dict) {
  if (dict.has("kernel.log_A_real"))
    return {"kernel.log_A_real", "kernel.A_imag", "kernel.log_dt", "", "kernel.C", 1, 0, false};
  if (dict.has("kernel.kernel.inv_A_real"))
    return {"kernel.kernel.inv_A_real",
            "kernel.kernel.A_imag",
            "kernel.kernel.log_dt",
            "kernel.kernel.B",
            "kernel.kernel.C",
            1,
            0,
            true};
  return {"kernel.A_real", "kernel.A_imag", "kernel.inv_dt", "kernel.B", "kernel.C", -1, 1, true};
}

/// log Δ of every state, (width, modes).
inline Tensor<double, 2> read_log_deltas(const StateDict& dict, const std::string& name,
                                         Index width, Index modes, PublishedTransform transform) {
  const std::vector<Index>& found = dict.shape(name);
  const bool per_channel = found == std::vector<Index>{width};
  const bool per_mode = found == std::vector<Index>{width, modes};
  if (!per_channel && !per_mode) dict.check(name, {width, 1});
  const Tensor<double, 2> stored =
      dict.read_as(name, found, std::array<Index, 2>{width, per_mode ? modes : 1});
  Tensor<double, 2> deltas({width, modes});
  for (Index h = 0; h < width; ++h)
    for (Index n = 0; n < modes; ++n) {
      const Index at = per_mode ? n : 0;
      deltas(h, n) = log_of_published(stored(h, at), transform);
      if (!std::isfinite(deltas(h, n)))
        dict.fail_at(name, h * stored.extent(1) + at, stored(h, at), "a Δ above 0");
    }
  return deltas;
}

/// Λ, Δ and B of so many channels and modes.
inline PublishedModes read_published_modes(const StateDict& dict, const PublishedNames& names,
                                           Index width, Index modes,
                                           const PublishedS4dOptions& options) {
  const std::vector<Index>& found = dict.shape(names.decay);
  const bool fits = found.size() == 2 && found[0] > 0 && width % found[0] == 0;
  const Index copies = fits ? found[0] : width;
  const std::array<Index, 2> extents{copies, modes};
  const auto decay = dict.read(names.decay, extents);
  const auto frequency = dict.read(names.frequency, extents);
  Tensor<double, 3> B({copies, modes, 2});
  if (names.B.empty()) {
    for (Index i = 0; i < B.size(); i += 2) B.data()[i] = 1;
  } else {
    std::vector<Index> want(static_cast<std::size_t>(names.before_B), 1);
    want.insert(want.end(), {copies, modes, 2});
    B = dict.read_as(names.B, want, B.extents());
  }
  const auto deltas = read_log_deltas(dict, names.delta, width, modes, options.delta);

  PublishedModes result{Tensor<double, 2>({width, modes}), Tensor<double, 2>({width, modes}),
                        Tensor<double, 3>({width, modes, 2}), Tensor<double, 1>({width})};
  for (Index h = 0; h < width; ++h) {
    const Index t = h % copies;
    bool same = true;
    double sum = 0;
    for (Index n = 0; n < modes; ++n) {
      same = same && deltas(h, n) == deltas(h, 0);
      sum += deltas(h, n);
    }
    result.log_delta(h) = same ? deltas(h, 0) : sum / static_cast<double>(modes);
    for (Index n = 0; n < modes; ++n) {
      const double shift = deltas(h, n) - result.log_delta(h), scale = std::exp(shift);
      const double log_decay = log_of_published(decay(t, n), options.decay);
      if (!std::isfinite(log_decay))
        dict.fail_at(names.decay, t * modes + n, decay(t, n), "a decay −Re Λ above 0");
      double turn = frequency(t, n);
      if (options.frequency != PublishedTransform::none)
        turn = std::exp(log_of_published(turn, options.frequency));
      result.log_decay(h, n) = log_decay + shift;
      result.frequency(h, n) = names.sign * turn * scale;
      for (Index part = 0; part < 2; ++part) result.B(h, n, part) = B(t, n, part) * scale;
    }
  }
  return result;
}

}  // namespace detail

/// The S4D layer that a module of the published code computes before its activation.
///
/// @param file its tensors, of which others may be there too
/// @param prefix what stands before the names above: "s4_layers.0." or ""; for an
///   S4Block of s4.py it ends with "layer."
/// @param options what the module was made with
/// @throws FileError that names the tensor, for names that are missing, shapes that do not fit each
///   other, numbers that are not finite or too large for T, and modes that do not decay;
///   DomainError for a method other than those that keep C and D
template <class T>
[[nodiscard]] S4d<T> read_published_s4d(const SafetensorsReader& file, const std::string& prefix,
                                        const PublishedS4dOptions& options = {}) {
  detail::check_keeps_output("read_published_s4d", options.method);
  const detail::StateDict dict(file, prefix);
  const detail::PublishedNames names = detail::published_names(dict);
  dict.require({names.decay, names.frequency, names.delta, names.C, "D"});
  if (!names.B.empty()) dict.require({names.B});

  const Index directions = options.bidirectional ? 2 : 1;
  const bool has_directions = names.directions || options.bidirectional;
  const std::vector<Index>& found = dict.shape(names.C);
  const std::size_t channel = has_directions ? 1 : 0;
  if (found.size() != channel + 3 || found[channel] < 1 || found[channel + 1] < 1)
    dict.fail(names.C, "is " + detail::to_string(found),
              has_directions ? "(" + std::to_string(directions) + ", channels, modes, 2)"
                             : std::string("(channels, modes, 2)"));
  const Index width = found[channel], modes = found[channel + 1];
  std::vector<Index> of_C{width, modes, 2}, of_D{width};
  if (has_directions) of_C.insert(of_C.begin(), directions);
  if (names.directions) of_D.insert(of_D.begin(), 1);
  const auto C = dict.read_as(names.C, of_C, std::array<Index, 4>{directions, width, modes, 2});
  const auto D = dict.read_as("D", of_D, std::array<Index, 1>{width});
  const auto systems = detail::read_published_modes(dict, names, width, modes, options);

  S4d<T> layer({.width = width,
                .state = 2 * modes,
                .bidirectional = options.bidirectional,
                .method = options.method});
  detail::assign_elements(layer.log_decay, systems.log_decay);
  detail::assign_elements(layer.frequency, systems.frequency);
  detail::assign_elements(layer.log_delta, systems.log_delta);
  detail::assign_elements(layer.B, systems.B);
  detail::assign_elements(layer.C, C);
  detail::assign_elements(layer.D, D);
  dict.check_finite(layer);
  return layer;
}

/// The whole module, S4D of s4d.py or S4Block of s4.py: the layer, GELU, and `output_linear` with
/// its GLU, without dropout. Of the published code it is that with final_act "glu" and activation
/// "gelu". Its GELU is exact and ours the tanh form, within 5e-4 of it.
///
/// Besides the names of the layer, those of an S4Block with "layer." before them, it reads
/// output_linear.0.weight (2H, H) or (2H, H, 1) and output_linear.0.bias (2H).
/// @param prefix what stands before all names of the module
/// @throws as read_published_s4d
template <class T>
[[nodiscard]] Gated<S4d<T>> read_published_s4d_block(const SafetensorsReader& file,
                                                     const std::string& prefix,
                                                     const PublishedS4dOptions& options = {}) {
  const detail::StateDict dict(file, prefix);
  const std::string inner = dict.has("layer.D") ? prefix + "layer." : prefix;
  S4d<T> mixer = read_published_s4d<T>(file, inner, options);
  Gated<S4d<T>> block({mixer.config});
  const Index width = mixer.config.width;
  block.mixer = std::move(mixer);
  const std::string weight = "output_linear.0.weight", bias = "output_linear.0.bias";
  dict.require({weight, bias});
  std::vector<Index> want{2 * width, width};
  if (dict.shape(weight).size() == 3) want.push_back(1);  // a convolution of one tap
  detail::assign_elements(block.weight,
                          dict.read_as(weight, want, std::array<Index, 2>{2 * width, width}));
  detail::assign_elements(block.bias, dict.read(bias, std::array<Index, 1>{2 * width}));
  dict.check_finite(block);
  return block;
}

}  // namespace ssm
