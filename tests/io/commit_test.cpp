#include "ssm/io/commit.hpp"

#include <atomic>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "ssm/io/checkpoint.hpp"
#include "ssm/io/safetensors.hpp"
#include "support/catch.hpp"
#include "support/contains.hpp"
#include "support/temp_directory.hpp"

#if !defined(_WIN32)
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace fs = std::filesystem;
using ssm::FileError;
using ssm::detail::Commit;
using ssm::detail::OutputFile;
using ssm::detail::write_atomically;
using ssm::test::contains;
using ssm::test::read_bytes;
using ssm::test::TempDirectory;

namespace {

void put(const fs::path& path, const std::string& text) {
  write_atomically(path, [&](OutputFile& file) { file.write(text); });
}

std::ptrdiff_t entries(const fs::path& folder) {
  return std::distance(fs::directory_iterator(folder), {});
}

ssm::MambaLM<float> model(ssm::Index width) {
  ssm::MambaLM<float> weights(
      ssm::mamba_lm_config<float>({.vocab = 5, .width = width, .layers = 2}));
  ssm::initialize(weights, 1);
  return weights;
}

}  // namespace

TEST_CASE("a file is replaced whole, and nothing stays beside it") {
  const TempDirectory directory;
  put(directory / "a", "one");
  CHECK(read_bytes(directory / "a") == "one");
  put(directory / "a", "two");
  CHECK(read_bytes(directory / "a") == "two");
  const auto interrupted = [&] {
    write_atomically(directory / "a", [](OutputFile& file) {
      file.write("thr");
      throw std::runtime_error("no more");
    });
  };
  CHECK_THROWS_AS(interrupted(), std::runtime_error);
  CHECK(read_bytes(directory / "a") == "two");
  CHECK(entries(directory.path()) == 1);
}

TEST_CASE("several files are put in place together, or none is") {
  const TempDirectory directory;
  put(directory / "b", "old");
  fs::create_directory(directory / "folder");
  {
    Commit commit;
    commit.add(directory / "a", [](OutputFile& file) { file.write("new"); });
    commit.add(directory / "b", [](OutputFile& file) { file.write("new"); });
    CHECK_THROWS_AS(commit.add(directory / "folder", [](OutputFile&) {}), FileError);
  }
  CHECK_FALSE(fs::exists(directory / "a"));
  CHECK(read_bytes(directory / "b") == "old");
  CHECK(entries(directory.path()) == 2);

  Commit commit;
  commit.add(directory / "a", [](OutputFile& file) { file.write("new"); });
  commit.add(directory / "b", [](OutputFile& file) { file.write("newer"); });
  commit.finish();
  CHECK(read_bytes(directory / "a") + read_bytes(directory / "b") == "newnewer");
  CHECK(entries(directory.path()) == 3);
}

TEST_CASE("two writers of one path never tear it") {
  const TempDirectory directory;
  const auto path = directory / "a";
  const std::string texts[2] = {std::string(200'000, 'x'), std::string(300'000, 'y')};
  put(path, texts[0]);
  std::atomic<int> running{2};
  std::vector<std::thread> writers;
  for (const std::string& text : texts)
    writers.emplace_back([&] {
      for (int i = 0; i < 50; ++i) put(path, text);
      --running;
    });
  int reads = 0, torn = 0;
  do {
    const std::string got = ssm::detail::read_file(path);
    ++reads;
    if (got != texts[0] && got != texts[1]) ++torn;
  } while (running > 0);
  for (std::thread& writer : writers) writer.join();
  CHECK(torn == 0);
  CHECK(reads > 10);
  CHECK(entries(directory.path()) == 1);
}

TEST_CASE("a path that leads nowhere or everywhere is refused by a FileError") {
  const TempDirectory directory;
  directory.write("file", "x");
  const fs::path long_name = directory / std::string(300, 'n');
  for (const fs::path& path : {directory / "no" / "a", directory / "file" / "a", long_name,
                               directory.path(), fs::path()}) {
    INFO(path);
    CHECK_THROWS_AS(put(path, "x"), FileError);
    CHECK_THROWS_AS(ssm::SafetensorsReader(path), FileError);
    CHECK_THROWS_AS(ssm::load_mamba_lm(path), FileError);
  }
  for (const fs::path& path : {directory / "file" / "a", directory / "file", long_name})
    CHECK_THROWS_AS(ssm::save_mamba_lm(path, model(1)), FileError);
  CHECK_THROWS_WITH(ssm::SafetensorsReader(directory / "no"), contains("no: no such file"));
  CHECK(entries(directory.path()) == 1);
}

#if !defined(_WIN32)

