// Where Mamba passes attention: the time to read a text and to write after it, and the memory of
// what was read, against the length of the text, for models of as many weights.
//
//   crossover --longest 1000000 --svg crossover.svg

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "job.hpp"
#include "options.hpp"
#include "plot.hpp"
#include "ssm/core/tensor.hpp"
#include "ssm/models/text_generator.hpp"
#include "text_models.hpp"

namespace {

using ssm::Index;
using ssm::Tensor;
using ssm::Token;

struct Options {
  Index longest = 65536, written = 20;
  double patience = 60;
  int threads = 0;
  std::string svg;
};

/// What one length takes.
struct Cost {
  double read, write;  ///< seconds a byte
  double memory;       ///< bytes, of the state
};

text_models::MambaModel mamba(Index) {
  text_models::Sizes sizes{.kinds = "mamba", .mamba = {.width = 184, .layers = 6}};
  text_models::MambaModel model(config_of(text_models::MambaModel(), sizes));
  initialize(model, 1);
  return model;
}

/// Attention to all of the text, and perceptrons between.
text_models::MixedModel attention(Index length) {
  text_models::Sizes sizes{
      .kinds = "attention,mlp", .mamba = {.width = 192, .layers = 6}, .heads = 3, .window = length};
  text_models::MixedModel model(config_of(text_models::MixedModel(), sizes));
  initialize(model, 1);
  return model;
}

template <class Model>
Cost measure(Model model, Index length, const Options& o) {
  Tensor<Token, 1> text({length});
  for (Index t = 0; t < length; ++t) text(t) = static_cast<Token>(97 + t * t % 26);
  ssm::TextGenerator writer(std::move(model), {}, ssm::cpu(o.threads));
  const job::Stopwatch reading;
  writer.read(std::as_const(text).view());
  const double read = reading.seconds();
  const job::Stopwatch writing;
  for (Index i = 0; i < o.written; ++i) writer.next();
  const double written = writing.seconds();
  double memory = 0;
  auto state = writer.state();
  tensors(state, [&](const auto&, const auto& tensor) {
    memory += static_cast<double>(tensor.size()) * sizeof(*tensor.data());
  });
  return {read / static_cast<double>(length), written / static_cast<double>(o.written), memory};
}

Options parse(int argc, char* argv[]) {
  options::Command app("Reading and writing after texts of any length: Mamba and attention");
  Options o;
  app.add("--longest", o.longest, "length, bytes").check(options::between(256, 1e9)).show_default();
  app.add("--patience", o.patience, "a model is left out where reading would take longer, s")
      .check(options::positive)
      .show_default();
  app.add("--threads", o.threads, "that read; 0: all")
      .check(options::between(0, 4096))
      .show_default();
  app.add("--svg", o.svg, "write the plot to this file");
  if (const auto ended = app.parse(argc, argv)) std::exit(*ended);
  return o;
}

int compare(const Options& o) {
  plot::Plot picture{"The time of a byte after so many others",
                     "bytes before it (log10)",
                     "microseconds (log10)",
                     {{"Mamba reads", plot::Style::line, {}, {}},
                      {"attention reads", plot::Style::line, {}, {}},
                      {"Mamba writes", plot::Style::dots, {}, {}},
                      {"attention writes", plot::Style::dots, {}, {}}}};
  std::printf("%lld weights of Mamba, %lld of attention and perceptrons\n\n",
              static_cast<long long>(parameter_count(mamba(1))),
              static_cast<long long>(parameter_count(attention(1))));
  std::printf(
      "            microseconds to read a byte   to write a byte     MB of state\n"
      "   length        Mamba  attention     Mamba  attention     Mamba  attention\n");
  job::end_in_order_on_interrupt();
  std::optional<double> last;  // seconds in which attention read the length before
  for (Index length = 256; job::interrupted == 0; length = std::min(4 * length, o.longest)) {
    const double x = std::log10(static_cast<double>(length));
    const auto add = [&](std::size_t series, double seconds) {
      picture.series[series].x.push_back(x);
      picture.series[series].y.push_back(std::log10(seconds * 1e6));
    };
    const Cost m = measure(mamba(length), length, o);
    add(0, m.read);
    add(2, m.write);
    std::printf("%9lld %12.1f", static_cast<long long>(length), m.read * 1e6);
    if (!last || 16 * *last < o.patience) {
      const Cost a = measure(attention(length), length, o);
      last = a.read * static_cast<double>(length);
      add(1, a.read);
      add(3, a.write);
      std::printf(" %10.1f %9.0f %10.0f %9.1f %10.1f\n", a.read * 1e6, m.write * 1e6, a.write * 1e6,
                  m.memory / 1e6, a.memory / 1e6);
    } else {
      std::printf(" %10s %9.0f %10s %9.1f\n", "", m.write * 1e6, "", m.memory / 1e6);
    }
    std::fflush(stdout);
    if (length >= o.longest) break;
  }
  if (job::interrupted != 0) return job::exit_interrupted;
  plot::show(picture, o.svg);
  return 0;
}

}  // namespace

int main(int argc, char* argv[]) {
  const Options options = parse(argc, argv);
  return job::main(argv[0], [&] { return compare(options); });
}
