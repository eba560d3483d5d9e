#pragma once

#include <algorithm>
#include <type_traits>

#include "ssm/core/float16.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/cuda/memory.hpp"

namespace ssm::test {

/// A copy on the device with elements kept as U; the tensor is left rounded to U.
template <class U, class From, std::size_t Rank>
DeviceTensor<U, Rank> rounded_upload(Tensor<From, Rank>& tensor) {
  if constexpr (std::is_same_v<U, From>) {
    return to_device(cuda, tensor);
  } else {
    Tensor<U, Rank> rounded(tensor.extents());
    for (Index i = 0; i < tensor.size(); ++i) {
      rounded.data()[i] = U(tensor.data()[i]);
      tensor.data()[i] = static_cast<From>(rounded.data()[i]);
    }
    return to_device(cuda, rounded);
  }
}

template <class To, class U, std::size_t Rank>
void widened_download(Tensor<To, Rank>& to, const DeviceTensor<U, Rank>& from) {
  const Tensor<U, Rank> host = to_host(cuda, from);
  std::transform(host.begin(), host.end(), to.begin(), [](const U& x) { return To(x); });
}

}  // namespace ssm::test
