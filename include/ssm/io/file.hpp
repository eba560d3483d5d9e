#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <ios>
#include <limits>
#include <string>
#include <string_view>
#include <system_error>

#include "ssm/core/error.hpp"

namespace ssm::detail {

[[noreturn]] inline void throw_file(const std::filesystem::path& path, const std::string& what) {
  throw FileError(path.string() + ": " + what);
}

/// A name out of a file, fit to be printed: quoted, control characters replaced, cut when long.
inline std::string in_quotes(std::string_view name) {
  constexpr std::size_t longest = 120;
  std::string text = "\"";
  for (char c : name.substr(0, longest))
    text += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  return text += name.size() > longest ? "...\"" : "\"";
}

/// The size of a regular file in bytes. Throws FileError for anything else.
inline std::uint64_t regular_file_size(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) throw_file(path, "no such file");
  if (!std::filesystem::is_regular_file(status)) throw_file(path, "is not a regular file");
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  if (error) throw_file(path, "its size cannot be read: " + error.message());
  return static_cast<std::uint64_t>(size);
}

inline std::ifstream open_for_reading(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw_file(path, "cannot be opened for reading");
  return file;
}

/// Reads a whole file of at most `limit` bytes.
inline std::string read_file(const std::filesystem::path& path,
                             std::uint64_t limit = (std::numeric_limits<std::uint32_t>::max)()) {
  const std::uint64_t size = regular_file_size(path);
  if (size > limit)
    throw_file(path,
               "has " + std::to_string(size) + " bytes, expected at most " + std::to_string(limit));
  std::ifstream file = open_for_reading(path);
  std::string bytes(static_cast<std::size_t>(size), '\0');
  file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!file) throw_file(path, "cannot be read");
  return bytes;
}

/// Lets `write(stream)` fill a file beside `path`, then puts it in the place of `path`: whoever
/// reads `path` sees the old bytes or the new ones, never a part. Throws FileError.
template <class Write>
void write_atomically(const std::filesystem::path& path, Write&& write) {
  std::filesystem::path partial = path;
  partial += ".partial";
  std::error_code ignored;
  try {
    std::ofstream file(partial, std::ios::binary | std::ios::trunc);
    if (!file) throw_file(partial, "cannot be opened for writing");
    write(file);
    file.close();
    if (!file) throw_file(partial, "cannot be written");
    std::error_code error;
    std::filesystem::rename(partial, path, error);
    if (error) throw_file(path, "cannot be replaced: " + error.message());
  } catch (...) {
    std::filesystem::remove(partial, ignored);
    throw;
  }
}

}  // namespace ssm::detail
