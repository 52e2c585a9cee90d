"""Counts what is sent from the CPU to a device."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class HostToDeviceCopyCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered: ``n_copies`` copies from the CPU to the device."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device, self.n_copies = device, 0

    def __torch_dispatch__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        with self:  # in inference mode composite operations come as they are
            made = function.decompose(*args, **kwargs)  # type: ignore[attr-defined]
        if made is not NotImplemented:
            return made
        made = function(*args, **kwargs)
        if function is torch.ops.aten._to_copy.default:
            self.n_copies += args[0].device.type == "cpu" and made.device == self.device
        return made
