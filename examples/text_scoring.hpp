#pragma once

#include <algorithm>
#include <cstddef>
#include <numbers>
#include <span>
#include <stdexcept>
#include <string>

#include "job.hpp"
#include "ssm/core/shares.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/io/file.hpp"
#include "ssm/models/language_model.hpp"
#include "ssm/train/trainer.hpp"

/// Texts as bytes, and how well a language model predicts them.
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

/// Runs the model through `text` from `state` in pieces of so many bytes, each byte predicted from
/// all that come before it. Calls `each(bytes, nats)` with how many are predicted so far and their
/// loss together, which says whether to go on; returns that loss in the end. A learner takes the
/// place of the model, and learns from each piece once that has been predicted. Over ranks a piece
/// is shared between them.
template <class Backend, class Model, class Each>
double read_through(const Backend& backend, const Model& model, ssm::Trainer<Model>* learner,
                    Bytes text, std::size_t piece, typename Model::State& state, Each&& each) {
  typename Model::Scratch scratch;
  ssm::Tensor<ssm::Token, 2> tokens, targets;
  double total = 0;
  bool goes_on = true;
  for (std::size_t at = 0; at + 1 < text.size() && goes_on; at += piece) {
    const std::size_t count = std::min(piece, text.size() - 1 - at);
    const ssm::Share own = piece_of(backend, static_cast<ssm::Index>(count));
    tokens.resize({1, own.count});
    targets.resize({1, own.count});
    const unsigned char* from = text.data() + at + own.begin;
    std::copy_n(from, own.count, tokens.begin());
    std::copy_n(from + 1, own.count, targets.begin());
    const auto nats = [&](const Model& m, ssm::Maybe<Model> gradients) {
      return loss(backend, m, tokens, targets, state, gradients, {}, scratch);
    };
    const double mean = learner ? learner->step(backend, nats).loss : nats(model, {});
    pass_on(backend, state);
    total += mean * static_cast<double>(count);
    goes_on = each(at + count, total);
  }
  return total;
}

/// Bits per byte of `text` in one pass, the state carried from its first byte to its last. `prime`
/// is read before it, and not counted: `each` is told of no bytes then. Without it nothing predicts
/// the first byte, which then counts as 8 bits.
template <class Backend, class Model, class Each>
double bits_per_byte(const Backend& backend, const Model& model, ssm::Trainer<Model>* learner,
                     Bytes prime, Bytes text, std::size_t piece, Each&& each) {
  if (learner) piece = 256;  // what a step of learning sees
  auto state = make_state(model, 1);
  if (prime.empty()) {
    const double nats = read_through(backend, model, learner, text, piece, state, each);
    return (8 + nats * bits_per_nat) / static_cast<double>(text.size());
  }
  read_through(backend, model, learner, prime, piece, state,
               [&](std::size_t, double) { return each(0, 0); });
  // The last byte of `prime` has not been read yet: it predicts the first one of `text`.
  const Bytes rest(prime.data() + prime.size() - 1, text.size() + 1);
  const double nats = read_through(backend, model, learner, rest, piece, state, each);
  return nats * bits_per_nat / static_cast<double>(text.size());
}

}  // namespace text_scoring
