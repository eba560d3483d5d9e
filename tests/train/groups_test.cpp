#include "ssm/train/groups.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "ssm/layers/gated.hpp"
#include "ssm/layers/mamba.hpp"
#include "ssm/layers/mamba_step.hpp"
#include "ssm/layers/one_of.hpp"
#include "ssm/layers/projected.hpp"
#include "ssm/layers/s4.hpp"
#include "ssm/layers/s4d.hpp"
#include "ssm/layers/s5.hpp"
#include "ssm/models/sequence_classifier.hpp"
#include "ssm/train/trainer.hpp"
#include "support/catch.hpp"
#include "support/contains.hpp"
#include "support/random.hpp"
#include "train/toy_weights.hpp"

using namespace ssm;
using test::Random;

namespace {

/// A classifier with a layer of every kind, one of them inside a projected stack.
using Kind =
    OneOf<S4<double>, S4d<double>, S5<double>, Mamba<double>, Projected<Stack<S5<double>>>>;
using Model = SequenceClassifier<S4Block<Kind>>;

template <class Config>
Config sized(Config config) {
  config.width = 4;
  if constexpr (requires { config.state; }) config.state = 4;
  if constexpr (requires { config.length; }) config.length = 8;
  return config;
}

Model make_model() {
  using Block = S4Block<Kind>;
  StackConfig<Block> backbone(5, {{sized(S4dConfig{})}, 1e-5});
  const auto kind = [&](std::size_t i) -> auto& { return backbone.layers[i].mixer.mixer.kind; };
  kind(0) = sized(S4Config{});
  kind(2) = sized(S5Config{.bidirectional = true});
  kind(3) = sized(MambaConfig{});
  kind(4) = ProjectedConfig<Stack<S5<double>>>{.width = 4, .inner = {2, sized(S5Config{})}};
  Model model(Model::Config{.inputs = 2, .classes = 3, .backbone = backbone});
  Random random(1);
  parameters(model, [&](const auto&, auto& tensor, const auto&, bool) {
    for (double& x : tensor) x = 1 + 0.1 * random.normal();
  });
  return model;
}

/// The elements of every parameter by its name.
std::map<std::string, std::vector<double>> elements_of(const Model& model) {
  std::map<std::string, std::vector<double>> elements;
  parameters(model, [&](std::string_view name, const auto& tensor, const auto&, bool) {
    elements[std::string(name)] = {tensor.begin(), tensor.end()};
  });
  return elements;
}

/// One weight along AdamW with a gradient of 2 at every step.
double trained(double w, int steps, const CosineSchedule& rate, const AdamWOptions& o) {
  double m = 0, v = 0;
  for (int t = 1; t <= steps; ++t) {
    m = o.beta1 * m + (1 - o.beta1) * 2;
    v = o.beta2 * v + (1 - o.beta2) * 4;
    const double m_hat = m / (1 - std::pow(o.beta1, t)), v_hat = v / (1 - std::pow(o.beta2, t));
    w -= rate(t - 1) * (m_hat / (std::sqrt(v_hat) + o.epsilon) + o.weight_decay * w);
  }
  return w;
}

/// The last part of a name.
std::string own_name(const std::string& name) { return name.substr(name.rfind('.') + 1); }

}  // namespace

TEST_CASE("a parameter is called by what stands after a dot, and by nothing less") {
  static_assert(is_called("B", "B") && is_called("layers.0.mixer.B", "B"));
  static_assert(!is_called("layers.0.mixer.AB", "B") && !is_called("B.weight", "B"));
  static_assert(is_called("layers.0.mixer.dt_proj.bias", "dt_proj.bias"));
  static_assert(!is_called("out_dt_proj.bias", "dt_proj.bias") && !is_called("", "B"));
  CHECK(is_called("a.log_delta", "log_delta"));
}

TEST_CASE("the systems of a nested model train slower and undecayed, the rest as the optimizer") {
  Trainer<Model> trainer(make_model(), {.schedule = {.peak = 0.004, .warmup = 3, .steps = 12},
                                        .adamw = {.weight_decay = 0.05},
                                        .max_norm = std::numeric_limits<double>::infinity()});
  trainer.groups = SystemGroups{.learning_rate = 0.001 / 0.004};

  const auto before = elements_of(trainer.model);
  constexpr int steps = 9;
  for (int t = 0; t < steps; ++t)
    trainer.step(cpu(2), [](const Model&, Model& gradients) {
      parameters(gradients, [](const auto&, auto& tensor, const auto&, bool) { tensor.fill(2); });
      return 1.0;
    });

  CosineSchedule slow = trainer.options.schedule;
  slow.peak = 0.001;
  AdamWOptions undecayed = trainer.options.adamw;
  undecayed.weight_decay = 0;
  const std::set<std::string> systems{"log_decay", "frequency", "P", "log_delta", "B", "A_log"};
  std::map<std::string, int> met;
  for (const auto& [name, after] : elements_of(trainer.model)) {
    INFO(name);
    const std::string own = own_name(name);
    const bool system = systems.count(own) != 0 || is_called(name, "dt_proj.bias");
    ++met[own];
    double error = 0;
    for (std::size_t i = 0; i < after.size(); ++i) {
      const double want = system ? trained(before.at(name)[i], steps, slow, undecayed)
                                 : trained(before.at(name)[i], steps, trainer.options.schedule,
                                           trainer.options.adamw);
      error = std::max(error, std::abs(after[i] - want));
    }
    CHECK(error <= 1e-14);
  }
  CHECK(met["log_decay"] == 5);  // of S4, S4D and three of S5
  CHECK(met["log_delta"] == 5);
  CHECK(met["B"] == 5);
  CHECK(met["P"] == 1);
  CHECK(met["A_log"] == 1);
}

TEST_CASE("of the rest, what its layer wants may decay alone, and names may be other ones") {
  SystemGroups groups{.learning_rate = 0.5, .rest_decays = false};
  const auto is = [&](std::string_view name, bool decay, double rate, double decays) {
    const ParameterGroup group = groups(name, decay);
    return group.learning_rate == rate && group.weight_decay == decays;
  };
  CHECK(is("head.weight", true, 1, 1));
  CHECK(is("head.bias", false, 1, 0));
  CHECK(is("layers.3.mixer.mixer.frequency", false, 0.5, 0));
  CHECK(is("norm.weight", false, 1, 0));
  groups.names.emplace_back("norm.weight");  // as the authors of S5
  CHECK(is("layers.3.norm.weight", false, 0.5, 0));
  groups.rest_decays = true;
  CHECK(is("head.bias", false, 1, 1));
}

TEST_CASE("a factor out of range is refused by the name of its parameter, before anything moves") {
  auto weights = test::random_weights<double>(1);
  const auto before = weights, gradients = test::random_weights<double>(2);
  Optimizer<test::ToyWeights<double>> optimizer(weights);
  const auto step = [&](double rate, double decay) {
    optimizer_step(cpu, weights, gradients, optimizer, {}, [&](std::string_view name, bool) {
      return name == "bias" ? ParameterGroup{rate, decay} : ParameterGroup{};
    });
  };
  CHECK_THROWS_WITH(step(-1, 1),
                    "optimizer_step: the factor for the learning rate of bias is -1.000000, "
                    "expected finite, at least 0");
  CHECK_THROWS_WITH(step(1, std::nan("")),
                    test::contains("the factor for the weight decay of bias"));
  CHECK(optimizer.step == 0);
  CHECK(weights.matrix(0, 0) == before.matrix(0, 0));
  CHECK_NOTHROW(step(0, 0));
}
