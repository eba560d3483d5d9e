#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstddef>
#include <cstdio>
#include <limits>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "ssm/core/detail/dense_algebra.hpp"
#include "ssm/system/detail/staircase.hpp"
#include "ssm/system/pole_placement.hpp"

SSM_BEGIN_COMPILED

/// The real poles, then one of each conjugate pair, the one above the real axis.
SSM_INLINE Poles half_of_conjugates(std::string_view function, Poles poles, double tolerance) {
  Poles half, upper;
  const auto is_real = [&](const auto& pole) {  // to rounding
    return std::abs(pole.imag()) <= tolerance * std::abs(pole.real());
  };
  for (const auto& pole : poles)
    if (is_real(pole)) half.emplace_back(pole.real());
  std::erase_if(poles, is_real);
  while (!poles.empty()) {
    const std::complex<double> pole = poles.back();
    poles.pop_back();
    const auto partner = std::find_if(poles.begin(), poles.end(), [&](const auto& other) {
      return std::abs(other - std::conj(pole)) <= tolerance * std::abs(pole);
    });
    if (partner == poles.end())
      throw_domain(function, "poles", "without the conjugate of one", "conjugate pairs");
    poles.erase(partner);
    upper.emplace_back(pole.real(), std::abs(pole.imag()));
  }
  half.insert(half.end(), upper.begin(), upper.end());
  return half;
}

/// The row k for which A − b k has the given poles, where W gives H = Wᵀ A W, W's first column
/// is b, and H is Hessenberg without a zero below its diagonal: k = e_nᵀ φ(H) Wᵀ / Π h_{i+1,i},
/// Ackermann's formula without the matrix [b Ab A²b …].
SSM_INLINE RealMatrix place_by_one_input(const RealMatrix& A, const RealMatrix& basis,
                                         const Poles& half) {
  const Index n = A.rows();
  RealMatrix H = basis.transpose() * A * basis;
  const RealMatrix W = basis * to_hessenberg(H, true);
  RealMatrix k(1, n);
  k(0, n - 1) = 1;
  Index below = n - 1;  // the next of the entries below the diagonal to divide by
  const auto divide = [&] {
    if (below > 0) k *= 1 / H(below, below - 1);
    --below;
  };
  for (const auto& pole : half) {
    if (pole.imag() == 0) {
      k = k * H - pole.real() * k;
    } else {
      const RealMatrix first = k * H - 2 * pole.real() * k;
      k = first * H + std::norm(pole) * k;
      divide();
    }
    divide();
  }
  return k * W.transpose();
}

/// Orthonormal columns that span what is orthogonal to the columns of M, which are independent: the
/// last of the Q of its QR factors.
template <class K>
DenseMatrix<K> complement_of(DenseMatrix<K> M) {
  const Index n = M.rows(), rank = M.cols();
  std::vector<double> factors;
  const auto reflect = [&](Index j, K* y) {  // y ← y − factor v v* y
    const K* v = M.col(j);
    K sum = 0;
    for (Index i = j; i < n; ++i) {
      if constexpr (std::is_same_v<K, double>)
        sum += v[i] * y[i];
      else
        sum += product_of(std::conj(v[i]), y[i]);
    }
    sum *= factors[static_cast<std::size_t>(j)];
    for (Index i = j; i < n; ++i) y[i] -= product_of(sum, v[i]);
  };
  for (Index j = 0; j < rank; ++j) {
    K& head = M(j, j);
    const double length = M.block(j, j, n - j, 1).norm(), size = std::abs(head);
    factors.push_back(length > 0 ? 1 / (length * (length + size)) : 0);
    head = size > 0 ? head + head * (length / size) : K(length);
    for (Index k = j + 1; k < rank; ++k) reflect(j, M.col(k));
  }
  DenseMatrix<K> Q(n, n - rank);
  for (Index k = 0; k < n - rank; ++k) {
    Q(rank + k, k) = 1;
    for (Index j = rank; j-- > 0;) reflect(j, Q.col(k));
  }
  return Q;
}

