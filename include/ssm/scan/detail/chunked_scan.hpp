#pragma once

#include <algorithm>
#include <complex>
#include <cstddef>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/sequences.hpp"
#include "ssm/core/view.hpp"
#include "ssm/discretize/discretize.hpp"
#include "ssm/discretize/mode_slopes.hpp"
#include "ssm/scan/detail/chunk_tables.hpp"
#include "ssm/scan/detail/time_tiles.hpp"
#include "ssm/scan/diagonal_scan_types.hpp"

namespace ssm {
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// Calls body(first, count, scratch) for blocks of channels that share the lines of a row in
/// memory, fewer where threads would be idle.
template <class T, class K, class Body>
void for_channel_blocks(const Cpu& backend, Index channels, DiagonalScanScratch<T, K>& scratch,
                        const Body& body) {
  const Index threads = backend.thread_count();
  const Index block = std::clamp<Index>((channels + threads - 1) / threads, 1, lanes<T>);
  const Index blocks = (channels + block - 1) / block, runs = (std::min)(blocks, threads);
  if (static_cast<Index>(scratch.threads.size()) < runs)
    scratch.threads.resize(static_cast<std::size_t>(runs));
  parallel_for(backend, runs, [&](Index run) {
    for (Index i = blocks * run / runs; i < blocks * (run + 1) / runs; ++i)
      body(i * block, (std::min)(block, channels - i * block),
           scratch.threads[static_cast<std::size_t>(run)]);
  });
}

/// The diagonal scan of a block of at most lanes<T> channels. A tile of time, a few chunks of every
/// channel of the block, is transposed so that a row holds one chunk of one channel and the state
/// that enters it; then each channel goes through the tile by its own tables.
template <class T, class K>
class ChunkedScan {
  using Shape = ChunkShape<T, K>;
  using Tables = ChunkTables<T, K>;
  using Gradients = ChunkGradients<T, K>;
  static constexpr Index L = Shape::chunk, W = lanes<T>;
  static constexpr Index tile_rows = 32, tile_steps = tile_rows * L;
  static constexpr Index group_rows = vector_registers / 4;  // of one pass of small_product

 public:
  ChunkedScan(const DiagonalScanInputs<T, K>& in, const DiagonalScanOptions& options, Index first,
              Index count, typename DiagonalScanScratch<T, K>::Thread& scratch)
      : method_(options.method),
        in_(in),
        first_(first),
        count_(count),
        shape_{in.lambda.extent(1)},
        scratch_(scratch) {}

  void forward(const DiagonalScanOutputs<T, K>& out) {
    prepare(false);
    for (Index s = 0; s < in_.sequences.count(in_.u.extent(0)); ++s) {
      select(s);
      load_states(in_.initial_state, s, rows_);
      if (length_ == 0) store_states(out.final_state, s, rows_, row_buffer());
      for (Index begin = 0; begin < length_; begin += tile_steps) {
        const Index steps = (std::min)(tile_steps, length_ - begin), chunks = (steps + L - 1) / L;
        load_tile(in_.u, begin, steps, rows_);
        for (Index c = 0; c < count_; ++c) {
          const Tables tables = tables_of(c);
          for (Index r = 0; r < chunks; r += group_rows) {
            const Index group = (std::min)(group_rows, chunks - r);
            advance(c, r, group);
            small_product<false, T, true>({rows_of(c) + r * shape_.row(), shape_.row()},
                                          {tables.output, L}, {out_of(c) + r * L, L}, group,
                                          L + shape_.state(), L);
          }
        }
        store_tile(out.y, begin, steps);
        if (begin + steps < length_) {
          for (Index c = 0; c < count_; ++c)
            std::copy_n(state_of(c, chunks), shape_.padded(), state_of(c, 0));
        } else if (out.final_state) {
          if (steps % L != 0)
            for (Index c = 0; c < count_; ++c) leave_early(c, chunks - 1, steps % L);
          store_states(out.final_state, s, rows_ + chunks * shape_.row(), row_buffer());
        }
      }
    }
  }

