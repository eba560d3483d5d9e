"""Makes attention.safetensors: the attention and the gated multilayer perceptron of Llama as
transformers computes them.

They are LlamaAttention and LlamaMLP of PyPI's transformers 4.39.3 (Apache-2.0) in their plain
PyTorch path. Made on Debian 12 with its python3-torch 1.13.1 and safetensors 0.8.0:

    apt-get install python3-torch python3-venv
    /usr/bin/python3 -m venv --system-site-packages /tmp/golden && . /tmp/golden/bin/activate
    pip install transformers==4.39.3 safetensors==0.8.0 'numpy<2'
    python -B tests/golden/make_attention.py

Every tensor is in float32, computed in double from weights and inputs that float32 holds; the
cosines of the rotary positions and the softmax are what transformers makes of them in float32. The
file holds for each of `attention` and `mlp`

    <case>/weight/<name>      the weights, under their names in Llama
    <case>/input              (batch, length, width)
    <case>/output             (batch, length, width)
    <case>/gradient/<name>    of Σ output ∘ doutput, by each weight and by `input`
    <case>/doutput            (batch, length, width)
"""

import pathlib

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaMLP

BATCH, LENGTH, WIDTH = 2, 9, 16


def config():
    return LlamaConfig(hidden_size=WIDTH, intermediate_size=24, num_attention_heads=4,
                       num_key_value_heads=2, rope_theta=100.0, max_position_embeddings=64)


def attend(layer, x):
    seen = torch.full((LENGTH, LENGTH), torch.finfo(x.dtype).min, dtype=x.dtype).triu(1)
    positions = torch.arange(LENGTH).expand(BATCH, LENGTH)
    return layer(x, attention_mask=seen.expand(BATCH, 1, LENGTH, LENGTH),
                 position_ids=positions)[0]


def run(name, layer, forward):
    layer = layer.double()
    with torch.no_grad():
        for weight in layer.parameters():
            weight.copy_(torch.randn_like(weight).mul(0.5).float())
    x = torch.randn(BATCH, LENGTH, WIDTH).double().requires_grad_()
    doutput = torch.randn(BATCH, LENGTH, WIDTH).double()
    y = forward(layer, x)
    (y * doutput).sum().backward()
    results = {f"{name}/input": x, f"{name}/output": y, f"{name}/doutput": doutput,
               f"{name}/gradient/input": x.grad}
    for its, weight in layer.named_parameters():
        results[f"{name}/weight/{its}"] = weight
        results[f"{name}/gradient/{its}"] = weight.grad
    for its, tensor in results.items():
        assert tensor.dtype == torch.float64, its
    return {its: tensor.detach().float().contiguous() for its, tensor in results.items()}


def main():
    torch.set_num_threads(1)
    torch.manual_seed(2026)
    results = run("attention", LlamaAttention(config(), layer_idx=0), attend)
    results.update(run("mlp", LlamaMLP(config()), lambda layer, x: layer(x)))
    path = pathlib.Path(__file__).with_name("attention.safetensors")
    save_file(results, path)
    print(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
