"""Files that a network has and this machine has not: fetched when needed, whole or not at all.

address -> hidden file beside the place -> checksum -> rename
"""

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from loris_cli.errors import OutputError, WeightsError
from loris_cli.system.atomic_files import atomic_write, printable_path
from loris_cli.system.progress import Reporter

CONNECT_READ_TIMEOUTS_S = (10.0, 30.0)
"""To be connected, and of silence after that."""
CHUNK_BYTES = 1 << 16
MAX_ATTEMPTS = 3
"""A connection that breaks on the way is begun anew so many times, from the first byte."""


def download_file(
    url: str,
    path: Path,
    *,
    sha256: str | None,
    manual_hint: str,
    offline: bool,
    reporter: Reporter,
) -> str:
    """Fetch a file.

    Args:
        url: where from.
        path: where to; its folder is made. What is there afterwards came whole.
        sha256: that the file must have; None where nobody knows it beforehand.
        manual_hint: for those without a network: what to put where.
        offline: whether the network may not be asked.
        reporter: whom to tell how far it is.

    Returns:
        the file's sha256.

    Raises:
        WeightsError: there is no network, or what came is another file.
        OutputError: it cannot be written.
    """
    name = printable_path(path.name)
    if offline:
        raise WeightsError(
            f"{name} is not here, and nothing is to be fetched", hint=manual_hint
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{printable_path(path.parent)} cannot be made: {error.strerror}",
            hint="name another folder in LORIS_CACHE",
        ) from error
    with atomic_write(path, overwrite=True) as part:
        try:
            _download_with_retries(url, part, reporter, name)
        except OSError as error:
            if error.errno is not None:  # the disk's; those of requests have no number
                raise
            raise WeightsError(
                f"{name} could not be fetched from {url}", hint=manual_hint
            ) from error
        with part.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if sha256 not in (None, digest):
            raise WeightsError(
                f"what {url} gives is another file than the {name} that is known:"
                f" its SHA-256 is {digest[:12]}..., not {str(sha256)[:12]}...",
                hint=manual_hint,
            )
    return digest


def _download_with_retries(
    url: str, temporary_path: Path, reporter: Reporter, display_name: str
) -> None:
    """Write what an address gives, from the start again where the connection breaks."""
    import pooch  # here: it is slow to import, and most runs fetch nothing

    for left in reversed(range(MAX_ATTEMPTS)):
        stack = ExitStack()
        bar = _DownloadProgress(stack, reporter, f"fetching {display_name}")
        load = pooch.HTTPDownloader(
            bar, chunk_size=CHUNK_BYTES, timeout=CONNECT_READ_TIMEOUTS_S
        )
        try:
            with stack:
                load(url, str(temporary_path), None)
        except OSError:
            if not left or not bar.received:
                raise
        else:
            return


class _DownloadProgress:
    """What pooch tells of a download, told on; it knows the length only when it has begun."""

    def __init__(self, stack: ExitStack, reporter: Reporter, name: str) -> None:
        self._stack, self._reporter, self._name = stack, reporter, name
        self._advance: Callable[[int], None] = _ignore_progress
        self._total = 0
        self.received = 0

    @property
    def total(self) -> int:
        """Bytes that will come; 0 where the other side does not say."""
        return self._total

    @total.setter
    def total(self, n_bytes: int) -> None:
        self._total = n_bytes
        stage = self._reporter.stage(self._name, n_bytes or None)
        self._advance = self._stack.enter_context(stage)

    def update(self, n_bytes: int) -> None:
        """So many more are there; of the last part pooch tells more than came."""
        more = min(n_bytes, self._total - self.received) if self._total else n_bytes
        self.received += more
        self._advance(more)

    def reset(self) -> None:
        """Pooch begins the bar anew to fill it."""
        self._advance = _ignore_progress

    def close(self) -> None:
        """The stage ends with the download."""


def _ignore_progress(n_bytes: int) -> None:
    """Where progress goes before it begins and after its end."""
