// A language model whose text lies across processes: how long one gradient takes, how much memory a
// rank needs and how much moves between ranks, at growing lengths, for layers of Mamba and for
// attention with multilayer perceptrons of about as many weights.
//
//   mpirun -n 4 ranks --longest 1000000
//
// Mamba hands on one state a layer. A text that is longer than --piece on every rank runs in
// pieces, each across all ranks, so that memory stays that of a piece. Attention sends the keys and
// values of all that came before, and its time grows with the square of the length: it ends where
// the next length would take more than --most-seconds.

#if defined(__linux__)
#include <malloc.h>
#endif
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "job.hpp"
#include "options.hpp"
#include "ssm/layers/attention.hpp"
#include "ssm/layers/attention_step.hpp"
#include "ssm/layers/deal.hpp"
#include "ssm/layers/gated_mlp.hpp"
#include "ssm/layers/mamba.hpp"
#include "ssm/layers/mamba_step.hpp"
#include "ssm/layers/one_of.hpp"
#include "ssm/layers/residual.hpp"
#include "ssm/models/language_model.hpp"
#include "ssm/models/language_model_in_pieces.hpp"
#include "ssm/mpi.hpp"

namespace {

using ssm::Index;
using MambaBlock = ssm::Residual<ssm::Mamba<float>>;
using AttentionBlock = ssm::Residual<ssm::Attention<float>>;
using MlpBlock = ssm::Residual<ssm::GatedMlp<float>>;
using MixedBlock = ssm::OneOf<AttentionBlock, MlpBlock>;

constexpr Index width = 128, layers = 8;
constexpr double mebi = 1024 * 1024;

/// The memory that this process has now, MiB; where nobody tells, the most that it has had.
double memory() {
  std::ifstream statm("/proc/self/statm");
  double all = 0, resident = 0;
  if (statm >> all >> resident) return resident * static_cast<double>(sysconf(_SC_PAGESIZE)) / mebi;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

/// Gives back what a pass before has freed.
void trim_memory() {
#if defined(__GLIBC__)
  malloc_trim(0);
#endif
}

/// The tokens of this rank, of any text, and those that follow them.
struct Text {
  ssm::Tensor<ssm::Token, 2> tokens, targets;

  explicit Text(const std::vector<ssm::Share>& shares) {
    Index length = 0;
    for (const ssm::Share& share : shares) length += share.count;
    tokens.resize({1, length});
    targets.resize({1, length});
    Index t = 0;
    for (const ssm::Share& share : shares)
      for (Index i = share.begin; i < share.begin + share.count; ++i, ++t) {
        tokens(0, t) = static_cast<ssm::Token>(i * 7919 % 251);
        targets(0, t) = static_cast<ssm::Token>((i + 1) * 7919 % 251);
      }
  }
};

/// What one gradient took, of the rank that took most.
struct Cost {
  double seconds = 0, memory = 0, moved = 0;  // MiB
};

/// A model of either kind, and what its last length took.
template <class Block>
struct Column {
  ssm::LanguageModel<Block> model;
  bool in_pieces;
  double seconds = 0, tokens = 1;

  /// About how long a text of this length takes, after what the last one took: for Mamba in
  /// proportion, and a forward pass more where pieces begin; for attention as the square, which is
  /// too much for short texts.
  [[nodiscard]] double expected(Index length) const {
    const double times = static_cast<double>(length) / tokens;
    return seconds * (in_pieces ? 1.4 * times : times * times);
  }

  Cost gradient(const ssm::Ranks& backend, Index length, const ssm::PieceOptions& pieces) {
    ssm::Communicator& world = *backend.all;
    trim_memory();
    ssm::LanguageModel<Block> gradients;
    ssm::LanguageModelScratch<Block> whole;
    ssm::LanguageModelPiecesScratch<Block> piece;
    const auto text_of = [&](Index steps) {
      return Text(in_pieces ? deal(backend, steps, pieces) : std::vector{piece_of(backend, steps)});
    };
    const auto pass = [&](const Text& text) {
      if (in_pieces)
        loss_in_pieces(backend, model, text.tokens, text.targets, {}, gradients, {}, pieces, piece);
      else
        loss(backend, model, text.tokens, text.targets, {}, gradients, {}, whole);
    };
    if (in_pieces)  // a first pass allocates
      pass(text_of(std::min(length, pieces.length * world.size())));
    else if (expected(length) < 2)
      pass(text_of(length));
    const Text text = text_of(length);
    Cost cost;
    world.barrier();
    world.reset_traffic();
    const job::Stopwatch watch;
    pass(text);
    const ssm::Traffic sent = world.traffic();
    sum_over_ranks(backend, gradients);
    cost.seconds = world.largest_of_all(watch.seconds());
    cost.moved =
        world.largest_of_all(static_cast<double>(sent.bytes + sent.collective_bytes) / mebi);
    cost.memory = world.largest_of_all(memory());
    seconds = cost.seconds;
    tokens = static_cast<double>(length);
    return cost;
  }
};

Column<MambaBlock> mamba() {
  return {ssm::LanguageModel<MambaBlock>(
              {.vocab = 256, .backbone = {layers, {.mixer = {.width = width}}}}),
          true};
}

Column<MixedBlock> attention() {
  ssm::LanguageModelConfig<MixedBlock> config{.vocab = 256};
  config.backbone.channels = width;
  for (Index i = 0; i < layers; ++i) {
    auto& layer = config.backbone.layers.emplace_back().kind;
    if (i % 2 == 0)
      layer = AttentionBlock::Config{.mixer = {.width = width, .heads = 4}};
    else
      layer = MlpBlock::Config{.mixer = {.width = width, .inner = 416}};
  }
  return {ssm::LanguageModel<MixedBlock>(config), false};
}

struct Options {
  Index longest = 65536, piece = 4096;
  int threads = 1;
  double most_seconds = 60;
};

int run(ssm::Communicator& world, const Options& o) {
  const auto backend = ssm::ranks(world, ssm::cpu(o.threads));
  const ssm::PieceOptions pieces{.length = o.piece};
  auto left = mamba();
  auto right = attention();
  initialize(left.model, 1);
  initialize(right.model, 1);
  const bool speaks = world.rank() == 0;
  const auto weights = [](const auto& column) {
    return static_cast<long long>(parameter_count(column.model));
  };
  if (speaks)
    std::printf(
        "%d ranks of %d threads, pieces of %lld tokens\n%9s %-34s  attention and mlp, %lld "
        "weights\n"
        "%9s %10s %11s %11s  %10s %11s %11s\n",
        world.size(), backend.local.thread_count(), static_cast<long long>(o.piece * world.size()),
        "", job::format("Mamba, %lld weights", weights(left)).c_str(), weights(right), "tokens",
        "seconds", "MiB a rank", "MiB moved", "seconds", "MiB a rank", "MiB moved");
  const auto print = [&](auto& column, Index length, const char* end) {
    const double expected = column.expected(length);
    const bool too_long = !column.in_pieces && expected > o.most_seconds;
    if (speaks && !too_long && expected > 5)
      std::fprintf(stderr, "  %lld tokens of %s: about %.0f s\n", static_cast<long long>(length),
                   column.in_pieces ? "Mamba" : "attention", expected);
    if (too_long) {
      if (speaks) std::printf(" %10s %11s %11s%s", "-", "-", "-", end);
    } else {
      const Cost cost = column.gradient(backend, length, pieces);
      if (speaks)
        std::printf(" %10.3f %11.0f %11.3f%s", cost.seconds, cost.memory, cost.moved, end);
    }
    if (speaks) std::fflush(stdout);
  };
  for (Index length = std::min<Index>(o.longest, 1024);; length = std::min(o.longest, 4 * length)) {
    if (speaks) std::printf("%9lld", static_cast<long long>(length));
    print(left, length, " ");
    print(right, length, "\n");
    if (length >= o.longest) return 0;
  }
}

int start(ssm::Communicator& world, int argc, char** argv) {
  options::Command app("A gradient over processes: Mamba, and attention in a ring");
  Options o;
  app.add("--longest", o.longest, "text, tokens").check(options::between(1, 1e12)).show_default();
  app.add("--threads", o.threads, "of a rank; 0: all")
      .check(options::between(0, 4096))
      .show_default();
  app.add("--most-seconds", o.most_seconds, "of attention").check(options::positive).show_default();
  app.add("--piece", o.piece, "tokens of each rank in a piece of Mamba's text")
      .check(options::between(1, 1e9))
      .show_default();
  if (const auto ended = app.parse(argc, argv, world.rank() > 0)) return *ended;
  return run(world, o);
}

}  // namespace

int main(int argc, char** argv) {
  return ssm::run_over_ranks(argc, argv, [&](ssm::Communicator& world) {
    return job::in_words([&] { return start(world, argc, argv); });
  });
}
