#pragma once

#include <zlib.h>

#include <cstddef>
#include <limits>
#include <string>
#include <string_view>

/// @file
/// What `numpy.savez_compressed` packed, by zlib, which a program that includes this links:
///
///     const ssm::NpzReader file("data.npz", ssm::inflate_by_zlib);

namespace ssm {

/// Undoes deflate: exactly `size` bytes from all of `deflated`.
/// @return whether they were that
inline bool inflate_by_zlib(std::string_view deflated, std::string& to, std::size_t size) {
  z_stream stream{};
  if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) return false;
  to.resize(size);
  constexpr std::size_t most = (std::numeric_limits<uInt>::max)();  // zlib counts in 32 bits
  char end = 0;  // where an output that is already full has room
  std::size_t read = 0, written = 0;
  int result = Z_OK;
  while (result == Z_OK && written <= size) {
    const std::size_t in = deflated.size() - read < most ? deflated.size() - read : most;
    const std::size_t left = size - written, out = left == 0 ? 1 : left < most ? left : most;
    stream.next_in =
        reinterpret_cast<Bytef*>(const_cast<char*>(deflated.data() + read));  // it only reads
    stream.avail_in = static_cast<uInt>(in);
    stream.next_out = reinterpret_cast<Bytef*>(left == 0 ? &end : to.data() + written);
    stream.avail_out = static_cast<uInt>(out);
    result = ::inflate(&stream, Z_NO_FLUSH);
    read += in - stream.avail_in;
    written += out - stream.avail_out;
  }
  inflateEnd(&stream);
  return result == Z_STREAM_END && read == deflated.size() && written == size;
}

}  // namespace ssm
