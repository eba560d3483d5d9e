#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#endif

#include <csignal>
#include <string>

#include "mpi/over_ranks.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"
#include "ssm/mpi/communicator.hpp"

namespace {

ssm::Communicator* everyone = nullptr;

}  // namespace

ssm::Communicator& ssm::test::world() { return *everyone; }

/// Catch2's main program on every rank: all run the same tests in the same order. With the argument
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
    Catch::Session session;
#if CATCH_VERSION_MAJOR == 2
    session.configData().warnings = Catch::WarnAbout::NoTests;
#endif
    if (const int error = session.applyCommandLine(argc, argv); error != 0) return error;
    return session.run();
  });
}
