"""Downloads of weights, checked by their SHA-256 and written atomically.

address -> hidden file in the same folder -> checksum -> rename
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from loris_cli.errors import OutputError, WeightsError
from loris_cli.system.atomic_files import atomic_write
from loris_cli.system.file_fingerprints import compute_sha256
from loris_cli.system.progress import Reporter

TIMEOUTS_S = (10.0, 30.0)
"""Longest time to connect, and without data after that."""
CHUNK_BYTES = 1 << 16
MAX_ATTEMPTS = 3
"""A download with a broken connection starts again from the first byte this many times."""


def download_file(
    url: str,
    path: Path,
    *,
    sha256: str | None,
    manual_hint: str,
    offline: bool,
    reporter: Reporter,
) -> str:
    """Download a file.

    Not ``pooch.retrieve``: it downloads again where the address does not exist, and its errors
    have no hints.

    Args:
        url: its address.
        path: path of the file; its folder is made. A file there afterwards is complete.
        sha256: expected SHA-256; None where it is not known beforehand.
        manual_hint: which file to put where if there is no network.
        offline: whether the network must not be used.
        reporter: reporter of the progress.

    Returns:
        the file's sha256.

    Raises:
        WeightsError: there is no network, or the checksum is another.
        OutputError: the file cannot be written.
    """
    name = path.name
    if offline:
        raise WeightsError(f"{name} is missing, and downloads are disabled", hint=manual_hint)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        hint = "name another folder in LORIS_CACHE"
        raise OutputError(f"cannot make {path.parent}: {error.strerror}", hint=hint) from error
    with atomic_write(path, overwrite=True) as temporary_path:
        try:
            _download_with_retries(url, temporary_path, reporter, name)
        except OSError as error:
            if error.errno is not None:  # the disk's; those of requests have no number
                raise
            raise WeightsError(f"cannot fetch {name} from {url}", hint=manual_hint) from error
        digest = compute_sha256(temporary_path)
        if sha256 not in (None, digest):
            message = f"the SHA-256 of {url} is {digest[:12]}..., not {str(sha256)[:12]}..."
            raise WeightsError(message, hint=manual_hint)
    return digest


def _download_with_retries(url: str, path: Path, reporter: Reporter, name: str) -> None:
    import pooch  # here: it is slow to import, and most runs download nothing

    for n_left in reversed(range(MAX_ATTEMPTS)):
        bar = _DownloadProgress(reporter, f"fetching {name}")
        download = pooch.HTTPDownloader(bar, chunk_size=CHUNK_BYTES, timeout=TIMEOUTS_S)
        try:
            with bar.stack:
                download(url, str(path), None)
            return
        except OSError:
            if not n_left or not bar.received:
                raise


class _DownloadProgress:
    """Progress bar in the form that pooch requires."""

    def __init__(self, reporter: Reporter, name: str) -> None:
        self.stack = ExitStack()
        self.total = 0
        """Bytes in all, set when the download has begun; 0 where the server does not say."""
        self.received = 0
        self._reporter, self._name = reporter, name
        self._advance: Callable[..., None] | None = None

    def update(self, n_bytes: int) -> None:
        """Count more bytes; of the last chunk pooch counts more than came."""
        if self._advance is None:
            stage = self._reporter.stage(self._name, self.total or None)
            self._advance = self.stack.enter_context(stage)
        n_bytes = min(n_bytes, self.total - self.received) if self.total else n_bytes
        self.received += n_bytes
        self._advance(n_bytes)

    def reset(self) -> None:
        """Do nothing: pooch calls it to fill the bar, which `update` never overfills."""

    def close(self) -> None:
        """Do nothing: the stage ends with the download."""
