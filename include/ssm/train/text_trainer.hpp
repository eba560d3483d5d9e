#pragma once

#include <cmath>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/shares.hpp"
#include "ssm/layers/deal.hpp"
#include "ssm/layers/detail/two_directions.hpp"
#include "ssm/layers/dropout.hpp"
#include "ssm/layers/in_pieces.hpp"
#include "ssm/layers/layer.hpp"
#include "ssm/layers/states.hpp"
#include "ssm/models/language_model_in_pieces.hpp"
#include "ssm/train/text_streams.hpp"
#include "ssm/train/text_view.hpp"
#include "ssm/train/trainer.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// How a language model is trained on text.
struct TextTrainerOptions {
  Index batch = 16;             ///< parallel streams
  StreamOptions streams = {};   ///< how the text is read
  TrainerOptions trainer = {};  ///< schedule, optimizer, clipping and averaging
  double dropout = 0;           ///< probability that an element of what a layer adds is dropped
  PieceOptions pieces = {.length = 0};  ///< a step of which one process has more than pieces.length
                                        ///< is run in pieces, for the memory of one; 0: never
};

/// Trains a language model on the bytes or the tokens of a text, by truncated backpropagation
/// through time: at every step each of `batch` streams reads on from the state in which it stopped.
/// The gradient is exact within a step, which may be as long as the text: see options.pieces.
///
/// Over ranks every one makes the same trainer and the same calls, and reads its share of the text
/// alone: of each stream the piece that it holds, in a Grid of the streams of its row. Weights,
/// optimizer and states are the same on all ranks, those of one cpu to rounding (dropout drops
/// others), so that one rank may save the run, and any number of them go on with it.
///
/// `Model` is a LanguageModel, or a type with the same functions: make_state, tensors of its state,
/// loss(backend, model, tokens, targets, state, gradients, options, scratch), and loss_in_pieces.
template <class Model>
class TextTrainer {
 public:
  TextTrainerOptions options;     ///< all but the batch may be changed between steps
  Trainer<Model> trainer;         ///< weights and optimizer; its options follow those above
  typename Model::State carried;  ///< the model's state of every stream, on every rank
  TextStreams streams;            ///< where each stream reads

  TextTrainer() = default;
  /// A run before its first step.
  /// @throws DomainError for options out of range, and for a model of bidirectional layers
  explicit TextTrainer(Model start, const TextTrainerOptions& o)
      : options(o),
        trainer(std::move(start), o.trainer),
        carried(make_state(trainer.model, check(o).batch)),
        streams(o.batch) {
    detail::check_runs_with_time("TextTrainer", "model", carried);
  }

  /// The number of steps done so far.
  [[nodiscard]] Index steps() const noexcept { return trainer.steps(); }

  /// One step on what every stream reads next. A step whose loss is not finite changes no weight,
  /// and the streams whose state it made NaN or infinite start anew.
  /// @param text the same at every step: bytes, or tokens of the model's vocabulary
  /// @throws DomainError unless the text has at least length + 1 bytes or tokens, for tokens
  /// outside of the vocabulary, and for options out of range
  template <class Backend>
  TrainingReport step(const Backend& backend, const TextView& text) {
    trainer.options = check(options).trainer;
    if (const auto made = static_cast<Index>(streams.positions.size()); options.batch != made)
      detail::throw_domain("TextTrainer", "batch", std::to_string(options.batch),
                           std::to_string(made) + ", which it was made with");
    trainer.check();
    const Share own = sequences_of(backend, options.batch);
    const Index length = options.streams.length;
    const Index most = share_of(length, 0, time_ranks(backend)).count;  // of it in one process
    const bool whole = options.pieces.length == 0 || options.pieces.length >= most;
    parts_ = whole ? std::vector{piece_of(backend, length)} : deal(backend, length, options.pieces);
    streams.read(text, trainer.steps(), options.streams, own, parts_, batch_);
    for (std::size_t b = 0; b < batch_.fresh.size(); ++b)
      if (batch_.fresh[b]) reset_sequence(carried, static_cast<Index>(b));
    const bool shared = own.count != options.batch;
    if (shared) {
      own_ = make_state(trainer.model, own.count);
      copy_sequences(carried, own.begin, own_, 0, own.count);
    }
    typename Model::State& state = shared ? own_ : carried;
    LayerOptions<> how;
    how.dropout = {options.dropout,
                   options.streams.seed + static_cast<std::uint64_t>(trainer.steps())};
    const TrainingReport report = trainer.step(backend, [&](const Model& model, Model& gradients) {
      if (!whole)
        return loss_in_pieces(backend, model, batch_.tokens.view(), batch_.targets.view(), state,
                              gradients, how, options.pieces, in_pieces_);
      return loss(backend, model, batch_.tokens.view(), batch_.targets.view(), state, gradients,
                  how, scratch_);
    });
    gather_states(backend, state, carried);
    if (!report.finite) reset_spoiled();
    return report;
  }

 private:
  /// Options that can train, save and go on.
  static const TextTrainerOptions& check(const TextTrainerOptions& o) {
    const auto require = [](const char* name, double value, bool valid, const char* want) {
      if (!valid) detail::throw_domain("TextTrainer", name, std::to_string(value), want);
    };
    require("batch", static_cast<double>(o.batch), o.batch >= 1, "at least 1");
    require("length", static_cast<double>(o.streams.length), o.streams.length >= 1, "at least 1");
    require("latest_of", static_cast<double>(o.streams.latest_of), o.streams.latest_of >= 1,
            "at least 1");
    require("rename", o.streams.rename, o.streams.rename >= 0 && o.streams.rename <= 1,
            "in [0, 1]");
    require("pieces.length", static_cast<double>(o.pieces.length), o.pieces.length >= 0,
            "at least 0");
    require("pieces.states", static_cast<double>(o.pieces.states), o.pieces.states >= 2,
            "at least 2");
    require("dropout", o.dropout, o.dropout >= 0 && o.dropout < 1, "in [0, 1)");
    return o;
  }

  void reset_spoiled() {
    for (Index b = 0; b < options.batch; ++b) {
      bool finite = true;
      tensors(carried, [&](std::string_view, auto& tensor) {
        const Index size = tensor.size() / options.batch;
        for (Index i = b * size; i < (b + 1) * size; ++i)
          finite = finite && std::isfinite(std::abs(tensor.data()[i]));
      });
      if (!finite) reset_sequence(carried, b);
    }
  }

  std::vector<Share> parts_;  ///< of what each stream reads next, what this process does
  TextStreams::Batch batch_;
  typename Model::State own_;  ///< of the streams of this rank, where others have some
  typename Model::Scratch scratch_;
  typename Model::PiecesScratch in_pieces_;
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
