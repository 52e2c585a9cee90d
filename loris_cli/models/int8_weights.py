"""Weights in 8 bits, to ship networks in a quarter of their size.

float matrix -> scale of each row, integers from -127 to 127 -> float matrix

Vectors, such as biases and gains, keep their type: they are small, and errors in them are not
averaged.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

SCALE_SUFFIX = ".int8_scale"
MAX_INT8 = 127


def quantize_int8(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict whose float tensors of two and more axes are in 8 bits.

    Args:
        state_dict: tensors by name.

    Returns:
        tensors by name; those in 8 bits have a scale of each row, ``(rows,)``, beside them.
    """
    quantized = {}
    for name, value in state_dict.items():
        if value.ndim < 2 or not value.is_floating_point():
            quantized[name] = value
            continue
        rows = value.detach().float().flatten(1)
        scale = (rows.abs().amax(dim=1) / MAX_INT8).clamp(min=1e-12)
        quantized[name] = (rows / scale[:, None]).round().to(torch.int8).reshape(value.shape)
        quantized[name + SCALE_SUFFIX] = scale
    return quantized


def dequantize_int8(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of `quantize_int8`, with its errors of rounding.

    Args:
        tensors: tensors by name; those without a scale are returned unchanged.

    Raises:
        ValueError: a scale does not fit its tensor.
    """
    state_dict = {}
    for name, value in tensors.items():
        if name.endswith(SCALE_SUFFIX):
            continue
        scale = tensors.get(name + SCALE_SUFFIX)
        if scale is not None:
            if value.ndim < 2 or value.dtype != torch.int8 or scale.shape != value.shape[:1]:
                raise ValueError(f"invalid scale of {name}")
            value = value.float() * scale.reshape(-1, *[1] * (value.ndim - 1))
        state_dict[name] = value
    return state_dict
