"""Published rhythm scores, as the authors' scripts compute them.

    audio -> onsets -> one flag a second -> hits -> BCS, BHS of a clip -> BCS, CSD, BHS, HSD, F1

LORIS (Yu et al., ICML 2023), Sec. 4.2 and App. B.3, and its released script. The paper calls
BCS recall and BHS precision; the script computes the reverse, and so do we: **BCS is the
precision** (the share of the generated seconds that are correct), **BHS is the recall** (the
share of the reference seconds that are hit). Sums are taken in the script's order, so scores
agree to the last digit.

One flag a second is coarse: where nearly every second of the reference has an onset, so has
nearly every second of anything. Compare these scores with those of a metronome
(`runner.bounds`) and with `metrics.sync`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loris_cli.array_types import Array, Float32Array, Samples
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import InputError
from loris_cli.system.librosa_import import librosa

OnsetFlags = NDArray[np.bool_]

N_FFT, HOP_SAMPLES = 2048, 512
"""librosa's defaults, in samples: no script changes them."""


@dataclass(frozen=True, kw_only=True)
class ScoringProtocol:
    """Onset detection and scoring of one script."""

    id: str
    """Reported with every score."""
    mean_frames: int
    max_frames: int
    """Windows of the peak picking, before and after, in frames of 512 samples; the one after
    is exclusive."""
    bcs_is_ratio: bool = False
    """BCS is generated over reference seconds, which can exceed 1, rather than a precision."""

    @property
    def peak_picking_args(self) -> dict[str, Any]:
        """Arguments of librosa's peak picking; ``delta`` on an envelope scaled to 0..1."""
        windows = dict.fromkeys(("pre_avg", "post_avg"), self.mean_frames)
        windows |= dict.fromkeys(("pre_max", "post_max"), self.max_frames)
        return {**windows, "delta": 0.2, "wait": 1}


OFFICIAL_PROTOCOL = ScoringProtocol(id="loris-official-v1", mean_frames=3, max_frames=3)
"""As released with LORIS."""


def with_onset_window(protocol: ScoringProtocol, mean_frames: int) -> ScoringProtocol:
    """The protocol with another window of the mean, in frames, and an id of its own."""
    if mean_frames == protocol.mean_frames:
        return protocol
    return replace(protocol, id=f"{protocol.id}-avg{mean_frames}", mean_frames=mean_frames)


PROTOCOLS: Mapping[str, ScoringProtocol] = {
    "official": OFFICIAL_PROTOCOL,
    # Appendix B.3 says 2 where the script has 3.
    "paper": with_onset_window(OFFICIAL_PROTOCOL, 2),
    # Beats_Scores of D2M-GAN (Zhu et al., 2022), used by CDCD: pre_max is librosa's default
    # of 30 ms, which is one frame.
    "d2m": ScoringProtocol(id="d2m-v1", mean_frames=1, max_frames=1, bcs_is_ratio=True),
}


@dataclass(frozen=True, kw_only=True)
class ClipScores:
    """Scores of one clip, each 0 where its denominator is."""

    bcs: float
    """Precision: hits over generated seconds; in `d2m` the ratio of seconds instead."""
    bhs: float
    """Recall: hits over reference seconds."""


@dataclass(frozen=True, kw_only=True)
class ScoreSummary:
    """Scores of many clips."""

    bcs: float
    csd: float | None
    """Sample standard deviation of BCS over clips; None for one clip."""
    bhs: float
    hsd: float | None
    f1: float | None
    """F1 of the two means, not the mean of F1; None where BCS is no precision."""


