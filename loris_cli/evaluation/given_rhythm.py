"""Does a model follow a rhythm that it is given, and is it music? Held-out clips.

    python -m loris_cli.evaluation.given_rhythm DATA --model mini --clips 50 --seeds 3

Rows: the model, given the accents; the model, given what a loose body shows of them; the truth;
the truth through the latent code (the ceiling). Beside each figure of hits stands the same for
another clip's rhythm of the same style (chance). Intervals are 95 %, by bootstrap over clips;
seeds of one clip are averaged first.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from loris_cli import mel
from loris_cli.conditioning import ClipFeatures
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.dataset.clips import read_danced, read_features, read_lesson, read_sound
from loris_cli.dataset.manifest import Clip, read_manifest
from loris_cli.errors import InputError
from loris_cli.evaluation import musicnn
from loris_cli.evaluation.frechet import Statistics, frechet_distance, statistics
from loris_cli.evaluation.intervals import bootstrap
from loris_cli.evaluation.music import (
    beat_f,
    chroma_distance,
    follows_energy,
    tempo_steadiness,
    texture,
    tracked_beats,
)
from loris_cli.evaluation.onsets import DETECTOR, WINDOW_S, detect_onsets, match, offsets
from loris_cli.longform import LatentGenerator
from loris_cli.networks.checkpoint import MiniModel, load_mini
from loris_cli.reporting import Reporter, Silent

Array = NDArray[np.float32]


def through_latent(model: MiniModel, samples: Array) -> Array:
    """A sound encoded and decoded again: the best the model could do."""
    bands = model.coder.config.bands
    frames = mel.log_mel(samples, bands)
    frames = np.pad(frames, ((0, 0), (0, -frames.shape[1] % 4)), mode="edge")
    with torch.inference_mode():
        again = model.coder.decode(model.coder.encode(torch.from_numpy(frames)[None]))[0]
    return mel.invert(again.numpy(), bands)[: len(samples)]


def evaluate(
    data: Path, generator: LatentGenerator, *, n_clips: int, seeds: int, reporter: Reporter
) -> dict[str, object]:
    """All figures, as plain values.

    Args:
        data: a data set with a ``test`` split: the first clips are scored, the rest are
            the reference of the Frechet distance.
        generator: the model in its settings.
        n_clips: how many are scored.
        seeds: takes of each clip.
        reporter: hears how far it is.

    Raises:
        InputError: too few test clips for a reference of 200 beside those scored.
    """
    clips = [clip for clip in read_manifest(data) if clip.split == "test"]
    if len(clips) < n_clips + 200:
        raise InputError(f"{len(clips)} test clips, {n_clips + 200} are needed")
    scored, rest = clips[:n_clips], clips[n_clips:]
    cases = [_Case(data, clip, _other(clips, clip, data)) for clip in scored]
    with reporter.stage("reference", len(rest)) as advance:
        spectra, heard = _reference([read_sound(data, clip) for clip in rest], advance)
    rows: dict[str, object] = {}
    with reporter.stage("truth", n_clips) as advance:
        truth = [case.score([case.sound], case.features.peaks_s, advance) for case in cases]
    with reporter.stage("truth through the latent", n_clips) as advance:
        ceiling = [
            case.score(
                [through_latent(generator.model, case.sound)], case.features.peaks_s, advance
            )
            for case in cases
        ]
    bands = {
        name: np.percentile([case.values[name] for case in truth], [5, 95]) for name in BANDED
    }
    with reporter.stage("accents", n_clips) as advance:
        ours = [
            case.score(_takes(generator, case.features, seeds), case.features.peaks_s, advance)
            for case in cases
        ]
    loose = [case for case in cases if case.danced is not None]
    with reporter.stage("loose bodies", len(loose)) as advance:
        danced = []
        for case in loose:
            assert case.danced is not None
            told = replace(case.danced, looseness=0.0)  # as a video's own peaks are told
            danced.append(case.score(_takes(generator, told, seeds), told.peaks_s, advance))
    for name, told_rows in (
        ("truth", truth), ("latent", ceiling), ("ours", ours), ("ours, loose bodies", danced)
    ):  # fmt: skip
        rows[name] = {
            **_means(told_rows),
            "in_band": {name: _share(told_rows, name, band) for name, band in bands.items()},
            "frechet": frechet_distance(
                statistics(frames for row in told_rows for frames in row.frames), spectra
            ),
            "frechet_musicnn": frechet_distance(
                statistics(features for row in told_rows for features in row.heard), heard
            ),
        }
    if loose:
        of_input = [
            match(case.features.peaks_s, case.danced.peaks_s).recall
            for case in loose
            if case.danced is not None
        ]
        rows["loose peaks themselves"] = {"accents": asdict(bootstrap(of_input))}
    return {
        "clips": n_clips,
        "loose_clips": len(loose),
        "seeds": seeds,
        "reference_clips": len(rest),
        "window_s": WINDOW_S,
        "detector": DETECTOR,
        "steps": generator.steps,
        "guidance": generator.guidance,
        "rows": rows,
    }


BANDED = (
    "flatness", "dynamic_range_db", "silence", "key_clarity", "pitch_class_entropy",
)  # fmt: skip
"""Figures that should lie where the truth's lie, from its 5th to its 95th percentile."""


