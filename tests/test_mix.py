"""Mix of the new soundtrack with the original audio: loudness, balance, and sync."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from media import (
    Samples,
    find_onset_s,
    make_click,
    make_tone,
    measure_tone_amplitude,
    run_ffmpeg,
    write_video,
    write_wav,
)

from loris_cli.soundtrack.mix import mix_original_audio
from loris_cli.video.ffmpeg_program import find_ffmpeg

RATE_HZ = 22_050
TARGET_LUFS = -14.0
NEW_HZ, ORIGINAL_HZ = 500.0, 1500.0


def mix(video: Path, audio: Path, gain_db: float) -> Path | None:
    """Mix, and return the path of the mix."""
    out = video.with_name("mix.wav")
    loudness = mix_original_audio(video, audio, out, gain_db=gain_db)
    return None if loudness is None else out


def read_ebur128(path: Path) -> tuple[float, float]:
    """Return integrated loudness in LUFS and true peak in dBTP, as ffmpeg measures them."""
    command = [find_ffmpeg(), "-nostdin", "-i", str(path), "-af", "ebur128=peak=true"]
    log = subprocess.run([*command, "-f", "null", "-"], capture_output=True, check=True).stderr
    summary = log.decode().rpartition("Summary:")[2]
    matches = re.search(r"I:\s+(\S+) LUFS", summary), re.search(r"Peak:\s+(\S+)", summary)
    loudness, peak = (float(match[1]) for match in matches if match)
    return loudness, peak


def write_tone(path: Path, hz: float, n_channels: int, amplitude: float = 0.2) -> Path:
    return write_wav(
        path, np.repeat(make_tone(3, hz, amplitude, rate_hz=RATE_HZ), n_channels, axis=0)
    )


@pytest.mark.parametrize("n_original", [1, 2, 6, 16])
@pytest.mark.parametrize("n_new", [1, 2])
def test_a_mix_has_the_target_loudness(tmp_path: Path, n_original: int, n_new: int) -> None:
    sound = write_tone(tmp_path / "original.wav", ORIGINAL_HZ, n_original)
    video = tmp_path / "v.mkv"
    silent = write_video(tmp_path / "a.mkv", n_frames=30)
    run_ffmpeg("-i", silent, "-i", sound, "-c", "copy", "-c:a", "pcm_s16le", video)
    for gain_db in (-20.0, 0.0):
        out = mix(video, write_tone(tmp_path / "new.wav", NEW_HZ, n_new), gain_db)
        assert out is not None
        loudness, peak = read_ebur128(out)
        assert loudness == pytest.approx(TARGET_LUFS, abs=0.5)
        assert peak <= -0.9
        assert soundfile.info(out).channels == max(n_new, {1: 1, 16: 1}.get(n_original, 2))


@pytest.mark.parametrize("n_original", [1, 2])
@pytest.mark.parametrize("n_new", [1, 2])
def test_the_original_audio_is_mixed_at_the_given_gain(
    tmp_path: Path, n_original: int, n_new: int
) -> None:
    original = np.repeat(make_tone(3, ORIGINAL_HZ, 0.2), n_original, axis=0)
    video = write_video(tmp_path / "a.mkv", n_frames=30, sound=original)
    out = mix(video, write_tone(tmp_path / "new.wav", NEW_HZ, n_new), -12)
    assert out is not None
    middle = soundfile.read(out, dtype="float32", always_2d=True)[0].T[:, RATE_HZ:-RATE_HZ]
    amplitudes = [measure_tone_amplitude(middle, hz, RATE_HZ) for hz in (NEW_HZ, ORIGINAL_HZ)]
    assert amplitudes[1] / amplitudes[0] == pytest.approx(10 ** (-12 / 20), rel=0.05)


def write_late_video(folder: Path) -> Path:
    click = make_click(2, 1.1)
    return write_video(
        folder / "a.mkv", n_frames=24, b_frames=2, start_s=0.5, sound=click, audio_start_s=0.2
    )


def write_joined_video(folder: Path) -> Path:
    parts: list[Samples | None] = [None, make_click(2, 0.8)]
    path = folder / "joined.ts"
    path.write_bytes(b"")
    for number, sound in enumerate(parts):
        part = write_video(
            folder / f"{number}.ts",
            n_frames=20,
            b_frames=2,
            sound=make_click(2, 3) if sound is None else sound,
        )
        path.write_bytes(path.read_bytes() + part.read_bytes())
    return path


@pytest.mark.parametrize(
    ("write", "onset_s"), [(write_late_video, 0.8), (write_joined_video, 2.8)]
)
def test_the_mixed_original_audio_stays_in_sync(
    tmp_path: Path, write: object, onset_s: float
) -> None:
    assert callable(write)
    video = write(tmp_path)
    silence = write_wav(tmp_path / "s.wav", np.zeros((1, 4 * RATE_HZ), np.float32))
    out = mix(video, silence, 0)
    assert out is not None
    samples = soundfile.read(out, dtype="float32", always_2d=True)[0].T
    assert samples.shape[1] == 4 * RATE_HZ
    assert find_onset_s(samples, RATE_HZ) == pytest.approx(onset_s, abs=0.05)


def test_a_video_without_audio_has_no_mix(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4")
    assert mix(video, write_tone(tmp_path / "new.wav", NEW_HZ, 1), -6) is None
