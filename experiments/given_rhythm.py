"""Does a model follow a rhythm that it is given, and is it music? Held-out clips.

    python experiments/given_rhythm.py DATA --model mini --clips 50 --seeds 3

Rows: the model, given the accents; the model, given what a loose body shows of them; the notes
that it is told, with no model between; earlier weights, if asked; the truth; the truth through
the latent code (the ceiling). Beside each figure of hits stands the same for
another clip's rhythm of the same style (chance). Intervals are 95 %, by bootstrap over clips;
seeds of one clip are averaged first.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from bootstrap import bootstrap
from clip_scores import Case, Scored, sketches_of, spectra_of, takes_of
from numpy.typing import NDArray

from loris_cli.audio.onsets import DETECTOR, WINDOW_S, match
from loris_cli.dataset.manifest import Clip, read_manifest
from loris_cli.dataset.read_clips import read_sound
from loris_cli.errors import InputError, LorisError
from loris_cli.evaluation.metrics.frechet import Statistics, frechet_distance, statistics
from loris_cli.models.diffusion import Sampler
from loris_cli.models.mini_checkpoint import load_mini, through_latent
from loris_cli.soundtrack.latent_generator import GUIDANCE, LatentGenerator
from loris_cli.system.progress import Reporter, Silent
from loris_cli.system.worker_pool import Died, fan_out

REFERENCE_CLIPS = 200
"""So many clips that are not scored are the least that the Frechet distance is to."""
BANDED = (
    "flatness", "dynamic_range_db", "silence", "key_clarity", "pitch_class_entropy",
)  # fmt: skip
"""Figures that should lie where the truth's lie, from its 5th to its 95th percentile."""
TRUTH, LATENT, SKETCH, EARLIER, OURS, LOOSE = ROWS = (
    "truth", "latent", "sketch alone", "earlier", "ours", "ours, loose bodies",
)  # fmt: skip
BESIDE_TAKES = 1
"""Takes of the sketch and of earlier weights: enough to stand beside."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is evaluated, and how it samples."""

    data: Path
    model: str
    seeds: int
    steps: int
    guidance: float
    threads: int
    """Of each process."""
    sampler: Sampler = "dpmpp-2m"
    earlier: str | None = None
    """Other weights to score beside."""
    earlier_guidance: float = GUIDANCE


@dataclass(frozen=True)
class _Job:
    """A clip to score, or, with no other beside it, one of the reference."""

    clip: Clip
    other: Clip | None


@dataclass(frozen=True)
class _Done:
    """Rows of one clip by name, and how many true accents its loose body shows."""

    rows: dict[str, Scored]
    loose_accents: float | None


def evaluate(
    setting: Setting, *, split: str, n_clips: int, jobs: int, reporter: Reporter
) -> dict[str, object]:
    """All figures, as plain values.

    Args:
        setting: the model, and a data set.
        split: the first clips of it are scored, the rest are the reference of the distance.
        n_clips: how many are scored.
        jobs: processes at a time.
        reporter: hears how far it is.

    Raises:
        InputError: too few clips for a reference beside those scored.
        LorisError: a process ended before its result.
    """
    clips = [clip for clip in read_manifest(setting.data) if clip.split == split]
    if not 0 < n_clips < len(clips):
        raise InputError(
            f"{len(clips)} {split} clips: none is left for the reference beside {n_clips}",
            hint=f"{n_clips + REFERENCE_CLIPS} are wanted; score fewer, or make more",
        )
    work = [_Job(clip, _other(clips, clip)) for clip in clips[:n_clips]]
    work += [_Job(clip, None) for clip in clips[n_clips:]]
    results: dict[int, _Done] = {}
    with reporter.stage("clips", len(work)) as advance:
        for index, result in fan_out(partial(_score, setting), work, n_workers=jobs):
            if isinstance(result, Died):
                raise LorisError(f"a process ended with {result.exit_code} in its work")
            results[index] = result
            advance(1)
    done = [results[index] for index in range(len(work))]
    reference = [result.rows[TRUTH] for result in done[n_clips:]]
    spectra = statistics(frames for row in reference for frames in row.frames)
    heard = statistics(features for row in reference for features in row.heard)
    scored = done[:n_clips]
    truth = [result.rows[TRUTH] for result in scored]
    bands = {
        name: np.percentile([row.values[name] for row in truth], [5, 95]) for name in BANDED
    }
    rows: dict[str, object] = {}
    for name in ROWS:
        of_it = [result.rows[name] for result in scored if name in result.rows]
        if of_it:
            rows[name] = _row(of_it, bands, spectra, heard)
    loose = [r.loose_accents for r in scored if r.loose_accents is not None]
    if loose:
        rows["loose peaks themselves"] = {"accents": asdict(bootstrap(loose))}
    return {
        "split": split,
        "clips": n_clips,
        "loose_clips": len(loose),
        "reference_clips": len(reference),
        "window_s": WINDOW_S,
        "detector": DETECTOR,
        **{key: value for key, value in asdict(setting).items() if key != "data"},
        "rows": rows,
    }


