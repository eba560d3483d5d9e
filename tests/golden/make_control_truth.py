"""Makes control_truth.txt: plants of linear systems and what is true of them, from 50 digits.

    python3 make_control_truth.py [--plants N] [--states LIST] [--out FILE]

One function a quantity. A plant is a line of sizes and the rows of A, B, C, D in hexadecimal
floating point, exact; each quantity is a name, its shape and its values rounded to double, and how
much an error of one rounding in every element of the data moves it, relative to its norm, which is
what no arithmetic in double can be held to more than a few times of.
"""
import argparse
import random

from mpmath import eig, matrix, mp, mpf, sqrt

mp.dps = 50


def sylvester(A, B, F):
    """A X + X B = F, by eigenvectors, which need no system of n² unknowns."""
    a, U = eig(A)
    b, V = eig(B)
    G = lu_solve_many(U, F) * V
    for i in range(A.rows):
        for j in range(B.rows):
            G[i, j] /= a[i] + b[j]
    X = U * lu_solve_many(V.T, G.T).T
    return X.apply(lambda z: z.real)


def lu_solve_many(M, R):
    inverse = M**-1
    return inverse * R


def lyapunov(A, Q):
    return sylvester(A, A.T, -Q)


def controllability_gramian(A, B, C, D):
    return lyapunov(A, B * B.T)


def observability_gramian(A, B, C, D):
    return lyapunov(A.T, C.T * C)


def hankel_singular_values(A, B, C, D):
    P, Q = controllability_gramian(A, B, C, D), observability_gramian(A, B, C, D)
    values, _ = eig(P * Q)
    sigma = sorted((sqrt(abs(v.real)) for v in values), reverse=True)
    return matrix([[s] for s in sigma])


def sylvester_with_itself(A, B, C, D):
    return sylvester(A, A, B * C)


def dc_gain(A, B, C, D):
    return D - C * lu_solve_many(A, B)


def h2_norm(A, B, C, D):
    W = C * controllability_gramian(A, B, C, D) * C.T
    return matrix([[sqrt(sum(W[i, i] for i in range(W.rows)))]])


def zeros(A, B, C, D):
    """Of one input and one output with D = 0 and CB ≠ 0: the eigenvalues of A on the kernel of C
    along B, but for the one at 0 that the projection makes."""
    n = A.rows
    gain = (C * B)[0, 0]
    projected = A - B * (C * A) / gain
    # on the kernel of C: a basis e_i − e_p C_i/C_p, p where C is largest
    p = max(range(n), key=lambda i: abs(C[0, i]))
    rest = [i for i in range(n) if i != p]
    basis = matrix(n, n - 1)
    for j, i in enumerate(rest):
        basis[i, j] = 1
        basis[p, j] = -C[0, i] / C[0, p]
    moved = projected * basis
    small = matrix([[moved[i, j] for j in range(n - 1)] for i in rest])
    values, _ = eig(small)
    values = sorted(values, key=lambda z: (z.real, z.imag))
    return matrix([[v.real, v.imag] for v in values])


QUANTITIES = [controllability_gramian, observability_gramian, hankel_singular_values,
              sylvester_with_itself, dc_gain, h2_norm]
PLANTS = ["random", "stiff", "non-normal", "weak"]


def plant(kind, n, m, p, draw):
    """A stable plant of doubles."""
    normal = lambda r, c: [[draw.gauss(0, 1) for _ in range(c)] for _ in range(r)]
    A, B, C = normal(n, n), normal(n, m), normal(p, n)
    if kind == "random":
        for i in range(n):
            A[i][i] -= 2 * n**0.5
    elif kind == "stiff":  # two-sided scaling of a dominant diagonal, rates over twelve decades
        rate = [10 ** (6 - 12 * i / max(n - 1, 1)) for i in range(n)]
        draw.shuffle(rate)
        for i in range(n):
            row = sum(abs(A[i][j]) for j in range(n) if j != i)
            for j in range(n):
                A[i][j] = -rate[i] if i == j else A[i][j] / (row + 1) * min(rate[i], rate[j])
    elif kind == "non-normal":
        for i in range(n):
            for j in range(n):
                A[i][j] = -1 - i / n if i == j else (3 * A[i][j] if j > i else 0.0)
    elif kind == "weak":  # one direction that inputs hardly reach
        for i in range(n):
            A[i][i] -= 2 * n**0.5
        for j in range(n - 1):
            A[n - 1][j] *= 1e-9
        for j in range(m):
            B[n - 1][j] *= 1e-9
    return A, B, C, [[0.0] * m for _ in range(p)]


def frobenius(M):
    return sqrt(sum(abs(M[i, j]) ** 2 for i in range(M.rows) for j in range(M.cols)))


def in_order_of(value, moved):
    """The rows of a set of points in the order that comes nearest to that of another."""
    rows = [[moved[i, j] for j in range(moved.cols)] for i in range(moved.rows)]
    ordered = []
    for i in range(value.rows):
        far = lambda row: sum((x - value[i, j]) ** 2 for j, x in enumerate(row))
        ordered.append(min(rows, key=far))
        rows.remove(ordered[-1])
    return matrix(ordered)


def sensitivity(function, data, value, draw):
    """How far errors of one rounding in every element of the data move the value."""
    eps, worst = mpf(2) ** -52, mpf(0)
    size = frobenius(value)
    for _ in range(3):
        moved = [matrix([[x * (1 + draw.choice((-1, 1)) * eps) for x in row] for row in M])
                 for M in data]
        other = function(*moved)
        if function is zeros:
            other = in_order_of(value, other)
        worst = max(worst, frobenius(other - value) / size)
    return worst


def write(plants, states, out):
    for number in range(plants):
        for kind in PLANTS:
            for n in states:
                draw = random.Random(f"{kind} {n} {number}")
                m, p = (1, 1) if n % 2 else (2, 2)
                data = plant(kind, n, m, p, draw)
                print("plant", kind.replace(" ", "_"), n, m, p, file=out)
                for M in data:
                    for row in M:
                        print(" ".join(float(x).hex() for x in row), file=out)
                exact = [matrix(M) for M in data]
                quantities = QUANTITIES + ([zeros] if m == 1 and p == 1 and n > 1 else [])
                for function in quantities:
                    value = function(*exact)
                    moved = float(sensitivity(function, data, value, draw))
                    print(function.__name__, value.rows, value.cols, float(moved).hex(), file=out)
                    for i in range(value.rows):
                        print(" ".join(float(value[i, j]).hex() for j in range(value.cols)),
                              file=out)
        print("end", file=out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--plants", type=int, default=1)
    parser.add_argument("--states", default="1,2,3,5,6")
    parser.add_argument("--out", default="control_truth.txt")
    arguments = parser.parse_args()
    with open(arguments.out, "w") as file:
        write(arguments.plants, [int(n) for n in arguments.states.split(",")], file)
