#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ssm/core/backend.hpp"
#include "ssm/core/checks.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/maybe.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/layers/layer.hpp"
#include "ssm/layers/linear.hpp"
#include "ssm/layers/states.hpp"
#include "ssm/models/drafts.hpp"
#include "ssm/models/language_model.hpp"
#include "ssm/models/sampling.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// What was drafted so far, and what came of it.
struct SpeculationCounts {
  std::uint64_t drafted = 0;   ///< tokens that were checked in passes
  std::uint64_t accepted = 0;  ///< of those, tokens that became text
  std::uint64_t passes = 0;    ///< passes that checked drafts
};

/// How many drafts are worth a try, by those that were checked so far.
///
/// The part a of drafts that are accepted is estimated by a mean that forgets, a ← a + (x − a)/16
/// with x = 1 for a draft that was accepted, 0 for the first of a pass that was not, from a = 3/4
/// on. The number is the largest k with aᵏ ≥ 1/2: all of them are as likely accepted as not. Where
/// that is none, one is tried every 16th time.
class DraftCount {
 public:
  /// At most `most` drafts.
  explicit DraftCount(Index most = 0) noexcept : most_(most) {}

  /// How many to try now.
  [[nodiscard]] Index next() noexcept {
    const double likely = std::floor(std::log(0.5) / std::log(accepted_));
    if (likely >= 1) return (std::min)(most_, static_cast<Index>((std::min)(likely, 1e6)));
    return ++waited_ % 16 == 0 ? (std::min)(most_, Index{1}) : 0;
  }
  /// Of a pass, `accepted` drafts were, and the next one was not, where there was one.
  void learn(Index accepted, bool all) noexcept {
    for (Index i = 0; i < accepted; ++i) accepted_ += (most_likely - accepted_) / 16;
    if (!all) accepted_ -= accepted_ / 16;
  }

 private:
  static constexpr double most_likely = 0.999;  // so that its logarithm is none of 0
  Index most_;
  double accepted_ = 0.75;
  Index waited_ = 0;
};

/// A TextGenerator that is faster where the text can be foreseen: tokens that somebody drafted are
/// checked many at once, in one pass of the model, which costs little more than a step where
/// weights must be fetched from memory (Leviathan, Kalman and Matias 2023).
///
///     ssm::SpeculativeGenerator writer(ssm::load_mamba_lm("folder"), ssm::PromptLookup());
///     writer.read(prompt);
///     for (int i = 0; i < 100; ++i) use(writer.next());
///
/// The probability of a text is exactly the model's, whatever is drafted. With p and q the
/// probabilities of the model and of the drafts, both after all that the sampling options change, a
/// draft x that was drawn is accepted with probability min(1, p(x)/q(x)), and else replaced by a
/// token drawn from max(p − q, 0), normalized (their algorithm 1). A draft that is a guess is
/// accepted where it is the token that the sampler draws: then, and at temperature 0, the tokens
/// are those that TextGenerator draws with the same seed, but that the logits of a pass and a step
/// differ in rounding.
///
/// A pass starts from a copy of the state. Where a draft is refused, the model goes back to it, and
/// the tokens accepted are read again with the next drafts, in the same pass: each costs a tenth to
/// a fifth of a step of a model of 500 MB, and half a step of one that is in the cache, while a
/// pass of their own would cost seven tenths at least. More than 4 are read in a pass of their own.
///
/// It owns the model, the drafter, its state and all memory.
template <class Layer>
class SpeculativeGenerator {
 public:
  using Model = LanguageModel<Layer>;    ///< type of the model
  using T = typename Layer::value_type;  ///< type of a logit

