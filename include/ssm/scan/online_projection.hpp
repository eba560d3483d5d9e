#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/checks.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/simd.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/core/view.hpp"
#include "ssm/discretize/discretize.hpp"
#include "ssm/system/hippo.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// A summary of the whole past of several streams, updated with every sample: the coefficients c_n
/// of Legendre polynomials that approximate the past u over (0, t), all of it with equal weight
/// (scaled LegS),
///
///   u(x t) ≈ Σ_n c_n √(2n + 1) P_n(2x − 1),  0 ≤ x ≤ 1,  with  c' = (A c + B u)/t
///
/// and A and B of hippo(Hippo::legs) (Gu, Dao, Ermon, Rudra & Ré 2020, theorem 2). It is a plain
/// value that can be copied; the copies are independent. After construction it does not allocate.
template <std::floating_point T>
class OnlineProjection {
 public:
  /// Starts with no sample seen.
  /// @param streams how many streams there are
  /// @param state N, the number of coefficients of each stream; about π of them are needed for
  ///   every cycle of the past
  /// @param method bilinear (accurate), backward_euler or forward_euler (unstable until t exceeds
  /// N)
  /// @throws DomainError unless streams and state are at least 1, and for a method other than these
  ///   three
  OnlineProjection(Index streams, Index state, Discretization method = Discretization::bilinear)
      : streams_(streams),
        state_(state),
        method_(method),
        across_(streams >= across_from),
        rows_(across_ ? state : (state + width - 1) / width) {
    constexpr std::string_view name = "OnlineProjection";
    if (streams < 1) detail::throw_domain(name, "streams", std::to_string(streams), "at least 1");
    if (state < 1) detail::throw_domain(name, "state", std::to_string(state), "at least 1");
    if (method != Discretization::bilinear && method != Discretization::backward_euler &&
        method != Discretization::forward_euler)
      detail::throw_domain(name, "method", "another", "bilinear, backward_euler or forward_euler");
    const Index vectors = across_ ? (state + width - 1) / width : rows_;
    groups_ = across_ ? (streams + width - 1) / width : streams;
    scaled_.resize({groups_, rows_, width});
    weights_.resize({vectors, width});
    for (Index n = 0; n < state; ++n) weights_.data()[position(n)] = static_cast<T>(2 * n + 1);
    reserve(1);
  }

  /// The number of streams.
  [[nodiscard]] Index streams() const noexcept { return streams_; }
  /// N, the number of coefficients of each stream.
  [[nodiscard]] Index state() const noexcept { return state_; }
  /// t, the number of samples seen so far.
  [[nodiscard]] Index samples() const noexcept { return samples_; }

  /// Forgets all samples.
  void reset() noexcept {
    scaled_.fill(T(0));
    samples_ = 0;
  }

  /// The coefficient c_n of one stream. A stream or n out of range ends the program.
  [[nodiscard]] T coefficient(Index stream, Index n) const noexcept {
    detail::check_or_terminate([&] {
      check_index("stream", stream, streams_);
      check_index("n", n, state_);
    });
    return scaled(stream, n) * static_cast<T>(detail::legendre_scale(n));
  }

  /// The approximation of one stream at relative time x: 0 is its first sample, 1 the last one
  /// seen. A stream out of range ends the program. Cost: O(N).
  [[nodiscard]] T reconstruct(Index stream, double x) const noexcept {
    detail::check_or_terminate([&] { check_index("stream", stream, streams_); });
    const double z = 2 * x - 1;
    double sum = 0, p = 1, before = 0;
    for (Index n = 0; n < state_; ++n) {
      const auto k = static_cast<double>(n);
      sum += static_cast<double>(scaled(stream, n)) * (2 * k + 1) * p;
      const double next = ((2 * k + 1) * z * p - k * before) / (k + 1);
      before = p;
      p = next;
    }
    return static_cast<T>(sum);
  }

  /// Takes one sample of every stream. The first sets c = [u, 0, …]; a sample that follows t others
  /// moves c by one step of the method, of size 1/t. It does not allocate, lock or throw: a shape
  /// that does not fit ends the program with the sentence of a ShapeError.
  /// @param u (streams)
  /// Cost: O(N) for each stream.
  void step(const std::type_identity_t<View<const T, 1>>& u) noexcept {
    detail::check_or_terminate(
        [&] { detail::check_shape("OnlineProjection", "u", u, std::array{streams_}); });
    advance(View<const T, 2>(u.data(), {1, streams_}, {0, u.stride(0)}), 0, groups_,
            tables_.data());
    ++samples_;
  }

