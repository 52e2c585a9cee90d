"""Loudness of sound files, measured and set, in streams of constant memory.

    sound -> integrated loudness, true peak -> gain -> true-peak limiter -> sound as long

Loudness is ITU-R BS.1770-4 as EBU R128 gates it, from ffmpeg's ``ebur128``.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import soundfile

from loris_cli.errors import InputError, LorisError
from loris_cli.system.atomic_files import printable_path
from loris_cli.video.ffmpeg import input_args, output_url, run_ffmpeg, true_peak_limiter_filters

SILENT_LUFS = -70.0  # the absolute gate of R128: nothing below it counts
MAX_GAIN_DB = 30.0
TOLERANCE_LU = 0.5
PEAK_TOLERANCE_DB = 0.05
MAX_PASSES = 6
MAX_PEAK_REDUCTION_DB = 12.0  # more taken off the peaks is heard as distortion
MIN_LU_PER_DB = 0.25  # loudness that a dB of gain must bring, for the next step to be sane


@dataclass(frozen=True, kw_only=True)
class Loudness:
    """How loud a file is.

    Args:
        integrated_lufs: over the whole file; -70 or less is silence.
        true_peak_dbtp: highest peak between the samples too; ``-inf`` is digital silence.
    """

    integrated_lufs: float
    true_peak_dbtp: float


def measure_loudness(path: Path) -> Loudness:
    """How loud a sound file is, as a whole and at its highest point."""
    log = run_ffmpeg(
        [
            *input_args(path),
            "-map",
            "0:a:0",
            "-af",
            "ebur128=peak=true:framelog=quiet",
            "-f",
            "null",
            "-",
        ],
        log_level="info",
    )
    summary = "\n".join(log).rpartition("Summary:")[2]
    level_lufs = re.search(r"\bI:\s+(\S+) LUFS", summary)
    peak = re.search(r"Peak:\s+(\S+) dBFS", summary)
    if level_lufs is None or peak is None:
        raise LorisError(f"the loudness of {printable_path(path)} cannot be measured")
    return Loudness(integrated_lufs=float(level_lufs[1]), true_peak_dbtp=float(peak[1]))


def apply_gain(source: Path, out: Path, *, gain_db: float, ceiling_dbtp: float) -> None:
    """Louder or softer, and no peak above the ceiling.

    Args:
        source: a WAV or FLAC file.
        out: a 32-bit float WAV, as many samples at the same rate; onsets stay in place.
        gain_db: for all samples.
        ceiling_dbtp: highest true peak, dB of full scale.
    """
    try:
        shape = soundfile.info(source)
    except soundfile.LibsndfileError as error:
        raise InputError(
            f"{printable_path(source)} is not a sound file that can be read",
            hint="give WAV or FLAC",
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
    """Set a file to a loudness, within half a unit, and hold its peaks under a ceiling.

    Silence stays silence, and nothing is raised by more than 30 dB: what is that soft is
    noise. A sound of few sharp peaks stays below the target rather than being squashed.

    Args:
        source: a WAV or FLAC file.
        out: a 32-bit float WAV, as long to the sample.
        target_lufs: integrated loudness wanted.
        ceiling_dbtp: highest true peak.

    Returns:
        The loudness of ``out``.
    """
    before = measure_loudness(source)
    silent = before.integrated_lufs <= SILENT_LUFS
    most_db = min(MAX_GAIN_DB, ceiling_dbtp + MAX_PEAK_REDUCTION_DB - before.true_peak_dbtp)
    gain_db = 0.0 if silent else min(target_lufs - before.integrated_lufs, most_db)
    limit_db, yields = ceiling_dbtp, 1.0
    for _ in range(MAX_PASSES):
        apply_gain(source, out, gain_db=gain_db, ceiling_dbtp=limit_db)
        after = measure_loudness(out)
        over_db = after.true_peak_dbtp - ceiling_dbtp
        short_lu = 0.0 if silent else target_lufs - after.integrated_lufs
        if gain_db and not silent:
            # The limiter takes back a part of each dB given, so give that much more.
            gained_lu = after.integrated_lufs - before.integrated_lufs
            yields = min(max(gained_lu / gain_db, MIN_LU_PER_DB), 1.0)
        more_db = min(gain_db + short_lu / yields, most_db) - gain_db
        if over_db <= PEAK_TOLERANCE_DB and (abs(short_lu) <= TOLERANCE_LU or more_db == 0):
            break
        # ebur128 tells tenths of a dB; a little extra room ends the search in one step.
        limit_db -= over_db + PEAK_TOLERANCE_DB if over_db > PEAK_TOLERANCE_DB else 0.0
        gain_db += more_db
    return after