  /// Takes the model and a drafter, before any token was read.
  /// @param drafter any Drafter, such as PromptLookup or DraftModel
  /// @param sampling how tokens are drawn
  /// @param drafts how many are checked at once, at most; see DraftCount
  /// @param backend the threads that run the model
  /// @throws DomainError for sampling options out of range, drafts below 0, and a drafter of
  ///   another vocabulary; ShapeError for a model without its parameters
  SpeculativeGenerator(Model model, AnyDrafter drafter, const SamplingOptions& sampling = {},
                       Index drafts = 16, const Cpu& backend = cpu)
      : backend_(backend),
        model_(std::make_unique<Model>(std::move(model))),
        stepper_(*model_, Index{1}),
        state_(make_state(*model_, 1)),
        ahead_(state_),
        sampler_(model_->config.vocab, sampling),
        drafter_(std::move(drafter)),
        count_(drafts),
        most_(drafts),
        logits_({1, model_->config.vocab}),
        likely_({model_->config.vocab}),
        token_({1}) {
    if (drafts < 0 || drafts > 4096)
      detail::throw_domain("SpeculativeGenerator", "drafts", std::to_string(drafts),
                           "from 0 to 4096");
    drafter_.begin(model_->config.vocab, sampling);
  }

  /// The model that it runs.
  [[nodiscard]] const Model& model() const noexcept { return *model_; }
  /// What was drafted, and what came of it.
  [[nodiscard]] const SpeculationCounts& counts() const noexcept { return counts_; }
  /// Whether anything was read, so that there is a next token.
  [[nodiscard]] bool started() const noexcept { return started_; }

  /// The state of the model after all that it has read and given: a plain value. Tokens that were
  /// drawn and not given yet are forgotten for it, and what was given is read.
  [[nodiscard]] const StackState<Layer>& state() {
    settle();
    return state_;
  }
  /// The logits (1, vocab) of the next token, as for `state`.
  [[nodiscard]] View<const T, 2> logits() {
    settle();
    return std::as_const(logits_).view();
  }
  /// How tokens are drawn, and which were the last, as for `state`.
  [[nodiscard]] const Sampler& sampler() {
    forget_ahead();
    return sampler_;
  }

  /// Forgets all that was read and written, random numbers drawn too, but not the counts.
  void reset() {
    check_model();
    begin(Sampler(model_->config.vocab, sampler_.options()));
    reset_sequence(state_, 0);
    logits_.fill(T(0));
    started_ = false;
  }

  /// Goes on from where another generator of the same model was, as TextGenerator::resume. The
  /// drafter begins with the recent tokens.
  /// @throws ShapeError for a state of another model and for logits of another vocabulary,
  ///   DomainError for a token outside the vocabulary; nothing has changed then
  void resume(StackState<Layer> state, const View<const T, 2>& logits,
              const std::vector<Token>& recent = {}, std::uint64_t drawn = 0) {
    check_model();
    detail::check_shape("SpeculativeGenerator::resume", "logits", logits, logits_.extents());
    Sampler sampler(model_->config.vocab, sampler_.options());
    sampler.recall(recent);
    sampler.skip(drawn);
    forget_ahead();
    copy_sequences(state, 0, state_, 0, 1);
    begin(std::move(sampler));
    untold_ = recent;
    for (Index i = 0; i < logits.extent(1); ++i) logits_(0, i) = logits(0, i);
    started_ = true;
  }

  /// Reads a text byte by byte, as the continuation of what was read and written so far.
  /// @throws DomainError for a vocabulary other than bytes
  void read(std::string_view text) {
    check_model();
    if (model_->config.vocab != 256)
      detail::throw_domain("SpeculativeGenerator::read", "vocabulary",
                           std::to_string(model_->config.vocab) + " tokens",
                           "256, one for each byte (tokens of others are read as tokens)");
    std::vector<Token> tokens;
    for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
    read(View<const Token, 1>(tokens.data(), {static_cast<Index>(tokens.size())}));
  }

  /// Reads tokens, as the continuation of what was read and written so far, in pieces.
  /// @throws DomainError for a token outside the vocabulary, ShapeError for no tokens that could be
  /// read; nothing was read then
  void read(const View<const Token, 1>& tokens) {
    constexpr Index piece = 1024;
    check_model();
    detail::check_given("SpeculativeGenerator::read", "tokens", tokens, "(count)");
    require_tokens(tokens, model_->config.vocab);
    forget_ahead();
    for (Index at = 0; at < tokens.extent(0); at += piece) {
      const Index end = (std::min)(at + piece, tokens.extent(0));
      for (Index t = at; t < end; ++t) {
        sampler_.observe(tokens(t));
        unread_.push_back(tokens(t));
        untold_.push_back(tokens(t));
      }
      read_all_but(1);
      tell();
      started_ = true;
    }
    // The last token is read with the first drafts.
  }

