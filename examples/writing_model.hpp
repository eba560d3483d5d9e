#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "ssm/io/state_file.hpp"
#include "ssm/layers/states.hpp"
#include "ssm/models/drafts.hpp"
#include "ssm/models/language_model.hpp"
#include "ssm/models/sampling.hpp"
#include "ssm/models/speculation.hpp"
#include "ssm/models/text_generator.hpp"

/// A language model of any layers, at work on one text, and on the rows of a batch.
namespace generate {

using ssm::Index;
using ssm::Token;

using Notes = std::map<std::string, std::string>;

class WritingModel {
 public:
  virtual ~WritingModel() = default;

  /// Reads tokens, as the continuation of the text so far.
  virtual void read(std::span<const Token> tokens) = 0;
  /// Draws the next token, and reads it.
  virtual Token next() = 0;
  /// Whether there is text so far.
  [[nodiscard]] virtual bool started() const = 0;

  /// Of the state, with further texts by name.
  virtual void save(const std::filesystem::path& path, const Notes& notes) = 0;
  virtual Notes load(const std::filesystem::path& path) = 0;

  /// What was drafted, where somebody drafts.
  [[nodiscard]] virtual std::optional<ssm::SpeculationCounts> counts() const { return {}; }

  /// Of a model that writes many texts. The text so far is what `rewind` goes back to.
  virtual void mark() { refuse(); }
  virtual void rewind() { refuse(); }
  /// The text so far becomes the last row of the batch.
  virtual void add_row() { refuse(); }
  virtual void drop_row(std::size_t) { refuse(); }
  /// The next token of every row.
  virtual std::vector<Token> next_of_rows() { refuse(); }

 private:
  [[noreturn]] static void refuse() { throw std::logic_error("this model writes one text"); }
};

template <class Layer>
class WritingModelOf final : public WritingModel {
  using T = typename Layer::value_type;

 public:
  WritingModelOf(ssm::LanguageModel<Layer> model, const ssm::SamplingOptions& sampling,
                 const ssm::Cpu& backend)
      : writer_(std::move(model), sampling, backend),
        rows_(make_state(writer_.model(), 0)),
        backend_(backend) {}

  void read(std::span<const Token> tokens) override {
    writer_.read(ssm::View<const Token, 1>(tokens.data(), {static_cast<Index>(tokens.size())}));
  }
  Token next() override { return writer_.next(); }
  [[nodiscard]] bool started() const override { return writer_.started(); }

  void save(const std::filesystem::path& path, const Notes& notes) override {
    save_state(path, writer_, notes);
  }
  Notes load(const std::filesystem::path& path) override { return load_state(path, writer_); }
  void mark() override {
    marked_.emplace(Mark{writer_.state(), ssm::Tensor<T, 2>(writer_.logits().extents()),
                         writer_.sampler().recent(), writer_.sampler().drawn()});
    copy_row(writer_.logits(), 0, marked_->logits, 0);
  }
  void rewind() override {
    if (marked_)
      writer_.resume(marked_->state, marked_->logits, marked_->recent, marked_->drawn);
    else
      writer_.reset();
  }

