"""Convolution with weight normalization (Salimans and Kingma, NeurIPS 2016).

That of torch is not used: its arithmetic on the meta device, on which checkpoints are loaded
(`empty_networks`), imports the compiler of torch and sympy.
"""

from typing import Any

import torch
from torch import Tensor, nn


class WeightNormConv1d(nn.Conv1d):
    """Convolution whose weight has the direction of ``weight`` and the norm ``gain``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Build the convolution; the arguments are those of `torch.nn.Conv1d`."""
        super().__init__(*args, **kwargs)
        gain = torch.empty(self.out_channels, 1, 1)
        if not gain.is_meta:
            gain.copy_(_compute_norm(self.weight.detach()))
        self.gain = nn.Parameter(gain)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, in_channels, length)`` to ``(batch, out_channels, length)``."""
        weight = self.weight * (self.gain / _compute_norm(self.weight))
        out: Tensor = self._conv_forward(x, weight, self.bias)
        return out


def _compute_norm(weight: Tensor) -> Tensor:
    """Return the norm of the weights of each output channel, ``(out_channels, 1, 1)``."""
    return torch.sqrt(weight.square().sum(dim=(1, 2), keepdim=True))