  /// Takes a whole sequence, with the same bits as `step` on each of its rows, for every number of
  /// threads.
  /// @param u (length, streams)
  /// @throws ShapeError for another number of streams
  void project(const Cpu& backend, const std::type_identity_t<View<const T, 2>>& u) {
    detail::check_given("OnlineProjection", "u", u, "(length, streams)");
    detail::check_shape("OnlineProjection", "u", u, std::array{u.extent(0), streams_});
    const Index runs = (std::min<Index>)(groups_, backend.thread_count());
    reserve(runs);
    parallel_for(backend, runs, [&](Index run) {
      advance(u, groups_ * run / runs, groups_ * (run + 1) / runs,
              tables_.data() + run * tables_.extent(1));
    });
    samples_ += u.extent(0);
  }

 private:
  using Vec = detail::Vec<T>;
  static constexpr Index width = detail::lanes<T>;
  /// From so many streams on, each has a lane; fewer spread their states over the lanes.
  static constexpr Index across_from = 4;

  /// One step of the method with h = 1/t (bilinear 1/2t), for d_n = c_n/√(2n + 1): with
  /// f = m (d + h u) (explicit: d), q solves β_n⁻¹ q_n = f_n − h S_n (explicit: q = f) where
  /// S_n = Σ_{k<n} (2k + 1) q_k, and d moves by h (m u − S_n − (n + 1) q_n). Hence the first-order
  /// recurrence S_{n+1} = α_n S_n + γ_n f_n over the states, γ = (2n + 1) β, α = 1 − h γ.
  struct Step {
    T h, m, implicit_h;
  };

  static void check_index(std::string_view argument, Index i, Index count) {
    if (i < 0 || i >= count) throw_index(argument, i, count);
  }
  [[noreturn, gnu::cold, gnu::noinline]] static void throw_index(std::string_view argument, Index i,
                                                                 Index count) {
    detail::throw_domain("OnlineProjection", argument, std::to_string(i),
                         "from 0 to " + std::to_string(count - 1));
  }

  /// Where state n stands in the tables: by itself, or lane by lane in runs of rows_.
  [[nodiscard]] Index position(Index n) const noexcept {
    return across_ ? n : n % rows_ * width + n / rows_;
  }
  /// d_n = c_n/√(2n + 1).
  [[nodiscard]] T scaled(Index stream, Index n) const noexcept {
    return across_ ? scaled_(stream / width, n, stream % width)
                   : scaled_.data()[stream * rows_ * width + position(n)];
  }

  void reserve(Index runs) {
    if (tables_.extent(0) < runs) tables_.resize({runs, 4 * weights_.size()});
  }

  /// α, β, γ and h (n + 1) of a step.
  void fill_tables(const Step& step, T* table) const noexcept {
    const Index size = weights_.size();
    const Vec one(T(1)), half(T(0.5)), h(step.h), implicit_h(step.implicit_h);
    for (Index i = 0; i < size; i += width) {
      const Vec w = Vec::load(weights_.data() + i), order = half * (w + one);
      const Vec beta = one / fma(implicit_h, order, one), gamma = w * beta;
      fma(-implicit_h, gamma, one).store(table + i);
      beta.store(table + size + i);
      gamma.store(table + 2 * size + i);
      (h * order).store(table + 3 * size + i);
    }
  }

  /// Not inlined: `step` and `project` share one copy, and its rounding.
  [[gnu::noinline]] void advance(const View<const T, 2>& u, Index begin, Index end,
                                 T* table) noexcept {
    for (Index i = 0; i < u.extent(0); ++i) {
      const Index t = samples_ + i;
      Step step{};
      if (t > 0) {
        const bool middle = method_ == Discretization::bilinear;
        step.h = static_cast<T>(1.0 / (static_cast<double>(t) * (middle ? 2 : 1)));
        step.m = middle ? T(2) : T(1);
        step.implicit_h = method_ == Discretization::forward_euler ? T(0) : step.h;
        fill_tables(step, table);
      }
      for (Index group = begin; group < end; ++group) {
        T* d = scaled_.data() + group * rows_ * width;
        if (across_)
          step_across(step, t, u, i, group, table, d);
        else if (t == 0)
          d[0] = u(i, group);
        else
          step_along(step, u(i, group), table, d);
      }
    }
  }

