#pragma once

#include <algorithm>
#include <array>
#include <complex>
#include <string_view>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/checks.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/pieces.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/passed_states.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/scan/decay_gradient_types.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// The gradient with respect to a coefficient a that is the same at every step of a linear scan
/// x_t = a x_{t−1} + b_t:
///
///   ∂a = Σ_t g_t conj(x_{t−1}),  summed over all steps of all sequences,
///
/// where g_t = ∂b_t is the gradient of b that linear_scan_backward gives. (linear_scan_backward
/// itself treats a as different at every step, and gives the terms of this sum.)
/// @throws ShapeError, DomainError for offsets that run backward or past the end
/// Cost: 4 multiply-adds an element; the same bits for every number of threads.
template <class T>
void decay_gradient(const Cpu& backend, const DecayGradientInputs<T>& inputs,
                    const DecayGradientOptions&,
                    const std::type_identity_t<DecayGradientOutputs<T>>& outputs,
                    DecayGradientScratch<T>& scratch) {
  using Complex = std::complex<T>;
  constexpr std::string_view function = "decay_gradient";
  const auto& [g, x, initial, sequences] = inputs;
  detail::check_given(function, "g", g, "(batch, length, channels)");
  const Index batch = g.extent(0), length = g.extent(1), channels = g.extent(2);
  detail::check_sequences(function, sequences, batch, length);
  const Index count = sequences.count(batch);
  detail::check_shape(function, "x", x, g.extents());
  detail::check_optional_shape(function, "initial_state", initial,
                               std::array<Index, 2>{count, channels});
  detail::check_shape(function, "the gradient of a", outputs.a, std::array<Index, 1>{channels});
  const auto check_contiguous = [&](std::string_view name, const auto& view) {
    if (view && !view.contiguous())
      detail::throw_shape(function, name, "strided as " + detail::to_string(view.strides()),
                          "contiguous");
  };
  check_contiguous("g", g);
  check_contiguous("x", x);
  check_contiguous("initial_state", initial);
  const detail::Pieces pieces(batch * length, 64);
  scratch.partials.resize({pieces.pieces, channels});
  parallel_for(backend, pieces.pieces, [&](Index piece) {
    T* const sum = reinterpret_cast<T*>(scratch.partials.data() + piece * channels);
    std::fill_n(sum, 2 * channels, T(0));
    const auto start = [&](Index s) {
      return inputs.sequences.offsets ? inputs.sequences.offsets(s) : s * length;
    };
    Index s = 0;
    for (Index r = pieces.begin(piece); r < pieces.end(piece); ++r) {
      while (start(s + 1) <= r) ++s;
      const Index before = inputs.sequences.reversed ? r + 1 : r - 1;
      const bool inside = before >= start(s) && before < start(s + 1);
      if (!inside && !inputs.initial_state) continue;
      const T* from =
          reinterpret_cast<const T*>(inside ? inputs.x.data() + before * channels
                                            : inputs.initial_state.data() + s * channels);
      const T* slope = reinterpret_cast<const T*>(inputs.g.data() + r * channels);
      for (Index i = 0; i < 2 * channels; i += 2) {
        sum[i] += slope[i] * from[i] + slope[i + 1] * from[i + 1];
        sum[i + 1] += slope[i + 1] * from[i] - slope[i] * from[i + 1];
      }
    }
  });
  for (Index n = 0; n < channels; ++n) {
    std::complex<double> sum = 0;
    for (Index piece = 0; piece < pieces.pieces; ++piece)
      sum += std::complex<double>(scratch.partials(piece, n));
    outputs.a(n) = Complex(sum);
  }
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
