"""Lets published float32 code run in double."""

import contextlib

import torch


@contextlib.contextmanager
def keep_double():
    """Makes every cast of a double tensor to float32 a no-op.

    The published functions cast to float32 whatever they are given. Inside this context nothing
    else about them changes, so what they compute is their own formula in double arithmetic.
    """
    to_float, to = torch.Tensor.float, torch.Tensor.to
    wide = (torch.float64, torch.complex128)

    def kept_float(self):
        return self if self.dtype in wide else to_float(self)

    def kept_to(self, *args, **kwargs):
        narrows = torch.float32 in args or kwargs.get("dtype") == torch.float32
        return self if narrows and self.dtype in wide else to(self, *args, **kwargs)

    torch.Tensor.float, torch.Tensor.to = kept_float, kept_to
    try:
        yield
    finally:
        torch.Tensor.float, torch.Tensor.to = to_float, to
