#include <csignal>
#include <string>

#include "mpi/world.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"
#include "ssm/mpi/communicator.hpp"
#include "support/run_tests.hpp"

namespace {

ssm::Communicator* everyone = nullptr;

}  // namespace

ssm::Communicator& ssm::test::world() { return *everyone; }

/// The tests on every rank: all run the same tests in the same order. With the argument
/// `throws` or `is-killed` rank 1 does not live to the end while the others wait for it.
int main(int argc, char* argv[]) {
  return ssm::run_over_ranks(argc, argv, [&](ssm::Communicator& world) {
    const std::string death = argc > 1 ? argv[1] : "";
    if (death == "throws" || death == "is-killed") {
      if (world.rank() == 1 && death == "throws") throw ssm::DomainError("the sentence of a rank");
      if (world.rank() == 1) std::raise(SIGKILL);
      ssm::Index nothing = 0;
      world.receive(1, &nothing, 1);
      return 0;
    }
    everyone = &world;
    return ssm::test::run_tests(argc, argv);
  });
}
