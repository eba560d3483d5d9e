#include "quantize.hpp"

#include <cstdio>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "ssm/io/open_mamba_lm.hpp"
#include "text_models.hpp"

namespace quantize {
namespace {

namespace fs = std::filesystem;

/// Bytes of all parameters of a model.
double bytes_of(const ssm::StoredMambaLM& model) {
  double bytes = 0;
  parameters(model, [&](const auto&, const auto& tensor, const auto&, bool) {
    if constexpr (std::is_same_v<decltype(tensor), const ssm::StoredMatrix&>)
      bytes += static_cast<double>(tensor.bytes());
    else
      bytes += 4 * static_cast<double>(tensor.size());
  });
  return bytes;
}

/// What goes with a model.
constexpr const char* beside[] = {"tokenizer.json", "tokenizer_config.json",
                                  "generation_config.json", "special_tokens_map.json"};

/// Throws where a model would be put among, or in place of, what belongs to another.
void check_place(const fs::path& from, const fs::path& out, bool overwrite) {
  const auto refuse = [&](const std::string& why) {
    throw std::runtime_error(out.string() + ": " + why);
  };
  const fs::path model = out / "model.safetensors";
  if (fs::is_symlink(model))
    refuse("its model.safetensors is a link to another file, which is not replaced");
  if (fs::exists(out / "model.safetensors.index.json"))
    refuse("holds a model in several files, expected another folder");
  if (fs::exists(model) && !overwrite) refuse("holds a model already; --overwrite replaces it");
  if (fs::exists(out) && fs::equivalent(from.empty() ? "." : from, out)) return;
  for (const char* name : beside)
    if (fs::exists(out / name) && !(overwrite && fs::exists(from / name)))
      refuse("holds the " + std::string(name) + " of another model, expected another folder");
}

}  // namespace

void add_options(options::Command& command, Arguments& a) {
  command.add("--model", a.model, "directory or safetensors file").required();
  command.add("--out", a.out, "directory for the model").required();
  command
      .add("--format", a.format,
           "f16 and bf16: 16 bits; q8 and q4: blocks of 32 numbers of 8 or 4 bits with a factor")
      .one_of({"f32", "f16", "bf16", "q8", "q4"})
      .show_default();
  command.flag("--overwrite", a.overwrite, "replace a model that is there");
  command.add("--threads", a.threads, "0: all").check(options::between(0, 4096)).show_default();
}

int run(const Arguments& a) {
  const fs::path out = a.out;
  const fs::path from =
      fs::is_directory(a.model) ? fs::path(a.model) : fs::path(a.model).parent_path();
  check_place(from, out, a.overwrite);
  if (text_models::mixed_file(a.model))
    throw std::runtime_error(a.model + ": is no Mamba model, expected one to quantize");
  const ssm::Cpu backend = ssm::cpu(a.threads);
  const ssm::StoredMambaLM before = ssm::open_mamba_lm(a.model);
  const ssm::StoredMambaLM after =
      ssm::open_mamba_lm(a.model, {.format = text_models::Running::format_of(a.format)}, backend);
  save_mamba_lm(out, after);
  if (!fs::equivalent(from.empty() ? "." : from, out))
    for (const char* name : beside)
      if (fs::exists(from / name))
        fs::copy_file(from / name, out / name, fs::copy_options::overwrite_existing);
  std::printf("%s: %.1f MB of weights, %.1f before\n", a.out.c_str(), bytes_of(after) / 1e6,
              bytes_of(before) / 1e6);
  return 0;
}

}  // namespace quantize
