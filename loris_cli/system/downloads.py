"""Downloads of weights, verified by SHA-256 and written atomically.

URL -> hidden temporary file in the same folder -> checksum -> rename
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from loris_cli.errors import OutputError, WeightsError
from loris_cli.system.atomic_files import atomic_write
from loris_cli.system.file_fingerprints import compute_sha256
from loris_cli.system.progress import Reporter

TIMEOUTS_S = (10.0, 30.0)
"""Timeouts for connecting and for receiving data."""
CHUNK_BYTES = 1 << 16
MAX_ATTEMPTS = 3
"""Number of attempts; after a lost connection a download restarts from the first byte."""


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

    ``pooch.retrieve`` is not used: it also retries if the URL does not exist, and its errors
    have no hints.

    Args:
        url: URL of the file.
        path: output file, complete or absent afterwards; its folder is created.
        sha256: expected SHA-256; None if unknown.
        manual_hint: hint for downloading without network: which file to put where.
        offline: whether downloads are disabled.
        reporter: receives the progress.

    Returns:
        SHA-256 of the file.

    Raises:
        WeightsError: the download is disabled or fails, or the SHA-256 does not match.
        OutputError: the file cannot be written.
    """
    name = path.name
    if offline:
        raise WeightsError(f"{name} is missing, and downloads are disabled", hint=manual_hint)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        hint = "set LORIS_CACHE to another folder"
        raise OutputError(
            f"cannot create {path.parent}: {error.strerror}", hint=hint
        ) from error
    with atomic_write(path, overwrite=True) as temporary_path:
        try:
            _download_with_retries(url, temporary_path, reporter, name)
        except OSError as error:
            if error.errno is not None:  # a disk error: errors of requests have no errno
                raise
            raise WeightsError(f"cannot fetch {name} from {url}", hint=manual_hint) from error
        digest = compute_sha256(temporary_path)
        if sha256 not in (None, digest):
            message = (
                f"the SHA-256 of {url} is {digest[:12]}..., expected {str(sha256)[:12]}..."
            )
            raise WeightsError(message, hint=manual_hint)
    return digest


def _download_with_retries(url: str, path: Path, reporter: Reporter, name: str) -> None:
    import pooch  # imported here: it is slow to import, and most runs download nothing

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
    """Progress bar with the interface that pooch expects."""

    def __init__(self, reporter: Reporter, name: str) -> None:
        self.stack = ExitStack()
        self.total = 0
        """Size in bytes, set when the download starts; 0 if the server does not send it."""
        self.received = 0
        self._reporter, self._name = reporter, name
        self._advance: Callable[..., None] | None = None

    def update(self, n_bytes: int) -> None:
        """Add received bytes; pooch counts the last chunk as a full one."""
        if self._advance is None:
            stage = self._reporter.stage(self._name, self.total or None)
            self._advance = self.stack.enter_context(stage)
        n_bytes = min(n_bytes, self.total - self.received) if self.total else n_bytes
        self.received += n_bytes
        self._advance(n_bytes)

    def reset(self) -> None:
        """Do nothing: pooch calls this before it fills the bar, which is already full."""

    def close(self) -> None:
        """Do nothing: the stage ends with the download."""