/// The vector z of length 1 for which |Im(g₁z · conj(g₂z))| is largest, g₁ and g₂ the rows of g:
/// the eigenvector of a Hermitian form of rank 2, in the plane of the two. Nothing where that is 0
/// for every z.
SSM_INLINE ComplexMatrix widest_apart(const ComplexMatrix& g) {
  const Index rank = g.cols();
  ComplexMatrix one(rank, 1), other(rank, 1);
  for (Index i = 0; i < rank; ++i) {
    one(i, 0) = std::conj(g(0, i));
    other(i, 0) = std::conj(g(1, i));
  }
  // one = α q₁, other = β q₁ + γ q₂; the form is [α Im β, iαγ/2; −iαγ/2, 0] on q₁ and q₂.
  const double alpha = one.norm();
  if (!(alpha > 0)) return {};
  one *= 1 / alpha;
  std::complex<double> beta = 0;
  for (Index i = 0; i < rank; ++i) beta += product_of(g(1, i), one(i, 0));
  beta = std::conj(beta);
  for (Index i = 0; i < rank; ++i) other(i, 0) -= product_of(beta, one(i, 0));
  const double gamma = other.norm(), d = alpha * beta.imag();
  const double mu = (d + std::copysign(std::hypot(d, alpha * gamma), d)) / 2;
  if (mu == 0) return {};
  const double along = -alpha * gamma / 2, length = std::hypot(mu, along);
  one *= mu / length;
  if (gamma > 0)
    for (Index i = 0; i < rank; ++i)
      one(i, 0) += std::complex<double>(0, along / length / gamma) * other(i, 0);
  return one;
}

/// The closed loop X Λ X⁻¹ with eigenvectors in the subspaces that B allows, chosen to make |det X|
/// large, one vector or conjugate pair after the other: Kautsky, Nichols & Van Dooren (1985),
/// method 0, with the rank-2 updates of Tits & Yang (1996) for pairs. The first `rank` columns of
/// `basis` span the range of B.
SSM_INLINE RealMatrix place_by_many_inputs(const RealMatrix& A, const RealMatrix& basis, Index rank,
                                           const Poles& half) {
  constexpr int most_sweeps = 100;
  const Index n = A.rows();
  const RealMatrix outside = basis.block(0, rank, n, n - rank), seen = A.transpose() * outside;
  RealMatrix X(n, n), Lambda(n, n);
  // x to the length 1 or, real and imaginary part, √2
  const auto take = [&](Index at, Index width, const ComplexMatrix& x) {
    for (Index part = 0; part < width; ++part) {
      double* column = X.col(at + part);
      double sum = 0;
      for (Index i = 0; i < n; ++i) {
        column[i] = part == 0 ? x(i, 0).real() : x(i, 0).imag();
        sum += column[i] * column[i];
      }
      if (width == 1 && sum > 0)
        for (Index i = 0; i < n; ++i) column[i] /= std::sqrt(sum);
      if (width == 2)
        for (Index i = 0; i < n; ++i) column[i] *= std::sqrt(2.0);
    }
  };

  // Columns of X: one for a real pole, real and imaginary part for a pair.
  std::vector<ComplexMatrix> allowed;
  Index at = 0;
  for (const auto& pole : half) {
    ComplexMatrix normal(n, n - rank);  // (A − λ)* outside
    for (Index i = 0; i < normal.size(); ++i)
      normal.data()[i] = seen.data()[i] - std::conj(pole) * outside.data()[i];
    allowed.push_back(complement_of(std::move(normal)));
    const Index width = pole.imag() == 0 ? 1 : 2;
    ComplexMatrix start(rank, 1);
    for (Index i = 0; i < rank; ++i)  // anything in general position
      start(i, 0) = {std::cos(double(1 + at + 2 * i * i)), std::sin(double(2 + 3 * at + i))};
    take(at, width, allowed.back() * start);
    Lambda(at, at) = pole.real();
    if (width == 2) {
      Lambda(at + 1, at + 1) = pole.real();
      Lambda(at, at + 1) = pole.imag();
      Lambda(at + 1, at) = -pole.imag();
    }
    at += width;
  }

  double gain = 2;  // of |det X| in the last sweep
  for (int sweep = 0; sweep < most_sweeps && gain > 1.001; ++sweep) {
    gain = 1;
    at = 0;
    for (std::size_t j = 0; j < half.size(); ++j) {
      const Index width = half[j].imag() == 0 ? 1 : 2;
      RealMatrix others(n, n - width);
      others.set_block(0, 0, X.block(0, 0, n, at));
      others.set_block(0, at, X.block(0, at + width, n, n - at - width));
      const RealMatrix across = complement_of(std::move(others)).transpose();
      const auto volume = [&] {
        const RealMatrix part = across * X.block(0, at, n, width);
        return std::abs(width == 1 ? part(0, 0)
                                   : part(0, 0) * part(1, 1) - part(0, 1) * part(1, 0));
      };
      const double before = volume();
      const ComplexMatrix g = to_complex(across) * allowed[j];
      // |det X| is proportional to |g z| of a real pole, to |Im(g₁z · conj(g₂z))| of a pair.
      const ComplexMatrix z = width == 1 ? adjoint(g) : widest_apart(g);
      if (z.rows() > 0) take(at, width, allowed[j] * z);
      gain *= before > 0 ? volume() / before : 2;
      at += width;
    }
  }
  return DenseLu(X.transpose()).solve((X * Lambda).transpose()).transpose();
}

