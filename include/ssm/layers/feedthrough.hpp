#pragma once

#include <algorithm>
#include <array>
#include <string_view>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/checks.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/detail/rows.hpp"
#include "ssm/layers/feedthrough_types.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// y += D u
template <class T>
void add_feedthrough(const Cpu& backend, const View<const T, 2>& u, const View<const T, 1>& D,
                     const View<T, 2>& y) {
  for_row_vectors<T>(backend, u.extent(0), u.extent(1), [&](Index r, Index i, Index n) {
    fma(Vec<T>::load(D.data() + i, n), Vec<T>::load(at(u, r, i), n), Vec<T>::load(at(y, r, i), n))
        .store(at(y, r, i), n);
  });
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// y += D u, element by element: the part of an output that is its own input times D.
/// Cost: one multiply-add for each element. The bits are the same for every number of threads.
/// @throws ShapeError for extents that do not fit and rows that are not adjacent
template <class T>
void feedthrough(const Cpu& backend, const FeedthroughInputs<T>& inputs, const FeedthroughOptions&,
                 const std::type_identity_t<FeedthroughOutputs<T>>& outputs,
                 FeedthroughScratch<T>&) {
  constexpr std::string_view function = "feedthrough";
  const auto& [u, D] = inputs;
  detail::check_rows(function, "u", u, u.extents());
  detail::check_rows(function, "D", D, std::array<Index, 1>{u.extent(1)});
  detail::check_output_rows(function, "y", outputs.y, u.extents());
  detail::add_feedthrough<T>(backend, u, D, outputs.y);
}

/// The gradients of feedthrough: ∂u_t += D ∂y_t, ∂D = Σ_t ∂y_t u_t.
/// Cost: twice feedthrough. The bits are the same for every number of threads.
/// @throws ShapeError as feedthrough
template <class T>
void feedthrough_backward(const Cpu& backend, const FeedthroughInputs<T>& inputs,
                          const FeedthroughOptions&,
                          const std::type_identity_t<FeedthroughOutputGradients<T>>& dout,
                          const std::type_identity_t<FeedthroughInputGradients<T>>& din,
                          FeedthroughScratch<T>& scratch) {
  constexpr std::string_view function = "feedthrough_backward";
  const auto& [u, D] = inputs;
  const auto& dy = dout.y;
  const Index rows = u.extent(0), width = u.extent(1);
  detail::check_rows(function, "u", u, u.extents());
  detail::check_rows(function, "D", D, std::array<Index, 1>{width});
  detail::check_rows(function, "the gradient of y", dy, u.extents());
  detail::check_output_rows(function, "the gradient of u", din.u, u.extents());
  detail::check_shape(function, "the gradient of D", din.D, std::array<Index, 1>{width});
  const detail::Pieces pieces(rows, 64);
  scratch.partials.resize({pieces.pieces, width});
  parallel_for(for_elements(backend, u.size()), pieces.pieces, [&](Index piece) {
    T* const sum = scratch.partials.data() + piece * width;
    std::fill_n(sum, width, T(0));
    for (Index r = pieces.begin(piece); r < pieces.end(piece); ++r) {
      const T *dy_row = detail::at(dout.y, r, 0), *u_row = detail::at(inputs.u, r, 0);
      for (Index c = 0; c < width; ++c) sum[c] += dy_row[c] * u_row[c];
    }
  });
  for (Index c = 0; c < width; ++c) {
    din.D(c) = T(0);
    for (Index piece = 0; piece < pieces.pieces; ++piece) din.D(c) += scratch.partials(piece, c);
  }
  detail::add_feedthrough<T>(backend, dy, D, din.u);
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE_OPERATION(feedthrough, Feedthrough, float)
SSM_INSTANCE_OPERATION(feedthrough, Feedthrough, double)
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
