#include "support/emulated_memory.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace ssm::test {
namespace {

constexpr std::size_t alignment = 256;
constexpr unsigned char beside = 0xa5;  // between a block and the ends of its pages

std::size_t page() {
  static const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

const std::map<const char*, std::shared_ptr<MemoryBlock>>* known = nullptr;
const std::string* running = nullptr;
int running_on = 0;

/// Says what `address` is, as far as it has to do with a block.
std::string place(const char* address) {
  if (known == nullptr || known->empty()) return "which is no device memory";
  auto after = known->upper_bound(address + page());  // a page before the block's own is its too
  if (after == known->begin()) return "which is no device memory";
  const MemoryBlock& block = *std::prev(after)->second;
  if (address >= block.pages + block.page_bytes + page()) return "which is no device memory";
  const std::string of = " a block of " + std::to_string(block.bytes) + " bytes " + block.state +
                         " on device " + std::to_string(block.device);
  if (address < block.data) return std::to_string(block.data - address) + " bytes before" + of;
  const auto offset = static_cast<std::size_t>(address - block.data);
  return (offset < block.bytes ? "byte " + std::to_string(offset) + " of"
                               : std::to_string(offset - block.bytes) + " bytes beyond") +
         of;
}

extern "C" void tell_of_touch(int, siginfo_t* info, void*) {
  // Memory may be allocated here: the touch came from a kernel, not from within the allocator.
  const std::string words = (running != nullptr ? *running : std::string("the host")) +
                            " on device " + std::to_string(running_on) + " touches " +
                            place(static_cast<const char*>(info->si_addr)) + "\n";
  static_cast<void>(!write(STDERR_FILENO, words.data(), words.size()));
  std::abort();
}

}  // namespace

DeviceMemory::~DeviceMemory() {
  known = nullptr;
  for (auto& [pages, block] : last_of_pages_)
    munmap(block->pages - page(), block->page_bytes + 2 * page());
}

std::shared_ptr<MemoryBlock> DeviceMemory::promise(std::size_t bytes, int device,
                                                   std::shared_ptr<MemoryBlock> before) {
  auto block = std::make_shared<MemoryBlock>();
  block->bytes = bytes;
  block->device = device;
  const std::size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  if (before != nullptr && rounded <= before->page_bytes) {
    block->pages = before->pages;
    block->page_bytes = before->page_bytes;
  } else {
    block->page_bytes = (rounded + page() - 1) / page() * page();
    void* const mapped = mmap(nullptr, block->page_bytes + 2 * page(), PROT_NONE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) return nullptr;
    block->pages = static_cast<char*>(mapped) + page();
  }
  block->data = block->pages + block->page_bytes - rounded;
  last_of_pages_[block->pages] = block;
  known = &last_of_pages_;
  return block;
}

void DeviceMemory::protect(MemoryBlock& block) const {
  const bool reachable = block.live && block.device == open_;
  if (mprotect(block.pages, block.page_bytes, reachable ? PROT_READ | PROT_WRITE : PROT_NONE) != 0)
    throw EmulationError("mprotect failed");
}

void DeviceMemory::make_live(MemoryBlock& block, bool fill) {
  block.live = true;
  block.state = "that is in use";
  live_[block.pages] = &block;
  open(block.device);
  protect(block);
  if (!fill) return;
  std::memset(block.pages, beside, block.page_bytes);
  std::memset(block.data, 0xff, block.bytes);
}

void DeviceMemory::free(MemoryBlock& block, const std::string& by, bool filled) {
  open(block.device);
  std::size_t spoilt = 0;
  if (filled)
    for (const char* at = block.pages; at < block.pages + block.page_bytes; ++at)
      if ((at < block.data || at >= block.data + block.bytes) &&
          static_cast<unsigned char>(*at) != beside)
        ++spoilt;
  block.live = false;
  block.state = "that was freed " + by;
  live_.erase(block.pages);
  protect(block);
  madvise(block.pages, block.page_bytes, MADV_DONTNEED);
  if (spoilt > 0)
    throw EmulationError(std::to_string(spoilt) + " bytes were written beside a block of " +
                         std::to_string(block.bytes));
}

void DeviceMemory::open(int device) {
  if (device == open_) return;
  const int before = std::exchange(open_, device);
  for (auto& [pages, block] : live_)
    if (block->device == before || block->device == device) protect(*block);
}

void DeviceMemory::run(int device, const std::string& what, const std::function<void()>& work) {
  struct sigaction tell = {}, before = {}, before_bus = {};
  tell.sa_sigaction = tell_of_touch;
  tell.sa_flags = SA_SIGINFO;
  open(device);
  running = &what;
  running_on = device;
  sigaction(SIGSEGV, &tell, &before);
  sigaction(SIGBUS, &tell, &before_bus);
  const auto end = [&] {
    sigaction(SIGSEGV, &before, nullptr);
    sigaction(SIGBUS, &before_bus, nullptr);
    running = nullptr;
  };
  try {
    work();
  } catch (...) {
    end();
    throw;
  }
  end();
}

MemoryBlock* DeviceMemory::find(const void* from, std::size_t bytes, const std::string& what) {
  const auto* begin = static_cast<const char*>(from);
  auto after = last_of_pages_.upper_bound(begin);
  if (after == last_of_pages_.begin()) return nullptr;
  MemoryBlock& block = *std::prev(after)->second;
  if (begin >= block.pages + block.page_bytes) return nullptr;
  MemoryBlock* const live = live_.count(block.pages) > 0 ? live_[block.pages] : nullptr;
  if (live == nullptr || begin < live->data || begin + bytes > live->data + live->bytes)
    throw EmulationError(what + " of " + std::to_string(bytes) + " bytes touches " + place(begin));
  return live;
}

}  // namespace ssm::test
