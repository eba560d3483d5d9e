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
  namespace fs = std::filesystem;
  const fs::path out = a.out;
  if (fs::exists(out / "model.safetensors") && !a.overwrite)
    throw std::runtime_error(a.out + ": holds a model already; --overwrite replaces it");
  if (text_models::mixed_file(a.model))
    throw std::runtime_error(a.model +
                             ": has layers of several kinds, expected a Mamba model to quantize");
  const ssm::Cpu backend = ssm::cpu(a.threads);
  const ssm::StoredMambaLM before = ssm::open_mamba_lm(a.model);
  const ssm::StoredMambaLM after =
      ssm::open_mamba_lm(a.model, {.format = text_models::Running::format_of(a.format)}, backend);
  save_mamba_lm(out, after);
  const fs::path beside =
      fs::is_directory(a.model) ? fs::path(a.model) : fs::path(a.model).parent_path();
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "generation_config.json",
                           "special_tokens_map.json"})
    if (fs::exists(beside / name) && !(fs::exists(out) && fs::equivalent(beside, out)))
      fs::copy_file(beside / name, out / name, fs::copy_options::overwrite_existing);
  std::printf("%s: %.1f MB of weights, %.1f before\n", a.out.c_str(), bytes_of(after) / 1e6,
              bytes_of(before) / 1e6);
  return 0;
}

}  // namespace quantize
