#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#if defined(_WIN32)
#include <io.h>
#else
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>
#endif

#include "ssm/core/error.hpp"

namespace ssm::detail {

[[noreturn]] inline void throw_file(const std::filesystem::path& path, const std::string& what) {
  throw FileError(path.string() + ": " + what);
}

/// "no such file", or what the system says of an error of its own.
inline std::string reason_of(int error) {
  return error == ENOENT ? "no such file" : std::generic_category().message(error);
}

/// "path: what: reason of the system".
[[noreturn]] inline void throw_system(const std::filesystem::path& path, const std::string& what,
                                      int error) {
  throw_file(path, error == ENOENT ? reason_of(error) : what + ": " + reason_of(error));
}

/// A name out of a file, fit to be printed: quoted, control characters replaced, cut when long.
inline std::string in_quotes(std::string_view name) {
  constexpr std::size_t longest = 120;
  std::string text = "\"";
  for (char c : name.substr(0, longest))
    text += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  return text += name.size() > longest ? "...\"" : "\"";
}

/// What stands at a path, links followed. An error other than that there is nothing is thrown.
inline std::filesystem::file_type type_of(const std::filesystem::path& path) {
  std::error_code error;
  const auto type = std::filesystem::status(path, error).type();
  if (type == std::filesystem::file_type::none) throw_system(path, "cannot be read", error.value());
  return type;
}

/// A file of the system, closed at the end of its scope. Its functions return −1 and leave the
/// reason in errno, as the system's do.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) noexcept : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor() {
    if (number_ >= 0) (void)close();
  }
  [[nodiscard]] explicit operator bool() const noexcept { return number_ >= 0; }

  static constexpr std::size_t most = std::size_t{1} << 30;  // in one call

#if defined(_WIN32)
  static Descriptor to_read(const std::filesystem::path& path) noexcept {
    return Descriptor(::_wopen(path.c_str(), _O_RDONLY | _O_BINARY | _O_NOINHERIT));
  }
  /// A new file: one that is there is an error, and no link is followed.
  static Descriptor to_create(const std::filesystem::path& path) noexcept {
    return Descriptor(::_wopen(path.c_str(),
                               _O_WRONLY | _O_CREAT | _O_EXCL | _O_BINARY | _O_NOINHERIT,
                               _S_IREAD | _S_IWRITE));
  }
  std::int64_t size() const noexcept {
    struct _stat64 s {};
    return ::_fstat64(number_, &s) != 0 ? -1 : static_cast<std::int64_t>(s.st_size);
  }
  bool regular() const noexcept {
    struct _stat64 s {};
    return ::_fstat64(number_, &s) == 0 && (s.st_mode & _S_IFMT) == _S_IFREG;
  }
  std::int64_t read(char* to, std::size_t count, std::uint64_t at) const noexcept {
    if (::_lseeki64(number_, static_cast<std::int64_t>(at), SEEK_SET) < 0) return -1;
    return ::_read(number_, to, static_cast<unsigned>((std::min)(count, most)));
  }
  std::int64_t write(const char* from, std::size_t count) const noexcept {
    return ::_write(number_, from, static_cast<unsigned>((std::min)(count, most)));
  }
  int sync() const noexcept { return ::_commit(number_); }
  int close() noexcept { return ::_close(std::exchange(number_, -1)); }
#else
  /// Never waits for the other end of a pipe.
  static Descriptor to_read(const std::filesystem::path& path) noexcept {
    return Descriptor(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  }
  /// A new file: one that is there is an error, and no link is followed.
  static Descriptor to_create(const std::filesystem::path& path) noexcept {
    return Descriptor(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  }
  std::int64_t size() const noexcept {
    struct stat s {};
    return ::fstat(number_, &s) != 0 ? -1 : static_cast<std::int64_t>(s.st_size);
  }
  bool regular() const noexcept {
    struct stat s {};
    return ::fstat(number_, &s) == 0 && S_ISREG(s.st_mode);
  }
  std::int64_t read(char* to, std::size_t count, std::uint64_t at) const noexcept {
    return ::pread(number_, to, (std::min)(count, most), static_cast<off_t>(at));
  }
  std::int64_t write(const char* from, std::size_t count) const noexcept {
    return ::write(number_, from, (std::min)(count, most));
  }
  int sync() const noexcept { return ::fsync(number_); }
  /// Waits until nobody else holds it, or, for a shared hold, nobody alone. What cannot be held, or
  /// is held for a second by somebody who has other things in mind, is not waited for.
  void hold(bool shared) const noexcept {
    const struct timespec pause { 0, 2'000'000 };
    for (int i = 0; i < 500; ++i) {
      const bool held = ::flock(number_, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB) == 0;
      if (held || (errno != EWOULDBLOCK && errno != EINTR)) return;
      (void)::nanosleep(&pause, nullptr);
    }
  }
  int close() noexcept { return ::close(std::exchange(number_, -1)); }
  /// The first `size` bytes as memory that is read only, or null.
  [[nodiscard]] const std::byte* map(std::size_t size) const noexcept {
    void* const memory = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, number_, 0);
    return memory == MAP_FAILED ? nullptr : static_cast<const std::byte*>(memory);
  }
  static void unmap(const std::byte* memory, std::size_t size) noexcept {
    (void)::munmap(const_cast<std::byte*>(memory), size);
  }
#endif

 private:
  int number_ = -1;
};

