#pragma once

namespace ssm::test {

/// Catch2's main program, except that a program without tests fails in version 2 as in version 3.
int run_tests(int argc, char* argv[]);

}  // namespace ssm::test