/// The gain that gives A − B K the poles one after the other, each with an eigenvector v in the
/// subspace that B allows, (A − λ) v = B w, K v = w, that needs the smallest w; the next is placed
/// in the states orthogonal to v, which A and B act on as a controllable pair again. The closed
/// loop is block triangular in orthogonal coordinates, so that a pole may come as often as is
/// wanted.
SSM_INLINE RealMatrix place_one_after_the_other(RealMatrix A, RealMatrix B, const Poles& half) {
  const Index states = A.rows(), m = B.cols();
  RealMatrix K(m, states), Q = RealMatrix::Identity(states, states);
  for (const auto& pole : half) {
    const Index n = A.rows(), width = pole.imag() == 0 ? 1 : 2;
    RealMatrix pencil(width * n, width * (n + m));  // [A − λ, −B] of real and imaginary parts
    for (Index part = 0; part < width; ++part) {
      const Index row = part * n, column = part * (n + m);
      pencil.set_block(row, column, A - pole.real() * RealMatrix::Identity(n, n));
      pencil.set_block(row, column + n, -B);
    }
    if (width == 2) {
      pencil.set_block(0, n + m, pole.imag() * RealMatrix::Identity(n, n));
      pencil.set_block(n, 0, -pole.imag() * RealMatrix::Identity(n, n));
    }
    const RealMatrix null =
        singular_values(pencil).V.block(0, width * n, width * (n + m), width * m);
    RealMatrix inner(width * n, width * m), outer(width * m, width * m);  // of v and of w
    for (Index part = 0; part < width; ++part) {
      inner.set_block(part * n, 0, null.block(part * (n + m), 0, n, width * m));
      outer.set_block(part * m, 0, null.block(part * (n + m) + n, 0, m, width * m));
    }
    const SingularValues best = singular_values(inner);
    const RealMatrix w_flat = outer * best.V.block(0, 0, width * m, 1);
    RealMatrix v(n, width), w(m, width);
    for (Index part = 0; part < width; ++part) {
      v.set_block(0, part, best.W.block(part * n, 0, n, 1));
      w.set_block(0, part, w_flat.block(part * m, 0, m, 1));
    }
    // v = V R, K V = w R⁻¹
    const RealMatrix turn = singular_values(v.transpose()).V;
    const RealMatrix R = turn.block(0, 0, n, width).transpose() * v;
    const RealMatrix part = DenseLu(R.transpose()).solve(w.transpose()).transpose();
    const Index rest = n - width;
    const RealMatrix here = Q * turn;
    K += part * here.block(0, 0, states, width).transpose();
    Q = here.block(0, width, states, rest);
    A = (turn.transpose() * A * turn).block(width, width, rest, rest);
    B = (turn.transpose() * B).block(width, 0, rest, m);
  }
  return K;
}

/// "-2", or "-4 ± 1i" of a pair.
SSM_INLINE std::string text_of_pole(const std::complex<double>& pole) {
  char text[64];
  std::snprintf(text, sizeof text, pole.imag() == 0 ? "%.6g" : "%.6g ± %.6gi", pole.real(),
                std::abs(pole.imag()));
  return text;
}

