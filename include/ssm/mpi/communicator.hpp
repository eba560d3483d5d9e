#pragma once

#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "ssm/core/error.hpp"
#include "ssm/core/index.hpp"

namespace ssm {

/// A call of MPI failed, or ranks disagree about what they send each other: "function: reason".
class MpiError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// What one rank has sent through a communicator.
struct Traffic {
  Index messages = 0;          ///< from rank to rank
  Index bytes = 0;             ///< in these messages
  Index collective_bytes = 0;  ///< what the rank gave to sums, broadcasts and the like
  friend bool operator==(const Traffic&, const Traffic&) = default;
};

namespace detail {

[[noreturn, gnu::cold]] inline void throw_mpi(std::string_view function,
                                              const std::string& reason) {
  raise<MpiError>(std::string(function) + ": " + reason);
}

/// Throws MpiError with MPI's own sentence unless `code` says success.
inline void check_mpi(std::string_view function, int code) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw_mpi(function, std::string(text, static_cast<std::size_t>(length)));
}

}  // namespace detail

/// A group of processes that send each other numbers, the ranks 0 … size − 1: an MPI communicator
/// of its own, duplicated from the one it is made of, so that its messages meet no others.
///
/// Every rank must make the same calls in the same order. A message is matched by its sender and
/// its turn, and one of another length than expected is an error. One thread at a time may use a
/// communicator. All ranks run the same program on machines of the same kind: numbers travel as
/// their bytes.
class Communicator {
 public:
  /// The ranks of `group`, MPI_COMM_WORLD for all. Every rank of the group makes it together.
  /// @throws MpiError
  explicit Communicator(MPI_Comm group) {
    check("Communicator", MPI_Comm_dup(group, &comm_));
    start();
  }
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;
  ///@{
  /// A communicator that was moved from can only be assigned to or destroyed.
  Communicator(Communicator&& other) noexcept { swap(other); }
  Communicator& operator=(Communicator&& other) noexcept {
    swap(other);
    return *this;
  }
  ///@}
  /// Waits until all that was sent has arrived, unless an exception is on its way: then neighbours
  /// may never take it.
  ~Communicator() {
    if (comm_ == MPI_COMM_NULL) return;
    if (std::uncaught_exceptions() > 0) {  // MPI may still read what was not taken
      static_cast<void>(new std::vector<Pending>(std::move(pending_)));
      return;
    }
    for (Pending& sent : pending_) MPI_Wait(&sent.request, MPI_STATUS_IGNORE);
    MPI_Comm_free(&comm_);
  }

  /// The number of this process, from 0.
  [[nodiscard]] int rank() const noexcept { return rank_; }
  /// How many processes there are.
  [[nodiscard]] int size() const noexcept { return size_; }

  /// The ranks of the same `color` as a communicator of their own, in their order here. Every rank
  /// makes it together. @throws MpiError
  [[nodiscard]] Communicator split(int color) const {
    Communicator part;
    check("Communicator::split", MPI_Comm_split(comm_, color, rank_, &part.comm_));
    part.start();
    return part;
  }

  /// Sends `count` numbers to a rank. They are copied, so that the call returns at once; it is the
  /// next call of receive there that takes them. @throws MpiError
  template <class T>
  void send(int to, const T* data, Index count) {
    static_assert(std::is_trivially_copyable_v<T>);
    reap();
    const Index bytes = count * static_cast<Index>(sizeof(T));
    const auto* from = reinterpret_cast<const std::byte*>(data);
    each_part(bytes, part_of(bytes), [&](Index begin, int part, int parts_after) {
      Pending& sent = pending_.emplace_back();
      if (!spare_.empty()) {
        sent.bytes = std::move(spare_.back());
        spare_.pop_back();
      }
      sent.bytes.assign(from + begin, from + begin + part);
      check("Communicator::send",
            MPI_Isend(sent.bytes.data(), part, MPI_BYTE, to, parts_after, comm_, &sent.request));
    });
    ++traffic_.messages;
    traffic_.bytes += bytes;
  }

