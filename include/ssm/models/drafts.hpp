#pragma once

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/hash.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/layers/layer.hpp"
#include "ssm/layers/states.hpp"
#include "ssm/models/language_model.hpp"
#include "ssm/models/sampling.hpp"

/// @file
/// Who drafts tokens, which a large model checks many at once; see ssm/models/speculation.hpp.

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// Tokens that may follow a text.
struct Drafts {
  std::vector<Token> tokens;  ///< in their order
  bool drawn = false;         ///< whether they were drawn by chance; else they are a guess
  /// (count or more, vocab), where they were drawn: row i has the probabilities that token i was
  /// drawn with, given those before it
  Tensor<double, 2> probabilities;
};

/// Whoever drafts tokens. A plain value with
///  - begin(vocab, sampling): a text begins, whose tokens are below `vocab` and will be drawn so;
///  - read(tokens): the text goes on with these tokens, whatever was drafted;
///  - propose(count, drafts): overwrites `drafts` with at most `count` tokens that may follow. None
///    is an answer too.
///
/// What is drafted never changes with which probability a text is written, only how fast.
template <class D>
concept Drafter = std::movable<D> &&
    requires(D& drafter, Index number, const SamplingOptions& sampling,
             std::span<const Token> tokens, Drafts& drafts) {
  drafter.begin(number, sampling);
  drafter.read(tokens);
  drafter.propose(number, drafts);
};

/// A drafter of any kind. One that was moved from drafts nothing.
class AnyDrafter {
 public:
  /// Takes a drafter.
  template <class D>
  requires(!std::is_same_v<D, AnyDrafter>) && Drafter<D> AnyDrafter(D drafter)
      : kept_(std::make_unique<KeptOf<D>>(std::move(drafter))) {}

  ///@{
  /// As Drafter.
  void begin(Index vocab, const SamplingOptions& sampling) {
    if (kept_) kept_->begin(vocab, sampling);
  }
  void read(std::span<const Token> tokens) {
    if (kept_) kept_->read(tokens);
  }
  void propose(Index count, Drafts& drafts) {
    drafts.tokens.clear();
    if (kept_) kept_->propose(count, drafts);
  }
  ///@}

 private:
  class Kept {
   public:
    virtual ~Kept() = default;
    virtual void begin(Index vocab, const SamplingOptions& sampling) = 0;
    virtual void read(std::span<const Token> tokens) = 0;
    virtual void propose(Index count, Drafts& drafts) = 0;
  };
  template <class D>
  class KeptOf final : public Kept {
   public:
    explicit KeptOf(D drafter) : drafter_(std::move(drafter)) {}
    void begin(Index vocab, const SamplingOptions& sampling) override {
      drafter_.begin(vocab, sampling);
    }
    void read(std::span<const Token> tokens) override { drafter_.read(tokens); }
    void propose(Index count, Drafts& drafts) override { drafter_.propose(count, drafts); }

   private:
    D drafter_;
  };
  std::unique_ptr<Kept> kept_;
};

/// How PromptLookup looks.
struct PromptLookupOptions {
  Index match = 4;       ///< so many of the last tokens must have occurred before, at least
  Index memory = 65536;  ///< how many of the last tokens are looked through, and at most twice that
};

/// Drafts what followed where the last tokens of the text occurred before: for texts that repeat or
/// quote themselves, such as lists, code and answers about a prompt. Of several places it takes the
/// one that agrees with the longest end of the text, and of equals the last one. (Saxena 2023,
/// "Prompt Lookup Decoding".)
///
/// Cost of a token that is read: constant. Memory: up to six numbers for each token of `memory`.
class PromptLookup {
 public:
  /// Before any text. @throws DomainError for options out of range
  explicit PromptLookup(const PromptLookupOptions& options = {}) : options_(options) {
    const auto check = [](const char* argument, Index value, Index least) {
      constexpr Index most = Index{1} << 30;
      if (value < least || value > most)
        detail::throw_domain("PromptLookup", argument, std::to_string(value),
                             "from " + std::to_string(least) + " to 2^30");
    };
    check("match", options.match, 1);
    check("memory", options.memory, options.match);
    begin(0, {});
  }

  /// Forgets the text.
  void begin(Index, const SamplingOptions&) {
    text_.clear();
    before_.clear();
    newest_.assign(std::bit_ceil(static_cast<std::size_t>(options_.memory)), none);
  }

  /// The text goes on with these tokens.
  void read(std::span<const Token> tokens) {
    for (const Token token : tokens) {
      if (static_cast<Index>(text_.size()) >= 2 * options_.memory) forget_half();
      add(token);
    }
  }