  template <class OutputGradients, class InputGradients>
  void backward(const OutputGradients& dout, const InputGradients& din) {
    prepare(true);
    for (Index s = 0; s < in_.sequences.count(in_.u.extent(0)); ++s) {
      select(s);
      const Index tiles = (length_ + tile_steps - 1) / tile_steps;
      load_states(in_.initial_state, s, rows_);
      for (Index tile = 0; tile + 1 < tiles; ++tile) {
        load_tile(in_.u, tile * tile_steps, tile_steps, rows_);
        for (Index c = 0; c < count_; ++c) {
          std::copy_n(state_of(c, 0), shape_.padded(), edge_of(tile, c));
          advance(c, 0, tile_rows);
          std::copy_n(state_of(c, tile_rows), shape_.padded(), state_of(c, 0));
        }
      }
      load_states(dout.final_state, s, gradient_rows_);
      for (Index tile = tiles - 1; tile >= 0; --tile) {
        const Index begin = tile * tile_steps, steps = (std::min)(tile_steps, length_ - begin);
        load_tile(in_.u, begin, steps, rows_);
        load_tile(dout.y, begin, steps, gradient_rows_ + shape_.row());
        for (Index c = 0; c < count_; ++c) {
          if (tile + 1 < tiles) std::copy_n(edge_of(tile, c), shape_.padded(), state_of(c, 0));
          turn_back(c, steps);
        }
        if (din.u) store_tile(din.u, begin, steps);
      }
      store_states(din.initial_state, s, gradient_rows_, row_buffer());
    }
    for (Index c = 0; c < count_; ++c) store_gradients(c, din);
  }

 private:
  /// Turns to one sequence.
  void select(Index sequence) noexcept {
    const auto [row, begin, end] = span_of(in_.sequences, sequence, in_.u.extent(1));
    row_ = row;
    begin_ = begin;
    length_ = end - begin;
  }

  /// Room for everything, and the tables of each channel.
  void prepare(bool gradients) {
    const Index N = shape_.modes;
    Index longest = 0;
    for (Index s = 0; s < in_.sequences.count(in_.u.extent(0)); ++s)
      longest = (std::max)(longest, span_of(in_.sequences, s, in_.u.extent(1)).length());
    const Index tiles = (longest + tile_steps - 1) / tile_steps;
    const Index tables = Tables::size(shape_, gradients), sums = Gradients::size(shape_);
    Index size = count_ * (tables + row_buffer() + tile_steps);
    if (gradients)
      size += count_ * (row_buffer() + sums + (std::max<Index>)(tiles - 1, 0) * shape_.padded());
    if (scratch_.narrow.size() < size + shape_.padded())
      scratch_.narrow.resize({size + shape_.padded()});
    const Index doubles = count_ * (ChunkSystem::size(N) + 2 * N) + table_scratch<T, K>(N) + 6 * N;
    if (scratch_.wide.size() < doubles) scratch_.wide.resize({doubles});
    tables_ = scratch_.narrow.data();
    rows_ = tables_ + count_ * tables;
    out_ = rows_ + count_ * row_buffer();
    leaving_ = out_ + count_ * tile_steps;
    systems_ = scratch_.wide.data();
    early_ = systems_ + count_ * ChunkSystem::size(N);
    table_room_ = early_ + count_ * 2 * N;
    table_size_ = tables;
    if (gradients) {
      gradient_rows_ = leaving_ + shape_.padded();
      sums_ = gradient_rows_ + count_ * row_buffer();
      edges_ = sums_ + count_ * sums;
      std::fill_n(sums_, count_ * sums, T(0));
      std::fill_n(early_, count_ * 2 * N, 0.0);
    }
    for (Index c = 0; c < count_; ++c) {
      const ChunkSystem system = system_of(c);
      for (Index n = 0; n < N; ++n) {
        const auto put = [n](double* re, double* im, std::complex<double> value) {
          re[n] = value.real();
          im[n] = value.imag();
        };
        const auto mode = discretize(method_, wide(in_.lambda, c, n), delta_of(c));
        put(system.a_re, system.a_im, mode.a_bar);
        put(system.g_re, system.g_im, mode.b_bar_factor);
        put(system.B_re, system.B_im, wide(in_.B, c, n));
        put(system.C_re, system.C_im, wide(in_.C, c, n));
      }
      fill_tables<T, K>(system, shape_, gradients, table_room_, tables_of(c));
    }
  }

  /// The states at the edges of `chunks` chunks, from chunk `first` on.
  void advance(Index c, Index first, Index chunks) noexcept {
    const Index row = shape_.row();
    const Tables tables = tables_of(c);
    T* const x = state_of(c, first);
    small_product<false, T>({x - L, row}, {tables.input, shape_.padded()}, {x + row, row}, chunks,
                            L, shape_.padded());
    carry<false>(shape_.modes, tables.step, x, row, chunks);
  }

