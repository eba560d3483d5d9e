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
    Capture capture(backend);
    body();
    capture.end(*this);
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
  /// Of a stream, which it leaves as it was unless it is ended.
  class Capture {
   public:
    explicit Capture(const Cuda& backend);
    Capture(const Capture&) = delete;
    Capture& operator=(const Capture&) = delete;
    ~Capture();
    void end(Graph& graph);

   private:
    Cuda backend_;
    bool runs_ = true;
  };

  void end() noexcept;

  CUgraph_st* graph_ = nullptr;
  CUgraphExec_st* exec_ = nullptr;
};

}  // namespace ssm