  /// Waits for the next `count` numbers that a rank sends here.
  /// @throws MpiError, also where the message has another length
  template <class T>
  void receive(int from, T* data, Index count) {
    static_assert(std::is_trivially_copyable_v<T>);
    constexpr std::string_view function = "Communicator::receive";
    reap();
    const Index bytes = count * static_cast<Index>(sizeof(T));
    each_part(bytes, part_of(bytes), [&](Index begin, int part, int parts_after) {
      MPI_Status status;
      check(function, MPI_Recv(reinterpret_cast<std::byte*>(data) + begin, part, MPI_BYTE, from,
                               MPI_ANY_TAG, comm_, &status));
      int got = 0;
      check(function, MPI_Get_count(&status, MPI_BYTE, &got));
      const auto more = [](int parts) {
        return parts > 0 ? " and " + std::to_string(parts) + " parts more" : std::string();
      };
      if (got != part || status.MPI_TAG != parts_after)
        detail::throw_mpi(function, "a message of rank " + std::to_string(from) + " has " +
                                        std::to_string(got) + " bytes" + more(status.MPI_TAG) +
                                        ", expected " + std::to_string(part) + more(parts_after) +
                                        "; do all ranks run the same model on the same batch?");
    });
  }

  /// `count` numbers of every rank, in the order of ranks, on every rank: `to` has size · count.
  /// @throws MpiError
  template <class T>
  void gather(const T* data, Index count, T* to) {
    static_assert(std::is_trivially_copyable_v<T>);
    const int bytes = in_bytes<T>("Communicator::gather", count);
    check("Communicator::gather", MPI_Allgather(data, bytes, MPI_BYTE, to, bytes, MPI_BYTE, comm_));
    traffic_.collective_bytes += bytes;
  }

  ///@{
  /// A number of every rank, in the order of ranks, their sum in this order, and the largest, on
  /// every rank. @throws MpiError
  template <class K>
  [[nodiscard]] std::vector<K> of_all(K number) {
    std::vector<K> all(static_cast<std::size_t>(size_));
    gather(&number, 1, all.data());
    return all;
  }
  template <class K>
  [[nodiscard]] K sum_of_all(K number) {
    const std::vector<K> all = of_all(number);
    return std::accumulate(all.begin(), all.end(), K(0));
  }
  template <class K>
  [[nodiscard]] K largest_of_all(K number) {
    const std::vector<K> all = of_all(number);
    return *std::max_element(all.begin(), all.end());
  }
  ///@}

  /// The numbers of rank `root` on every rank. @throws MpiError
  template <class T>
  void broadcast(int root, T* data, Index count) {
    static_assert(std::is_trivially_copyable_v<T>);
    each_part(count * static_cast<Index>(sizeof(T)), most_bytes, [&](Index begin, int part, int) {
      check("Communicator::broadcast",
            MPI_Bcast(reinterpret_cast<std::byte*>(data) + begin, part, MPI_BYTE, root, comm_));
    });
    if (rank_ == root) traffic_.collective_bytes += count * static_cast<Index>(sizeof(T));
  }

  /// Rank r gets part r of what every rank has: `data` and `to` have size parts of `count`
  /// numbers, and part r of `to` is what rank r had for this one. @throws MpiError
  template <class T>
  void exchange(const T* data, Index count, T* to) {
    static_assert(std::is_trivially_copyable_v<T>);
    const int bytes = in_bytes<T>("Communicator::exchange", count);
    check("Communicator::exchange",
          MPI_Alltoall(data, bytes, MPI_BYTE, to, bytes, MPI_BYTE, comm_));
    traffic_.collective_bytes += Index{bytes} * size_;
  }

  /// Waits until every rank has come here. @throws MpiError
  void barrier() { check("Communicator::barrier", MPI_Barrier(comm_)); }

  /// What this rank has sent since the communicator was made, or since reset_traffic.
  [[nodiscard]] const Traffic& traffic() const noexcept { return traffic_; }
  /// Counts from zero.
  void reset_traffic() noexcept { traffic_ = {}; }

 private:
  /// A message that MPI may still read.
  struct Pending {
    MPI_Request request = MPI_REQUEST_NULL;
    std::vector<std::byte> bytes;
  };
  Communicator() = default;

  static void check(std::string_view function, int code) { detail::check_mpi(function, code); }

