"""Makes published_layers.safetensors: S4, S4D and S5 under the names of their authors' code, and
what the published formulas make of an input.

The names, shapes and options are those of github.com/state-spaces/s4 (models/s4/s4d.py,
models/s4/s4.py and the s4.py before it) and of github.com/lindermanlab/S5 (s5/ssm.py). What is
computed here follows the papers in double, twice: S4D as a convolution by FFT with the kernel in
closed form, as its code does, and as a recurrence; S4 as a convolution with the kernel that its
generating function gives at the roots of unity, as its code does, and as a recurrence of dense
matrices; S5 as a recurrence and as the sum that it stands for. Nothing of either repository is
installed, imported or copied. Made with numpy 2.4.6 and safetensors 0.8.0:

    python3 -m venv /tmp/golden && . /tmp/golden/bin/activate
    pip install numpy==2.4.6 safetensors==0.8.0
    python -B tests/golden/make_published_layers.py

The file holds for each case

    <case>.<name>          the parameters, in float32 as they are published; lengths in int64
    <case>.input           (batch, length, width) in double
    <case>.output          of the layer, before any activation
    <case>.slow_output     the same with Δ doubled; of S4 with the C of the first rate
    <case>.block_output    of cases with a gate: of the whole module; GELU exact for S4 and S4D and
                           in its tanh form for S5, as their code has it
"""

import math
import pathlib

import numpy as np
from safetensors.numpy import save_file

BATCH, LENGTH = 2, 19


class Draws:
    def __init__(self, seed):
        self.random = np.random.default_rng(seed)

    def normal(self, *shape, scale=1.0):
        return (scale * self.random.standard_normal(shape)).astype(np.float32)

    def uniform(self, low, high, *shape):
        return self.random.uniform(low, high, shape).astype(np.float32)


def as_complex(pairs):
    pairs = pairs.astype(np.float64)
    return pairs[..., 0] + 1j * pairs[..., 1]


def discretized(method, lam, delta):
    """Ā and the factor of B, element by element."""
    if method == "zoh":
        return np.exp(delta * lam), (np.exp(delta * lam) - 1) / lam
    return (1 + delta * lam / 2) / (1 - delta * lam / 2), delta / (1 - delta * lam / 2)


# --- S4D ------------------------------------------------------------------------------------------

def s4d_by_fft(method, lam, delta, B, C, D, u):
    """lam, B (H, N/2), delta (H, 1) or (H, N/2), C (directions, H, N/2), u (batch, length, H)."""
    length = u.shape[1]
    steps = np.arange(length)
    if method == "zoh":
        weights = C * B * (np.exp(delta * lam) - 1) / lam
        powers = np.exp((delta * lam)[..., None] * steps)
    else:
        weights = C * B * delta / (1 - delta * lam / 2)
        powers = ((1 + delta * lam / 2) / (1 - delta * lam / 2))[..., None] ** steps
    return convolved(2 * np.einsum("dhn,hnl->dhl", weights, powers).real, D, u)


def convolved(kernels, D, u):
    """kernels (directions, H, length)."""
    length = u.shape[1]
    kernel = np.concatenate([kernels[0], np.zeros_like(kernels[0])], axis=-1)
    if len(kernels) == 2:  # the second one lies before time 0, which is the end of a circle
        kernel[:, length:] += kernels[1][:, ::-1]
    spectrum = np.fft.rfft(kernel, n=2 * length)
    inputs = np.fft.rfft(np.swapaxes(u, 1, 2), n=2 * length)
    y = np.fft.irfft(inputs * spectrum, n=2 * length)[..., :length]
    return np.swapaxes(y, 1, 2) + D * u


def s4d_by_steps(method, lam, delta, B, C, D, u):
    a_bar, factor = discretized(method, lam, delta)
    b_bar = factor * B
    y = D * u
    x = np.zeros((u.shape[0],) + lam.shape, complex)
    for t in range(u.shape[1]):
        x = a_bar * x + b_bar * u[:, t, :, None]
        y[:, t] += 2 * (C[0] * x).sum(-1).real
    if len(C) == 2:  # what comes later than t
        x = np.zeros_like(x)
        for t in reversed(range(u.shape[1])):
            y[:, t] += 2 * (C[1] * x).sum(-1).real
            x = a_bar * x + b_bar * u[:, t, :, None]
    return y


