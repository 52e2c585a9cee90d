"""Does the sound keep time? Figures that no metronome and no wall of onsets can reach.

    events of the truth, events of the sound, peaks of the motion -> one-to-one hits, beats

All matching and all figures of beats are mir_eval's (Raffel et al., 2014), with nothing cut
off: its customary trimming of the first 5 s is never done, since it would empty a short clip.
mir_eval is imported where it is used: that takes two seconds, by scipy.stats, and who scores by
the official protocol alone never needs it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loris_cli.audio.onsets import ONSET_WINDOW_S, match_onsets

Array = NDArray[np.float64]

ALIGN_SIGMA_S = 0.05
"""Three frames at 60 fps, as in the beat alignment score of AIST++ (Li et al., 2021)."""
AV_ALIGN_WINDOW_S = 0.04
"""AV-Align (Yariv et al., 2024) takes a frame of the video on either side; of 25 fps here."""
STRICT_METRICS = (
    "onset_precision", "onset_recall", "onset_f", "beat_f", "cml_t", "aml_t",
    "information_gain", "tempo_error", "align_sound", "align_motion", "av_align",
)  # fmt: skip
"""Names of the figures, in the order of the tables; all from 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class AudioEvents:
    """Moments of a sound, rising seconds."""

    onsets_s: Array
    beats_s: Array


def score_against_reference(reference: AudioEvents, generated: AudioEvents) -> dict[str, float]:
    """How far a sound has the onsets and the beats of the truth.

    Args:
        reference: of the truth, within the time of what was made.
        generated: of what was made.

    Returns:
        onsets within 50 ms, one to one; beats within 70 ms, beats in runs of right ones at
        the right tempo (``cml_t``) or also at double, half or off beat (``aml_t``), how
        far the errors of beats are from random (``information_gain``); ``tempo_error``.
        Each from 0 to 1, 0 where one of the two has no events; ``tempo_error``, of which
        0 is perfect, is then 1.
    """
    hits = match_onsets(reference.onsets_s, generated.onsets_s, window_s=ONSET_WINDOW_S)
    both = hits.precision + hits.recall
    return {
        "onset_precision": hits.precision,
        "onset_recall": hits.recall,
        "onset_f": 2 * hits.precision * hits.recall / both if both else 0.0,
        **_score_beats(reference.beats_s, generated.beats_s),
    }


def score_against_motion(visual_peaks_s: Array, onsets_s: Array) -> dict[str, float]:
    """How far the onsets of a sound and the peaks of a motion are together.

    Args:
        visual_peaks_s: the visual rhythm, rising seconds within the time of the sound.
        onsets_s: of the sound, rising.

    Returns:
        ``align_sound``, the beat alignment of each onset with the nearest peak, and
        ``align_motion``, that of each peak with the nearest onset: a wall of onsets raises
        only the latter; ``av_align``, hits over all moments of both. Each from 0 to 1, 0
        where one of the two is empty.
    """
    if not len(visual_peaks_s) or not len(onsets_s):
        return {"align_sound": 0.0, "align_motion": 0.0, "av_align": 0.0}
    import mir_eval

    distance = np.abs(onsets_s[:, None] - visual_peaks_s[None, :])
    near = np.exp(-np.square(distance) / (2 * ALIGN_SIGMA_S**2))
    n_hits = len(mir_eval.util.match_events(visual_peaks_s, onsets_s, AV_ALIGN_WINDOW_S))
    return {
        "align_sound": float(near.max(axis=1).mean()),
        "align_motion": float(near.max(axis=0).mean()),
        # The authors' script lets many onsets hit one peak; one to one it stays below 1.
        "av_align": n_hits / (len(visual_peaks_s) + len(onsets_s) - n_hits),
    }


def median_tempo_bpm(beats_s: Array) -> float | None:
    """Beats a minute by the median interval; None of fewer than two."""
    return 60 / float(np.median(np.diff(beats_s))) if len(beats_s) > 1 else None


def _score_beats(reference_beats_s: Array, generated_beats_s: Array) -> dict[str, float]:
    one, other = median_tempo_bpm(reference_beats_s), median_tempo_bpm(generated_beats_s)
    if one is None or other is None:
        return {
            "beat_f": 0.0,
            "cml_t": 0.0,
            "aml_t": 0.0,
            "information_gain": 0.0,
            "tempo_error": 1.0,
        }
    import mir_eval

    from loris_cli.evaluation.metrics.music import beat_f_measure

    _, cml_t, _, aml_t = mir_eval.beat.continuity(reference_beats_s, generated_beats_s)
    return {
        "beat_f": beat_f_measure(reference_beats_s, generated_beats_s),
        "cml_t": float(cml_t),
        "aml_t": float(aml_t),
        "information_gain": float(
            mir_eval.beat.information_gain(reference_beats_s, generated_beats_s)
        ),
        "tempo_error": 1 - min(one, other) / max(one, other),
    }