  /// Drafts `count` tokens, or none. Where a place is so near the end that fewer have followed it,
  /// the drafts repeat what lies between.
  void propose(Index count, Drafts& drafts) const {
    drafts.tokens.clear();
    drafts.drawn = false;
    const auto size = static_cast<Index>(text_.size());
    Index best = none, longest = options_.match - 1;
    if (size > 0) {
      Index tried = 0;
      for (Index place = before(size); place != none && tried < most_places; ++tried) {
        const Index agreed = agreement(place);
        if (agreed > longest) {
          longest = agreed;
          best = place;
        }
        if (longest >= most_agreed) break;
        place = before(place);
      }
    }
    for (Index i = 0; best != none && i < count; ++i) {
      const Index from = best + i;
      drafts.tokens.push_back(from < size ? text_[static_cast<std::size_t>(from)]
                                          : drafts.tokens[static_cast<std::size_t>(from - size)]);
    }
  }

 private:
  static constexpr Index none = 0;  // the beginning of the text, after which nothing can agree
  static constexpr Index most_places = 32, most_agreed = 32;

  void add(Token token) {
    text_.push_back(token);
    const auto size = static_cast<Index>(text_.size());
    Index previous = none;
    if (size >= options_.match) {
      std::uint64_t hash = 0;
      for (Index i = size - options_.match; i < size; ++i)
        hash = detail::mix(
            hash ^ static_cast<std::uint64_t>(std::uint32_t(text_[static_cast<std::size_t>(i)])));
      previous = std::exchange(newest_[static_cast<std::size_t>(hash % newest_.size())], size);
    }
    before_.push_back(previous);
  }
  void forget_half() {
    const std::vector<Token> kept(text_.end() - static_cast<std::ptrdiff_t>(options_.memory),
                                  text_.end());
    begin(0, {});
    for (const Token token : kept) add(token);
  }
  /// The place before this one whose last tokens have the same hash.
  [[nodiscard]] Index before(Index place) const {
    return before_[static_cast<std::size_t>(place - 1)];
  }
  /// How many tokens before `place` are those before the end, up to the most that are compared.
  [[nodiscard]] Index agreement(Index place) const {
    const auto size = static_cast<Index>(text_.size());
    Index agreed = 0;
    const Index most = (std::min)(place, (std::max)(most_agreed, options_.match));
    while (agreed < most && text_[static_cast<std::size_t>(place - 1 - agreed)] ==
                                text_[static_cast<std::size_t>(size - 1 - agreed)])
      ++agreed;
    return agreed;
  }

