#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#endif

/// Catch2's main program, except that a program without tests fails in version 2 as in version 3.
int main(int argc, char* argv[]) {
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
