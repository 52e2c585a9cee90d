"""Names of results that are not given: containers, plots of several inputs, and ``-``."""

from pathlib import Path

import pytest
from conftest import RunLoris
from media import run_ffmpeg

from loris_cli.errors import UsageError
from loris_cli.soundtrack.jobs import SoundtrackSettings, plan_jobs
from loris_cli.video.output_formats import check_container, select_output_suffix

CODECS = {
    "h264.mp4": ("libx264", ".mp4"),
    "h264.avi": ("libx264", ".mp4"),
    "h264.mkv": ("libx264", ".mp4"),
    "vp8.webm": ("libvpx", ".webm"),
    "vp8.mkv": ("libvpx", ".mkv"),
    "prores.mov": ("prores_ks", ".mov"),
    "prores.mkv": ("prores_ks", ".mkv"),
    "wmv2.wmv": ("wmv2", ".mkv"),
    "h263.avi": ("h263", ".mkv"),
    "theora.ogv": ("libtheora", ".mkv"),
}


@pytest.mark.parametrize("name", CODECS)
def test_result_has_a_container_that_holds_the_video(name: str, tmp_path: Path) -> None:
    encoder, suffix = CODECS[name]
    video = tmp_path / name
    source = ["-f", "lavfi", "-i", "testsrc=size=352x288:rate=15:duration=0.4"]
    run_ffmpeg(*source, "-c:v", encoder, "-pix_fmt", "yuv422p10le" if "prores" in name
               else "yuv420p", video)  # fmt: skip
    assert select_output_suffix(video)[0] == suffix
    [job] = plan_jobs([video], None, settings=SoundtrackSettings())
    [(_, output)] = job.takes
    assert output == video.with_name(f"{video.stem}.loris{suffix}")
    assert bool(job.warnings) == (suffix != ".mp4")
    check_container(video, output)


@pytest.mark.parametrize("option", ["-o", "--midi", "--plot", "--report"])
def test_a_result_is_not_written_to_stdout(
    loris: RunLoris, moving_video: Path, tmp_path: Path, option: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    result = loris("soundtrack", moving_video, option, "-")
    assert result.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_standard_input_is_refused(
    loris: RunLoris, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in ("soundtrack", "pose", "rhythm", "prep"):
        result = loris(command, "-")
        assert result.exit_code == 2, result.stderr


def test_several_videos_have_one_plot_each(tmp_path: Path) -> None:
    videos = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    for video in videos:
        video.touch()
    jobs = plan_jobs(
        videos, tmp_path / "out", settings=SoundtrackSettings(plot=tmp_path / "plots")
    )
    plots = [job.plot_paths for job in jobs]
    assert plots == [(tmp_path / "plots" / "a.png",), (tmp_path / "plots" / "b.png",)]
    with pytest.raises(UsageError):
        plan_jobs(
            videos, tmp_path / "out", settings=SoundtrackSettings(plot=tmp_path / "one.png")
        )