def _score(setting: Setting, job: _Job) -> _Done:
    """All rows of one clip: the same whoever works on it, and in whatever order."""
    torch.set_num_threads(setting.threads)
    if job.other is None:
        frames, heard = spectra_of(read_sound(setting.data, job.clip))
        return _Done({TRUTH: Scored(every={}, frames=[frames], heard=[heard])}, None)
    case = Case(setting.data, job.clip, other=job.other)
    generator = _generator(setting.model, setting.steps, setting.guidance, setting.sampler)
    given_s = case.features.peaks_s
    rows = {
        TRUTH: case.score([case.sound], given_s),
        LATENT: case.score([through_latent(generator.model, case.sound)], given_s),
        SKETCH: case.score(sketches_of(case.features, BESIDE_TAKES), given_s),
        OURS: case.score(takes_of(generator, case.features, setting.seeds), given_s),
    }
    if setting.earlier is not None:
        before = _generator(
            setting.earlier, setting.steps, setting.earlier_guidance, setting.sampler
        )
        rows[EARLIER] = case.score(takes_of(before, case.features, BESIDE_TAKES), given_s)
    if case.danced is None:
        return _Done(rows, None)
    danced_s = case.danced.peaks_s
    rows[LOOSE] = case.score(takes_of(generator, case.danced, setting.seeds), danced_s)
    return _Done(rows, match(given_s, danced_s).recall)


@cache
def _generator(model: str, steps: int, guidance: float, sampler: Sampler) -> LatentGenerator:
    device = torch.device("cpu")
    return LatentGenerator(
        model=load_mini(model, device=device),
        device=device,
        steps=steps,
        guidance=guidance,
        sampler=sampler,
    )


def _row(
    scored: Sequence[Scored],
    bands: dict[str, NDArray[np.float64]],
    spectra: Statistics,
    heard: Statistics,
) -> dict[str, object]:
    names = sorted({name for row in scored for name in row.every})
    return {
        **{
            name: asdict(bootstrap(row.values[name] for row in scored if name in row.every))
            for name in names
        },
        "in_band": {name: _share(scored, name, band) for name, band in bands.items()},
        "frechet": frechet_distance(
            statistics(frames for row in scored for frames in row.frames), spectra
        ),
        "frechet_musicnn": frechet_distance(
            statistics(features for row in scored for features in row.heard), heard
        ),
    }


def _share(rows: Sequence[Scored], name: str, band: NDArray[np.float64]) -> float:
    """How many takes have a figure within the truth's band."""
    values = np.array([value for row in rows for value in row.every[name]])
    return float(np.mean((values >= band[0]) & (values <= band[1])))


def _other(clips: list[Clip], scored: Clip) -> Clip:
    """The next clip of the same style."""
    same = [clip for clip in clips if clip.genre == scored.genre]
    return same[(same.index(scored) + 1) % len(same)]


def main() -> None:
    """Read the command line, evaluate, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--split", default="test", help="val, to choose settings by")
    parser.add_argument("--clips", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sampler", choices=get_args(Sampler), default="dpmpp-2m")
    parser.add_argument("--earlier", help="other weights, to score beside")
    parser.add_argument("--earlier-guidance", type=float, default=GUIDANCE)
    given = parser.parse_args()
    setting = Setting(
        data=given.data,
        model=given.model,
        seeds=given.seeds,
        steps=given.steps,
        guidance=given.guidance,
        threads=given.threads,
        sampler=given.sampler,
        earlier=given.earlier,
        earlier_guidance=given.earlier_guidance,
    )
    figures = evaluate(
        setting,
        split=given.split,
        n_clips=given.clips,
        jobs=given.jobs,
        reporter=Silent(),
    )
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
