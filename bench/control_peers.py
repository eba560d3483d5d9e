#!/usr/bin/env python3
"""How fast ssm is beside SciPy and python-control with slycot, on the same plants.

    pip install numpy scipy control slycot
    cmake --build build --target control_bench
    python3 bench/control_peers.py build/bench/control_bench [table.csv]

Processor time of one thread, medians of three, the peers' simulations once; all take turns, so that a busy machine is busy for all.
A ratio is the faster peer's time over that of ssm.
"""

import json
import os
import statistics
import subprocess
import sys
import time
import warnings

for library in ("OPENBLAS", "OMP", "MKL"):
    os.environ[f"{library}_NUM_THREADS"] = "1"

import control  # noqa: E402
import numpy as np  # noqa: E402
import scipy.linalg  # noqa: E402
import scipy.signal  # noqa: E402
import slycot  # noqa: E402

SIZES = (2, 6, 12, 40)
STEP = 0.1
LENGTH = 100000


class Plant:
    """As control_bench.cpp makes it."""

    def __init__(self, n):
        self.n = n
        m = 1 if n < 6 else 2 if n < 40 else 4
        p = 1 if n < 6 else 3 if n < 40 else 8
        k = np.arange(1.0, n * n + n * m + p * n + 1)
        A, B, C = np.split(np.sin(k * k), [n * n, n * n + n * m])
        self.A = A.reshape(n, n) / np.sqrt(n) - 1.2 * np.eye(n)
        self.B, self.C, self.D = B.reshape(n, m), C.reshape(p, n), np.zeros((p, m))
        self.Q, self.R, self.noise = np.eye(n), np.eye(m), 0.5 * np.eye(p)
        self.system = control.ss(self.A, self.B, self.C, self.D)
        self.A_bar, self.B_bar, *_ = scipy.signal.cont2discrete((self.A, self.B, self.C, self.D), STEP)
        # the noise of a step, by Van Loan (1978)
        van_loan = scipy.linalg.expm(STEP * np.block([[-self.A, 0.1 * self.Q],
                                                      [np.zeros((n, n)), self.A.T]]))
        self.Q_bar = van_loan[n:, n:].T @ van_loan[:n, n:]
        self.sampled = control.ss(self.A_bar, self.B_bar, self.C, self.D, STEP)
        self.times = STEP * np.arange(LENGTH)
        self.u = np.repeat(np.sin(np.arange(LENGTH))[:, None], m, axis=1)
        self.omega = 10 ** (-2 + 0.004 * np.arange(1000))
        self.x, self.P = np.zeros(n), np.eye(n)
        self.input, self.reading = np.full(m, 0.5), np.full(p, 0.3)

    def kalman_step(self):
        """The textbook's formulas, with a Cholesky solve and the log likelihood."""
        x = self.A_bar @ self.x + self.B_bar @ self.input
        P = self.A_bar @ self.P @ self.A_bar.T + self.Q_bar
        PC = P @ self.C.T
        e = self.reading - self.C @ x
        factor = scipy.linalg.cho_factor(self.C @ PC + self.noise, check_finite=False)
        K = scipy.linalg.cho_solve(factor, PC.T, check_finite=False).T
        log_likelihood = -0.5 * e @ scipy.linalg.cho_solve(factor, e, check_finite=False) - np.sum(
            np.log(np.diag(factor[0])))
        self.x, self.P = x + K @ e, P - K @ PC.T
        return log_likelihood

    def lyapunov_by_slycot(self):
        return slycot.sb03md57(np.array(self.A, order="F"), C=-self.Q, dico="C", trana="T")[2]

    def riccati_by_slycot(self):
        G = self.B @ self.B.T
        return slycot.sb02md(self.n, self.A, G, self.Q, "C")

    def responses_by_solve(self):
        points = 1j * self.omega[:, None, None] * np.eye(self.n) - self.A
        return self.C @ np.linalg.solve(points, np.broadcast_to(self.B, (1000, *self.B.shape))) + self.D