def detect_protocol_onsets(
    samples: Samples, protocol: ScoringProtocol = OFFICIAL_PROTOCOL
) -> Array:
    """Return the onset times of a waveform.

    Args:
        samples: mono, 22,050 Hz, ``(samples,)``.
        protocol: parameters of the peak picking.

    Returns:
        rising seconds, ``(onsets,)``, multiples of 512 samples; none in silence.

    Raises:
        InputError: the audio is empty, not mono, or holds values that are not finite.
    """
    if samples.ndim != 1 or not len(samples) or not np.isfinite(samples).all():
        raise InputError("onset detection needs finite mono audio, (samples,)")
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
    """Librosa's onset strength, bit for bit, with its mel filters computed once."""
    power = np.abs(librosa.stft(samples, n_fft=N_FFT, hop_length=HOP_SAMPLES)) ** 2.0
    bands = np.einsum("ft,mf->mt", power, _mel_filters(), optimize=True)
    bands_db = librosa.power_to_db(bands)
    flux: Float32Array = librosa.onset.onset_strength(S=bands_db, hop_length=HOP_SAMPLES)
    return flux


@cache
def _mel_filters() -> Float32Array:
    """Mel filters, which librosa computes at every call, a fifth of the time of its onsets."""
    filters: Float32Array = librosa.filters.mel(sr=SAMPLE_RATE_HZ, n_fft=N_FFT)
    return filters


def flag_onset_seconds(onsets_s: Array, n_samples: int) -> OnsetFlags:
    """Flag the seconds of a recording that have an onset.

    Args:
        onsets_s: onset times in seconds, not negative.
        n_samples: length of the audio at 22,050 Hz.

    Returns:
        ``(seconds,)``; the last second may be incomplete.
    """
    flags = np.zeros(-(-n_samples // SAMPLE_RATE_HZ), dtype=bool)
    seconds = onsets_s.astype(np.int64)  # truncated
    flags[seconds[seconds < len(flags)]] = True
    return flags


def score_clip(
    reference: OnsetFlags, generated: OnsetFlags, protocol: ScoringProtocol = OFFICIAL_PROTOCOL
) -> ClipScores:
    """Scores of one clip; the reference is cut to the generated length.

    Args:
        reference: onset flags of the reference, ``(seconds,)``.
        generated: onset flags of the generated audio, ``(seconds,)``, no longer.
        protocol: definition of BCS.

    Raises:
        InputError: the generated audio is empty, or longer than the reference.
    """
    if not 0 < len(generated) <= len(reference):
        text = f"{len(generated)} generated seconds cannot be scored against {len(reference)}"
        raise InputError(text, hint="cut the generated audio to the length of the reference")
    reference = reference[: len(generated)]
    n_reference, n_generated = int(reference.sum()), int(generated.sum())
    n_hits = int((reference & generated).sum())
    ratio = (n_generated, n_reference) if protocol.bcs_is_ratio else (n_hits, n_generated)
    bcs = ratio[0] / ratio[1] if ratio[1] else 0.0
    return ClipScores(bcs=bcs, bhs=n_hits / n_reference if n_reference else 0.0)


def summarize_scores(
    clip_scores: Sequence[ClipScores], protocol: ScoringProtocol = OFFICIAL_PROTOCOL
) -> ScoreSummary:
    """Scores of many clips.

    Raises:
        InputError: there is none.
    """
    if not clip_scores:
        raise InputError("no clip was scored")
    bcs, bhs = [clip.bcs for clip in clip_scores], [clip.bhs for clip in clip_scores]
    # One after the other, as the script adds them: numpy's sum rounds differently.
    mean_bcs, mean_bhs = sum(bcs) / len(bcs), sum(bhs) / len(bhs)
    csd, hsd = _sample_std(bcs), _sample_std(bhs)
    f1 = None if protocol.bcs_is_ratio else f1_score(mean_bcs, mean_bhs)
    return ScoreSummary(bcs=mean_bcs, csd=csd, bhs=mean_bhs, hsd=hsd, f1=f1)


def f1_score(bcs: float, bhs: float) -> float:
    """Harmonic mean of precision and recall; 0 where both are 0."""
    return 2 * bcs * bhs / (bcs + bhs) if bcs + bhs else 0.0


def _sample_std(values: list[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None