TRANSFORMS = {
    "exp": np.exp,
    "none": lambda x: x,
    "relu": lambda x: np.maximum(x, 0) + 1e-4,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.log(1 + np.exp(x)),
}


def stored(transform, low, high, *shape, draws):
    """Positive numbers in [low, high] behind a transform."""
    x = draws.uniform(low, high, *shape).astype(np.float64)
    inverse = {"exp": np.log, "none": lambda x: x, "relu": lambda x: x - 1e-4,
               "sigmoid": lambda x: np.log(x / (1 - x)),
               "softplus": lambda x: np.log(np.exp(x) - 1)}
    return inverse[transform](x).astype(np.float32)


def s4d_case(seed, form, width=4, modes=3, copies=None, method="zoh", directions=1, dt_shape=None,
             decay="exp", frequency="none", delta="exp", block=None):
    draws = Draws(seed)
    copies = copies or width
    decays = stored(decay, 0.2, 0.9, copies, modes, draws=draws)
    frequencies = stored(frequency, 0.1, 9, copies, modes, draws=draws)
    deltas = stored(delta, 0.02, 0.5, *(dt_shape or (width, 1)), draws=draws)
    B = draws.normal(copies, modes, 2)
    C = draws.normal(directions, width, modes, 2)
    D = draws.normal(width)
    at = "layer." if block == "linear" else ""
    if form == "minimal":
        deltas = deltas.reshape(width)
        parameters = {"kernel.log_A_real": decays, "kernel.A_imag": frequencies,
                      "kernel.log_dt": deltas, "kernel.C": C[0], "D": D}
        B = np.stack([np.ones((copies, modes), np.float32), np.zeros((copies, modes), np.float32)],
                     axis=-1)
    elif form == "general":
        parameters = {f"{at}kernel.A_real": decays, f"{at}kernel.A_imag": frequencies,
                      f"{at}kernel.inv_dt": deltas, f"{at}kernel.B": B[None], f"{at}kernel.C": C,
                      f"{at}D": D[None]}
    else:
        parameters = {"kernel.kernel.inv_A_real": decays, "kernel.kernel.A_imag": -frequencies,
                      "kernel.kernel.log_dt": deltas, "kernel.kernel.B": B, "kernel.kernel.C": C,
                      "D": D[None]}
    sign = 1 if form == "minimal" else -1
    lam = (-TRANSFORMS[decay](decays.astype(np.float64))
           + sign * 1j * TRANSFORMS[frequency](frequencies.astype(np.float64)))
    shared = np.arange(width) % copies
    real_delta = TRANSFORMS[delta](deltas.astype(np.float64).reshape(width, -1))
    u = draws.normal(BATCH, LENGTH, width).astype(np.float64)
    results = {"input": u}
    for name, rate in (("output", 1), ("slow_output", 2)):
        arguments = (method, lam[shared], rate * real_delta, as_complex(B)[shared], as_complex(C),
                     D.astype(np.float64), u)
        y = s4d_by_fft(*arguments)
        assert np.abs(y - s4d_by_steps(*arguments)).max() <= 1e-12 * np.abs(y).max()
        results[name] = y
    if block:
        add_block(parameters, results, block, draws)
    return parameters, results


def add_block(parameters, results, kind, draws):
    y = results["output"]
    width = y.shape[-1]
    weight = draws.normal(2 * width, width, scale=0.5)
    bias = draws.normal(2 * width)
    parameters["output_linear.0.weight"] = weight[..., None] if kind == "conv" else weight
    parameters["output_linear.0.bias"] = bias
    gelu = y * 0.5 * (1 + np.vectorize(math.erf)(y / math.sqrt(2)))
    both = gelu @ weight.astype(np.float64).T + bias
    results["block_output"] = both[..., :width] / (1 + np.exp(-both[..., width:]))


