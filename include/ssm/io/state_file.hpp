#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "ssm/core/detail/hash.hpp"
#include "ssm/core/parameters.hpp"
#include "ssm/io/commit.hpp"
#include "ssm/io/config_json.hpp"
#include "ssm/io/json_object.hpp"
#include "ssm/io/json_text.hpp"
#include "ssm/io/names_in_file.hpp"
#include "ssm/io/safetensors.hpp"
#include "ssm/io/save_load.hpp"
#include "ssm/io/state_tensors.hpp"
#include "ssm/layers/detail/stored_product.hpp"
#include "ssm/layers/layer.hpp"
#include "ssm/layers/stored_matrix.hpp"
#include "ssm/models/speculation.hpp"
#include "ssm/models/text_generator.hpp"

/// @file
/// States in files, so that a long context is read once:
///
///     ssm::TextGenerator writer(ssm::load_mamba_lm("kjv"));
///     writer.read(book);
///     ssm::save_state("book.state", writer);
///     ...
///     ssm::load_state("book.state", writer);   // here, or in another program
///
/// A state file is a safetensors file with the tensors of the state. Its metadata says which model
/// the state is of: the configuration, and a few numbers of every weight.

namespace ssm {

/// A state as read from a file.
template <class L>
struct SavedState {
  StateOf<L> state;                          ///< of as many sequences as were saved
  std::map<std::string, std::string> notes;  ///< further texts of the caller
};

namespace detail {

inline constexpr const char* state_format = "ssm-state-1";

/// Element `at` of a parameter, in row-major order.
template <class AnyTensor>
[[nodiscard]] auto element_of(const AnyTensor& tensor, Index at) {
  return tensor.data()[at];
}
[[nodiscard]] inline float element_of(const StoredMatrix& matrix, Index at) {
  const Index in = matrix.extent(1);
  std::vector<float> row(static_cast<std::size_t>(in));
  read_row(matrix.view(), at / in, row.data());
  return row[static_cast<std::size_t>(at % in)];
}

/// A number of a layer's weights, by up to 16 elements of each: that of weights trained further is
/// another one, and large files need not be read for it.
template <class L>
[[nodiscard]] std::uint64_t fingerprint(const L& layer) {
  std::uint64_t hash = 0;
  const auto add = [&](const void* bytes, std::size_t size) {
    for (std::size_t at = 0; at < size; at += sizeof(hash)) {
      std::uint64_t word = 0;
      std::memcpy(&word, static_cast<const char*>(bytes) + at, (std::min)(sizeof(word), size - at));
      hash = mix(hash ^ word);
    }
  };
  parameters(layer, [&](std::string_view name, const auto& tensor, const auto&, bool) {
    add(name.data(), name.size());
    constexpr Index most = 16;
    const Index size = tensor.size(), count = (std::min)(size, most);
    add(&size, sizeof(size));
    for (Index i = 0; i < count; ++i) {
      const auto element = element_of(tensor, count > 1 ? (size - 1) / (count - 1) * i : 0);
      static_assert(std::is_trivially_copyable_v<decltype(element)>);
      add(&element, sizeof(element));
    }
  });
  return hash;
}

/// Where two configurations differ first: "config.vocab is 256, expected 300"; "" for equal ones.
inline std::string first_difference(const Json& got, const Json& want, const std::string& where) {
  if (got == want) return {};
  const auto *a = got.as<Json::Object>(), *b = want.as<Json::Object>();
  if (a != nullptr && b != nullptr)
    for (const auto& [name, value] : *b) {
      const Json* own = got.find(name);
      if (own == nullptr) return where + " has no " + name;
      const std::string found = first_difference(*own, value, where + "." + name);
      if (!found.empty()) return found;
    }
  const auto *c = got.as<Json::Array>(), *d = want.as<Json::Array>();
  if (c != nullptr && d != nullptr) {
    if (c->size() != d->size())
      return where + " has " + std::to_string(c->size()) + " items, expected " +
             std::to_string(d->size());
    for (std::size_t i = 0; i < c->size(); ++i) {
      const std::string found =
          first_difference((*c)[i], (*d)[i], where + "[" + std::to_string(i) + "]");
      if (!found.empty()) return found;
    }
  }
  return where + " is " + JsonObject::describe(got) + ", expected " + JsonObject::describe(want);
}

/// The metadata of a state file, with the notes of the caller.
[[nodiscard]] inline std::map<std::string, std::string> state_metadata(
    const std::map<std::string, std::string>& notes, const Json& config, std::uint64_t weights,
    Index sequences) {
  for (const char* taken : {"format", "state", "generator"})
    if (notes.count(taken) != 0)
      throw_domain("save_state", "a note", in_quotes(taken), "another name");
  auto metadata = notes;
  metadata["state"] = Json(Json::Object{{"format", state_format},
                                        {"sequences", sequences},
                                        {"weights", weights},
                                        {"config", config}})
                          .text();
  return metadata;
}

/// The number of sequences in a state file. Throws FileError for the state of another model.
[[nodiscard]] inline Index check_state_metadata(const SafetensorsReader& file, const Json& config,
                                                std::uint64_t weights) {
  const auto found = file.metadata().find("state");
  if (found == file.metadata().end())
    throw_file(file.path(), "is no state file: its metadata has no \"state\"");
  const Json json = parse_json(file.path(), found->second, "state");
  const JsonObject state(file.path(), "state", json);
  if (!(state.at("format") == Json(state_format))) state.fail("format", in_quotes(state_format));
  const std::string other = first_difference(state.at("config"), config, "config");
  if (!other.empty()) throw_file(file.path(), "is the state of another model: " + other);
  if (state.bits("weights") != weights)
    throw_file(file.path(), "is the state of a model with other weights");
  const Index sequences = state.count("sequences");
  if (sequences > 0x7fffffff) state.fail("sequences", "at most 2147483647");
  return sequences;
}

/// Whether a path holds a state file, by its metadata.
[[nodiscard]] inline bool holds_state(const std::filesystem::path& path) {
  try {
    return SafetensorsReader(path).metadata().count("state") != 0;
  } catch (const FileError&) {
    return false;
  }
}

/// Adds a state of a layer, which must live until the file is saved.
template <class L>
void add_state_of(SafetensorsWriter& file, const L& layer, const StateOf<L>& state,
                  const std::map<std::string, std::string>& notes) {
  auto& listed = const_cast<StateOf<L>&>(state);  // nothing is changed here
  Index sequences = 0;
  tensors(listed, [&](std::string_view, const auto& tensor) { sequences = tensor.extent(0); });
  file.metadata = state_metadata(notes, to_json(layer.config), fingerprint(layer), sequences);
  add_state(file, "state.", listed);
}

/// Reads the state of a layer from a file that has these tensors as well.
template <class L>
[[nodiscard]] StateOf<L> read_state_of(const SafetensorsReader& file, const L& layer,
                                       std::initializer_list<const char*> others = {}) {
  const Index sequences = check_state_metadata(file, to_json(layer.config), fingerprint(layer));
  NamesInFile expected(file);
  for (const char* other : others) expected.expect(other);
  StateOf<L> state = make_state(layer, 0);
  check_state(file, "state.", state, sequences, expected);
  expected.check();
  state = make_state(layer, sequences);
  read_state(file, "state.", state);
  return state;
}

/// The texts that the library does not use itself.
[[nodiscard]] inline std::map<std::string, std::string> notes_of(const SafetensorsReader& file) {
  auto notes = file.metadata();
  for (const char* own : {"format", "state", "generator"}) notes.erase(own);
  return notes;
}

}  // namespace detail

/// Throws unless a state could be saved at this path now: where its folder can be written, and
/// there is either nothing or a state file. For a program that will have one to save in an hour.
/// @throws FileError
inline void check_state_path(const std::filesystem::path& path) {
  if (detail::type_of(path) == std::filesystem::file_type::regular && !detail::holds_state(path))
    detail::throw_file(path, "is no state file, and is not replaced");
  detail::Commit trial;  // makes a file beside it, and takes that away
  trial.add(path, [](detail::OutputFile&) {});
}

/// Saves the state of any layer or model as one safetensors file, which takes the place of a state
/// file that is there in one step.
/// @param layer that the state is of
/// @param notes further texts to store, by name
/// @throws FileError with the reason that the system gives, for a file that is there and is no
///   state file, and for a state that is not finite; DomainError for a note named "format",
///   "state" or "generator"
template <Keepable L>
void save_state(const std::filesystem::path& path, const L& layer, const StateOf<L>& state,
                const std::map<std::string, std::string>& notes = {}) {
  check_state_path(path);
  SafetensorsWriter file;
  detail::add_state_of(file, layer, state, notes);
  file.save(path);
}

/// Loads a state that save_state wrote. Sizes are checked against the file before memory is
/// allocated for them.
/// @param layer the one that the state was of, or another with the same configuration and weights
/// @throws FileError for a file that is no state file, for the state of a layer with another
///   configuration or other weights, and for tensors that are missing, superfluous, of another
///   shape or not finite
template <Keepable L>
[[nodiscard]] SavedState<L> load_state(const std::filesystem::path& path, const L& layer) {
  const SafetensorsReader file(path);
  return {detail::read_state_of(file, layer), detail::notes_of(file)};
}

namespace detail {

/// Saves where a generator of any kind is.
template <class Generator>
void save_generator(const std::filesystem::path& path, Generator& writer,
                    const std::map<std::string, std::string>& notes) {
  if (!writer.started())
    throw_domain("save_state", "text read so far", "empty", "at least one token");
  check_state_path(path);
  SafetensorsWriter file;
  add_state_of(file, writer.model(), writer.state(), notes);
  file.metadata["generator"] = Json(Json::Object{{"seed", writer.sampler().options().seed},
                                                 {"drawn", writer.sampler().drawn()}})
                                   .text();
  const std::vector<Token> recent = writer.sampler().recent();
  file.add("logits", writer.logits());
  file.add("recent", {static_cast<Index>(recent.size())}, recent.data());
  file.save(path);
}

/// Lets a generator of any kind go on from where the one was that was saved.
template <class Generator>
std::map<std::string, std::string> load_generator(const std::filesystem::path& path,
                                                  Generator& writer) {
  using T = typename Generator::T;
  constexpr std::uint64_t most = std::uint64_t{1} << 33;  // to draw again: some seconds
  const SafetensorsReader file(path);
  const auto& model = writer.model();
  auto state = read_state_of(file, model, {"logits", "recent"});
  const auto found = file.metadata().find("generator");
  if (found == file.metadata().end())
    throw_file(path, "is no state of a generator: its metadata has no \"generator\"");
  const Json json = parse_json(path, found->second, "generator");
  const JsonObject generator(path, "generator", json);
  const std::uint64_t drawn = generator.bits("drawn");
  if (drawn > most) generator.fail("drawn", "at most 2^33");
  const bool same = generator.bits("seed") == writer.sampler().options().seed;
  const auto logits = file.read<T, 2>("logits", {1, model.config.vocab});
  const auto recent = file.read<Token, 1>("recent");
  try {
    writer.resume(std::move(state), logits.view(), {recent.begin(), recent.end()},
                  same ? drawn : 0);
  } catch (const std::logic_error& error) {  // ShapeError, DomainError
    throw_file(path, error.what());
  }
  return notes_of(file);
}

}  // namespace detail

/// Saves where a generator is: its state, the logits of the next token, the last tokens for the
/// repetition penalty, and how many random numbers it has drawn.
/// @throws FileError and DomainError as the other save_state, DomainError before anything was read
template <class Layer>
void save_state(const std::filesystem::path& path, TextGenerator<Layer>& writer,
                const std::map<std::string, std::string>& notes = {}) {
  detail::save_generator(path, writer, notes);
}
/// The same, as of the last token that it gave. The file does not say who drafts.
template <class Layer>
void save_state(const std::filesystem::path& path, SpeculativeGenerator<Layer>& writer,
                const std::map<std::string, std::string>& notes = {}) {
  detail::save_generator(path, writer, notes);
}

/// Lets a generator go on from where the one was that was saved: with the same sampling options it
/// writes what that one would have written. With another seed, its random numbers begin anew.
/// @return the notes that were saved
/// @throws FileError as the other load_state, and for a state without what a generator needs; the
///   generator has not changed then
template <class Layer>
std::map<std::string, std::string> load_state(const std::filesystem::path& path,
                                              TextGenerator<Layer>& writer) {
  return detail::load_generator(path, writer);
}
/// The same; its drafter begins with the last tokens.
template <class Layer>
std::map<std::string, std::string> load_state(const std::filesystem::path& path,
                                              SpeculativeGenerator<Layer>& writer) {
  return detail::load_generator(path, writer);
}

}  // namespace ssm
