#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ssm/core/error.hpp"
#include "ssm/io/bytes.hpp"
#include "ssm/io/commit.hpp"
#include "ssm/io/file.hpp"

/// Archives in the zip format, as .npz files are: entries with their bytes stored or deflated, and
/// a directory at the end, in 32 or in 64 bits (PKWARE's APPNOTE 6.3, sections 4.3 and 4.5.3).
namespace ssm::detail {

/// The checksum of zip archives, polynomial 0xedb88320.
class Crc32 {
 public:
  void add(const char* bytes, std::size_t count) noexcept {
    for (std::size_t i = 0; i < count; ++i)
      state_ = table()[(state_ ^ static_cast<unsigned char>(bytes[i])) & 0xff] ^ (state_ >> 8);
  }
  [[nodiscard]] std::uint32_t value() const noexcept { return ~state_; }

 private:
  static constexpr std::array<std::uint32_t, 256> make_table() {
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t crc = i;
      for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc % 2 == 1 ? 0xedb88320U : 0);
      table[i] = crc;
    }
    return table;
  }
  static const std::array<std::uint32_t, 256>& table() noexcept {
    static constexpr std::array<std::uint32_t, 256> table = make_table();
    return table;
  }

  std::uint32_t state_ = 0xffffffffU;
};

[[nodiscard]] inline std::uint32_t crc32(const Bytes& bytes) {
  Crc32 crc;
  std::array<char, 65536> room;
  for (std::uint64_t done = 0; done < bytes.size(); done += room.size()) {
    const auto now =
        static_cast<std::size_t>((std::min<std::uint64_t>)(room.size(), bytes.size() - done));
    bytes.read(room.data(), now, done);
    crc.add(room.data(), now);
  }
  return crc.value();
}

/// What the directory says of one entry.
struct ZipEntry {
  int method = 0;            ///< 0: stored; 8: deflated
  std::uint32_t crc = 0;     ///< of its bytes, unpacked
  std::uint64_t packed = 0;  ///< bytes in the file
  std::uint64_t size = 0;    ///< bytes unpacked
  std::uint64_t begin = 0;   ///< of its local header
};

/// A little-endian number of `size` bytes; 0 where they are not there.
[[nodiscard]] inline std::uint64_t number_at(std::string_view bytes, std::size_t at,
                                             std::size_t size) noexcept {
  std::uint64_t number = 0;
  for (std::size_t i = 0; i < size && at + i < bytes.size(); ++i)
    number |= std::uint64_t{static_cast<unsigned char>(bytes[at + i])} << (8 * i);
  return number;
}

inline constexpr std::uint64_t zip_local = 0x04034b50, zip_central = 0x02014b50,
                               zip_end = 0x06054b50, zip_end_64 = 0x06064b50,
                               zip_locator_64 = 0x07064b50;
inline constexpr std::uint64_t zip_in_64 =
    0xffffffff;  ///< a number that stands elsewhere, in 64 bits

/// Replaces the numbers that do not fit into 32 bits by those of an entry's extra field, in which
/// they stand in this order.
inline bool take_64(std::string_view extra, std::initializer_list<std::uint64_t*> numbers) {
  std::string_view wide;
  for (std::size_t at = 0; at + 4 <= extra.size();) {
    const auto size = static_cast<std::size_t>(number_at(extra, at + 2, 2));
    if (number_at(extra, at, 2) == 1) wide = extra.substr(at + 4, size);
    at += 4 + size;
  }
  for (std::uint64_t* number : numbers) {
    if (*number != zip_in_64) continue;
    if (wide.size() < 8) return false;
    *number = number_at(wide, 0, 8);
    wide.remove_prefix(8);
  }
  return true;
}

/// The directory of an archive: every entry by its name. @throws FileError
[[nodiscard]] inline std::map<std::string, ZipEntry> read_zip_directory(const InputFile& file) {
  const auto fail = [&](const std::string& what) { throw_file(file.path(), what); };
  const auto broken = [&] { fail("is no zip archive, or is cut short or damaged"); };
  constexpr std::size_t end_size = 22, locator_size = 20, longest_comment = 65535;
  std::string tail(
      static_cast<std::size_t>(
          (std::min<std::uint64_t>)(file.size(), end_size + locator_size + longest_comment)),
      '\0');
  file.read(tail.data(), tail.size(), file.size() - tail.size());
  const std::size_t end = tail.rfind(std::string_view("PK\x05\x06", 4));
  if (end == std::string::npos || end + end_size > tail.size()) broken();

  std::uint64_t count = number_at(tail, end + 10, 2), size = number_at(tail, end + 12, 4),
                begin = number_at(tail, end + 16, 4);
  if (end >= locator_size && number_at(tail, end - locator_size, 4) == zip_locator_64) {
    const std::uint64_t at = number_at(tail, end - locator_size + 8, 8);
    std::string record(56, '\0');
    if (at > file.size() || record.size() > file.size() - at) broken();
    file.read(record.data(), record.size(), at);
    if (number_at(record, 0, 4) != zip_end_64) broken();
    count = number_at(record, 32, 8);
    size = number_at(record, 40, 8);
    begin = number_at(record, 48, 8);
  }
  if (begin > file.size() || size > file.size() - begin) broken();
  constexpr std::uint64_t largest = 1U << 28;
  if (size > largest)
    fail("has a directory of " + std::to_string(size) + " bytes, expected at most " +
         std::to_string(largest));
  std::string directory(static_cast<std::size_t>(size), '\0');
  file.read(directory.data(), directory.size(), begin);

  std::map<std::string, ZipEntry> entries;
  constexpr std::size_t fixed = 46;
  std::size_t at = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    if (directory.size() - at < fixed || number_at(directory, at, 4) != zip_central) broken();
    const std::size_t name_size = number_at(directory, at + 28, 2),
                      extra_size = number_at(directory, at + 30, 2),
                      comment_size = number_at(directory, at + 32, 2);
    if (directory.size() - at - fixed < name_size + extra_size + comment_size) broken();
    const std::string name = directory.substr(at + fixed, name_size);
    ZipEntry entry{static_cast<int>(number_at(directory, at + 10, 2)),
                   static_cast<std::uint32_t>(number_at(directory, at + 16, 4)),
                   number_at(directory, at + 20, 4), number_at(directory, at + 24, 4),
                   number_at(directory, at + 42, 4)};
    const std::string_view extra =
        std::string_view(directory).substr(at + fixed + name_size, extra_size);
    if (!take_64(extra, {&entry.size, &entry.packed, &entry.begin})) broken();
    if (number_at(directory, at + 8, 2) % 2 == 1)
      fail("entry " + in_quotes(name) + " is encrypted");
    if (entry.method != 0 && entry.method != 8)
      fail("entry " + in_quotes(name) + " is compressed by method " + std::to_string(entry.method) +
           ", expected 0 (stored) or 8 (deflate)");
    if (entry.method == 0 && entry.packed != entry.size) broken();
    if (!entries.emplace(name, entry).second) fail("has two entries " + in_quotes(name));
    at += fixed + name_size + extra_size + comment_size;
  }
  return entries;
}