  void start() {
    check("Communicator", MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN));
    check("Communicator", MPI_Comm_rank(comm_, &rank_));
    check("Communicator", MPI_Comm_size(comm_, &size_));
  }

  void swap(Communicator& other) noexcept {
    std::swap(comm_, other.comm_);
    std::swap(rank_, other.rank_);
    std::swap(size_, other.size_);
    std::swap(traffic_, other.traffic_);
    pending_.swap(other.pending_);
    spare_.swap(other.spare_);
  }

  static constexpr Index most_bytes = Index{1} << 30;  ///< of a part: MPI counts them as int

  /// The parts in which a message travels. One of the size of states goes in packets so small that
  /// MPI hands them over at once: with larger ones the receiver would wait until the sender, busy
  /// with its next block, calls MPI again.
  [[nodiscard]] static Index part_of(Index bytes) noexcept {
    return bytes <= Index{1} << 18 ? Index{1} << 11 : most_bytes;
  }
  /// body(begin, bytes, parts that follow)
  template <class Body>
  static void each_part(Index bytes, Index size, const Body& body) {
    Index begin = 0;
    do {
      const Index part = (std::min)(size, bytes - begin), rest = bytes - begin - part;
      body(begin, static_cast<int>(part), static_cast<int>((rest + size - 1) / size));
      begin += part;
    } while (begin < bytes);
  }
  template <class T>
  static int in_bytes(std::string_view function, Index count) {
    constexpr Index most = (std::numeric_limits<int>::max)() / static_cast<Index>(sizeof(T));
    if (count > most)
      detail::throw_shape(function, "count", std::to_string(count),
                          "at most " + std::to_string(most));
    return static_cast<int>(count * static_cast<Index>(sizeof(T)));
  }

  /// Lets MPI make progress, and takes back the memory of messages that have gone.
  void reap() {
    for (std::size_t i = 0; i < pending_.size();) {
      int done = 0;
      check("Communicator::send", MPI_Test(&pending_[i].request, &done, MPI_STATUS_IGNORE));
      if (!done) {
        ++i;
        continue;
      }
      spare_.push_back(std::move(pending_[i].bytes));
      if (i + 1 < pending_.size()) pending_[i] = std::move(pending_.back());
      pending_.pop_back();
    }
  }

  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0, size_ = 0;
  Traffic traffic_;
  std::vector<Pending> pending_;
  std::vector<std::vector<std::byte>> spare_;  ///< memory for messages to come
};

/// The main program of a job over ranks: starts MPI, calls `body(world)` with the communicator of
/// all processes, and ends MPI. Returns what `body` returns, as `main` does.
///
///     int main(int argc, char** argv) {
///       return ssm::run_over_ranks(argc, argv, [&](ssm::Communicator& world) { … return 0; });
///     }
///
/// An exception that leaves `body` on any rank ends the whole job: the rank prints "rank 1 of 4: "
/// and the exception's sentence, and every other rank is ended, as it would wait for this one for
/// ever. Where all of them throw, rank 0 speaks for all. A process that is killed from outside ends
/// the job too, by mpirun, with its sentence. MPI is called from the calling thread alone.
template <class Body>
int run_over_ranks(int& argc, char**& argv, Body&& body) {
  int provided = MPI_THREAD_SINGLE;
  if (MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS) {
    std::fputs("run_over_ranks: MPI did not start\n", stderr);
    return 1;
  }
  int result = 0;
#if defined(__cpp_exceptions)
  const auto end_job = [](const char* sentence) {
    int rank = 0, size = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    // Where all fail alike, as without a file, the first one speaks, and has ended the others.
    if (rank > 0) std::this_thread::sleep_for(std::chrono::milliseconds(200));
    std::fprintf(stderr, "rank %d of %d: %s\n", rank, size, sentence);
    std::fflush(stderr);
    MPI_Abort(MPI_COMM_WORLD, 1);
  };
  try {
    Communicator world(MPI_COMM_WORLD);
    result = body(world);
  } catch (const std::exception& error) {
    end_job(error.what());
  } catch (...) {
    end_job("an exception of an unknown type");
  }
#else
  {
    Communicator world(MPI_COMM_WORLD);
    result = body(world);
  }
#endif
  MPI_Finalize();
  return result;
}

}  // namespace ssm
