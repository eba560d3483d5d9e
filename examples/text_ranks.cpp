// mamba_lm over the ranks of an MPI job, where there is MPI. It is compiled apart, as it compiles
// every layer once more.

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>

#include "job.hpp"
#include "text_place.hpp"

namespace {

using text_place::Alone, text_place::Place;

/// Of the environment variables by which launchers tell a process of its job, the largest number.
int largest(std::initializer_list<const char*> names) {
  int largest = -1;
  for (const char* name : names)
    if (const char* value = std::getenv(name)) largest = std::max(largest, std::atoi(value));
  return largest;
}

int run_alone(char** argv, const std::function<int(Place&)>& run) {
  return job::main(argv[0], [&] {
    Alone alone;
    return run(alone);
  });
}

}  // namespace

#if SSM_EXAMPLES_MPI
#include "ssm/mpi.hpp"

namespace {

class OverRanks final : public text_place::PlaceOn<ssm::Ranks> {
 public:
  explicit OverRanks(ssm::Communicator& world) : world_(world) {}

  void use(int threads, int time_ranks) override {
    check(time_ranks, size());
    grid_.emplace(world_, time_ranks == 0 ? size() : time_ranks);
    cpu_ = ssm::cpu(threads);
  }
  [[nodiscard]] bool first() const override { return world_.rank() == 0; }
  [[nodiscard]] int size() const override { return world_.size(); }
  [[nodiscard]] int time_ranks() const override { return size() / grid_->rows(); }
  [[nodiscard]] bool interrupted() override {
    return largest_over_ranks(line(), job::interrupted) != 0;
  }
  void wait_for_all(const std::string& given) override {
    const auto hash = static_cast<ssm::Index>(std::hash<std::string>()(given) >> 1);
    const auto least = -largest_over_ranks(line(), -hash);  // no rank goes on before all are here
    if (least != largest_over_ranks(line(), hash))
      throw std::runtime_error("the ranks were not given the same options and files");
  }

 private:
  [[nodiscard]] ssm::Ranks grid() override { return ssm::ranks(*grid_, cpu_); }
  [[nodiscard]] ssm::Ranks line() override { return ssm::ranks(world_, cpu_); }

  ssm::Communicator& world_;
  std::optional<ssm::Grid> grid_;
  ssm::Cpu cpu_;
};

}  // namespace

// MPI is started only in a process that a launcher of MPI has started: alone it would take a part
// of a second, and in some containers it does not start.
int text_place::main(int argc, char** argv, const std::function<int(Place&)>& run) {
  const int told = largest({
      "OMPI_COMM_WORLD_RANK",  // Open MPI
      "PMI_RANK",              // MPICH, Intel MPI, MS-MPI, Slurm
      "PMIX_RANK",             // PRRTE, Slurm
      "MV2_COMM_WORLD_RANK",   // MVAPICH
  });
  if (told < 0) return run_alone(argv, run);
  return ssm::run_over_ranks(argc, argv, [&](ssm::Communicator& world) {
    Alone alone;
    OverRanks over_ranks(world);
    Place& place = world.size() == 1 ? static_cast<Place&>(alone) : over_ranks;
    return job::in_words([&] { return run(place); });
  });
}

#else

int text_place::main(int, char** argv, const std::function<int(Place&)>& run) {
  return run_alone(argv, [&](Place& alone) {
    if (largest({"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"}) > 1)
      throw std::runtime_error("is started as several ranks, and was built without MPI");
    return run(alone);
  });
}

#endif