/// Where the bytes of an entry begin. @throws FileError
[[nodiscard]] inline std::uint64_t zip_data(const InputFile& file, const std::string& known,
                                            const ZipEntry& entry) {
  constexpr std::size_t fixed = 30;
  std::string header(fixed, '\0');
  const auto broken = [&] { throw FileError(known + " is cut short or damaged"); };
  if (entry.begin > file.size() || fixed > file.size() - entry.begin) broken();
  file.read(header.data(), header.size(), entry.begin);
  if (number_at(header, 0, 4) != zip_local) broken();
  const std::uint64_t begin =
      entry.begin + fixed + number_at(header, 26, 2) + number_at(header, 28, 2);
  if (begin > file.size() || entry.packed > file.size() - begin) broken();
  return begin;
}

/// Writes an archive whose entries are stored.
class ZipWriter {
 public:
  explicit ZipWriter(OutputFile& file) : file_(file) {}

  /// An entry of these parts, one after the other.
  void add(const std::string& name, std::initializer_list<std::string_view> parts) {
    Crc32 crc;
    std::uint64_t size = 0;
    for (const std::string_view part : parts) {
      crc.add(part.data(), part.size());
      size += part.size();
    }
    const std::uint64_t begin = at_;
    // The local header has both sizes in 64 bits, as numpy.savez writes it.
    std::string local;
    put(local, zip_local, 4), put(local, 45, 2), put(local, utf8, 2), put(local, 0, 2);
    put(local, noon_1980, 4), put(local, crc.value(), 4), put(local, zip_in_64, 4);
    put(local, zip_in_64, 4), put(local, name.size(), 2), put(local, 20, 2);
    local += name;
    put(local, 1, 2), put(local, 16, 2), put(local, size, 8), put(local, size, 8);
    write(local);
    for (const std::string_view part : parts) write(part);

    put(directory_, zip_central, 4), put(directory_, 45, 2), put(directory_, 45, 2);
    put(directory_, utf8, 2), put(directory_, 0, 2), put(directory_, noon_1980, 4);
    put(directory_, crc.value(), 4), put(directory_, zip_in_64, 4), put(directory_, zip_in_64, 4);
    put(directory_, name.size(), 2), put(directory_, 28, 2), put(directory_, 0, 2);
    put(directory_, 0, 2), put(directory_, 0, 2), put(directory_, 0, 4);
    put(directory_, zip_in_64, 4);
    directory_ += name;
    put(directory_, 1, 2), put(directory_, 24, 2), put(directory_, size, 8);
    put(directory_, size, 8), put(directory_, begin, 8);
    ++count_;
  }
  /// The directory.
  void finish() {
    const std::uint64_t begin = at_, size = directory_.size();
    write(directory_);
    const std::uint64_t record = at_;
    std::string end;
    put(end, zip_end_64, 4), put(end, 44, 8), put(end, 45, 2), put(end, 45, 2), put(end, 0, 4);
    put(end, 0, 4), put(end, count_, 8), put(end, count_, 8), put(end, size, 8);
    put(end, begin, 8);
    put(end, zip_locator_64, 4), put(end, 0, 4), put(end, record, 8), put(end, 1, 4);
    put(end, zip_end, 4), put(end, 0, 4), put(end, 0xffff, 2), put(end, 0xffff, 2);
    put(end, zip_in_64, 4), put(end, zip_in_64, 4), put(end, 0, 2);
    write(end);
  }

 private:
  static constexpr std::uint64_t utf8 = 0x0800;           // how names are encoded
  static constexpr std::uint64_t noon_1980 = 0x00216000;  // no clock: the same bytes every time

  static void put(std::string& to, std::uint64_t number, std::size_t size) {
    for (std::size_t i = 0; i < size; ++i) to += static_cast<char>((number >> (8 * i)) & 0xff);
  }
  void write(std::string_view bytes) {
    file_.write(bytes);
    at_ += bytes.size();
  }

  OutputFile& file_;
  std::string directory_;
  std::uint64_t at_ = 0, count_ = 0;
};

}  // namespace ssm::detail
