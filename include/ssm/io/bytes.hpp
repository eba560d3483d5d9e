#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "ssm/io/file.hpp"

namespace ssm::detail {

/// Bytes to read: a part of a file, or memory.
class Bytes {
 public:
  explicit Bytes(InputFile file)
      : file_(std::make_shared<InputFile>(std::move(file))), size_(file_->size()) {}
  explicit Bytes(std::string memory) : memory_(std::move(memory)), size_(memory_.size()) {}
  Bytes(std::shared_ptr<InputFile> file, std::uint64_t begin, std::uint64_t size)
      : file_(std::move(file)), begin_(begin), size_(size) {}

  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
  /// Reads `count` bytes from byte `at` on; all of them must be there.
  void read(char* to, std::size_t count, std::uint64_t at) const {
    if (file_)
      file_->read(to, count, begin_ + at);
    else
      std::copy_n(memory_.data() + at, count, to);
  }

 private:
  std::shared_ptr<InputFile> file_;
  std::string memory_;
  std::uint64_t begin_ = 0, size_ = 0;
};

}  // namespace ssm::detail
