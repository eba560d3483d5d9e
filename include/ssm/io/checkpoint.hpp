#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/detail/large_memory.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/fields.hpp"
#include "ssm/core/float16.hpp"
#include "ssm/core/parameters.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/io/commit.hpp"
#include "ssm/io/file.hpp"
#include "ssm/io/json.hpp"
#include "ssm/io/json_object.hpp"
#include "ssm/io/model_config.hpp"
#include "ssm/io/names_in_file.hpp"
#include "ssm/io/safetensors.hpp"
#include "ssm/io/safetensors_folder.hpp"
#include "ssm/layers/detail/stored_product.hpp"
#include "ssm/layers/store_matrix.hpp"
#include "ssm/layers/stored_matrix.hpp"
#include "ssm/models/mamba_lm.hpp"

/// @file
/// Language models in the files of state-spaces/mamba and of transformers: a folder with
/// config.json and model.safetensors, or several files of tensors and an index of them.

namespace ssm {

/// Whose names and configuration the files of a Mamba language model have.
enum class MambaLayout {
  original,  ///< those of state-spaces/mamba
  hf         ///< those of transformers, as published with `-hf`
};

/// How a Mamba language model is to be written.
struct MambaFileOptions {
  std::optional<DType> matrices = {};  ///< element type of all matrices but A_log in the file:
                                       ///< F16 and BF16 halve the file of a float model; absent:
                                       ///< that of the model, as for all other parameters
  std::optional<MambaLayout> layout =
      {};  ///< absent: the original where it has words for the model
};

namespace detail {

/// What follows the name of a matrix in blocks of few bits, where its factors are.
inline constexpr std::string_view scales_suffix = ".scales";

/// Throws FileError with what to do for a folder that has a model in another form than safetensors
/// files.
inline void check_model_file(const std::filesystem::path& folder) {
  const auto has = [&](const char* name) {
    return type_of(folder / name) != std::filesystem::file_type::not_found;
  };
  if (has("model.safetensors") || has("model.safetensors.index.json")) return;
  if (has("pytorch_model.bin") || has("pytorch_model.bin.index.json"))
    throw_file(
        folder,
        "has its weights in pytorch_model.bin, which is not read; convert it to "
        "model.safetensors, in Python with safetensors.torch.save_file({n: w.clone() for n, w "
        "in torch.load(\"pytorch_model.bin\", weights_only=True).items()}, "
        "\"model.safetensors\")");
}

/// The config beside a model, or the one that its file carries where there is none beside it.
inline MambaLMConfig read_config_of(const SafetensorsFolder& file, Index rows) {
  const std::filesystem::path path = file.path().parent_path() / "config.json";
  const auto own = file.metadata().find("config");
  if (own != file.metadata().end() && type_of(path) == std::filesystem::file_type::not_found) {
    const Json json = parse_json(file.path(), own->second, "config");
    return read_config(JsonObject(file.path(), "config", json), rows);
  }
  const Json json = parse_json(path, read_file(path, longest_json));
  return read_config(JsonObject(path, "config", json), rows);
}

inline namespace SSM_DETAIL_ISA {

/// A Mamba language model in its files, all checked but the weights, none of which is read yet.
struct MambaFiles {
  SafetensorsFolder tensors;
  std::string prefix = "backbone.";                     ///< of all names but that of the head
  std::string embedding = "backbone.embedding.weight";  ///< the name of the embedding
  MambaLMConfig config = {};
  bool tied_head = false;  ///< whether there is a head that must be the embedding

  /// Opens a folder, a file, or an index. Throws FileError.
  static MambaFiles open(const std::filesystem::path& path) {
    const bool directory = type_of(path) == std::filesystem::file_type::directory;
    if (directory) check_model_file(path);
    const FolderHold hold(directory ? path : path.parent_path(), true);
    MambaFiles files{.tensors = SafetensorsFolder(path)};
    files.find_embedding();
    const auto found = files.tensors.tensors().find(files.embedding);
    const bool table = found != files.tensors.tensors().end() && found->second.shape.size() == 2;
    files.config = read_config_of(files.tensors, table ? found->second.shape[0] : 0);
    files.check_parameters();
    return files;
  }

  /// The name in the files of a parameter of MambaLM.
  [[nodiscard]] std::string name_of(std::string_view parameter) const {
    constexpr std::string_view own = "backbone.";
    if (!parameter.starts_with(own)) return std::string(parameter);
    if (parameter == "backbone.embedding.weight") return embedding;
    return prefix + std::string(parameter.substr(own.size()));
  }

  /// The format of a matrix in blocks of few bits, if it is one.
  [[nodiscard]] std::optional<MatrixFormat> blocks_of(const std::string& name) const {
    if (!tensors.contains(name + std::string(scales_suffix))) return std::nullopt;
    const SafetensorsEntry& entry = tensors.entry(name);
    if (entry.dtype == DType::I8) return MatrixFormat::q8;
    if (entry.dtype == DType::U8) return MatrixFormat::q4;
    throw_file(tensors.path(), "tensor " + in_quotes(name) + " is of dtype " +
                                   in_quotes(entry.dtype_name) + ", expected I8 or U8 as " +
                                   in_quotes(name + std::string(scales_suffix)) + " is there");
  }
  /// Throws FileError unless a matrix in blocks of few bits and its factors are of the right shapes
  /// and types.
  void check_blocks(const std::string& name, MatrixFormat format,
                    const std::array<Index, 2>& extents) const {
    const std::string of_scales = name + std::string(scales_suffix);
    tensors.file_of(name).check(name, {extents[0], row_bytes(format, extents[1])});
    const SafetensorsReader& file = tensors.file_of(of_scales);
    file.check(of_scales, {extents[0], scale_bytes(format, extents[1]) / 2});
    if (file.entry(of_scales).dtype != DType::BF16)
      throw_file(file.path(), "tensor " + in_quotes(of_scales) + " is of dtype " +
                                  in_quotes(file.entry(of_scales).dtype_name) + ", expected BF16");
  }
  /// A matrix in blocks of few bits, read.
  [[nodiscard]] StoredMatrix read_blocks(const std::string& name, MatrixFormat format,
                                         const std::array<Index, 2>& extents) const {
    const Index row = row_bytes(format, extents[1]), scales = scale_bytes(format, extents[1]);
    const std::string of_scales = name + std::string(scales_suffix);
    const auto factors = tensors.read<Bfloat16, 2>(of_scales, {extents[0], scales / 2});
    const auto memory = allocate_large(extents[0] * (row + scales));
    std::byte* const numbers = memory.get();
    if (format == MatrixFormat::q8)
      tensors.read_into(name, {extents[0], row}, reinterpret_cast<std::int8_t*>(numbers));
    else
      tensors.read_into(name, {extents[0], row}, reinterpret_cast<std::uint8_t*>(numbers));
    std::byte* const behind = numbers + extents[0] * row;
    if (factors.size() > 0)
      std::memcpy(behind, factors.data(), static_cast<std::size_t>(2 * factors.size()));
    return StoredMatrix({format, extents, numbers, behind}, memory);
  }
  /// Fills a parameter of a model, whatever type its numbers have in the files.
  template <class T, std::size_t Rank>
  void read(std::string_view parameter, Tensor<T, Rank>& to) const {
    const std::string name = name_of(parameter);
    if constexpr (Rank == 2)
      if (const auto format = blocks_of(name)) {
        const StoredMatrix matrix = read_blocks(name, *format, to.extents());
        const Index in = to.extent(1);
        std::vector<float> row(static_cast<std::size_t>(in));
        for (Index r = 0; r < to.extent(0); ++r) {
          read_row(matrix.view(), r, row.data());
          std::transform(row.begin(), row.end(), to.data() + r * in,
                         [](float x) { return static_cast<T>(x); });
        }
        return;
      }
    tensors.read_into(name, shape_in_file(parameter, to.extents()), to.data());
  }

 private:
  void find_embedding() {
    for (const char* before : {"backbone.", "model.", ""})
      for (const char* name : {"embedding.weight", "embeddings.weight"})
        if (tensors.contains(std::string(before) + name)) {
          prefix = before;
          embedding = prefix + name;
          return;
        }
  }
  /// Holds every name, shape and element type against the files, which takes no memory yet.
  void check_parameters() {
    const std::size_t count = tensors.tensors().size();
    // Each has nine or more; of a few that are missing the names say more than their number.
    if (4 * static_cast<std::size_t>(config.layers) > count)
      throw_file(tensors.path(), "has " + std::to_string(count) + " tensors, too few for the " +
                                     std::to_string(config.layers) + " layers of its config");
    MambaLM<float> blank;
    configure(blank, mamba_lm_config<float>(config));
    NamesInFile names(tensors);
    parameters(blank, [&](std::string_view name, const auto&, const auto&, bool) {
      const std::string in_files = name_of(name);
      names.expect(in_files);
      if (tensors.contains(in_files + std::string(scales_suffix)))
        names.expect(in_files + std::string(scales_suffix));
    });
    tied_head = config.tied && tensors.contains("lm_head.weight");
    if (tied_head) names.expect("lm_head.weight");
    names.expect_buffers();
    names.check();
    parameters(blank, [&](std::string_view name, const auto&, const auto& extents, bool) {
      const std::string full = name_of(name);
      if constexpr (std::tuple_size_v<std::remove_cvref_t<decltype(extents)>> == 2)
        if (const auto format = blocks_of(full)) return check_blocks(full, *format, extents);
      tensors.file_of(full).check<float>(full, shape_in_file(name, extents));
    });
  }
};

}  // namespace SSM_DETAIL_ISA

/// Throws FileError for an output head that is not the embedding.
template <class T>
void check_tied_head(const SafetensorsFolder& file, const MambaLM<T>& weights) {
  const auto head = file.read<T>("lm_head.weight", weights.embedding.extents());
  if (!std::equal(head.begin(), head.end(), weights.embedding.begin()))
    throw_file(file.path(),
               "tensor \"lm_head.weight\" differs from the embedding, expected a tied head, as its "
               "config says");
}

/// Adds a parameter to a file, matrices with elements of the type `matrices`.
template <class T, std::size_t Rank>
void add_parameter(SafetensorsWriter& file, const std::string& name, std::vector<Index> shape,
                   const Tensor<T, Rank>& tensor, std::optional<DType> matrices) {
  const bool matrix = Rank == 2 && !name.ends_with(".A_log");
  file.add(name, std::move(shape), tensor.data(),
           matrix ? matrices.value_or(dtype_of<T>()) : dtype_of<T>());
}
/// A stored matrix is written as it is stored.
inline void add_parameter(SafetensorsWriter& file, const std::string& name,
                          std::vector<Index> shape, const StoredMatrix& matrix,
                          std::optional<DType>) {
  const StoredMatrixView m = matrix.view();
  const Index row = row_bytes(m.format, shape[1]), scales = scale_bytes(m.format, shape[1]);
  const auto as = [&]<class T>(const T*) {
    shape[1] = row / static_cast<Index>(sizeof(T));
    file.add(name, shape, reinterpret_cast<const T*>(m.numbers));
  };
  switch (m.format) {
    case MatrixFormat::f32:
      return as(static_cast<const float*>(nullptr));
    case MatrixFormat::f16:
      return as(static_cast<const Half*>(nullptr));
    case MatrixFormat::bf16:
      return as(static_cast<const Bfloat16*>(nullptr));
    case MatrixFormat::q8:
      as(static_cast<const std::int8_t*>(nullptr));
      break;
    case MatrixFormat::q4:
      as(static_cast<const std::uint8_t*>(nullptr));
      break;
  }
  file.add(name + std::string(scales_suffix), {shape[0], scales / 2},
           reinterpret_cast<const Bfloat16*>(m.scales));
}

/// The layout in which a model is written. Throws DomainError for one that has no words for it.
inline MambaLayout layout_of(const MambaLMConfig& config, std::optional<MambaLayout> asked) {
  const char* why = config.block().normalizes() ? "norms of dt, B and C"
                    : config.inner > 0          ? "channels that are no multiple of its width"
                                                : nullptr;
  if (asked == MambaLayout::original && why != nullptr)
    throw_domain("save_mamba_lm", "layout", "original", std::string("hf for a model with ") + why);
  return asked.value_or(why != nullptr ? MambaLayout::hf : MambaLayout::original);
}

/// Adds model.safetensors and config.json to a commit.
///
/// The file carries its config, and a config.json that says another thing is let go before the
/// file takes its place: whatever happens in between, no folder has new weights under an old
/// config, nor weights without one.
template <class T, class Matrix>
void add_mamba_lm(Commit& commit, const std::filesystem::path& folder,
                  const LanguageModel<Residual<Mamba<T, Matrix>>>& weights,
                  const MambaFileOptions& options) {
  const MambaLMConfig sizes = published_config(weights.config);
  const bool hf = layout_of(sizes, options.layout) == MambaLayout::hf;
  const Json json =
      hf ? hf_config(sizes, sizeof(T) == 4 ? "float32" : "float64") : original_config(sizes);
  const std::string config = json.text(2) + "\n";
  SafetensorsWriter file;
  file.metadata = {{"format", "pt"}, {"config", config}};
  parameters(weights, [&](std::string_view name, const auto& tensor, const auto&, bool) {
    const bool renamed = hf && name == "backbone.embedding.weight";
    add_parameter(file, renamed ? "backbone.embeddings.weight" : std::string(name),
                  shape_in_file(name, tensor.extents()), tensor, options.matrices);
  });
  file.save(commit, folder / "model.safetensors");
  const std::filesystem::path path = folder / "config.json";
  commit.add(path, [&](OutputFile& to) { to.write(config); });
  if (type_of(path) != std::filesystem::file_type::not_found) {
    const InputFile old(path);
    if (old.size() > longest_json || old.read_all(longest_json) != config)
      commit.remove_first(path);
  }
}

}  // namespace detail

/// Loads a Mamba language model as published: from a folder with config.json and model.safetensors,
/// or several files of tensors beside model.safetensors.index.json, or from one of these files with
/// config.json beside it. Without config.json it uses the configuration that save_mamba_lm puts
/// into the safetensors file.
///
/// The `model_type` or the `architectures` of the config say what it is: Mamba of
/// state-spaces/mamba, or Mamba or FalconMamba of transformers, with or without biases, the head
/// tied or not, the vocabulary as long as the config says or padded to its multiple, names with
/// `backbone.`, `model.` or neither before them. Elements of F16, BF16, F32 and F64 are converted
/// to T; buffers of other types that are no weights of the model are passed over.
///
/// Names and sizes are checked against the files before memory is allocated for them.
/// @throws FileError when something is missing, superfluous, of another shape, not finite, or asks
///   for a kind of model or a feature that is not here
template <class T = float>
[[nodiscard]] MambaLM<T> load_mamba_lm(const std::filesystem::path& path) {
  const auto files = detail::MambaFiles::open(path);
  MambaLM<T> weights(mamba_lm_config<T>(files.config));
  parameters(weights, [&](std::string_view name, auto& tensor, const auto&, bool) {
    files.read(name, tensor);
  });
  if (files.tied_head) detail::check_tied_head(files.tensors, weights);
  return weights;
}

/// Saves a Mamba language model as model.safetensors and config.json in the folder `directory`,
/// which is made if it does not exist. If the program is killed at any moment, the folder holds the
/// model before or the new one. The hf layout is for transformers; the original has no words for
/// norms of dt, B and C, nor for channels that are no multiple of the width.
///
/// Stored matrices are written as they are stored: one in blocks of few bits as a tensor of I8, or
/// of U8 for two numbers a byte, and its factors as a tensor of BF16 whose name has ".scales"
/// behind it.
/// @throws FileError; DomainError for a layout that has no words for the model, and for blocks that
///   differ
template <class T, class Matrix>
void save_mamba_lm(const std::filesystem::path& directory,
                   const LanguageModel<Residual<Mamba<T, Matrix>>>& weights,
                   const MambaFileOptions& options = {}) {
  detail::make_folder(directory);
  detail::Commit commit;
  detail::add_mamba_lm(commit, directory, weights, options);
  commit.finish();
}

#if SSM_HAS_LIBRARY
SSM_INSTANCE MambaLM<float> load_mamba_lm<float>(const std::filesystem::path&);
SSM_INSTANCE void save_mamba_lm(const std::filesystem::path&, const MambaLM<float>&,
                                const MambaFileOptions&);
SSM_INSTANCE MambaLM<double> load_mamba_lm<double>(const std::filesystem::path&);
SSM_INSTANCE void save_mamba_lm(const std::filesystem::path&, const MambaLM<double>&,
                                const MambaFileOptions&);
#endif

}  // namespace ssm
