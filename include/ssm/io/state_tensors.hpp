#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "ssm/core/tensor.hpp"
#include "ssm/io/file.hpp"
#include "ssm/io/names_in_file.hpp"
#include "ssm/io/safetensors_reader.hpp"
#include "ssm/io/safetensors_writer.hpp"

/// @file
/// The tensors of a state in a safetensors file, each under a prefix and its own name.

namespace ssm::detail {

/// A tensor of a state in a file: a complex number is two, in a last extent of their own.
template <class T, std::size_t Rank, class Use>
void as_real(const Tensor<T, Rank>& tensor, const Use& use) {
  std::vector<Index> extents(tensor.extents().begin(), tensor.extents().end());
  if constexpr (requires { typename T::value_type; }) {
    extents.push_back(2);
    use(extents, reinterpret_cast<const typename T::value_type*>(tensor.data()));
  } else {
    use(extents, tensor.data());
  }
}

/// Adds the tensors of a state, which must live until the file is saved.
template <class State>
void add_state(SafetensorsWriter& file, const std::string& prefix, State& state) {
  tensors(state, [&](std::string_view name, const auto& tensor) {
    as_real(tensor, [&](const std::vector<Index>& extents, const auto* data) {
      file.add(prefix + std::string(name), extents, data);
    });
  });
}

/// Holds the names, shapes and types of the tensors of a state of so many sequences, which needs
/// no memory yet, against a file.
/// @param blank the state of no sequences
template <class State>
void check_state(const SafetensorsReader& file, const std::string& prefix, State& blank,
                 Index sequences, NamesInFile& expected) {
  tensors(blank, [&](std::string_view name, const auto& tensor) {
    as_real(tensor, [&](std::vector<Index> extents, const auto* data) {
      using Real = std::remove_const_t<std::remove_pointer_t<decltype(data)>>;
      extents[0] = sequences;
      const std::string full = prefix + std::string(name);
      if (expected.expect(full)) file.check<Real>(full, extents);
    });
  });
}

/// Reads a state that has its shape. Throws FileError.
template <class State>
void read_state(const SafetensorsReader& file, const std::string& prefix, State& state) {
  tensors(state, [&](std::string_view name, auto& tensor) {
    as_real(tensor, [&](const std::vector<Index>& extents, const auto* data) {
      using Real = std::remove_const_t<std::remove_pointer_t<decltype(data)>>;
      file.read_into(prefix + std::string(name), extents, const_cast<Real*>(data));
      if constexpr (std::is_integral_v<Real>)  // a number of steps
        if (std::any_of(tensor.begin(), tensor.end(),
                        [&](Real x) { return x < 0 || x > (Index{1} << 48); }))
          throw_file(file.path(), prefix + std::string(name) + " is no number of steps");
    });
  });
}

}  // namespace ssm::detail
