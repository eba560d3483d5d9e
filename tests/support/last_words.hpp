#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <stdexcept>
#include <string>

namespace ssm::test {

/// What is printed as `body` ends a process of its own by a signal; nothing when it does not.
template <class Body>
std::string last_words(Body&& body) {
  int ends[2];
  if (pipe(ends) != 0) throw std::runtime_error("last_words: no pipe");
  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("last_words: no process");
  if (child == 0) {
    std::signal(SIGABRT, SIG_DFL);  // the test framework's handler would report the whole run
    dup2(ends[1], STDERR_FILENO);
    body();
    _exit(0);
  }
  close(ends[1]);
  std::string words;
  std::array<char, 256> part;
  for (ssize_t count; (count = read(ends[0], part.data(), part.size())) > 0;)
    words.append(part.data(), static_cast<std::size_t>(count));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? words : std::string();
}

}  // namespace ssm::test
