#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstddef>
#include <string_view>
#include <vector>

#include "ssm/system/detail/root_groups.hpp"

SSM_BEGIN_COMPILED

SSM_INLINE std::vector<RootList> group_roots(std::string_view function, std::string_view argument,
                                             const RootList& roots, double tolerance) {
  RootList real, complex;
  double largest = 0;
  for (const std::complex<double>& root : roots) {
    (root.imag() == 0 ? real : complex).push_back(root);
    largest = (std::max)(largest, std::abs(root));
  }
  std::vector<RootList> groups;
  while (!complex.empty()) {
    const std::complex<double> root = complex.back();
    complex.pop_back();
    const auto distance = [&](const auto& other) { return std::abs(other - std::conj(root)); };
    const auto partner =
        std::min_element(complex.begin(), complex.end(),
                         [&](const auto& a, const auto& b) { return distance(a) < distance(b); });
    if (partner != complex.end() && distance(*partner) <= tolerance * std::abs(root)) {
      const std::complex<double> mean = 0.5 * root + 0.5 * std::conj(*partner);
      complex.erase(partner);
      if (mean.imag() != 0) {
        groups.push_back({mean, std::conj(mean)});
        continue;
      }
      real.insert(real.end(), 2, mean);
    } else if (std::abs(root.imag()) <= tolerance * largest) {
      real.push_back(root.real());
    } else {
      throw_domain(function, argument, "without the conjugate of one", "conjugate pairs");
    }
  }
  std::sort(real.begin(), real.end(),
            [](const auto& a, const auto& b) { return a.real() < b.real(); });
  for (std::size_t i = 0; i < real.size(); i += 2)
    groups.emplace_back(real.begin() + static_cast<std::ptrdiff_t>(i),
                        real.begin() + static_cast<std::ptrdiff_t>((std::min)(i + 2, real.size())));
  return groups;
}

SSM_END_COMPILED
