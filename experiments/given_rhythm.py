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
from bootstrap import bootstrap_mean
from clip_scores import (
    HeldOutClip,
    TakeScores,
    extract_spectral_features,
    generate_takes,
    render_note_spectrograms,
)
from numpy.typing import NDArray

from loris_cli.audio.onsets import ONSET_WINDOW_S, PEAK_PICKING, match_onsets
from loris_cli.dataset.manifest import Clip, read_manifest
from loris_cli.dataset.read_clips import read_clip_audio
from loris_cli.errors import InputError, LorisError
from loris_cli.evaluation.metrics.frechet import (
    GaussianStatistics,
    fit_gaussian,
    frechet_distance,
)
from loris_cli.models.diffusion import SamplerName
from loris_cli.models.mini_checkpoint import load_mini_checkpoint, reconstruct_through_latent
from loris_cli.soundtrack.latent_generator import DEFAULT_GUIDANCE, LatentGenerator
from loris_cli.system.progress import NullReporter, Reporter
from loris_cli.system.worker_pool import WorkerCrash, map_in_processes

RECOMMENDED_REFERENCE_CLIPS = 200
"""So many clips that are not scored are the least that the Frechet distance is to."""
BANDED_METRICS = (
    "flatness", "dynamic_range_db", "silence", "key_clarity", "pitch_class_entropy",
)  # fmt: skip
"""Figures that should lie where the truth's lie, from its 5th to its 95th percentile."""
REFERENCE_SYSTEM, LATENT_SYSTEM, NOTE_SPECTROGRAM_SYSTEM, PREVIOUS_MODEL_SYSTEM, MODEL_SYSTEM, JITTERED_MODEL_SYSTEM = SYSTEM_NAMES = (
    "truth", "latent", "sketch alone", "earlier", "ours", "ours, loose bodies",
)  # fmt: skip
N_COMPARISON_TAKES = 1
"""Takes of the sketch and of earlier weights: enough to stand beside."""


@dataclass(frozen=True, kw_only=True)
class GivenRhythmConfig:
    """What is evaluated, and how it samples."""

    data: Path
    model: str
    n_seeds: int
    steps: int
    guidance: float
    threads_per_worker: int
    """Of each process."""
    sampler: SamplerName = "dpmpp-2m"
    previous_model: str | None = None
    """Other weights to score beside."""
    previous_guidance: float = DEFAULT_GUIDANCE


@dataclass(frozen=True)
class _ClipTask:
    """A clip to score, or, with no other beside it, one of the reference."""

    clip: Clip
    mismatched_clip: Clip | None


@dataclass(frozen=True)
class _ClipResult:
    """Rows of one clip by name, and how many true accents its loose body shows."""

    system_scores: dict[str, TakeScores]
    jittered_accent_recall: float | None


def evaluate_given_rhythm(
    config: GivenRhythmConfig,
    *,
    partition: str,
    n_clips: int,
    n_workers: int,
    reporter: Reporter,
) -> dict[str, object]:
    """All figures, as plain values.

    Args:
        config: the model, and a data set.
        partition: the first clips of it are scored, the rest are the reference of the distance.
        n_clips: how many are scored.
        n_workers: processes at a time.
        reporter: hears how far it is.

    Raises:
        InputError: too few clips for a reference beside those scored.
        LorisError: a process ended before its result.
    """
    clips = [clip for clip in read_manifest(config.data) if clip.partition == partition]
    if not 0 < n_clips < len(clips):
        raise InputError(
            f"{len(clips)} {partition} clips: none is left for the reference beside {n_clips}",
            hint=f"{n_clips + RECOMMENDED_REFERENCE_CLIPS} are wanted; score fewer, or make more",
        )
    work = [_ClipTask(clip, _next_clip_of_style(clips, clip)) for clip in clips[:n_clips]]
    work += [_ClipTask(clip, None) for clip in clips[n_clips:]]
    results: dict[int, _ClipResult] = {}
    with reporter.stage("clips", len(work)) as advance:
        for index, result in map_in_processes(
            partial(_score_clip, config), work, n_workers=n_workers
        ):
            if isinstance(result, WorkerCrash):
                raise LorisError(f"a process ended with {result.exit_code} in its work")
            results[index] = result
            advance(1)
    done = [results[index] for index in range(len(work))]
    reference = [result.system_scores[REFERENCE_SYSTEM] for result in done[n_clips:]]
    spectra = fit_gaussian(frames for row in reference for frames in row.log_mels)
    heard = fit_gaussian(features for row in reference for features in row.musicnn_features)
    scored = done[:n_clips]
    truth = [result.system_scores[REFERENCE_SYSTEM] for result in scored]
    bands = {
        name: np.percentile([row.mean_values[name] for row in truth], [5, 95])
        for name in BANDED_METRICS
    }
    rows: dict[str, object] = {}
    for name in SYSTEM_NAMES:
        of_it = [
            result.system_scores[name] for result in scored if name in result.system_scores
        ]
        if of_it:
            rows[name] = _summarize_system(of_it, bands, spectra, heard)
    loose = [r.jittered_accent_recall for r in scored if r.jittered_accent_recall is not None]
    if loose:
        rows["loose peaks themselves"] = {"accents": asdict(bootstrap_mean(loose))}
    return {
        "split": partition,
        "clips": n_clips,
        "loose_clips": len(loose),
        "reference_clips": len(reference),
        "window_s": ONSET_WINDOW_S,
        "detector": PEAK_PICKING,
        **{key: value for key, value in asdict(config).items() if key != "data"},
        "rows": rows,
    }


