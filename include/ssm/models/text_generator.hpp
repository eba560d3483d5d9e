#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ssm/core/backend.hpp"
#include "ssm/core/checks.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/layers/layer.hpp"
#include "ssm/layers/states.hpp"
#include "ssm/models/language_model.hpp"
#include "ssm/models/mamba_lm.hpp"
#include "ssm/models/sampling.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// Generates text with a language model. It reads a prompt of any length in constant memory, and
/// then gives token after token, each in constant time. It owns the model, its state and all
/// memory.
///
///     ssm::TextGenerator writer(ssm::load_mamba_lm("kjv"), {.temperature = 0.8});
///     writer.read("In the beginning");
///     std::cout << writer.write(1000);
///
/// With a vocabulary of 256, a token is a byte, and it reads and writes text. With other
/// vocabularies it reads and writes tokens.
template <class Layer>
class TextGenerator {
 public:
  using Model = LanguageModel<Layer>;    ///< type of the model
  using T = typename Layer::value_type;  ///< type of a logit

  /// Takes the model, before any token was read.
  /// @param sampling how tokens are drawn
  /// @param backend the threads that read and write
  /// @throws DomainError for sampling options out of range, ShapeError for a model without its
  /// parameters
  explicit TextGenerator(Model model, const SamplingOptions& sampling = {},
                         const Cpu& backend = cpu)
      : backend_(backend),
        model_(std::make_unique<Model>(std::move(model))),
        stepper_(*model_, Index{1}),
        state_(make_state(*model_, 1)),
        sampler_(model_->config.vocab, sampling),
        logits_({1, model_->config.vocab}),
        token_({1}) {}

  /// The model that it runs.
  [[nodiscard]] const Model& model() const noexcept { return *model_; }
  /// The state of the model after all that it has read and written: a plain value.
  [[nodiscard]] const StackState<Layer>& state() {
    read_drawn();
    return state_;
  }
  /// The logits (1, vocab) of the next token.
  [[nodiscard]] View<const T, 2> logits() {
    read_drawn();
    return std::as_const(logits_).view();
  }

  /// How tokens are drawn, and which were the last.
  [[nodiscard]] const Sampler& sampler() const noexcept { return sampler_; }
  /// Whether anything was read, so that there is a next token.
  [[nodiscard]] bool started() const noexcept { return started_; }

  /// Forgets all that was read and written, random numbers drawn too.
  void reset() {
    check_model();
    state_ = make_state(*model_, 1);
    sampler_ = Sampler(model_->config.vocab, sampler_.options());
    logits_.fill(T(0));
    started_ = drawn_ = false;
  }

  /// Goes on from where another generator of the same model was, in place of all that was read and
  /// written: given what that one had, the tokens are the same.
  /// @param state of one sequence
  /// @param logits (1, vocab), of the next token
  /// @param recent the last tokens, the oldest first, for the repetition penalty
  /// @param drawn how many random numbers were drawn
  /// @throws ShapeError for a state of another model and for logits of another vocabulary,
  ///   DomainError for a token outside the vocabulary; nothing has changed then
  void resume(StackState<Layer> state, const View<const T, 2>& logits,
              const std::vector<Token>& recent = {}, std::uint64_t drawn = 0) {
    check_model();
    detail::check_shape("TextGenerator::resume", "logits", logits, logits_.extents());
    Sampler sampler(model_->config.vocab, sampler_.options());
    for (const Token token : recent) sampler.observe(token);
    sampler.skip(drawn);
    copy_sequences(state, 0, state_, 0, 1);
    sampler_ = std::move(sampler);
    for (Index i = 0; i < logits.extent(1); ++i) logits_(0, i) = logits(0, i);
    started_ = true;
    drawn_ = false;
  }

  /// Reads a text byte by byte, as the continuation of what was read and written so far.
  /// @throws DomainError for a vocabulary other than bytes
  void read(std::string_view text) {
    check_bytes("read");
    std::vector<Token> tokens(text.size());
    std::transform(text.begin(), text.end(), tokens.begin(),
                   [](char c) { return static_cast<Token>(static_cast<unsigned char>(c)); });
    read(View<const Token, 1>(tokens.data(), {static_cast<Index>(tokens.size())}));
  }

