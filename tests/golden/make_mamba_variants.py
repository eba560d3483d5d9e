"""Makes mamba_variants/: Mamba language models in the forms in which they are published.

The models are MambaForCausalLM and FalconMambaForCausalLM of PyPI's transformers 4.45.2
(Apache-2.0) in their plain PyTorch path. Made on Debian 12 with its python3-torch 1.13.1 and
safetensors 0.8.0:

    apt-get install python3-torch python3-venv
    /usr/bin/python3 -m venv --system-site-packages /tmp/golden && . /tmp/golden/bin/activate
    pip install transformers==4.45.2 safetensors==0.8.0 'numpy<2'
    python -B tests/golden/make_mamba_variants.py

Each folder holds what save_pretrained writes, and expected.safetensors with `tokens` (batch,
length) and `logits` (batch, length, vocab) in float32, of the weights as they are in the files.
Every weight is random, biases and norms too, so that none can be left out unseen.

    biases        biases of in_proj and out_proj; head tied
    untied        no bias of the convolution, a head of its own, the vocabulary resized
    falcon_mamba  norms of dt, B and C; inner channels that are no multiple of the width
    sharded       several files of bfloat16 beside an index
    half          float16, saved without the head: no `backbone.` in the names
    original      names and config of state-spaces/mamba, written here, the vocabulary padded
    caduceus      names and config of Caduceus, written here: two MambaMixers a block, one over the
                  sequence from its end, as the published code, which needs a GPU, adds them up

With a folder as its argument it makes all of them at the size of mamba-130m in there; then

    SSM_GOLDEN_MAMBA=that/folder build/tests/models/ssm_test_models_plain "[large]"

holds the library against them.
"""

import json
import pathlib
import shutil
import sys

import torch
from safetensors.torch import save_file
from transformers import (FalconMambaConfig, FalconMambaForCausalLM, MambaConfig, MambaForCausalLM)

LARGE = len(sys.argv) > 1
SIZES = (dict(vocab_size=50280, hidden_size=768, state_size=16, num_hidden_layers=24,
              time_step_rank=48, initializer_range=0.02)
         if LARGE else
         dict(vocab_size=24, hidden_size=8, state_size=4, num_hidden_layers=2, time_step_rank=2,
              initializer_range=0.5))
RESIZED, UNPADDED = (50277, 50277) if LARGE else (29, 21)
INNER = 1100 if LARGE else 20
SHARD = "100MB" if LARGE else "2KB"


