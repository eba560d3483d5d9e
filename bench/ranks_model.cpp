// What the scans of a model cost whose time lies across processes: their parts and both ways to
// hand states on, measured, beside what ssm/mpi/handing.hpp says of them; and what it says of many
// ranks.
//
//   mpirun -n 2 ranks_model [steps of a rank] [channels] [state] [layers] [repetitions]

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <vector>

#include "ssm/core/backend.hpp"
#include "ssm/core/index.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/mpi/communicator.hpp"
#include "ssm/mpi/detail/selective_summaries.hpp"
#include "ssm/mpi/handing.hpp"
#include "ssm/mpi/ranks.hpp"
#include "ssm/mpi/selective_scan.hpp"

namespace {

using ssm::Communicator;
using ssm::Handing;
using ssm::Index;
using ssm::Tensor;

struct Sizes {
  Index steps = 2048, channels = 1024, state = 16, layers = 8;
  int repetitions = 20;
};

/// The scans of a model over this rank's piece: every layer has the same numbers, as time does not
/// depend on them, and a scratch of its own.
class Scans {
 public:
  explicit Scans(const Sizes& sizes) : layers_(static_cast<std::size_t>(sizes.layers)) {
    const std::array<Index, 3> rows{1, sizes.steps, sizes.channels};
    const std::array<Index, 4> coefficients{1, sizes.steps, 1, sizes.state};
    for (auto* tensor : {&u_, &delta_, &y_, &du_, &ddelta_}) tensor->resize(rows);
    for (auto* tensor : {&B_, &C_, &dB_, &dC_}) tensor->resize(coefficients);
    A_.resize({sizes.channels, sizes.state});
    dA_.resize(A_.extents());
    const auto fill = [](auto& tensor, float scale, float shift) {
      for (Index i = 0; i < tensor.size(); ++i)  // any numbers will do
        tensor.data()[i] = shift + scale * static_cast<float>(i * 7919 % 251) / 251;
    };
    fill(u_, 1, -0.5F), fill(delta_, 0.01F, 0.001F), fill(A_, -15, -1), fill(B_, 1, -0.5F);
    fill(C_, 1, -0.5F);
  }

  [[nodiscard]] ssm::SelectiveScanInputs<float> inputs() const {
    ssm::SelectiveScanInputs<float> in;
    in.u = u_, in.delta = delta_, in.A = A_, in.B = B_.view(), in.C = C_.view();
    return in;
  }
  [[nodiscard]] ssm::SelectiveScanInputGradients<float> gradients() {
    ssm::SelectiveScanInputGradients<float> din;
    din.u = du_, din.delta = ddelta_, din.A = dA_, din.B = dB_.view(), din.C = dC_.view();
    return din;
  }
  void forward(const ssm::Ranks& backend) {
    for (auto& scratch : layers_) selective_scan(backend, inputs(), {}, {y_}, scratch);
  }
  void backward(const ssm::Ranks& backend) {
    for (auto scratch = layers_.rbegin(); scratch != layers_.rend(); ++scratch)
      selective_scan_backward(backend, inputs(), {}, {y_}, gradients(), *scratch);
  }
  /// The scans of a rank alone, all channels at once or in blocks as the chain takes them.
  void alone(const ssm::detail::ScanBlocks& blocks, bool backward) {
    using ssm::detail::part_of, ssm::detail::selective_part;
    for (auto& layer : layers_) {
      blocks.make_room(layer.blocks);
      for (Index i = 0; i < blocks.count(); ++i) {
        const ssm::Share own = blocks.channels(i);
        auto& scratch = layer.blocks[static_cast<std::size_t>(i)];
        const ssm::detail::LentRoom lent(layer, scratch);
        const auto in = selective_part(inputs(), own, {0, 1});
        const auto y = part_of(y_.view(), 2, own);
        if (backward)
          selective_scan_backward(ssm::cpu(1), in, {}, {y},
                                  selective_part(gradients(), own, {0, 1}), scratch);
        else
          selective_scan(ssm::cpu(1), in, {}, {y}, scratch);
      }
    }
  }

