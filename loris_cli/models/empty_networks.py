"""Construction of networks without weights, for checkpoints that are loaded afterwards."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


@contextmanager
def empty_networks() -> Iterator[None]:
    """Build networks on the meta device: no memory for weights, no initialization.

    On the meta device random initialization imports the compiler of torch and sympy, which
    takes longer than loading the weights of ``mini``.
    """
    with torch.device("meta"), _SkipInitialization():
        yield


class _SkipInitialization(TorchFunctionMode):
    """Leave tensors as they are in ``torch.nn.init`` and empty in ``torch.randn``."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == torch.nn.init.__name__:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return torch.empty(*args, **kwargs) if func is torch.randn else func(*args, **kwargs)
