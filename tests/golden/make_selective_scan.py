"""Makes selective_scan.safetensors: what the published selective scan gives, and its gradients.

The function is selective_scan_ref of PyPI's mamba-ssm 2.2.4 (Apache-2.0), read from the unpacked
source archive; nothing of mamba-ssm is installed or imported. Made on Debian 12 with its
python3-torch 1.13.1 and, from PyPI, einops 0.8.1 and safetensors 0.8.0:

    apt-get install python3-torch python3-venv
    /usr/bin/python3 -m venv --system-site-packages /tmp/golden && . /tmp/golden/bin/activate
    pip install einops==0.8.1 safetensors==0.8.0 'setuptools<70' wheel packaging ninja
    MAMBA_SKIP_CUDA_BUILD=TRUE pip download --no-deps --no-build-isolation --no-binary :all: \\
        -d /tmp/golden mamba-ssm==2.2.4
    tar xf /tmp/golden/mamba_ssm-2.2.4.tar.gz -C /tmp/golden
    python -B tests/golden/make_selective_scan.py \\
        /tmp/golden/mamba_ssm-2.2.4/mamba_ssm/ops/selective_scan_interface.py

The file holds for each case, in the layout of ssm (batch, length, channels; B and C varying:
batch, length, groups, state):

    <case>/<input>                      in double: u delta A B C, and D z delta_bias if given
    <case>/y_gradient, state_gradient   in double: the gradients that backward starts from
    <case>/<precision>/y, final_state   outputs
    <case>/<precision>/gradient/<input> gradients of every input

<precision> is float64 or float32; for float32 the inputs were first rounded to it. A complex
tensor has a last extent of 2: real and imaginary part. The metadata names the cases that apply
softplus.

The loss is sum(y · y_gradient) + Re sum(conj(state_gradient) · final_state). The gradient of a
complex k is ∂/∂Re k + i ∂/∂Im k, in torch as in ssm; check_complex_convention() holds that.
"""

import argparse
import ast
import pathlib

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from safetensors.torch import save_file

from keep_double import keep_double

SOFTPLUS = dict(delta_bias=True, softplus=True)
EVERYTHING = dict(D=True, z=True, **SOFTPLUS)
COMPLEX = dict(complex=True)

# B and C: the number of groups, 0 where they are constant.
CASES = {
    "plain": dict(batch=1, length=5, channels=3, state=1, B=0, C=0),
    "everything": dict(batch=2, length=17, channels=4, state=16, B=1, C=1, **EVERYTHING),
    "grouped": dict(batch=2, length=21, channels=6, state=4, B=2, C=2, **EVERYTHING),
    "three_groups": dict(batch=1, length=9, channels=6, state=5, B=3, C=3, softplus=True),
    "constant_b": dict(batch=2, length=11, channels=5, state=7, B=0, C=1, D=True),
    "constant_c": dict(batch=2, length=11, channels=4, state=3, B=2, C=0, z=True),
    "constant_both": dict(batch=2, length=7, channels=5, state=8, B=0, C=0, **EVERYTHING),
    "bias_alone": dict(batch=1, length=13, channels=3, state=2, B=1, C=1, delta_bias=True),
    "one_step": dict(batch=3, length=1, channels=5, state=16, B=1, C=1, **EVERYTHING),
    "one_channel": dict(batch=1, length=33, channels=1, state=9, B=1, C=1, D=True, softplus=True),
    "many_channels": dict(batch=1, length=5, channels=37, state=16, B=1, C=1, **EVERYTHING),
    "long": dict(batch=1, length=301, channels=2, state=2, B=1, C=1, D=True, **SOFTPLUS),
    "as_initialized": dict(batch=1, length=65, channels=3, state=6, B=1, C=1, D=True, **SOFTPLUS),
    "complex_plain": dict(batch=1, length=5, channels=2, state=3, B=0, C=0, **COMPLEX),
    "complex_everything": dict(
        batch=2, length=19, channels=4, state=4, B=1, C=1, **EVERYTHING, **COMPLEX),
    "complex_grouped": dict(
        batch=1, length=11, channels=6, state=5, B=3, C=3, D=True, **SOFTPLUS, **COMPLEX),
    "complex_constant_b": dict(
        batch=2, length=7, channels=3, state=8, B=0, C=1, z=True, **COMPLEX),
    "complex_constant_c": dict(
        batch=1, length=15, channels=4, state=2, B=2, C=0, D=True, softplus=True, **COMPLEX),
    "complex_one_step": dict(
        batch=2, length=1, channels=3, state=16, B=1, C=1, **EVERYTHING, **COMPLEX),
}


def published_function(path):
    """selective_scan_ref alone, out of a module whose imports need a GPU."""
    tree = ast.parse(path.read_text())
    name = "selective_scan_ref"
    tree.body = [node for node in tree.body if getattr(node, "name", "") == name]
    names = dict(torch=torch, F=F, rearrange=rearrange, repeat=repeat)
    exec(compile(tree, str(path), "exec"), names)
    return names[name]


