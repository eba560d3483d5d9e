#!/usr/bin/env python3
"""How many digits of gramians, Hankel values, Sylvester equations, zeros, dc gains and H2 norms are
right: ssm, SciPy, and python-control with slycot.

    pip install numpy scipy control slycot mpmath
    python3 tests/golden/make_control_truth.py --states 6,10 --plants 3 --out truth.txt
    python3 bench/control_accuracy.py [truth.txt]

Each row is a kind of plant and a quantity: the largest error over its plants, relative to the norm
of the quantity, and the largest movement that one rounding of every element of the data makes.
"""

import pathlib
import subprocess
import sys
import tempfile
import warnings

import control
import numpy as np
import scipy.linalg

HERE = pathlib.Path(__file__).resolve().parent


def read(path):
    words = iter(pathlib.Path(path).read_text().split())
    take = lambda r, c: np.array([float.fromhex(next(words)) for _ in range(r * c)]).reshape(r, c)
    kind = plant = None
    while (word := next(words)) != "end":
        if word == "plant":
            kind = next(words)
            n, m, p = (int(next(words)) for _ in range(3))
            plant = take(n, n), take(n, m), take(p, n), take(p, m)
            continue
        rows, cols = int(next(words)), int(next(words))
        yield kind, plant, word, float.fromhex(next(words)), take(rows, cols)


def by_scipy(word, A, B, C, D):
    gramian = lambda a, b: scipy.linalg.solve_continuous_lyapunov(a, -b @ b.T)
    if word == "controllability_gramian":
        return gramian(A, B)
    if word == "observability_gramian":
        return gramian(A.T, C.T)
    if word == "hankel_singular_values":
        values = np.linalg.eigvals(gramian(A, B) @ gramian(A.T, C.T))
        return np.sqrt(np.sort(values.real)[::-1]).reshape(-1, 1)
    if word == "sylvester_with_itself":
        return scipy.linalg.solve_sylvester(A, A, B @ C)
    if word == "dc_gain":
        return D - C @ np.linalg.solve(A, B)
    if word == "h2_norm":
        return np.sqrt(np.trace(C @ gramian(A, B) @ C.T)).reshape(1, 1)
    n = len(A)
    pencil = np.block([[A, B], [C, D]])
    values = scipy.linalg.eigvals(pencil, np.diag([1.0] * n + [0.0]))
    values = values[np.isfinite(values)]
    return np.column_stack([values.real, values.imag])


def by_slycot(word, A, B, C, D):
    system = control.ss(A, B, C, D)
    if word == "controllability_gramian":
        return control.gram(system, "c")
    if word == "observability_gramian":
        return control.gram(system, "o")
    if word == "hankel_singular_values":
        return control.hankel_singular_values(system).reshape(-1, 1)
    if word == "sylvester_with_itself":
        return control.lyap(A, A, -B @ C, method="slycot")
    if word == "dc_gain":
        return np.atleast_2d(control.dcgain(system))
    if word == "h2_norm":
        return np.array([[control.system_norm(system, 2)]])
    values = system.zeros()
    return np.column_stack([values.real, values.imag])


def error(got, want, ordered):
    if got.shape != want.shape or not np.isfinite(got).all():
        return np.inf
    got = got.copy()
    for i in range(0 if ordered else len(want)):
        k = i + np.argmin(np.linalg.norm(got[i:] - want[i], axis=1))
        got[[i, k]] = got[[k, i]]
    return np.linalg.norm(got - want) / np.linalg.norm(want)


def main():
    truth = sys.argv[1] if len(sys.argv) > 1 else HERE.parent / "tests/golden/control_truth.txt"
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/control_accuracy"
        subprocess.run(["g++", "-std=c++20", "-O1", f"-I{HERE.parent}/include", "-idirafter",
                        "/usr/include/eigen3", f"{HERE}/control_accuracy.cpp", "-o", program],
                       check=True)
        lines = subprocess.run([program, str(truth)], check=True, capture_output=True,
                               text=True).stdout.splitlines()
    rows = {}
    warnings.simplefilter("ignore")
    for line, (kind, plant, word, moved, want) in zip(lines, read(truth), strict=True):
        name, r, c, *values = line.split()
        assert name == word
        row = rows.setdefault((kind, word), [0.0] * 4)
        errors = [error(np.array([float(x) for x in values]).reshape(int(r), int(c)), want, word != "zeros")]
        for library in (by_scipy, by_slycot):
            try:
                errors.append(error(np.asarray(library(word, *plant)), want, word != "zeros"))
            except Exception:  # a library that refuses has no digit right
                errors.append(np.inf)
        for i, value in enumerate([*errors, moved]):
            row[i] = max(row[i], value)
    print(f"{'plants':12}{'quantity':26}{'ssm':>10}{'SciPy':>10}{'slycot':>10}{'one rounding':>14}")
    for (kind, word), row in rows.items():
        print(f"{kind:12}{word:26}" + "".join(f"{x:10.1e}" for x in row[:3]) + f"{row[3]:14.1e}")


if __name__ == "__main__":
    main()
