#pragma once

#include <string>

#include "ssm/core/index.hpp"
#include "ssm/discretize/discretize.hpp"
#include "ssm/io/published_modes.hpp"
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

  const auto [C, D] = detail::read_published_outputs(dict, names, options.bidirectional);
  const Index width = C.extent(1), modes = C.extent(2);
  const auto systems = detail::read_published_modes(
      dict, names, width, modes, {options.decay, options.frequency, options.delta});

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
  return detail::read_published_gate(
      dict, read_published_s4d<T>(file, prefix + detail::published_inner(dict), options));
}

}  // namespace ssm
