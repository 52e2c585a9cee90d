"""Loudness measurement and normalization of audio files, streamed in constant memory.

    audio -> integrated loudness, true peak -> gain -> true-peak limiter -> audio, same length

Loudness follows ITU-R BS.1770-4 with the gating of EBU R128, measured by ffmpeg's ``ebur128``.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import soundfile

from loris_cli.errors import InputError, LorisError
from loris_cli.video.ffmpeg import input_args, output_url, run_ffmpeg, true_peak_limiter_filters

SILENT_LUFS = -70.0  # absolute gate of EBU R128: quieter blocks are ignored
MAX_GAIN_DB = 30.0
TOLERANCE_LU = 0.5
PEAK_TOLERANCE_DB = 0.05
MAX_PASSES = 6
MAX_PEAK_REDUCTION_DB = 12.0  # stronger limiting is audible distortion
MIN_LU_PER_DB = 0.25  # lower bound for the estimated loudness change per dB of gain


@dataclass(frozen=True, kw_only=True)
class Loudness:
    """Integrated loudness and true peak of a file.

    Args:
        integrated_lufs: integrated loudness of the whole file; -70 or less is silence.
        true_peak_dbtp: highest peak, inter-sample peaks included; ``-inf`` is digital silence.
    """

    integrated_lufs: float
    true_peak_dbtp: float


def measure_loudness(path: Path) -> Loudness:
    """Measure the integrated loudness and the true peak of an audio file."""
    args = ("-map", "0:a:0", "-af", "ebur128=peak=true:framelog=quiet", "-f", "null", "-")
    log = run_ffmpeg([*input_args(path), *args], log_level="info")
    summary = "\n".join(log).rpartition("Summary:")[2]
    level_lufs = re.search(r"\bI:\s+(\S+) LUFS", summary)
    peak = re.search(r"Peak:\s+(\S+) dBFS", summary)
    if level_lufs is None or peak is None:
        raise LorisError(f"cannot measure the loudness of {path}")
    return Loudness(integrated_lufs=float(level_lufs[1]), true_peak_dbtp=float(peak[1]))


def apply_gain(source: Path, out: Path, *, gain_db: float, ceiling_dbtp: float) -> None:
    """Apply a gain to an audio file and limit its true peaks.

    Args:
        source: WAV or FLAC file.
        out: 32-bit float WAV with the same sample rate, length and onset times.
        gain_db: gain in dB.
        ceiling_dbtp: maximum true peak, dB relative to full scale.
    """
    try:
        shape = soundfile.info(source)
    except soundfile.LibsndfileError as error:
        raise InputError(
            f"{source} is not a WAV or FLAC file", hint="convert it to WAV or FLAC"
        ) from error
    chain = [
        f"volume={gain_db:.6f}dB:precision=double",
        *true_peak_limiter_filters(ceiling_dbtp, rate_hz=shape.samplerate),
        f"apad=whole_len={shape.frames}",
        f"atrim=end_sample={shape.frames}",
    ]
    run_ffmpeg(
        [
            *input_args(source),
            *("-map", "0:a:0", "-af", ",".join(chain)),
            *("-c:a", "pcm_f32le", "-map_metadata", "-1"),
            *("-fflags", "+bitexact", "-flags", "+bitexact", "-f", "wav", output_url(out)),
        ]
    )


def normalize_loudness(
    source: Path, out: Path, *, target_lufs: float = -14.0, ceiling_dbtp: float = -1.0
) -> Loudness:
    """Normalize a file to a loudness within 0.5 LU, with a limit on its true peaks.

    Silence is left unchanged. The gain is at most 30 dB, because audio that needs more is
    noise. The limiter reduces peaks by at most 12 dB, so audio with few sharp peaks can stay
    below the target.

    Args:
        source: WAV or FLAC file.
        out: 32-bit float WAV with the same number of samples.
        target_lufs: target integrated loudness.
        ceiling_dbtp: maximum true peak.

    Returns:
        The loudness of ``out``.
    """
    before = measure_loudness(source)
    silent = before.integrated_lufs <= SILENT_LUFS
    max_gain_db = min(MAX_GAIN_DB, ceiling_dbtp + MAX_PEAK_REDUCTION_DB - before.true_peak_dbtp)
    gain_db = 0.0 if silent else min(target_lufs - before.integrated_lufs, max_gain_db)
    limit_db, lu_per_db = ceiling_dbtp, 1.0
    for _ in range(MAX_PASSES):
        apply_gain(source, out, gain_db=gain_db, ceiling_dbtp=limit_db)
        after = measure_loudness(out)
        over_db = after.true_peak_dbtp - ceiling_dbtp
        short_lu = 0.0 if silent else target_lufs - after.integrated_lufs
        if gain_db and not silent:
            # The limiter removes part of each dB of gain; compensate for it.
            gained_lu = after.integrated_lufs - before.integrated_lufs
            lu_per_db = min(max(gained_lu / gain_db, MIN_LU_PER_DB), 1.0)
        more_db = min(gain_db + short_lu / lu_per_db, max_gain_db) - gain_db
        if over_db <= PEAK_TOLERANCE_DB and (abs(short_lu) <= TOLERANCE_LU or more_db == 0):
            break
        # ebur128 reports tenths of a dB; with a small margin the loop converges in one step.
        limit_db -= over_db + PEAK_TOLERANCE_DB if over_db > PEAK_TOLERANCE_DB else 0.0
        gain_db += more_db
    return after
