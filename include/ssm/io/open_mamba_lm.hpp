#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

#include "ssm/core/backend.hpp"
#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/large_memory.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/io/checkpoint.hpp"
#include "ssm/io/matrix_blocks.hpp"
#include "ssm/io/safetensors.hpp"
#include "ssm/layers/store_matrix.hpp"
#include "ssm/layers/stored_matrix.hpp"
#include "ssm/models/stored_mamba_lm.hpp"

namespace ssm {

/// How the matrices of a model are to be kept.
struct OpenOptions {
  std::optional<MatrixFormat> format = {};  ///< absent: that of the file
  bool resident = false;  ///< whether matrices are copied into memory of large pages, which takes
                          ///< longer than to map the file, and makes a step faster
};

namespace detail {

/// Gives matrices of the files of a model, mapped where they can be.
class MatrixOpener {
 public:
  MatrixOpener(const MambaFiles& files, const Cpu& backend, const OpenOptions& options)
      : files_(files), backend_(backend), options_(options) {}

  [[nodiscard]] StoredMatrix operator()(std::string_view parameter,
                                        const std::array<Index, 2>& extents) {
    const std::string name = files_.name_of(parameter);
    const auto blocks = blocks_of(files_.tensors(), name);
    const DType dtype = files_.tensors().entry(name).dtype;
    const std::optional<MatrixFormat> format = blocks ? blocks : plain_format(dtype);
    if (!format || (options_.format && *options_.format != *format)) {
      Tensor<float, 2> numbers(extents);
      files_.read(parameter, numbers);
      try {
        const MatrixFormat to = options_.format.value_or(MatrixFormat::f32);
        return store_in(memory_.allocate(stored_bytes(to, extents)), backend_, numbers, to);
      } catch (const DomainError& error) {
        throw_file(files_.tensors().file_of(name).path(),
                   "tensor " + in_quotes(name) + ": " + error.what());
      }
    }
    const Index row = row_bytes(*format, extents[1]), scales = scale_bytes(*format, extents[1]);
    StoredMatrixView view{*format, extents, mapped(name), nullptr};
    std::shared_ptr<const void> owner = mappings_.at(&files_.tensors().file_of(name));
    if (scales > 0) {
      const std::string of_scales = scales_of(name);
      const SafetensorsReader& file = files_.tensors().file_of(of_scales);
      (void)file.read<Bfloat16, 2>(of_scales, {extents[0], scales / 2});  // all are finite
      view.scales = mapped(of_scales);
      owner = std::make_shared<std::array<std::shared_ptr<const void>, 2>>(
          std::array<std::shared_ptr<const void>, 2>{owner, mappings_.at(&file)});
    }
    if (!options_.resident) return StoredMatrix(view, owner);
    const auto memory = memory_.allocate(stored_bytes(*format, extents));
    const auto copy = [](std::byte* to, const std::byte* from, Index bytes) {
      if (bytes > 0) std::memcpy(to, from, static_cast<std::size_t>(bytes));
    };
    std::byte* const behind = memory.get() + extents[0] * row;
    copy(memory.get(), view.numbers, extents[0] * row);
    copy(behind, view.scales, extents[0] * scales);
    return StoredMatrix({*format, extents, memory.get(), behind}, memory);
  }

 private:
  [[nodiscard]] static std::optional<MatrixFormat> plain_format(DType dtype) noexcept {
    if (dtype == DType::F32) return MatrixFormat::f32;
    if (dtype == DType::F16) return MatrixFormat::f16;
    if (dtype == DType::BF16) return MatrixFormat::bf16;
    return std::nullopt;
  }
  [[nodiscard]] const std::byte* mapped(const std::string& name) {
    const SafetensorsReader& file = files_.tensors().file_of(name);
    auto& mapping = mappings_[&file];
    if (!mapping) mapping = file.map();
    return mapping.get() + file.entry(name).begin;
  }

  const MambaFiles& files_;
  Cpu backend_;
  OpenOptions options_;
  LargeMemory memory_;
  std::map<const SafetensorsReader*, std::shared_ptr<const std::byte>> mappings_;
};

}  // namespace detail

/// Opens a Mamba language model as load_mamba_lm does, to run and not to train. Its matrices stay
/// in the file, which is mapped into memory: opening takes no longer for a large model, processes
/// share what they have read of it, and nothing is converted. The file must not be changed in place
/// while the model lives; it may be replaced.
///
/// The numbers of matrices that stay in the file are not looked at, but the factors of blocks: one
/// that is not finite spoils the logits, and an output head that a config calls tied is not
/// compared with the embedding.
/// @param options how matrices are kept; another format than that of the file is made while opening
/// @param backend the threads that convert
/// @throws FileError as load_mamba_lm
[[nodiscard]] inline StoredMambaLM open_mamba_lm(const std::filesystem::path& path,
                                                 const OpenOptions& options = {},
                                                 const Cpu& backend = cpu) {
  const detail::MambaFiles files(path);
  files.check_directions(false, "load_both_ways_mamba_lm");
  const auto config = mamba_lm_config<float>(files.config().sizes);
  files.check<MambaLM<float>>(config);
  StoredMambaLM model(detail::stored_config(config));
  detail::MatrixOpener open(files, backend, options);
  parameters(model, [&]<class AnyTensor>(std::string_view name, AnyTensor& tensor,
                                         const auto& extents, bool) {
    if constexpr (std::is_same_v<AnyTensor, StoredMatrix>)
      tensor = open(name, extents);
    else
      files.read(name, tensor);
  });
  return model;
}

}  // namespace ssm
