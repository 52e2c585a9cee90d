"""Does a model follow a rhythm that it is given? Held-out clips, with floor and ceiling.

    python -m loris_cli.evaluation.given_rhythm DATA --model mini --clips 24

Rows: the model; the truth; the truth through the latent code (the ceiling); and the model's
sound judged by another clip's rhythm of the same style (chance). Intervals are 95 %, by
bootstrap over clips.
"""

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from loris_cli import mel
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.dataset.clips import read_features, read_sound
from loris_cli.dataset.manifest import Clip, read_manifest
from loris_cli.errors import InputError
from loris_cli.evaluation.frechet import frechet_distance, statistics
from loris_cli.evaluation.onsets import DETECTOR, WINDOW_S, detect_onsets, match, offsets
from loris_cli.longform import LatentGenerator
from loris_cli.networks.checkpoint import MiniModel, load_mini

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Figure:
    """A mean over clips with its 95 % interval."""

    mean: float
    low: float
    high: float


def bootstrap(values: Iterable[float], *, n: int = 10_000, seed: int = 0) -> Figure:
    """The mean of values, and where it lies in 95 % of resamples."""
    x = np.asarray(list(values), dtype=np.float64)
    means = np.random.default_rng(seed).choice(x, (n, len(x))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Figure(float(x.mean()), float(low), float(high))


def through_latent(model: MiniModel, samples: Array) -> Array:
    """A sound encoded and decoded again: the best the model could do."""
    frames = mel.log_mel(samples)
    frames = np.pad(frames, ((0, 0), (0, -frames.shape[1] % 4)), mode="edge")
    with torch.inference_mode():
        again = model.coder.decode(model.coder.encode(torch.from_numpy(frames)[None]))[0]
    return mel.invert(again.numpy())[: len(samples)]


def evaluate(
    data: Path, generator: LatentGenerator, *, n_clips: int, seed: int
) -> dict[str, object]:
    """All figures, as plain values.

    Args:
        data: a data set with a ``test`` split: the first clips are scored, the rest are
            the reference of the Frechet distance.
        generator: the model in its settings.
        n_clips: how many are scored.
        seed: of the takes.

    Raises:
        InputError: too few test clips for a reference of 200 beside those scored.
    """
    clips = [clip for clip in read_manifest(data) if clip.split == "test"]
    if len(clips) < n_clips + 200:
        raise InputError(f"{len(clips)} test clips, {n_clips + 200} are needed")
    scored = clips[:n_clips]
    features = [read_features(data, clip) for clip in scored]
    truth = [read_sound(data, clip) for clip in scored]
    ours = [
        np.concatenate(
            list(generator.generate(told, seed=seed + i, progress=lambda done, total: None)),
            axis=1,
        )[0]
        for i, told in enumerate(features)
    ]
    ceiling = [through_latent(generator.model, samples) for samples in truth]
    others = [_other(clips, scored[i], data) for i in range(n_clips)]

    rows: dict[str, object] = {}
    for name, sounds in (("ours", ours), ("truth", truth), ("latent", ceiling)):
        onsets = [detect_onsets(samples) for samples in sounds]
        given = [match(told.peaks_s, o) for told, o in zip(features, onsets, strict=True)]
        chance = [match(other, o) for other, o in zip(others, onsets, strict=True)]
        late = np.concatenate(
            [offsets(told.peaks_s, o) for told, o in zip(features, onsets, strict=True)]
        )
        rows[name] = {
            "hit": asdict(bootstrap(hits.recall for hits in given)),
            "precision": asdict(bootstrap(hits.precision for hits in given)),
            "hit_of_another": asdict(bootstrap(hits.recall for hits in chance)),
            "median_offset_s": float(np.median(late)),
        }
    reference = statistics(mel.log_mel(read_sound(data, clip)) for clip in clips[n_clips:])
    return {
        "clips": n_clips,
        "reference_clips": len(clips) - n_clips,
        "window_s": WINDOW_S,
        "detector": DETECTOR,
        "steps": generator.steps,
        "guidance": generator.guidance,
        "rows": rows,
        "frechet": {
            name: frechet_distance(statistics(map(mel.log_mel, sounds)), reference)
            for name, sounds in (("ours", ours), ("truth", truth), ("latent", ceiling))
        },
    }


def _other(clips: list[Clip], scored: Clip, data: Path) -> NDArray[np.float64]:
    """The rhythm of the next clip of the same style."""
    same = [clip for clip in clips if clip.genre == scored.genre]
    return read_features(data, same[(same.index(scored) + 1) % len(same)]).peaks_s


def main() -> None:
    """Read the command line, evaluate, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--guidance", type=float, default=1.5)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    device = torch.device("cpu")
    generator = LatentGenerator(
        model=load_mini(given.model, device=device),
        device=device,
        steps=given.steps,
        guidance=given.guidance,
    )
    figures = evaluate(given.data, generator, n_clips=given.clips, seed=given.seed)
    figures["seconds_of_sound"] = given.clips * 24.0
    figures["sample_rate_hz"] = SAMPLE_RATE_HZ
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
