"""Writes transfer.csv: transfer functions, sampled systems, delays and margins as SciPy and
python-control give them, one name and its numbers a line. The tests hold ssm to them. Made with
numpy 2.4.6, scipy 1.17.1 and control 0.10.2:

    pip install numpy==2.4.6 scipy==1.17.1 control==0.10.2
    python3 tests/golden/make_transfer_truth.py
"""

import pathlib

import control
import numpy
import scipy.signal

rows = []


def add(name, values):
    values = numpy.trim_zeros(numpy.atleast_1d(values).astype(float), "f")
    rows.append(",".join([name] + [format(x, ".17g") for x in values]))


def add_ratio(name, numerator, denominator):
    numerator, denominator = numpy.ravel(numerator), numpy.ravel(denominator)
    numerator = numpy.where(abs(numerator) < 1e-15 * abs(numerator).max(), 0, numerator)
    add(name + "/numerator", numerator / denominator[0])
    add(name + "/denominator", denominator / denominator[0])


# Coefficients of a system: the highest power first.
A = numpy.array([[-1, 2, 0.5], [0, -3, 1], [-4, 0.25, -2]])
B, C, D = numpy.array([[1], [0], [2]]), numpy.array([[1, -1, 0.5]]), numpy.array([[0.25]])
add_ratio("ss2tf", *scipy.signal.ss2tf(A, B, C, D))

# (s + 3) / (s^2 + 0.8 s + 4) sampled every 0.2 s.
plant, step = ([1, 3], [1, 0.8, 4]), 0.2
for method in ("zoh", "foh", "bilinear", "impulse", "euler", "backward_diff"):
    numerator, denominator, _ = scipy.signal.cont2discrete(plant, step, method)
    add_ratio("c2d/" + method, numerator, denominator)
system = control.tf(*plant)
for method, options in (("matched", {}), ("tustin", {"prewarp_frequency": 2.0})):
    sampled = control.c2d(system, step, method, **options)
    add_ratio("c2d/" + method, sampled.num[0][0], sampled.den[0][0])

for order in (1, 3, 6):
    add_ratio(f"pade/{order}", *control.pade(0.7, order))

loops = {
    "third": ([4], [1, 3, 3, 1, 0]),
    "resonant": ([0.5, 0.2, 2], [1, 0.3, 5, 1, 0]),
    "unstable": ([8, 8], [1, 2, -3]),
}
for name, (numerator, denominator) in loops.items():
    gain, phase, modulus, at_gain, at_phase, at_modulus = control.stability_margins(
        control.tf(numerator, denominator))
    add(f"loop/{name}/numerator", numerator)
    add(f"loop/{name}/denominator", denominator)
    add(f"loop/{name}/margins", [gain, phase, modulus, at_gain, at_phase, at_modulus])

path = pathlib.Path(__file__).parent / "transfer.csv"
path.write_text("\n".join(rows) + "\n")