  /// Draws the next token.
  /// @throws DomainError before anything was read, and for logits that are NaN
  Token next() {
    check_model();
    if (!started_)
      detail::throw_domain("SpeculativeGenerator", "text read so far", "empty",
                           "at least one token");
    if (given_ == ready_.size()) draw();
    const Token token = ready_[given_++];
    untold_.push_back(token);
    return token;
  }

 private:
  static constexpr std::size_t most_read_again = 4;

  void check_model() const {
    if (!model_)
      detail::throw_domain("SpeculativeGenerator", "the generator", "moved from",
                           "one with a model");
  }
  void begin(Sampler sampler) {
    sampler_ = std::move(sampler);
    drafter_.begin(model_->config.vocab, sampler_.options());
    count_ = DraftCount(most_);
    unread_.clear();
    untold_.clear();
    ready_.clear();
    given_ = 0;
    whole_ = false;
  }
  void tell() {
    drafter_.read(untold_);
    untold_.clear();
  }

  /// Reads the unread tokens but for the last `rest`.
  void read_all_but(std::size_t rest) {
    if (unread_.size() <= rest) return;
    const std::size_t count = unread_.size() - rest;
    if (count > 1 || rest > 0) {
      const auto stepped = rest > 0 ? std::size_t{0} : std::size_t{1};
      LayerOptions<> options;
      options.keep = false;
      forward(backend_, *model_,
              View<const Token, 2>(unread_.data(), {1, static_cast<Index>(count - stepped)}),
              state_, {}, options, scratch_);
    }
    if (rest == 0) {
      token_(0) = unread_.back();
      step(backend_, stepper_, token_.view(), state_, logits_);
    }
    unread_.erase(unread_.begin(), unread_.begin() + static_cast<std::ptrdiff_t>(count));
  }

  /// Takes over the state after a pass whose drafts were all accepted.
  void keep_whole() {
    if (!whole_) return;
    std::swap(state_, ahead_);
    unread_.erase(unread_.begin(), unread_.end() - 1);  // the last token was drawn after the pass
    whole_ = false;
  }
  /// Goes back to the last token given.
  void forget_ahead() {
    if (given_ < ready_.size()) {
      whole_ = false;
      unread_.resize(unread_.size() - (ready_.size() - given_));
      Sampler sampler(sampler_.vocab(), sampler_.options());
      sampler.recall(recent_);
      for (std::size_t i = 0; i < given_; ++i) sampler.observe(ready_[i]);
      sampler.skip(drawn_[given_ - 1]);
      sampler_ = std::move(sampler);
    }
    keep_whole();
    ready_.clear();
    given_ = 0;
  }
  /// The state and the logits become those after the last token given.
  void settle() {
    check_model();
    forget_ahead();
    read_all_but(0);
  }

  /// Draws one token or more, which then are ready.
  void draw() {
    forget_ahead();
    if (!unread_.empty()) {
      const Index count = most_ > 0 ? count_.next() : 0;
      tell();
      if (count > 0)
        drafter_.propose(count, drafts_);
      else
        drafts_.tokens.clear();
      if (!drafts_.tokens.empty()) return check_drafts();
      read_all_but(0);
    }
    const Token token = sampler_(std::as_const(logits_).view()[0]);
    ready_.push_back(token);
    unread_.push_back(token);
  }

  void check_drafts() {
    if (unread_.size() > most_read_again) read_all_but(1);
    const auto count = static_cast<Index>(drafts_.tokens.size());
    run_ahead(count);
    recent_ = sampler_.recent();
    drawn_.clear();
    Index accepted = 0;
    for (Index i = 0; i <= count; ++i) {
      const T* const logits = &rows_(i, 0);
      const bool spoiled =
          std::any_of(logits, logits + rows_.extent(1), [](T x) { return std::isnan(x); });
      if (i > 0 && spoiled) break;  // said when its turn has come
      const Token token = i < count && drafts_.drawn ? accept_or_replace(i)
                                                     : sampler_(std::as_const(rows_).view()[i]);
      ready_.push_back(token);
      unread_.push_back(token);
      drawn_.push_back(sampler_.drawn());
      whole_ = i == count;
      if (whole_ || token != drafts_.tokens[static_cast<std::size_t>(i)]) break;
      ++accepted;
    }
    count_.learn(accepted, accepted == count);
    counts_.drafted += static_cast<std::uint64_t>(count);
    counts_.accepted += static_cast<std::uint64_t>(accepted);
    ++counts_.passes;
  }