@dataclass(frozen=True, kw_only=True)
class _Scored:
    """Figures of the takes of one clip."""

    values: dict[str, float]
    every: dict[str, list[float]]
    frames: list[Array]
    """Log-mel of each take."""
    heard: list[Array]
    """What musicnn hears in each."""


class _Case:
    """One held-out clip and what its sounds are scored against."""

    def __init__(self, data: Path, clip: Clip, other_s: NDArray[np.float64]) -> None:
        self.sound = read_sound(data, clip)
        self.features = read_features(data, clip)
        lesson = read_lesson(data, clip)
        self.beats_s = np.empty(0) if lesson.harmony is None else lesson.harmony.beats_s
        danced = read_danced(data, clip)
        self.danced = None if danced is None else replace(danced, harmony=None)
        self.other_s = other_s

    def score(
        self,
        takes: Sequence[Array],
        given_s: NDArray[np.float64],
        advance: Callable[..., None],
    ) -> _Scored:
        """Figures of some takes, averaged."""
        every = [self._figures(samples, given_s) for samples in takes]
        if len(takes) > 1:
            apart = [chroma_distance(takes[0], take) for take in takes[1:]]
            every[0]["chroma_apart"] = float(np.mean(apart))
        names = sorted({name for figures in every for name in figures})
        lists = {name: [f[name] for f in every if name in f] for name in names}
        advance(1)
        return _Scored(
            values={name: float(np.mean(values)) for name, values in lists.items()},
            every=lists,
            frames=[mel.log_mel(samples) for samples in takes],
            heard=[musicnn.listen(samples)[0].T for samples in takes],
        )

    def _figures(self, samples: Array, given_s: NDArray[np.float64]) -> dict[str, float]:
        onsets_s = detect_onsets(samples)
        hits = match(given_s, onsets_s)
        late = offsets(given_s, onsets_s)
        figures = {
            "hit": hits.recall,
            "precision": hits.precision,
            "accents": match(self.features.peaks_s, onsets_s).recall,
            "hit_of_another": match(self.other_s, onsets_s).recall,
            "follows_energy": follows_energy(samples, self.features.energy),
            **asdict(texture(samples, onsets_s)),
        }
        if len(late):
            figures["offset_ms"] = 1000 * float(np.median(late))
        if len(self.beats_s):
            beats_s = tracked_beats(samples)
            figures["beat_f"] = beat_f(self.beats_s, beats_s)
            figures["tempo_steadiness"] = tempo_steadiness(beats_s)
        return figures


def _reference(
    sounds: Sequence[Array], advance: Callable[..., None]
) -> tuple[Statistics, Statistics]:
    """Statistics of log-mel frames and of musicnn's features of many sounds."""
    spectra, heard = [], []
    for samples in sounds:
        spectra.append(mel.log_mel(samples))
        heard.append(musicnn.listen(samples)[0].T)
        advance(1)
    return statistics(spectra), statistics(heard)


def _share(rows: Sequence[_Scored], name: str, band: NDArray[np.float64]) -> float:
    """How many takes have a figure within the truth's band."""
    values = np.array([value for row in rows for value in row.every[name]])
    return float(np.mean((values >= band[0]) & (values <= band[1])))


def _means(rows: Sequence[_Scored]) -> dict[str, object]:
    names = sorted({name for row in rows for name in row.values})
    return {
        name: asdict(bootstrap(row.values[name] for row in rows if name in row.values))
        for name in names
    }


def _takes(generator: LatentGenerator, told: ClipFeatures, seeds: int) -> list[Array]:
    return [
        np.concatenate(
            list(generator.generate(told, seed=seed, progress=lambda done, total: None)), axis=1
        )[0]
        for seed in range(seeds)
    ]


def _other(clips: list[Clip], scored: Clip, data: Path) -> NDArray[np.float64]:
    """The rhythm of the next clip of the same style."""
    same = [clip for clip in clips if clip.genre == scored.genre]
    return read_features(data, same[(same.index(scored) + 1) % len(same)]).peaks_s


def main() -> None:
    """Read the command line, evaluate, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--clips", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--guidance", type=float, default=1.5)
    given = parser.parse_args()
    device = torch.device("cpu")
    generator = LatentGenerator(
        model=load_mini(given.model, device=device),
        device=device,
        steps=given.steps,
        guidance=given.guidance,
    )
    figures = evaluate(
        given.data, generator, n_clips=given.clips, seeds=given.seeds, reporter=Silent()
    )
    figures["seconds_of_sound"] = given.clips * 24.0
    figures["sample_rate_hz"] = SAMPLE_RATE_HZ
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