S4D_CASES = {
    "s4d_minimal": dict(form="minimal", block="conv"),
    "s4d_general": dict(form="general"),
    "s4d_general_block": dict(form="general", block="linear"),
    "s4d_bilinear": dict(form="general", method="bilinear"),
    "s4d_shared": dict(form="general", width=6, copies=2),
    "s4d_tied": dict(form="general", width=3, copies=1),
    "s4d_bidirectional": dict(form="general", directions=2),
    "s4d_every_dt": dict(form="general", dt_shape=(4, 3)),
    "s4d_every_dt_bilinear": dict(form="general", dt_shape=(4, 3), method="bilinear"),
    "s4d_softplus": dict(form="general", decay="softplus", delta="softplus", frequency="exp"),
    "s4d_plain": dict(form="general", decay="none", delta="none"),
    "s4d_relu": dict(form="general", decay="relu", frequency="relu"),
    "s4d_sigmoid": dict(form="general", decay="sigmoid", delta="sigmoid"),
    "s4d_earlier": dict(form="earlier", method="bilinear", block="conv"),
    "s4d_earlier_plain_dt": dict(form="earlier", copies=2, dt_shape=(4,)),
}


# --- S4 -------------------------------------------------------------------------------------------

def with_conjugates(x, axis=-1):
    return np.concatenate([x, x.conj()], axis=axis)


def s4_matrices(lam, delta, P, B):
    """Ā and B̄ of one channel over all states: lam, B (N/2), P (rank, N/2)."""
    low_rank = with_conjugates(P)
    A = np.diag(with_conjugates(lam)) - low_rank.T @ low_rank.conj()
    left = np.eye(len(A)) - delta / 2 * A
    return (np.linalg.solve(left, np.eye(len(A)) + delta / 2 * A),
            np.linalg.solve(left, delta * with_conjugates(B)))


def truncation(a_bar, length):
    return np.eye(len(a_bar)) - np.linalg.matrix_power(a_bar, length)