  PromptLookupOptions options_;
  std::vector<Token> text_;
  std::vector<Index> before_;  // of each place after a token: the one before it with the same hash
  std::vector<Index> newest_;  // the last place with each hash
};

}  // namespace SSM_DETAIL_ISA
namespace detail {
inline namespace SSM_DETAIL_ISA {

/// The token of a number in [0, 1): each with the probability of its weight among all. The first
/// one for weights that are all zero.
[[nodiscard]] inline Token draw_weighted(const View<const double, 1>& weights,
                                         double uniform) noexcept {
  double total = 0;
  for (Index i = 0; i < weights.extent(0); ++i) total += weights(i);
  double rest = uniform * total;
  Index last = 0;  // that has a weight
  for (Index i = 0; i < weights.extent(0); ++i) {
    if (!(weights(i) > 0)) continue;
    last = i;
    rest -= weights(i);
    if (rest < 0) break;
  }
  return static_cast<Token>(last);
}

}  // namespace SSM_DETAIL_ISA
}  // namespace detail
inline namespace SSM_DETAIL_ISA {

/// Drafts with a small language model of the same vocabulary. It draws as the large one will, by
/// the same sampling options and random numbers of its own, or at temperature 0 takes the likeliest
/// tokens. It owns the model, its state and all memory.
///
/// Its states after each draft are kept, as a step leaves them: what was accepted is not read
/// again. Cost of a draft: a step of the small model. Memory: a state and `vocab` probabilities for
/// each draft.
template <class Layer>
class DraftModel {
 public:
  using Model = LanguageModel<Layer>;    ///< type of the model
  using T = typename Layer::value_type;  ///< type of a logit

  /// Takes the model, before any text.
  /// @param backend the threads that it runs on
  /// @throws ShapeError for a model without its parameters
  explicit DraftModel(Model model, const Cpu& backend = cpu)
      : backend_(backend),
        model_(std::make_unique<Model>(std::move(model))),
        stepper_(*model_, Index{1}),
        state_(make_state(*model_, 1)),
        sampler_(model_->config.vocab),
        logits_({1, model_->config.vocab}),
        token_({1}) {}

  /// The model that it runs.
  [[nodiscard]] const Model& model() const noexcept { return *model_; }

  /// A text begins. @throws DomainError for another vocabulary than that of the model
  void begin(Index vocab, const SamplingOptions& sampling) {
    if (vocab != model_->config.vocab)
      detail::throw_domain("DraftModel", "vocab", std::to_string(model_->config.vocab) + " tokens",
                           std::to_string(vocab) + ", as the model that checks its drafts");
    SamplingOptions own = sampling;
    own.seed = detail::mix(sampling.seed);  // its numbers must not be those that check them
    sampler_ = Sampler(vocab, own);
    reset_sequence(state_, 0);
    unread_.clear();
    drafted_.clear();
  }

  /// The text goes on with these tokens.
  void read(std::span<const Token> tokens) {
    if (tokens.empty()) return;
    if (!drafted_.empty()) sampler_.recall(recent_);
    for (const Token token : tokens) sampler_.observe(token);
    // Of the drafts that are in the text all states are there but the last one's; one token at
    // least is read when the next drafts are wanted, for its logits.
    std::size_t known = 0;
    const std::size_t most = (std::min)(tokens.size(), drafted_.size());
    while (known + 1 < most && tokens[known] == drafted_[known]) ++known;
    if (known > 0) copy_sequences(after_[known - 1], 0, state_, 0, 1);
    drafted_.clear();
    for (const Token token : tokens.subspan(known)) {
      unread_.push_back(token);
      if (unread_.size() > piece) run_unread();
    }
  }

  /// Draws `count` tokens; none before anything was read.
  void propose(Index count, Drafts& drafts) {
    drafts.tokens.clear();
    drafts.drawn = sampler_.options().temperature > 0;
    if (count < 1 || unread_.empty()) return;
    run_unread();
    advance(state_, unread_.back());
    unread_.clear();
    const Index vocab = logits_.extent(1);
    if (drafts.drawn) drafts.probabilities.resize({count, vocab});
    recent_ = sampler_.recent();
    while (static_cast<Index>(after_.size()) < count - 1) after_.push_back(state_);
    for (Index i = 0; i < count; ++i) {
      if (i > 0) {
        auto& state = after_[static_cast<std::size_t>(i - 1)];
        copy_sequences(i > 1 ? after_[static_cast<std::size_t>(i - 2)] : state_, 0, state, 0, 1);
        advance(state, drafted_.back());
      }
      const auto logits = logits_.view()[0];
      Token token = 0;
      if (drafts.drawn) {
        const auto row = drafts.probabilities.view()[i];
        sampler_.probabilities(logits, row);
        token = detail::draw_weighted(row, sampler_.uniform());
        sampler_.observe(token);
      } else {
        token = sampler_(logits);
      }
      drafted_.push_back(token);
    }
    drafts.tokens = drafted_;
  }

 private:
  static constexpr std::size_t piece = 1024;

  /// Reads all that is unread but the last token.
  void run_unread() {
    const auto count = static_cast<Index>(unread_.size()) - 1;
    constexpr Index few = 4;  // these are sooner stepped
    if (count <= few) {
      for (Index i = 0; i < count; ++i) advance(state_, unread_[static_cast<std::size_t>(i)]);
    } else {
      LayerOptions<> options;
      options.keep = false;
      forward(backend_, *model_, View<const Token, 2>(unread_.data(), {1, count}), state_, {},
              options, scratch_);
    }
    unread_.erase(unread_.begin(), unread_.end() - 1);
  }
  void advance(StackState<Layer>& state, Token token) {
    token_(0) = token;
    step(backend_, stepper_, token_.view(), state, logits_);
  }

  Cpu backend_;
  std::unique_ptr<Model> model_;  // whose address the stepper knows
  LanguageModelStepper<Layer> stepper_;
  StackState<Layer> state_;  // after the text but for what is unread
  Sampler sampler_;          // has observed the text and what was drafted
  LanguageModelScratch<Layer> scratch_;
  Tensor<T, 2> logits_;
  Tensor<Token, 1> token_;
  std::vector<Token> unread_;             // of the text
  std::vector<Token> drafted_;            // after it
  std::vector<StackState<Layer>> after_;  // the state after each of these but the last
  std::vector<Token> recent_;             // of the sampler before it drafted
};

/// Deduces the type of the layers from the model.
template <class Layer>
DraftModel(LanguageModel<Layer>) -> DraftModel<Layer>;
/// Deduces the type of the layers from the model.
template <class Layer>
DraftModel(LanguageModel<Layer>, Cpu) -> DraftModel<Layer>;

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
