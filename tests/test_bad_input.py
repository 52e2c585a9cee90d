"""Invalid input of docs/bad-input.md: exit code, value named in the error, files written."""

import json
import os
import pickle
import resource
import signal
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import soundfile
import torch
from conftest import CliResult, RunLoris
from media import draw_numbered_frame, make_tone, run_ffmpeg, write_video, write_wav

from loris_cli.pose.keypoints import read_poses, write_poses
from loris_cli.soundtrack import pipeline, takes
from loris_cli.system import atomic_files

InputWriter = Callable[[Path], Path]


def read_folder(folder: Path) -> dict[str, bytes | None]:
    """Return the path and the content of all files and folders below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.fixture
def video(tmp_path: Path, moving_video: Path) -> Path:
    path = tmp_path / "video.mp4"
    path.write_bytes(moving_video.read_bytes())
    return path


@pytest.fixture
def options(small_model: Path, pose_file: Path) -> list[object]:
    return ["--model", small_model, "--steps", 2, "--poses", pose_file]


def make_content_writer(name: str, content: bytes) -> InputWriter:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def make_damaged_video_writer(
    damage: Callable[[bytearray], None], suffix: str = ".mp4", **fields: Any
) -> InputWriter:
    def write(folder: Path) -> Path:
        path = write_video(folder / f"a{suffix}", n_frames=24, **fields)
        content = bytearray(path.read_bytes())
        damage(content)
        path.write_bytes(content)
        return path

    return write


def encode_image(suffix: str) -> bytes:
    return cv2.imencode(suffix, draw_numbered_frame(3))[1].tobytes()


def set_giant_frame_size(content: bytearray) -> None:
    at = content.index(struct.pack("<ii", 160, 120), content.index(b"strf"))
    content[at : at + 8] = struct.pack("<ii", 65_535, 65_535)


def cut_before_index(content: bytearray) -> None:
    del content[999:]


def write_audio_only(folder: Path) -> Path:
    run_ffmpeg(
        "-i",
        write_wav(folder / "a.wav", make_tone(1, 440, 0.5)),
        "-c:a",
        "aac",
        folder / "a.mp4",
    )
    return folder / "a.mp4"


def make_folder_without_videos(folder: Path) -> Path:
    (folder / "videos").mkdir()
    (folder / "videos" / "notes.txt").touch()
    return folder / "videos"


def make_circular_folders(folder: Path) -> Path:
    inner = folder / "videos" / "deep"
    inner.mkdir(parents=True)
    (inner / "up").symlink_to(folder / "videos", target_is_directory=True)
    return folder / "videos"


# Name of the case, input, value or key word of the error.
BAD_INPUTS: list[tuple[str, InputWriter, str]] = [
    ("missing file", lambda folder: folder / "none.mp4", "none.mp4"),
    ("missing list", lambda folder: Path(f"@{folder}/none.txt"), "none.txt"),
    ("folder without videos", make_folder_without_videos, ".webm"),
    ("circular folders", make_circular_folders, ".webm"),
    ("empty file", make_content_writer("a.mp4", b""), "empty"),
    ("text", make_content_writer("a.mp4", b"these are words\n" * 99), "Invalid data"),
    ("cut before its index", make_damaged_video_writer(cut_before_index), "index"),
    ("no video stream", write_audio_only, "stream"),
    ("png", make_content_writer("a.png", encode_image(".png")), "image"),
    ("jpeg", make_content_writer("a.mp4", encode_image(".jpg")), "image"),
    ("1 frame", lambda folder: write_video(folder / "a.mp4", n_frames=1), "frame"),
    ("0.3 s", lambda folder: write_video(folder / "a.mp4", n_frames=3), "0.3 s"),
    (
        "65,535 px",
        make_damaged_video_writer(set_giant_frame_size, ".avi", codec="ffv1"),
        "size",
    ),
    (
        "timestamp jump of 83 minutes",
        lambda folder: write_video(folder / "a.mp4", times_s=[0, 0.1, 0.2, 5000]),
        "5000 s",
    ),
    (
        "ffconcat",
        make_content_writer("a.mp4", b"ffconcat version 1.0\nfile b.ts\n"),
        "playlist",
    ),
    ("m3u8", make_content_writer("a.mp4", b"#EXTM3U\n#EXTINF:1,\nb.ts\n"), "playlist"),
]


@pytest.mark.parametrize(("write_input", "value"), [row[1:] for row in BAD_INPUTS],
                         ids=[row[0] for row in BAD_INPUTS])  # fmt: skip
def test_a_bad_input_exits_with_4_and_writes_nothing(
    loris: RunLoris, tmp_path: Path, small_model: Path, write_input: InputWriter, value: str
) -> None:
    path = write_input(tmp_path)
    before = read_folder(tmp_path)

    result = loris("soundtrack", path, "--model", small_model)

    assert result.exit_code == 4, result.stderr
    assert path.name in result.stderr
    assert value in result.stderr
    check_error_output(result)
    assert read_folder(tmp_path) == before


def check_error_output(result: CliResult) -> None:
    """Check for one error line, a hint in the last line, and nothing on stdout."""
    assert result.stdout == ""
    errors = [line for line in result.stderr.splitlines() if line.startswith("loris: error: ")]
    assert len(errors) == 1
    assert result.stderr.splitlines()[-1].startswith("hint: ")
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_a_video_without_person_and_motion_is_refused(
    loris: RunLoris, tmp_path: Path, static_video: Path, small_model: Path
) -> None:
    result = loris("soundtrack", static_video, "-o", tmp_path / "a.mp4", "--model", small_model)
    assert result.exit_code == 4
    assert result.stderr.count("loris: warning: ") == 1
    assert static_video.name in result.stderr
    check_error_output(result)
    assert read_folder(tmp_path) == {}


@pytest.mark.slow
def test_without_a_person_the_rhythm_is_from_flow_with_a_warning(
    loris: RunLoris, video: Path, small_model: Path
) -> None:
    result = loris("soundtrack", video, "--model", small_model, "--steps", 2, "--json")
    assert result.exit_code == 0, result.stderr
    row = json.loads(result.stdout)
    assert row["rhythm_method"] == "flow"
    (warning,) = row["warnings"]
    assert "person" in warning
    assert f"loris: warning: {warning}\n" in result.stderr


def test_a_person_in_few_frames_is_not_used_for_the_rhythm(
    loris: RunLoris, video: Path, small_model: Path, pose_file: Path
) -> None:
    path = video.with_name("p.npz")
    write_poses(path, replace(read_poses(pose_file), interpolated=np.arange(32) >= 3))
    words = ["--model", small_model, "--steps", 2, "--poses", path]

    result = loris("soundtrack", video, *words, "--json")
    refused = loris("soundtrack", video, *words, "--rhythm", "directogram", "--overwrite")

    row = json.loads(result.stdout)
    assert row["rhythm_method"] == "flow"
    assert "person" in row["warnings"][0]
    assert refused.exit_code == 4
    assert "--rhythm flow" in refused.stderr


def test_the_readable_part_of_a_truncated_video_is_used_with_a_warning(
    loris: RunLoris, tmp_path: Path, video: Path, small_model: Path
) -> None:
    content = video.read_bytes()
    video.write_bytes(content[: len(content) * 9 // 10])  # the index is at the front
    words = ["--model", small_model, "--steps", 2, "--rhythm", "flow", "--json"]
    result = loris("soundtrack", video, *words)
    assert result.exit_code == 0, result.stderr
    assert f"loris: warning: {video}" in result.stderr
    assert 1 < json.loads(result.stdout)["duration_s"] < 2


@pytest.mark.parametrize(
    ("words", "code", "value"),
    [
        ("-o out.xyz", 2, ".xyz"),
        ("-o none/out.mp4", 2, "none"),
        ("-o none/new", 2, "none"),
        ("-o video.mp4/out.mp4", 2, "folder"),
        (f"-o {'x' * 260}.mp4", 2, "x" * 260),
        ("-o video.mp4", 2, "input"),
        ("-o video.mp4 --overwrite", 2, "video.mp4"),
        ("-o hard.mp4 --overwrite", 2, "hard.mp4"),
        ("-o soft.mp4 --overwrite", 2, "soft.mp4"),
        ("-o old.wav", 2, "--overwrite"),
        ("--plot video.mp4", 2, ".png"),
        ("--plot soft.png --overwrite", 2, "soft.png"),
        ("--plot old.png", 2, "--overwrite"),
        ("--report video.mp4", 2, "video.mp4"),
        ("--report hard.mp4", 2, "hard.mp4"),
        ("--report none/run.jsonl", 2, "none"),
        ("--report out.wav -o out.wav", 2, "out.wav"),
        ("--overwrite --skip-existing", 2, "--skip-existing"),
        ("--mix -12 -o notes.mid", 2, "--mix"),
        ("--synthesizer fluidsynth", 2, "--synthesizer"),
        ("--soundfont old.wav", 2, "--soundfont"),
        ("--device gpu", 2, "gpu"),
        ("--device cuda:99", 2, "cuda:99"),
        ("--genre polka", 2, "polka"),
        ("--takes 0", 2, "--takes"),
        ("--model none.safetensors", 3, "none.safetensors"),
        ("--model video.mp4", 3, "video.mp4"),
        ("--model pickle.safetensors", 3, "pickle.safetensors"),
        ("--model giant.safetensors", 3, "giant.safetensors"),
        ("--model deep.safetensors", 3, "deep.safetensors"),
        ("--poses none.npz", 4, "none.npz"),
        ("--poses giant.npz", 4, "giant.npz"),
        ("--poses video.mp4", 4, "video.mp4"),
        ("--poses short.npz", 4, "0.5 s"),
        ("--inpaint old.wav", 2, "--inpaint-range"),
        ("--inpaint-range 1 2", 2, "--inpaint"),
        ("--inpaint old.wav --inpaint-range 1 1", 2, "--inpaint-range 1 1 is empty"),
        (
            "--inpaint old.wav --inpaint-range 7 9",
            2,
            "--inpaint-range 7 9 is outside the video",
        ),
        ("--inpaint video.mp4 --inpaint-range 0 1", 2, "audio"),
        ("--inpaint none.wav --inpaint-range 0 1", 4, "none.wav"),
        ("--inpaint old.png --inpaint-range 0 1", 4, "old.png"),
        ("--inpaint old.wav --inpaint-range 0 1", 2, "1.0 s"),
        ("--inpaint old.wav --inpaint-range 0 1 -o old.wav --overwrite", 2, "input"),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else None,
)
def test_an_invalid_option_is_refused_and_nothing_is_written(
    loris: RunLoris,
    video: Path,
    options: list[object],
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    code: int,
    value: str,
) -> None:
    monkeypatch.chdir(video.parent)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    os.link("video.mp4", "hard.mp4")
    Path("soft.mp4").symlink_to("video.mp4")
    Path("soft.png").symlink_to("video.mp4")
    write_wav(Path("old.wav"), make_tone(1, 440, 0.5, rate_hz=22_050))
    Path("old.png").write_bytes(encode_image(".png"))
    Path("pickle.safetensors").write_bytes(pickle.dumps({"weights": [1.0]}))
    Path("giant.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    Path("deep.safetensors").write_bytes(struct.pack("<Q", 90_000) + b"[" * 90_000)
    write_changed_poses(Path("giant.npz"), source=options[-1], shape=f"({10**15}, 17, 3)")
    write_changed_poses(Path("short.npz"), source=options[-1], n_frames=8)
    before = read_folder(video.parent)

    result = loris("soundtrack", "video.mp4", *options, *words.split())

    assert result.exit_code == code, result.stderr
    assert value in result.stderr
    check_error_output(result)
    assert read_folder(video.parent) == before


def write_changed_poses(
    path: Path, *, source: object, shape: str | None = None, n_frames: int | None = None
) -> None:
    """Write a copy of a pose file with fewer frames, or with another shape in its header."""
    poses = read_poses(Path(str(source)))
    if n_frames is not None:
        poses = replace(
            poses,
            keypoints=poses.keypoints[:n_frames],
            times_s=poses.times_s[:n_frames],
            interpolated=poses.interpolated[:n_frames],
        )
    write_poses(path, poses)
    if shape is None:
        return
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    line = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    head = b"\x93NUMPY\x01\x00" + len(line).to_bytes(2, "little")
    members["keypoints.npy"] = head + line
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_a_missing_device_is_refused_and_not_replaced(
    loris: RunLoris, video: Path, options: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = loris("soundtrack", video, *options, "--device", "cuda")
    assert result.exit_code == 2
    assert "cuda" in result.stderr
    assert "--device auto" in result.stderr
    assert os.listdir(video.parent) == ["video.mp4"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["-x.mp4", "a b.mp4", "%03d.mp4", "a:b.mp4", "http:x.mp4", "a\nb.mp4", "\u00e9\u6f22.mp4",
     "[red]a[bold].mp4", "'a'$(b);.mp4", "\udcff.mp4", "video.xyz"],
)  # fmt: skip
def test_file_names_are_not_interpreted(
    loris: RunLoris,
    video: Path,
    options: list[object],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.chdir(video.parent)
    video.rename(name)

    result = loris("soundtrack", "--rhythm", "flow", *options[:4], "-q", "--json", "--", name)

    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["output"] == f"{Path(name).stem}.loris.mp4"
    assert sorted(os.listdir()) == sorted([name, f"{Path(name).stem}.loris.mp4"])


# Failures during the run


@pytest.mark.parametrize("limit", [1_000, 100_000, 180_000])
def test_a_full_disk_leaves_the_old_file_and_no_temporary_files(
    loris: RunLoris, video: Path, options: list[object], limit: int
) -> None:
    old = video.with_name("out.flac")
    old.write_bytes(b"old")
    before = read_folder(video.parent)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        result = loris("soundtrack", video, *options, "-o", old, "--overwrite")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    if limit == 180_000:  # enough for two seconds of audio: the other runs fail by the limit
        assert result.exit_code == 0, result.stderr
        return
    assert result.exit_code == 1
    check_error_output(result)
    assert "disk" in result.stderr
    assert read_folder(video.parent) == before


def test_a_write_error_of_libsndfile_is_an_output_error(
    loris: RunLoris, video: Path, options: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise soundfile.LibsndfileError(2)

    monkeypatch.setattr(soundfile.SoundFile, "write", refuse)
    result = loris("soundtrack", video, *options)
    assert result.exit_code == 1
    check_error_output(result)
    assert "disk" in result.stderr
    assert os.listdir(video.parent) == ["video.mp4"]


def test_a_file_that_another_process_wrote_is_not_replaced(
    loris: RunLoris, video: Path, options: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = video.with_name("out.mp4")
    mux = pipeline.mux_audio  # type: ignore[attr-defined]

    def mux_and_write_output(*args: object, **kwargs: object) -> None:
        mux(*args, **kwargs)  # type: ignore[arg-type]
        out.write_bytes(b"of another process")

    monkeypatch.setattr(pipeline, "mux_audio", mux_and_write_output)
    result = loris("soundtrack", video, *options, "-o", out)

    assert result.exit_code == 1
    assert "out.mp4" in result.stderr
    assert "--overwrite" in result.stderr
    assert out.read_bytes() == b"of another process"
    assert sorted(os.listdir(video.parent)) == ["out.mp4", "video.mp4"]


@pytest.mark.parametrize("old", [None, b"old"], ids=["new folder", "existing file"])
@pytest.mark.parametrize(
    ("module", "function"),
    [
        (takes, "analyze_video"),
        (pipeline, "generate_wav"),
        (pipeline, "normalize_loudness"),
        (pipeline, "mux_audio"),
        (atomic_files, "_fsync_path"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_interruption_at_any_stage_leaves_no_partial_file(
    loris: RunLoris,
    video: Path,
    options: list[object],
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    function: str,
    old: bytes | None,
) -> None:
    original = getattr(module, function)
    n_calls = 0

    def interrupt(*args: object, **kwargs: object) -> None:
        nonlocal n_calls
        n_calls += 1
        if function != "_fsync_path":
            original(*args, **kwargs)
        raise KeyboardInterrupt

    output = video.with_name("new" if old is None else "out.mp4")
    if old is not None:
        output.write_bytes(old)
    before = read_folder(video.parent)
    monkeypatch.setattr(module, function, interrupt)

    result = loris("soundtrack", video, *options, "-o", output, "--overwrite")

    assert n_calls == 1
    assert result.exit_code == 130
    assert result.stdout == ""
    assert result.stderr.count("loris: error: ") == 1
    assert read_folder(video.parent) == before


def test_an_interruption_keeps_finished_takes_and_reports_them(
    loris: RunLoris, video: Path, options: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    mux = pipeline.mux_audio  # type: ignore[attr-defined]
    calls = []

    def interrupt_second_call(*args: object, **kwargs: object) -> None:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        mux(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline, "mux_audio", interrupt_second_call)
    report = video.with_name("run.jsonl")
    result = loris("soundtrack", video, *options, "--takes", 2, "--report", report)

    assert result.exit_code == 130
    assert [json.loads(row)["seed"] for row in report.read_text().splitlines()] == [0]
    assert sorted(os.listdir(video.parent)) == ["run.jsonl", "video-1.loris.mp4", "video.mp4"]


def wait_for_process_group(group: int, *, within_s: float) -> bool:
    """Return whether a process group has ended; Python's resource tracker ends last."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "to_group", "jobs"),
    [(signal.SIGTERM, False, 1), (signal.SIGTERM, False, 2), (signal.SIGINT, True, 2)],
    ids=["SIGTERM, 1 job", "SIGTERM, 2 jobs", "SIGINT to the group, 2 jobs"],
)
def test_a_signal_ends_all_processes_and_leaves_no_files(
    video: Path,
    small_model: Path,
    loris_script: Path,
    sent: signal.Signals,
    to_group: bool,
    jobs: int,
) -> None:
    """Send it to the first process, as ``kill`` does, or to the group, as a terminal does."""
    folder = video.parent
    (folder / "other.mp4").write_bytes(video.read_bytes())
    before = read_folder(folder)
    with subprocess.Popen(
        [sys.executable, loris_script, "soundtrack", video, folder / "other.mp4",
         "--rhythm", "flow", "--model", small_model, "--steps", "1000", "--jobs", str(jobs)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, text=True,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 200
        while len(list(folder.glob(".loris-*"))) < jobs:
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        (os.killpg if to_group else os.kill)(process.pid, sent)
        output, errors = process.communicate(timeout=60)

    assert process.returncode == 130, errors
    assert output == ""
    assert errors.count("loris: error: ") == 1
    assert "Traceback" not in errors
    assert read_folder(folder) == before
    assert wait_for_process_group(process.pid, within_s=20.0)


# Commands `loris pose` and `loris rhythm`


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "value"),
    [
        ("pose video.mp4 -o a.mp4", 2, ".npz"),
        ("pose video.mp4 --overlay a.webm", 2, ".mp4"),
        ("pose video.mp4 --overlay video.mp4 --overwrite", 2, "input"),
        ("pose video.mp4 still.mp4 --overlay a.mp4", 2, "a.mp4"),
        ("pose video.mp4", 4, "video.mp4"),
        ("rhythm video.mp4 -o a.txt", 2, ".json"),
        ("rhythm video.mp4 --plot a.jpg", 2, ".png"),
        ("rhythm a.npz", 4, "a.npz"),
        ("rhythm still.mp4 --rhythm flow", 4, "motion"),
    ],
)
def test_pose_and_rhythm_refuse_bad_calls_and_write_nothing(
    loris: RunLoris,
    video: Path,
    static_video: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    code: int,
    value: str,
) -> None:
    monkeypatch.chdir(video.parent)
    Path("still.mp4").write_bytes(static_video.read_bytes())
    before = read_folder(video.parent)

    result = loris(*words.split())

    assert result.exit_code == code, result.stderr
    assert value in result.stderr
    check_error_output(result)
    assert read_folder(video.parent) == before
