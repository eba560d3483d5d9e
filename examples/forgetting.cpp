// How models forget: how much what a language model says depends on a byte that it read so many
// bytes ago. A window ends at its edge; a state fades.
//
//   forgetting --text book.txt --model mamba --model attention --svg forgetting.svg

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "job.hpp"
#include "options.hpp"
#include "plot.hpp"
#include "progress.hpp"
#include "ssm/core/tensor.hpp"
#include "text_models.hpp"

namespace {

using ssm::Index;
using ssm::Tensor;

struct Options {
  std::string text, svg;
  std::vector<std::string> models;
  Index lag = 1000, places = 40;
};

/// The root mean square, over places of the text, of the gradient of what leaves the layers at the
/// last byte by what entered them `k` bytes before, for k = 0, 1, …; as part of that at k = 0.
template <class Model>
std::vector<double> influence(const Model& model, const std::string& text, const Options& o) {
  const Index length = o.lag + 1, width = model.config.width();
  std::mt19937_64 random(1);
  Tensor<float, 3> x({1, length, width}), y(x.extents()), dx(x.extents()), dy(x.extents());
  typename decltype(model.backbone)::Scratch scratch;
  auto gradients = model.backbone;
  std::vector<double> squares(static_cast<std::size_t>(length));
  Progress progress("place", o.places);
  for (Index place = 0; place < o.places && job::interrupted == 0; ++place) {
    const std::size_t begin = random() % (text.size() - static_cast<std::size_t>(length));
    for (Index t = 0; t < length; ++t) {
      const auto byte = static_cast<unsigned char>(text[begin + static_cast<std::size_t>(t)]);
      for (Index c = 0; c < width; ++c) x(0, t, c) = model.embedding(byte, c);
    }
    forward(ssm::cpu, model.backbone, x, {}, y, {}, scratch);
    dy.fill(0);
    for (Index c = 0; c < width; ++c)  // any direction does, over many places
      dy(0, length - 1, c) = random() % 2 == 0 ? 1.f : -1.f;
    backward(ssm::cpu, model.backbone, std::as_const(x), {}, std::as_const(dy), dx, gradients, {},
             scratch);
    for (Index k = 0; k < length; ++k)
      for (Index c = 0; c < width; ++c) {
        const double slope = dx(0, length - 1 - k, c);
        squares[static_cast<std::size_t>(k)] += slope * slope;
      }
    progress.update(place + 1, "");
  }
  progress.finish();
  std::vector<double> part(squares.size());
  for (std::size_t k = 0; k < part.size(); ++k) part[k] = std::sqrt(squares[k] / squares[0]);
  return part;
}

/// Means over lags [k, 1.1 k), log₁₀ of both: a straight line is a power of the lag.
plot::Series fading(const std::string& name, const std::vector<double>& part) {
  plot::Series series{name, plot::Style::line, {}, {}};
  for (std::size_t k = 1; k < part.size();) {
    const std::size_t end = std::min(part.size(), k + 1 + k / 10);
    double sum = 0;
    for (std::size_t i = k; i < end; ++i) sum += part[i] / static_cast<double>(end - k);
    series.x.push_back(std::log10(static_cast<double>(k + end - 1) / 2));
    series.y.push_back(std::log10(std::max(sum, 1e-6)));
    k = end;
  }
  return series;
}

Options parse(int argc, char* argv[]) {
  options::Command app("How models forget: the gradient of what is said by what was read before");
  Options o;
  app.add("--text", o.text, "file to read from").required();
  app.add("--model", o.models, "folders or files of mamba_lm, one or more").required();
  app.add("--lag", o.lag, "how far back, bytes").check(options::between(10, 1e6)).show_default();
  app.add("--places", o.places, "of the text").check(options::between(1, 1e6)).show_default();
  app.add("--svg", o.svg, "write the plot to this file");
  if (const auto ended = app.parse(argc, argv)) std::exit(*ended);
  return o;
}

int compare(const Options& o) {
  const std::string text = ssm::detail::read_file(o.text);
  if (text.size() <= static_cast<std::size_t>(o.lag) + 1)
    throw std::runtime_error(o.text + ": has no more bytes than --lag");
  plot::Plot picture{"How much what is said now depends on a byte read before",
                     "how many bytes ago (log10)",
                     "part of its weight when just read (log10)",
                     {}};
  job::end_in_order_on_interrupt();
  std::printf("%-24s %10s %10s %10s %10s\n", "bytes ago", "10", "100", "300", "1000");
  for (const std::string& path : o.models) {
    text_models::with_model(path, [&](const auto& model) {
      const auto part = influence(model, text, o);
      const std::string name = std::filesystem::path(path).stem().string();
      std::printf("%-24s", name.c_str());
      for (const std::size_t k : {10, 100, 300, 1000})
        if (k < part.size())
          std::printf(" %10.2e", part[k]);
        else
          std::printf(" %10s", "");
      std::puts("");
      picture.series.push_back(fading(name, part));
      return 0;
    });
    if (job::interrupted != 0) return job::exit_interrupted;
  }
  plot::show(picture, o.svg);
  return 0;
}

}  // namespace

int main(int argc, char* argv[]) {
  const Options options = parse(argc, argv);
  return job::main(argv[0], [&] { return compare(options); });
}
