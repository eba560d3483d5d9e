#pragma once

/// @defgroup mpi mpi: time that lies across machines
/// A backend whose time lies across the ranks of an MPI job: operations, layers and models as on
/// one cpu, each rank with its own piece of every sequence. It needs MPI's C header and library, of
/// any vendor (CMake: ssm::mpi). A first program, a gradient of attention over a thousand steps:
///
///     #include "ssm/layers.hpp"
///     #include "ssm/mpi.hpp"
///
///     int main(int argc, char** argv) {
///       return ssm::run_over_ranks(argc, argv, [](ssm::Communicator& world) {
///         const auto backend = ssm::ranks(world, ssm::cpu(1));      // one thread a rank
///         ssm::Attention<float> layer({.width = 8, .heads = 2}), gradients;
///         initialize(layer, 1);                                     // the same on every rank
///         const ssm::Share mine = piece_of(backend, 1000);          // steps mine.begin and on
///         ssm::Tensor<float, 3> x({1, mine.count, 8}), y({1, mine.count, 8}), dx(x.extents());
///         x.fill(1);                                                // what this rank has of it
///         ssm::AttentionScratch<float> scratch;
///         forward(backend, layer, x, {}, y, {}, scratch);
///         backward(backend, layer, x, {}, y, dx, gradients, {}, scratch);
///         sum_over_ranks(backend, gradients);                       // now those of the whole
///         return 0;
///       });
///     }
///
/// Without CMake: mpicxx -std=c++20 -O3 -march=native -DOMPI_SKIP_MPICXX -I ssm/include
/// -isystem /usr/include/eigen3 first.cpp, then mpirun -n 2 ./a.out.

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