  /// From a state to the next, `row` elements on, `count` times: next += step · state, or the
  /// conjugate of step. States stay in registers on their way.
  template <bool Adjoint>
  static void carry(Index N, const T* step, T* x, Index row, Index count) noexcept {
    Index n = 0;
    for (; n + W <= N; n += W)
      carry_modes<Adjoint>(N, step + n, x + n, row, count, std::integral_constant<Index, W>());
    if (n < N) carry_modes<Adjoint>(N, step + n, x + n, row, count, N - n);
  }
  /// The same for `modes` of a vector: all of its lanes where that is a constant.
  template <bool Adjoint, class Modes>
  static void carry_modes(Index N, const T* step, T* x, Index row, Index count,
                          Modes modes) noexcept {
    const auto load = [&](const T* from) {
      if constexpr (std::is_same_v<Modes, Index>)
        return Vec<T>::load(from, modes);
      else
        return Vec<T>::load(from);
    };
    const auto store = [&](Vec<T> value, T* to) {
      if constexpr (std::is_same_v<Modes, Index>)
        value.store(to, modes);
      else
        value.store(to);
    };
    const Vec<T> a_re = load(step);
    Vec<T> re = load(x);
    if constexpr (!Shape::is_complex) {
      for (Index r = 0; r < count; ++r) {
        x += row;
        re = fma(a_re, re, load(x));
        store(re, x);
      }
    } else {
      const Vec<T> given = load(step + N), a_im = Adjoint ? -given : given, minus = -a_im;
      Vec<T> im = load(x + N);
      for (Index r = 0; r < count; ++r) {
        x += row;
        const Vec<T> before = re;
        re = fma(a_re, re, fma(minus, im, load(x)));
        im = fma(a_re, im, fma(a_im, before, load(x + N)));
        store(re, x);
        store(im, x + N);
      }
    }
  }

  /// ā^steps of one channel, in `leaving_`.
  void fill_power(Index c, Index steps) noexcept {
    const ChunkSystem system = system_of(c);
    for (Index n = 0; n < shape_.modes; ++n) {
      std::complex<double> power = 1.0, a(system.a_re[n], system.a_im[n]);
      for (Index e = steps; e > 0; e /= 2, a = complex_product(a, a))
        if (e % 2 == 1) power = complex_product(power, a);
      leaving_[n] = static_cast<T>(power.real());
      if constexpr (Shape::is_complex) leaving_[shape_.modes + n] = static_cast<T>(power.imag());
    }
  }

  /// The state after `steps` of a chunk, in the place of that after the chunk.
  void leave_early(Index c, Index chunk, Index steps) noexcept {
    const Tables tables = tables_of(c);
    const T* u = rows_of(c) + chunk * shape_.row();
    T* x = state_of(c, chunk + 1);
    std::fill_n(x, shape_.state(), T(0));
    for (Index j = 0; j < steps; ++j) {
      const T* input = tables.input + (L - steps + j) * shape_.padded();
      for (Index n = 0; n < shape_.state(); ++n) x[n] += input[n] * u[j];
    }
    fill_power(c, steps);
    carry<false>(shape_.modes, leaving_, state_of(c, chunk), shape_.row(), 1);
  }

  /// One tile of one channel backward. Row r + 1 of the gradients holds ∂y of chunk r and the
  /// gradient of the state that leaves it; that of the state after the tile comes in row 0.
  void turn_back(Index c, Index steps) noexcept {
    const Index row = shape_.row(), padded = shape_.padded(), N = shape_.modes;
    const Index chunks = (steps + L - 1) / L, rest = steps % L;
    const Tables tables = tables_of(c);
    const Gradients sums = gradients_of(c);
    const T* const u = rows_of(c);
    const T* const x = state_of(c, 0);
    T* const dy = gradient_rows_ + c * row_buffer() + row;
    T* const dx = dy - row + L;  // of the state that enters the first chunk
    advance(c, 0, chunks);

    T* const last = dx + chunks * row;
    std::copy_n(dx, padded, rest == 0 ? last : early_gradient(c));
    if (rest != 0) std::fill_n(last, padded, T(0));
    // Most sequences end without a gradient of their state, and then nothing enters within a chunk.
    const auto is_given = [](T gradient) { return gradient != T(0); };
    const bool enters_early =
        rest != 0 && std::any_of(early_gradient(c), early_gradient(c) + shape_.state(), is_given);
    small_product<false, T>({dy, row}, {tables.output_adjoint, padded}, {dx, row}, chunks, L,
                            padded);
    if (enters_early) {
      fill_power(c, rest);
      carry<true>(N, leaving_, early_gradient(c), last - row - early_gradient(c), 1);
    }
    const Index whole = steps / L;
    carry<true>(N, tables.step, dx + whole * row, -row, whole);
    for (Index r = whole - 1; r >= 0; --r)
      add_products(N, dx + (r + 1) * row, x + r * row, sums.step);

    small_product<false, T>({dy, row}, {tables.adjoint, L}, {out_of(c), L}, chunks,
                            L + shape_.state(), L);
    small_product<true, T>({u, 1, row}, {dy, row}, {sums.input, row}, L, chunks, row);
    small_product<true, T>({dy, 1, row}, {x, row}, {sums.output, padded}, L, chunks, padded);
    if (enters_early) turn_back_early(c, chunks - 1, rest);
  }

