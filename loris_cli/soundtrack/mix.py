"""Mix of a new soundtrack with the original audio of the video, normalized as a whole.

original audio, aligned with the video -> gain -> sum with the new audio -> loudness, true peak
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import soundfile

from loris_cli.array_types import Samples
from loris_cli.audio.loudness import Loudness, normalize_loudness
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.video.audio_track import read_audio_blocks
from loris_cli.video.containers import WarningCallback
from loris_cli.video.ffmpeg import input_args, output_url, run_ffmpeg

BLOCK_S = 10.0
MAX_LAYOUT_CHANNELS = 8
"""Largest number of channels that has a usual layout (7.1), with known downmix weights.
Audio with more channels is mixed as mono."""


def mix_original_audio(
    video: Path,
    audio: Path,
    out: Path,
    *,
    gain_db: float,
    audio_track: int | None = None,
    target_lufs: float = -14.0,
    ceiling_dbtp: float = -1.0,
    on_warning: WarningCallback | None = None,
) -> Loudness | None:
    """Mix audio with the original audio of a video, and normalize the loudness of the mix.

    Args:
        video: video with the original audio.
        audio: WAV, mono or stereo, sample 0 at the first displayed frame.
        out: 32-bit float WAV with the length of ``audio``; stereo if either is not mono. Two
            temporary files are written next to it.
        gain_db: gain of the original audio, relative to ``audio``.
        audio_track: number of the original audio track, counted from 1; ``None`` selects as
            `find_audio_stream`.
        target_lufs: target integrated loudness of the mix.
        ceiling_dbtp: maximum true peak of the mix.
        on_warning: called if one of several audio tracks is selected.

    Returns:
        The loudness of ``out``; ``None`` if the video has no audio, and then ``out`` is not
        written.
    """
    original, summed = out.with_suffix(".original.wav"), out.with_suffix(".sum.wav")
    blocks = read_audio_blocks(
        video,
        rate_hz=SAMPLE_RATE_HZ,
        block_s=BLOCK_S,
        track=audio_track,
        on_warning=on_warning,
    )
    n_original = _write_blocks(blocks, original)
    if not n_original:
        return None
    n_new = soundfile.info(audio).channels
    is_stereo = max(n_new, n_original) > 1
    new, old = (_layout_filter(n_channels, is_stereo) for n_channels in (n_new, n_original))
    graph = (
        f"[0:a]{new}[new];[1:a]{old},volume={gain_db:.6f}dB[original];"
        "[new][original]amix=inputs=2:duration=first:normalize=0[sum]"
    )
    run_ffmpeg(
        [
            *(*input_args(audio), *input_args(original)),
            *("-filter_complex", graph, "-map", "[sum]", "-c:a", "pcm_f32le"),
            *("-fflags", "+bitexact", "-flags", "+bitexact", "-f", "wav", output_url(summed)),
        ]
    )
    return normalize_loudness(summed, out, target_lufs=target_lufs, ceiling_dbtp=ceiling_dbtp)


def _write_blocks(blocks: Iterator[Samples], path: Path) -> int:
    """Write audio to a float WAV file and return its number of channels; 0 without audio."""
    first = next(blocks, None)
    if first is None:
        return 0
    n_channels = len(first) if len(first) <= MAX_LAYOUT_CHANNELS else 1
    with soundfile.SoundFile(path, "w", SAMPLE_RATE_HZ, n_channels, "FLOAT") as file:
        for block in chain([first], blocks):
            file.write(block.T if n_channels == len(block) else np.mean(block, axis=0))
    return n_channels


def _layout_filter(n_channels: int, is_stereo: bool) -> str:
    """Return a filter to mono or stereo. The default of ffmpeg attenuates mono by 3 dB."""
    if is_stereo and n_channels == 1:
        return "aformat=sample_fmts=fltp,pan=stereo|c0=c0|c1=c0"
    return f"aformat=sample_fmts=fltp:channel_layouts={'stereo' if is_stereo else 'mono'}"
