#pragma once

#include <complex>
#include <concepts>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "ssm/core/tensor.hpp"
#include "ssm/layers/layer.hpp"

/// A layer whose kind is known only when it runs, and which is a SequenceLayer itself: what tests
/// ask of every layer is compiled for this one. It calls the functions of the layer that it holds
/// with that layer's own state, scratch and stepper, and allocates nothing in them.
///
///     test::check_split(test::any(layer), laws);
namespace ssm::test {

namespace detail {

/// A value of a type that who asks for it knows, copied and moved with its owner.
class AnyValue {
 public:
  AnyValue() = default;
  template <class V>
  requires(!std::same_as<std::remove_cvref_t<V>, AnyValue>) explicit AnyValue(V&& value)
      : held_(new Holder<std::remove_cvref_t<V>>(std::forward<V>(value))) {}
  AnyValue(const AnyValue& other) : held_(other.held_ ? other.held_->copy() : nullptr) {}
  /// The one moved from holds a value that was moved from.
  AnyValue(AnyValue&& other) : held_(other.held_ ? other.held_->move() : nullptr) {}
  AnyValue& operator=(AnyValue other) noexcept {
    std::swap(held_, other.held_);
    return *this;
  }
  ~AnyValue() = default;

  /// The value, made where there is none yet.
  template <class V>
  [[nodiscard]] V& as() {
    if (!held_) held_.reset(new Holder<V>());
    return static_cast<Holder<V>*>(held_.get())->value;
  }
  template <class V>
  [[nodiscard]] const V& as() const {
    return static_cast<const Holder<V>*>(held_.get())->value;
  }

 private:
  struct Held {
    virtual ~Held() = default;
    [[nodiscard]] virtual Held* copy() const = 0;
    [[nodiscard]] virtual Held* move() = 0;
  };
  template <class V>
  struct Holder final : Held {
    V value;
    Holder() = default;
    explicit Holder(const V& v) : value(v) {}
    explicit Holder(V&& v) : value(std::move(v)) {}
    [[nodiscard]] Held* copy() const override { return new Holder(value); }
    [[nodiscard]] Held* move() override { return new Holder(std::move(value)); }
  };
  std::unique_ptr<Held> held_;
};

/// A tensor of one of several types, by its name.
template <class... Types>
struct Named {
  std::string name;
  std::variant<Types*...> tensor;
  bool decays = false;
};
/// The tensors of a layer.
template <class T>
using WeightsOf = std::vector<Named<Tensor<T, 1>, Tensor<T, 2>, Tensor<T, 3>, Tensor<T, 4>>>;
/// Those of a state.
template <class T>
using PartsOf =
    std::vector<Named<Tensor<T, 1>, Tensor<T, 2>, Tensor<T, 3>, Tensor<T, 4>,
                      Tensor<std::complex<T>, 2>, Tensor<std::complex<T>, 3>, Tensor<Index, 1>>>;

/// A scratch or a stepper, which is never copied.
struct AnyObject {
  virtual ~AnyObject() = default;
};

/// The functions of a kind of layers.
template <class T>
struct LayerKind {
  using Rows = View<const T, 3>;
  using Options = LayerOptions<>;

  virtual AnyValue state_of(const AnyValue& layer, Index sequences) const = 0;
  virtual WeightsOf<T> weights_of(AnyValue& layer) const = 0;
  virtual PartsOf<T> parts_of(AnyValue& state) const = 0;
  virtual void run(const Cpu& backend, const AnyValue& layer, const Rows& u, AnyValue* state,
                   const View<T, 3>& y, const Options& options,
                   std::unique_ptr<AnyObject>& scratch) const = 0;
  virtual void run_back(const Cpu& backend, const AnyValue& layer, const Rows& u, AnyValue* dstate,
                        const Rows& dy, const View<T, 3>& du, AnyValue& gradients,
                        const Options& options, std::unique_ptr<AnyObject>& scratch) const = 0;
  virtual std::unique_ptr<AnyObject> stepper(const AnyValue& layer, Index batch,
                                             const Options& options) const = 0;
  virtual void update(AnyObject& stepper, const AnyValue& layer) const = 0;
  virtual void run_step(AnyObject& stepper, const View<const T, 2>& u, AnyValue& state,
                        const View<T, 2>& y) const noexcept = 0;

 protected:
  ~LayerKind() = default;
};

template <class L>
struct LayerKindOf final : LayerKind<typename L::value_type> {
  using T = typename L::value_type;
  using State = StateOf<L>;
  using typename LayerKind<T>::Rows, typename LayerKind<T>::Options;
  static_assert(!std::constructible_from<StepperOf<L>, L, Index, const OptionsOf<L>&>,
                "a stepper points at its layer, which must not be a temporary");

  struct Scratch final : AnyObject {
    ScratchOf<L> its;
  };
  struct Stepper final : AnyObject {
    StepperOf<L> its;
    Stepper(const L& layer, Index batch, const Options& options) : its(layer, batch, options) {}
  };
  static ScratchOf<L>& in(std::unique_ptr<AnyObject>& scratch) {
    if (!scratch) scratch.reset(new Scratch());
    return static_cast<Scratch&>(*scratch).its;
  }
  static Maybe<State> in(AnyValue* state) {
    return state == nullptr ? Maybe<State>() : Maybe<State>(state->as<State>());
  }

