#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "ssm/system/detail/units.hpp"

SSM_BEGIN_COMPILED

SSM_INLINE Quadruple dual_of(const Quadruple& system) {
  return {system.A.transpose(), system.C.transpose(), system.B.transpose(), system.D.transpose()};
}

SSM_INLINE std::optional<int> fastest_rate(const RealMatrix& A) {
  std::optional<int> most;
  for (Index j = 0; j < A.cols(); ++j)
    for (Index i = 0; i <= j; ++i)
      if (A(i, j) != 0 && A(j, i) != 0)
        most = (std::max)(most, std::optional((std::ilogb(A(i, j)) + std::ilogb(A(j, i))) / 2));
  return most;
}

/// The system as a matrix from states and inputs to states and outputs, of logarithms.
class ExponentGraph {
 public:
  explicit ExponentGraph(const Quadruple& system)
      : n_(system.A.rows()),
        m_(system.B.cols()),
        size_(n_ + m_ + system.C.rows()),
        unit_(static_cast<std::size_t>(size_)) {
    for (Index j = 0; j < n_ + m_; ++j)
      for (Index i = 0; i < size_ - m_; ++i) {
        const bool from_input = j >= n_, to_output = i >= n_;
        const double x = from_input ? (to_output ? system.D(i - n_, j - n_) : system.B(i, j - n_))
                                    : (to_output ? system.C(i - n_, j) : system.A(i, j));
        if (x == 0) continue;
        int exponent = 0;
        const double rest = std::log2(std::abs(std::frexp(x, &exponent)));
        edges_.push_back({to_output ? i + m_ : i, j, exponent, rest});
      }
    rate_ = fastest_rate(system.A).value_or(0);
  }

  [[nodiscard]] std::vector<long> balanced() {
    start();
    even_out(false);
    double size = 0;
    bool any = false;
    for (const Edge& edge : edges_)
      if (edge.to < n_ && edge.from < n_) {
        size = any ? (std::max)(size, log_of(edge)) : log_of(edge);
        any = true;
      }
    target_ = size;
    even_out(true);
    std::vector<long> sorted(unit_.begin(), unit_.begin() + n_);
    if (sorted.empty()) return unit_;
    std::nth_element(sorted.begin(), sorted.begin() + n_ / 2, sorted.end());
    const long middle = sorted[static_cast<std::size_t>(n_ / 2)];
    for (long& unit : unit_) unit -= middle;
    return unit_;
  }

 private:
  struct Edge {
    Index to, from;  // states, then inputs, then outputs
    long exponent;   // apart from the rest of the logarithm, so that no unit changes a rounding
    double rest;
  };
  [[nodiscard]] double log_of(const Edge& edge) {
    return edge.rest + static_cast<double>(edge.exponent + at(edge.from) - at(edge.to));
  }
  [[nodiscard]] long& at(Index node) { return unit_[static_cast<std::size_t>(node)]; }

  /// Walks from the first node of each connected part; the element walked over becomes about 1, or
  /// between states as large as the fastest rate.
  void start() {
    std::vector<std::vector<const Edge*>> neighbours(static_cast<std::size_t>(size_));
    for (const Edge& edge : edges_)
      if (edge.to != edge.from) {
        neighbours[static_cast<std::size_t>(edge.to)].push_back(&edge);
        neighbours[static_cast<std::size_t>(edge.from)].push_back(&edge);
      }
    std::vector<bool> seen(static_cast<std::size_t>(size_));
    std::vector<Index> queue;
    for (Index root = 0; root < size_; ++root) {
      if (seen[static_cast<std::size_t>(root)]) continue;
      seen[static_cast<std::size_t>(root)] = true;
      queue.assign(1, root);
      for (std::size_t next = 0; next < queue.size(); ++next)
        for (const Edge* edge : neighbours[static_cast<std::size_t>(queue[next])]) {
          const bool forward = edge->from == queue[next];
          const Index other = forward ? edge->to : edge->from;
          if (seen[static_cast<std::size_t>(other)]) continue;
          seen[static_cast<std::size_t>(other)] = true;
          const long exponent = edge->exponent - (edge->to < n_ && edge->from < n_ ? rate_ : 0);
          at(other) = at(queue[next]) + (forward ? exponent : -exponent);
          queue.push_back(other);
        }
    }
  }