TEST_CASE("the reason of the system is named, and only what is not there is no such file") {
  const TempDirectory directory;
  directory.write("file", "x");
  fs::create_symlink("loop", directory / "loop");
  CHECK_THROWS_WITH(ssm::SafetensorsReader(directory / "loop"),
                    contains("symbolic links") && !contains("no such file"));
  CHECK_THROWS_WITH(put(directory / "loop", ""),
                    contains("symbolic links") && !contains("no such file"));
  CHECK_THROWS_WITH(ssm::load_mamba_lm(directory / "loop"), contains("symbolic links"));
  CHECK_THROWS_WITH(ssm::SafetensorsReader(directory / "file/a"), contains("Not a directory"));
  if (::geteuid() != 0) {
    fs::permissions(directory / "file", fs::perms::none);
    CHECK_THROWS_WITH(ssm::SafetensorsReader(directory / "file"),
                      contains("Permission denied") && !contains("no such file"));
  }
}

TEST_CASE("a pipe is refused at once, as a source and as a target") {
  const TempDirectory directory;
  const auto pipe = directory / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  fs::create_symlink("pipe", directory / "link");
  for (const char* name : {"pipe", "link"}) {
    CHECK_THROWS_WITH(ssm::SafetensorsReader(directory / name), contains("not a regular file"));
    CHECK_THROWS_WITH(put(directory / name, "x"), contains("not a regular file"));
  }
  CHECK(fs::is_fifo(pipe));
  REQUIRE(::mkfifo((directory / "model.safetensors").c_str(), 0600) == 0);
  CHECK_THROWS_WITH(ssm::load_mamba_lm(directory.path()), contains("not a regular file"));
  CHECK_THROWS_WITH(ssm::save_mamba_lm(directory.path(), model(1)), contains("not a regular file"));
}

TEST_CASE("a device is never replaced") {
  for (const char* device : {"/dev/full", "/dev/null"}) {
    if (!fs::is_character_file(device)) continue;
    CHECK_THROWS_WITH(put(device, "x"), contains("not a regular file"));
    CHECK_THROWS_WITH(ssm::SafetensorsReader(device), contains("not a regular file"));
    CHECK(fs::is_character_file(device));
  }
}

TEST_CASE("a link stays a link, and no link laid beside the path is followed") {
  const TempDirectory directory;
  fs::create_directory(directory / "there");
  directory.write("there/file", "old");
  directory.write("precious", "kept");
  fs::create_symlink("there/file", directory / "a");
  fs::create_symlink("a", directory / "b");
  fs::create_symlink("there/new", directory / "c");
  fs::create_symlink("precious", directory / "b.partial");
  put(directory / "b", "new");
  put(directory / "c", "made");
  CHECK(fs::is_symlink(directory / "a"));
  CHECK(fs::is_symlink(directory / "b"));
  CHECK(fs::is_symlink(directory / "c"));
  CHECK(read_bytes(directory / "there/file") == "new");
  CHECK(read_bytes(directory / "there/new") == "made");
  CHECK(read_bytes(directory / "precious") == "kept");
  CHECK(entries(directory / "there") == 2);
}

TEST_CASE("a file that is replaced keeps its permissions") {
  const TempDirectory directory;
  put(directory / "a", "one");
  fs::permissions(directory / "a", fs::perms::owner_read | fs::perms::owner_write);
  put(directory / "a", "two");
  CHECK(fs::status(directory / "a").permissions() ==
        (fs::perms::owner_read | fs::perms::owner_write));
}

TEST_CASE("when the system takes no more bytes, the reason is named and what was there stays") {
  const TempDirectory directory;
  put(directory / "a", "old");
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  rlimit limit = before;
  limit.rlim_cur = 10'000;
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
  std::string what;
  try {
    put(directory / "a", std::string(20'000, 'x'));
  } catch (const FileError& error) {
    what = error.what();
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, handler);
  CHECK_THAT(what, contains("a: cannot be written: File too large"));
  CHECK(read_bytes(directory / "a") == "old");
  CHECK(entries(directory.path()) == 1);
}

TEST_CASE("a process killed while it saves leaves a whole model, old or new") {
  const TempDirectory directory;
  const auto folder = directory / "model";
  const auto small = model(2), large = model(5);
  ssm::save_mamba_lm(folder, small);
  int saved[2] = {};
  for (int trial = 0; trial < 40; ++trial) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      for (;;) {
        ssm::save_mamba_lm(folder, large);
        ssm::save_mamba_lm(folder, small);
      }
    }
    ::usleep(static_cast<useconds_t>(500 + 397 * trial));
    // While it runs, and when it is dead.
    const auto now = ssm::load_mamba_lm(folder).config.width();
    CHECK((now == 2 || now == 5));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    const auto left = ssm::load_mamba_lm(folder);
    ++saved[left.config == large.config];
    const auto& same = left.config == large.config ? large : small;
    REQUIRE(left.config == same.config);
    CHECK(std::equal(left.embedding.begin(), left.embedding.end(), same.embedding.begin()));
  }
  CHECK(saved[0] > 0);
  CHECK(saved[1] > 0);
}

#endif
