// Clothes, one pixel at a time: a classifier reads the 784 pixels of a picture as a sequence and
// says at the end what it saw.
//
//   fashion_mnist train --mixer s4d --out model.safetensors
//   fashion_mnist eval  --model model.safetensors --every 2
//   fashion_mnist watch --model model.safetensors --svg picture.svg

#include <cstdio>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "classifying.hpp"
#include "job.hpp"
#include "options.hpp"
#include "pictures.hpp"
#include "pixel_models.hpp"
#include "plot.hpp"
#include "progress.hpp"
#include "ssm/io/save_load.hpp"

namespace {

using classifying::count_of;
using classifying::kind_in;
using classifying::Run;
using classifying::Training;
using job::exit_interrupted;
using job::format;
using job::interrupted;
using linear::Linear;
using options::between;
using pictures::Pictures;
using pictures::pixels;
using pictures::side;
using pixel_models::reading;
using ssm::Index;

constexpr auto with_kind = [](const std::string& kind, auto&& work) {
  return pixel_models::with_kind(kind, work);
};

struct Arguments : classifying::Job {
  std::string data = "/usr/share/datasets/fashion-mnist", svg;
  std::vector<std::string> watched;
  Index every = 1, pictures = 0;
};

int train(options::Command& app, int argc, char** argv, Arguments& a) {
  return begin_or_resume(
      app, argc, argv, a, with_kind, [&]<class Model>(const Model& model, Run<Model>* so_far) {
        const Training& t = a.training;
        const Pictures all(a.data, "train"), tests(a.data, "t10k");
        const auto config =
            pixel_models::config_of(model, pictures::classes, t.width, t.state, t.layers);
        Run<Model> run = so_far != nullptr ? std::move(*so_far) : Run<Model>({t, 0, config});
        if (so_far == nullptr) {
          pixel_models::draw(run.trainer.model, t.seed);
          run.trainer.average = run.trainer.model;
        }
        return train(a, std::move(run), all, tests, "pictures", reading<Model>);
      });
}

int evaluate(const Arguments& a) {
  const std::string kind = kind_in(a.path);
  const Pictures tests(a.data, "t10k");
  const Index count = count_of(a.pictures, tests.count());
  job::end_in_order_on_interrupt();
  return with_kind(kind, [&]<class Model>(const Model&) {
    const auto model = ssm::load<Model>(a.path);
    const job::Stopwatch watch;
    Progress progress("picture", count);
    const double right = classifying::accuracy(
        ssm::cpu(a.threads), model, tests, count, a.every, reading<Model>(a.every),
        [&](Index done, Index good) {
          progress.update(done, format("%.2f%% right", 100 * static_cast<double>(good) /
                                                           static_cast<double>(done)));
        });
    progress.finish();
    if (interrupted != 0) return exit_interrupted;
    std::printf("%s: %.2f%% of %lld pictures right, %lld of %lld pixels read, %.0f pictures/s\n",
                kind.c_str(), 100 * right, static_cast<long long>(count),
                static_cast<long long>((pixels + a.every - 1) / a.every),
                static_cast<long long>(pixels), static_cast<double>(count) / watch.seconds());
    return 0;
  });
}

int watch(const Arguments& a) {
  const Pictures tests(a.data, "t10k");
  plot::Plot picture{
      "What is known of a picture while it is read", "rows read, of 28", "named rightly (%)", {}};
  const Index count = count_of(a.pictures > 0 ? a.pictures : 1000, tests.count());
  job::end_in_order_on_interrupt();
  for (const std::string& path : a.watched) {
    const std::string kind = kind_in(path);
    with_kind(kind, [&]<class Model>(const Model&) {
      if constexpr (std::is_same_v<Model, Linear>)
        throw std::runtime_error(path + ": a linear model is not read pixel by pixel");
      else
        picture.series.push_back(
            classifying::known_while_reading(ssm::load<Model>(path), tests, count, a.every,
                                             reading<Model>(a.every), 1.0 / side, kind));
      return 0;
    });
  }
  if (interrupted != 0) return exit_interrupted;
  plot::show(picture, a.svg);
  return 0;
}

int run(int argc, char** argv) {
  options::Command app("Fashion-MNIST, one pixel at a time");
  Arguments a;
  Training& t = a.training;
  options::Command training = app.command("train", "learn from the training pictures");
  options::Command evaluation = app.command("eval", "count the test pictures named rightly");
  options::Command watching =
      app.command("watch", "draw what a model knows after each pixel, read as a stream");
  const auto add = [](options::Command& command, const char* name, auto& value, double least,
                      double most, const char* what = "") {
    command.add(name, value, what).check(between(least, most)).show_default();
  };
  for (options::Command* command : {&training, &evaluation, &watching}) {
    command->add("--data", a.data, "directory of the IDX files (Debian: dataset-fashion-mnist)")
        .show_default();
    add(*command, "--threads", a.threads, 0, 4096, "0: all");
    add(*command, "--pictures", command == &training ? t.only : a.pictures, 0, 1e6,
        "only the first so many; 0: all");
  }
  training.add("--mixer", t.mixer).one_of({"s4", "s4d", "s5", "gru", "linear"}).show_default();
  a.add_options(training);
  evaluation.add("--model", a.path).required();
  watching.add("--model", a.watched, "one or more, not linear").required();
  watching.add("--svg", a.svg, "file to draw into");
  for (options::Command* command : {&evaluation, &watching})
    add(*command, "--every", a.every, 1, 784,
        "reads every so many-th pixel only, with as much longer a step");
  if (const auto ended = app.parse(argc, argv)) return *ended;
  if (training.parsed()) return train(app, argc, argv, a);
  return watching.parsed() ? watch(a) : evaluate(a);
}

}  // namespace

int main(int argc, char** argv) {
  return job::main(argv[0], [&] { return run(argc, argv); });
}
