#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "support/emulated_cuda.hpp"

/// What the emulated runtime keeps between calls, and the order in which it works it off.

namespace ssm::test::emulated {

inline constexpr int devices = 2;

/// Something that a stream was given.
struct Operation {
  std::string what;
  int device;
  std::function<void()> work;
  std::vector<std::shared_ptr<Operation>> after = {};
  bool done = false;
};
using Pending = std::shared_ptr<Operation>;

struct Node {
  std::string what;
  int device;
  std::function<void()> work;
  std::vector<std::size_t> after;
};
struct Capture {
  cudaStream_t origin;
  std::vector<Node> nodes = {};
  bool broken = false;
};

}  // namespace ssm::test::emulated

struct CUstream_st {
  std::string name;
  int device;
  bool waits_for_default;  ///< and the default stream for it
  ssm::test::emulated::Pending last = nullptr;
  std::shared_ptr<ssm::test::emulated::Capture> capture = nullptr;
  std::vector<std::size_t> ends = {};  ///< of the capture
  std::vector<std::shared_ptr<ssm::test::MemoryBlock>> freed = {};
  std::vector<ssm::test::emulated::Pending> left =
      {};  ///< what the default stream waits for of streams that are gone
};
struct CUevent_st {
  int device;
  ssm::test::emulated::Pending until = nullptr;
  std::string stream = "nothing";
  std::shared_ptr<ssm::test::emulated::Capture> capture = nullptr;
  std::vector<std::size_t> ends = {};
};
struct CUgraph_st {
  std::vector<ssm::test::emulated::Node> nodes;
};
struct CUgraphExec_st {
  std::vector<ssm::test::emulated::Node> nodes;
  ssm::test::emulated::Pending last = nullptr;
};

namespace ssm::test::emulated {

inline thread_local int current = 0;
inline thread_local cudaError_t last_error = cudaSuccess;

struct State {
  std::recursive_mutex mutex;
  ssm::test::Emulator control;
  ssm::test::DeviceMemory memory;
  std::map<void*, std::shared_ptr<MemoryBlock>> allocated;  ///< as the host sees it
  std::array<CUstream_st, devices> defaults{
      {{"default of device 0", 0, true}, {"default of device 1", 1, true}}};
  std::set<cudaStream_t> streams;
  int streams_made = 0;
  std::vector<Pending> pending;
  std::mt19937_64 random{1};
  std::map<std::string, cudaError_t> failing;
  cudaError_t broken = cudaSuccess;
  std::map<std::pair<std::string, int>, int> most_shared;  ///< by kernel and device

  [[nodiscard]] bool chance(unsigned of) { return random() % of == 0; }
};

State& state();
using Lock = std::lock_guard<std::recursive_mutex>;

/// Leaves an error where cudaGetLastError finds it.
cudaError_t returns(cudaError_t error);
/// What a call of this name must return whatever it is asked.
cudaError_t fails(const char* call);
void write_down(const std::string& line);
/// The stream of a handle. @throws EmulationError where there is none
CUstream_st& stream_of(cudaStream_t stream);

/// Puts work into a stream, or into the graph that it is captured into.
cudaError_t put(CUstream_st& stream, const std::string& what, std::function<void()> work,
                std::vector<Pending> after = {});
/// Waits for an operation: with what others have to do left, done before, or in between.
void wait_for(const Pending& last);
/// Does all that there is to do, in any order.
void finish();
/// Devices do not wait to be waited for.
void go_on();

}  // namespace ssm::test::emulated
