#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "ssm/core/index.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/io/file.hpp"
#include "ssm/io/names_in_file.hpp"
#include "ssm/io/safetensors_reader.hpp"

namespace ssm::detail {

/// The tensors of a file whose names begin with a prefix: the state dictionary of one module of
/// other code. Numbers are read in double, in which the weights of a layer are computed from them.
class StateDict {
 public:
  StateDict(const SafetensorsReader& file, std::string prefix)
      : file_(file), prefix_(std::move(prefix)) {}

  [[nodiscard]] bool has(const std::string& name) const { return file_.contains(prefix_ + name); }
  /// Throws FileError with the names that are missing.
  void require(std::initializer_list<std::string> names) const {
    NamesInFile expected(file_);
    for (const std::string& name : names) expected.expect(prefix_ + name);
    expected.check_missing();
  }
  [[nodiscard]] const std::vector<Index>& shape(const std::string& name) const {
    return file_.entry(prefix_ + name).shape;
  }
  /// Throws FileError unless a tensor has this shape.
  void check(const std::string& name, const std::vector<Index>& want) const {
    file_.check(prefix_ + name, want);
  }
  /// A tensor of this shape in the file.
  template <std::size_t Rank>
  [[nodiscard]] Tensor<double, Rank> read(const std::string& name,
                                          const std::array<Index, Rank>& want) const {
    return file_.read<double>(prefix_ + name, want);
  }
  /// A tensor of one shape in the file and another here, with as many elements in the same order.
  template <std::size_t Rank>
  [[nodiscard]] Tensor<double, Rank> read_as(const std::string& name,
                                             const std::vector<Index>& want,
                                             const std::array<Index, Rank>& here) const {
    check(name, want);  // before memory is taken
    Tensor<double, Rank> tensor(here);
    file_.read_into(prefix_ + name, want, tensor.data());
    return tensor;
  }
  /// Throws FileError: a tensor is one thing, and should be another.
  [[noreturn]] void fail(const std::string& name, const std::string& got,
                         const std::string& want) const {
    throw_file(file_.path(),
               "tensor " + in_quotes(prefix_ + name) + " " + got + ", expected " + want);
  }
  /// fail for one element.
  [[noreturn]] void fail_at(const std::string& name, Index element, double got,
                            const std::string& want) const {
    fail(name, "has " + std::to_string(got) + " at element " + std::to_string(element), want);
  }
  /// Throws FileError unless all weights of a layer that came out of the dictionary are finite:
  /// numbers of the file may be too large for its type.
  template <class Layer>
  void check_finite(const Layer& layer) const {
    parameters(layer, [&](const auto& name, const auto& tensor, const auto&, bool) {
      for (Index i = 0; i < tensor.size(); ++i)
        if (!std::isfinite(static_cast<double>(tensor.data()[i])))
          throw_file(file_.path(), "the tensors of " + in_quotes(prefix_) + " give " +
                                       std::string(name) + " " + std::to_string(tensor.data()[i]) +
                                       " at element " + std::to_string(i) +
                                       ", expected finite numbers");
    });
  }

 private:
  const SafetensorsReader& file_;
  std::string prefix_;
};

/// a = the elements of b, converted.
template <class A, class B>
void assign_elements(A& a, const B& b) {
  using T = typename A::value_type;
  for (Index i = 0; i < b.size(); ++i) a.data()[i] = static_cast<T>(b.data()[i]);
}

}  // namespace ssm::detail