  /// Sweeps until no unit changes, as long as that makes something smaller.
  void even_out(bool with_ports) {
    constexpr int sweeps = 200;
    constexpr double none = -std::numeric_limits<double>::infinity();
    std::vector<std::vector<const Edge*>> rows(static_cast<std::size_t>(size_)),
        columns(static_cast<std::size_t>(size_));
    for (const Edge& edge : edges_) {
      if (edge.to == edge.from || (!with_ports && (edge.to >= n_ || edge.from >= n_))) continue;
      rows[static_cast<std::size_t>(edge.to)].push_back(&edge);
      columns[static_cast<std::size_t>(edge.from)].push_back(&edge);
    }
    std::vector<double> logs;
    const auto total = [&](const std::vector<const Edge*>& edges) {
      double most = none;
      logs.clear();
      for (const Edge* edge : edges) {
        logs.push_back(log_of(*edge));
        most = (std::max)(most, logs.back());
      }
      double sum = 0;
      for (const double log : logs) sum += std::exp2(log - most);
      return edges.empty() ? none : most + std::log2(sum);
    };
    bool changed = true;
    for (int sweep = 0; changed && sweep < sweeps; ++sweep) {
      changed = false;
      for (Index k = 0; k < size_; ++k) {
        const double row = total(rows[static_cast<std::size_t>(k)]);
        const double column = total(columns[static_cast<std::size_t>(k)]);
        double step = 0;  // what grows a column by it and makes a row smaller by it
        if (row > none && column > none) {
          if (!(std::abs(row - column) >= 1)) continue;
          step = std::floor((row - column) / 2 + 0.5);
        } else if (!with_ports) {
          continue;
        } else if (row > none) {
          step = std::floor(row - target_ + 0.5);
        } else if (column > none) {
          step = std::floor(target_ - column + 0.5);
        }
        if (step == 0) continue;
        at(k) += static_cast<long>(step);
        changed = true;
      }
    }
  }

  Index n_, m_, size_;
  std::vector<Edge> edges_;
  std::vector<long> unit_;
  long rate_ = 0;
  double target_ = 0;
};

SSM_INLINE Units to_own_units(Quadruple& system) {
  const Index n = system.A.rows(), m = system.B.cols(), p = system.C.rows();
  std::vector<long> unit = ExponentGraph(system).balanced();
  const auto exponent = [&](Index k) {
    return static_cast<int>(
        std::clamp(unit[static_cast<std::size_t>(k)], -1000L, 1000L));  // 2^±1000 are numbers
  };
  const auto scale = [&](RealMatrix& matrix, Index row, Index column) {
    for (Index j = 0; j < matrix.cols(); ++j)
      for (Index i = 0; i < matrix.rows(); ++i)
        matrix(i, j) = std::ldexp(matrix(i, j), exponent(column + j) - exponent(row + i));
  };
  scale(system.A, 0, 0);
  scale(system.B, 0, n);
  scale(system.C, n + m, 0);
  scale(system.D, n + m, n);
  Units units{RealVector(n), RealVector(m), RealVector(p)};
  for (Index i = 0; i < n; ++i) units.states(i) = std::ldexp(1.0, exponent(i));
  for (Index i = 0; i < m; ++i) units.inputs(i) = std::ldexp(1.0, exponent(n + i));
  for (Index i = 0; i < p; ++i) units.outputs(i) = std::ldexp(1.0, exponent(n + m + i));
  return units;
}

SSM_END_COMPILED
