#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "ssm/core/tensor.hpp"
#include "ssm/layers/tokens.hpp"

/// Sequences of any lengths, end to end, each with its class.
struct LabelledSequences {
  ssm::Tensor<float, 3> values;        ///< (1, sum of the lengths, 1)
  ssm::Tensor<ssm::Index, 1> offsets;  ///< (count + 1): where each begins and the last one ends
  ssm::Tensor<ssm::Token, 1> labels;   ///< (count)
};

/// Reads rows of numbers between commas: a class, 0, 1, …, then the sequence.
/// @throws std::runtime_error that names file and line: it cannot be read, or has something else in
///   it
inline LabelledSequences read_csv(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error(path.string() + ": cannot be opened");
  std::vector<float> numbers;
  std::vector<ssm::Token> labels;
  std::vector<ssm::Index> offsets{0};
  std::size_t line = 0;
  for (std::string row; std::getline(file, row);) {
    if (!row.empty() && row.back() == '\r') row.pop_back();
    std::size_t here = 0;
    ++line;
    const char* at = row.data();
    const char* const end = at + row.size();
    for (bool more = !row.empty(); more; ++here) {
      char* stop = nullptr;
      const float number = std::strtof(at, &stop);
      const bool right = here > 0 || (number >= 0 && number < 1e6f && number == std::floor(number));
      if (stop == at || !std::isfinite(number) || (stop != end && *stop != ',') || !right)
        throw std::runtime_error(path.string() + ", line " + std::to_string(line) + ": column " +
                                 std::to_string(here + 1) +
                                 (here > 0 ? " is no number" : " is no class from 0"));
      if (here == 0)
        labels.push_back(static_cast<ssm::Token>(number));
      else
        numbers.push_back(number);
      more = stop != end;
      at = more ? stop + 1 : end;
    }
    if (here < 2)
      throw std::runtime_error(path.string() + ", line " + std::to_string(line) + ": has " +
                               std::to_string(here) + " numbers, expected at least 2");
    offsets.push_back(static_cast<ssm::Index>(numbers.size()));
  }
  if (labels.empty()) throw std::runtime_error(path.string() + ": is empty");
  const auto count = static_cast<ssm::Index>(labels.size());
  LabelledSequences result{ssm::Tensor<float, 3>({1, offsets.back(), 1}),
                           ssm::Tensor<ssm::Index, 1>({count + 1}),
                           ssm::Tensor<ssm::Token, 1>({count})};
  std::copy(numbers.begin(), numbers.end(), result.values.begin());
  std::copy(offsets.begin(), offsets.end(), result.offsets.begin());
  std::copy(labels.begin(), labels.end(), result.labels.begin());
  return result;
}
