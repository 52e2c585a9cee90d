"""Audio generated for validation clips during training, with onset scores."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from loris_cli.audio.onsets import detect_onsets, match_onsets
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.models.generator_interface import MusicGenerator, VideoFeatures


def render_validation_samples(
    generator: MusicGenerator,
    clips: Sequence[tuple[str, VideoFeatures]],
    samples_dir: Path,
    step: int,
) -> dict[str, float]:
    """Generate, write and score the audio of each clip.

    Args:
        generator: generator of the network in training.
        clips: names and features of the clips.
        samples_dir: folder of the audio files; created if it does not exist.
        step: training step, for the file names.

    Returns:
        ``onset_recall``, the fraction of peaks that have an onset, and ``onset_precision``,
        the fraction of onsets that match a peak, 0..1; empty without clips.
    """
    if not clips:
        return {}
    samples_dir.mkdir(exist_ok=True)
    matches = []
    for name, features in clips:
        blocks = generator.generate(features, seed=0, progress=lambda done, total: None)
        samples = np.concatenate(list(blocks), axis=1).mean(axis=0)
        peak = max(float(np.abs(samples).max()), 1e-9)
        path = samples_dir / f"{name}-step{step:07d}.flac"
        soundfile.write(path, 0.9 * samples / peak, SAMPLE_RATE_HZ)
        matches.append(match_onsets(features.peaks_s, detect_onsets(samples)))
    return {
        "onset_recall": float(np.mean([match.recall for match in matches])),
        "onset_precision": float(np.mean([match.precision for match in matches])),
    }
