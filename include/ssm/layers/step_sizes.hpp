#pragma once

#include <array>
#include <string_view>
#include <type_traits>

#include "ssm/core/checks.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/elementwise.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/mamba.hpp"
#include "ssm/layers/residual.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// The step sizes that a Mamba block chose in its last forward pass (Gu & Dao 2023, section 3.5.1),
///
///   Δ = softplus(delta + dt_bias),  delta = dt_proj · dt.
///
/// They say what the block keeps of each input: over a step, state n of channel c keeps
/// exp(−Δ exp(A_log(c, n))) of itself and takes Δ B_n u. An input of Δ ≈ 0 leaves the state as it
/// is; one of large Δ takes its place.
///
/// Cost: one exponential and one logarithm for each element. Steps in no sequence, where sequences
/// are packed, have the Δ of their input.
/// @param layer, scratch those of the forward pass, with or without options.keep
/// @param delta (batch, length, channels), of the batch and the length of that pass
/// @throws ShapeError for extents that are not those of that pass
template <class T, class Matrix>
void step_sizes(const Mamba<T, Matrix>& layer, const MambaScratch<T>& scratch,
                const std::type_identity_t<View<T, 3>>& delta) {
  constexpr std::string_view function = "step_sizes";
  const Index channels = layer.config.channels();
  detail::check_given(function, "delta", delta, "(batch, length, channels)");
  const Index length = delta.extent(1);
  detail::check_shape(function, "delta", delta,
                      std::array<Index, 3>{delta.extent(0), length, channels});
  detail::check_shape(function, "dt_bias", layer.dt_bias, std::array<Index, 1>{channels});
  detail::check_shape(function, "scratch", scratch.delta,
                      std::array<Index, 2>{delta.extent(0) * length, channels});
  for (Index b = 0; b < delta.extent(0); ++b)
    for (Index t = 0; t < length; ++t)
      for (Index c = 0; c < channels; ++c)
        delta(b, t, c) = softplus(scratch.delta(b * length + t, c) + layer.dt_bias(c));
}

/// The step sizes of the Mamba block inside a residual block.
/// @param block, scratch those of the forward pass
template <class T, class Matrix>
void step_sizes(const Residual<Mamba<T, Matrix>>& block,
                const ResidualScratch<Mamba<T, Matrix>>& scratch,
                const std::type_identity_t<View<T, 3>>& delta) {
  step_sizes(block.mixer, scratch.mixer, delta);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
