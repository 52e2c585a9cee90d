"""What a network in training makes of a few held-out clips, and how many accents are heard."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from loris_cli.audio.onsets import detect_onsets, match_onsets
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.models.generator_interface import ClipFeatures, MusicGenerator


def render_validation_samples(
    generator: MusicGenerator,
    clips: Sequence[tuple[str, ClipFeatures]],
    samples_dir: Path,
    step: int,
) -> dict[str, float]:
    """Make a sound for each clip, keep it, and score it.

    Args:
        generator: the network in training.
        clips: names, and what is told of each.
        samples_dir: for the sounds; made if there is none.
        step: of the run, for the names.

    Returns:
        ``hit``, the share of accents that are heard, and ``precision``, of onsets that are
        accents; nothing for no clips.
    """
    if not clips:
        return {}
    samples_dir.mkdir(exist_ok=True)
    hits = []
    for name, features in clips:
        blocks = generator.generate(features, seed=0, progress=lambda done, total: None)
        sound = np.concatenate(list(blocks), axis=1).mean(axis=0)
        peak = max(float(np.abs(sound).max()), 1e-9)
        place = samples_dir / f"{name}-step{step:07d}.flac"
        soundfile.write(place, 0.9 * sound / peak, SAMPLE_RATE_HZ)
        hits.append(match_onsets(features.peaks_s, detect_onsets(sound)))
    return {
        "hit": float(np.mean([hit.recall for hit in hits])),
        "precision": float(np.mean([hit.precision for hit in hits])),
    }
