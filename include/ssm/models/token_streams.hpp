#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ssm/core/backend.hpp"
#include "ssm/core/checks.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/parallel.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/layers/layer.hpp"
#include "ssm/layers/states.hpp"
#include "ssm/models/language_model.hpp"
#include "ssm/models/mamba_lm.hpp"
#include "ssm/models/sampling.hpp"

namespace ssm {
inline namespace SSM_DETAIL_ISA {

/// All that the next tokens of one stream depend on, as a plain value: to keep it, to copy it, to
/// go on with it elsewhere. Its size does not grow with what was read and written.
template <class Layer>
struct TokenStream {
  StackState<Layer> state;    ///< of one sequence, after what was read
  std::vector<Token> unread;  ///< read before it writes: of the prompt, or the token written last
  Sampler sampler;            ///< draws its tokens
  Index left = 0;             ///< how many tokens it may still write
};

/// What happened to a stream.
enum class StreamEnd {
  none,   ///< it goes on
  most,   ///< it has written as many tokens as it may, and is closed
  failed  ///< nothing can be drawn from its logits (NaN), so it is closed without a token
};

/// A token that a stream has written.
struct StreamToken {
  std::uint64_t stream = 0;         ///< the stream, as `open` gave it
  Token token = 0;                  ///< what it wrote
  StreamEnd end = StreamEnd::none;  ///< whether that was its last
};

/// Many streams of tokens through one language model, which come and go as they like: each reads a
/// prompt and then writes. The streams that write share one step, so that the weights are read once
/// for all; the prompts of the others are read in pieces between the steps, in turn, so that nobody
/// waits for the whole of another's long prompt. A stream takes constant memory, however long it
/// becomes.
///
///     ssm::TokenStreams streams(ssm::load_mamba_lm("kjv"));
///     const auto first = streams.open(prompt, {.temperature = 0.8}, 1000);
///     while (streams.count() > 0)
///       for (const ssm::StreamToken& t : streams.advance()) use(t.stream, t.token);
///
/// The tokens of a stream are those that it would write alone, whatever the others do and whatever
/// the number of threads, where a step computes each row by itself. It owns the model and all
/// memory.
template <class Layer>
class TokenStreams {
 public:
  using Model = LanguageModel<Layer>;    ///< type of the model
  using T = typename Layer::value_type;  ///< type of a logit
  using Stream = TokenStream<Layer>;     ///< type of a stream that is taken out

  /// Takes the model. No stream is open.
  /// @param backend the threads that read prompts and draw tokens
  /// @param piece how many tokens of prompts are read between two steps: fewer keep those who write
  ///   waiting for less time, more are read the faster
  /// @throws ShapeError for a model without its parameters, DomainError for a piece below 1
  explicit TokenStreams(Model model, const Cpu& backend = cpu, Index piece = 256)
      : backend_(backend), piece_(piece), model_(std::make_unique<Model>(std::move(model))) {
    if (piece < 1)
      detail::throw_domain("TokenStreams", "piece", std::to_string(piece), "1 or more");
    steppers_.emplace_back(1, std::make_unique<Stepper>(*model_, Index{1}));
    state_ = make_state(*model_, 0);
  }

  /// The model that it runs.
  [[nodiscard]] const Model& model() const noexcept { return *model_; }
  /// How many streams are open.
  [[nodiscard]] std::size_t count() const noexcept { return reading_.size() + rows_.size(); }
  /// How many of them are still reading their prompt.
  [[nodiscard]] std::size_t reading() const noexcept { return reading_.size(); }
  /// The bytes that one stream takes: its state, its logits and what its sampler needs.
  [[nodiscard]] std::size_t bytes_each() const {
    StackState<Layer> one = make_state(*model_, 1);
    std::size_t bytes = 0;
    tensors(one, [&](std::string_view, auto& tensor) {
      bytes += static_cast<std::size_t>(tensor.size()) * sizeof(*tensor.data());
    });
    return bytes + static_cast<std::size_t>(model_->config.vocab) *
                       (sizeof(T) + sizeof(double) + 2 * sizeof(Token));
  }

  /// Opens a stream that reads a prompt and then writes at most `most` tokens.
  /// @param prompt (count), at least one token
  /// @return what names the stream from now on; no two streams have the same name
  /// @throws DomainError for an empty prompt, a token outside the vocabulary, sampling options out
  ///   of range, and for `most` below 1
  std::uint64_t open(const View<const Token, 1>& prompt, const SamplingOptions& sampling,
                     Index most) {
    detail::check_given("TokenStreams::open", "prompt", prompt, "(count)");
    std::vector<Token> tokens(static_cast<std::size_t>(prompt.extent(0)));
    for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = prompt(static_cast<Index>(i));
    Sampler sampler(model_->config.vocab, sampling);
    check(tokens, most);
    for (const Token token : tokens) sampler.observe(token);
    return add({make_state(*model_, 1), std::move(tokens), std::move(sampler), most});
  }
  /// Opens a stream that goes on where another one was taken out, here or elsewhere.
  /// @throws DomainError as for a prompt, of what is unread; ShapeError for the state or the
  /// sampler
  ///   of another model
  std::uint64_t open(Stream stream) {
    check(stream.unread, stream.left);
    if (stream.sampler.vocab() != model_->config.vocab)
      detail::throw_shape("TokenStreams::open", "sampler",
                          "of " + std::to_string(stream.sampler.vocab()) + " tokens",
                          std::to_string(model_->config.vocab));
    StackState<Layer> state = make_state(*model_, 1);
    copy_sequences(stream.state, 0, state, 0, 1);  // throws unless it is of this model
    stream.state = std::move(state);
    return add(std::move(stream));
  }

  /// Closes a stream before its end. @throws DomainError for one that is not open
  void close(std::uint64_t stream) {
    if (const auto reader = reader_of(stream); reader != reading_.end())
      reading_.erase(reader);
    else
      remove_row(row_of(stream));
  }
  /// Closes a stream and gives it away as a value, with which `open` goes on.
  /// @throws DomainError for one that is not open
  [[nodiscard]] Stream take(std::uint64_t stream) {
    if (const auto reader = reader_of(stream); reader != reading_.end()) {
      Stream taken = std::move(reader->stream);
      taken.unread.erase(taken.unread.begin(),
                         taken.unread.begin() + static_cast<std::ptrdiff_t>(reader->read));
      reading_.erase(reader);
      return taken;
    }
    const std::size_t row = row_of(stream);
    StackState<Layer> state = make_state(*model_, 1);
    copy_sequences(state_, static_cast<Index>(row), state, 0, 1);
    Stream taken{
        std::move(state), {rows_[row].token}, std::move(rows_[row].sampler), rows_[row].left};
    remove_row(row);
    return taken;
  }

  /// Reads a piece of the prompts, or several short ones whole; then every stream that has read its
  /// prompt writes one token. Streams that have ended are closed.
  /// @return the tokens written, valid until the next call
  std::span<const StreamToken> advance() {
    written_.clear();
    read_prompts();
    if (rows_.empty()) return written_;
    step_rows();
    draw();
    for (const Row& row : rows_) written_.push_back({row.stream, row.token, row.end});
    for (std::size_t row = rows_.size(); row-- > 0;)
      if (rows_[row].end != StreamEnd::none) remove_row(row);
    return written_;
  }

 private:
  using Stepper = LanguageModelStepper<Layer>;
  /// A stream that reads its prompt.
  struct Reader {
    std::uint64_t name;
    Stream stream;
    std::size_t read;  // of its unread tokens
  };
  /// A stream that writes; its state is a row of that of all.
  struct Row {
    std::uint64_t stream;
    Sampler sampler;
    Index left;
    Token token;  // not read yet
    StreamEnd end;
  };

  void check(const std::vector<Token>& tokens, Index most) const {
    if (tokens.empty())
      detail::throw_domain("TokenStreams::open", "prompt", "empty", "at least one token");
    if (most < 1)
      detail::throw_domain("TokenStreams::open", "most", std::to_string(most), "1 or more");
    require_tokens(View<const Token, 1>(tokens.data(), {static_cast<Index>(tokens.size())}),
                   model_->config.vocab);
  }
  std::uint64_t add(Stream stream) {
    reading_.push_back({++last_name_, std::move(stream), 0});
    return last_name_;
  }
  typename std::deque<Reader>::iterator reader_of(std::uint64_t stream) {
    return std::find_if(reading_.begin(), reading_.end(),
                        [&](const Reader& reader) { return reader.name == stream; });
  }
  std::size_t row_of(std::uint64_t stream) const {
    const auto row =
        std::find_if(rows_.begin(), rows_.end(), [&](const Row& r) { return r.stream == stream; });
    if (row == rows_.end())
      detail::throw_domain("TokenStreams", "stream", std::to_string(stream), "one that is open");
    return static_cast<std::size_t>(row - rows_.begin());
  }

  /// The pieces of a prompt begin at its multiples of `piece_`, whoever else reads: so the state
  /// after it does not depend on others in its last bit.
  void read_prompts() {
    LayerOptions<> options;
    options.keep = false;
    for (Index budget = piece_; !reading_.empty();) {
      Reader& reader = reading_.front();
      std::vector<Token>& tokens = reader.stream.unread;
      const Index rest = static_cast<Index>(tokens.size() - reader.read) - 1;  // the last: a step
      const Index piece = (std::min)(rest, piece_);
      if (piece > budget) return;
      budget -= piece;
      if (piece > 0)
        forward(backend_, *model_, View<const Token, 2>(tokens.data() + reader.read, {1, piece}),
                reader.stream.state, {}, options, scratch_);
      reader.read += static_cast<std::size_t>(piece);
      Reader moved = std::move(reader);
      reading_.pop_front();
      if (piece < rest)
        reading_.push_back(std::move(moved));
      else
        add_row(std::move(moved));
    }
  }
  void add_row(Reader reader) {
    const auto row = static_cast<Index>(rows_.size());
    resize_rows((std::max)(row + 1, batch_));
    copy_sequences(reader.stream.state, 0, state_, row, 1);
    rows_.push_back({reader.name, std::move(reader.stream.sampler), reader.stream.left,
                     reader.stream.unread.back(), StreamEnd::none});
  }
  void remove_row(std::size_t row) {
    const std::size_t last = rows_.size() - 1;
    if (row != last) {
      copy_sequences(state_, static_cast<Index>(last), state_, static_cast<Index>(row), 1);
      rows_[row] = std::move(rows_[last]);
    }
    rows_.pop_back();
  }

  /// Rows are the first extent of a state, and what is resized keeps its order and its memory.
  void resize_rows(Index batch) {
    if (batch == batch_) return;
    tensors(state_, [&](std::string_view, auto& tensor) {
      auto extents = tensor.extents();
      extents[0] = batch;
      tensor.resize(extents);
    });
    batch_ = batch;
  }
  /// How many rows a step takes for so many streams: four sizes for each doubling, so that a few
  /// steppers serve all numbers and at most a fifth of the rows is nobody's.
  static Index batch_for(std::size_t streams) {
    const std::size_t unit = (std::max)(std::bit_floor(streams) / 4, std::size_t{1});
    return static_cast<Index>((streams + unit - 1) / unit * unit);
  }
  Stepper& stepper_for(Index batch) {
    constexpr std::size_t most = 4;  // each holds what a step prepares of the weights
    const auto found = std::find_if(steppers_.begin(), steppers_.end(),
                                    [&](const auto& s) { return s.first == batch; });
    if (found != steppers_.end()) {
      std::rotate(steppers_.begin(), found, found + 1);
    } else {
      if (steppers_.size() == most) steppers_.pop_back();
      steppers_.emplace(steppers_.begin(), batch, std::make_unique<Stepper>(*model_, batch));
    }
    return *steppers_.front().second;
  }
  void step_rows() {
    const Index batch = batch_for(rows_.size());
    Stepper& stepper = stepper_for(batch);
    resize_rows(batch);
    tokens_.resize({batch});
    logits_.resize({batch, model_->config.vocab});
    tokens_.fill(0);
    for (std::size_t row = 0; row < rows_.size(); ++row)
      tokens_(static_cast<Index>(row)) = rows_[row].token;
    step(backend_, stepper, tokens_.view(), state_, logits_.view());
  }

  static bool can_draw(const View<const T, 1>& logits) {
    bool any = false;
    for (Index i = 0; i < logits.extent(0); ++i) {
      if (!(logits(i) < std::numeric_limits<T>::infinity())) return false;
      any = any || std::isfinite(logits(i));
    }
    return any;
  }
  void draw() {
    constexpr double nanoseconds = 8;  // a logit, with a top-p ten times that
    const auto count = static_cast<Index>(rows_.size());
    parallel_for(for_elements(backend_, count * model_->config.vocab, nanoseconds), count,
                 [&](Index i) {
                   Row& row = rows_[static_cast<std::size_t>(i)];
                   const View<const T, 1> logits = std::as_const(logits_).view()[i];
                   if (!can_draw(logits)) {
                     row.end = StreamEnd::failed;
                     return;
                   }
                   row.token = row.sampler(logits);
                   if (--row.left == 0) row.end = StreamEnd::most;
                 });
  }

  Cpu backend_;
  Index piece_;
  std::unique_ptr<Model> model_;  // whose address the steppers know
  std::vector<std::pair<Index, std::unique_ptr<Stepper>>> steppers_;  // by batch, used last first
  std::deque<Reader> reading_;
  std::vector<Row> rows_;
  StackState<Layer> state_;  // (batch_, …): of the rows, and of nobody
  Index batch_ = 0;
  Tensor<Token, 1> tokens_;
  Tensor<T, 2> logits_;
  LanguageModelScratch<Layer> scratch_;
  std::vector<StreamToken> written_;
  std::uint64_t last_name_ = 0;
};

/// Deduces the type of the layers from the model.
template <class Layer>
TokenStreams(LanguageModel<Layer>) -> TokenStreams<Layer>;
/// Deduces the type of the layers from the model.
template <class Layer>
TokenStreams(LanguageModel<Layer>, Cpu) -> TokenStreams<Layer>;
/// Deduces the type of the layers from the model.
template <class Layer>
TokenStreams(LanguageModel<Layer>, Cpu, Index) -> TokenStreams<Layer>;

#if SSM_HAS_LIBRARY
SSM_INSTANCE TokenStreams<Residual<Mamba<float>>>::TokenStreams(MambaLM<float>, const Cpu&, Index);
SSM_INSTANCE std::size_t TokenStreams<Residual<Mamba<float>>>::bytes_each() const;
SSM_INSTANCE std::uint64_t TokenStreams<Residual<Mamba<float>>>::open(const View<const Token, 1>&,
                                                                      const SamplingOptions&,
                                                                      Index);
SSM_INSTANCE std::uint64_t TokenStreams<Residual<Mamba<float>>>::open(
    TokenStream<Residual<Mamba<float>>>);
SSM_INSTANCE void TokenStreams<Residual<Mamba<float>>>::close(std::uint64_t);
SSM_INSTANCE TokenStream<Residual<Mamba<float>>> TokenStreams<Residual<Mamba<float>>>::take(
    std::uint64_t);
SSM_INSTANCE std::span<const StreamToken> TokenStreams<Residual<Mamba<float>>>::advance();
#endif

}  // namespace SSM_DETAIL_ISA
}  // namespace ssm
