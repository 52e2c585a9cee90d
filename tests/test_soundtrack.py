"""``loris soundtrack``: output files, JSON rows, takes, inpainting, mixing, dry runs."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import soundfile
from conftest import CliResult, RunLoris
from media import make_tone, measure_tone_amplitude, run_ffmpeg, write_wav

from loris_cli.api import SoundtrackSettings, generate_soundtrack
from loris_cli.array_types import Samples
from loris_cli.errors import InputError
from loris_cli.models.generator_interface import ProgressCallback, VideoFeatures
from loris_cli.rhythm.plot import (
    BOTTOM_MARGIN_PX,
    LEFT_MARGIN_PX,
    PANEL_GAP_PX,
    PANEL_HEIGHT_PX,
    RIGHT_MARGIN_PX,
    TOP_MARGIN_PX,
)
from loris_cli.soundtrack.pipeline import make_soundtrack
from loris_cli.soundtrack.video_analysis import analyze_video
from loris_cli.video.audio_track import read_audio
from loris_cli.video.probe import probe_video

pytestmark = pytest.mark.numpy1

RATE_HZ = 22_050


@pytest.fixture
def run_soundtrack(loris: RunLoris, small_model: Path, pose_file: Path) -> RunLoris:
    """``loris soundtrack`` with a small model, 2 steps and existing poses."""

    def run(*arguments: object, poses: Path | None = pose_file) -> CliResult:
        pose_arguments = ("--poses", poses) if poses else ()
        model_arguments = ("--model", small_model, "--steps", 2)
        return loris("soundtrack", *arguments, *model_arguments, *pose_arguments)

    return run


@pytest.fixture
def video(tmp_path: Path, moving_video: Path) -> Path:
    """Copy of the moving video in an empty folder."""
    path = tmp_path / "dance.mp4"
    path.write_bytes(moving_video.read_bytes())
    return path


def list_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_default_output_is_next_to_the_video_and_printed_on_stdout(
    run_soundtrack: RunLoris, video: Path
) -> None:
    result = run_soundtrack(video)

    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{video.parent / 'dance.loris.mp4'}\n"
    assert list_names(video.parent) == ["dance.loris.mp4", "dance.mp4"]
    output = probe_video(video.parent / "dance.loris.mp4")
    assert output.has_audio
    assert output.duration_s == pytest.approx(probe_video(video).duration_s, abs=0.01)


def test_json_row_describes_the_take(
    run_soundtrack: RunLoris, video: Path, small_model: Path
) -> None:
    result = run_soundtrack(
        video, "--json", "-q", "--seed", 5, "--genre", "skate", "-o", video.with_suffix(".wav")
    )

    row = json.loads(result.stdout)
    assert result.stderr == ""
    assert row["status"] == "done"
    assert row["input"] == str(video)
    assert row["output"] == str(video.with_suffix(".wav"))
    assert (row["seed"], row["genre"], row["steps"]) == (5, "skate", 2)
    assert row["model"] == small_model.name
    assert len(row["fingerprint"]) == 12
    assert row["rhythm_method"] == "directogram"
    assert row["detected_fraction"] == 1
    assert len(row["peaks_s"]) == len(row["strengths"]) > 0
    assert row["duration_s"] == pytest.approx(2, abs=0.01)
    assert set(row["stages_s"]) == {"music", "mux"}
    assert row["elapsed_s"] >= sum(row["stages_s"].values()) > 0
    assert math.isfinite(row["integrated_lufs"])
    assert row["warnings"] == []


def test_video_metadata_has_the_generator_and_the_seed(
    run_soundtrack: RunLoris, video: Path
) -> None:
    run_soundtrack(video, "--seed", 3)

    with av.open(str(video.parent / "dance.loris.mp4")) as output:
        comment = output.metadata["comment"]
    assert "loris" in comment
    assert "seed 3" in comment


@pytest.mark.slow
def test_takes_are_numbered_and_have_consecutive_seeds(
    run_soundtrack: RunLoris, video: Path
) -> None:
    result = run_soundtrack(video, "--takes", 2, "-o", video.with_name("new.wav"))
    single = run_soundtrack(video, "--seed", 1, "-o", video.with_name("second.wav"))

    first, second = video.with_name("new-1.wav"), video.with_name("new-2.wav")
    assert result.stdout.splitlines() == [str(first), str(second)]
    assert first.read_bytes() != second.read_bytes()
    assert single.exit_code == 0
    assert (
        read_samples(second).tobytes() == read_samples(video.with_name("second.wav")).tobytes()
    )


def read_samples(path: Path) -> np.ndarray:
    samples: np.ndarray
    samples, rate_hz = soundfile.read(path, dtype="int16")
    assert rate_hz == RATE_HZ
    return samples


@pytest.mark.slow
def test_inpainting_keeps_samples_outside_the_range_in_the_file(
    run_soundtrack: RunLoris, video: Path
) -> None:
    original, new = video.with_name("original.wav"), video.with_name("new.wav")
    assert run_soundtrack(video, "-o", original).exit_code == 0

    result = run_soundtrack(
        video, "-o", new, "--inpaint", original, "--inpaint-range", 0.5, 1.25, "--seed", 9
    )

    assert result.exit_code == 0, result.stderr
    before, after = read_samples(original), read_samples(new)
    time_s = np.arange(len(before)) / RATE_HZ
    is_regenerated = (time_s > 0.5) & (time_s < 1.25)
    assert np.array_equal(before[~is_regenerated], after[~is_regenerated])
    assert np.mean(before[is_regenerated] != after[is_regenerated]) > 0.9


@pytest.mark.slow
def test_inpainting_accepts_a_video_as_original(run_soundtrack: RunLoris, video: Path) -> None:
    assert run_soundtrack(video).exit_code == 0
    original_video = video.with_name("dance.loris.mp4")
    original = read_audio(original_video, rate_hz=RATE_HZ)
    assert original is not None

    new = video.with_name("new.wav")
    result = run_soundtrack(
        video, "-o", new, "--inpaint", original_video, "--inpaint-range", 1, 2
    )

    assert result.exit_code == 0, result.stderr
    preserved = read_samples(new)[:RATE_HZ] / 32768
    assert np.abs(preserved - original[0, :RATE_HZ]).max() < 1e-4


def test_regenerated_range_with_excessive_level_does_not_clip(
    tmp_path: Path, video: Path
) -> None:
    class LoudRangeGenerator:
        """Generate a tone that is five times louder around 1.25 s."""

        def generate(
            self, features: VideoFeatures, *, seed: int, progress: ProgressCallback
        ) -> Iterator[Samples]:
            samples = make_tone(features.duration_s, 440, 0.5, rate_hz=RATE_HZ)
            time_s = np.arange(samples.shape[1]) / RATE_HZ
            samples *= 1 + 4 * np.clip((0.25 - np.abs(time_s - 1.25)) / 0.06, 0, 1)
            yield samples.astype(np.float32)

    out = tmp_path / "out.wav"
    result = make_soundtrack(
        analyze_video(video, method="flow"),
        out,
        generator=LoudRangeGenerator(),
        seed=0,
        regenerate_s=(1.0, 1.5),
    )

    assert result.loudness.true_peak_dbtp < -0.5
    assert np.abs(read_samples(out)).max() < 32_000


@pytest.mark.slow
def test_mix_option_keeps_the_original_audio(run_soundtrack: RunLoris, video: Path) -> None:
    tone = write_wav(video.with_name("tone.wav"), make_tone(2, 3000, 0.5, rate_hz=RATE_HZ))
    video_with_tone = video.with_name("tone.mp4")
    run_ffmpeg(
        "-i", video, "-i", tone, "-c:v", "copy", "-c:a", "aac", "-shortest", video_with_tone
    )

    assert run_soundtrack(video_with_tone, "-o", video.with_name("without.wav")).exit_code == 0
    assert (
        run_soundtrack(
            video_with_tone, "-o", video.with_name("with.wav"), "--mix", -6
        ).exit_code
        == 0
    )

    without, mixed = (
        measure_tone_amplitude(
            (read_samples(video.with_name(name))[None] / 32768).astype(np.float32),
            3000,
            RATE_HZ,
        )
        for name in ("without.wav", "with.wav")
    )
    assert mixed > 0.15
    assert without < 0.15


def test_skip_existing_generates_only_missing_takes(
    run_soundtrack: RunLoris, video: Path
) -> None:
    existing = video.with_name("new-1.wav")
    existing.write_bytes(b"mine")

    result = run_soundtrack(
        video, "--takes", 2, "-o", video.with_name("new.wav"), "--skip-existing", "--json"
    )

    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(row["status"], row["output"]) for row in rows] == [
        ("skipped", str(existing)),
        ("done", str(video.with_name("new-2.wav"))),
    ]
    assert rows[1]["seed"] == 1
    assert existing.read_bytes() == b"mine"


def test_dry_run_estimates_the_cost_and_writes_nothing(
    run_soundtrack: RunLoris, video: Path
) -> None:
    report = video.with_name("run.jsonl")

    result = run_soundtrack(
        video, "--dry-run", "--takes", 3, "--report", report, "-o", video.with_name("d")
    )
    row = json.loads(run_soundtrack(video, "--dry-run", "--json").stdout)

    assert result.exit_code == 0, result.stderr
    assert "6 network evaluations" in result.stdout
    assert row["status"] == "estimated"
    assert row["n_network_evaluations"] == 2
    assert row["estimated_s"] > 0
    assert row["estimated_memory_mib"] > 0
    assert list_names(video.parent) == ["dance.mp4"]


def test_dry_run_of_the_included_model_imports_no_torch(video: Path) -> None:
    code = f"""
