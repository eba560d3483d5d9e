#pragma once

#include <cstddef>
#include <functional>
#include <stdexcept>
#include <string>

#include "job.hpp"
#include "ssm/core/backend.hpp"
#include "ssm/core/shares.hpp"
#include "ssm/train/text_trainer.hpp"
#include "ssm/train/text_view.hpp"
#include "ssm/train/trainer.hpp"
#include "text_models.hpp"
#include "text_scoring.hpp"

/// Where mamba_lm computes: in one process, or over the ranks that mpirun has started.
namespace text_place {

using ssm::TextView;
using text_models::MambaModel;
using text_models::MixedModel;

/// Told how many tokens are predicted so far and their loss together; says whether to go on.
using Each = std::function<bool(std::size_t, double)>;

/// What mamba_lm computes of one kind of model.
template <class Model>
class Computes {
 public:
  virtual ~Computes() = default;
  /// A step of training.
  virtual ssm::TrainingReport step(ssm::TextTrainer<Model>& run, const TextView& text) = 0;
  /// See text_scoring.
  virtual double bits(const Model& model, ssm::Trainer<Model>* learner, const TextView& text,
                      std::size_t prime, const Each& each) = 0;
};

/// All processes of a job. Each calls the same functions in the same order, and has the same model.
class Place : public Computes<MambaModel>, public Computes<MixedModel> {
 public:
  using Computes<MambaModel>::step, Computes<MixedModel>::step;
  using Computes<MambaModel>::bits, Computes<MixedModel>::bits;

  /// With so many threads each, and time across so many of them: the batch is shared between rows
  /// of these. 0: all of them.
  virtual void use(int threads, int time_ranks) = 0;
  /// Whether this is the process that prints and saves.
  [[nodiscard]] virtual bool first() const = 0;
  [[nodiscard]] virtual int size() const = 0;
  [[nodiscard]] virtual int time_ranks() const = 0;
  /// Whether somebody has told the job, in any of its processes, to stop: all have the same answer.
  [[nodiscard]] virtual bool interrupted() = 0;
  /// Returns when all processes are here. Throws in each of them unless all were given the same.
  virtual void wait_for_all(const std::string& given) = 0;
};

/// A place on a backend.
template <class Backend>
class PlaceOn : public Place {
 public:
  ssm::TrainingReport step(ssm::TextTrainer<MambaModel>& run, const TextView& text) override {
    return run.step(grid(), text);
  }
  ssm::TrainingReport step(ssm::TextTrainer<MixedModel>& run, const TextView& text) override {
    return run.step(grid(), text);
  }
  double bits(const MambaModel& model, ssm::Trainer<MambaModel>* learner, const TextView& text,
              std::size_t prime, const Each& each) override {
    return text_scoring::bits(line(), model, learner, text, prime, piece(), each);
  }
  double bits(const MixedModel& model, ssm::Trainer<MixedModel>* learner, const TextView& text,
              std::size_t prime, const Each& each) override {
    return text_scoring::bits(line(), model, learner, text, prime, piece(), each);
  }

 protected:
  [[nodiscard]] virtual Backend grid() = 0;  ///< as `use` says
  [[nodiscard]] virtual Backend line() = 0;  ///< one text across all processes

  static void check(int time_ranks, int size) {
    if (time_ranks != 0 && size % time_ranks != 0)
      throw std::runtime_error(
          job::format("--time-ranks is %d, expected a divisor of the number of ranks, which is %d",
                      time_ranks, size));
  }

 private:
  [[nodiscard]] std::size_t piece() const { return 1024 * static_cast<std::size_t>(size()); }
};

/// One process.
class Alone final : public PlaceOn<ssm::Cpu> {
 public:
  void use(int threads, int time_ranks) override {
    check(time_ranks, 1);
    cpu_ = ssm::cpu(threads);
  }
  [[nodiscard]] bool first() const override { return true; }
  [[nodiscard]] int size() const override { return 1; }
  [[nodiscard]] int time_ranks() const override { return 1; }
  [[nodiscard]] bool interrupted() override { return job::interrupted != 0; }
  void wait_for_all(const std::string&) override {}

 private:
  [[nodiscard]] ssm::Cpu grid() override { return cpu_; }
  [[nodiscard]] ssm::Cpu line() override { return cpu_; }
  ssm::Cpu cpu_;
};

/// The main program: run(place) in this process, or on every rank of a job over MPI, where an error
/// on one ends all. A program built without MPI is alone, or refuses.
int main(int argc, char** argv, const std::function<int(Place&)>& run);

}  // namespace text_place
