"""Synchronization metrics: onsets and beats against the reference, onsets against the motion.

    onsets, beats of reference and generated audio; visual peaks -> matches, beat metrics

Event matching and beat metrics are those of mir_eval (Raffel et al., 2014). The customary
trimming of the first 5 s is omitted, because it would discard all beats of a short clip.
mir_eval is imported where it is used: the import takes 2 s, and the official protocol does not
need it.
"""

from dataclasses import dataclass

import numpy as np

from loris_cli.array_types import Array
from loris_cli.audio.onsets import ONSET_TOLERANCE_S, match_onsets
from loris_cli.evaluation.metrics.loris_scores import f1_score

BEAT_TOLERANCE_S = 0.07
ALIGN_SIGMA_S = 0.05
"""3 frames at 60 fps, as in the beat alignment score of AIST++ (Li et al., 2021)."""
AV_ALIGN_TOLERANCE_S = 0.04
"""AV-Align (Yariv et al., 2024) has a tolerance of one video frame, here at 25 fps."""
BEAT_METRICS = ("beat_f", "cml_t", "aml_t", "information_gain")
MOTION_METRICS = ("audio_to_motion_alignment", "motion_to_audio_alignment", "av_align")
STRICT_METRICS = (
    "onset_precision", "onset_recall", "onset_f", *BEAT_METRICS, "tempo_error", *MOTION_METRICS,
)  # fmt: skip
"""Metric names in the order of the tables. All metrics are in 0..1."""


@dataclass(frozen=True, kw_only=True)
class AudioEvents:
    """Onsets, ``(onsets,)``, and beats, ``(beats,)``, of a recording, in ascending seconds."""

    onsets_s: Array
    beats_s: Array


def score_against_reference(reference: AudioEvents, generated: AudioEvents) -> dict[str, float]:
    """Score onsets and beats against those of the reference.

    Args:
        reference: events of the reference audio, within the duration of the generated audio.
        generated: events of the generated audio.

    Returns:
        ``onset_precision``, ``onset_recall`` and ``onset_f``, with one-to-one matches within
        50 ms; ``beat_f``, with one-to-one matches within 70 ms; ``cml_t``, beat continuity at
        the correct metrical level; ``aml_t``, also at double or half tempo or off-beat;
        ``information_gain``, deviation of the beat errors from a uniform distribution. Each in
        0..1, and 0 if either recording has no events. ``tempo_error``, 0..1, 0 is perfect; 1 if
        either recording has fewer than two beats.
    """
    match = match_onsets(reference.onsets_s, generated.onsets_s, tolerance_s=ONSET_TOLERANCE_S)
    return {
        "onset_precision": match.precision,
        "onset_recall": match.recall,
        "onset_f": f1_score(match.precision, match.recall),
        **_score_beats(reference.beats_s, generated.beats_s),
    }


def score_against_motion(visual_peaks_s: Array, onsets_s: Array) -> dict[str, float]:
    """Score onsets against visual peaks of the motion.

    Args:
        visual_peaks_s: visual rhythm in ascending seconds, ``(peaks,)``, within the duration of
            the audio.
        onsets_s: onsets of the audio in ascending seconds, ``(onsets,)``.

    Returns:
        ``audio_to_motion_alignment``, mean beat alignment of each onset with the nearest peak;
        ``motion_to_audio_alignment``, mean beat alignment of each peak with the nearest onset,
        which dense onsets raise regardless of synchronization; ``av_align``, intersection over
        union of the events. Each in 0..1, and 0 if either input is empty.
    """
    if not len(visual_peaks_s) or not len(onsets_s):
        return dict.fromkeys(MOTION_METRICS, 0.0)
    import mir_eval

    distance = np.abs(onsets_s[:, None] - visual_peaks_s[None, :])
    near = np.exp(-np.square(distance) / (2 * ALIGN_SIGMA_S**2))
    n_hits = len(mir_eval.util.match_events(visual_peaks_s, onsets_s, AV_ALIGN_TOLERANCE_S))
    return {
        "audio_to_motion_alignment": float(near.max(axis=1).mean()),
        "motion_to_audio_alignment": float(near.max(axis=0).mean()),
        # The authors' script matches several onsets to one peak, which can exceed 1. One-to-one
        # matching keeps the ratio in 0..1.
        "av_align": n_hits / (len(visual_peaks_s) + len(onsets_s) - n_hits),
    }


def median_tempo_bpm(beats_s: Array) -> float | None:
    """Return the tempo from the median beat interval.

    Args:
        beats_s: beat times, ``(beats,)``, ascending.

    Returns:
        tempo in beats per minute; None for fewer than two beats.
    """
    return 60 / float(np.median(np.diff(beats_s))) if len(beats_s) > 1 else None


def beat_f_measure(reference_beats_s: Array, beats_s: Array) -> float:
    """F-measure of one-to-one beat matches within 70 ms (mir_eval), without trimming.

    Args:
        reference_beats_s: beats of the reference audio, ``(reference_beats,)``, ascending.
        beats_s: beats of the generated audio, ``(beats,)``, ascending.

    Returns:
        F-measure, 0..1; 0 if either recording has no beats.
    """
    if not len(reference_beats_s) or not len(beats_s):
        return 0.0
    import mir_eval

    return float(mir_eval.beat.f_measure(reference_beats_s, beats_s, BEAT_TOLERANCE_S))


def _score_beats(reference_s: Array, beats_s: Array) -> dict[str, float]:
    one, other = median_tempo_bpm(reference_s), median_tempo_bpm(beats_s)
    if one is None or other is None:
        return {**dict.fromkeys(BEAT_METRICS, 0.0), "tempo_error": 1.0}
    import mir_eval

    _, cml_t, _, aml_t = mir_eval.beat.continuity(reference_s, beats_s)
    return {
        "beat_f": beat_f_measure(reference_s, beats_s),
        "cml_t": float(cml_t),
        "aml_t": float(aml_t),
        "information_gain": float(mir_eval.beat.information_gain(reference_s, beats_s)),
        "tempo_error": 1 - min(one, other) / max(one, other),
    }
