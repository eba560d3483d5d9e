#include "ssm/mpi/handing.hpp"

#include <array>

#include "support/catch.hpp"

namespace handing_test {

using namespace ssm;

TEST_CASE("rounds of summaries are the logarithm of ranks, rounded up") {
  constexpr std::array<std::array<int, 2>, 9> ranks_and_rounds{
      {{1, 0}, {2, 1}, {3, 2}, {4, 2}, {5, 3}, {8, 3}, {9, 4}, {64, 6}, {1024, 10}}};
  for (const auto& [ranks, rounds] : ranks_and_rounds) CHECK(summary_rounds(ranks) == rounds);
}

TEST_CASE(
    "the chain costs every block of a rank once, and one block and one message a rank before") {
  const ScanCosts costs{
      .scan = 2, .scan_backward = 5, .block = 1, .block_backward = 2, .latency = 100, .byte = 1};
  ScansOverRanks scans{
      .ranks = 4, .layers = 3, .blocks = 2, .channels = 4, .steps = 10, .states = 8, .bytes = 4};
  CHECK(chain_seconds(scans, costs) == 2 * 3 * 120 + 3 * (120 + 100 + 4 * 4));  // 8·10·2·(½ + ¼)
  scans.backward = true;
  CHECK(chain_seconds(scans, costs) == 2 * 3 * 400 + 3 * (400 + 100 + 4 * 4));  // 8·10·5·(½ + ½)
  scans.ranks = 1;
  scans.blocks = 1;
  CHECK(chain_seconds(scans, costs) == 3 * 8 * 10 * 5);
}

TEST_CASE("the blocks of a chain are those that cost least, within a tenth") {
  for (const Index ranks : {2, 8, 64})
    for (const Index layers : {1, 8, 48})
      for (const Index channels : {256, 1024, 4096}) {
        const auto seconds = [&](Index blocks) {
          ScansOverRanks scans{ranks, layers, blocks, channels, 15625, channels * 16};
          const double forward = chain_seconds(scans);
          scans.backward = true;
          return forward + chain_seconds(scans);
        };
        const Index blocks = chain_blocks(ranks, layers, channels);
        INFO(ranks << " ranks, " << layers << " layers, " << channels << " channels: " << blocks);
        for (Index other = 2; other <= 16; ++other) CHECK(seconds(blocks) <= 1.1 * seconds(other));
      }
  CHECK(chain_blocks(1, 8, 1024) == 1);
}

TEST_CASE("summaries cost a sum and a scan a layer, and rounds of messages that are joined") {
  const ScanCosts costs{.scan = 2,
                        .scan_backward = 5,
                        .sum = 1,
                        .sum_backward = 3,
                        .join = 7,
                        .latency = 100,
                        .byte = 1};
  ScansOverRanks scans{.ranks = 5, .layers = 3, .blocks = 2, .steps = 10, .states = 8, .bytes = 4};
  CHECK(summaries_seconds(scans, costs) == 3 * (8 * 10 * 3 + 3 * (100 + 8 * 4 + 2 * 8 * 7)));
  scans.backward = true;
  CHECK(summaries_seconds(scans, costs) == 3 * (8 * 10 * 8 + 3 * (100 + 8 * 4 + 2 * 8 * 7)));
}

TEST_CASE("few ranks and many blocks take the chain, many ranks and few channels summaries") {
  ScansOverRanks scans{
      .layers = 8, .blocks = 4, .channels = 1024, .steps = 15625, .states = 1024 * 16};
  for (const bool trains : {false, true}) {
    for (const Index ranks : {1, 2, 8}) {
      scans.ranks = ranks;
      CHECK(cheaper_handing(scans, trains) == Handing::chain);
    }
    scans.ranks = 1024;
    CHECK(cheaper_handing(scans, trains) == Handing::summaries);
  }
  scans = {.ranks = 64, .layers = 2, .channels = 64, .steps = 15625, .states = 64 * 16};
  CHECK(cheaper_handing(scans) == Handing::summaries);
}

TEST_CASE("two ranks of a model take the chain, however long their pieces and few its channels") {
  for (const Index layers : {4, 8})
    for (const Index steps : {1, 100, 100000})
      CHECK(cheaper_handing({.ranks = 2, .layers = layers, .steps = steps, .states = 1024}) ==
            Handing::chain);
}

}  // namespace handing_test
