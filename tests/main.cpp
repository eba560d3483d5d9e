#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#endif

#include "support/run_tests.hpp"

int ssm::test::run_tests(int argc, char* argv[]) {
  Catch::Session session;
#if CATCH_VERSION_MAJOR == 2
  session.configData().warnings = Catch::WarnAbout::NoTests;
#endif
  if (const int error = session.applyCommandLine(argc, argv); error != 0) return error;
#if CATCH_VERSION_MAJOR == 2
  if (Catch::getAllTestCasesSorted(session.config()).empty()) {
    Catch::cerr() << "This program has no test.\n";
    return 2;
  }
#endif
  return session.run();
}

/// A program may have one of its own.
[[gnu::weak]] int main(int argc, char* argv[]) { return ssm::test::run_tests(argc, argv); }
