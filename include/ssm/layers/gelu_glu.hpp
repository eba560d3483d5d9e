#pragma once

#include <array>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/detail/rows.hpp"

namespace ssm {
namespace detail {

/// σ's argument q in gelu(x) = x σ(q), q = 2√(2/π) (x + 0.044715 x³), and dq/dx.
template <class T>
struct GeluGate {
  static constexpr T slope = T(1.5957691216057308), cubic = T(0.044715);

  [[nodiscard]] static Vec<T> value(Vec<T> x) noexcept {
    return Vec<T>(slope) * x * fma(Vec<T>(cubic), x * x, Vec<T>(T(1)));
  }
  [[nodiscard]] static Vec<T> derivative(Vec<T> x) noexcept {
    return Vec<T>(slope) * fma(Vec<T>(3 * cubic), x * x, Vec<T>(T(1)));
  }
};

}  // namespace detail

/// y = gelu(x) in its tanh form, x σ(2√(2/π) (x + 0.044715 x³)) (Hendrycks & Gimpel 2016, section
/// 2), within 5e-4 of x Φ(x). x, y (rows, width), rows contiguous; may be the same memory.
/// @throws ShapeError
template <class T>
void gelu_forward(const Cpu& backend, const View<const T, 2>& x, const View<T, 2>& y) {
  detail::check_shape("gelu_forward", "y", y, x.extents());
  detail::check_adjacent("gelu_forward", "x", x);
  detail::check_adjacent("gelu_forward", "y", y);
  detail::for_row_vectors<T>(
      backend, x.extent(0), x.extent(1), [&](Index r, Index i, Index n) noexcept {
        const auto v = detail::Vec<T>::load(detail::at(x, r, i), n);
        (v * detail::sigmoid(detail::GeluGate<T>::value(v))).store(detail::at(y, r, i), n);
      });
}

/// dx = dy gelu′(x); dx may be the memory of dy. @throws ShapeError
template <class T>
void gelu_backward(const Cpu& backend, const View<const T, 2>& x, const View<const T, 2>& dy,
                   const View<T, 2>& dx) {
  constexpr const char* function = "gelu_backward";
  detail::check_shape(function, "dy", dy, x.extents());
  detail::check_shape(function, "the gradient of x", dx, x.extents());
  detail::check_adjacent(function, "x", x);
  detail::check_adjacent(function, "dy", dy);
  detail::check_adjacent(function, "the gradient of x", dx);
  detail::for_row_vectors<T>(
      backend, x.extent(0), x.extent(1), [&](Index r, Index i, Index n) noexcept {
        using Vec = detail::Vec<T>;
        const Vec v = Vec::load(detail::at(x, r, i), n), q = detail::GeluGate<T>::value(v);
        const Vec s = detail::sigmoid(q);
        const Vec slope =
            s * fma(v * detail::sigmoid(-q), detail::GeluGate<T>::derivative(v), Vec(T(1)));
        (slope * Vec::load(detail::at(dy, r, i), n)).store(detail::at(dx, r, i), n);
      });
}

/// The gated linear unit y = a σ(g) of rows x = [a, g] (Dauphin et al. 2017, eq. 1).
/// @param x (rows, 2 · width); y (rows, width); rows contiguous
/// @throws ShapeError
template <class T>
void glu_forward(const Cpu& backend, const View<const T, 2>& x, const View<T, 2>& y) {
  const Index rows = y.extent(0), width = y.extent(1);
  detail::check_shape("glu_forward", "x", x, std::array<Index, 2>{rows, 2 * width});
  detail::check_adjacent("glu_forward", "x", x);
  detail::check_adjacent("glu_forward", "y", y);
  detail::for_row_vectors<T>(backend, rows, width, [&](Index r, Index i, Index n) noexcept {
    using Vec = detail::Vec<T>;
    const Vec a = Vec::load(detail::at(x, r, i), n), g = Vec::load(detail::at(x, r, width + i), n);
    (a * detail::sigmoid(g)).store(detail::at(y, r, i), n);
  });
}

/// dx = [dy σ(g), dy a σ(g) σ(−g)]; dx may be the memory of x. @throws ShapeError
template <class T>
void glu_backward(const Cpu& backend, const View<const T, 2>& x, const View<const T, 2>& dy,
                  const View<T, 2>& dx) {
  constexpr const char* function = "glu_backward";
  const Index rows = dy.extent(0), width = dy.extent(1);
  detail::check_shape(function, "x", x, std::array<Index, 2>{rows, 2 * width});
  detail::check_shape(function, "the gradient of x", dx, x.extents());
  detail::check_adjacent(function, "x", x);
  detail::check_adjacent(function, "dy", dy);
  detail::check_adjacent(function, "the gradient of x", dx);
  detail::for_row_vectors<T>(backend, rows, width, [&](Index r, Index i, Index n) noexcept {
    using Vec = detail::Vec<T>;
    const Vec a = Vec::load(detail::at(x, r, i), n), g = Vec::load(detail::at(x, r, width + i), n);
    const Vec by_a = Vec::load(detail::at(dy, r, i), n) * detail::sigmoid(g);
    by_a.store(detail::at(dx, r, i), n);
    (by_a * a * detail::sigmoid(-g)).store(detail::at(dx, r, width + i), n);
  });
}

}  // namespace ssm
