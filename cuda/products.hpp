#pragma once

#ifdef __CUDACC__
#include <cublasLt.h>
#else
#include "support/emulated_blas.hpp"
#endif

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "check.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/view.hpp"
#include "ssm/cuda/memory.hpp"

namespace ssm::kernels {

inline void check_blas(const char* function, const char* call, cublasStatus_t status) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw CudaError(std::string(function) + ": " + call +
                    " failed: " + cublasLtGetStatusString(status));
}

/// A matrix as cuBLASLt sees it: by columns, which are the rows of a view.
struct Columns {
  const void* data;
  Index rows, columns, stride;
  bool transposed;  ///< in the product

  /// Rows that follow each other in memory.
  template <class T>
  Columns(const char* function, const char* argument, const View<T, 2, Device>& view,
          bool is_transposed)
      : data(view.data()),
        rows(view.extent(1)),
        columns(view.extent(0)),
        stride(columns > 1 ? view.stride(0) : std::max<Index>(rows, 1)),
        transposed(is_transposed) {
    if (stride < rows)
      ssm::detail::throw_shape(function, argument,
                               "strided as " + ssm::detail::to_string(view.strides()),
                               "rows that follow each other in memory");
  }
  /// What a product sums over, where this is its first factor.
  [[nodiscard]] Index inner() const { return transposed ? rows : columns; }
  /// Bytes that its address is a multiple of, as far as anybody cares.
  [[nodiscard]] std::uint32_t alignment() const {
    const auto address = reinterpret_cast<std::uintptr_t>(data) | 256u;
    return static_cast<std::uint32_t>(address & (~address + 1));
  }
};

/// How cuBLASLt multiplies matrices of each shape that it was asked for.
template <class T>
class ProductPlans {
 public:
  ProductPlans() = default;
  ProductPlans(const ProductPlans&) = delete;
  ProductPlans& operator=(const ProductPlans&) = delete;
  ~ProductPlans() {
    plans_.clear();
    for (const auto& [device, handle] : handles_) static_cast<void>(cublasLtDestroy(handle));
  }

  /// d = a b, or d += a b.
  void multiply(const Cuda& backend, const char* function, const Columns& a, const Columns& b,
                const Columns& d, bool accumulate, DeviceBuffer& workspace) {
    int device = 0;
    check(function, "cudaGetDevice", cudaGetDevice(&device));
    const Key key{device,        a.rows,        a.columns,     a.stride,
                  b.rows,        b.columns,     b.stride,      d.rows,
                  d.columns,     d.stride,      a.transposed,  b.transposed,
                  a.alignment(), b.alignment(), d.alignment(), accumulate};
    auto found = plans_.find(key);
    if (found == plans_.end()) {
      if (ssm::detail::is_captured(function, backend))
        throw CudaError(std::string(function) +
                        ": its stream is captured, expected a shape that the scratch has "
                        "multiplied before: run the operation once before");
      found = plans_.emplace(key, std::make_unique<Plan>()).first;
      try {
        choose(function, handle_of(function, device), a, b, d, *found->second);
      } catch (...) {
        plans_.erase(found);
        throw;
      }
    }
    Plan& plan = *found->second;
    void* const room = workspace.reserve(backend, plan.workspace);
    const T one = 1, beta = accumulate ? T(1) : T(0);
    auto* const to = const_cast<void*>(d.data);
    check_blas(function, "cublasLtMatmul",
               cublasLtMatmul(handle_of(function, device), plan.product, &one, a.data, plan.a,
                              b.data, plan.b, &beta, to, plan.d, to, plan.d, &plan.algorithm, room,
                              plan.workspace, backend.stream));
  }

 private:
  using Key = std::array<Index, 16>;
  static constexpr std::size_t most_workspace = std::size_t{32} << 20;
  static constexpr cudaDataType_t type = sizeof(T) == 4 ? CUDA_R_32F : CUDA_R_64F;

