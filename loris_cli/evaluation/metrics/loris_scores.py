"""The published scores of rhythm, as the authors' scripts compute them.

    sound -> onsets -> one flag a second -> hits -> BCS, BHS of a clip -> BCS, CSD, BHS, HSD, F1

LORIS (Yu et al., ICML 2023), Sec. 4.2 and App. B.3, and its released script. The paper calls
BCS recall and BHS precision; the script computes the reverse, and so do we: **BCS is the
precision** (the share of the generated seconds that are right), **BHS is the recall** (the
share of the true seconds that are met). Sums are taken in the script's order, so figures agree
to the last digit.

One flag a second says little: where nearly every second of the truth has an onset, so does
nearly every second of anything. Read these figures beside those of a metronome
(`benchmark.rivals`) and of `evaluation.strict`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import InputError
from loris_cli.system.librosa_import import librosa

Array = NDArray[np.float64]
OnsetFlags = NDArray[np.bool_]
Samples = NDArray[np.float32]

N_FFT, HOP_SAMPLES = 2048, 512
"""librosa's own, in samples: no script changes them."""


@dataclass(frozen=True, kw_only=True)
class ScoringProtocol:
    """Whose script is followed: how it picks onsets and what it makes of the flags."""

    id: str
    """Told with every figure."""
    pre_avg: int
    post_avg: int
    pre_max: int
    post_max: int
    """Windows of the peak picking, in frames of 512 samples; ``post`` is exclusive."""
    delta: float = 0.2
    """Least height over the mean, of an envelope scaled to 0..1."""
    wait: int = 1
    bcs_is_ratio: bool = False
    """BCS is generated over true seconds, which can exceed 1, rather than a precision."""

    @property
    def peak_picking_args(self) -> dict[str, Any]:
        """Arguments of librosa's peak picking."""
        return {
            "pre_avg": self.pre_avg,
            "post_avg": self.post_avg,
            "pre_max": self.pre_max,
            "post_max": self.post_max,
            "delta": self.delta,
            "wait": self.wait,
        }


OFFICIAL_PROTOCOL = ScoringProtocol(
    id="loris-official-v1", pre_avg=3, post_avg=3, pre_max=3, post_max=3
)
"""As released with LORIS."""


def with_onset_window(protocol: ScoringProtocol, window_frames: int) -> ScoringProtocol:
    """The protocol with other windows of the mean, in frames; an identity of its own."""
    if window_frames == protocol.pre_avg == protocol.post_avg:
        return protocol
    return replace(
        protocol,
        id=f"{protocol.id}-avg{window_frames}",
        pre_avg=window_frames,
        post_avg=window_frames,
    )


PROTOCOLS = MappingProxyType(
    {
        "official": OFFICIAL_PROTOCOL,
        "paper": with_onset_window(
            OFFICIAL_PROTOCOL, 2
        ),  # App. B.3 says 2 where the script has 3
        # Beats_Scores of D2M-GAN (Zhu et al., 2022), used by CDCD: pre_max is librosa's own
        # 30 ms, which is one frame.
        "d2m": ScoringProtocol(
            id="d2m-v1", pre_avg=1, post_avg=1, pre_max=1, post_max=1, bcs_is_ratio=True
        ),
    }
)


@dataclass(frozen=True, kw_only=True)
class ClipScores:
    """Scores of one clip, each 0 where its denominator is."""

    bcs: float
    """Precision: hits over generated seconds; of `d2m` the ratio of seconds instead."""
    bhs: float
    """Recall: hits over true seconds."""


@dataclass(frozen=True, kw_only=True)
class ScoreSummary:
    """Scores of many clips."""

    bcs: float
    csd: float | None
    """Standard deviation of BCS over clips, one degree of freedom less; None of one clip."""
    bhs: float
    hsd: float | None
    f1: float | None
    """Of the two means, not the mean of F1; None where BCS is no precision."""


