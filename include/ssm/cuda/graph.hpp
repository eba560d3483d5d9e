#pragma once

#include "ssm/cuda/backend.hpp"

/// What cudaGraph_t and cudaGraphExec_t point to.
struct CUgraph_st;
struct CUgraphExec_st;

namespace ssm {

/// Work that a stream was given once, to be launched again and again at the cost of a single call:
/// a step of decoding, or of training. It works on the memory that it was made with, so that memory
/// must live, and be where it was, for as long as the graph is launched.
///
///     forward(stream, model, tokens, state, logits, options, scratch);  // allocates, chooses
///     const ssm::Graph step(stream, [&] {
///       forward(stream, model, tokens, state, logits, options, scratch);
///     });
///     step.launch(stream);
class Graph {
 public:
  Graph() = default;
  /// What body() puts into the stream, which is captured meanwhile, and does nothing yet. The
  /// stream is not the default one. What would allocate throws: run it once before.
  /// @throws CudaError, and what body() throws; the stream is then as it was before
  template <class Body>
  Graph(const Cuda& backend, const Body& body) {
    begin_capture(backend);
    try {
      body();
    } catch (...) {
      drop_capture(backend);
      throw;
    }
    try {
      end_capture(backend);
    } catch (...) {
      end();
      throw;
    }
  }
  ///@{
  /// The graph that is moved from holds nothing.
  Graph(Graph&& other) noexcept { *this = static_cast<Graph&&>(other); }
  Graph& operator=(Graph&& other) noexcept;
  ///@}
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  ~Graph();

  /// Puts all of it into a stream, behind what is there. @throws CudaError
  void launch(const Cuda& backend) const;

 private:
  static void begin_capture(const Cuda& backend);
  static void drop_capture(const Cuda& backend) noexcept;
  void end_capture(const Cuda& backend);
  void end() noexcept;

  CUgraph_st* graph_ = nullptr;
  CUgraphExec_st* exec_ = nullptr;
};

}  // namespace ssm
