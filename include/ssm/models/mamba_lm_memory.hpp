#pragma once

#include <algorithm>
#include <string>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/layers/in_pieces.hpp"
#include "ssm/models/mamba_lm.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// What a step of training a Mamba language model takes, in bytes. An estimate, a little above what
/// is taken; the tests hold it to that.
struct TrainingMemory {
  double weights = 0;     ///< with gradients, those of a piece, two moments and an average
  double each_token = 0;  ///< what `loss` keeps of a token until backward is done
  double each_state = 0;  ///< what a state at a cut takes, for one sequence
};

/// The memory of training a model of this configuration with elements of type T.
template <class T = float>
[[nodiscard]] TrainingMemory training_memory(const MambaLMConfig& config) {
  MambaLM<T> blank;
  configure(blank, mamba_lm_config<T>(config));
  double count = 0;
  parameters(blank, [&](const auto&, const auto&, const auto& extents, bool) {
    double size = 1;
    for (const Index extent : extents) size *= static_cast<double>(extent);
    count += size;
  });
  const MambaConfig block = config.block();
  const auto real = [](Index x) { return static_cast<double>(x); };
  const double channels = real(block.channels()), width = real(config.width),
               state = real(config.state), layers = real(config.layers);
  // Of each layer: x, z, u, delta, y and states now and then; its input, before and after the norm;
  // dt, B and C, before and after theirs.
  const double kept = (6 + state / 16) * channels + 2 * width +
                      (block.normalizes() ? 2 : 1) * real(block.projections());
  // Of the layer at work: the gradients of these. Of the model: embedding, stream, logits.
  const double shared = 11 * channels + 6 * width + 3 * real(config.vocab);
  return {sizeof(T) * 6 * count, sizeof(T) * (layers * kept + shared),
          sizeof(T) * layers * channels * (state + real(config.conv_width - 1))};
}

/// The longest pieces for which `loss_in_pieces` on `batch` sequences of `length` tokens, with the
/// optimizer beside it, stays within so many bytes. A length of that of the sequences: no cut.
/// @throws DomainError where not even pieces of 64 tokens do
[[nodiscard]] inline PieceOptions pieces_within(double bytes, const TrainingMemory& memory,
                                                Index batch, Index length) {
  const auto sequences = static_cast<double>((std::max)(batch, Index{1}));
  const double token = sequences * memory.each_token, state = sequences * memory.each_state;
  const double room = bytes - memory.weights;
  if (room >= token * static_cast<double>(length)) return {.length = (std::max)(length, Index{1})};
  constexpr Index shortest = 64, fewest = 2;
  // A quarter is for states, and for those that pieces begin and end with.
  const double states = room / 4 / (state > 0 ? state : 1) - 4, steps = 0.75 * room / token;
  if (!(states >= fewest && steps >= shortest)) {
    const double least =
        memory.weights + (std::max)(4 * (fewest + 5) * state, shortest * token / 0.75);
    detail::throw_domain("pieces_within", "bytes", std::to_string(bytes),
                         "at least " + std::to_string(least));
  }
  PieceOptions pieces;
  pieces.length = static_cast<Index>((std::min)(steps, static_cast<double>(length)));
  pieces.states = static_cast<Index>((std::min)(states, 1e6));
  return pieces;
}

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
