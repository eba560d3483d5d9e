#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "job.hpp"
#include "ssm/core/shares.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/io/file.hpp"
#include "ssm/io/tokenizer.hpp"
#include "ssm/models/language_model.hpp"
#include "ssm/train/text_view.hpp"
#include "ssm/train/trainer.hpp"

/// Texts as bytes or tokens, and how well a language model predicts them.
namespace text_scoring {

using Bytes = std::span<const unsigned char>;

inline constexpr double bits_per_nat = 1 / std::numbers::ln2;

/// A text in memory: what the model learns from, and what it is judged by.
struct Text {
  std::string bytes;
  std::size_t split = 0;

  Text(const std::string& path, double held_out) : bytes(ssm::detail::read_file(path)) {
    if (!(held_out >= 0 && held_out <= 1))
      throw std::runtime_error(job::format("--held-out is %g, expected from 0 to 1", held_out));
    split = bytes.size() - static_cast<std::size_t>(held_out * static_cast<double>(bytes.size()));
  }
  [[nodiscard]] Bytes all() const {
    return {reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()};
  }
  [[nodiscard]] Bytes training() const { return all().first(split); }
  [[nodiscard]] Bytes held_out() const { return all().subspan(split); }
};

/// A part of a text as a model reads it: its bytes, or without a loss the tokens of a tokenizer.
class Reading {
 public:
  /// @param tokenizer null: the model reads bytes
  /// @param prime how many of the bytes only prepare for the others: no token is of both
  Reading(Bytes bytes, const ssm::Tokenizer* tokenizer, std::size_t prime = 0)
      : bytes_(bytes), tokenizer_(tokenizer), prime_(prime) {
    if (tokenizer_ == nullptr) return;
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    const ssm::EncodeOptions exact{.special = false, .exact = true};
    tokens_ = tokenizer_->encode(text.substr(0, prime), exact);
    prime_ = tokens_.size();
    const std::vector<ssm::Token> rest = tokenizer_->encode(text.substr(prime), exact);
    tokens_.insert(tokens_.end(), rest.begin(), rest.end());
  }
  [[nodiscard]] ssm::TextView text() const {
    return tokenizer_ != nullptr ? ssm::TextView(tokens_) : ssm::TextView(bytes_);
  }
  /// How many tokens (in a model of bytes these) only prepare for the others.
  [[nodiscard]] std::size_t prime() const { return prime_; }
  /// How many bytes so many tokens from `first` on stand for.
  [[nodiscard]] std::size_t bytes_of(std::size_t first, std::size_t count) const {
    if (tokenizer_ == nullptr) return count;
    return tokenizer_->decode(std::span(tokens_).subspan(first, count), {.special = true}).size();
  }

 private:
  Bytes bytes_;
  const ssm::Tokenizer* tokenizer_;
  std::size_t prime_;
  std::vector<ssm::Token> tokens_;
};

/// Runs the model through `text` from `begin` on in pieces of so many tokens (in a model of bytes
/// these), the state carried on, each predicted from all that come before it. Calls `each(tokens,
/// nats)` with how many are predicted so far and their loss together, which says whether to go on;
/// returns that loss in the end. A learner takes the place of the model, and learns from each piece
/// once that has been predicted. Over ranks a piece is shared between them.
template <class Backend, class Model, class Each>
double read_through(const Backend& backend, const Model& model, ssm::Trainer<Model>* learner,
                    const ssm::TextView& text, std::size_t begin, std::size_t end,
                    std::size_t piece, typename Model::State& state, Each&& each) {
  typename Model::Scratch scratch;
  ssm::Tensor<ssm::Token, 2> tokens, targets;
  double total = 0;
  bool goes_on = true;
  for (std::size_t at = begin; at + 1 < end && goes_on; at += piece) {
    const std::size_t count = std::min(piece, end - 1 - at);
    const ssm::Share own = piece_of(backend, static_cast<ssm::Index>(count));
    tokens.resize({1, own.count});
    targets.resize({1, own.count});
    const std::size_t from = at + static_cast<std::size_t>(own.begin);
    text.copy(from, static_cast<std::size_t>(own.count), tokens.data());
    text.copy(from + 1, static_cast<std::size_t>(own.count), targets.data());
    const auto nats = [&](const Model& m, ssm::Maybe<Model> gradients) {
      return loss(backend, m, tokens, targets, state, gradients, {}, scratch);
    };
    const double mean = learner ? learner->step(backend, nats).loss : nats(model, {});
    pass_on(backend, state);
    total += mean * static_cast<double>(count);
    goes_on = each(at + count - begin, total);
  }
  return total;
}

/// Bits of `text` after its first `prime` tokens in one pass, the state carried from the first to
/// the last. Those before are read first, and not counted: `each` is told of none then. Without
/// them nothing predicts the first token, which then is one of the vocabulary, all equally likely.
template <class Backend, class Model, class Each>
double bits(const Backend& backend, const Model& model, ssm::Trainer<Model>* learner,
            const ssm::TextView& text, std::size_t prime, std::size_t piece, Each&& each) {
  if (learner) piece = 256;  // what a step of learning sees
  auto state = make_state(model, 1);
  const auto nats = [&](std::size_t begin, std::size_t end, const auto& told) {
    return read_through(backend, model, learner, text, begin, end, piece, state, told);
  };
  if (prime == 0)
    return std::log2(static_cast<double>(model.config.vocab)) +
           nats(0, text.size(), each) * bits_per_nat;
  (void)nats(0, prime, [&](std::size_t, double) { return each(0, 0); });
  // The last token before has not been read yet: it predicts the first one that counts.
  return nats(prime - 1, text.size(), each) * bits_per_nat;
}

}  // namespace text_scoring
