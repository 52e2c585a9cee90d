"""What is wrong with a clip: measured, and against a limit, the reasons not to use it.

sound, poses, gaps -> Measures -> reasons

In place of the authors' looking and listening (LORIS, Sec. 4.1 and B.2): no music, voices left
over, noise, missing frames, more than one person. What is set aside can be taken back.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.system.librosa_import import librosa

Array = NDArray[np.float64]
Samples = NDArray[np.float32]

LEVEL_WINDOW_S = 0.5
SILENCE_DBFS = -50.0
"""Of full scale, root mean square of a window."""
FULL_SCALE = 0.999
MIN_CLIPPED_RUN = 3
"""Samples in a row at full scale: one alone may be a true peak."""
VOICE_DOMINANCE_DB = 10.0
"""Where the voices are so much louder than the music, the mask leaves bits of them in it."""
LOUD_FRAME_QUANTILE = 0.5
"""Flatness is that of the louder windows: soft ones are noise in any recording."""

MAX_SILENT_SHARE = 0.3
MAX_CLIPPED_SHARE = 0.001
MAX_VOICE_SHARE = 0.3
MAX_SPECTRAL_FLATNESS = 0.2
"""Median spectral flatness; white noise 0.56, the pieces of the stand-in set below 0.05."""
MIN_PERSON_SHARE = 0.5
MAX_MULTI_PERSON_SHARE = 0.25
MAX_MISSING_FRAME_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class QualityMeasures:
    """What the filters look at, shares of the clip from 0 to 1."""

    silent_share: float
    """Windows of half a second that are silent."""
    clipped_share: float
    """Samples that lie at full scale in a row."""
    spectral_flatness: float
    """Of the spectrum, 0 for a tone, 0.56 for white noise."""
    voice_share: float | None
    """Windows in which voices drown the music; None where nothing was taken apart."""
    person_share: float | None
    """Frames in which a body was seen; None where nobody looked."""
    multi_person_share: float | None
    """Frames with more than one body that is no bystander."""
    missing_frame_share: float
    """Of the time, how long a frame was held because the next ones are missing."""


def measure_quality(
    *,
    mix: Samples,
    accompaniment: Samples,
    is_separated: bool,
    persons_per_frame: Sequence[int] | None,
    person_share: float | None,
    gaps_s: Sequence[tuple[float, float]],
    span_s: tuple[float, float],
) -> QualityMeasures:
    """Measure a clip.

    Args:
        mix: the clip's own sound, mono at 22,050 Hz.
        accompaniment: what is kept of it, as long.
        is_separated: whether voices were taken out.
        persons_per_frame: in each pose frame, where somebody counted.
        person_share: share of frames with a body, where somebody looked.
        gaps_s: of the video, from and to.
        span_s: where in the video the clip is.
    """
    level_db = _rms_levels_db(accompaniment)
    voice_db = _rms_levels_db(mix - accompaniment)
    start_s, stop_s = span_s
    missing_s = sum(max(0.0, min(to, stop_s) - max(since, start_s)) for since, to in gaps_s)
    voiced = (voice_db > level_db + VOICE_DOMINANCE_DB) & (voice_db > SILENCE_DBFS)
    return QualityMeasures(
        silent_share=_true_share(level_db < SILENCE_DBFS),
        clipped_share=_clipped_share(mix),
        spectral_flatness=_spectral_flatness(accompaniment),
        voice_share=_true_share(voiced) if is_separated else None,
        person_share=person_share,
        multi_person_share=None
        if persons_per_frame is None
        else _true_share(np.asarray(persons_per_frame) > 1),
        missing_frame_share=round(missing_s / (stop_s - start_s), 4),
    )


def list_rejection_reasons(measures: QualityMeasures) -> list[str]:
    """Why a clip should be set aside; none is as it should be."""
    told = {
        "silence": measures.silent_share > MAX_SILENT_SHARE,
        "clipping": measures.clipped_share > MAX_CLIPPED_SHARE,
        "no music": measures.spectral_flatness > MAX_SPECTRAL_FLATNESS,
        "speech left over": measures.voice_share is not None
        and measures.voice_share > MAX_VOICE_SHARE,
        "no person": measures.person_share is not None
        and measures.person_share < MIN_PERSON_SHARE,
        "more than one person": measures.multi_person_share is not None
        and measures.multi_person_share > MAX_MULTI_PERSON_SHARE,
        "missing frames": measures.missing_frame_share > MAX_MISSING_FRAME_SHARE,
    }
    return [reason for reason, found in told.items() if found]


def _true_share(flags: NDArray[np.bool_]) -> float:
    return round(float(np.mean(flags)), 4) if len(flags) else 0.0


def _rms_levels_db(samples: Samples) -> Array:
    """Root mean square of each window, in dB of full scale."""
    size = round(LEVEL_WINDOW_S * SAMPLE_RATE_HZ)
    whole = samples[: len(samples) // size * size].astype(np.float64).reshape(-1, size)
    levels_db: Array = 10 * np.log10(np.maximum((whole**2).mean(axis=1), 1e-12))
    return levels_db


def _clipped_share(samples: Samples) -> float:
    """Share of samples in runs at full scale."""
    full = np.abs(samples) >= FULL_SCALE
    edges = np.flatnonzero(np.diff(np.concatenate([[False], full, [False]]).astype(np.int8)))
    runs = edges[1::2] - edges[::2]
    return round(float(runs[runs >= MIN_CLIPPED_RUN].sum()) / max(len(samples), 1), 6)


def _spectral_flatness(samples: Samples) -> float:
    """Median spectral flatness of the louder frames; 0 where there is no sound."""
    spectrum = np.abs(librosa.stft(samples, n_fft=2048, hop_length=2048)) ** 2
    power = spectrum.sum(axis=0)
    loud = spectrum[:, power > max(float(np.quantile(power, LOUD_FRAME_QUANTILE)), 1e-6)]
    if not loud.shape[1]:
        return 0.0
    flatness = librosa.feature.spectral_flatness(S=loud, power=1.0, amin=1e-10)
    return round(float(np.median(flatness)), 4)
