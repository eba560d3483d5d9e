#!/usr/bin/env python3
"""Writes riccati_truth.txt: solutions of Riccati equations from 100-digit arithmetic.

    pip install mpmath gmpy2
    python3 make_riccati_truth.py > riccati_truth.txt

A plant follows from its kind, its sizes and a seed by whole numbers and powers of two, so that
tests/system/riccati_truth_test.cpp makes the same one, bit for bit. Each line holds

    problem kind states inputs seed | diagonal of P | first row of P | gain, row by row

where the problem is care (continuous), dare (discrete) or kalman (a discrete filter with the
transposes of the plant, whose gain is P C^T S^-1).
"""

import sys

from mpmath import mp, mpf

mp.dps = 100


class Whole:
    """Whole numbers from -9 to 9, the same in every language (Knuth's MMIX generator)."""

    def __init__(self, seed):
        self.state = seed

    def __call__(self):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) % 19 - 9

    def matrix(self, rows, cols):
        return [[self() for _ in range(cols)] for _ in range(rows)]


def plant(problem, kind, n, m, seed):
    """A, B, Q, R as lists of rows of floats that are exact."""
    whole = Whole(seed)
    a = whole.matrix(n, n)
    b = whole.matrix(n, m)
    c = whole.matrix(2, n)
    discrete = problem != "care"
    A = [[a[i][j] / 16 for j in range(n)] for i in range(n)]
    B = [[float(b[i][j]) for j in range(m)] for i in range(n)]
    Q = [[float(c[0][i] * c[0][j] + c[1][i] * c[1][j] + (i == j)) for j in range(n)] for i in range(n)]
    R = [[float(i == j) for j in range(m)] for i in range(m)]
    if kind == "stiff":  # rates over twelve decades
        for i in range(n):
            rate = 2.0 ** (-(40 * i // max(n - 1, 1)) + (0 if discrete else 20))
            for j in range(n):
                A[i][j] = rate * (A[i][j] / 4 - (i == j)) + (discrete and i == j)
            for j in range(m):
                B[i][j] *= rate
    elif kind == "weak":  # the second half is reached through 2^-20 only
        half = n // 2
        for i in range(half, n):
            for j in range(m):
                B[i][j] = 0.0
            for j in range(half):
                A[i][j] *= 2.0**-20
        for i in range(half):
            for j in range(half, n):
                A[i][j] = 0.0
    elif kind == "nonnormal":
        for i in range(n):
            for j in range(n):
                if j < i:
                    A[i][j] = 0.0
                elif j == i:
                    A[i][j] = (i + 1) / 64 if discrete else -(i + 1) / 8
                else:
                    A[i][j] *= 8
    elif kind == "cheap":  # control that costs next to nothing
        for i in range(m):
            R[i][i] = 2.0**-40
    return A, B, Q, R


KINDS = ("random", "stiff", "weak", "nonnormal", "cheap")
SIZES = {
    "random": (1, 2, 3, 6, 12, 40),
    "stiff": (2, 4, 8, 16, 40),
    "weak": (2, 4, 8),
    "nonnormal": (3, 6, 12),
    "cheap": (1, 3, 6, 12),
}


def plants():
    for problem in ("care", "dare", "kalman"):
        for kind in KINDS:
            for n in SIZES[kind]:
                if problem != "kalman" or n <= 12:
                    yield problem, kind, n, 1 if n < 3 else 2, 1000 + 10 * n + KINDS.index(kind)


def exact(M):
    return [[mpf(x) for x in row] for row in M]


def transpose(M):
    return [list(column) for column in zip(*M)]


def times(M, N):
    columns = list(zip(*N))
    return [[mp.fdot(zip(row, column)) for column in columns] for row in M]


def plus(M, N, factor=1):
    return [[x + factor * y for x, y in zip(*rows)] for rows in zip(M, N)]


def identity(n):
    return [[mpf(i == j) for j in range(n)] for i in range(n)]


def solve(M, N):
    """M^-1 N by elimination with pivoting."""
    n = len(M)
    rows = [list(x) + list(y) for x, y in zip(M, N)]
    for k in range(n):
        pivot = max(range(k, n), key=lambda i: abs(rows[i][k]))
        rows[k], rows[pivot] = rows[pivot], rows[k]
        rows[k] = [x / rows[k][k] for x in rows[k]]
        for i in range(n):
            if i != k and rows[i][k] != 0:
                weight = rows[i][k]
                rows[i] = [x - weight * y for x, y in zip(rows[i], rows[k])]
    return [row[n:] for row in rows]


def size(M):
    return max(abs(x) for row in M for x in row)


def doubled(E, G, H):
    """The stabilizing solution of a discrete equation (Chu, Fan, Lin & Wang 2004)."""
    n = len(E)
    for _ in range(400):
        both = solve(plus(identity(n), times(G, H)), [e + g for e, g in zip(E, times(G, transpose(E)))])
        W, V = [row[:n] for row in both], [row[n:] for row in both]
        change = times(transpose(E), times(H, W))
        G = plus(G, times(E, V))
        E = times(E, W)
        H = plus(H, change)
        if size(change) <= mpf(10) ** -80 * size(H):
            return H
    raise ArithmeticError("doubling does not settle")


def truth(problem, A, B, Q, R):
    """P and the gain."""
    A, B, Q, R = exact(A), exact(B), exact(Q), exact(R)
    n = len(A)
    G = times(B, solve(R, transpose(B)))
    if problem == "care":
        # By Cayley's transformation (Chu, Fan & Lin 2005, equations 9 and 10).
        shift = max(size(A), mp.sqrt(size(G) * size(Q)))
        less = plus(A, identity(n), -shift)
        into = solve(less, identity(n))
        W = solve(plus(transpose(less), times(Q, times(into, G))), identity(n))
        P = doubled(
            plus(identity(n), transpose(W), 2 * shift),
            [[2 * shift * x for x in row] for row in times(times(into, G), W)],
            [[2 * shift * x for x in row] for row in times(W, times(Q, into))],
        )
        residual = plus(plus(times(transpose(A), P), times(P, A)), plus(Q, times(P, times(G, P)), -1))
        gain = solve(R, times(transpose(B), P))
    else:
        P = doubled(A, G, Q)
        S = plus(R, times(transpose(B), times(P, B)))
        gain = solve(S, times(transpose(B), times(P, A)))
        residual = plus(plus(times(transpose(A), times(P, plus(A, times(B, gain), -1))), Q), P, -1)
        if problem == "kalman":
            gain = transpose(solve(S, times(transpose(B), P)))
    if not size(residual) <= mpf(10) ** -45 * (size(P) * (1 + size(A)) + size(Q)):
        raise ArithmeticError("a residual is left")
    return P, gain


def main():
    for row in plants():
        P, gain = truth(row[0], *plant(*row))
        numbers = [[P[i][i] for i in range(len(P))], P[0], [x for line in gain for x in line]]
        parts = [" ".join(mp.nstr(x, 17) for x in part) for part in numbers]
        print(*row, "|", " | ".join(parts), flush=True)
        print(*row, file=sys.stderr)


if __name__ == "__main__":
    main()