def s4_kernel(lam, delta, P, B, C, length):
    """The kernel of one channel of which C, of this length, is C̃: its generating function at the
    roots of unity, with the low rank by Woodbury, and their inverse Fourier transform."""
    omega = np.exp(-2j * np.pi * np.arange(length // 2 + 1) / length)
    a, b = 2 * (1 - omega) / delta, 1 + omega
    resolvent = 1 / (a[:, None] - b[:, None] * with_conjugates(lam))  # (nodes, N)
    P, B, C = with_conjugates(P), with_conjugates(B), with_conjugates(C)
    small = np.eye(len(P)) + b[:, None, None] * np.einsum("rn,wn,sn->wrs", P.conj(), resolvent, P)
    right = np.linalg.solve(small, np.einsum("rn,wn,n->wr", P.conj(), resolvent, B)[..., None])
    values = np.einsum("n,wn,n->w", C, resolvent, B)
    values -= b * np.einsum("n,wn,rn,wr->w", C, resolvent, P, right[..., 0])
    return np.fft.irfft(2 * values, n=length)


def s4_by_kernel(lam, delta, P, B, C, D, u, length):
    """lam, B (H, N/2), delta (H), P (rank, H, N/2), C (directions, H, N/2)."""
    kernels = [[s4_kernel(lam[h], delta[h], P[:, h], B[h], C[d, h], length)
                for h in range(len(lam))] for d in range(len(C))]
    return convolved(np.array(kernels)[..., :u.shape[1]], D, u)


def s4_by_steps(lam, delta, P, B, C, D, u, length, rate=1):
    """The recurrence with C itself, which C̃ of this length gives at the first rate; 0: C is C."""
    y = D * u
    for h in range(len(lam)):
        first, _ = s4_matrices(lam[h], delta[h], P[:, h], B[h])
        a_bar, b_bar = s4_matrices(lam[h], rate * delta[h], P[:, h], B[h])
        outputs = [with_conjugates(c) for c in C[:, h]]
        if length:
            outputs = [np.linalg.solve(truncation(first, length).T, c) for c in outputs]
        x = np.zeros((len(u), len(a_bar)), complex)
        for t in range(u.shape[1]):
            x = x @ a_bar.T + u[:, t, h, None] * b_bar
            y[:, t, h] += (x @ outputs[0]).real
        if len(outputs) == 2:  # what comes later than t
            x = np.zeros_like(x)
            for t in reversed(range(u.shape[1])):
                y[:, t, h] += (x @ outputs[1]).real
                x = x @ a_bar.T + u[:, t, h, None] * b_bar
    return y


def s4_case(seed, earlier=False, width=4, modes=3, copies=None, rank=1, directions=1, length=32,
            dt_shape=None, decay="exp", frequency="none", delta="exp", block=None):
    draws = Draws(seed)
    copies = copies or width
    decays = stored(decay, 0.2, 0.9, copies, modes, draws=draws)
    frequencies = stored(frequency, 0.1, 9, copies, modes, draws=draws)
    deltas = stored(delta, 0.05, 0.5, *(dt_shape or (width, 1)), draws=draws)
    P = draws.normal(rank, copies, modes, 2)
    B = draws.normal(copies, modes, 2)
    C = as_complex(draws.normal(directions, width, modes, 2))
    D = draws.normal(width)
    lam = (-TRANSFORMS[decay](decays.astype(np.float64))
           - 1j * TRANSFORMS[frequency](frequencies.astype(np.float64)))
    real_delta = TRANSFORMS[delta](deltas.astype(np.float64).reshape(width))
    shared = np.arange(width) % copies
    system = (lam[shared], real_delta, as_complex(P)[:, shared], as_complex(B)[shared])
    if length:
        for h in range(width):
            a_bar, _ = s4_matrices(*(part[h] for part in system[:2]), system[2][:, h], system[3][h])
            for c in C[:, h]:
                c[:] = (truncation(a_bar, length).T @ with_conjugates(c))[:modes]
    C = np.stack([C.real, C.imag], axis=-1).astype(np.float32)
    at = "layer." if block == "linear" else ""
    names = [f"{at}kernel.{name}" for name in ("A_real", "A_imag", "inv_dt", "P", "B", "C",
                                               "l_kernel")]
    if earlier:
        names = [f"kernel.kernel.{name}" for name in ("inv_w_real", "w_imag", "log_dt", "P", "B",
                                                      "C", "L")]
    values = (decays, -frequencies if earlier else frequencies, deltas, P, B[None], C,
              np.array(length))
    parameters = dict(zip(names, values)) | {f"{at}D": D[None]}
    u = draws.normal(BATCH, LENGTH, width).astype(np.float64)
    arguments = (*system, as_complex(C), D.astype(np.float64), u)
    y = s4_by_steps(*arguments, length)
    if length:
        by_kernel = s4_by_kernel(*arguments, length)
        assert np.abs(y - by_kernel).max() <= 1e-12 * np.abs(y).max()
        y = by_kernel
    results = {"input": u, "output": y, "slow_output": s4_by_steps(*arguments, length, rate=2)}
    if block:
        add_block(parameters, results, block, draws)
    return parameters, results


S4_CASES = {
    "s4": dict(),
    "s4_block": dict(block="linear"),
    "s4_shared": dict(width=6, copies=2, length=19),
    "s4_tied": dict(width=3, copies=1, rank=2, length=51),
    "s4_bidirectional": dict(directions=2, rank=3),
    "s4_untruncated": dict(length=0),
    "s4_softplus": dict(decay="softplus", delta="softplus", frequency="exp"),
    "s4_earlier": dict(earlier=True, dt_shape=(4,), block="conv", length=64),
    "s4_earlier_relu": dict(earlier=True, decay="none", copies=2),
}


# --- S5 -------------------------------------------------------------------------------------------

def s5_by_steps(a_bar, b_bar, C, C_back, D, u):
    """a_bar (P), b_bar (P, H), C (H, P), u (batch, length, H); real parts, without the factor 2."""
    y = np.zeros_like(u)
    for matrix, order in ((C, range(u.shape[1])), (C_back, reversed(range(u.shape[1])))):
        if matrix is None:
            continue
        x = np.zeros((u.shape[0], len(a_bar)), complex)
        for t in order:
            x = a_bar * x + u[:, t] @ b_bar.T
            y[:, t] += (x @ matrix.T).real
    return y


def s5_by_sum(a_bar, b_bar, C, C_back, D, u):
    y = np.zeros_like(u)
    for t in range(u.shape[1]):
        for s in range(u.shape[1]):
            kernel = b_bar * (a_bar ** abs(t - s))[:, None]
            if s <= t:
                y[:, t] += u[:, s] @ (C @ kernel).real.T
            if s >= t and C_back is not None:
                y[:, t] += u[:, s] @ (C_back @ kernel).real.T
    return y


def s5_case(seed, width=3, modes=4, method="zoh", back=None, conj_sym=True, clip=False, gate=None):
    draws = Draws(seed)
    re = -draws.uniform(0.1, 1.5, modes)
    if clip:
        re[1], re[3] = 0.25, 0
    im = draws.normal(modes, scale=5)
    B = draws.normal(modes, width, 2)
    C1 = draws.normal(width, modes, 2)
    C2 = draws.normal(width, modes, 2)
    D = draws.normal(width)
    log_step = np.log(draws.uniform(0.02, 0.4, modes, 1))
    parameters = dict(Lambda_re=re, Lambda_im=im, B=B, D=D, log_step=log_step)
    if back is None:
        parameters["C"] = C1
    elif back == "apart":
        parameters["C1"], parameters["C2"] = C1, C2
    else:
        parameters["C"] = np.concatenate([C1, C2], axis=1)
    lam = re.astype(np.float64) + 1j * im.astype(np.float64)
    if clip:
        lam = np.minimum(lam.real, -1e-4) + 1j * lam.imag
    u = draws.normal(BATCH, LENGTH, width).astype(np.float64)
    results = {"input": u}
    for name, rate in (("output", 1), ("slow_output", 2)):
        delta = rate * np.exp(log_step[:, 0].astype(np.float64))
        a_bar, factor = discretized(method, lam, delta)
        arguments = (a_bar, factor[:, None] * as_complex(B), as_complex(C1),
                     None if back is None else as_complex(C2), D, u)
        y = s5_by_steps(*arguments)
        assert np.abs(y - s5_by_sum(*arguments)).max() <= 1e-12 * np.abs(y).max()
        results[name] = (2 if conj_sym else 1) * y + D.astype(np.float64) * u
    if gate:
        parameters = {f"seq.{name}": x for name, x in parameters.items()}
        y = results["output"]
        gelu = 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
        maps = {}
        for name in ("out1", "out2") if gate == "full_glu" else ("out2",):
            kernel = parameters[f"{name}.kernel"] = draws.normal(width, width)
            bias = parameters[f"{name}.bias"] = draws.normal(width)
            maps[name] = gelu @ kernel.astype(np.float64) + bias
        results["block_output"] = maps.get("out1", gelu) / (1 + np.exp(-maps["out2"]))
    return parameters, results


S5_CASES = {
    "s5": dict(),
    "s5_bilinear": dict(method="bilinear"),
    "s5_bidirectional": dict(back="apart"),
    "s5_complex_normal": dict(back="side by side", method="bilinear"),
    "s5_every_eigenvalue": dict(conj_sym=False),
    "s5_clipped": dict(clip=True),
    "s5_full_glu": dict(gate="full_glu"),
    "s5_half_glu1": dict(gate="half_glu1", back="apart"),
}


def main():
    tensors = {}
    makers = [(name, s4d_case, case) for name, case in S4D_CASES.items()]
    makers += [(name, s5_case, case) for name, case in S5_CASES.items()]
    makers += [(name, s4_case, case) for name, case in S4_CASES.items()]
    for seed, (name, make, case) in enumerate(makers):
        parameters, results = make(seed, **case)
        for key, x in parameters.items():
            assert x.dtype == (np.float32 if x.shape else np.int64), (name, key)
        for key, x in (parameters | results).items():
            tensors[f"{name}.{key}"] = np.array(x, order="C")  # keeps an extent of none
    path = pathlib.Path(__file__).with_name("published_layers.safetensors")
    save_file(tensors, path)
    print(f"{path.name}: {len(makers)} cases, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