  void add_row() override {
    const Index rows = count(), vocab = writer_.model().config.vocab;
    auto states = make_state(writer_.model(), rows + 1), last = writer_.state();
    copy_sequences(rows_, 0, states, 0, rows);
    copy_sequences(last, 0, states, rows, 1);
    rows_ = std::move(states);
    ssm::Tensor<T, 2> logits({rows + 1, vocab});
    for (Index row = 0; row < rows; ++row) copy_row(std::as_const(logits_), row, logits, row);
    copy_row(writer_.logits(), 0, logits, rows);
    logits_ = std::move(logits);
    samplers_.push_back(writer_.sampler());
  }
  void drop_row(std::size_t row) override {
    std::vector<Index> kept;
    for (Index i = 0; i < count(); ++i)
      if (i != static_cast<Index>(row)) kept.push_back(i);
    rows_ = gather_sequences(rows_, kept);
    ssm::Tensor<T, 2> logits({static_cast<Index>(kept.size()), writer_.model().config.vocab});
    for (std::size_t i = 0; i < kept.size(); ++i)
      copy_row(std::as_const(logits_), kept[i], logits, static_cast<Index>(i));
    logits_ = std::move(logits);
    samplers_.erase(samplers_.begin() + static_cast<std::ptrdiff_t>(row));
  }
  std::vector<Token> next_of_rows() override {
    if (stepped_ != count()) {
      stepper_.emplace(writer_.model(), count());
      stepped_ = count();
    }
    std::vector<Token> tokens;
    for (std::size_t row = 0; row < samplers_.size(); ++row)
      tokens.push_back(samplers_[row](std::as_const(logits_).view()[static_cast<Index>(row)]));
    step(backend_, *stepper_, ssm::View<const Token, 1>(tokens.data(), {count()}), rows_,
         logits_.view());
    return tokens;
  }

 private:
  struct Mark {
    ssm::StackState<Layer> state;
    ssm::Tensor<T, 2> logits;
    std::vector<Token> recent;
    std::uint64_t drawn;
  };

  [[nodiscard]] Index count() const { return static_cast<Index>(samplers_.size()); }
  template <class From>
  static void copy_row(const From& from, Index row, ssm::Tensor<T, 2>& to, Index place) {
    std::copy_n(&from(row, 0), to.extent(1), &to(place, 0));
  }

  ssm::TextGenerator<Layer> writer_;
  std::optional<Mark> marked_;
  ssm::StackState<Layer> rows_;
  ssm::Cpu backend_;
  ssm::Tensor<T, 2> logits_;
  std::vector<ssm::Sampler> samplers_;
  std::optional<ssm::LanguageModelStepper<Layer>> stepper_;  // of the rows
  Index stepped_ = 0;                                        // its rows
};

/// One text, of which somebody drafts what the model checks.
template <class Layer>
class SpeculatingModelOf final : public WritingModel {
 public:
  SpeculatingModelOf(ssm::LanguageModel<Layer> model, ssm::AnyDrafter drafter,
                     const ssm::SamplingOptions& sampling, Index drafts, const ssm::Cpu& backend)
      : writer_(std::move(model), std::move(drafter), sampling, drafts, backend) {}

  void read(std::span<const Token> tokens) override {
    writer_.read(ssm::View<const Token, 1>(tokens.data(), {static_cast<Index>(tokens.size())}));
  }
  Token next() override { return writer_.next(); }
  [[nodiscard]] bool started() const override { return writer_.started(); }
  void save(const std::filesystem::path& path, const Notes& notes) override {
    save_state(path, writer_, notes);
  }
  Notes load(const std::filesystem::path& path) override { return load_state(path, writer_); }
  [[nodiscard]] std::optional<ssm::SpeculationCounts> counts() const override {
    return writer_.counts();
  }

 private:
  ssm::SpeculativeGenerator<Layer> writer_;
};

/// A model at work.
template <class Layer>
std::unique_ptr<WritingModel> writing_model(ssm::LanguageModel<Layer> model,
                                            const ssm::SamplingOptions& sampling,
                                            const ssm::Cpu& backend) {
  return std::make_unique<WritingModelOf<Layer>>(std::move(model), sampling, backend);
}
/// The same, with at most `drafts` tokens at once by a drafter.
template <class Layer>
std::unique_ptr<WritingModel> speculating_model(ssm::LanguageModel<Layer> model,
                                                ssm::AnyDrafter drafter,
                                                const ssm::SamplingOptions& sampling, Index drafts,
                                                const ssm::Cpu& backend) {
  return std::make_unique<SpeculatingModelOf<Layer>>(std::move(model), std::move(drafter), sampling,
                                                     drafts, backend);
}

}  // namespace generate
