#!/usr/bin/env python3
"""How many digits of a Riccati solution are right: ssm, SciPy, and python-control with slycot.

    pip install numpy scipy control slycot mpmath gmpy2
    python3 bench/riccati_accuracy.py [seeds]

Plants and truth, in 100 digits, are those of tests/golden/make_riccati_truth.py, for its own seeds
and as many others (default 0) of up to 12 states. Errors of P are those of an element beside the
root of the diagonal elements of its row and column, errors of a gain beside all of it, both in the
units of states in which each costs 1: the largest of a plant. Each row is a plant, then the worst
of each kind. "lost" is an error or no digit at all.
"""

import pathlib
import subprocess
import sys
import tempfile

import control
import numpy as np
import scipy
import scipy.linalg

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "golden"))
import make_riccati_truth as golden  # noqa: E402


def build(folder):
    program = pathlib.Path(folder) / "riccati_accuracy"
    command = ["g++", "-std=c++20", "-O2", f"-I{HERE.parent}/include", "-idirafter", "/usr/include/eigen3",
               f"{HERE}/riccati_accuracy.cpp", "-o", str(program)]
    subprocess.run(command, check=True)
    return program


def gain_of(problem, A, B, R, P):
    S = R if problem == "care" else R + B.T @ P @ B
    if problem == "kalman":
        return np.linalg.solve(S, B.T @ P).T
    return np.linalg.solve(S, B.T @ P if problem == "care" else B.T @ P @ A)


def by_scipy(problem, A, B, Q, R):
    solver = scipy.linalg.solve_continuous_are if problem == "care" else scipy.linalg.solve_discrete_are
    P = solver(A, B, Q, R)
    return P, gain_of(problem, A, B, R, P)


def by_slycot(problem, A, B, Q, R):
    solver = control.care if problem == "care" else control.dare
    P, _, K = solver(A, B, Q, R, method="slycot")
    return P, gain_of(problem, A, B, R, P) if problem == "kalman" else K


def by_ssm(program, problem, A, B, Q, R):
    numbers = " ".join(repr(float(x)) for M in (A, B, Q, R) for x in np.ravel(M))
    n, m = B.shape
    answer = subprocess.run([program], input=f"{problem} {n} {m} {numbers}\n", text=True,
                            capture_output=True, check=True).stdout
    if answer.startswith("error"):
        raise ArithmeticError(answer)
    values = np.array([float(x) for x in answer.split()])
    return values[: n * n].reshape(n, n), values[n * n :].reshape((n, m) if problem == "kalman" else (m, n))


def errors(problem, solver, plant, P, K):
    """Of P and of the gain; infinite where there is none."""
    try:
        got_P, got_K = solver(problem, *plant)
    except Exception:  # whatever a library throws
        return np.inf, np.inf
    unit = 1 / np.sqrt(np.diag(P))
    error_P = np.max(np.abs(got_P - P) * np.outer(unit, unit))
    scale = 1 / unit if problem == "kalman" else unit
    shape = scale[:, None] ** -1 if problem == "kalman" else scale[None, :]
    error_K = np.linalg.norm((got_K - K) * shape) / np.linalg.norm(K * shape)
    return tuple(e if e < 1 else np.inf for e in (error_P, error_K))


def main():
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    rows = list(golden.plants())
    rows += [(p, k, n, m, s + 7777 * i) for i in range(1, seeds + 1) for p, k, n, m, s in golden.plants() if n <= 12]
    print(f"scipy {scipy.__version__}, python-control {control.__version__} with slycot")
    names = ("ssm", "scipy", "slycot")
    print(f"{'plant':34}" + "".join(f"{f'P {n}':>12}" for n in names) + "".join(f"{f'K {n}':>12}" for n in names))
    worst, beaten = {}, []
    with tempfile.TemporaryDirectory() as folder:
        program = build(folder)
        solvers = (lambda *a: by_ssm(program, *a), by_scipy, by_slycot)
        for row in rows:
            lists = golden.plant(*row)
            P, K = (np.array([[float(x) for x in line] for line in M]) for M in golden.truth(row[0], *lists))
            plant = [np.array(M) for M in lists]
            found = [errors(row[0], solver, plant, P, K) for solver in solvers]
            figures = [e[0] for e in found] + [e[1] for e in found]
            show(" ".join(map(str, row)), figures)
            key = f"{row[0]} {row[1]}: worst"
            worst[key] = [max(x) for x in zip(worst.get(key, [0] * 6), figures)]
            # what is within rounding of the result is as right as can be
            if figures[0] > max(4e-16, min(figures[1:3])) or figures[3] > max(4e-16, min(figures[4:])):
                beaten.append(" ".join(map(str, row)))
    for key, figures in worst.items():
        show(key, figures)
    print("rows in which another is righter, beyond two roundings:", beaten or "none")


def show(name, figures):
    print(f"{name:34}" + "".join(f"{x:12.1e}" if np.isfinite(x) else f"{'lost':>12}" for x in figures), flush=True)


if __name__ == "__main__":
    main()