def _score_clip(config: GivenRhythmConfig, task: _ClipTask) -> _ClipResult:
    """All rows of one clip: the same whoever works on it, and in whatever order."""
    torch.set_num_threads(config.threads_per_worker)
    if task.mismatched_clip is None:
        frames, heard = extract_spectral_features(read_clip_audio(config.data, task.clip))
        return _ClipResult(
            {
                REFERENCE_SYSTEM: TakeScores(
                    values_by_take={}, log_mels=[frames], musicnn_features=[heard]
                )
            },
            None,
        )
    case = HeldOutClip(config.data, task.clip, mismatched_clip=task.mismatched_clip)
    generator = _load_generator(config.model, config.steps, config.guidance, config.sampler)
    given_s = case.features.peaks_s
    rows = {
        REFERENCE_SYSTEM: case.score_takes([case.sound], given_s),
        LATENT_SYSTEM: case.score_takes(
            [reconstruct_through_latent(generator.model, case.sound)], given_s
        ),
        NOTE_SPECTROGRAM_SYSTEM: case.score_takes(
            render_note_spectrograms(case.features, N_COMPARISON_TAKES), given_s
        ),
        MODEL_SYSTEM: case.score_takes(
            generate_takes(generator, case.features, config.n_seeds), given_s
        ),
    }
    if config.previous_model is not None:
        before = _load_generator(
            config.previous_model, config.steps, config.previous_guidance, config.sampler
        )
        rows[PREVIOUS_MODEL_SYSTEM] = case.score_takes(
            generate_takes(before, case.features, N_COMPARISON_TAKES), given_s
        )
    if case.danced is None:
        return _ClipResult(rows, None)
    danced_s = case.danced.peaks_s
    rows[JITTERED_MODEL_SYSTEM] = case.score_takes(
        generate_takes(generator, case.danced, config.n_seeds), danced_s
    )
    return _ClipResult(rows, match_onsets(given_s, danced_s).recall)


@cache
def _load_generator(
    model: str, steps: int, guidance: float, sampler: SamplerName
) -> LatentGenerator:
    device = torch.device("cpu")
    return LatentGenerator(
        model=load_mini_checkpoint(model, device=device),
        device=device,
        steps=steps,
        guidance=guidance,
        sampler=sampler,
    )


def _summarize_system(
    clip_scores: Sequence[TakeScores],
    reference_bands: dict[str, NDArray[np.float64]],
    reference_log_mel: GaussianStatistics,
    reference_musicnn: GaussianStatistics,
) -> dict[str, object]:
    names = sorted({name for row in clip_scores for name in row.values_by_take})
    return {
        **{
            name: asdict(
                bootstrap_mean(
                    row.mean_values[name] for row in clip_scores if name in row.values_by_take
                )
            )
            for name in names
        },
        "in_band": {
            name: _fraction_in_band(clip_scores, name, band)
            for name, band in reference_bands.items()
        },
        "frechet": frechet_distance(
            fit_gaussian(frames for row in clip_scores for frames in row.log_mels),
            reference_log_mel,
        ),
        "frechet_musicnn": frechet_distance(
            fit_gaussian(features for row in clip_scores for features in row.musicnn_features),
            reference_musicnn,
        ),
    }


def _fraction_in_band(
    clip_scores: Sequence[TakeScores], metric: str, band: NDArray[np.float64]
) -> float:
    """How many takes have a figure within the truth's band."""
    values = np.array([value for row in clip_scores for value in row.values_by_take[metric]])
    return float(np.mean((values >= band[0]) & (values <= band[1])))


def _next_clip_of_style(clips: list[Clip], scored_clip: Clip) -> Clip:
    """The next clip of the same style."""
    same = [clip for clip in clips if clip.genre == scored_clip.genre]
    return same[(same.index(scored_clip) + 1) % len(same)]


def main() -> None:
    """Read the command line, evaluate, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--split", default="test", help="val, to choose settings by")
    parser.add_argument("--clips", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--guidance", type=float, default=DEFAULT_GUIDANCE)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sampler", choices=get_args(SamplerName), default="dpmpp-2m")
    parser.add_argument("--earlier", help="other weights, to score beside")
    parser.add_argument("--earlier-guidance", type=float, default=DEFAULT_GUIDANCE)
    given = parser.parse_args()
    setting = GivenRhythmConfig(
        data=given.data,
        model=given.model,
        n_seeds=given.seeds,
        steps=given.steps,
        guidance=given.guidance,
        threads_per_worker=given.threads,
        sampler=given.sampler,
        previous_model=given.earlier,
        previous_guidance=given.earlier_guidance,
    )
    figures = evaluate_given_rhythm(
        setting,
        partition=given.split,
        n_clips=given.clips,
        n_workers=given.jobs,
        reporter=NullReporter(),
    )
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
