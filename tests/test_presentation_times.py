"""Presentation times: containers without them, restarting clocks, edit lists."""

from collections.abc import Callable, Iterable
from pathlib import Path

import av
import numpy as np
import pytest
from builders import make_poses
from media import (
    edit_tracks,
    find_onset_s,
    make_click,
    read_frame_number,
    run_ffmpeg,
    write_video,
)

from loris_cli.pose.keypoints import Poses, slice_poses
from loris_cli.soundtrack.video_analysis import estimate_video_poses
from loris_cli.system.progress import NullReporter
from loris_cli.video.audio_track import read_audio
from loris_cli.video.frames import Frame, read_frames, read_frames_at_fps
from loris_cli.video.probe import probe_video
from loris_cli.video.retiming import has_irregular_times, write_retimed_copy

RATE_HZ = 22_050


def check_frames(path: Path, numbers: list[int], fps: float = 10) -> None:
    """Check that a video has these frames at a constant rate, without a warning."""
    warnings: list[str] = []
    frames = list(read_frames(path, on_warning=warnings.append))
    info = probe_video(path, on_warning=warnings.append)
    assert [read_frame_number(frame.rgb) for frame in frames] == numbers
    times_s = np.array([frame.time_s for frame in frames])
    np.testing.assert_allclose(times_s, np.arange(len(numbers)) / fps, atol=1e-3)
    assert info.n_frames == len(numbers)
    assert info.duration_s == pytest.approx(len(numbers) / fps, abs=2e-3)
    assert warnings == []


def read_onset_s(path: Path) -> float:
    samples = read_audio(path, rate_hz=RATE_HZ)
    assert samples is not None
    return find_onset_s(samples, RATE_HZ)


@pytest.mark.parametrize("b_frames", [0, 1, 2, 3])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_an_avi_with_b_frames_has_rising_times(
    tmp_path: Path, codec: str, b_frames: int
) -> None:
    source = write_video(tmp_path / "a.mkv", n_frames=40, sound=make_click(4, 1.5))
    path = tmp_path / "a.avi"
    limit = min(b_frames, 2 if codec == "mpeg4" else 3)
    bits = ("-bf", str(limit), "-b:v", "1M")
    run_ffmpeg("-i", source, "-c:v", codec, *bits, "-c:a", "pcm_s16le", path)
    check_frames(path, list(range(40)))
    # The muxer of AVI drops the delay of the B-frames, which is at most 0.2 s here.
    assert read_onset_s(path) == pytest.approx(1.5, abs=0.21)


