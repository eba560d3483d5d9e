#pragma once

#include <string_view>

#include "ssm/core/detail/compiled.hpp"
#include "ssm/core/detail/dense.hpp"
#include "ssm/system/state_space.hpp"

SSM_BEGIN_COMPILED

/// The data of a Riccati equation in double. N may be empty, for none.
struct RiccatiEquation {
  Time time;
  RealMatrix A, B, Q, R, N;
  bool singular = false;  ///< R is; found by solve_riccati
};

/// Whose words errors use: a filter's equation is the dual of a regulator's.
enum class RiccatiOf { regulator, filter };

/// The cost-to-go xᵀ P x and the gain K of u = −K x that reaches it.
struct RiccatiSolution {
  RealMatrix P, K;
};

/// H = [A, −G; −Q, −Aᵀ], by which states and costates of Aᵀ P + P A − P G P + Q = 0 move.
[[nodiscard]] RealMatrix hamiltonian(const RealMatrix& A, const RealMatrix& G, const RealMatrix& Q);

/// Who asks for a solution, and of what precision its data are.
struct RiccatiCaller {
  std::string_view function;
  double epsilon;  ///< of the type of Q and R
  RiccatiOf purpose = RiccatiOf::regulator;
  bool definite = false;  ///< whether a cost that could be negative is refused
};

SSM_END_COMPILED
