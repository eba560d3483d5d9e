#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "ssm/core/index.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/discretize/discretize.hpp"
#include "ssm/io/safetensors_reader.hpp"
#include "ssm/io/state_dict.hpp"
#include "ssm/layers/gated.hpp"
#include "ssm/layers/s5.hpp"

/// @file
/// S5 out of the parameters of its authors' code, github.com/lindermanlab/S5. In Python,
/// `safetensors.flax.save_file(flax.traverse_util.flatten_dict(params, sep="."), "s5.safetensors")`
/// makes a file of them:
///
///     const ssm::SafetensorsReader file("s5.safetensors");
///     const auto layer = ssm::read_published_s5<float>(file, "encoder.layers_0.seq.");
///
/// With H inputs and outputs and P eigenvalues, one of each conjugate pair with conj_sym, these
/// names of the module S5SSM in s5/ssm.py follow the prefix:
///
///     Lambda_re (P)           Re Λ; at most −1e-4 when it runs, with clip_eigs
///     Lambda_im (P)           Im Λ
///     B         (P, H, 2)     real and imaginary part
///     C         (H, P, 2)     of a layer of one direction
///     C1, C2    (H, P, 2)     of both directions, the second from the end to the start
///     C         (H, 2P, 2)    the two side by side, where C_init is "complex_normal"
///     D         (H)
///     log_step  (P, 1)        log Δ
///
/// y = 2 Re(C x) + D u with conj_sym, otherwise Re(C x) + D u, which the layer has as half a C.
namespace ssm {

/// What the parameters of S5 do not say of their module. Whether it is bidirectional they do.
struct PublishedS5Options {
  Discretization method = Discretization::zero_order_hold;  ///< discretization: "zoh", "bilinear"
  bool conj_sym = true;    ///< each eigenvalue stands for a conjugate pair
  bool clip_eigs = false;  ///< Re Λ is at most −1e-4 when the layer runs
};

/// The S5 layer that a module of the published code computes.
///
/// @param file its tensors, of which others may be there too
/// @param prefix what stands before the names above
/// @param options what the module was made with
/// @throws FileError that names the tensor, for names that are missing, shapes that do not fit each
///   other, numbers that are not finite or too large for T, and eigenvalues that do not decay;
///   DomainError for a method other than those that keep C and D
template <class T>
[[nodiscard]] S5<T> read_published_s5(const SafetensorsReader& file, const std::string& prefix,
                                      const PublishedS5Options& options = {}) {
  detail::check_keeps_output("read_published_s5", options.method);
  const detail::StateDict dict(file, prefix);
  const bool apart = dict.has("C1") || dict.has("C2");
  dict.require({"Lambda_re", "Lambda_im", "B", "D", "log_step", apart ? "C1" : "C"});
  if (apart) dict.require({"C2"});
  const std::vector<Index>& of_B = dict.shape("B");
  if (of_B.size() != 3 || of_B[0] < 1)
    dict.fail("B", "is " + detail::to_string(of_B), "(eigenvalues, width, 2)");
  const Index modes = of_B[0], width = of_B[1];
  const bool side_by_side = !apart && dict.shape("C") == std::vector<Index>{width, 2 * modes, 2};

  const auto re = dict.read("Lambda_re", std::array<Index, 1>{modes});
  const auto im = dict.read("Lambda_im", std::array<Index, 1>{modes});
  const auto B = dict.read("B", std::array<Index, 3>{modes, width, 2});
  const auto log_step = dict.read_as("log_step", {modes, 1}, std::array<Index, 1>{modes});
  const auto D = dict.read("D", std::array<Index, 1>{width});
  S5<T> layer({.width = width,
               .state = 2 * modes,
               .bidirectional = apart || side_by_side,
               .method = options.method});
  for (Index n = 0; n < modes; ++n) {
    const double decay = -(options.clip_eigs ? (std::min)(re(n), -1e-4) : re(n));
    if (!(decay > 0))
      dict.fail_at("Lambda_re", n, re(n), "a number below 0, or a module with clip_eigs");
    layer.log_decay(n) = static_cast<T>(std::log(decay));
    for (Index part = 0; part < 2; ++part)
      for (Index c = 0; c < width; ++c) layer.B(n, part, c) = static_cast<T>(B(n, c, part));
  }
  detail::assign_elements(layer.frequency, im);
  detail::assign_elements(layer.log_delta, log_step);
  detail::assign_elements(layer.D, D);

  const double share = options.conj_sym ? 1 : 0.5;
  const auto read_C = [&](const std::string& name, Index columns, Index first, Tensor<T, 3>& to) {
    const auto C = dict.read(name, std::array<Index, 3>{width, columns, 2});
    for (Index c = 0; c < width; ++c)
      for (Index n = 0; n < modes; ++n)
        for (Index part = 0; part < 2; ++part)
          to(c, n, part) = static_cast<T>(share * C(c, first + n, part));
  };
  read_C(apart ? "C1" : "C", side_by_side ? 2 * modes : modes, 0, layer.C);
  if (apart) read_C("C2", modes, 0, layer.C_back);
  if (side_by_side) read_C("C", 2 * modes, modes, layer.C_back);
  dict.check_finite(layer);
  return layer;
}

/// What follows the layer in a SequenceLayer of the published code, where `out1` and `out2` are
/// linear maps and σ the logistic function.
enum class PublishedS5Gate {
  full_glu,  ///< out1(gelu(y)) σ(out2(gelu(y)))
  half_glu1  ///< gelu(y) σ(out2(gelu(y)))
};

/// The layer with the gate that follows it in s5/layers.py: a SequenceLayer without its norm, its
/// dropout and the sum with its input. Its GELU is ours. Of half_glu1 the first half of the gate's
/// matrix is the identity, which training moves.
///
/// Besides the names above, with "seq." before them, it reads out2.kernel (H, H), inputs before
/// outputs, and out2.bias (H), and for full_glu out1.kernel and out1.bias.
/// @param prefix what stands before all names of the module: "encoder.layers_0."
/// @throws as read_published_s5
template <class T>
[[nodiscard]] Gated<S5<T>> read_published_s5_block(const SafetensorsReader& file,
                                                   const std::string& prefix, PublishedS5Gate gate,
                                                   const PublishedS5Options& options = {}) {
  const detail::StateDict dict(file, prefix);
  S5<T> mixer = read_published_s5<T>(file, prefix + "seq.", options);
  const Index width = mixer.config.width;
  Gated<S5<T>> block({mixer.config});
  block.mixer = std::move(mixer);
  const auto read = [&](const std::string& name, Index first) {
    dict.require({name + ".kernel", name + ".bias"});
    const auto kernel = dict.read(name + ".kernel", std::array<Index, 2>{width, width});
    const auto bias = dict.read(name + ".bias", std::array<Index, 1>{width});
    for (Index r = 0; r < width; ++r) {
      block.bias(first + r) = static_cast<T>(bias(r));
      for (Index c = 0; c < width; ++c) block.weight(first + r, c) = static_cast<T>(kernel(c, r));
    }
  };
  if (gate == PublishedS5Gate::full_glu)
    read("out1", 0);
  else
    for (Index r = 0; r < width; ++r) block.weight(r, r) = T(1);
  read("out2", width);
  dict.check_finite(block);
  return block;
}

}  // namespace ssm