  /// What the end of a sequence within a chunk sends back, but for its carry.
  void turn_back_early(Index c, Index chunk, Index steps) noexcept {
    const Index row = shape_.row(), N = shape_.modes;
    const T* const dx = early_gradient(c);
    const T* const u = rows_of(c) + chunk * row;
    const T* const x = state_of(c, chunk);
    T* const du = out_of(c) + chunk * L;
    for (Index j = 0; j < steps; ++j) {
      const Index at = L - steps + j;
      const T* input = tables_of(c).input + at * shape_.padded();
      T* sum = gradients_of(c).input + at * row + L;
      for (Index n = 0; n < shape_.state(); ++n) {
        du[j] += input[n] * dx[n];
        sum[n] += u[j] * dx[n];
      }
    }
    const ChunkSystem system = system_of(c);
    for (Index n = 0; n < N; ++n) {
      std::complex<double> power = static_cast<double>(steps);
      for (Index i = 1; i < steps; ++i)
        power = complex_product(power, {system.a_re[n], system.a_im[n]});
      const auto complex = [&](const T* at, double sign) {
        return std::complex<double>(static_cast<double>(at[n]),
                                    Shape::is_complex ? sign * static_cast<double>(at[N + n]) : 0);
      };
      const std::complex<double> p =
          complex_product(complex_product(complex(dx, -1), complex(x, 1)), power);
      early_[2 * (c * N + n)] += p.real();
      early_[2 * (c * N + n) + 1] += p.imag();
    }
  }

  /// sum += dx conj(x)
  static void add_products(Index N, const T* dx, const T* x, T* sum) noexcept {
    T* __restrict__ to = sum;
    for (Index n = 0; n < N; ++n) {
      if constexpr (Shape::is_complex) {
        to[n] += dx[n] * x[n] + dx[N + n] * x[N + n];
        to[N + n] += dx[N + n] * x[n] - dx[n] * x[N + n];
      } else {
        to[n] += dx[n] * x[n];
      }
    }
  }

  template <class InputGradients>
  void store_gradients(Index c, const InputGradients& din) noexcept {
    using Complex = std::complex<double>;
    const Index N = shape_.modes, channel = first_ + c;
    const ChunkSystem system = system_of(c);
    auto* const room = reinterpret_cast<Complex*>(table_room_ + table_scratch<T, K>(N));
    ModeGradients p{room, room + N, room + 2 * N, 0};
    std::fill_n(room, 3 * N, Complex(0));
    gather_tables<T, K>(system, shape_, gradients_of(c), table_room_, p);
    double delta_gradient = 0;
    for (Index n = 0; n < N; ++n) {
      const auto give = [&](const View<K, 2>& to, Complex value) {
        if (to) to(channel, n) = narrow(std::conj(value));
      };
      const Complex p_a = p.a[n] + Complex(early_[2 * (c * N + n)], early_[2 * (c * N + n) + 1]);
      const Complex p_g = p.b[n] * Complex(system.B_re[n], system.B_im[n]);
      const auto slopes = discretize_slopes(method_, wide(in_.lambda, c, n), delta_of(c));
      give(din.C, p.C[n]);
      give(din.B, p.b[n] * Complex(system.g_re[n], system.g_im[n]));
      give(din.lambda, p_a * slopes.a_by_lambda + p_g * slopes.b_by_lambda);
      delta_gradient += (p_a * slopes.a_by_delta + p_g * slopes.b_by_delta).real();
    }
    if (din.D) din.D(channel) = static_cast<T>(p.D);
    if (din.delta) din.delta(channel) = static_cast<T>(delta_gradient);
  }

