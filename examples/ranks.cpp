// One gradient of a language model whose text lies across processes: how long it takes, how much
// memory a rank needs, and how little it sends, at growing lengths.
//
//   mpirun -n 2 ranks [longest length] [threads of a rank]

#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "job.hpp"
#include "ssm/layers/mamba.hpp"
#include "ssm/layers/residual.hpp"
#include "ssm/models/language_model.hpp"
#include "ssm/mpi.hpp"

namespace {

using ssm::Index;
using Block = ssm::Residual<ssm::Mamba<float>>;
using Model = ssm::LanguageModel<Block>;

/// The most memory that this process has had, MiB.
double memory() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

double largest(ssm::Communicator& world, double x) {
  std::vector<double> all(static_cast<std::size_t>(world.size()));
  world.gather(&x, 1, all.data());
  return *std::max_element(all.begin(), all.end());
}

int run(ssm::Communicator& world, Index longest, int threads) {
  const auto backend = ssm::ranks(world, ssm::cpu(threads));
  Model model({.vocab = 256, .backbone = {8, {.mixer = {.width = 128}}}});
  initialize(model, 1);
  Model gradients;
  if (world.rank() == 0)
    std::printf("%d ranks, %lld weights\n%9s %9s %14s %13s %15s %15s\n", world.size(),
                static_cast<long long>(parameter_count(model)), "tokens", "seconds",
                "tokens/second", "MiB a rank", "state, bytes", "weights, bytes");
  for (Index length = 1024; length <= longest; length *= 2) {
    const ssm::Share piece = piece_of(backend, length);
    ssm::Tensor<ssm::Token, 2> tokens({1, piece.count}), targets({1, piece.count});
    for (Index t = 0; t < piece.count; ++t) {  // any text will do
      tokens(0, t) = static_cast<ssm::Token>((piece.begin + t) * 7919 % 251);
      targets(0, t) = static_cast<ssm::Token>((piece.begin + t + 1) * 7919 % 251);
    }
    ssm::LanguageModelScratch<Block> scratch;
    double seconds = 0;
    for (int pass = 0; pass < 2; ++pass) {  // the first allocates
      world.barrier();
      world.reset_traffic();
      const job::Stopwatch watch;
      loss(backend, model, tokens.view(), targets.view(), {}, gradients, {}, scratch);
      sum_over_ranks(backend, gradients);
      seconds = largest(world, watch.seconds());
    }
    const ssm::Traffic sent = world.traffic();
    const double state = largest(world, static_cast<double>(sent.bytes));
    const double shared = largest(world, static_cast<double>(sent.collective_bytes));
    const double room = largest(world, memory());
    if (world.rank() == 0)
      std::printf("%9lld %9.3f %14.0f %13.0f %15.0f %15.0f\n", static_cast<long long>(length),
                  seconds, static_cast<double>(length) / seconds, room, state, shared);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return ssm::run_over_ranks(argc, argv, [&](ssm::Communicator& world) {
    return run(world, argc > 1 ? std::atoll(argv[1]) : 16384, argc > 2 ? std::atoi(argv[2]) : 1);
  });
}