/// Takes out of the wanted poles those where no input moves the modes of A.
/// @throws DomainError that names a mode that is not among the wanted
/// @param rates the exponent of the unit that the rates of A are counted in
SSM_INLINE void take_unreached(std::string_view function, const RealMatrix& A, int rates,
                               Poles& half) {
  constexpr double nearness = 1e-6;  // the modes of A are known so well when they are repeated
  const ComplexVector modes = grouped_eigenvalues(function, A);
  for (const std::complex<double>& mode : modes) {
    if (mode.imag() < 0) continue;
    const auto distance = [&](const std::complex<double>& pole) { return std::abs(pole - mode); };
    const auto nearest = std::min_element(
        half.begin(), half.end(), [&](auto a, auto b) { return distance(a) < distance(b); });
    if (nearest == half.end() ||
        !(distance(*nearest) <= nearness * (std::max)(std::abs(mode), 1e-6 * A.norm())) ||
        (nearest->imag() == 0) != (mode.imag() == 0)) {
      throw_domain(function, "poles",
                   "without " + text_of_pole({std::ldexp(mode.real(), rates),
                                              std::ldexp(mode.imag(), rates)}),
                   "the modes that no input moves among them");
    }
    half.erase(nearest);
  }
}

/// The exponent of the fastest rate among the wanted poles and those of A.
SSM_INLINE int exponent_of_rates(const RealMatrix& A, const Poles& half) {
  std::optional<int> most = fastest_rate(A);
  for (const auto& pole : half)
    if (pole != 0.0)
      most = (std::max)(most,
                        std::optional(std::ilogb((std::max)(std::abs(pole.real()), pole.imag()))));
  return most.value_or(0);
}

/// The gain, and in `reached` how many states the inputs reach; nothing where these are not as many
/// as `reached` asks for, unless that is below 0.
SSM_INLINE RealMatrix place_once(const RealMatrix& dynamics, const RealMatrix& inputs, Poles half,
                                 Index& reached) {
  const Index m = inputs.cols();
  Quadruple system = Quadruple::of(dynamics, inputs);
  // In a unit of time in which the fastest rate is about 1: A − B K ← 2⁻ᵏ A − B (2⁻ᵏ K).
  const int rates = exponent_of_rates(dynamics, half);
  for (Index i = 0; i < system.A.size(); ++i)
    system.A.data()[i] = std::ldexp(system.A.data()[i], -rates);
  for (auto& pole : half) pole = {std::ldexp(pole.real(), -rates), std::ldexp(pole.imag(), -rates)};
  const Units units = to_own_units(system);
  const Staircase form = staircase(Uncertain(std::move(system.A), epsilon_of<double>),
                                   Uncertain(std::move(system.B), epsilon_of<double>));
  if (reached >= 0 && reached != form.reached) return {};
  reached = form.reached;
  const Index n = dynamics.rows();
  if (reached < n)
    take_unreached("place_poles", form.A.value.block(reached, reached, n - reached, n - reached),
                   rates, half);
  if (reached == 0) return RealMatrix(m, n);
  const RealMatrix A = form.A.value.block(0, 0, reached, reached);
  const Uncertain B = form.B.block(0, 0, reached, m);

  // The inputs that act, B = V Wᵀ of the first `rank` columns; K = W σ⁻² K_V.
  const SingularValues svd = singular_values(B.value.transpose());
  const Index rank = row_space(B.transpose()).rank;
  RealVector weight(rank);
  for (Index i = 0; i < rank; ++i) weight(i) = 1 / (svd.sigma(i) * svd.sigma(i));
  Index most = 0;
  for (const auto& pole : half)
    most = (std::max)(most, static_cast<Index>(std::count(half.begin(), half.end(), pole)));
  RealMatrix K_V;
  if (rank > 1 && most > rank) {
    K_V = place_one_after_the_other(A, svd.V.block(0, 0, reached, rank), half);
  } else {
    const RealMatrix change =
        rank == 1 ? svd.V.block(0, 0, reached, 1) * place_by_one_input(A, svd.V, half)
                  : A - place_by_many_inputs(A, svd.V, rank, half);
    K_V = svd.V.block(0, 0, reached, rank).transpose() * change;
  }
  const RealMatrix K = scale_columns(svd.W.block(0, 0, m, rank), weight) * K_V;
  const RealMatrix all = K * form.Q.block(0, 0, n, reached).transpose();
  RealMatrix result = scale_rows(units.inputs, scale_columns(all, inverse_of(units.states)));
  for (Index i = 0; i < result.size(); ++i) result.data()[i] = std::ldexp(result.data()[i], rates);
  return result;
}

