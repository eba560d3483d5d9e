#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/isa.hpp"
#include "ssm/core/error.hpp"
#include "ssm/core/fields.hpp"
#include "ssm/core/parameters.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/io/commit.hpp"
#include "ssm/io/file.hpp"
#include "ssm/io/json.hpp"
#include "ssm/io/json_object.hpp"
#include "ssm/io/matrix_blocks.hpp"
#include "ssm/io/model_config.hpp"
#include "ssm/io/names_in_file.hpp"
#include "ssm/io/safetensors.hpp"
#include "ssm/io/safetensors_folder.hpp"
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
inline PublishedConfig read_config_of(const SafetensorsFolder& file, Index rows) {
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

/// A Mamba language model in its files, none of whose weights is read yet.
class MambaFiles {
 public:
  /// Opens a folder, a file, or an index, and reads the config. Throws FileError.
  explicit MambaFiles(const std::filesystem::path& path) : MambaFiles(path, hold(path)) {}

  [[nodiscard]] const SafetensorsFolder& tensors() const noexcept { return tensors_; }
  [[nodiscard]] const PublishedConfig& config() const noexcept { return config_; }
  /// The name of the embedding.
  [[nodiscard]] const std::string& embedding() const noexcept { return embedding_; }
  /// Whether there is a head that must be the embedding.
  [[nodiscard]] bool has_tied_head() const {
    return config_.sizes.tied && tensors_.contains("lm_head.weight");
  }

  /// The name in the files of a parameter of a model of ours.
  [[nodiscard]] std::string name_of(std::string_view parameter) const {
    constexpr std::string_view own = "backbone.", ahead = ".ahead.", back = ".back.";
    if (!parameter.starts_with(own)) return std::string(parameter);
    if (parameter == "backbone.embedding.weight") return embedding_;
    std::string name = prefix_ + std::string(parameter.substr(own.size()));
    if (!config_.both_ways()) return name;
    const std::size_t at = name.find(ahead), from = at != name.npos ? at : name.find(back);
    if (from == name.npos) return name;
    const std::string before = name.substr(0, from),
                      after = name.substr(from + (at != name.npos ? ahead : back).size());
    const auto of = [&](bool first) {
      return before + (first ? ".mamba_fwd." : ".mamba_rev.") + after;
    };
    // What both directions share may be stored once, under either name.
    const bool shared =
        config_.shared && (after.starts_with("in_proj.") || after.starts_with("out_proj."));
    const std::string mine = of(at != name.npos);
    return shared && !tensors_.contains(mine) && tensors_.contains(of(at == name.npos))
               ? of(at == name.npos)
               : mine;
  }

  /// Holds every name, shape and element type against the files, which takes no memory yet. Throws
  /// FileError.
  template <class Model>
  void check(const typename Model::Config& config) const {
    Model blank;
    configure(blank, config);
    NamesInFile names(tensors_);
    parameters(blank, [&](std::string_view name, const auto&, const auto& extents, bool) {
      const std::string full = name_of(name);
      names.expect(full);
      if (extents.size() == 2 && blocks_of(tensors_, full)) names.expect(scales_of(full));
    });
    if (has_tied_head()) names.expect("lm_head.weight");
    names.expect_buffers();
    names.check();
    parameters(blank, [&](std::string_view name, const auto&, const auto& extents, bool) {
      const std::string full = name_of(name);
      if constexpr (std::tuple_size_v<std::remove_cvref_t<decltype(extents)>> == 2)
        if (const auto format = blocks_of(tensors_, full))
          return check_blocks(tensors_, full, *format, extents);
      tensors_.file_of(full).check<float>(full, shape_in_file(name, extents));
    });
  }

  /// Reads one parameter of a model, whatever type its numbers have in the files. Throws FileError.
  template <class T, std::size_t Rank>
  void read(std::string_view parameter, Tensor<T, Rank>& to) const {
    const std::string name = name_of(parameter);
    if constexpr (Rank == 2)
      if (const auto format = blocks_of(tensors_, name))
        return unpack_into(read_blocks(tensors_, name, *format, to.extents()), to);
    tensors_.read_into(name, shape_in_file(parameter, to.extents()), to.data());
  }

  /// Reads all weights of a model. Throws FileError, also for an output head that is to be the
  /// embedding and is not.
  template <class Model>
  void read(Model& model) const {
    using T = typename Model::value_type;
    parameters(model,
               [&](std::string_view name, auto& tensor, const auto&, bool) { read(name, tensor); });
    if (!has_tied_head()) return;
    const auto head = tensors_.read<T>("lm_head.weight", model.embedding.extents());
    if (!std::equal(head.begin(), head.end(), model.embedding.begin()))
      throw_file(tensors_.path(),
                 "tensor \"lm_head.weight\" differs from the embedding, expected a tied head, as "
                 "its config says");
  }

  /// Throws FileError for a model that another function opens.
  void check_directions(bool both_ways, const char* other) const {
    if (config_.both_ways() != both_ways)
      throw_file(tensors_.path(), std::string("is a model of ") +
                                      (both_ways ? "one direction" : "both directions") +
                                      ", which " + other + " opens");
  }

 private:
  static FolderHold hold(const std::filesystem::path& path) {
    const bool directory = type_of(path) == std::filesystem::file_type::directory;
    if (directory) check_model_file(path);
    return FolderHold(directory ? path : path.parent_path(), true);
  }
  MambaFiles(const std::filesystem::path& path, const FolderHold&) : tensors_(path) {
    find_embedding();
    const auto found = tensors_.tensors().find(embedding_);
    const bool table = found != tensors_.tensors().end() && found->second.shape.size() == 2;
    config_ = read_config_of(tensors_, table ? found->second.shape[0] : 0);
    check_layer_count();
  }
  void check_layer_count() const {
    const std::size_t count = tensors_.tensors().size();
    const auto layers = static_cast<std::size_t>(config_.sizes.layers);
    // Each has nine or more; of a few that are missing the names say more than their number.
    if (4 * layers > count)
      throw_file(tensors_.path(), "has " + std::to_string(count) + " tensors, too few for the " +
                                      std::to_string(layers) + " layers of its config");
  }
  void find_embedding() {
    for (const char* before : {"backbone.", "model.", "caduceus.backbone.", ""})
      for (const char* name :
           {"embedding.weight", "embeddings.weight", "embeddings.word_embeddings.weight"})
        if (tensors_.contains(std::string(before) + name)) {
          prefix_ = before;
          embedding_ = prefix_ + name;
          return;
        }
  }

  SafetensorsFolder tensors_;
  std::string prefix_ = "backbone.";  // of all names but that of the head
  std::string embedding_ = "backbone.embedding.weight";
  PublishedConfig config_;
};

}  // namespace SSM_DETAIL_ISA

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
    using AnyTensor = std::remove_cvref_t<decltype(tensor)>;
    const bool renamed = hf && name == "backbone.embedding.weight";
    const std::string full = renamed ? "backbone.embeddings.weight" : std::string(name);
    if constexpr (std::is_same_v<AnyTensor, StoredMatrix>) {
      add_matrix(file, full, tensor);
    } else {
      const bool matrix = AnyTensor::rank == 2 && !name.ends_with(".A_log");
      file.add(full, shape_in_file(name, tensor.extents()), tensor.data(),
               matrix ? options.matrices.value_or(dtype_of<T>()) : dtype_of<T>());
    }
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
  const detail::MambaFiles files(path);
  files.check_directions(false, "load_both_ways_mamba_lm");
  files.check<MambaLM<T>>(mamba_lm_config<T>(files.config().sizes));
  MambaLM<T> weights(mamba_lm_config<T>(files.config().sizes));
  files.read(weights);
  return weights;
}

