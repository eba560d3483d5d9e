#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "ssm/core/index.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/io/safetensors_reader.hpp"
#include "ssm/io/state_dict.hpp"
#include "ssm/layers/gated.hpp"

/// @file
/// What the state dictionaries of S4 and S4D of github.com/state-spaces/s4 have in common.
namespace ssm {

/// Behind which function the published code stores a number x > 0.
enum class PublishedTransform {
  exp,      ///< as log x
  none,     ///< as x
  relu,     ///< as x − 1e-4
  sigmoid,  ///< as log(x/(1 − x))
  softplus  ///< as log(eˣ − 1)
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

/// Behind which functions a state dictionary has them.
struct PublishedTransforms {
  PublishedTransform decay, frequency, delta;
};

/// Under which names a state dictionary has them. B is 1 where it has no name.
struct PublishedNames {
  std::string decay, frequency, delta, B, C;
  double sign = 1;         ///< of the frequencies
  Index before_B = 0;      ///< extents of 1 before those of B
  bool directions = true;  ///< whether C has an extent for them
};

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
                                           const PublishedTransforms& stored) {
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
  const auto deltas = read_log_deltas(dict, names.delta, width, modes, stored.delta);

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
      const double log_decay = log_of_published(decay(t, n), stored.decay);
      if (!std::isfinite(log_decay))
        dict.fail_at(names.decay, t * modes + n, decay(t, n), "a decay −Re Λ above 0");
      double turn = frequency(t, n);
      if (stored.frequency != PublishedTransform::none)
        turn = std::exp(log_of_published(turn, stored.frequency));
      result.log_decay(h, n) = log_decay + shift;
      result.frequency(h, n) = names.sign * turn * scale;
      for (Index part = 0; part < 2; ++part) result.B(h, n, part) = B(t, n, part) * scale;
    }
  }
  return result;
}

/// C and D of a module.
struct PublishedOutputs {
  Tensor<double, 4> C;  ///< (directions, width, modes, 2)
  Tensor<double, 1> D;  ///< (width)
};

/// C and D, from whose shapes the sizes of the module follow.
inline PublishedOutputs read_published_outputs(const StateDict& dict, const PublishedNames& names,
                                               bool bidirectional) {
  const Index directions = bidirectional ? 2 : 1;
  const bool has_directions = names.directions || bidirectional;
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
  return {dict.read_as(names.C, of_C, std::array<Index, 4>{directions, width, modes, 2}),
          dict.read_as("D", of_D, std::array<Index, 1>{width})};
}

/// What stands before the names of the layer of a module: "layer." for an S4Block of s4.py.
inline std::string published_inner(const StateDict& dict) {
  return dict.has("layer.D") ? "layer." : "";
}

/// A layer with the output_linear of its module and its GLU.
template <class Layer>
Gated<Layer> read_published_gate(const StateDict& dict, Layer mixer) {
  Gated<Layer> block({mixer.config});
  const Index width = mixer.config.width;
  block.mixer = std::move(mixer);
  const std::string weight = "output_linear.0.weight", bias = "output_linear.0.bias";
  dict.require({weight, bias});
  std::vector<Index> want{2 * width, width};
  if (dict.shape(weight).size() == 3) want.push_back(1);  // a convolution of one tap
  assign_elements(block.weight, dict.read_as(weight, want, std::array<Index, 2>{2 * width, width}));
  assign_elements(block.bias, dict.read(bias, std::array<Index, 1>{2 * width}));
  dict.check_finite(block);
  return block;
}

}  // namespace detail

}  // namespace ssm