  void load_tile(const View<const T, 3>& from, Index begin, Index steps, T* to) const noexcept {
    load_chunks<T>(block_of(from, begin, steps), L, to, row_buffer(), shape_.row());
  }
  void store_tile(const View<T, 3>& to, Index begin, Index steps) const noexcept {
    store_chunks<T>(out_, tile_steps, block_of(to, begin, steps));
  }
  /// (steps, channels) of the block, in the order of time.
  template <class U>
  [[nodiscard]] View<U, 2> block_of(const View<U, 3>& view, Index begin,
                                    Index steps) const noexcept {
    const View<U, 2> sequence = view[row_].slice(0, begin_, length_).slice(1, first_, count_);
    return (in_.sequences.reversed ? sequence.reversed(0) : sequence).slice(0, begin, steps);
  }

  /// States of the block into the first row of each channel.
  void load_states(const View<const K, 3>& from, Index s, T* rows) const noexcept {
    const Index N = shape_.modes;
    for (Index c = 0; c < count_; ++c) {
      T* const x = rows + c * row_buffer() + L;
      std::fill_n(x, shape_.padded(), T(0));
      for (Index n = 0; from && n < N; ++n) {
        const K value = from(s, first_ + c, n);
        x[n] = std::real(value);
        if constexpr (Shape::is_complex) x[N + n] = std::imag(value);
      }
    }
  }
  void store_states(const View<K, 3>& to, Index s, const T* rows, Index buffer) const noexcept {
    const Index N = shape_.modes;
    if (!to) return;
    for (Index c = 0; c < count_; ++c)
      for (Index n = 0; n < N; ++n) {
        const T* const x = rows + c * buffer + L;
        if constexpr (Shape::is_complex)
          to(s, first_ + c, n) = K(x[n], x[N + n]);
        else
          to(s, first_ + c, n) = x[n];
      }
  }

  [[nodiscard]] std::complex<double> wide(const View<const K, 2>& view, Index c,
                                          Index n) const noexcept {
    return std::complex<double>(view(first_ + c, n));
  }
  static K narrow(std::complex<double> value) noexcept {
    if constexpr (Shape::is_complex)
      return K(value);
    else
      return static_cast<K>(value.real());
  }
  [[nodiscard]] double delta_of(Index c) const noexcept {
    return static_cast<double>(in_.delta.constant(first_ + c));
  }
  [[nodiscard]] ChunkSystem system_of(Index c) const noexcept {
    ChunkSystem system =
        ChunkSystem::place(systems_ + c * ChunkSystem::size(shape_.modes), shape_.modes);
    system.D = in_.D ? static_cast<double>(in_.D(first_ + c)) : 0.0;
    return system;
  }
  [[nodiscard]] Tables tables_of(Index c) const noexcept {
    return Tables::place(tables_ + c * table_size_, shape_);
  }
  [[nodiscard]] Gradients gradients_of(Index c) const noexcept {
    return Gradients::place(sums_ + c * Gradients::size(shape_), shape_);
  }
  [[nodiscard]] Index row_buffer() const noexcept { return (tile_rows + 1) * shape_.row(); }
  [[nodiscard]] T* rows_of(Index c) const noexcept { return rows_ + c * row_buffer(); }
  [[nodiscard]] T* state_of(Index c, Index chunk) const noexcept {
    return rows_of(c) + chunk * shape_.row() + L;
  }
  [[nodiscard]] T* out_of(Index c) const noexcept { return out_ + c * tile_steps; }
  [[nodiscard]] T* edge_of(Index tile, Index c) const noexcept {
    return edges_ + (tile * count_ + c) * shape_.padded();
  }
  /// Of the state after a sequence that ends within a chunk: the row after the last is free then.
  [[nodiscard]] T* early_gradient(Index c) const noexcept {
    return rows_of(c) + tile_rows * shape_.row() + L;
  }

  Discretization method_;
  const DiagonalScanInputs<T, K>& in_;
  Index first_, count_;
  Index row_ = 0, begin_ = 0, length_ = 0;  // of the sequence at hand
  Shape shape_;
  typename DiagonalScanScratch<T, K>::Thread& scratch_;
  Index table_size_ = 0;
  T *tables_ = nullptr, *rows_ = nullptr, *out_ = nullptr, *leaving_ = nullptr;
  T *gradient_rows_ = nullptr, *sums_ = nullptr, *edges_ = nullptr;
  double *systems_ = nullptr, *early_ = nullptr, *table_room_ = nullptr;
};

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
}  // namespace ssm
