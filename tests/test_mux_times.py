"""Times of muxed videos whose source has no presentation times, or a clock that restarts."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media import make_click, read_frame_number, run_ffmpeg, write_video, write_wav

from loris_cli.video.frames import read_frames
from loris_cli.video.mux import mux_audio
from loris_cli.video.probe import probe_video

FPS = 25


def read_times_s(path: Path) -> tuple[list[float], list[float]]:
    """Return the times of packets in file order, and of displayed frames, without repairs."""
    with av.open(str(path)) as container:
        stream = container.streams[0]
        assert isinstance(stream, av.VideoStream)
        tick_s = float(stream.time_base or 0)
        packets = [packet for packet in container.demux(stream) if packet.size]
        times_s = [(packet.pts or 0) * tick_s for packet in packets]
    with av.open(str(path)) as container:
        shown_s = [frame.pts * tick_s for frame in container.decode(video=0) if frame.pts]
    return times_s, shown_s


def check_copy(path: Path, numbers: list[int]) -> None:
    """Check the frames of a file, and their times as players read them."""
    warnings: list[str] = []
    frames = list(read_frames(path, on_warning=warnings.append))
    assert warnings == []
    assert [read_frame_number(frame.rgb) for frame in frames] == numbers
    packets_s, shown_s = read_times_s(path)
    assert len(packets_s) == len(numbers)
    assert (np.diff(shown_s) > 0).all()
    expected_s = np.arange(len(numbers)) / FPS
    np.testing.assert_allclose(np.sort(packets_s) - min(packets_s), expected_s, atol=2e-3)
    assert probe_video(path).duration_s == pytest.approx(len(numbers) / FPS, abs=3e-3)


def write_source(folder: Path, kind: str) -> tuple[Path, list[int]]:
    """Write a video without usable presentation times; return its path and frame numbers."""
    numbers = list(range(30))
    path = folder / f"b.{kind.partition(' ')[2] or kind}"
    click = make_click(1.2, 0.4)
    if kind.startswith("joined"):
        second_s = 500.0 if kind == "joined jump" else 0.0
        parts = [
            write_video(
                folder / f"{k}.ts", n_frames=30, fps=FPS, b_frames=2, start_s=10 + k * second_s,
                sound=click, audio_start_s=10 + k * second_s,
            )
            for k in range(2)
        ]  # fmt: skip
        path.write_bytes(b"".join(part.read_bytes() for part in parts))
        return path, numbers * 2
    source = write_video(folder / "a.mkv", n_frames=30, fps=FPS, sound=click)
    codec = "mpeg4" if kind.startswith("mpeg4") else "libx264"
    args = ["-c:v", codec, "-bf", "2", "-b:v", "1M"]
    if kind == "mpg":  # ffmpeg does not recognize H.264 in smaller files without noise
        args += ["-vf", "noise=alls=8:allf=t", "-g", "15", "-f", "mpeg"]
    run_ffmpeg("-i", source, *args, path)
    return path, numbers


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("kind", ["avi", "mpeg4 avi", "h264", "mpg", "joined", "joined jump"])
def test_a_copy_has_rising_times_and_every_packet(
    tmp_path: Path, kind: str, suffix: str
) -> None:
    video, numbers = write_source(tmp_path, kind)
    audio = write_wav(tmp_path / "a.wav", make_click(2, 0.5, rate_hz=22_050))
    out = tmp_path / f"out{suffix}"
    warnings: list[str] = []
    mux_audio(video, audio, out, tags={}, on_warning=warnings.append)
    assert warnings == []
    check_copy(out, numbers)
    assert Fraction(probe_video(out).fps).limit_denominator(10) == FPS


def test_temporary_files_of_a_copy_are_removed(tmp_path: Path) -> None:
    video, _ = write_source(tmp_path, "avi")
    audio = write_wav(tmp_path / "a.wav", make_click(2, 0.5, rate_hz=22_050))
    (tmp_path / "out").mkdir()
    mux_audio(video, audio, tmp_path / "out" / "o.mp4", tags={})
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["o.mp4"]


def test_a_retimed_copy_keeps_the_tags_of_its_source(tmp_path: Path) -> None:
    video, _ = write_source(tmp_path, "avi")
    titled = tmp_path / "titled.avi"
    run_ffmpeg("-i", video, "-c", "copy", "-metadata", "title=Finals", titled)
    audio = write_wav(tmp_path / "a.wav", make_click(2, 0.5, rate_hz=22_050))
    mux_audio(titled, audio, tmp_path / "o.mp4", tags={"comment": "new"})
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert container.metadata["title"] == "Finals"
        assert container.metadata["comment"] == "new"
