#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

namespace ssm::test {

/// What the multiprocessors of a device hold at once, as the CUDA C++ Programming Guide lists it
/// under technical specifications by compute capability.
struct Multiprocessors {
  int architecture;   ///< 90 for sm_90
  int count;          ///< of the data-centre part, or the largest one where there is none
  int warps, blocks;  ///< at once on one of them
  int shared_bytes;   ///< of one of them; a block also takes 1 KiB for the system
  int block_shared;   ///< the most that a block may ask for
  int registers = 65536;

  /// Blocks that one of them holds at once; 0 where it cannot run the kernel at all.
  [[nodiscard]] int resident_blocks(int registers_a_thread, std::int64_t shared,
                                    int threads) const {
    constexpr int warp = 32, quarters = 4, register_unit = 256, shared_unit = 128, reserved = 1024;
    if (shared > block_shared || threads < 1 || threads > 1024 || registers_a_thread > 255)
      return 0;
    const auto round_up = [](auto value, auto unit) { return (value + unit - 1) / unit * unit; };
    // Warps lie over the four quarters of a multiprocessor, each with its own registers; a block is
    // refused as if all of them gave it the same.
    const int block_warps = round_up(threads, warp) / warp;
    const int warp_registers = round_up((std::max)(registers_a_thread, 1) * warp, register_unit);
    if (warp_registers * round_up(block_warps, quarters) > registers) return 0;
    const int by_registers = registers / quarters / warp_registers * quarters / block_warps;
    const auto block_bytes = round_up(shared + reserved, std::int64_t{shared_unit});
    const int by_shared = static_cast<int>(shared_bytes / block_bytes);
    return (std::min)({blocks, warps / block_warps, by_registers, by_shared});
  }
};

inline constexpr std::array<Multiprocessors, 5> device_models{{
    {80, 108, 64, 32, 164 * 1024, 163 * 1024},   // A100
    {89, 142, 48, 24, 100 * 1024, 99 * 1024},    // L40S
    {90, 132, 64, 32, 228 * 1024, 227 * 1024},   // H100 SXM
    {100, 148, 64, 32, 228 * 1024, 227 * 1024},  // B200
    {120, 188, 48, 24, 100 * 1024, 99 * 1024},   // RTX PRO 6000
}};

/// The device of an architecture.
constexpr const Multiprocessors& device_model(int architecture) {
  for (const Multiprocessors& model : device_models)
    if (model.architecture == architecture) return model;
  return device_models[2];
}

}  // namespace ssm::test
