"""Rhythm scores of the paper, computed as in the authors' scripts.

    audio -> onsets -> flag per second -> hits -> BCS, BHS of a clip -> BCS, CSD, BHS, HSD, F1

LORIS (Yu et al., ICML 2023), Sec. 4.2 and App. B.3, and its released script. The paper
describes BCS as recall and BHS as precision. The script computes the reverse, and so does this
module: **BCS is the precision** (fraction of the generated seconds that are hits), **BHS is the
recall** (fraction of the reference seconds that are hits). Sums are computed in the order of
the script, so scores are bit-identical.

One flag per second is coarse: if nearly every second of the reference has an onset, almost any
audio scores high. Compare these scores with those of a metronome (`runner.bounds`) and with
`metrics.sync`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loris_cli.array_types import Array, Float32Array, Samples
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import InputError
from loris_cli.system.librosa_import import librosa

OnsetFlags = NDArray[np.bool_]

N_FFT, HOP_SAMPLES = 2048, 512
"""librosa's defaults in samples, used by all scripts."""


@dataclass(frozen=True, kw_only=True)
class ScoringProtocol:
    """Onset detection and scoring parameters of one script."""

    id: str
    """Reported with every score."""
    mean_frames: int
    max_frames: int
    """Peak picking windows before and after a frame, in hops of 512 samples. The end is
    exclusive."""
    bcs_is_ratio: bool = False
    """Whether BCS is the ratio of generated to reference seconds, which can exceed 1, instead
    of a precision."""

    @property
    def peak_picking_args(self) -> dict[str, Any]:
        """Arguments of librosa's peak picking; ``delta`` refers to an envelope in 0..1."""
        windows = dict.fromkeys(("pre_avg", "post_avg"), self.mean_frames)
        windows |= dict.fromkeys(("pre_max", "post_max"), self.max_frames)
        return {**windows, "delta": 0.2, "wait": 1}


OFFICIAL_PROTOCOL = ScoringProtocol(id="loris-official-v1", mean_frames=3, max_frames=3)
"""Protocol of the script released with LORIS."""


def replace_averaging_window(protocol: ScoringProtocol, mean_frames: int) -> ScoringProtocol:
    """Return the protocol with another averaging window, in frames, and a matching id."""
    if mean_frames == protocol.mean_frames:
        return protocol
    return replace(protocol, id=f"{protocol.id}-avg{mean_frames}", mean_frames=mean_frames)


PROTOCOLS: Mapping[str, ScoringProtocol] = {
    "official": OFFICIAL_PROTOCOL,
    # The averaging window is 2 in appendix B.3, 3 in the script.
    "paper": replace_averaging_window(OFFICIAL_PROTOCOL, 2),
    # Beats_Scores of D2M-GAN (Zhu et al., 2022), also used by CDCD. pre_max is librosa's
    # default of 30 ms, which is one frame.
    "d2m": ScoringProtocol(id="d2m-v1", mean_frames=1, max_frames=1, bcs_is_ratio=True),
}


@dataclass(frozen=True, kw_only=True)
class ClipScores:
    """Scores of one clip. A score is 0 if its denominator is 0."""

    bcs: float
    """Precision: hits over generated seconds; in `d2m`, generated over reference seconds."""
    bhs: float
    """Recall: hits over reference seconds."""


@dataclass(frozen=True, kw_only=True)
class ScoreSummary:
    """Scores over many clips."""

    bcs: float
    """Mean BCS."""
    csd: float | None
    """Sample standard deviation of BCS over clips; None for one clip."""
    bhs: float
    """Mean BHS."""
    hsd: float | None
    """Sample standard deviation of BHS over clips; None for one clip."""
    f1: float | None
    """F1 of mean BCS and mean BHS, not the mean of F1; None if BCS is not a precision."""


def detect_protocol_onsets(
    samples: Samples, protocol: ScoringProtocol = OFFICIAL_PROTOCOL
) -> Array:
    """Return the onset times of a waveform.

    Args:
        samples: mono, 22,050 Hz, ``(samples,)``.
        protocol: protocol with the peak picking parameters.

    Returns:
        ascending seconds, ``(onsets,)``, at multiples of 512 samples; empty for silence.

    Raises:
        InputError: the audio is empty, not mono, or contains NaN or infinite samples.
    """
    if samples.ndim != 1 or not len(samples) or not np.isfinite(samples).all():
        raise InputError("onset detection needs finite, non-empty mono audio, (samples,)")
    envelope, picking = _onset_strength(samples), protocol.peak_picking_args
    onsets: Array = librosa.onset.onset_detect(
        onset_envelope=envelope,
        sr=SAMPLE_RATE_HZ,
        hop_length=HOP_SAMPLES,
        units="time",
        **picking,
    )
    return onsets


