#pragma once

/// @defgroup mpi mpi: time that lies across machines
/// A backend whose time lies across the ranks of an MPI job: operations, layers and models as on
/// one cpu, each rank with its own piece of every sequence. It needs MPI's C header and library, of
/// any vendor (CMake: ssm::mpi).

#include "ssm/mpi/add_next.hpp"
#include "ssm/mpi/add_readout.hpp"
#include "ssm/mpi/attention.hpp"
#include "ssm/mpi/causal_conv.hpp"
#include "ssm/mpi/communicator.hpp"
#include "ssm/mpi/diagonal_scan.hpp"
#include "ssm/mpi/dplr_scan.hpp"
#include "ssm/mpi/handing.hpp"
#include "ssm/mpi/linear_scan.hpp"
#include "ssm/mpi/local.hpp"
#include "ssm/mpi/offsets_of.hpp"
#include "ssm/mpi/ranks.hpp"
#include "ssm/mpi/selective_scan.hpp"
#include "ssm/mpi/whole_sequence.hpp"