def test_decoding_times_in_place_of_presentation_times_are_replaced(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", n_frames=40, b_frames=2)
    path = tmp_path / "b.mov"
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        out = new.add_stream_from_template(old.streams.video[0])
        packets = [packet for packet in old.demux(video=0) if packet.dts is not None]
        first = packets[0].dts or 0
        for packet in packets:
            packet.pts = packet.dts = (packet.dts or 0) - first
            packet.stream = out
            new.mux(packet)
    check_frames(path, list(range(40)))


def test_a_program_stream_with_a_time_for_some_frames_is_complete(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", n_frames=60, fps=30)
    path = tmp_path / "a.mpg"
    # ffmpeg does not recognize H.264 in smaller files without noise.
    noise = ("-vf", "noise=alls=8:allf=t", "-g", "15", "-bf", "2", "-c:v", "libx264")
    run_ffmpeg("-i", source, *noise, "-preset", "veryfast", "-crf", "28", "-f", "mpeg", path)
    with av.open(str(path), options={"fflags": "-genpts"}) as container:
        assert any(packet.pts is None for packet in container.demux(video=0) if packet.size)
    check_frames(path, list(range(60)), fps=30)


@pytest.mark.parametrize("suffix", [".h264", ".nut", ".y4m", ".m2v", ".ivf", ".hevc"])
def test_streams_without_a_container_are_read(tmp_path: Path, suffix: str) -> None:
    source = write_video(tmp_path / "a.mp4", n_frames=50, fps=25, b_frames=2)
    path = tmp_path / f"a{suffix}"
    encoders = {
        ".m2v": ["-b:v", "4M"],
        ".ivf": ["-c:v", "libvpx"],
        ".hevc": ["-c:v", "libx265"],
    }
    codec = encoders.get(suffix, ["-c:v", "copy"] if suffix != ".y4m" else [])
    run_ffmpeg("-i", source, *codec, path)
    check_frames(path, list(range(50)), fps=25)


@pytest.mark.parametrize(
    ("suffix", "muxer"), [(".gif", "gif"), (".apng", "apng"), (".png", "apng")]
)
def test_a_moving_picture_is_read_as_a_video(tmp_path: Path, suffix: str, muxer: str) -> None:
    path = tmp_path / f"a{suffix}"
    run_ffmpeg("-i", write_video(tmp_path / "a.mp4", n_frames=20), "-f", muxer, path)
    check_frames(path, list(range(20)))


@pytest.mark.parametrize("second_start_s", [0.0, 500.0])
def test_joined_transport_streams_continue_the_clock(
    tmp_path: Path, second_start_s: float
) -> None:
    parts = []
    for number, start_s in enumerate((100.0, 100.0 + second_start_s)):
        part = write_video(
            tmp_path / f"{number}.ts",
            n_frames=30,
            b_frames=2,
            start_s=start_s,
            sound=make_click(3, 0.7 + number) * (number > 0),
            audio_start_s=start_s,
        )
        parts.append(part.read_bytes())
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(parts))
    check_frames(path, 2 * list(range(30)))
    assert read_onset_s(path) == pytest.approx(3 + 1.7, abs=0.05)
    assert len(list(read_frames_at_fps(path, 16))) == 96


@pytest.mark.parametrize(
    "edits_s",
    [
        [(0.0, 2.0), (4.5, 8.0)],
        [(4.5, 8.0), (0.0, 2.0)],
        [(1.0, 2.0), (1.0, 2.0)],
        [(0.0, 1.0), (2.0, 3.1), (6.0, 7.5)],
    ],
)
@pytest.mark.parametrize("b_frames", [0, 2])
def test_only_the_frames_of_the_edits_of_an_mp4_are_shown(
    tmp_path: Path, b_frames: int, edits_s: list[tuple[float, float]]
) -> None:
    path = write_video(
        tmp_path / "a.mp4", n_frames=80, b_frames=b_frames, sound=make_click(8, 7.2)
    )
    with_list = tmp_path / "b.mp4"
    run_ffmpeg("-i", path, "-c", "copy", "-use_editlist", "1", with_list)
    edit_tracks(with_list, edits_s)
    ranges = [range(round(start * 10), round(end * 10)) for start, end in edits_s]
    check_frames(with_list, [number for numbers in ranges for number in numbers])


def count_opened(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    opened: list[str] = []
    original = av.open

    def open_and_count(name: str, *args: object, **options: object) -> object:
        opened.append(name)
        return original(name, *args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(av, "open", open_and_count)
    return lambda: len(opened)


def test_resampled_frames_are_read_in_one_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mp4", n_frames=20)
    info = probe_video(path)
    n_opened = count_opened(monkeypatch)
    from_path = list(read_frames_at_fps(path, 16))
    assert n_opened() == 1
    from_info = list(read_frames_at_fps(info, 16))
    assert n_opened() == 2
    assert len(from_path) == len(from_info) == 32


def test_resampled_frames_name_the_time_of_their_source(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", times_s=[0, 0.1, 0.25, 0.5, 0.9])
    frames = list(read_frames_at_fps(path, 10))
    source_times_s = [frame.source_time_s or 0.0 for frame in frames]
    expected = [0, 0.1, 0.1, 0.25, 0.25, 0.5, 0.5, 0.5, 0.5, 0.9]
    np.testing.assert_allclose(source_times_s[:10], expected, atol=1e-3)


def test_poses_keep_the_times_of_their_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", times_s=[0, 0.1, 0.25, 0.5, 0.9, 1.1])
    info = probe_video(path)

    def estimate(frames: Iterable[Frame], **_: object) -> Poses:
        return make_poses(np.zeros((len(list(frames)), 17, 2)))

    poses = estimate_video_poses(info, reporter=NullReporter(), estimator=estimate)
    assert poses.source_times_s is not None
    shown = np.searchsorted([0.1, 0.25, 0.5, 0.9, 1.1], poses.times_s + 1e-6, side="right")
    expected = np.array([0, 0.1, 0.25, 0.5, 0.9, 1.1])[shown]
    np.testing.assert_allclose(poses.source_times_s, expected, atol=1e-3)
    cut = slice_poses(poses, 8, 16)
    assert cut.source_times_s is not None
    np.testing.assert_allclose(cut.source_times_s, expected[8:16] - 0.5, atol=1e-3)


@pytest.mark.parametrize("kind", ["avi", "h264", "joined"])
def test_a_retimed_copy_has_rising_times_and_all_frames(tmp_path: Path, kind: str) -> None:
    source = write_video(tmp_path / "a.ts", n_frames=25, fps=25, b_frames=2)
    numbers = list(range(25))
    path = tmp_path / f"b.{kind}"
    if kind == "joined":
        path.write_bytes(2 * source.read_bytes())
        numbers *= 2
    else:
        run_ffmpeg("-i", source, "-c:v", "libx264", "-bf", "2", path)
    assert has_irregular_times(path)
    copy = tmp_path / "copy.mkv"
    write_retimed_copy(path, copy)
    assert not has_irregular_times(copy)
    muxed = tmp_path / "c.mp4"
    run_ffmpeg("-i", copy, "-c", "copy", muxed)
    check_frames(muxed, numbers, fps=25)


def test_regular_files_need_no_retimed_copy(tmp_path: Path) -> None:
    for suffix in (".mp4", ".mkv", ".ts"):
        assert not has_irregular_times(write_video(tmp_path / f"a{suffix}", b_frames=2))