  /// Lanes are streams; the recurrence runs over the states in time of its latency.
  void step_across(const Step& step, Index t, const View<const T, 2>& u, Index i, Index group,
                   const T* table, T* d) const noexcept {
    const Index size = weights_.size();
    alignas(detail::vector_bytes) std::array<T, static_cast<std::size_t>(width)> lane{};
    const Index count = (std::min)(width, streams_ - group * width);
    for (Index s = 0; s < count; ++s) lane[static_cast<std::size_t>(s)] = u(i, group * width + s);
    const Vec input = Vec::load(lane.data());
    if (t == 0) return input.store(d);
    const Vec m(step.m), h(step.h), implicit_h(step.implicit_h);
    const Vec pull = h * m * input, forcing = implicit_h * m * input;
    Vec S(T(0));
    for (Index n = 0; n < rows_; ++n) {
      const Vec before = Vec::load(d + n * width);
      const Vec f = fma(m, before, forcing);
      const Vec q = Vec(table[size + n]) * fma(-implicit_h, S, f);
      (before + fma(-Vec(table[3 * size + n]), q, fma(-h, S, pull))).store(d + n * width);
      S = fma(Vec(table[n]), S, Vec(table[2 * size + n]) * f);
    }
  }

  /// Lanes are runs of rows_ states. Each run is solved from S = 0, the sums are carried from lane
  /// to lane, and each run is solved again from the S that enters it.
  void step_along(const Step& step, T u, const T* table, T* d) const noexcept {
    const Index size = weights_.size();
    const Vec m(step.m), h(step.h), implicit_h(step.implicit_h);
    const Vec pull(step.h * step.m * u), forcing(step.implicit_h * step.m * u);
    Vec S(T(0)), decay(T(1));
    for (Index i = 0; i < size; i += width) {
      const Vec alpha = Vec::load(table + i);
      const Vec f = fma(m, Vec::load(d + i), forcing);
      S = fma(alpha, S, Vec::load(table + 2 * size + i) * f);
      decay = decay * alpha;
    }
    alignas(detail::vector_bytes) std::array<T, static_cast<std::size_t>(width)> sums, decays;
    S.store(sums.data());
    decay.store(decays.data());
    T carry(0);
    for (std::size_t lane = 0; lane < sums.size(); ++lane) {
      const T next = decays[lane] * carry + sums[lane];
      sums[lane] = carry;
      carry = next;
    }
    S = Vec::load(sums.data());
    for (Index i = 0; i < size; i += width) {
      const Vec before = Vec::load(d + i);
      const Vec f = fma(m, before, forcing);
      const Vec q = Vec::load(table + size + i) * fma(-implicit_h, S, f);
      (before + fma(-Vec::load(table + 3 * size + i), q, fma(-h, S, pull))).store(d + i);
      S = fma(Vec::load(table + i), S, Vec::load(table + 2 * size + i) * f);
    }
  }

  Index streams_, state_, samples_ = 0;
  Discretization method_;
  bool across_;
  Index rows_, groups_ = 0;
  Tensor<T, 3> scaled_;   // (groups, rows, width): c_n/√(2n + 1), by stream or by run of states
  Tensor<T, 2> weights_;  // (·, width): 2n + 1 in the order of the states, 0 beyond them
  Tensor<T, 2> tables_;   // (runs, 4 · states): of the present step
};

/// One step of scaled LegS with dense matrices, straight from the formulas (Gu et al. 2020,
/// appendix B.3). In double, this defines what OnlineProjection computes faster. The size of the
/// step is ln((t + 1)/t) for zero-order hold and 1/t for the other methods.
///
/// @param method how the step is discretized
/// @param samples t ≥ 1, the number of samples that c holds
/// @param u the next sample
/// @param c (state), updated
/// @throws DomainError when samples < 1, ShapeError when c is empty
/// Cost: O(N³).
template <std::floating_point T>
void online_projection_reference(Discretization method, Index samples, std::type_identity_t<T> u,
                                 Eigen::Matrix<T, Eigen::Dynamic, 1>& c) {
  constexpr std::string_view name = "online_projection_reference";
  if (samples < 1) detail::throw_domain(name, "samples", std::to_string(samples), "at least 1");
  if (c.size() < 1) detail::throw_shape(name, "c", "(0)", "at least one coefficient");
  const auto t = static_cast<T>(samples);
  const T delta = method == Discretization::zero_order_hold ? std::log1p(1 / t) : 1 / t;
  const auto system = discretize(method, hippo<T>(Hippo::legs, c.size()), delta);
  c = (system.A_bar() * c + system.B_bar() * u).eval();
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