/// Loads a Mamba language model whose blocks run in both directions as published: Caduceus without
/// its symmetry of complements (`rcps`), by the rules of load_mamba_lm. Where the two directions
/// share in_proj and out_proj, each gets them as its own.
/// @throws FileError as load_mamba_lm
template <class T = float>
[[nodiscard]] BothWaysMambaLM<T> load_both_ways_mamba_lm(const std::filesystem::path& path) {
  const detail::MambaFiles files(path);
  files.check_directions(true, "load_mamba_lm");
  files.check<BothWaysMambaLM<T>>(both_ways_mamba_lm_config<T>(files.config().sizes));
  BothWaysMambaLM<T> weights(both_ways_mamba_lm_config<T>(files.config().sizes));
  files.read(weights);
  if (files.config().shared)
    for (const auto& layer : weights.backbone.layers) {
      const auto& [ahead, back] = std::tie(layer.mixer.ahead, layer.mixer.back);
      const auto same = [](const auto& a, const auto& b) {
        return std::equal(a.begin(), a.end(), b.begin(), b.end());
      };
      if (!same(ahead.in_proj, back.in_proj) || !same(ahead.out_proj, back.out_proj))
        detail::throw_file(files.tensors().path(),
                           "has in_proj and out_proj of its own for each direction, expected the "
                           "same ones, as its config says");
    }
  return weights;
}

/// Saves a Mamba language model as model.safetensors and config.json in the folder `directory`,
/// which is made if it does not exist. If the program is killed at any moment, the folder holds the
/// model before or the new one. The hf layout is for transformers; the original has no words for
/// norms of dt, B and C, nor for channels that are no multiple of the width. Stored matrices are
/// written as they are stored, those in blocks of few bits as ssm/io/matrix_blocks.hpp says.
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
