#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/view.hpp"
#include "ssm/layers/embedding.hpp"
#include "ssm/models/sampling_types.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// Draws tokens from logits. It applies the repetition penalty, then the temperature, then top-k,
/// top-p and min-p, each to the tokens that the one before left, and then draws once.
///
/// It is a plain value; a copy draws the same tokens. It allocates its memory when it is made, and
/// none for a draw. Its random numbers are 53 bits of a std::mt19937_64, and ties go to the smaller
/// token, so the tokens are the same with every standard library. Cost of a draw: O(vocab); with
/// top-p, O(vocab log vocab).
class Sampler {
 public:
  /// A sampler for a vocabulary of `vocab` tokens. @throws DomainError for an option out of range
  explicit Sampler(Index vocab, const SamplingOptions& options = {})
      : options_(options), engine_(options.seed) {
    detail::check_sampling("Sampler", vocab, options_);
    candidates_.resize(static_cast<std::size_t>(vocab));
    recent_.resize(static_cast<std::size_t>(options.repetition_window));
    if (options.repetition_penalty > 1) occurrences_.resize(static_cast<std::size_t>(vocab));
  }

  /// How tokens are drawn.
  [[nodiscard]] const SamplingOptions& options() const noexcept { return options_; }
  /// The last tokens, as many as the window has, the oldest first.
  [[nodiscard]] std::vector<Token> recent() const {
    std::vector<Token> tokens((std::min)(observed_, recent_.size()));
    for (std::size_t i = 0; i < tokens.size(); ++i)
      tokens[i] = recent_[(observed_ - tokens.size() + i) % recent_.size()];
    return tokens;
  }
  /// How many random numbers were drawn: one for each token, none for one at temperature 0.
  [[nodiscard]] std::uint64_t drawn() const noexcept { return drawn_; }
  /// Goes on as if so many random numbers had been drawn already. Cost: O(numbers).
  void skip(std::uint64_t numbers) {
    engine_.discard(numbers);
    drawn_ += numbers;
  }

  /// The next random number, uniform in [0, 1), of 53 bits.
  double uniform() {
    ++drawn_;
    return static_cast<double>(engine_() >> 11) * 0x1.0p-53;
  }

  /// The number of tokens that it was made for.
  [[nodiscard]] Index vocab() const noexcept { return static_cast<Index>(candidates_.size()); }

  /// Counts `token` as a recent one without drawing it; for the tokens of a prompt.
  /// @throws DomainError for a token outside the vocabulary
  void observe(Token token) {
    check_token(token);
    if (recent_.empty()) return;
    Token& oldest = recent_[observed_ % recent_.size()];
    if (!occurrences_.empty()) {
      if (observed_ >= recent_.size()) --occurrences_[static_cast<std::size_t>(oldest)];
      ++occurrences_[static_cast<std::size_t>(token)];
    }
    oldest = token;
    ++observed_;
  }

  /// Takes these for the last tokens, the oldest first, in place of all that it has observed.
  /// @throws DomainError for a token outside the vocabulary; nothing has changed then
  void recall(const std::vector<Token>& recent) {
    for (const Token token : recent) check_token(token);
    observed_ = 0;
    std::fill(occurrences_.begin(), occurrences_.end(), 0);
    for (const Token token : recent) observe(token);
  }

  /// The probabilities with which the next token would be drawn, after all that the options change.
  /// @param logits (vocab); −∞ excludes a token
  /// @param probabilities (vocab), overwritten; their sum is 1
  /// @throws as a draw
  template <class T>
  void probabilities(const View<T, 1>& logits, const View<double, 1>& probabilities) {
    detail::check_shape("Sampler::probabilities", "probabilities", probabilities,
                        std::array{static_cast<Index>(candidates_.size())});
    read(logits);
    for (Index i = 0; i < probabilities.extent(0); ++i) probabilities(i) = 0;
    if (options_.temperature == 0) {
      probabilities(likeliest().token) = 1;
      return;
    }
    const auto begin = candidates_.begin(), end = weigh();
    const double total = total_of(begin, end);
    for (auto c = begin; c != end; ++c) probabilities(c->token) = c->value / total;
  }

