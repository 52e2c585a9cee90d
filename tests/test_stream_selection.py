"""Choice of the video stream and the audio stream, and audio with many channels."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile
from conftest import RunLoris
from media import (
    make_tone,
    measure_tone_amplitude,
    read_frame_number,
    run_ffmpeg,
    write_video,
    write_wav,
)

from loris_cli.errors import InputError
from loris_cli.soundtrack.mix import mix_original_audio
from loris_cli.video.audio_track import read_audio
from loris_cli.video.frames import read_frames
from loris_cli.video.probe import probe_video

RATE_HZ = 22_050


def write_two_tracks(tmp_path: Path, name: str, default: int) -> Path:
    """Write a video with tones of 440 Hz and 880 Hz, one of which is the default track."""
    inputs: list[str | Path] = []
    for number, hz in enumerate((440, 880)):
        source = write_video(tmp_path / f"{number}.mkv", sound=make_tone(1, hz, 0.5))
        inputs += ["-i", source]
    path = tmp_path / name
    run_ffmpeg(
        *(*inputs, "-map", "0:v", "-map", "0:a", "-map", "1:a", "-c", "copy"),
        *("-disposition:a:0", "0", f"-disposition:a:{default}", "default", path),
    )
    return path


def loudest_tone_hz(path: Path, track: int | None = None) -> float:
    samples = read_audio(path, rate_hz=RATE_HZ, track=track)
    assert samples is not None
    return max((440.0, 880.0), key=lambda hz: measure_tone_amplitude(samples, hz, RATE_HZ))


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.mov"])
def test_the_default_audio_track_is_read_and_reported(tmp_path: Path, name: str) -> None:
    path = write_two_tracks(tmp_path, name, default=1)
    notes: list[str] = []
    read_audio(path, rate_hz=RATE_HZ, on_warning=notes.append)
    assert loudest_tone_hz(path) == 880
    assert len(notes) == 1
    assert "track 2" in notes[0]
    assert "--audio-track" in notes[0]


def test_an_audio_track_is_read_by_number(tmp_path: Path) -> None:
    path = write_two_tracks(tmp_path, "a.mkv", default=1)
    notes: list[str] = []
    read_audio(path, rate_hz=RATE_HZ, track=1, on_warning=notes.append)
    assert [loudest_tone_hz(path, track) for track in (1, 2)] == [440, 880]
    assert notes == []


@pytest.mark.parametrize("track", [0, 3])
def test_a_missing_audio_track_is_refused(tmp_path: Path, track: int) -> None:
    path = write_two_tracks(tmp_path, "a.mkv", default=1)
    with pytest.raises(InputError) as caught:
        read_audio(path, rate_hz=RATE_HZ, track=track)
    assert "--audio-track" in caught.value.hint


def test_the_chosen_audio_track_is_mixed(tmp_path: Path) -> None:
    path = write_two_tracks(tmp_path, "a.mkv", default=1)
    silence = write_wav(tmp_path / "silence.wav", np.zeros((1, RATE_HZ), np.float32))
    for track, hz in ((None, 880), (1, 440)):
        out = tmp_path / f"{track}.wav"
        mix_original_audio(path, silence, out, gain_db=0.0, audio_track=track)
        assert loudest_tone_hz(out) == hz


def test_soundtrack_refuses_a_missing_audio_track(tmp_path: Path, loris: RunLoris) -> None:
    path = write_two_tracks(tmp_path, "a.mkv", default=1)
    arguments = ("soundtrack", path, "-o", tmp_path / "b.mp4", "--method", "score")
    missing = loris(*arguments, "--mix", "-6", "--audio-track", "3")
    assert missing.exit_code == 4
    assert missing.stderr.count("\n") <= 2
    assert loris(*arguments, "--audio-track", "1").exit_code == 2


def test_of_equal_tracks_the_one_with_more_channels_is_read(tmp_path: Path) -> None:
    mono = write_video(tmp_path / "mono.mkv", sound=make_tone(1, 440, 0.5))
    stereo = write_video(tmp_path / "2.mkv", sound=np.repeat(make_tone(1, 880, 0.5), 2, axis=0))
    path = tmp_path / "a.ts"
    maps = ("-map", "0:v", "-map", "0:a", "-map", "1:a")
    run_ffmpeg("-i", mono, "-i", stereo, *maps, "-c", "copy", path)
    assert loudest_tone_hz(path) == 880


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_a_small_preview_before_the_video_is_not_read(tmp_path: Path, suffix: str) -> None:
    preview = write_video(tmp_path / "preview.mp4", size=(80, 60), n_frames=12)
    main = write_video(tmp_path / "main.mp4", n_frames=10)
    path = tmp_path / f"a{suffix}"
    run_ffmpeg("-i", preview, "-i", main, "-map", "0", "-map", "1", "-c", "copy", path)
    notes: list[str] = []
    info = probe_video(path, on_warning=notes.append)
    assert (info.width, info.n_frames) == (160, 10)
    assert [read_frame_number(frame.rgb) for frame in read_frames(path)] == list(range(10))
    assert len(notes) == 1
    assert "160 x 120" in notes[0]


def test_a_default_stream_of_one_picture_is_not_read(tmp_path: Path) -> None:
    cover = tmp_path / "cover.png"
    cv2.imwrite(str(cover), np.zeros((600, 600, 3), np.uint8))
    path = tmp_path / "a.mkv"
    run_ffmpeg(
        *("-i", cover, "-i", write_video(tmp_path / "b.mp4"), "-map", "0", "-map", "1"),
        *("-c", "copy", "-disposition:v:0", "default", "-disposition:v:1", "0", path),
    )
    notes: list[str] = []
    assert probe_video(path, on_warning=notes.append).width == 160
    assert notes == []


def test_the_default_flag_precedes_the_frame_size(tmp_path: Path) -> None:
    large = write_video(tmp_path / "large.mp4", size=(320, 240))
    small = write_video(tmp_path / "small.mp4")
    path = tmp_path / "a.mkv"
    run_ffmpeg(
        *("-i", large, "-i", small, "-map", "0", "-map", "1", "-c", "copy"),
        *("-disposition:v:0", "0", "-disposition:v:1", "default", path),
    )
    assert probe_video(path).width == 160


@pytest.mark.parametrize(
    ("codec", "suffix", "n_channels"),
    [
        ("pcm_s16le", ".mkv", 16),
        ("libvorbis", ".mkv", 16),
        ("pcm_s24le", ".mov", 24),
        ("pcm_f64le", ".mov", 10),
        ("wavpack", ".mkv", 10),
        ("copy", ".mkv", 100),
        ("pcm_u8", ".wav", 9),
    ],
)
def test_audio_with_many_channels_keeps_their_levels(
    tmp_path: Path, codec: str, suffix: str, n_channels: int
) -> None:
    sound = tmp_path / "tone.wav"
    samples = np.zeros((RATE_HZ, n_channels), np.float32)
    samples[:, 1] = make_tone(1, 440, 0.5, rate_hz=RATE_HZ)
    samples[:, -1] = make_tone(1, 880, 0.25, rate_hz=RATE_HZ)
    soundfile.write(sound, samples, RATE_HZ, subtype="FLOAT")
    path = tmp_path / f"a{suffix}"
    run_ffmpeg("-i", sound, "-c:a", codec, "-q:a", "10", path)
    audio = read_audio(path, rate_hz=RATE_HZ)
    assert audio is not None
    assert audio.shape == (n_channels, RATE_HZ)
    for channel, hz, amplitude in ((1, 440, 0.5), (n_channels - 1, 880, 0.25)):
        measured = measure_tone_amplitude(audio[[channel]], hz, RATE_HZ)
        assert measured == pytest.approx(amplitude, rel=0.1)
    assert np.abs(audio[0]).max() < 0.02