def _onset_strength(samples: Samples) -> Float32Array:
    """Return librosa's onset strength, bit-identical, with cached mel filters."""
    power = np.abs(librosa.stft(samples, n_fft=N_FFT, hop_length=HOP_SAMPLES)) ** 2.0
    bands = np.einsum("ft,mf->mt", power, _mel_filters(), optimize=True)
    bands_db = librosa.power_to_db(bands)
    flux: Float32Array = librosa.onset.onset_strength(S=bands_db, hop_length=HOP_SAMPLES)
    return flux


@cache
def _mel_filters() -> Float32Array:
    """Return mel filters. librosa recomputes them, which takes 1/5 of its onset detection."""
    filters: Float32Array = librosa.filters.mel(sr=SAMPLE_RATE_HZ, n_fft=N_FFT)
    return filters


def flag_onset_seconds(onsets_s: Array, n_samples: int) -> OnsetFlags:
    """Flag the seconds of a recording that contain an onset.

    Args:
        onsets_s: onset times in non-negative seconds.
        n_samples: length of the audio at 22,050 Hz.

    Returns:
        onset flags, ``(seconds,)``; the last second may be incomplete.
    """
    flags = np.zeros(-(-n_samples // SAMPLE_RATE_HZ), dtype=bool)
    seconds = onsets_s.astype(np.int64)  # truncated
    flags[seconds[seconds < len(flags)]] = True
    return flags


def score_clip(
    reference: OnsetFlags, generated: OnsetFlags, protocol: ScoringProtocol = OFFICIAL_PROTOCOL
) -> ClipScores:
    """Score one clip. The reference is truncated to the generated length.

    Args:
        reference: onset flags of the reference, ``(seconds,)``.
        generated: onset flags of the generated audio, ``(seconds,)``, not longer than the
            reference.
        protocol: protocol, which defines BCS.

    Raises:
        InputError: the generated audio is empty, or longer than the reference.
    """
    if not 0 < len(generated) <= len(reference):
        text = (
            f"cannot score {len(generated)} s of audio against {len(reference)} s of reference"
        )
        raise InputError(text, hint="trim the generated audio to the length of the reference")
    reference = reference[: len(generated)]
    n_reference, n_generated = int(reference.sum()), int(generated.sum())
    n_hits = int((reference & generated).sum())
    ratio = (n_generated, n_reference) if protocol.bcs_is_ratio else (n_hits, n_generated)
    bcs = ratio[0] / ratio[1] if ratio[1] else 0.0
    return ClipScores(bcs=bcs, bhs=n_hits / n_reference if n_reference else 0.0)


def summarize_scores(
    clip_scores: Sequence[ClipScores], protocol: ScoringProtocol = OFFICIAL_PROTOCOL
) -> ScoreSummary:
    """Summarize the scores of many clips.

    Raises:
        InputError: there are no clip scores.
    """
    if not clip_scores:
        raise InputError("no clip was scored")
    bcs, bhs = [clip.bcs for clip in clip_scores], [clip.bhs for clip in clip_scores]
    # Sequential sum as in the script. numpy's pairwise sum rounds differently, and so does
    # Python's own from 3.12 on, which compensates for rounding errors.
    mean_bcs, mean_bhs = reduce(add, bcs) / len(bcs), reduce(add, bhs) / len(bhs)
    csd, hsd = _sample_std(bcs), _sample_std(bhs)
    f1 = None if protocol.bcs_is_ratio else f1_score(mean_bcs, mean_bhs)
    return ScoreSummary(bcs=mean_bcs, csd=csd, bhs=mean_bhs, hsd=hsd, f1=f1)


def f1_score(bcs: float, bhs: float) -> float:
    """Harmonic mean of precision and recall; 0 where both are 0."""
    return 2 * bcs * bhs / (bcs + bhs) if bcs + bhs else 0.0


def _sample_std(values: list[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None
