"""Makes mamba/: a tiny Mamba language model as transformers saves it, and what it computes.

The model is MambaForCausalLM of PyPI's transformers 4.39.3 (Apache-2.0) in its plain PyTorch path.
Made on Debian 12 with its python3-torch 1.13.1 and safetensors 0.8.0:

    apt-get install python3-torch python3-venv
    /usr/bin/python3 -m venv --system-site-packages /tmp/golden && . /tmp/golden/bin/activate
    pip install transformers==4.39.3 safetensors==0.8.0 'numpy<2'
    python -B tests/golden/make_mamba.py

mamba/config.json and mamba/model.safetensors are what save_pretrained writes; every weight is
random, biases and norms too, so that none can be left out unseen. mamba/expected.safetensors holds

    tokens                              (batch, length)
    <precision>/logits                  (batch, length, vocab)
    <precision>/loss                    (1), mean nats of tokens[:, 1:] given what stands before
    <precision>/gradient/<weight>       of that loss, by the weight's name in model.safetensors
    <precision>/conv_state/<layer>      (batch, conv_kernel − 1, inner), after the last token
    <precision>/scan_state/<layer>      (batch, inner, state), after the last token

<precision> is float32, or float64 from the same weights widened to double.
"""

import pathlib

import torch
from safetensors.torch import save_file
from transformers import MambaConfig, MambaForCausalLM

from keep_double import keep_double


def make_model():
    config = MambaConfig(vocab_size=32, hidden_size=16, state_size=8, num_hidden_layers=2,
                         conv_kernel=4, expand=2, time_step_rank=2, initializer_range=0.5)
    torch.manual_seed(2024)
    model = MambaForCausalLM(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return model


def run(model, tokens):
    model.zero_grad()
    with torch.no_grad():
        whole = model(tokens, use_cache=True)
    loss = model(tokens, labels=tokens, use_cache=False).loss
    loss.backward()
    results = dict(logits=whole.logits, loss=loss.detach().reshape(1))
    for name, weight in model.named_parameters():
        results[f"gradient/{name}"] = weight.grad
    for layer, state in whole.cache_params.conv_states.items():
        results[f"conv_state/{layer}"] = state[:, :, 1:].transpose(1, 2)
    for layer, state in whole.cache_params.ssm_states.items():
        results[f"scan_state/{layer}"] = state
    return {name: x.clone().contiguous() for name, x in results.items()}


def main():
    torch.set_num_threads(1)
    directory = pathlib.Path(__file__).with_name("mamba")
    model = make_model()
    model.save_pretrained(directory)
    (directory / "generation_config.json").unlink()  # defaults alone
    tokens = torch.randint(model.config.vocab_size, (2, 19))

    single = run(model, tokens)
    with keep_double():
        double = run(model.double(), tokens)
    expected = dict(tokens=tokens)
    for name, x in double.items():
        assert x.dtype == torch.float64 and single[name].dtype == torch.float32, name
        assert (x - single[name]).abs().max() <= 1e-4 * x.abs().max(), name
        expected[f"float64/{name}"] = x
        expected[f"float32/{name}"] = single[name]
    save_file(expected, directory / "expected.safetensors")
    for path in sorted(directory.iterdir()):
        print(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
