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

WINDOW_S = 0.5
SILENT_DB = -50.0
"""Of full scale, root mean square of a window."""
FULL_SCALE = 0.999
CLIPPED_RUN = 3
"""Samples in a row at full scale: one alone may be a true peak."""
VOICE_OVER_DB = 10.0
"""Where the voices are so much louder than the music, the mask leaves bits of them in it."""
LOUDEST_WINDOWS = 0.5
"""Flatness is that of the louder windows: soft ones are noise in any recording."""

MOST_SILENT = 0.3
MOST_CLIPPED = 0.001
MOST_VOICE = 0.3
MOST_FLAT = 0.2
"""Median spectral flatness; white noise 0.56, the pieces of the stand-in set below 0.05."""
LEAST_SEEN = 0.5
MOST_COMPANY = 0.25
MOST_MISSING = 0.1


@dataclass(frozen=True, kw_only=True)
class Measures:
    """What the filters look at, shares of the clip from 0 to 1."""

    silent: float
    """Windows of half a second that are silent."""
    clipped: float
    """Samples that lie at full scale in a row."""
    flatness: float
    """Of the spectrum, 0 for a tone, 0.56 for white noise."""
    voiced: float | None
    """Windows in which voices drown the music; None where nothing was taken apart."""
    seen: float | None
    """Frames in which a body was seen; None where nobody looked."""
    company: float | None
    """Frames with more than one body that is no bystander."""
    missing: float
    """Of the time, how long a frame was held because the next ones are missing."""


def measure(
    *,
    mix: Samples,
    music: Samples,
    separated: bool,
    n_bodies: Sequence[int] | None,
    seen: float | None,
    gaps_s: Sequence[tuple[float, float]],
    span_s: tuple[float, float],
) -> Measures:
    """Measure a clip.

    Args:
        mix: the clip's own sound, mono at 22,050 Hz.
        music: what is kept of it, as long.
        separated: whether voices were taken out.
        n_bodies: in each pose frame, where somebody counted.
        seen: share of frames with a body, where somebody looked.
        gaps_s: of the video, from and to.
        span_s: where in the video the clip is.
    """
    level_db = _levels_db(music)
    voice_db = _levels_db(mix - music)
    start_s, stop_s = span_s
    missing_s = sum(max(0.0, min(to, stop_s) - max(since, start_s)) for since, to in gaps_s)
    voiced = (voice_db > level_db + VOICE_OVER_DB) & (voice_db > SILENT_DB)
    return Measures(
        silent=_share(level_db < SILENT_DB),
        clipped=_clipped(mix),
        flatness=_flatness(music),
        voiced=_share(voiced) if separated else None,
        seen=seen,
        company=None if n_bodies is None else _share(np.asarray(n_bodies) > 1),
        missing=round(missing_s / (stop_s - start_s), 4),
    )


def reasons(measures: Measures) -> list[str]:
    """Why a clip should be set aside; none is as it should be."""
    told = {
        "silence": measures.silent > MOST_SILENT,
        "clipping": measures.clipped > MOST_CLIPPED,
        "no music": measures.flatness > MOST_FLAT,
        "speech left over": measures.voiced is not None and measures.voiced > MOST_VOICE,
        "no person": measures.seen is not None and measures.seen < LEAST_SEEN,
        "more than one person": measures.company is not None
        and measures.company > MOST_COMPANY,
        "missing frames": measures.missing > MOST_MISSING,
    }
    return [reason for reason, found in told.items() if found]


def _share(flags: NDArray[np.bool_]) -> float:
    return round(float(np.mean(flags)), 4) if len(flags) else 0.0


def _levels_db(samples: Samples) -> Array:
    """Root mean square of each window, in dB of full scale."""
    size = round(WINDOW_S * SAMPLE_RATE_HZ)
    whole = samples[: len(samples) // size * size].astype(np.float64).reshape(-1, size)
    levels_db: Array = 10 * np.log10(np.maximum((whole**2).mean(axis=1), 1e-12))
    return levels_db


def _clipped(samples: Samples) -> float:
    """Share of samples in runs at full scale."""
    full = np.abs(samples) >= FULL_SCALE
    edges = np.flatnonzero(np.diff(np.concatenate([[False], full, [False]]).astype(np.int8)))
    runs = edges[1::2] - edges[::2]
    return round(float(runs[runs >= CLIPPED_RUN].sum()) / max(len(samples), 1), 6)


def _flatness(samples: Samples) -> float:
    """Median spectral flatness of the louder frames; 0 where there is no sound."""
    spectrum = np.abs(librosa.stft(samples, n_fft=2048, hop_length=2048)) ** 2
    power = spectrum.sum(axis=0)
    loud = spectrum[:, power > max(float(np.quantile(power, LOUDEST_WINDOWS)), 1e-6)]
    if not loud.shape[1]:
        return 0.0
    flatness = librosa.feature.spectral_flatness(S=loud, power=1.0, amin=1e-10)
    return round(float(np.median(flatness)), 4)
