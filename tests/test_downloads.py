"""Downloads from an HTTP server in this process."""

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from loris_cli.errors import OutputError, WeightsError
from loris_cli.system.downloads import download_file
from loris_cli.system.progress import NullReporter

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HINT = "copy the weights by hand"


class WeightsServer(HTTPServer):
    """HTTP server of ``CONTENT`` whose first ``n_incomplete`` responses are incomplete."""

    n_incomplete = 0
    n_requests = 0
    url = ""


class RequestHandler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, WeightsServer)
        server.n_requests += 1
        if self.path != "/weights.pt":
            self.send_error(404)
            return
        is_complete = server.n_requests > server.n_incomplete
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT if is_complete else CONTENT[:100_000])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing."""


@pytest.fixture
def server() -> Iterator[WeightsServer]:
    with WeightsServer(("127.0.0.1", 0), RequestHandler) as http_server:
        http_server.url = f"http://127.0.0.1:{http_server.server_port}/weights.pt"
        thread = threading.Thread(target=http_server.serve_forever, args=(0.01,))
        thread.start()
        yield http_server
        http_server.shutdown()
        thread.join()


class RecordingReporter(NullReporter):
    """Reporter that records the name, the total and the progress of each stage."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, float | None, float]] = []

    def stage(
        self, name: str, total: float | None = None
    ) -> AbstractContextManager[Callable[..., None]]:
        @contextmanager
        def open_stage() -> Iterator[Callable[..., None]]:
            done = 0.0

            def advance(n: float = 1.0) -> None:
                nonlocal done
                done += n

            yield advance
            self.stages.append((name, total, done))

        return open_stage()


def download(url: str, path: Path, **options: Any) -> str:
    defaults: dict[str, Any] = {
        "sha256": None,
        "manual_hint": HINT,
        "offline": False,
        "reporter": NullReporter(),
    }
    return download_file(url, path, **{**defaults, **options})


def test_a_file_is_downloaded_completely_with_its_progress(
    server: WeightsServer, tmp_path: Path
) -> None:
    path, recorder = tmp_path / "new" / "weights.pt", RecordingReporter()

    assert download(server.url, path, sha256=SHA256, reporter=recorder) == SHA256

    assert path.read_bytes() == CONTENT
    ((name, total, done),) = recorder.stages
    assert "weights.pt" in name
    assert total == done == len(CONTENT)
    assert list(path.parent.iterdir()) == [path]


def test_the_hash_is_returned_if_none_is_expected(
    server: WeightsServer, tmp_path: Path
) -> None:
    assert download(server.url, tmp_path / "a.pt") == SHA256


def test_a_file_with_another_hash_is_refused_and_removed(
    server: WeightsServer, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=f"{SHA256[:12]}.*{'0' * 12}") as caught:
        download(server.url, tmp_path / "a.pt", sha256="0" * 64)
    assert caught.value.hint == HINT
    assert not list(tmp_path.iterdir())


def test_an_existing_file_stays_if_the_download_has_another_hash(
    server: WeightsServer, tmp_path: Path
) -> None:
    (tmp_path / "a.pt").write_text("old")
    with pytest.raises(WeightsError, match=SHA256[:12]):
        download(server.url, tmp_path / "a.pt", sha256="0" * 64)
    assert (tmp_path / "a.pt").read_text() == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "a.pt"]


def test_an_incomplete_download_is_retried_from_the_start(
    server: WeightsServer, tmp_path: Path
) -> None:
    server.n_incomplete, recorder = 2, RecordingReporter()
    assert download(server.url, tmp_path / "a.pt", reporter=recorder) == SHA256
    assert (tmp_path / "a.pt").read_bytes() == CONTENT
    assert server.n_requests == 3
    assert [done for _, _, done in recorder.stages] == [len(CONTENT)]


def test_a_download_that_stays_incomplete_leaves_no_file(
    server: WeightsServer, tmp_path: Path
) -> None:
    server.n_incomplete = 99
    with pytest.raises(WeightsError, match=r"a\.pt"):
        download(server.url, tmp_path / "a.pt")
    assert server.n_requests == 3
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("failure", "n_requests"), [("connection refused", 0), ("status 404", 1)]
)
def test_an_unreachable_address_is_requested_once(
    failure: str, n_requests: int, server: WeightsServer, tmp_path: Path
) -> None:
    url = "http://127.0.0.1:9/a.pt" if failure == "connection refused" else server.url + "x"
    with pytest.raises(WeightsError, match=rf"a\.pt.*{re.escape(url)}"):
        download(url, tmp_path / "a.pt")
    assert server.n_requests == n_requests
    assert not list(tmp_path.iterdir())


def test_no_request_is_sent_offline(server: WeightsServer, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"a\.pt") as caught:
        download(server.url, tmp_path / "new" / "a.pt", offline=True)
    assert caught.value.hint == HINT
    assert server.n_requests == 0
    assert not list(tmp_path.iterdir())


def test_a_cache_path_that_is_a_file_is_an_output_error(
    server: WeightsServer, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file") as caught:
        download(server.url, tmp_path / "file" / "a.pt")
    assert "LORIS_CACHE" in caught.value.hint
    assert server.n_requests == 0
