#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "idx.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/layers/tokens.hpp"

/// The pictures of Fashion-MNIST, read pixel by pixel.
namespace pictures {

using ssm::Index;
using ssm::Tensor;
using ssm::Token;

constexpr Index side = 28, pixels = side * side, classes = 10;

/// Pictures with their labels.
struct Pictures {
  std::vector<unsigned char> values;  ///< (count, pixels)
  std::vector<unsigned char> labels;  ///< (count)

  Pictures(const std::filesystem::path& directory, const std::string& part) {
    const auto path = [&](const std::string& name) {
      const std::filesystem::path plain = directory / name;
      return std::filesystem::exists(plain) ? plain : directory / (name + ".gz");
    };
    constexpr std::uint64_t most = 200000;  // pictures
    const IdxFile images = read_idx(path(part + "-images-idx3-ubyte"), 3, most * pixels);
    const IdxFile named = read_idx(path(part + "-labels-idx1-ubyte"), 1, most);
    if (images.extents[0] != named.extents[0] || images.extents[1] != side ||
        images.extents[2] != side)
      throw std::runtime_error((directory / part).string() +
                               ": its labels and its 28 x 28 pictures do not match");
    values = images.values;
    labels = named.values;
    if (std::any_of(labels.begin(), labels.end(), [](unsigned char k) { return k >= classes; }))
      throw std::runtime_error((directory / part).string() + ": has a label above 9");
  }
  [[nodiscard]] Index count() const { return static_cast<Index>(labels.size()); }

  /// Pictures order[first … first + batch) as sequences of every `every`-th pixel, of mean 0 and
  /// variance 1 over the training pictures.
  void take(const std::vector<Index>& order, Index first, Index batch, Index every,
            Tensor<float, 3>& sequences, Tensor<Token, 1>& names) const {
    constexpr float mean = 0.2860f, deviation = 0.3530f;
    sequences.resize({batch, (pixels + every - 1) / every, 1});
    names.resize({batch});
    for (Index b = 0; b < batch; ++b) {
      const Index picture = order[static_cast<std::size_t>(first + b)];
      names(b) = labels[static_cast<std::size_t>(picture)];
      const unsigned char* from = values.data() + picture * pixels;
      for (Index t = 0; t < sequences.extent(1); ++t)
        sequences(b, t, 0) = (static_cast<float>(from[t * every]) / 255 - mean) / deviation;
    }
  }
};

}  // namespace pictures
