#!/usr/bin/env python3
"""Pictures per second at which PyTorch trains the S4D classifier of examples/fashion_mnist.

The model is that of `fashion_mnist train --mixer s4d` with its defaults: the same blocks, sizes,
dropout, loss and AdamW, on batches of 784 pixels drawn at random. The S4D layer is computed as its
authors do: the kernel by a Vandermonde product, the convolution by FFT (Gu, Gupta, Goel & Re 2022,
section 3). Compare with the pictures/s that `fashion_mnist train --threads N` prints.

    python3 bench/pytorch_s4d_epoch.py --threads 2
"""

import argparse
import math
import time

import torch
import torch.nn.functional as F
from torch import nn


class S4D(nn.Module):
    def __init__(self, width, state):
        super().__init__()
        modes = state // 2
        self.log_delta = nn.Parameter(torch.empty(width).uniform_(math.log(1e-3), math.log(1e-1)))
        self.log_decay = nn.Parameter(torch.full((width, modes), math.log(0.5)))
        self.frequency = nn.Parameter(math.pi * torch.arange(modes).repeat(width, 1).float())
        self.B = nn.Parameter(torch.ones(width, modes, 2))
        self.C = nn.Parameter(torch.randn(width, modes, 2) * math.sqrt(0.5))
        self.D = nn.Parameter(torch.randn(width))

    def forward(self, u):  # (batch, width, length)
        length = u.shape[-1]
        pole = torch.complex(-torch.exp(self.log_decay), self.frequency)
        step = pole * torch.exp(self.log_delta)[:, None]
        C = torch.view_as_complex(self.B) * torch.view_as_complex(self.C)
        C = C * (torch.exp(step) - 1) / pole
        powers = torch.exp(step[..., None] * torch.arange(length))
        kernel = 2 * torch.einsum("hn,hnl->hl", C, powers).real
        spectrum = torch.fft.rfft(u, n=2 * length) * torch.fft.rfft(kernel, n=2 * length)
        return torch.fft.irfft(spectrum, n=2 * length)[..., :length] + self.D[:, None] * u


class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * self.weight


class Block(nn.Module):
    def __init__(self, width, state, dropout):
        super().__init__()
        self.norm = Norm(width)
        self.s4d = S4D(width, state)
        self.out = nn.Linear(width, 2 * width)
        self.dropout = dropout

    def forward(self, x):  # (batch, length, width)
        y = self.s4d(self.norm(x).transpose(1, 2)).transpose(1, 2)
        y = F.dropout(F.gelu(y), self.dropout)
        return x + F.dropout(F.glu(self.out(y)), self.dropout)


class Classifier(nn.Module):
    def __init__(self, width, state, layers, dropout):
        super().__init__()
        self.encoder = nn.Linear(1, width)
        self.blocks = nn.Sequential(*(Block(width, state, dropout) for _ in range(layers)))
        self.norm = Norm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, u):
        return self.head(self.norm(self.blocks(self.encoder(u))).mean(1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--state", type=int, default=32)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--steps", type=int, default=11)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    model = Classifier(a.width, a.state, a.layers, 0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    rates = []
    for _ in range(a.steps):
        u, labels = torch.randn(a.batch, 784, 1), torch.randint(10, (a.batch,))
        start = time.perf_counter()
        optimizer.zero_grad()
        F.cross_entropy(model(u), labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rates.append(a.batch / (time.perf_counter() - start))
    rate = sorted(rates[1:])[len(rates[1:]) // 2]
    print(
        f"PyTorch {torch.__version__}, {a.threads} threads: median {rate:.1f} pictures/s, "
        f"{60000 / rate:.0f} s an epoch"
    )


if __name__ == "__main__":
    main()
