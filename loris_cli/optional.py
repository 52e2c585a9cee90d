"""The one door to packages that a plain install does not bring."""

import importlib
from typing import Any

from loris_cli.errors import MissingDependencyError

# Packages whose metadata cannot be resolved beside ours: an extra would fail, so the hint
# is the commands that do install them.
BY_HAND = {
    "mmpose": (
        "pip install torch==2.14.1 torchvision==0.29.1 mmcv-lite==2.2.0 mmengine==0.11.0rc3"
        " json-tricks munkres xtcocotools==1.14.3 && pip install --no-deps mmpose==1.3.2"
    ),
    "spleeter": (
        "pip install tensorflow-cpu==2.15.1 norbert ffmpeg-python 'httpx[http2]' pandas"
        " && pip install --no-deps spleeter==2.4.2"
    ),
}


def require(module: str, *, extra: str, purpose: str) -> Any:
    """Import an optional module, or say how to get it.

    Args:
        module: importable name, e.g. ``"tensorboard"``.
        extra: name of our extra that installs it; unused for the packages in ``BY_HAND``.
        purpose: what it is needed for, as the end of "... is needed to".

    Raises:
        MissingDependencyError: the module itself is absent. A module that is there
            but fails inside (a broken CUDA wheel, say) keeps its own error.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name != package:
            raise
        raise MissingDependencyError(
            f"{package} is needed to {purpose}",
            hint=BY_HAND.get(package, f"pip install 'loris[{extra}]'"),
        ) from error