  struct Plan {
    cublasLtMatmulDesc_t product = nullptr;
    cublasLtMatrixLayout_t a = nullptr, b = nullptr, d = nullptr;
    cublasLtMatmulAlgo_t algorithm{};
    std::size_t workspace = 0;

    Plan() = default;
    Plan(const Plan&) = delete;
    Plan& operator=(const Plan&) = delete;
    ~Plan() {
      for (const auto layout : {a, b, d})
        if (layout != nullptr) static_cast<void>(cublasLtMatrixLayoutDestroy(layout));
      if (product != nullptr) static_cast<void>(cublasLtMatmulDescDestroy(product));
    }
  };

  cublasLtHandle_t handle_of(const char* function, int device) {
    cublasLtHandle_t& handle = handles_[device];
    if (handle == nullptr) check_blas(function, "cublasLtCreate", cublasLtCreate(&handle));
    return handle;
  }

  static void lay_out_matrix(const char* function, const Columns& matrix,
                             cublasLtMatrixLayout_t& layout) {
    check_blas(
        function, "cublasLtMatrixLayoutCreate",
        cublasLtMatrixLayoutCreate(&layout, type, static_cast<std::uint64_t>(matrix.rows),
                                   static_cast<std::uint64_t>(matrix.columns), matrix.stride));
  }

  static void choose(const char* function, cublasLtHandle_t handle, const Columns& a,
                     const Columns& b, const Columns& d, Plan& plan) {
    const auto set = [&](cublasLtMatmulDescAttributes_t attribute, bool transposed) {
      const cublasOperation_t operation = transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
      check_blas(
          function, "cublasLtMatmulDescSetAttribute",
          cublasLtMatmulDescSetAttribute(plan.product, attribute, &operation, sizeof operation));
    };
    check_blas(function, "cublasLtMatmulDescCreate",
               cublasLtMatmulDescCreate(
                   &plan.product, sizeof(T) == 4 ? CUBLAS_COMPUTE_32F : CUBLAS_COMPUTE_64F, type));
    set(CUBLASLT_MATMUL_DESC_TRANSA, a.transposed);
    set(CUBLASLT_MATMUL_DESC_TRANSB, b.transposed);
    lay_out_matrix(function, a, plan.a);
    lay_out_matrix(function, b, plan.b);
    lay_out_matrix(function, d, plan.d);
    cublasLtMatmulPreference_t preference = nullptr;
    check_blas(function, "cublasLtMatmulPreferenceCreate",
               cublasLtMatmulPreferenceCreate(&preference));
    const std::unique_ptr<std::remove_pointer_t<cublasLtMatmulPreference_t>,
                          cublasStatus_t (*)(cublasLtMatmulPreference_t)>
        owned(preference, cublasLtMatmulPreferenceDestroy);
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      check_blas(function, "cublasLtMatmulPreferenceSetAttribute",
                 cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value));
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{most_workspace});
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, a.alignment());
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, b.alignment());
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, d.alignment());
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, d.alignment());
    // Shares of a sum are added up from the workspace in a fixed order, never in place.
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
           std::uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
    cublasLtMatmulHeuristicResult_t best{};
    int count = 0;
    check_blas(function, "cublasLtMatmulAlgoGetHeuristic",
               cublasLtMatmulAlgoGetHeuristic(handle, plan.product, plan.a, plan.b, plan.d, plan.d,
                                              preference, 1, &best, &count));
    if (count < 1)
      throw CudaError(std::string(function) + ": cuBLASLt has no way to multiply these matrices");
    plan.algorithm = best.algo;
    plan.workspace = best.workspaceSize;
  }

  std::map<int, cublasLtHandle_t> handles_;
  std::map<Key, std::unique_ptr<Plan>> plans_;
};

/// The plans of a scratch, made when they are first asked for.
template <class T>
ProductPlans<T>& plans_of(std::shared_ptr<void>& plans) {
  if (plans == nullptr) plans = std::make_shared<ProductPlans<T>>();
  return *static_cast<ProductPlans<T>*>(plans.get());
}

}  // namespace ssm::kernels
