#pragma once

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "ssm/io/file.hpp"

namespace ssm::detail {

/// A new file that is written from its beginning to its end. Faults are FileErrors with the
/// system's reason.
class OutputFile {
 public:
  /// Of what is going to be `path`, which errors name.
  OutputFile(std::filesystem::path path, Descriptor file)
      : path_(std::move(path)), file_(std::move(file)) {}
  void write(const void* from, std::size_t count) {
    const char* bytes = static_cast<const char*>(from);
    while (count > 0) {
      const std::int64_t done = file_.write(bytes, count);
      if (done < 0 && errno == EINTR) continue;
      if (done < 0) throw_system(path_, "cannot be written", errno);
      bytes += done;
      count -= static_cast<std::size_t>(done);
    }
  }
  void write(std::string_view text) { write(text.data(), text.size()); }
  /// Returns when the bytes would outlast a loss of power.
  void finish() {
    // Some file systems cannot sync; bytes that could not be kept are EIO, ENOSPC or EDQUOT.
    if (file_.sync() != 0 && errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP)
      throw_system(path_, "cannot be written", errno);
    if (file_.close() != 0 && errno != EINTR) throw_system(path_, "cannot be written", errno);
  }

 private:
  std::filesystem::path path_;
  Descriptor file_;
};

/// Where a path leads when symbolic links are followed, even if nothing is there yet.
inline std::filesystem::path behind_links(std::filesystem::path path) {
  for (int links = 0; links < 40; ++links) {
    std::error_code error;
    if (!std::filesystem::is_symlink(std::filesystem::symlink_status(path, error))) return path;
    const std::filesystem::path to = std::filesystem::read_symlink(path, error);
    if (error) throw_system(path, "is a link that cannot be read", error.value());
    path = path.parent_path() / to;
  }
  throw_system(path, "cannot be replaced", ELOOP);
}

/// Several files that take the places of those before them together.
///
/// Each is written whole beside its place, under a name of its own that no other writer has, and is
/// on the disk before any is put in place. Then all are renamed, one right after the other in the
/// order of `add`, while the folder is held against whoever else commits there. So a reader of one
/// path sees the old bytes or the new ones, never a part; after a kill the files of the first
/// few paths are new, and the order must be such that what is left can be used. A kill may leave a
/// file `.ssm-<numbers>.partial`, which nothing reads.
///
/// A path that is a symbolic link stays one: the file it leads to is replaced. What is there and is
/// no regular file (a device, a pipe, a folder) is refused before anything is written. The file
/// keeps the permissions of the one it replaces; hard links to that one keep the old bytes.
class Commit {
 public:
  Commit() = default;
  Commit(const Commit&) = delete;
  Commit& operator=(const Commit&) = delete;
  ~Commit() {
    std::error_code ignored;
    for (const Item& item : items_)
      if (!item.partial.empty()) std::filesystem::remove(item.partial, ignored);
  }

  /// Lets `write(OutputFile&)` make the new file of `path`. Throws FileError.
  template <class Write>
  void add(const std::filesystem::path& path, Write&& write) {
    Item item{behind_links(path), {}};
    const std::filesystem::file_type there = type_of(item.target);
    const bool replaces = there == std::filesystem::file_type::regular;
    if (!replaces && there != std::filesystem::file_type::not_found)
      throw_file(path, "cannot be replaced: it is not a regular file");
    const std::filesystem::path folder = item.target.parent_path();
    if (type_of(folder.empty() ? "." : folder) != std::filesystem::file_type::directory)
      throw_file(path, "cannot be written: its folder does not exist");
    OutputFile file(path, make_beside(item, path));
    items_.push_back(std::move(item));  // from here on it is removed again
    write(file);
    if (replaces) keep_permissions(items_.back());
    file.finish();
  }

  /// Lets a file go before the first one is put in place, where there is one.
  void remove_first(const std::filesystem::path& path) { outdated_.push_back(behind_links(path)); }

  /// Puts everything in place. Throws FileError.
  void finish() {
    if (items_.empty()) return;
    const FolderHold folder(items_.front().target.parent_path(), false);
    std::error_code error;
    for (const std::filesystem::path& path : outdated_) {
      std::filesystem::remove(path, error);
      if (error) throw_system(path, "cannot be removed", error.value());
    }
    if (!outdated_.empty()) folder.sync();
    for (Item& item : items_) {
      std::filesystem::rename(item.partial, item.target, error);
      if (error) throw_system(item.target, "cannot be replaced", error.value());
      item.partial.clear();
    }
    folder.sync();
  }

 private:
  struct Item {
    std::filesystem::path target, partial;
  };

  /// Makes an empty file beside the target, under a name that nobody has.
  static Descriptor make_beside(Item& item, const std::filesystem::path& path) {
    const auto now = std::chrono::system_clock::now().time_since_epoch().count();
    for (int attempt = 0;; ++attempt) {
      item.partial = item.target.parent_path() /
                     (".ssm-" + std::to_string(now) + "-" + std::to_string(attempt) + ".partial");
      Descriptor file = Descriptor::to_create(item.partial);
      if (file) return file;
      if (errno != EEXIST || attempt == 1000) throw_system(path, "cannot be written", errno);
    }
  }
  static void keep_permissions(const Item& item) {
    std::error_code ignored;
    const auto mode = std::filesystem::status(item.target, ignored).permissions();
    if (!ignored) std::filesystem::permissions(item.partial, mode, ignored);
  }

  std::vector<Item> items_;
  std::vector<std::filesystem::path> outdated_;
};

/// One file, by `write(OutputFile&)`, as Commit does several. Throws FileError.
template <class Write>
void write_atomically(const std::filesystem::path& path, Write&& write) {
  Commit commit;
  commit.add(path, write);
  commit.finish();
}

/// Makes a folder and those above it, where they are not there. Throws FileError.
inline void make_folder(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw_system(folder, "cannot be made", error.value());
  if (type_of(folder) != std::filesystem::file_type::directory)
    throw_file(folder, "cannot be made: it is not a folder");
}

}  // namespace ssm::detail