  /// Runs the model from the state over what is unread and the drafts, in `ahead_`; row i has the
  /// logits after i drafts.
  void run_ahead(Index drafts) {
    constexpr std::string_view function = "SpeculativeGenerator";
    copy_sequences(state_, 0, ahead_, 0, 1);
    const auto unread = static_cast<Index>(unread_.size()), count = unread + drafts;
    pass_ = unread_;
    pass_.insert(pass_.end(), drafts_.tokens.begin(), drafts_.tokens.end());
    LayerOptions<> options;
    options.keep = false;
    detail::run_backbone(function, backend_, *model_,
                         View<const Token, 2>(pass_.data(), {1, count}),
                         Maybe<StackState<Layer>>(ahead_), options, scratch_);
    rows_.resize({drafts + 1, logits_.extent(1)});
    const View<const T, 2> normed = std::as_const(scratch_.normed).view();
    linear(
        backend_,
        detail::product<T, Host>(normed.slice(0, unread - 1, drafts + 1), detail::head_of(*model_)),
        {}, {rows_}, scratch_.linear);
  }

  /// Draft i, which was drawn, or a token in its place.
  Token accept_or_replace(Index i) {
    const View<const double, 1> q = std::as_const(drafts_.probabilities).view()[i];
    const Token draft = drafts_.tokens[static_cast<std::size_t>(i)];
    sampler_.probabilities(std::as_const(rows_).view()[i], likely_.view());
    Token token = draft;
    if (!(sampler_.uniform() * q(draft) < likely_(draft))) {
      double most = 0;
      for (Index t = 0; t < likely_.size(); ++t) most = (std::max)(most, likely_(t) - q(t));
      if (most > 0)  // else p = q but for rounding
        for (Index t = 0; t < likely_.size(); ++t) likely_(t) = (std::max)(likely_(t) - q(t), 0.0);
      token = detail::draw_weighted(std::as_const(likely_).view(), sampler_.uniform());
    }
    sampler_.observe(token);
    return token;
  }

  Cpu backend_;
  std::unique_ptr<Model> model_;  // whose address the stepper knows
  LanguageModelStepper<Layer> stepper_;
  StackState<Layer> state_;  // after what was given or is ready, but for what is unread
  StackState<Layer> ahead_;  // after a pass
  Sampler sampler_;          // has observed what is ready too
  AnyDrafter drafter_;
  DraftCount count_;
  Index most_;
  SpeculationCounts counts_;
  Drafts drafts_;
  LanguageModelScratch<Layer> scratch_;
  Tensor<T, 2> logits_;       // of the next token, where nothing is unread
  Tensor<T, 2> rows_;         // of a pass
  Tensor<double, 1> likely_;  // (vocab)
  Tensor<Token, 1> token_;
  std::vector<Token> pass_, unread_;
  std::vector<Token> untold_;         // to the drafter
  std::vector<Token> ready_;          // drawn since the last pass or step
  std::vector<std::uint64_t> drawn_;  // random numbers, after each of these
  std::vector<Token> recent_;         // of the sampler before these
  std::size_t given_ = 0;             // of those that are ready
  bool whole_ = false;                // ahead_ is the state after all unread tokens but the last
  bool started_ = false;
};

/// Deduces the type of the layers from the model.
template <class Layer, class D>
SpeculativeGenerator(LanguageModel<Layer>, D) -> SpeculativeGenerator<Layer>;
/// Deduces the type of the layers from the model.
template <class Layer, class D>
SpeculativeGenerator(LanguageModel<Layer>, D, SamplingOptions) -> SpeculativeGenerator<Layer>;
/// Deduces the type of the layers from the model.
template <class Layer, class D>
SpeculativeGenerator(LanguageModel<Layer>, D, SamplingOptions, Index)
    -> SpeculativeGenerator<Layer>;

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