  AnyValue state_of(const AnyValue& layer, Index sequences) const override {
    return AnyValue(make_state(layer.as<L>(), sequences));
  }
  WeightsOf<T> weights_of(AnyValue& layer) const override {
    WeightsOf<T> all;
    parameters(layer.as<L>(), [&](const auto& name, auto& tensor, const auto&, bool decays) {
      all.push_back({std::string(name), &tensor, decays});
    });
    return all;
  }
  PartsOf<T> parts_of(AnyValue& state) const override {
    PartsOf<T> all;
    tensors(state.as<State>(), [&](const auto& name, auto& tensor) {
      all.push_back({std::string(name), &tensor});
    });
    return all;
  }
  void run(const Cpu& backend, const AnyValue& layer, const Rows& u, AnyValue* state,
           const View<T, 3>& y, const Options& options,
           std::unique_ptr<AnyObject>& scratch) const override {
    forward(backend, layer.as<L>(), u, in(state), y, options, in(scratch));
  }
  void run_back(const Cpu& backend, const AnyValue& layer, const Rows& u, AnyValue* dstate,
                const Rows& dy, const View<T, 3>& du, AnyValue& gradients, const Options& options,
                std::unique_ptr<AnyObject>& scratch) const override {
    backward(backend, layer.as<L>(), u, in(dstate), dy, du, gradients.as<L>(), options,
             in(scratch));
  }
  std::unique_ptr<AnyObject> stepper(const AnyValue& layer, Index batch,
                                     const Options& options) const override {
    return std::unique_ptr<AnyObject>(new Stepper(layer.as<L>(), batch, options));
  }
  void update(AnyObject& stepper, const AnyValue& layer) const override {
    static_cast<Stepper&>(stepper).its.update(layer.as<L>());
  }
  void run_step(AnyObject& stepper, const View<const T, 2>& u, AnyValue& state,
                const View<T, 2>& y) const noexcept override {
    step(static_cast<Stepper&>(stepper).its, u, state.as<State>(), y);
  }

  static const LayerKindOf instance;
};
template <class L>
const LayerKindOf<L> LayerKindOf<L>::instance;

}  // namespace detail

/// See above.
template <class T>
struct AnyLayer {
  using value_type = T;
  using space = Host;
  struct Config {
    Index width = 0;
    friend bool operator==(const Config&, const Config&) = default;
  };
  struct State {
    const detail::LayerKind<T>* kind = nullptr;
    detail::AnyValue its;
    template <class Visit>
    friend void tensors(State& state, Visit&& visit) {
      if (state.kind == nullptr) return;
      for (const auto& one : state.kind->parts_of(state.its))
        std::visit([&](auto* x) { visit(one.name, *x); }, one.tensor);
    }
  };
  struct Scratch {
    std::unique_ptr<detail::AnyObject> its;
  };
  struct Stepper {
    const detail::LayerKind<T>* kind;
    std::unique_ptr<detail::AnyObject> its;

    Stepper(const AnyLayer& layer, Index batch, const LayerOptions<>& options)
        : kind(layer.kind), its(kind->stepper(layer.its, batch, options)) {}
    Stepper(const AnyLayer&&, Index, const LayerOptions<>&) = delete;
    void update(const AnyLayer& layer) { kind->update(*its, layer.its); }
    friend void step(Stepper& stepper, const View<const T, 2>& u, State& state,
                     const View<T, 2>& y) noexcept {
      stepper.kind->run_step(*stepper.its, u, state.its, y);
    }
  };

  Config config;
  const detail::LayerKind<T>* kind = nullptr;
  detail::AnyValue its;

  AnyLayer() = default;
  explicit AnyLayer(const Config& c) : config(c) {}

  template <class Visit>
  friend void parameters(AnyLayer& layer, Visit&& visit) {
    if (layer.kind == nullptr) return;
    for (const auto& one : layer.kind->weights_of(layer.its))
      std::visit([&](auto* x) { visit(one.name, *x, x->extents(), one.decays); }, one.tensor);
  }
  friend State make_state(const AnyLayer& layer, Index sequences) {
    return {layer.kind, layer.kind->state_of(layer.its, sequences)};
  }
  friend void forward(const Cpu& backend, const AnyLayer& layer, const View<const T, 3>& u,
                      Maybe<State> state, const View<T, 3>& y, const LayerOptions<>& options,
                      Scratch& scratch) {
    layer.kind->run(backend, layer.its, u, state ? &state->its : nullptr, y, options, scratch.its);
  }
  friend void backward(const Cpu& backend, const AnyLayer& layer, const View<const T, 3>& u,
                       Maybe<State> dstate, const View<const T, 3>& dy, const View<T, 3>& du,
                       AnyLayer& gradients, const LayerOptions<>& options, Scratch& scratch) {
    gradients.config = layer.config;
    gradients.kind = layer.kind;
    layer.kind->run_back(backend, layer.its, u, dstate ? &dstate->its : nullptr, dy, du,
                         gradients.its, options, scratch.its);
  }
};

/// Any layer, as one of a kind that is known when it runs.
template <class L>
[[nodiscard]] AnyLayer<typename L::value_type> any(const L& layer) {
  if constexpr (std::same_as<L, AnyLayer<typename L::value_type>>) {
    return layer;
  } else {
    AnyLayer<typename L::value_type> one;
    one.config.width = width_of(layer.config);
    one.kind = &detail::LayerKindOf<L>::instance;
    one.its = detail::AnyValue(layer);
    return one;
  }
}

}  // namespace ssm::test