  /// Reads tokens, as the continuation of what was read and written so far. It reads them in
  /// pieces, so that a long prompt takes no more memory than a short one.
  /// @throws DomainError for a token outside the vocabulary, ShapeError for no tokens that could be
  /// read; nothing was read then
  void read(const View<const Token, 1>& tokens) {
    constexpr Index piece = 1024;
    check_model();
    detail::check_given("TextGenerator::read", "tokens", tokens, "(count)");
    const Index count = tokens.extent(0);
    const View<const Token, 2> row(tokens.data(), {1, count}, {0, tokens.stride(0)});
    require_tokens(row, model_->config.vocab);
    read_drawn();
    for (Index t = 0; t < count; ++t) sampler_.observe(tokens(t));
    LayerOptions<> options;
    options.keep = false;
    const View<T, 3> next(logits_.data(), {1, 1, model_->config.vocab});
    for (Index at = 0; at < count; at += piece)
      forward(backend_, *model_, row.slice(1, at, (std::min)(piece, count - at)), state_,
              at + piece < count ? View<T, 3>() : next, options, scratch_);
    started_ = started_ || count > 0;
  }

  /// Draws the next token. The model reads it when something is asked that depends on it: the
  /// token is there a step earlier.
  /// @throws DomainError before anything was read, and for logits that are NaN
  Token next() {
    check_model();
    if (!started_)
      detail::throw_domain("TextGenerator", "text read so far", "empty", "at least one token");
    read_drawn();
    token_(0) = sampler_(logits_.view()[0]);
    drawn_ = true;
    return token_(0);
  }

  /// Writes the next `bytes` bytes of text.
  /// @throws DomainError as next, and for a vocabulary other than bytes
  [[nodiscard]] std::string write(std::size_t bytes) {
    check_bytes("write");
    std::string text(bytes, '\0');
    for (char& c : text) c = static_cast<char>(static_cast<unsigned char>(next()));
    return text;
  }

 private:
  /// A generator that was moved from has nothing to read or write with.
  void check_model() const {
    if (!model_)
      detail::throw_domain("TextGenerator", "the generator", "moved from", "one with a model");
  }
  void read_drawn() {
    check_model();
    if (drawn_) step(backend_, stepper_, token_.view(), state_, logits_);
    drawn_ = false;
  }
  void check_bytes(const char* function) const {
    check_model();
    if (model_->config.vocab != 256)
      detail::throw_domain(std::string("TextGenerator::") + function, "vocabulary",
                           std::to_string(model_->config.vocab) + " tokens",
                           "256, one for each byte (tokens of others are read as tokens)");
  }

  Cpu backend_;
  std::unique_ptr<Model> model_;  // whose address the stepper knows
  LanguageModelStepper<Layer> stepper_;
  StackState<Layer> state_;
  Sampler sampler_;
  LanguageModelScratch<Layer> scratch_;
  Tensor<T, 2> logits_;
  Tensor<Token, 1> token_;
  bool started_ = false;
  bool drawn_ = false;  ///< the token, which is not read yet
};

/// Deduces the type of the layers from the model.
template <class Layer>
TextGenerator(LanguageModel<Layer>) -> TextGenerator<Layer>;
/// Deduces the type of the layers from the model.
template <class Layer>
TextGenerator(LanguageModel<Layer>, SamplingOptions) -> TextGenerator<Layer>;

#if SSM_HAS_LIBRARY
SSM_INSTANCE TextGenerator<Residual<Mamba<float>>>::TextGenerator(MambaLM<float>,
                                                                  const SamplingOptions&,
                                                                  const Cpu&);
SSM_INSTANCE void TextGenerator<Residual<Mamba<float>>>::read(std::string_view);
SSM_INSTANCE void TextGenerator<Residual<Mamba<float>>>::read(const View<const Token, 1>&);
SSM_INSTANCE Token TextGenerator<Residual<Mamba<float>>>::next();
SSM_INSTANCE std::string TextGenerator<Residual<Mamba<float>>>::write(std::size_t);
SSM_INSTANCE TextGenerator<Residual<Mamba<double>>>::TextGenerator(MambaLM<double>,
                                                                   const SamplingOptions&,
                                                                   const Cpu&);
SSM_INSTANCE void TextGenerator<Residual<Mamba<double>>>::read(std::string_view);
SSM_INSTANCE void TextGenerator<Residual<Mamba<double>>>::read(const View<const Token, 1>&);
SSM_INSTANCE Token TextGenerator<Residual<Mamba<double>>>::next();
SSM_INSTANCE std::string TextGenerator<Residual<Mamba<double>>>::write(std::size_t);
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
