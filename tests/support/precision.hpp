#pragma once

#include <algorithm>
#include <complex>
#include <cstddef>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "ssm/core/parameters.hpp"
#include "support/compare.hpp"
#include "support/random.hpp"

/// What a law of float against double needs: the same numbers in both, and results side by side.
namespace ssm::test {

/// Numbers that float holds, in the type K: the same for every K.
template <class K, std::size_t Rank>
Tensor<K, Rank> float_normal(std::uint64_t seed, const std::array<Index, Rank>& extents) {
  constexpr bool real = std::is_floating_point_v<K>;
  using Narrow = std::conditional_t<real, float, std::complex<float>>;
  const auto from = Random(seed).normal<Narrow, Rank>(extents);
  Tensor<K, Rank> to(extents);
  std::copy(from.begin(), from.end(), to.begin());
  return to;
}

/// Results by name, in double.
using Results = std::vector<std::pair<std::string, Tensor<std::complex<double>, 1>>>;

template <class AnyTensor>
void add_result(Results& results, const std::string& name, const AnyTensor& tensor) {
  results.emplace_back(name, std::array<Index, 1>{tensor.size()});
  std::copy(tensor.begin(), tensor.end(), results.back().second.begin());
}
/// The parameters of a layer.
template <class Layer>
void add_results(Results& results, const Layer& layer) {
  parameters(layer, [&](const auto& name, const auto& tensor, const auto&, bool) {
    add_result(results, std::string(name), tensor);
  });
}

/// The parameters of a layer of the same configuration take the values of another.
template <class From, class To>
void assign(const From& from, To& to) {
  Results values;
  add_results(values, from);
  auto next = values.begin();
  parameters(to, [&](const auto&, auto& tensor, const auto&, bool) {
    using T = std::remove_cvref_t<decltype(*tensor.data())>;
    std::transform(next->second.begin(), next->second.end(), tensor.begin(),
                   [](const std::complex<double>& x) { return static_cast<T>(x.real()); });
    ++next;
  });
}

/// The result that differs most, and by how much of its largest element, or of `floor`.
inline std::pair<double, std::string> largest_error(const Results& got, const Results& want,
                                                    double floor = 1e-3) {
  std::pair<double, std::string> worst{0, ""};
  if (got.size() != want.size()) return {std::numeric_limits<double>::infinity(), "the count"};
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double error = relative_error(got[i].second, want[i].second, floor);
    if (error > worst.first) worst = {error, want[i].first};
  }
  return worst;
}

}  // namespace ssm::test
