#include "support/emulated_blas.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include "support/emulated_state.hpp"

using namespace ssm::test::emulated;
using ssm::test::EmulationError;

struct EmulatedBlas {
  int device;
};
struct EmulatedProduct {
  cublasComputeType_t compute;
  bool a_transposed = false, b_transposed = false;
};
struct EmulatedLayout {
  cudaDataType_t type;
  std::int64_t rows, columns, stride;
};
struct EmulatedPreference {
  std::uint64_t workspace = 0;
  std::uint32_t alignment[3] = {256, 256, 256};
};

namespace {

constexpr std::size_t workspace_wanted = 512;

template <class T>
void run_product(const EmulatedProduct& product, T alpha, const T* a, const EmulatedLayout& la,
                 const T* b, const EmulatedLayout& lb, T beta, T* d, const EmulatedLayout& ld) {
  const std::int64_t inner = product.a_transposed ? la.rows : la.columns;
  for (std::int64_t j = 0; j < ld.columns; ++j)
    for (std::int64_t i = 0; i < ld.rows; ++i) {
      T sum = 0;
      for (std::int64_t k = 0; k < inner; ++k)
        sum += a[product.a_transposed ? k + i * la.stride : i + k * la.stride] *
               b[product.b_transposed ? j + k * lb.stride : k + j * lb.stride];
      T& to = d[i + j * ld.stride];
      to = beta == T(0) ? alpha * sum : alpha * sum + beta * to;
    }
}

}  // namespace

const char* cublasLtGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS ? "no error" : "an invalid value";
}
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  int device = 0;
  cudaGetDevice(&device);
  return *handle = new EmulatedBlas{device}, CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  return delete handle, CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* product, cublasComputeType_t compute,
                                        cudaDataType_t) {
  return *product = new EmulatedProduct{compute}, CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t product) {
  return delete product, CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t product,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, std::size_t bytes) {
  cublasOperation_t operation{};
  if (bytes != sizeof operation) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&operation, value, bytes);
  (attribute == CUBLASLT_MATMUL_DESC_TRANSA ? product->a_transposed : product->b_transposed) =
      operation == CUBLAS_OP_T;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type,
                                          std::uint64_t rows, std::uint64_t columns,
                                          std::int64_t stride) {
  *layout = new EmulatedLayout{type, static_cast<std::int64_t>(rows),
                               static_cast<std::int64_t>(columns), stride};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  return delete layout, CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  return *preference = new EmulatedPreference, CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  return delete preference, CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, std::size_t bytes) {
  const auto put = [&](auto& to) {
    if (bytes != sizeof to) return CUBLAS_STATUS_INVALID_VALUE;
    std::memcpy(&to, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
  };
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return put(preference->workspace);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
      return put(preference->alignment[0]);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
      return put(preference->alignment[1]);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return put(preference->alignment[2]);
    default:
      return bytes == sizeof(std::uint32_t) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
  }
}
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t product,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int most,
                                              cublasLtMatmulHeuristicResult_t* results,
                                              int* count) {
  const auto inner_a = product->a_transposed ? a->rows : a->columns;
  const auto inner_b = product->b_transposed ? b->columns : b->rows;
  const auto rows = product->a_transposed ? a->columns : a->rows;
  const auto columns = product->b_transposed ? b->rows : b->columns;
  bool fits = most >= 1 && inner_a == inner_b && rows == d->rows && columns == d->columns;
  for (const EmulatedLayout* layout : {a, b, d})
    fits = fits && layout->rows > 0 && layout->columns > 0 && layout->stride >= layout->rows &&
           layout->type == d->type;
  if (!fits) return CUBLAS_STATUS_INVALID_VALUE;
  *results = {};
  std::copy_n(preference->alignment, 3, results->algo.alignment);
  results->workspaceSize = std::min<std::size_t>(preference->workspace, workspace_wanted);
  return *count = 1, CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t product,
                              const void* alpha, const void* a, cublasLtMatrixLayout_t a_layout,
                              const void* b, cublasLtMatrixLayout_t b_layout, const void* beta,
                              const void* c, cublasLtMatrixLayout_t, void* d,
                              cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              std::size_t workspace_bytes, cudaStream_t stream) {
  const Lock lock(state().mutex);
  if (c != d || workspace_bytes < workspace_wanted) return CUBLAS_STATUS_INVALID_VALUE;
  const void* const matrices[3] = {a, b, d};
  for (int i = 0; i < 3; ++i)
    if (reinterpret_cast<std::uintptr_t>(matrices[i]) % algorithm->alignment[i] != 0)
      throw EmulationError("a product of matrices at addresses that it was not chosen for");
  CUstream_st& into = stream_of(stream);
  if (into.device != handle->device) return CUBLAS_STATUS_INVALID_VALUE;
  const std::string what = "a product in stream " + into.name;
  const int device = into.device;
  go_on();
  const auto enqueue = [&](auto one, auto zero_or_one) {
    using T = decltype(one);
    std::memcpy(&one, alpha, sizeof one);
    std::memcpy(&zero_or_one, beta, sizeof zero_or_one);
    return put(into, what, [=, product = *product, la = *a_layout, lb = *b_layout, ld = *d_layout] {
      if (!state().control.runs_kernels) return;
      state().memory.run(device, what, [&] {
        std::memset(workspace, 0xff, workspace_bytes);
        run_product<T>(product, one, static_cast<const T*>(a), la, static_cast<const T*>(b), lb,
                       zero_or_one, static_cast<T*>(d), ld);
      });
    });
  };
  const cudaError_t error =
      d_layout->type == CUDA_R_32F ? enqueue(float{}, float{}) : enqueue(double{}, double{});
  return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}