 private:
  Tensor<float, 3> u_, delta_, y_, du_, ddelta_;
  Tensor<float, 2> A_, dA_;
  Tensor<float, 4> B_, C_, dB_, dC_;
  std::vector<ssm::SelectiveScanScratch<float>> layers_;
};

/// The least over repetitions of what the slowest rank takes, after one that allocates.
template <class Body>
double seconds(Communicator& world, int repetitions, const Body& body) {
  using Clock = std::chrono::steady_clock;
  double least = std::numeric_limits<double>::infinity();
  for (int i = 0; i <= repetitions; ++i) {
    world.barrier();
    const auto begin = Clock::now();
    body();
    const std::chrono::duration<double> passed = Clock::now() - begin;
    const double slowest = world.largest_of_all(passed.count());
    if (i > 0) least = (std::min)(least, slowest);
  }
  return least;
}

/// Half of the time that a message between the first two ranks takes there and back.
double message_seconds(Communicator& world, int repetitions, Index numbers) {
  constexpr int times = 20;
  std::vector<float> data(static_cast<std::size_t>(numbers));
  const int other = 1 - world.rank();
  const double all = seconds(world, repetitions, [&] {
    for (int i = 0; i < times && world.rank() < 2; ++i) {
      if (world.rank() == 0) world.send(other, data.data(), numbers);
      world.receive(other, data.data(), numbers);
      if (world.rank() == 1) world.send(other, data.data(), numbers);
    }
  });
  return all / (2 * times);
}

/// What a rank does to know the state before its steps, or the gradient by that after them.
double pass_seconds(const ssm::Ranks& backend, const Sizes& sizes, bool backward) {
  const Scans scans(sizes);
  const auto in = scans.inputs();
  const ssm::SelectiveScanOptions options;
  const auto checked = ssm::detail::check_selective_inputs("ranks_model", in, options);
  const ssm::detail::Chain chain(backend, ssm::Sequences<>{{}, backward});
  Tensor<float, 1> room;
  Tensor<float, 3> states(checked.states());
  return seconds(*backend.time, sizes.repetitions, [&] {
    const ssm::detail::SelectiveSummaries<float> summaries(in, options, checked, room);
    if (backward)
      summaries.pass_backward(backend.local, chain, in.u, {}, states);
    else
      summaries.pass_forward(backend.local, chain, {}, states);
  });
}

/// The costs of the parts on this machine, with all ranks at work at once.
ssm::ScanCosts measure(ssm::Ranks backend, const Sizes& sizes, Scans& scans) {
  Communicator& world = *backend.time;
  backend.blocks = 8;
  const auto states = static_cast<double>(sizes.channels * sizes.state);
  const double numbers = states * static_cast<double>(sizes.steps);
  const auto layers = static_cast<double>(sizes.layers);
  Sizes none = sizes;
  none.steps = 0;
  ssm::ScanCosts costs;
  const auto alone = [&](bool in_blocks, bool backward) {
    const ssm::detail::ScanBlocks blocks(backend, sizes.channels, 1, !in_blocks);
    return seconds(world, sizes.repetitions, [&] { scans.alone(blocks, backward); }) /
           (numbers * layers);
  };
  costs.scan = alone(false, false);
  costs.scan_backward = alone(false, true);
  const double each = static_cast<double>(sizes.channels) / static_cast<double>(backend.blocks);
  costs.block = each * (alone(true, false) / costs.scan - 1);
  costs.block_backward = each * (alone(true, true) / costs.scan_backward - 1);
  const double rounds = pass_seconds(backend, none, false);
  costs.sum = (pass_seconds(backend, sizes, false) - rounds) / numbers;
  costs.sum_backward = (pass_seconds(backend, sizes, true) - rounds) / numbers;
  const double message =
      message_seconds(world, sizes.repetitions, sizes.channels * (sizes.state + 1));
  costs.latency = message_seconds(world, sizes.repetitions, 1);
  costs.byte = (std::max)(0.0, message - costs.latency) / (4 * (states + double(sizes.channels)));
  costs.join = (std::max)(0.0, rounds / ssm::summary_rounds(world.size()) - message) / (2 * states);
  return costs;
}

ssm::ScansOverRanks scans_of(const Sizes& sizes, Index ranks, Index steps) {
  const Index blocks = ssm::chain_blocks(ranks, sizes.layers, sizes.channels);
  return {ranks, sizes.layers, blocks, sizes.channels, steps, sizes.channels * sizes.state};
}

void predict(const ssm::ScanCosts& costs, Index ranks, const Sizes& sizes, const char* network) {
  ssm::ScansOverRanks scans = scans_of(sizes, ranks, 1000000 / ranks);
  for (const bool backward : {false, true}) {
    scans.backward = backward;
    std::printf("predicted/%s/%s,%lld,%lld,,%.4g,%.4g\n", network,
                backward ? "backward" : "forward", static_cast<long long>(ranks),
                static_cast<long long>(scans.steps), chain_seconds(scans, costs),
                summaries_seconds(scans, costs));
  }
}

int run(Communicator& world, const Sizes& sizes) {
  if (world.size() < 2) return std::puts("ranks_model needs two ranks or more"), 1;
  auto backend = ssm::ranks(world, ssm::cpu(1));
  backend.layers = sizes.layers;
  Scans scans(sizes);
  const ssm::ScanCosts costs = measure(backend, sizes, scans);
  double measured[2][2];  // way, direction
  for (const int way : {0, 1}) {
    backend.handing = way == 0 ? Handing::chain : Handing::summaries;
    measured[way][0] = seconds(world, sizes.repetitions, [&] { scans.forward(backend); });
    measured[way][1] = seconds(world, sizes.repetitions, [&] { scans.backward(backend); });
  }
  if (world.rank() != 0) return 0;
  std::printf("# %lld layers of %lld channels, state %lld, float; one thread a rank\n",
              static_cast<long long>(sizes.layers), static_cast<long long>(sizes.channels),
              static_cast<long long>(sizes.state));
  std::printf(
      "# ns: scan %.4f, backward %.4f, sum %.4f, backward %.4f, join %.3f, byte %.3f; "
      "latency %.2f us; a block as %.1f channels, backward %.1f\n",
      costs.scan * 1e9, costs.scan_backward * 1e9, costs.sum * 1e9, costs.sum_backward * 1e9,
      costs.join * 1e9, costs.byte * 1e9, costs.latency * 1e6, costs.block, costs.block_backward);
  std::printf("name,ranks,steps_of_a_rank,way,seconds,predicted_seconds\n");
  ssm::ScansOverRanks here = scans_of(sizes, world.size(), sizes.steps);
  for (const int way : {0, 1})
    for (const int direction : {0, 1}) {
      here.backward = direction == 1;
      std::printf("measured/%s,%d,%lld,%s,%.4g,%.4g\n", here.backward ? "backward" : "forward",
                  world.size(), static_cast<long long>(sizes.steps),
                  way == 0 ? "chain" : "summaries", measured[way][direction],
                  way == 0 ? chain_seconds(here, costs) : summaries_seconds(here, costs));
    }
  std::printf(
      "# The model's word for 10^6 steps of all ranks together, not measured: messages as "
      "between these processes, and over a network of 30 us and 1 ns a byte.\n"
      "name,ranks,steps_of_a_rank,,chain_seconds,summaries_seconds\n");
  ssm::ScanCosts network = costs;
  network.latency = 30e-6;
  network.byte = 1e-9;
  for (const Index ranks : {8, 64, 1024}) {
    predict(costs, ranks, sizes, "one_machine");
    predict(network, ranks, sizes, "network");
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return ssm::run_over_ranks(argc, argv, [&](Communicator& world) {
    Sizes sizes;
    if (argc > 1) sizes.steps = std::atoll(argv[1]);
    if (argc > 2) sizes.channels = std::atoll(argv[2]);
    if (argc > 3) sizes.state = std::atoll(argv[3]);
    if (argc > 4) sizes.layers = std::atoll(argv[4]);
    if (argc > 5) sizes.repetitions = std::atoi(argv[5]);
    return run(world, sizes);
  });
}
