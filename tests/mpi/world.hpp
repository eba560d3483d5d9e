#pragma once

#include "ssm/mpi/communicator.hpp"

namespace ssm::test {

/// All ranks of the job.
Communicator& world();

}  // namespace ssm::test