def detect_protocol_onsets(
    samples: Samples, protocol: ScoringProtocol = OFFICIAL_PROTOCOL
) -> Array:
    """Moments at which a sound begins.

    Args:
        samples: mono, 22,050 Hz, ``(samples,)``.
        protocol: whose parameters.

    Returns:
        rising seconds, ``(onsets,)``, multiples of 512 samples; none in silence.

    Raises:
        InputError: the sound is empty, not mono, or holds values that are not finite.
    """
    if samples.ndim != 1 or not len(samples) or not np.isfinite(samples).all():
        raise InputError("onsets are found in finite mono sound, (samples,)")
    onsets: Array = librosa.onset.onset_detect(
        onset_envelope=_onset_strength(samples),
        sr=SAMPLE_RATE_HZ,
        hop_length=HOP_SAMPLES,
        units="time",
        **protocol.peak_picking_args,
    )
    return onsets


def _onset_strength(samples: Samples) -> NDArray[np.float32]:
    """Onset strength as librosa has it, bit for bit, with its mel filters made once."""
    power = np.abs(librosa.stft(samples, n_fft=N_FFT, hop_length=HOP_SAMPLES)) ** 2.0
    bands = np.einsum("ft,mf->mt", power, _mel_filters(), optimize=True)
    flux: NDArray[np.float32] = librosa.onset.onset_strength(
        S=librosa.power_to_db(bands), sr=SAMPLE_RATE_HZ, hop_length=HOP_SAMPLES
    )
    return flux


@cache
def _mel_filters() -> NDArray[np.float32]:
    """Those that librosa makes anew for each sound, a fifth of the time of its onsets."""
    filters: NDArray[np.float32] = librosa.filters.mel(
        sr=SAMPLE_RATE_HZ, n_fft=N_FFT, fmax=0.5 * SAMPLE_RATE_HZ
    )
    return filters


def flag_onset_seconds(onsets_s: Array, n_samples: int) -> OnsetFlags:
    """Which seconds of a sound have an onset.

    Args:
        onsets_s: seconds, not negative.
        n_samples: length of the sound at 22,050 Hz.

    Returns:
        ``(seconds,)``, of which the last may be a part of one.
    """
    seconds = np.zeros(-(-n_samples // SAMPLE_RATE_HZ), dtype=bool)
    which = onsets_s.astype(np.int64)  # truncated
    seconds[which[which < len(seconds)]] = True
    return seconds


def score_clip(
    reference: OnsetFlags, generated: OnsetFlags, protocol: ScoringProtocol = OFFICIAL_PROTOCOL
) -> ClipScores:
    """Scores of one clip; the truth is cut to the generated length.

    Args:
        reference: flags of the ground truth, ``(seconds,)``.
        generated: flags of what was generated, ``(seconds,)``, no longer.
        protocol: whose BCS.

    Raises:
        InputError: what was generated is empty, or longer than the truth.
    """
    if not 0 < len(generated) <= len(reference):
        raise InputError(
            f"{len(generated)} generated seconds cannot be scored against {len(reference)}",
            hint="cut what was generated to the length of the truth",
        )
    reference = reference[: len(generated)]
    n_true, n_made, n_hits = (
        int(reference.sum()),
        int(generated.sum()),
        int((reference & generated).sum()),
    )
    covered, of = (n_made, n_true) if protocol.bcs_is_ratio else (n_hits, n_made)
    return ClipScores(bcs=covered / of if of else 0.0, bhs=n_hits / n_true if n_true else 0.0)


def summarize_scores(
    clip_scores: Sequence[ClipScores], protocol: ScoringProtocol = OFFICIAL_PROTOCOL
) -> ScoreSummary:
    """Scores of many clips.

    Raises:
        InputError: there is none.
    """
    if not clip_scores:
        raise InputError("no clip was scored")
    bcs, bhs = [pair.bcs for pair in clip_scores], [pair.bhs for pair in clip_scores]
    # One after the other, as the script adds them: numpy's sum rounds another way.
    mean_bcs, mean_bhs = sum(bcs) / len(bcs), sum(bhs) / len(bhs)
    return ScoreSummary(
        bcs=mean_bcs,
        csd=_sample_std(bcs),
        bhs=mean_bhs,
        hsd=_sample_std(bhs),
        f1=None if protocol.bcs_is_ratio else f1_score(mean_bcs, mean_bhs),
    )


def f1_score(bcs: float, bhs: float) -> float:
    """Harmonic mean; 0 where both are."""
    return 2 * bcs * bhs / (bcs + bhs) if bcs + bhs else 0.0


def _sample_std(values: list[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None