  /// Draws the next token, and counts it as a recent one.
  /// @param logits (vocab); −∞ excludes a token
  /// @throws ShapeError for another size; DomainError for NaN, +∞, or when every token is excluded
  template <class T>
  Token operator()(const View<T, 1>& logits) {
    read(logits);
    const Token token = options_.temperature == 0 ? likeliest().token : draw();
    observe(token);
    return token;
  }

 private:
  /// `value` is a logit at first, then e^((logit − largest logit)/temperature).
  struct Candidate {
    double value;
    Token token;

    friend bool operator<(const Candidate& a, const Candidate& b) noexcept {
      return a.value != b.value ? a.value > b.value : a.token < b.token;
    }
  };

  using Candidates = std::vector<Candidate>::iterator;

  void check_token(Token token) const {
    if (token < 0 || static_cast<std::size_t>(token) >= candidates_.size())
      detail::throw_domain("Sampler", "token", std::to_string(token), "below vocab");
  }

  template <class T>
  void read(const View<T, 1>& logits) {
    detail::check_shape("Sampler", "logits", logits,
                        std::array{static_cast<Index>(candidates_.size())});
    for (Index i = 0; i < logits.extent(0); ++i) {
      const auto token = static_cast<std::size_t>(i);
      double logit = static_cast<double>(logits(i));
      if (std::isnan(logit) || logit == std::numeric_limits<double>::infinity())
        detail::throw_domain("Sampler", "logit " + std::to_string(i), std::to_string(logit),
                             "a number or -infinity");
      if (options_.tokens > 0 && i >= options_.tokens)
        logit = -std::numeric_limits<double>::infinity();
      if (!occurrences_.empty() && occurrences_[token] > 0)
        logit =
            logit > 0 ? logit / options_.repetition_penalty : logit * options_.repetition_penalty;
      candidates_[token] = {logit, static_cast<Token>(i)};
    }
    if (std::isinf(likeliest().value))
      detail::throw_domain("Sampler", "every logit", "-infinity", "at least one number");
  }

  [[nodiscard]] const Candidate& likeliest() const {
    return *std::min_element(candidates_.begin(), candidates_.end());
  }

  static double total_of(Candidates begin, Candidates end) noexcept {
    double sum = 0;
    for (auto c = begin; c != end; ++c) sum += c->value;
    return sum;
  }

  /// Makes the logits weights, and brings those that the options leave to the front. Returns their
  /// end.
  Candidates weigh() {
    const double largest = likeliest().value;
    for (Candidate& c : candidates_) c.value = std::exp((c.value - largest) / options_.temperature);

    const auto begin = candidates_.begin();
    auto end = candidates_.end();
    if (options_.top_k > 0 && options_.top_k < end - begin) {
      std::nth_element(begin, begin + (options_.top_k - 1), end);
      end = begin + options_.top_k;
    }
    if (options_.top_p < 1) {
      std::sort(begin, end);
      const double enough = options_.top_p * total_of(begin, end);
      double sum = 0;
      for (auto c = begin; c != end; ++c) {
        sum += c->value;
        if (sum >= enough) end = c + 1;
      }
    }
    if (options_.min_p > 0)
      end =
          std::partition(begin, end, [&](const Candidate& c) { return c.value >= options_.min_p; });
    // nth_element and partition leave their parts in an order of the library's own choice.
    if (end != candidates_.end()) std::sort(begin, end);
    return end;
  }

  Token draw() {
    const auto begin = candidates_.begin(), end = weigh();
    double rest = uniform() * total_of(begin, end);
    for (auto c = begin; c != end; ++c) {
      rest -= c->value;
      if (rest < 0) return c->token;
    }
    return begin->token;  // only rounding comes here
  }

  SamplingOptions options_;
  std::mt19937_64 engine_;
  std::vector<Candidate> candidates_;
  std::vector<Token> recent_;              ///< ring of the last tokens
  std::vector<std::int32_t> occurrences_;  ///< (vocab), of each token in the ring, for a penalty
  std::size_t observed_ = 0;
  std::uint64_t drawn_ = 0;
};

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
