#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace ssm::test {

/// Something that a device leaves undefined.
class EmulationError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

/// A block of device memory, in pages of its own between pages that nobody may touch.
struct MemoryBlock {
  char* pages = nullptr;
  std::size_t page_bytes = 0;
  char* data = nullptr;  ///< as close to the end of the pages as an alignment of 256 lets it be
  std::size_t bytes = 0;
  int device = 0;
  bool live = false;  ///< in the order of its stream, so far as that has run
  std::string state = "that its stream has not made yet";
};

/// The memory of all devices. A kernel may touch what is live on its own device; elsewhere it ends
/// the program with a sentence that names the kernel and what it touched.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  ~DeviceMemory();

  /// A block that becomes live later; in the pages of `before`, which is free by then, if given.
  std::shared_ptr<MemoryBlock> promise(std::size_t bytes, int device,
                                       std::shared_ptr<MemoryBlock> before);
  /// Fills the block with NaN, or leaves it alone.
  void make_live(MemoryBlock& block, bool fill);
  /// @throws EmulationError where something was written beside the block
  void free(MemoryBlock& block, const std::string& by, bool filled);
  /// Whether live blocks of other devices than this are beyond reach; -1 puts all there.
  void open(int device);
  /// Runs `work` for a device; a touch of what it may not touch is told of as `what`'s.
  void run(int device, const std::string& what, const std::function<void()>& work);
  /// The live block that these bytes are within; null where they are host memory.
  /// @throws EmulationError where they are neither
  [[nodiscard]] MemoryBlock* find(const void* from, std::size_t bytes, const std::string& what);

 private:
  void protect(MemoryBlock& block) const;

  std::map<const char*, std::shared_ptr<MemoryBlock>> last_of_pages_;  ///< the youngest block
  std::map<const char*, MemoryBlock*> live_;                           ///< by its pages
  int open_ = 0;
};

}  // namespace ssm::test
