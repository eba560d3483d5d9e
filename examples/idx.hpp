#pragma once

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

/// Bytes of an IDX file (the format of MNIST), compressed by gzip or not.
struct IdxFile {
  std::vector<std::uint32_t> extents;
  std::vector<unsigned char> values;  ///< row-major
};

/// Reads unsigned bytes of the given rank. At most `limit` of them are taken into memory.
/// @throws std::runtime_error that names the file: it is missing, cut short, too long, or not that
inline IdxFile read_idx(const std::filesystem::path& path, std::size_t rank,
                        std::uint64_t limit = std::uint64_t{1} << 28) {
  const auto fail = [&](const std::string& what) {
    throw std::runtime_error(path.string() + ": " + what);
  };
  std::error_code error;
  if (std::filesystem::exists(path, error) && !std::filesystem::is_regular_file(path, error))
    fail("is not a file");
  std::unique_ptr<gzFile_s, int (*)(gzFile)> file(gzopen(path.c_str(), "rb"), &gzclose);
  if (!file) fail("cannot be opened");
  const auto read = [&](unsigned char* to, std::size_t count) {
    for (std::size_t done = 0; done < count;) {
      const auto ask = static_cast<unsigned>(std::min<std::size_t>(count - done, 1 << 24));
      const int got = gzread(file.get(), to + done, ask);
      if (got <= 0) fail("ends early or is damaged");
      done += static_cast<std::size_t>(got);
    }
  };
  std::array<unsigned char, 4> word{};
  read(word.data(), 4);
  if (word[0] != 0 || word[1] != 0 || word[2] != 8 || word[3] != rank)
    fail("is not an IDX file of unsigned bytes with " + std::to_string(rank) + " extents");
  IdxFile idx;
  std::uint64_t size = 1;
  for (std::size_t i = 0; i < rank; ++i) {
    read(word.data(), 4);
    idx.extents.push_back(std::uint32_t{word[0]} << 24 | std::uint32_t{word[1]} << 16 |
                          std::uint32_t{word[2]} << 8 | std::uint32_t{word[3]});
    size = idx.extents.back() == 0 ? 0 : size;
    if (size > limit / std::max<std::uint64_t>(idx.extents.back(), 1))
      fail("says that it holds more than " + std::to_string(limit) + " bytes");
    size *= idx.extents.back();
  }
  // What the header says is taken only as far as the file bears it out.
  constexpr std::uint64_t step = 1 << 24;
  while (idx.values.size() < size) {
    const std::size_t at = idx.values.size();
    idx.values.resize(static_cast<std::size_t>(std::min<std::uint64_t>(size, at + step)));
    read(idx.values.data() + at, idx.values.size() - at);
  }
  if (gzread(file.get(), word.data(), 1) != 0) fail("goes on after its last value");
  // Here zlib says whether the check at the end of what was compressed is there.
  if (gzclose(file.release()) != Z_OK) fail("ends early or is damaged");
  return idx;
}
