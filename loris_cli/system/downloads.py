"""Files that a network has and this machine has not: fetched when needed, whole or not at all.

address -> hidden file beside the place -> checksum -> rename
"""

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from loris_cli.errors import OutputError, WeightsError
from loris_cli.system.atomic_files import printable, replacing
from loris_cli.system.progress import Reporter

TIMEOUTS_S = (10.0, 30.0)
"""To be connected, and of silence after that."""
CHUNK_BYTES = 1 << 16
TRIES = 3
"""A connection that breaks on the way is begun anew so many times, from the first byte."""


def fetch(
    url: str,
    place: Path,
    *,
    sha256: str | None,
    instead: str,
    offline: bool,
    reporter: Reporter,
) -> str:
    """Fetch a file.

    Args:
        url: where from.
        place: where to; its folder is made. What is there afterwards came whole.
        sha256: that the file must have; None where nobody knows it beforehand.
        instead: for those without a network: what to put where.
        offline: whether the network may not be asked.
        reporter: whom to tell how far it is.

    Returns:
        the file's sha256.

    Raises:
        WeightsError: there is no network, or what came is another file.
        OutputError: it cannot be written.
    """
    name = printable(place.name)
    if offline:
        raise WeightsError(f"{name} is not here, and nothing is to be fetched", hint=instead)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{printable(place.parent)} cannot be made: {error.strerror}",
            hint="name another folder in LORIS_CACHE",
        ) from error
    with replacing(place, overwrite=True) as part:
        try:
            _download(url, part, reporter, name)
        except OSError as error:
            if error.errno is not None:  # the disk's; those of requests have no number
                raise
            raise WeightsError(
                f"{name} could not be fetched from {url}", hint=instead
            ) from error
        with part.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if sha256 not in (None, digest):
            raise WeightsError(
                f"what {url} gives is another file than the {name} that is known:"
                f" its SHA-256 is {digest[:12]}..., not {str(sha256)[:12]}...",
                hint=instead,
            )
    return digest


def _download(url: str, part: Path, reporter: Reporter, name: str) -> None:
    """Write what an address gives, from the start again where the connection breaks."""
    import pooch  # here: it is slow to import, and most runs fetch nothing

    for left in reversed(range(TRIES)):
        stack = ExitStack()
        bar = _Bar(stack, reporter, f"fetching {name}")
        load = pooch.HTTPDownloader(bar, chunk_size=CHUNK_BYTES, timeout=TIMEOUTS_S)
        try:
            with stack:
                load(url, str(part), None)
        except OSError:
            if not left or not bar.received:
                raise
        else:
            return


class _Bar:
    """What pooch tells of a download, told on; it knows the length only when it has begun."""

    def __init__(self, stack: ExitStack, reporter: Reporter, name: str) -> None:
        self._stack, self._reporter, self._name = stack, reporter, name
        self._advance: Callable[[int], None] = _nowhere
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
        self._advance = _nowhere

    def close(self) -> None:
        """The stage ends with the download."""


def _nowhere(n_bytes: int) -> None:
    """Where progress goes before it begins and after its end."""
