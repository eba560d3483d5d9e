#include <array>
#include <vector>

#include "mpi/over_ranks.hpp"

namespace communicator_test {

using namespace ssm;
using test::world;

TEST_CASE("messages of any length arrive in order, and are counted") {
  const int rank = world().rank(), size = world().size();
  const int next = (rank + 1) % size, before = (rank + size - 1) % size;
  const std::vector<Index> lengths{0, 1, 255, 256, 257, 1000, 32768, 32769, 300000};
  world().reset_traffic();
  Index bytes = 0;
  for (const Index length : lengths) {  // nobody waits before all have sent
    std::vector<double> numbers(static_cast<std::size_t>(length), rank + 0.5);
    world().send(next, numbers.data(), length);
    bytes += length * 8;
  }
  CHECK(world().traffic() == Traffic{static_cast<Index>(lengths.size()), bytes, 0});
  for (const Index length : lengths) {
    std::vector<double> numbers(static_cast<std::size_t>(length));
    world().receive(before, numbers.data(), length);
    CHECK(numbers == std::vector<double>(static_cast<std::size_t>(length), before + 0.5));
  }
}

TEST_CASE("a message of another length than expected is an error that says so") {
  const int rank = world().rank(), size = world().size();
  const std::array<float, 3> numbers{1, 2, 3};
  world().send((rank + 1) % size, numbers.data(), 2);
  std::array<float, 3> got{};
  const std::string before = std::to_string((rank + size - 1) % size);
  CHECK_THROWS_WITH(world().receive((rank + size - 1) % size, got.data(), 3),
                    "Communicator::receive: a message of rank " + before +
                        " has 8 bytes, expected 12; do all ranks run the same model on the same "
                        "batch?");
  std::vector<char> packets(4096);  // two of them
  Communicator other = world().split(0);
  other.send((rank + 1) % size, packets.data(), 4096);
  CHECK_THROWS_WITH(other.receive((rank + size - 1) % size, packets.data(), 2048),
                    "Communicator::receive: a message of rank " + before +
                        " has 2048 bytes and 1 parts more, expected 2048; do all ranks run the "
                        "same model on the same batch?");
  other.receive((rank + size - 1) % size, packets.data(), 2048);  // the other one
}

TEST_CASE("gathers, broadcasts and exchanges are what MPI says") {
  const int rank = world().rank(), size = world().size();
  std::vector<int> all(static_cast<std::size_t>(size)), ranks_in_order(all), parts(all);
  for (int r = 0; r < size; ++r) {
    ranks_in_order[static_cast<std::size_t>(r)] = r;
    parts[static_cast<std::size_t>(r)] = 10 * rank + r;
  }
  world().gather(&rank, 1, all.data());
  CHECK(all == ranks_in_order);
  CHECK(world().of_all(rank) == ranks_in_order);
  CHECK(world().sum_of_all(rank + 0.5) == size * size / 2.0);
  CHECK(world().largest_of_all(-rank) == 0);
  int number = rank;
  world().broadcast(size - 1, &number, 1);
  CHECK(number == size - 1);
  world().exchange(parts.data(), 1, all.data());
  for (int r = 0; r < size; ++r) CHECK(all[static_cast<std::size_t>(r)] == 10 * r + rank);
  Communicator half = world().split(rank % 2);
  CHECK(half.size() == (rank % 2 == 0 ? (size + 1) / 2 : size / 2));
  CHECK(half.rank() == rank / 2);
}

TEST_CASE("shares are in order, and differ by one at most") {
  for (const Index total : {0, 1, 2, 10, 11})
    for (const int parts : {1, 2, 3, 4}) {
      Index next = 0;
      for (int i = 0; i < parts; ++i) {
        const Share share = share_of(total, i, parts);
        CHECK(share.begin == next);
        CHECK((share.count == total / parts || share.count == total / parts + 1));
        next += share.count;
      }
      CHECK(next == total);
    }
}

/// Tensors of several sizes, one of which takes several rounds.
struct Weights {
  using value_type = float;
  Tensor<float, 1> few{{3}}, none{{0}}, many{{(Index{1} << 20) + 12345}};
};
template <class Visit>
void parameters(Weights& weights, Visit&& visit) {
  visit("few", weights.few, weights.few.extents(), false);
  visit("none", weights.none, weights.none.extents(), false);
  visit("many", weights.many, weights.many.extents(), false);
}

TEST_CASE("sums over ranks are in the order of ranks") {
  Weights weights;
  const auto value = [](int rank, Index i) {
    return static_cast<float>(i % 1000 + 1) * (rank % 2 == 0 ? 1e-3F : 1e4F) / 3;
  };
  const auto each = [&](const auto& body) {
    for (auto* tensor : {&weights.few, &weights.none, &weights.many})
      for (Index i = 0; i < tensor->size(); ++i) body((*tensor)(i), i);
  };
  each([&](float& x, Index i) { x = value(world().rank(), i); });
  sum_over_ranks(ranks(world()), weights);
  bool same = true;
  each([&](const float& x, Index i) {
    float sum = value(0, i);
    for (int r = 1; r < world().size(); ++r) sum += value(r, i);
    same = same && x == sum;
  });
  CHECK(same);
}

TEST_CASE("a grid needs a divisor of the number of ranks") {
  CHECK_THROWS_AS(Grid(world(), 0), DomainError);
  CHECK_THROWS_AS(Grid(world(), world().size() + 1), DomainError);
}

}  // namespace communicator_test
