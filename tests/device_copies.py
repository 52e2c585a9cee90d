"""Counter of the tensors that are copied from the CPU to a device."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class HostToDeviceCopyCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Context manager that counts the copies from the CPU to a device in ``n_copies``."""

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
        # Inference mode passes composite operations, whose copies are inside.
        with self:
            result = function.decompose(*args, **kwargs)  # type: ignore[attr-defined]
        if result is not NotImplemented:
            return result
        result = function(*args, **kwargs)
        if function is torch.ops.aten._to_copy.default:
            self.n_copies += args[0].device.type == "cpu" and result.device == self.device
        return result