import sys
from loris_cli.commands import app
sys.argv = ["loris", "soundtrack", {str(video)!r}, "--dry-run"]
assert app.run_app() == 0
print({{"torch", "scipy.signal", "librosa"}} & set(sys.modules))
"""
    output = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert output.splitlines()[-1] == "set()"


def test_dry_run_fails_for_a_missing_video(
    run_soundtrack: RunLoris, video: Path, tmp_path: Path
) -> None:
    result = run_soundtrack(tmp_path / "none.mp4", "--dry-run")
    assert result.exit_code == 4
    assert "none.mp4" in result.stderr


def test_report_is_appended_to_by_every_run(run_soundtrack: RunLoris, video: Path) -> None:
    report = video.with_name("run.jsonl")

    run_soundtrack(video, "--report", report)
    run_soundtrack(video, "--report", report, "--skip-existing")

    rows = [json.loads(line) for line in report.read_text().splitlines()]
    assert [row["status"] for row in rows] == ["done", "skipped"]


@pytest.mark.slow
def test_plot_option_draws_audio_and_rhythm(run_soundtrack: RunLoris, video: Path) -> None:
    plot = video.with_name("plot.png")

    assert run_soundtrack(video, "--plot", plot, "--takes", 2).exit_code == 0

    image = cv2.imread(str(plot))
    assert image is not None
    # Panels from top to bottom: audio, directogram, onset envelope.
    assert (
        len(image)
        == TOP_MARGIN_PX + BOTTOM_MARGIN_PX + sum(PANEL_HEIGHT_PX.values()) + 2 * PANEL_GAP_PX
    )
    audio_panel = image[
        TOP_MARGIN_PX : TOP_MARGIN_PX + PANEL_HEIGHT_PX["audio"],
        LEFT_MARGIN_PX:-RIGHT_MARGIN_PX,
    ]
    assert audio_panel.std() > 10


@pytest.mark.slow
def test_progress_is_on_stderr_and_absent_with_quiet(
    run_soundtrack: RunLoris, video: Path
) -> None:
    result = run_soundtrack(video)
    assert "music" in result.stderr
    assert "music" not in result.stdout
    assert run_soundtrack(video, "--overwrite", "-q").stderr == ""


@pytest.mark.parametrize(
    ("suffix", "signature"),
    [(".mov", b"qt  "), (".mkv", b"\x1a\x45\xdf\xa3"), (".flac", b"fLaC")],
    ids=["mov", "mkv", "flac"],
)
def test_output_suffix_selects_the_container(
    run_soundtrack: RunLoris, video: Path, suffix: str, signature: bytes
) -> None:
    out = video.with_name(f"out{suffix}")
    assert run_soundtrack(video, "-o", out).exit_code == 0
    assert signature in out.read_bytes()[:12]


def test_video_codec_unsupported_by_webm_is_rejected_before_generation(
    run_soundtrack: RunLoris, video: Path
) -> None:
    result = run_soundtrack(video, "-o", video.with_name("out.webm"))
    assert result.exit_code == 4
    assert "h264" in result.stderr
    assert "music" not in result.stderr


@pytest.mark.slow
def test_api_and_command_write_identical_files(
    run_soundtrack: RunLoris, video: Path, small_model: Path
) -> None:
    out = video.with_name("api.wav")
    result = run_soundtrack(
        video, "-o", video.with_name("command.wav"), "--rhythm", "flow", poses=None
    )
    settings = SoundtrackSettings(model=str(small_model), steps=2, rhythm_method="flow")
    row = generate_soundtrack(str(video), out, settings)

    assert result.exit_code == 0, result.stderr
    assert row["output"] == str(out)
    assert row["rhythm_method"] == "flow"
    assert out.read_bytes() == video.with_name("command.wav").read_bytes()


def test_api_raises_an_error_for_a_missing_video(tmp_path: Path, small_model: Path) -> None:
    with pytest.raises(InputError, match=r"none\.mp4"):
        generate_soundtrack(
            tmp_path / "none.mp4", settings=SoundtrackSettings(model=str(small_model))
        )
    assert os.listdir(tmp_path) == []