def make(model_class, config, seed=2025):
    torch.manual_seed(seed)
    model = model_class(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += (0.02 if LARGE else 0.1) * torch.randn_like(weight)
    return model


def rounded(model, dtype):
    """The model with weights that a file of this type holds exactly."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.to(dtype).float())
    return model


def expect(model, folder):
    tokens = torch.randint(model.config.vocab_size, (2, 13))
    with torch.no_grad():
        logits = model(tokens, use_cache=False).logits
    assert logits.dtype == torch.float32
    save_file(dict(tokens=tokens, logits=logits.contiguous()), folder / "expected.safetensors")


def save(model, folder, what=None, **options):
    """What the model computes, and the files of `what`, or of the model itself."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    expect(model, folder)
    what = what() if what else model
    what.save_pretrained(folder, **options)
    (folder / "generation_config.json").unlink(missing_ok=True)  # defaults alone


def save_original(model, folder):
    """As MambaLMHeadModel.save_pretrained of state-spaces/mamba: the config of its constructor."""
    save(model, folder)
    weights = {name.replace("embeddings", "embedding"): weight.contiguous()
               for name, weight in model.state_dict().items() if name != "lm_head.weight"}
    save_file(weights, folder / "model.safetensors", metadata=dict(format="pt"))
    config = dict(d_model=SIZES["hidden_size"], d_intermediate=0,
                  n_layer=SIZES["num_hidden_layers"], vocab_size=UNPADDED,
                  ssm_cfg=dict(layer="Mamba1", d_state=SIZES["state_size"],
                               dt_rank=SIZES["time_step_rank"], bias=True, conv_bias=False),
                  attn_layer_idx=[], attn_cfg={}, rms_norm=True, residual_in_fp32=True,
                  fused_add_norm=True, pad_vocab_size_multiple=8, tie_embeddings=True)
    (folder / "config.json").write_text(json.dumps(config, indent=4))


def save_caduceus(folder):
    config = MambaConfig(**SIZES)
    ahead = make(MambaForCausalLM, config)
    back = make(MambaForCausalLM, config, seed=7)
    weights = {}
    model = ahead.backbone
    for i, (block, other) in enumerate(zip(model.layers, back.backbone.layers)):
        other.mixer.in_proj, other.mixer.out_proj = block.mixer.in_proj, block.mixer.out_proj
        prefix = f"caduceus.backbone.layers.{i}."
        weights[prefix + "norm.weight"] = block.norm.weight
        for name, weight in block.mixer.named_parameters():
            weights[prefix + "mixer.mamba_fwd." + name] = weight
        for name, weight in other.mixer.named_parameters():
            if not name.startswith(("in_proj", "out_proj")):  # save_pretrained keeps one of two
                weights[prefix + "mixer.mamba_rev." + name] = weight
    weights["caduceus.backbone.embeddings.word_embeddings.weight"] = model.embeddings.weight
    weights["caduceus.backbone.norm_f.weight"] = model.norm_f.weight

    tokens = torch.randint(SIZES["vocab_size"], (2, 13))
    with torch.no_grad():
        x = model.embeddings(tokens)
        for block, other in zip(model.layers, back.backbone.layers):
            u = block.norm(x)
            x = x + block.mixer(u) + other.mixer(u.flip(1)).flip(1)
        logits = model.norm_f(x) @ model.embeddings.weight.T
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save_file(dict(tokens=tokens, logits=logits.contiguous()), folder / "expected.safetensors")
    save_file({name: weight.detach().contiguous() for name, weight in weights.items()},
              folder / "model.safetensors", metadata=dict(format="pt"))
    config = dict(architectures=["CaduceusForMaskedLM"], model_type="caduceus",
                  bidirectional=True, bidirectional_strategy="add", bidirectional_weight_tie=True,
                  d_model=SIZES["hidden_size"], n_layer=SIZES["num_hidden_layers"],
                  vocab_size=SIZES["vocab_size"], norm_epsilon=1e-5, pad_vocab_size_multiple=8,
                  rcps=False, residual_in_fp32=False, rms_norm=True, fused_add_norm=True,
                  ssm_cfg=dict(d_state=SIZES["state_size"], d_conv=4, expand=2,
                               dt_rank=SIZES["time_step_rank"], bias=False, conv_bias=True))
    (folder / "config.json").write_text(json.dumps(config, indent=2))


def main():
    torch.set_num_threads(1)
    root = pathlib.Path(sys.argv[1]) if LARGE else pathlib.Path(__file__).with_name("mamba_variants")

    save(make(MambaForCausalLM, MambaConfig(use_bias=True, **SIZES)), root / "biases")

    model = make(MambaForCausalLM, MambaConfig(use_conv_bias=False, tie_word_embeddings=False,
                                               **SIZES))
    model.resize_token_embeddings(RESIZED)
    save(model, root / "untied")

    config = FalconMambaConfig(tie_word_embeddings=False, expand=16, intermediate_size=INNER,
                               mixer_rms_eps=1e-3, **SIZES)
    save(make(FalconMambaForCausalLM, config), root / "falcon_mamba")

    model = rounded(make(MambaForCausalLM, MambaConfig(**SIZES)), torch.bfloat16)
    save(model, root / "sharded", model.bfloat16, max_shard_size=SHARD)

    model = rounded(make(MambaForCausalLM, MambaConfig(**SIZES)), torch.float16)
    save(model, root / "half", model.backbone.half)

    save_original(make(MambaForCausalLM, MambaConfig(use_bias=True, use_conv_bias=False, **SIZES)),
                  root / "original")
    save_caduceus(root / "caduceus")
    for path in sorted(root.rglob("*.*")):
        print(f"{path.relative_to(root)}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
