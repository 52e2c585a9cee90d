"""Downloads from a server in this process."""

import hashlib
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


class Server(HTTPServer):
    """Gives ``BODY``, but breaks off in the first ``broken`` answers."""

    n_broken = 0
    n_requests = 0
    url = ""


class RequestHandler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        server.n_requests += 1
        if self.path != "/weights.pt":
            self.send_error(404)
            return
        is_complete = server.n_requests > server.n_broken
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT if is_complete else CONTENT[:100_000])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), RequestHandler) as http_server:
        http_server.url = f"http://127.0.0.1:{http_server.server_port}/weights.pt"
        thread = threading.Thread(target=http_server.serve_forever, args=(0.01,))
        thread.start()
        yield http_server
        http_server.shutdown()
        thread.join()


class RecordingReporter(NullReporter):
    """Keeps the stages and how far each came."""

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


def download(url: str, path: Path, **changes: Any) -> str:
    options: dict[str, Any] = {
        "sha256": None,
        "manual_hint": "put it there",
        "offline": False,
        "reporter": NullReporter(),
    }
    return download_file(url, path, **{**options, **changes})


def test_a_file_comes_whole_and_its_progress_is_told(server: Server, tmp_path: Path) -> None:
    path, recorder = tmp_path / "new" / "weights.pt", RecordingReporter()

    assert download(server.url, path, sha256=SHA256, reporter=recorder) == SHA256

    assert path.read_bytes() == CONTENT
    assert recorder.stages == [("fetching weights.pt", len(CONTENT), len(CONTENT))]
    assert list(path.parent.iterdir()) == [path]


def test_a_hash_that_nobody_knows_is_told(server: Server, tmp_path: Path) -> None:
    assert download(server.url, tmp_path / "a.pt") == SHA256


def test_another_file_is_refused_and_not_kept(server: Server, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"the SHA-256 of .* is b57b64b198d5") as caught:
        download(server.url, tmp_path / "a.pt", sha256="0" * 64)
    assert caught.value.hint == "put it there"
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_is_kept_when_another_comes(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "a.pt").write_text("old")
    with pytest.raises(WeightsError):
        download(server.url, tmp_path / "a.pt", sha256="0" * 64)
    assert (tmp_path / "a.pt").read_text() == "old"


def test_a_download_that_was_cut_off_begins_anew(server: Server, tmp_path: Path) -> None:
    server.n_broken, recorder = 2, RecordingReporter()
    assert download(server.url, tmp_path / "a.pt", reporter=recorder) == SHA256
    assert server.n_requests == 3
    assert [done for _, _, done in recorder.stages] == [len(CONTENT)]


def test_one_that_is_cut_off_every_time_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.n_broken = 99
    with pytest.raises(WeightsError, match=r"cannot fetch a\.pt"):
        download(server.url, tmp_path / "a.pt")
    assert server.n_requests == 3
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("where", ["nothing listens", "there is none"])
def test_what_cannot_be_had_is_told_once(where: str, server: Server, tmp_path: Path) -> None:
    url = "http://127.0.0.1:9/a.pt" if where == "nothing listens" else server.url + "x"
    with pytest.raises(WeightsError, match=r"cannot fetch a\.pt from http"):
        download(url, tmp_path / "a.pt")
    assert server.n_requests <= 1
    assert not list(tmp_path.iterdir())


def test_offline_nothing_is_asked(server: Server, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="downloads are disabled") as caught:
        download(server.url, tmp_path / "new" / "a.pt", offline=True)
    assert caught.value.hint == "put it there"
    assert server.n_requests == 0
    assert not list(tmp_path.iterdir())


def test_a_cache_that_is_no_folder_is_told(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot make"):
        download(server.url, tmp_path / "file" / "a.pt")
