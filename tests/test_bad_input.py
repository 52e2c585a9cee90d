"""The table of docs/bad-input.md, a row a test: message, exit code, what is written."""

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
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import soundfile
import torch
from conftest import CliResult, RunLoris
from media import draw_numbered_frame, make_tone, run_ffmpeg, write_video, write_wav

from loris_cli.soundtrack import pipeline as stages
from loris_cli.system import atomic_files

Make = Callable[[Path], Path]


def read_folder(folder: Path) -> dict[str, bytes | None]:
    """All below a folder, hidden or not, with what is in it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


@pytest.fixture
def dance(tmp_path: Path, moving_video: Path) -> Path:
    path = tmp_path / "dance.mp4"
    path.write_bytes(moving_video.read_bytes())
    return path


@pytest.fixture
def options(small_model: Path, pose_file: Path) -> list[object]:
    return ["--model", small_model, "--steps", 2, "--poses", pose_file]


def write_content(name: str, content: bytes) -> Make:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def write_damaged_video(change: Callable[[bytearray], None], **kind: Any) -> Make:
    def make(folder: Path) -> Path:
        suffix = ".avi" if kind else ".mp4"
        path = write_video(folder / f"a{suffix}", n_frames=24, **kind)
        content = bytearray(path.read_bytes())
        change(content)
        path.write_bytes(content)
        return path

    return make


def grow(content: bytearray) -> None:
    at = content.index(struct.pack("<ii", 160, 120), content.index(b"strf"))
    content[at : at + 8] = struct.pack("<ii", 65_535, 65_535)


def cut(content: bytearray) -> None:
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


def empty_folder(folder: Path) -> Path:
    (folder / "videos").mkdir()
    (folder / "videos" / "notes.txt").touch()
    return folder / "videos"


def ring(folder: Path) -> Path:
    inner = folder / "videos" / "deep"
    inner.mkdir(parents=True)
    (inner / "up").symlink_to(folder / "videos", target_is_directory=True)
    return folder / "videos"


BAD: list[tuple[str, Make, str]] = [
    ("missing file", lambda folder: folder / "none.mp4", "none.mp4 does not exist"),
    ("missing list", lambda folder: Path(f"@{folder}/none.txt"), "list"),
    ("folder without videos", empty_folder, "no video in the folder"),
    ("folders in a ring", ring, "no video in the folder"),
    ("empty file", write_content("a.mp4", b""), "is empty"),
    ("text", write_content("a.mp4", b"these are words\n" * 99), "is not a readable video"),
    ("cut before its index", write_damaged_video(cut), "has no index"),
    ("no video stream", write_audio_only, "has no video"),
    (
        "png",
        write_content("a.png", cv2.imencode(".png", draw_numbered_frame(3))[1].tobytes()),
        "is an image",
    ),
    (
        "jpeg",
        write_content("a.mp4", cv2.imencode(".jpg", draw_numbered_frame(3))[1].tobytes()),
        "is an image",
    ),
    ("1 frame", lambda folder: write_video(folder / "a.mp4", n_frames=1), "is a still image"),
    (
        "0.3 s",
        lambda folder: write_video(folder / "a.mp4", n_frames=3),
        "lasts 0.3 s, too short",
    ),
    ("65,535 px", write_damaged_video(grow, codec="ffv1"), "has frames of no"),
    (
        "83 minutes by one lying time",
        lambda folder: write_video(folder / "a.mp4", times_s=[0, 0.1, 0.2, 5000]),
        "jump by 5000 s",
    ),
    ("ffconcat", write_content("a.mp4", b"ffconcat version 1.0\nfile b.ts\n"), "is a playlist"),
    ("m3u8", write_content("a.mp4", b"#EXTM3U\n#EXTINF:1,\nb.ts\n"), "is a playlist"),
]


@pytest.mark.parametrize(("name", "make", "message"), BAD, ids=[row[0] for row in BAD])
def test_the_one_input_is_bad(
    loris: RunLoris, tmp_path: Path, small_model: Path, name: str, make: Make, message: str
) -> None:
    path = make(tmp_path)
    before = read_folder(tmp_path)

    result = loris("soundtrack", path, "--model", small_model)

    assert result.exit_code == 4, result.stderr
    assert message in result.stderr
    check_error_output(result)
    assert read_folder(tmp_path) == before


def check_error_output(result: CliResult) -> None:
    """One line for the error, one for the hint, nothing on stdout."""
    assert result.stdout == ""
    errors = [line for line in result.stderr.splitlines() if line.startswith("loris: error: ")]
    assert len(errors) == 1
    assert result.stderr.splitlines()[-1].startswith("hint: ")
    assert "Traceback" not in result.stderr


def test_nobody_and_nothing_that_moves_is_refused(
    loris: RunLoris, tmp_path: Path, static_video: Path, small_model: Path
) -> None:
    result = loris("soundtrack", static_video, "-o", tmp_path / "a.mp4", "--model", small_model)
    assert result.exit_code == 4
    assert "warning: no moving person" in result.stderr
    assert "nothing moves" in result.stderr
    assert read_folder(tmp_path) == {}


def test_where_nobody_is_seen_the_picture_leads_with_a_warning(
    loris: RunLoris, dance: Path, small_model: Path
) -> None:
    result = loris("soundtrack", dance, "--model", small_model, "--steps", 2, "--json")
    assert result.exit_code == 0, result.stderr
    row = json.loads(result.stdout)
    assert row["rhythm_method"] == "flow"
    assert "the rhythm is that of the optical flow" in row["warnings"][0]
    assert "the rhythm is that of the optical flow" in result.stderr


def test_a_person_for_a_moment_does_not_lead(
    loris: RunLoris, dance: Path, small_model: Path, pose_file: Path
) -> None:
    from dataclasses import replace

    from loris_cli.pose.keypoints import read_poses, write_poses

    interpolated = np.arange(32) >= 3
    write_poses(
        dance.with_name("p.npz"), replace(read_poses(pose_file), interpolated=interpolated)
    )
    words = ["--model", small_model, "--steps", 2, "--poses", dance.with_name("p.npz")]

    result = loris("soundtrack", dance, *words, "--json")
    refused = loris("soundtrack", dance, *words, "--rhythm", "directogram", "--overwrite")

    assert json.loads(result.stdout)["rhythm_method"] == "flow"
    assert "the rhythm is that of the optical flow" in result.stderr
    assert refused.exit_code == 4
    assert "no moving person" in refused.stderr


def test_a_film_cut_short_is_used_as_far_as_it_goes_with_a_warning(
    loris: RunLoris, tmp_path: Path, dance: Path, small_model: Path
) -> None:
    content = dance.read_bytes()
    dance.write_bytes(content[: len(content) * 9 // 10])  # its index is at the front
    words = ["--model", small_model, "--steps", 2, "--rhythm", "flow", "--json"]
    result = loris("soundtrack", dance, *words)
    assert result.exit_code == 0, result.stderr
    assert "ends early" in result.stderr
    assert 1 < json.loads(result.stdout)["duration_s"] < 2


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["-o", "out.xyz"], 2, "no format .xyz"),
        (["-o", "none/out.mp4"], 2, "the folder none does not exist"),
        (["-o", "none/new"], 2, "no folder none"),
        (["-o", "dance.mp4/out.mp4"], 2, "dance.mp4 is not a folder"),
        (["-o", "x" * 260 + ".mp4"], 2, "too long"),
        (["-o", "dance.mp4"], 2, "is the input itself"),
        (["-o", "dance.mp4", "--overwrite"], 2, "is the input itself"),
        (["-o", "hard.mp4", "--overwrite"], 2, "is the input itself"),
        (["-o", "soft.mp4", "--overwrite"], 2, "is the input itself"),
        (["-o", "old.wav"], 2, "exists"),
        (["--plot", "dance.mp4"], 2, "end the name in .png"),
        (["--plot", "soft.png", "--overwrite"], 2, "is the input itself"),
        (["--plot", "old.png"], 2, "exists"),
        (["--report", "dance.mp4"], 2, "is the input itself"),
        (["--report", "hard.mp4"], 2, "is the input itself"),
        (["--report", "none/run.jsonl"], 2, "the folder none does not exist"),
        (["--report", "out.wav", "-o", "out.wav"], 2, "report and a result"),
        (["--overwrite", "--skip-existing"], 2, "contradict"),
        (["--device", "gpu"], 2, "not auto, cpu, mps, cuda or cuda:N"),
        (["--device", "cuda:99"], 2, "no device cuda:99"),
        (["--genre", "polka"], 2, "none of ballet-jazz"),
        (["--takes", "0"], 2, "takes"),
        (["--model", "none.safetensors"], 3, "no model"),
        (["--model", "dance.mp4"], 3, "is not a safetensors file"),
        (["--model", "pickle.safetensors"], 3, "is not a safetensors file"),
        (["--model", "giant.safetensors"], 3, "is not a safetensors file"),
        (["--model", "deep.safetensors"], 3, "is not a"),
        (["--poses", "none.npz"], 4, "none.npz"),
        (["--poses", "giant.npz"], 4, "giant.npz"),
        (["--poses", "dance.mp4"], 4, "is not a poses file"),
        (["--poses", "short.npz"], 4, "not of one video"),
        (["--inpaint", "old.wav"], 2, "go together"),
        (["--inpaint-range", "1", "2"], 2, "go together"),
        (["--inpaint", "old.wav", "--inpaint-range", "1", "1"], 2, "no range 1 to 1 s"),
        (["--inpaint", "old.wav", "--inpaint-range", "7", "9"], 2, "no range 7 to 9 s"),
        (["--inpaint", "dance.mp4", "--inpaint-range", "0", "1"], 2, "has no audio"),
        (["--inpaint", "none.wav", "--inpaint-range", "0", "1"], 4, "none.wav does not exist"),
        (["--inpaint", "old.png", "--inpaint-range", "0", "1"], 4, "old.png is"),
        (["--inpaint", "old.wav", "--inpaint-range", "0", "1"], 2, "is not its soundtrack"),
        (
            [
                "--inpaint",
                "old.wav",
                "--inpaint-range",
                "0",
                "1",
                "-o",
                "old.wav",
                "--overwrite",
            ],
            2,
            "input itself",
        ),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)
def test_an_option_is_wrong(
    loris: RunLoris,
    dance: Path,
    options: list[object],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(dance.parent)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    os.link("dance.mp4", "hard.mp4")
    Path("soft.mp4").symlink_to("dance.mp4")
    Path("soft.png").symlink_to("dance.mp4")
    write_wav(Path("old.wav"), make_tone(1, 440, 0.5, rate_hz=22_050))
    Path("old.png").write_bytes(cv2.imencode(".png", draw_numbered_frame(3))[1].tobytes())
    Path("pickle.safetensors").write_bytes(pickle.dumps({"weights": [1.0]}))
    Path("giant.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    Path("deep.safetensors").write_bytes(struct.pack("<Q", 90_000) + b"[" * 90_000)
    write_changed_poses(Path("giant.npz"), source=options[-1], shape=f"({10**15}, 17, 3)")
    write_changed_poses(Path("short.npz"), source=options[-1], n_frames=8)
    before = read_folder(dance.parent)

    result = loris("soundtrack", "dance.mp4", *options, *words)

    assert result.exit_code == code, result.stderr
    assert message in result.stderr
    check_error_output(result)
    assert read_folder(dance.parent) == before


def write_changed_poses(
    path: Path, *, source: object, shape: str | None = None, n_frames: int | None = None
) -> None:
    """Poses cut to some frames, or with a header that claims another shape."""
    from dataclasses import replace

    from loris_cli.pose.keypoints import read_poses, write_poses

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


def test_a_device_that_is_not_there_is_never_replaced(
    loris: RunLoris, dance: Path, options: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = loris("soundtrack", dance, *options, "--device", "cuda")
    assert result.exit_code == 2
    assert "no device cuda" in result.stderr
    assert os.listdir(dance.parent) == ["dance.mp4"]


@pytest.mark.parametrize(
    "name",
    ["-x.mp4", "a b.mp4", "%03d.mp4", "a:b.mp4", "http:x.mp4", "a\nb.mp4", "\u00e9\u6f22.mp4",
     "[red]a[bold].mp4", "'a'$(b);.mp4", "\udcff.mp4", "dance.xyz"],
)  # fmt: skip
def test_names_mean_nothing(
    loris: RunLoris,
    dance: Path,
    options: list[object],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.chdir(dance.parent)
    dance.rename(name)

    result = loris("soundtrack", "--rhythm", "flow", *options[:4], "-q", "--json", "--", name)

    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["output"] == f"{Path(name).stem}.loris.mp4"
    assert sorted(os.listdir()) == sorted([name, f"{Path(name).stem}.loris.mp4"])


# What happens on the way


@pytest.mark.parametrize("limit", [1_000, 100_000, 180_000])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    loris: RunLoris, dance: Path, options: list[object], limit: int
) -> None:
    old = dance.with_name("out.flac")
    old.write_bytes(b"mine")
    before = read_folder(dance.parent)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        result = loris("soundtrack", dance, *options, "-o", old, "--overwrite")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    if limit == 180_000:  # just enough for two seconds: the limit is what made it fail
        assert result.exit_code == 0, result.stderr
        return
    assert result.exit_code == 1
    check_error_output(result)
    assert "disk" in result.stderr
    assert read_folder(dance.parent) == before


def test_libsndfile_that_cannot_write_is_a_full_disk_too(
    loris: RunLoris, dance: Path, options: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise soundfile.LibsndfileError(2)

    monkeypatch.setattr(soundfile.SoundFile, "write", refuse)
    result = loris("soundtrack", dance, *options)
    assert result.exit_code == 1
    assert "free some space" in result.stderr
    assert os.listdir(dance.parent) == ["dance.mp4"]


def test_of_two_processes_with_one_output_the_first_wins(
    loris: RunLoris, dance: Path, options: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = dance.with_name("out.mp4")
    mux = stages.mux_audio  # type: ignore[attr-defined]

    def with_another_meanwhile(*args: object, **kwargs: object) -> None:
        mux(*args, **kwargs)  # type: ignore[arg-type]
        out.write_bytes(b"the other's")

    monkeypatch.setattr(stages, "mux_audio", with_another_meanwhile)
    result = loris("soundtrack", dance, *options, "-o", out)

    assert result.exit_code == 1
    assert "exists" in result.stderr
    assert out.read_bytes() == b"the other's"
    assert sorted(os.listdir(dance.parent)) == ["dance.mp4", "out.mp4"]


@pytest.mark.parametrize("old", [None, b"mine"])
@pytest.mark.parametrize(
    "moment",
    [
        "analyze_video",
        "generate_wav",
        "normalize_loudness",
        "mux_audio",
        "_fsync_path",
    ],
)
def test_an_interruption_at_any_stage_leaves_nothing_half_made(
    loris: RunLoris,
    dance: Path,
    options: list[object],
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    old: bytes | None,
) -> None:
    from loris_cli.soundtrack import takes

    module = {"analyze_video": takes, "_fsync_path": atomic_files}.get(moment, stages)
    work = getattr(module, moment)

    def interrupted(*args: object, **kwargs: object) -> None:
        if moment != "_fsync_path":
            work(*args, **kwargs)
        raise KeyboardInterrupt

    out = dance.with_name("new") / "out.mp4" if old is None else dance.with_name("out.mp4")
    if old:
        out.write_bytes(old)
    before = read_folder(dance.parent)
    monkeypatch.setattr(module, moment, interrupted)

    output = out.parent if old is None else out
    result = loris("soundtrack", dance, *options, "-o", output, "--overwrite")

    assert result.exit_code == 130
    assert result.stderr.endswith("loris: error: interrupted\n")
    assert read_folder(dance.parent) == before


def test_an_interruption_keeps_what_is_done_and_tells_it_in_the_report(
    loris: RunLoris, dance: Path, options: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    mux = stages.mux_audio  # type: ignore[attr-defined]
    calls = []

    def the_second_time(*args: object, **kwargs: object) -> None:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        mux(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(stages, "mux_audio", the_second_time)
    report = dance.with_name("run.jsonl")
    result = loris("soundtrack", dance, *options, "--takes", 2, "--report", report)

    assert result.exit_code == 130
    assert [json.loads(row)["seed"] for row in report.read_text().splitlines()] == [0]
    assert sorted(os.listdir(dance.parent)) == ["dance-1.loris.mp4", "dance.mp4", "run.jsonl"]


def ends(group: int, *, within_s: float) -> bool:
    """Whether a group of processes has ended; Python's resource tracker ends last."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize(
    ("sent", "to_all", "jobs"),
    [(signal.SIGTERM, False, 1), (signal.SIGTERM, False, 2), (signal.SIGINT, True, 2)],
)
def test_a_signal_ends_all_processes_and_leaves_nothing(
    dance: Path,
    small_model: Path,
    loris_script: Path,
    sent: signal.Signals,
    to_all: bool,
    jobs: int,
) -> None:
    """To the first process alone, as ``kill`` sends it, or to all, as a terminal does."""
    folder = dance.parent
    (folder / "other.mp4").write_bytes(dance.read_bytes())
    before = read_folder(folder)
    with subprocess.Popen(
        [sys.executable, loris_script, "soundtrack", dance, folder / "other.mp4",
         "--rhythm", "flow", "--model", small_model, "--steps", "1000", "--jobs", str(jobs)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, text=True,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 200
        while len(list(folder.glob(".loris-*"))) < jobs:
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        (os.killpg if to_all else os.kill)(process.pid, sent)
        out, err = process.communicate(timeout=60)

    assert process.returncode == 130, err
    assert out == ""
    assert err.endswith("loris: error: interrupted\n")
    assert "Traceback" not in err
    assert read_folder(folder) == before
    assert ends(process.pid, within_s=20.0)


# The other two commands


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["pose", "dance.mp4", "-o", "a.mp4"], 2, "end the name in .npz"),
        (["pose", "dance.mp4", "--overlay", "a.webm"], 2, "end the name in .mp4"),
        (
            ["pose", "dance.mp4", "--overlay", "dance.mp4", "--overwrite"],
            2,
            "is the input itself",
        ),
        (["pose", "dance.mp4", "still.mp4", "--overlay", "a.mp4"], 2, "goes with one input"),
        (["pose", "dance.mp4"], 4, "no person is detected"),
        (["rhythm", "dance.mp4", "-o", "a.txt"], 2, "end the name in .json"),
        (["rhythm", "dance.mp4", "--plot", "a.jpg"], 2, "end the name in .png"),
        (["rhythm", "a.npz"], 4, "a.npz"),
        (["rhythm", "still.mp4", "--rhythm", "flow"], 4, "nothing moves"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_pose_and_rhythm_refuse_alike(
    loris: RunLoris,
    dance: Path,
    static_video: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(dance.parent)
    Path("still.mp4").write_bytes(static_video.read_bytes())
    before = read_folder(dance.parent)

    result = loris(*words)

    assert result.exit_code == code, result.stderr
    assert message in result.stderr
    check_error_output(result)
    assert read_folder(dance.parent) == before