def check_complex_convention():
    """The gradient of |k|² is 2k by ∂/∂Re + i ∂/∂Im, and would be k or 2·conj(k) by others."""
    k = torch.tensor(0.5 + 2j, requires_grad=True)
    (k.real**2 + k.imag**2).backward()
    assert torch.equal(k.grad, 2 * k.detach())


def draw_inputs(name, case, seed):
    """Inputs in double, in ssm's layout, drawn as the published tests draw theirs."""
    random = torch.Generator().manual_seed(seed)
    real = torch.float64
    field = torch.complex128 if case.get("complex") else real
    batch, length, channels, state = (case[k] for k in ("batch", "length", "channels", "state"))

    def normal(*shape, dtype=real):
        return torch.randn(*shape, dtype=dtype, generator=random)

    def uniform(*shape):
        return 0.5 * torch.rand(*shape, dtype=real, generator=random)

    def selective(groups):
        shape = (batch, length, groups, state) if groups else (channels, state)
        return normal(*shape, dtype=field)

    inputs = dict(u=normal(batch, length, channels), delta=uniform(batch, length, channels))
    if name == "as_initialized":  # as Mamba starts: A = −1, −2, …, and steps of about 0.03
        inputs["A"] = -torch.arange(1, state + 1, dtype=real).repeat(channels, 1)
        inputs["delta"] -= 4
    else:
        inputs["A"] = -uniform(channels, state)
    if case.get("complex"):
        inputs["A"] = torch.complex(inputs["A"], 2 * normal(channels, state))
    inputs["B"] = selective(case["B"])
    inputs["C"] = selective(case["C"])
    if case.get("D"):
        inputs["D"] = normal(channels)
    if case.get("z"):
        inputs["z"] = normal(batch, length, channels)
    if case.get("delta_bias"):
        inputs["delta_bias"] = uniform(channels)
    loss = dict(y_gradient=normal(batch, length, channels),
                state_gradient=normal(batch, channels, state, dtype=field))
    return inputs, loss


def time_last(x):
    """(batch, length, channels) → (batch, channels, length), the layout of the published code."""
    return x.transpose(1, 2)


def their_selective(k):
    """A varying B or C → (batch, [groups,] state, length), complex pairs along the length."""
    if k.dim() == 2:
        return k
    k = k.permute(0, 2, 3, 1)
    if k.is_complex():
        k = torch.view_as_real(k).flatten(-2)
    return k.squeeze(1)  # one group is written without its extent


def run(scan, case, inputs, loss):
    """Outputs and gradients in the precision of the inputs."""
    inputs = {name: x.clone().requires_grad_() for name, x in inputs.items()}
    optional = {name: inputs.get(name) for name in ("D", "delta_bias")}
    if "z" in inputs:
        optional["z"] = time_last(inputs["z"])
    y, final_state = scan(time_last(inputs["u"]), time_last(inputs["delta"]), inputs["A"],
                          their_selective(inputs["B"]), their_selective(inputs["C"]), **optional,
                          delta_softplus=bool(case.get("softplus")), return_last_state=1)
    y = time_last(y)
    total = (y * loss["y_gradient"]).sum()
    total = total + (loss["state_gradient"].conj() * final_state).sum().real
    total.backward()
    results = dict(y=y, final_state=final_state)
    results.update({f"gradient/{name}": x.grad for name, x in inputs.items()})
    for name, x in inputs.items():
        assert x.grad.dtype == x.dtype, name
    return results


def stored(x):
    x = torch.view_as_real(x.detach().resolve_conj()) if x.is_complex() else x.detach()
    return x.contiguous().clone()


def single(tensors):
    narrow = {torch.float64: torch.float32, torch.complex128: torch.complex64}
    return {name: x.to(narrow[x.dtype]) for name, x in tensors.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=pathlib.Path, help="mamba-ssm's selective_scan_interface.py")
    scan = published_function(parser.parse_args().source)
    check_complex_convention()
    torch.set_num_threads(1)

    tensors = {}
    for seed, (name, case) in enumerate(CASES.items()):
        inputs, loss = draw_inputs(name, case, seed)
        in_single = run(scan, case, single(inputs), single(loss))
        with keep_double():
            in_double = run(scan, case, inputs, loss)
        for key, x in (inputs | loss).items():
            tensors[f"{name}/{key}"] = stored(x)
        for key, x in in_double.items():
            tensors[f"{name}/float64/{key}"] = stored(x)
            tensors[f"{name}/float32/{key}"] = stored(in_single[key])
            assert (x - in_single[key]).abs().max() <= 1e-4 * x.abs().max(), (name, key)
    softplus = ",".join(name for name, case in CASES.items() if case.get("softplus"))
    path = pathlib.Path(__file__).with_name("selective_scan.safetensors")
    save_file(tensors, path, metadata={"softplus": softplus})
    print(f"{path.name}: {len(CASES)} cases, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
