#pragma once

#include <array>
#include <cmath>
#include <string>
#include <string_view>
#include <utility>

#include "ssm/core/checks.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/detail/positions.hpp"

namespace ssm {

/// What rotary reads.
template <class T, class Space = Host>
struct RotaryInputs {
  View<const T, 4, Space> x;  ///< (batch, length, heads, head_size), elements of a head adjacent
  View<const Index, 1, Space> steps = {};  ///< (sequences), optional: the position of the first
                                           ///< step of each sequence, 0 or more; zero when absent
  Sequences<Space> sequences = {};         ///< packed sequences, and the direction of time
};

/// What rotary_step reads.
template <class T, class Space = Host>
struct RotaryStepInputs {
  View<const T, 3, Space> x;          ///< (batch, heads, head_size), elements of a head adjacent
  View<const Index, 1, Space> steps;  ///< (batch): the position of each row, 0 or more
};

/// How rotary is to run.
struct RotaryOptions {
  double base = 10000;  ///< pair i turns by base^{−2i/head_size} radians a step; above 0, finite
};

/// What rotary writes.
template <class T, class Space = Host>
struct RotaryOutputs {
  View<T, 4, Space> y;  ///< (batch, length, heads, head_size); may be the memory of x
};

/// The gradient of a scalar loss with respect to the output, which rotary_backward reads.
template <class T, class Space = Host>
struct RotaryOutputGradients {
  View<const T, 4, Space> y;  ///< (batch, length, heads, head_size)
};

/// The gradients that rotary_backward writes.
template <class T, class Space = Host>
struct RotaryInputGradients {
  View<T, 4, Space> x;  ///< (batch, length, heads, head_size), overwritten; may be the memory of
                        ///< the gradient of y
};

/// Scratch memory of rotary and rotary_backward. It grows to the largest call, and backward reads
/// nothing that forward left in it.
template <class T, class Space = Host>
struct RotaryScratch;

template <class T>
struct RotaryScratch<T, Host> {
  double base = 0;            ///< of the angles in `turns`
  Index pairs = 0;            ///< of the angles in `turns`
  Tensor<double, 1> turns;    ///< angles of a step, then cosines and sines of the first positions
  Tensor<double, 1> origins;  ///< for each piece of rows, those of the position it counts from
  Tensor<T, 1> now;           ///< for each piece of rows, those of the present step
};

/// Moves the working memory of a scratch, which holds no result of a call, to the scratch of the
/// layer that runs next, so that the layers of a stack share it.
template <class T>
void hand_over_room(RotaryScratch<T, Host>& from, RotaryScratch<T, Host>& to) {
  std::swap(from, to);
}

namespace detail {

/// Throws DomainError for a base that gives no angle, and for heads without pairs.
inline void check_rotary_options(std::string_view function, const RotaryOptions& options,
                                 Index head_size) {
  if (!(options.base > 0 && std::isfinite(options.base)))
    throw_domain(function, "base", std::to_string(options.base), "above 0 and finite");
  if (head_size % 2 != 0)
    throw_shape(function, "head_size", std::to_string(head_size), "even, as pairs turn");
}

/// Throws DomainError for a count of steps that is none.
inline void check_steps(std::string_view function, const View<const Index, 1>& steps) {
  for (Index s = 0; steps && s < steps.extent(0); ++s)
    check_position(function, "steps", s, steps(s));
}
inline void check_steps(std::string_view, const View<const Index, 1, Device>&) {}

template <class T, class Space>
void check_rotary(std::string_view function, const RotaryInputs<T, Space>& in,
                  const RotaryOptions& options) {
  check_given(function, "x", in.x, "(batch, length, heads, head_size)");
  check_adjacent(function, "x", in.x);
  check_rotary_options(function, options, in.x.extent(3));
  check_sequences(function, in.sequences, in.x.extent(0), in.x.extent(1));
  check_optional_shape(function, "steps", in.steps,
                       std::array<Index, 1>{in.sequences.count(in.x.extent(0))});
  check_steps(function, in.steps);
}

template <class T, class Space>
void check_rotary_step(std::string_view function, const RotaryStepInputs<T, Space>& in,
                       const RotaryOptions& options, const View<T, 3, Space>& y) {
  check_rows(function, "x", in.x, in.x.extents());
  check_rotary_options(function, options, in.x.extent(2));
  check_shape(function, "steps", in.steps, std::array<Index, 1>{in.x.extent(0)});
  check_steps(function, in.steps);
  check_output_rows(function, "y", y, in.x.extents());
  check_same_or_apart(function, "y", y, "x", in.x);
}

}  // namespace detail
}  // namespace ssm
