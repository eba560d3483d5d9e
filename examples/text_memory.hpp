#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdio>

#include "job.hpp"
#include "ssm/core/shares.hpp"
#include "ssm/layers/in_pieces.hpp"
#include "ssm/models/mamba_lm_memory.hpp"
#include "ssm/train/text_trainer.hpp"
#include "text_models.hpp"
#include "text_place.hpp"

/// The memory that mamba_lm takes to train.
namespace text_memory {

/// How steps are cut so that they take no more than so many bytes on a rank; 0: as `options` say.
/// Throws for a run that this machine has no memory for.
template <class Model>
ssm::PieceOptions pieces_within(double bytes, const text_models::Sizes& sizes,
                                const ssm::TextTrainerOptions& options,
                                const text_place::Place& place) {
  ssm::TrainingMemory memory =
      ssm::training_memory(sizes.mamba);  // of no kind of layer is more kept
  Model blank;
  configure(blank, text_models::config_of(blank, sizes));
  memory.each_state = 0;
  auto state = make_state(blank, 0);
  tensors(state, [&](const auto&, const auto& tensor) {
    double size = sizeof(*tensor.data());
    for (std::size_t i = 1; i < tensor.extents().size(); ++i)
      size *= static_cast<double>(tensor.extent(i));
    memory.each_state += size;
  });
  const int columns = place.time_ranks(), rows = place.size() / columns;  // the first has most
  const ssm::Index batch = ssm::share_of(options.batch, 0, rows).count;
  const ssm::Index length = ssm::share_of(options.streams.length, 0, columns).count;
  const ssm::PieceOptions pieces =
      bytes > 0 ? ssm::pieces_within(bytes, memory, batch, length) : options.pieces;
  const ssm::Index steps = pieces.length > 0 ? std::min(pieces.length, length) : length;
  job::require_memory(memory.weights + memory.each_token * static_cast<double>(steps * batch) +
                          4 * memory.each_state * static_cast<double>(batch),
                      job::format("training with %.3g %s in each of %lld streams, %.3g at a time,",
                                  static_cast<double>(length), sizes.unit(),
                                  static_cast<long long>(batch), static_cast<double>(steps)));
  if (steps < length && place.first())
    std::printf("each step in pieces of %lld %s\n", static_cast<long long>(steps * columns),
                sizes.unit());
  return pieces;
}

}  // namespace text_memory
