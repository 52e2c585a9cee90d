"""Choice of the ffmpeg program: moviepy's settings are ignored, old programs refused."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import RunLoris
from imageio_ffmpeg import get_ffmpeg_exe

from loris_cli.errors import MissingDependencyError
from loris_cli.video import ffmpeg_program
from loris_cli.video.ffmpeg_program import find_ffmpeg

ROOT = Path(ffmpeg_program.__file__).parents[2]
PRINT_PROGRAM = "from loris_cli.video.ffmpeg_program import find_ffmpeg; print(find_ffmpeg())"


@pytest.fixture(autouse=True)
def uncached_program() -> Iterator[None]:
    find_ffmpeg.cache_clear()
    yield
    find_ffmpeg.cache_clear()


def write_program(path: Path, output: str, exit_code: int = 0) -> Path:
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{output}\nEND\nexit {exit_code}\n")
    path.chmod(0o755)
    return path


def print_banner(version: str, libavutil: int) -> str:
    return f"ffmpeg version {version} Copyright\nlibavutil      {libavutil}.  8.100 / 59.  8"


@pytest.mark.slow
@pytest.mark.parametrize(
    "setting",
    [
        {"FFMPEG_BINARY": "/nonexistent/ffmpeg"},
        {"FFMPEG_BINARY": "auto-detect"},
        {"FFPLAY_BINARY": "/nonexistent/ffplay"},
        {"FFREPORT": "file=report.log"},
        {},
    ],
)
def test_settings_of_moviepy_are_ignored(tmp_path: Path, setting: dict[str, str]) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    dotenv = b"FFMPEG_BINARY=/nonexistent/ffmpeg\nNAME=\xff\n"
    (tmp_path / ".env").write_bytes(dotenv)
    process = subprocess.run(
        [sys.executable, "-c", PRINT_PROGRAM],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | setting,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (process.stdout.strip(), process.stderr) == (get_ffmpeg_exe(), "")
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    "banner",
    [
        print_banner("5.1.6-0+deb12u1", 57),
        print_banner("N-109000-gabcdef", 58),
        print_banner("6.1.1", 58),
        "ls (GNU coreutils) 9.1",
    ],
)
def test_an_old_or_other_program_is_named_before_any_work(
    tmp_path: Path, moving_video: Path, loris: RunLoris, banner: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    program = write_program(tmp_path / "ffmpeg", banner)
    monkeypatch.setattr(ffmpeg_program, "_locate", lambda: str(program))
    result = loris("soundtrack", moving_video, "-o", tmp_path / "o.wav", "--method", "score")
    assert (result.exit_code, result.stdout) == (3, "")
    assert str(program) in result.stderr
    assert not (tmp_path / "o.wav").exists()


@pytest.mark.parametrize("name", ["missing", "folder", "not executable"])
def test_a_program_that_cannot_run_is_named(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "not executable").write_text("text")
    program = str(tmp_path / name)
    monkeypatch.setenv(ffmpeg_program.PROGRAM_VARIABLE, program)
    monkeypatch.setattr(ffmpeg_program, "_locate", lambda: program)
    with pytest.raises(MissingDependencyError) as caught:
        find_ffmpeg()
    assert program in str(caught.value)
    assert ffmpeg_program.PROGRAM_VARIABLE in caught.value.hint


@pytest.mark.parametrize("version", ["7.0.2-static", "n9.0.2-17-g2a571b6068", "N-1-gabc"])
def test_supported_releases_and_development_builds_are_accepted(
    tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = write_program(tmp_path / "ffmpeg", print_banner(version, 59))
    monkeypatch.setattr(ffmpeg_program, "_locate", lambda: str(program))
    assert find_ffmpeg() == str(program)