/// A pole, where the closed loop has it, and how far apart they are beside what is borne: a tenth
/// of the pole, and what rounding does to a pole that is wanted several times.
struct Misplaced {
  std::complex<double> wanted, found;
  double miss;
};

/// The worst of all.
SSM_INLINE Misplaced worst_of(RealMatrix closed, const Poles& half) {
  constexpr double borne = 0.1, nearness = 0.01;
  constexpr double infinite = std::numeric_limits<double>::infinity();
  const int exponent = take_out_exponent(closed);  // so that nothing overflows
  const auto times_power = [](const std::complex<double>& z, int power) {
    return std::complex<double>(std::ldexp(z.real(), power), std::ldexp(z.imag(), power));
  };
  Poles wanted, found;
  for (const auto& pole : half) wanted.push_back(times_power(pole, -exponent));
  for (std::size_t i = 0; i < half.size(); ++i)
    if (half[i].imag() != 0) wanted.push_back(std::conj(wanted[i]));
  const GroupedMatrix grouped(closed);
  const ComplexVector values = grouped_eigenvalues("place_poles", closed);
  for (const auto& value : values) found.push_back(value);
  const double rounding = 64 * static_cast<double>(closed.rows()) * epsilon_of<double>;
  const double size = grouped.balanced.norm();
  Misplaced worst{0, 0, 0};
  for (const auto& pole : wanted) {
    const auto near_it = [&](const std::complex<double>& other) {
      return std::abs(other - pole) <= nearness * std::abs(pole);
    };
    const auto times = static_cast<double>(std::count_if(wanted.begin(), wanted.end(), near_it));
    const auto nearest = std::min_element(found.begin(), found.end(), [&](auto a, auto b) {
      return std::abs(a - pole) < std::abs(b - pole);
    });
    const double bound = borne * std::abs(pole) + size * std::pow(rounding, 1 / times);
    const double distance = std::abs(*nearest - pole), share = distance / bound;
    const double miss = distance == 0 ? 0 : std::isnan(share) ? infinite : share;
    if (miss > worst.miss)
      worst = {times_power(pole, exponent), times_power(*nearest, exponent), miss};
    found.erase(nearest);
  }
  return worst;
}

SSM_INLINE RealMatrix place_poles(const RealMatrix& A, const RealMatrix& B, Poles half) {
  constexpr std::string_view function = "place_poles";
  constexpr int most_corrections = 4;
  constexpr double rounding = 1e-10;
  if (A.rows() == 0) return RealMatrix(B.cols(), 0);
  Index reached = -1;
  RealMatrix K = place_once(A, B, half, reached), closed = A - B * K;
  if (!closed.all_finite())
    throw_convergence(function, "K", "not finite", "a gain: the poles are out of reach in double");
  Misplaced worst = worst_of(closed, half);
  // Where rates are far apart, the closed loop is in better units than A: what is missing of K is
  // the gain that places the poles from there.
  for (int turn = 0; turn < most_corrections && worst.miss > rounding; ++turn) {
    const RealMatrix rest = place_once(closed, B, half, reached);
    if (rest.size() == 0) break;
    const RealMatrix better = K + rest, after = A - B * better;
    if (!after.all_finite()) break;
    const Misplaced left = worst_of(after, half);
    if (!(left.miss < worst.miss)) break;
    K = better;
    closed = after;
    worst = left;
  }
  if (worst.miss > 1)
    throw_convergence(
        function, "a pole of A - B K",
        text_of_pole(worst.found) + " where " + text_of_pole(worst.wanted) + " is wanted",
        "poles that a gain in double can place");
  return K;
}

SSM_END_COMPILED