def calls(plant):
    """SciPy's (or NumPy's) call, then that of python-control or slycot, where there is one."""
    A, B, C, D, Q, R = plant.A, plant.B, plant.C, plant.D, plant.Q, plant.R
    return {
        "expm": (lambda: scipy.linalg.expm(A), None),
        "zero_order_hold": (lambda: scipy.signal.cont2discrete((A, B, C, D), STEP),
                            lambda: control.sample_system(plant.system, STEP)),
        "lyapunov": (lambda: scipy.linalg.solve_continuous_lyapunov(A, -Q), plant.lyapunov_by_slycot),
        "riccati": (lambda: scipy.linalg.solve_continuous_are(A, B, Q, R), plant.riccati_by_slycot),
        "lqr": (lambda: np.linalg.solve(R, B.T @ scipy.linalg.solve_continuous_are(A, B, Q, R)),
                lambda: control.lqr(A, B, Q, R)),
        "kalman_step": (plant.kalman_step, None),
        "steady_kalman": (
            lambda: scipy.linalg.solve_discrete_are(plant.A_bar.T, C.T, plant.Q_bar, plant.noise),
            lambda: control.dlqe(plant.A_bar, np.eye(plant.n), C, plant.Q_bar, plant.noise)),
        "simulation_1e5": (
            lambda: scipy.signal.dlsim((plant.A_bar, plant.B_bar, C, D, STEP), plant.u),
            lambda: control.forced_response(plant.sampled, plant.times, plant.u.T)),
        "frequency_response_1000": (plant.responses_by_solve,
                                    lambda: control.frequency_response(plant.system, plant.omega)),
    }


def seconds_of(call):
    """Processor seconds of a call, of as many as last 20 ms."""
    count = 1
    while True:
        start = time.process_time()
        for _ in range(count):
            call()
        spent = time.process_time() - start
        if spent >= 0.02:
            return spent / count
        count = max(2 * count, int(1.2 * 0.02 / max(spent, 1e-6) * count))


def main():
    program = sys.argv[1]
    warnings.simplefilter("ignore")
    plants = [(n, calls(Plant(n))) for n in SIZES]
    ours, peers, allocations = {}, {}, {}
    for turn in range(3):
        output = subprocess.run([program, "--benchmark_format=json", "--benchmark_min_time=0.02"],
                                check=True, capture_output=True, text=True).stdout
        for run in json.loads(output)["benchmarks"]:
            scale = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3}[run["time_unit"]]
            name, kind, _, size = run["name"].split("/")
            key = name, kind, int(size.split(":")[1])
            ours.setdefault(key, []).append(scale * run["cpu_time"])
            allocations[key] = int(run.get("allocations", -1))
        for n, table in plants:
            for name, pair in table.items():
                for which, call in enumerate(pair):
                    if call is not None and not (turn > 0 and name == "simulation_1e5"):
                        peers.setdefault((name, n, which), []).append(seconds_of(call))
    lines = ["operation,states,fixed_us,dynamic_us,scipy_us,control_us,ratio_fixed,ratio_dynamic,"
             "allocations_fixed,allocations_dynamic"]
    print(f"{'':24}{'n':>3}{'fixed':>11}{'dynamic':>11}{'SciPy':>11}{'control':>11}   times faster"
          f"    allocations   (us)")
    median = lambda values: 1e6 * statistics.median(values) if values else float("nan")
    for name in plants[0][1]:
        for n in SIZES:
            fixed, dynamic = (median(ours[name, kind, n]) for kind in ("fixed", "dynamic"))
            times = [median(peers.get((name, n, which))) for which in (0, 1)]
            best = np.nanmin(times)
            counts = [allocations[name, kind, n] for kind in ("fixed", "dynamic")]
            print(f"{name:24}{n:3}{fixed:11.4g}{dynamic:11.4g}{times[0]:11.4g}{times[1]:11.4g}"
                  f"{best / fixed:9.1f}{best / dynamic:8.1f}{counts[0]:9}{counts[1]:8}")
            words = [fixed, dynamic, *times, best / fixed, best / dynamic]
            lines.append(",".join([name, str(n), *(f"{x:.4g}".replace("nan", "") for x in words),
                                   *map(str, counts)]))
    if len(sys.argv) > 2:
        with open(sys.argv[2], "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