/// Keeps what a folder holds as it is while several of its files are read, or put in place, by
/// whoever else asks for the folder too. Where the system has no such locks it does nothing.
class FolderHold {
 public:
  FolderHold(const std::filesystem::path& folder, bool shared) {
#if defined(_WIN32)
    (void)folder, (void)shared;
#else
    folder_ = Descriptor::to_read(folder.empty() ? "." : folder);
    if (folder_) folder_.hold(shared);
#endif
  }
  /// Makes new names of the folder outlast a loss of power, where the system can.
  void sync() const noexcept {
#if !defined(_WIN32)
    if (folder_) (void)folder_.sync();
#endif
  }

 private:
  Descriptor folder_;
};

/// A regular file open for reading. Every fault is a FileError that names the path and the reason.
class InputFile {
 public:
  explicit InputFile(std::filesystem::path path) : path_(std::move(path)) {
    file_ = Descriptor::to_read(path_);
    if (!file_) throw_system(path_, "cannot be opened", errno);
    if (!file_.regular()) throw_file(path_, "is not a regular file");
    const std::int64_t size = file_.size();
    if (size < 0) throw_system(path_, "its size cannot be read", errno);
    size_ = static_cast<std::uint64_t>(size);
  }

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }

  /// Reads `count` bytes from byte `at` on.
  void read(char* to, std::size_t count, std::uint64_t at) const {
    while (count > 0) {
      const std::int64_t got = file_.read(to, count, at);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) throw_system(path_, "cannot be read", errno);
      if (got == 0) throw_file(path_, "ended before it was read to its end");
      to += got;
      at += static_cast<std::uint64_t>(got);
      count -= static_cast<std::size_t>(got);
    }
  }

  /// All of the file as memory, whose pages are read when they are first looked at, and which every
  /// process that maps the file shares. It outlives this object. A file that is made shorter in
  /// place meanwhile ends the program, as no file is that a Commit replaces.
  [[nodiscard]] std::shared_ptr<const std::byte> map() const {
    const auto size = static_cast<std::size_t>(size_);
    if (size == 0) return nullptr;
#if defined(_WIN32)
    std::shared_ptr<std::byte> memory(new std::byte[size], std::default_delete<std::byte[]>());
    read(reinterpret_cast<char*>(memory.get()), size, 0);
    return memory;
#else
    const std::byte* const memory = file_.map(size);
    if (memory == nullptr) throw_system(path_, "cannot be mapped into memory", errno);
    return {memory, [size](const std::byte* p) { Descriptor::unmap(p, size); }};
#endif
  }

  /// All of a file of at most `limit` bytes.
  [[nodiscard]] std::string read_all(std::uint64_t limit) const {
    if (size_ > limit)
      throw_file(path_, "has " + std::to_string(size_) + " bytes, expected at most " +
                            std::to_string(limit));
    std::string bytes(static_cast<std::size_t>(size_), '\0');
    read(bytes.data(), bytes.size(), 0);
    return bytes;
  }

 private:
  std::filesystem::path path_;
  Descriptor file_;
  std::uint64_t size_ = 0;
};

/// Reads a whole file of at most `limit` bytes.
inline std::string read_file(const std::filesystem::path& path,
                             std::uint64_t limit = std::uint64_t{0xffffffff}) {
  return InputFile(path).read_all(limit);
}

}  // namespace ssm::detail
