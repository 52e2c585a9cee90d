"""Rhythm accuracy and musical texture of a model on held-out clips with known rhythm.

    python experiments/given_rhythm.py DATA --model mini --clips 50 --seeds 3

Systems:

- the model conditioned on the accents of the clip, with each of its conditionings
- the model conditioned on the peaks of the poses, which have timing jitter, likewise
- the score of the condition, played by the built-in synthesizer, for both kinds of peaks
- the same score played by fluidsynth (with ``--fluidsynth``)
- a previous model (with ``--previous-model``)
- the reference audio
- the reference audio reconstructed through the latent space (loss in the autoencoder)

Each recall is reported with its chance level, the recall of the rhythm of another clip of the
same style. The takes of a clip are averaged; 95 % intervals are bootstrapped over sources.
Frechet distances are means over seeds, so that all systems have one take per clip in a set.
With ``--zimtohrli``, takes are also compared with the played score of the same seed.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
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
)
from command_line import add_sampling_arguments, create_parser, load_generator, load_model
from music_metrics import zimtohrli_mos
from numpy.typing import NDArray

from loris_cli.array_types import Float32Array
from loris_cli.audio.onsets import ONSET_TOLERANCE_S, PEAK_PICKING, match_onsets
from loris_cli.composition.synthesizer_settings import SynthesizerSettings
from loris_cli.config import SamplerName
from loris_cli.dataset.manifest import Clip, read_manifest
from loris_cli.dataset.partitions import label_clusters
from loris_cli.dataset.read_clips import read_clip_audio
from loris_cli.errors import InputError, LorisError
from loris_cli.evaluation.metrics.frechet import (
    GaussianStatistics,
    fit_gaussian,
    frechet_distance,
)
from loris_cli.models.condition_routes import CONDITIONINGS, Conditioning
from loris_cli.models.generator_interface import MusicGenerator
from loris_cli.models.mini_checkpoint import reconstruct_through_latent
from loris_cli.soundtrack.latent_generator import DEFAULT_GUIDANCE
from loris_cli.soundtrack.score_generator import ScoreGenerator
from loris_cli.system.progress import NullReporter, Reporter
from loris_cli.system.worker_pool import WorkerCrash, map_in_processes

RECOMMENDED_REFERENCE_CLIPS = 200
"""Recommended minimum number of reference clips for the Frechet distance."""
BANDED_METRICS = (
    "spectral_flatness", "dynamic_range_db", "silent_fraction", "key_clarity",
    "pitch_class_entropy",
)  # fmt: skip
"""Metrics compared with the band of the reference audio (5th to 95th percentile)."""
JITTERED_PEAKS = "_jittered_peaks"
"""Suffix of the names of systems that are conditioned on the peaks of the poses."""


@dataclass(frozen=True, kw_only=True)
class GivenRhythmConfig:
    """Evaluated models and their sampling settings."""

    data: Path
    model: str
    n_seeds: int
    steps: int
    guidance: float
    conditionings: Sequence[Conditioning] | None = None
    """Conditionings of the model; None for all that it was trained with."""
    threads_per_worker: int
    sampler: SamplerName = "dpmpp-2m"
    previous_model: str | None = None
    """Name or path of weights to compare with."""
    previous_guidance: float = DEFAULT_GUIDANCE
    fluidsynth: bool = False
    """Also play the score by fluidsynth."""
    zimtohrli: bool = False
    """Compare takes with the played score."""


@dataclass(frozen=True)
class _ClipTask:
    """A clip to score or, if ``mismatched_clip`` is None, a clip of the reference set."""

    clip: Clip
    mismatched_clip: Clip | None


@dataclass(frozen=True)
class _ClipResult:
    """Scores of one clip by system, and recall of its accents in its jittered peaks."""

    system_scores: dict[str, TakeScores]
    jittered_accent_recall: float | None


@dataclass(frozen=True)
class _ReferenceStatistics:
    """Statistics of the reference audio."""

    log_mel: GaussianStatistics
    musicnn: GaussianStatistics
    bands: dict[str, NDArray[np.float64]]
    """5th and 95th percentile of each of `BANDED_METRICS`, ``(2,)``."""


def evaluate_given_rhythm(
    config: GivenRhythmConfig,
    *,
    partition: str,
    n_clips: int,
    n_workers: int,
    reporter: Reporter,
) -> dict[str, object]:
    """Score all systems and return the metrics as JSON-compatible values.

    Args:
        config: models, data set and sampling settings.
        partition: partition of the data set; its first clips are scored, the remaining clips
            are the reference set of the Frechet distances.
        n_clips: number of scored clips.
        n_workers: number of worker processes.
        reporter: receives the progress.

    Raises:
        InputError: no clips remain for the reference set.
        LorisError: a worker process crashed.
    """
    clips = [clip for clip in read_manifest(config.data) if clip.partition == partition]
    if not 0 < n_clips < len(clips):
        raise InputError(
            f"{len(clips)} {partition} clips are too few to score {n_clips} and leave a"
            " reference set",
            hint=f"use a data set with at least {n_clips + RECOMMENDED_REFERENCE_CLIPS} clips"
            " (loris dataset synthesize), or a smaller --clips",
        )
    tasks = [_ClipTask(clip, _next_clip_of_style(clips, clip)) for clip in clips[:n_clips]]
    tasks += [_ClipTask(clip, None) for clip in clips[n_clips:]]
    results = _score_clips(config, tasks, n_workers=n_workers, reporter=reporter)
    scored, reference = results[:n_clips], results[n_clips:]
    statistics = _compute_reference_statistics(scored, reference)
    groups = label_clusters([clip.all_groups for clip in clips[:n_clips]])
    systems: dict[str, object] = {}
    for name in dict.fromkeys(name for clip in scored for name in clip.system_scores):
        rows = [k for k, clip in enumerate(scored) if name in clip.system_scores]
        found = [scored[k].system_scores[name] for k in rows]
        systems[name] = _summarize_system(found, [groups[k] for k in rows], statistics)
    recalls = [
        clip.jittered_accent_recall
        for clip in scored
        if clip.jittered_accent_recall is not None
    ]
    if recalls:
        systems["jittered_peaks"] = {"accent_recall": asdict(bootstrap_mean(recalls))}
    return {
        "partition": partition,
        "n_clips": n_clips,
        "n_jittered_clips": len(recalls),
        "n_reference_clips": len(reference),
        "tolerance_s": ONSET_TOLERANCE_S,
        "detector": PEAK_PICKING,
        **{key: value for key, value in asdict(config).items() if key != "data"},
        "systems": systems,
    }


def _score_clips(
    config: GivenRhythmConfig, tasks: list[_ClipTask], *, n_workers: int, reporter: Reporter
) -> list[_ClipResult]:
    """Score all tasks in worker processes; results are in the order of the tasks."""
    results: dict[int, _ClipResult] = {}
    function = partial(_score_clip, config)
    with reporter.stage("clips", len(tasks)) as advance:
        for index, result in map_in_processes(function, tasks, n_workers=n_workers):
            if isinstance(result, WorkerCrash):
                raise LorisError(f"a worker process crashed (exit code {result.exit_code})")
            results[index] = result
            advance(1)
    return [results[index] for index in range(len(tasks))]


def _compute_reference_statistics(
    scored: Sequence[_ClipResult], reference: Sequence[_ClipResult]
) -> _ReferenceStatistics:
    takes = [clip.system_scores["reference"] for clip in reference]
    scored_takes = [clip.system_scores["reference"] for clip in scored]
    return _ReferenceStatistics(
        log_mel=fit_gaussian(frames for take in takes for frames in take.log_mels),
        musicnn=fit_gaussian(patches for take in takes for patches in take.musicnn_features),
        bands={
            name: np.percentile([take.mean_values[name] for take in scored_takes], [5, 95])
            for name in BANDED_METRICS
        },
    )


def _score_clip(config: GivenRhythmConfig, task: _ClipTask) -> _ClipResult:
    """Score all systems on one clip; the result is deterministic."""
    torch.set_num_threads(config.threads_per_worker)
    if task.mismatched_clip is None:
        log_mel, features = extract_spectral_features(read_clip_audio(config.data, task.clip))
        takes = TakeScores(values_by_take={}, log_mels=[log_mel], musicnn_features=[features])
        return _ClipResult({"reference": takes}, None)
    clip = HeldOutClip(config.data, task.clip, mismatched_clip=task.mismatched_clip)
    generators = _load_generators(config)
    accents_s = clip.features.peaks_s
    reconstructed = reconstruct_through_latent(
        load_model(config.model).autoencoder, clip.reference
    )
    takes_by_system = {
        "reference": [clip.reference],
        "latent_reconstruction": [reconstructed],
    }
    for name, generator in generators.items():
        takes_by_system[name] = generate_takes(generator, clip.features, config.n_seeds)
    if config.fluidsynth:
        takes_by_system["score_fluidsynth"] = generate_takes(
            ScoreGenerator(synthesizer=SynthesizerSettings(name="fluidsynth")),
            clip.features,
            config.n_seeds,
        )
    scores = {
        name: clip.score_takes(audio, accents_s) for name, audio in takes_by_system.items()
    }
    if config.zimtohrli:
        played = takes_by_system["score"]
        for name in takes_by_system.keys() - {"reference", "latent_reconstruction", "score"}:
            pairs = zip(takes_by_system[name], played, strict=False)
            scores[name].values_by_take["zimtohrli_mos_to_score"] = [
                zimtohrli_mos(take, score) for take, score in pairs
            ]
        scores["latent_reconstruction"].values_by_take["zimtohrli_mos_to_reference"] = [
            zimtohrli_mos(reconstructed, clip.reference)
        ]
    if clip.pose_features is None:
        return _ClipResult(scores, None)
    peaks_s = clip.pose_features.peaks_s
    for name, generator in generators.items():
        jittered = generate_takes(generator, clip.pose_features, config.n_seeds)
        scores[name + JITTERED_PEAKS] = clip.score_takes(jittered, peaks_s)
    return _ClipResult(scores, match_onsets(accents_s, peaks_s).recall)


def _load_generators(config: GivenRhythmConfig) -> dict[str, MusicGenerator]:
    """Return the generators whose takes are scored with both kinds of peaks."""
    options = {"steps": config.steps, "sampler": config.sampler}
    model = load_generator(config.model, guidance=config.guidance, **options)
    conditionings = config.conditionings or model.model.denoiser.config.conditionings
    generators: dict[str, MusicGenerator] = {"score": ScoreGenerator()}
    for conditioning in conditionings:
        name = f"model_{conditioning}"
        generators[name] = replace(model, conditioning=conditioning)
    if config.previous_model is not None:
        generators["previous_model"] = load_generator(
            config.previous_model, guidance=config.previous_guidance, **options
        )
    return generators


def _summarize_system(
    clip_scores: Sequence[TakeScores], groups: Sequence[str], statistics: _ReferenceStatistics
) -> dict[str, object]:
    def fraction_in_band(metric: str, band: NDArray[np.float64]) -> float:
        takes = [value for clip in clip_scores for value in clip.values_by_take[metric]]
        values = np.array(takes)
        return float(np.mean((values >= band[0]) & (values <= band[1])))

    metrics: dict[str, object] = {}
    for name in sorted({name for clip in clip_scores for name in clip.values_by_take}):
        means = [clip.mean_values[name] for clip in clip_scores if name in clip.values_by_take]
        clusters = [
            group
            for group, clip in zip(groups, clip_scores, strict=True)
            if name in clip.values_by_take
        ]
        metrics[name] = asdict(bootstrap_mean(means, groups=clusters))
    return {
        **metrics,
        "fraction_in_band": {
            name: fraction_in_band(name, band) for name, band in statistics.bands.items()
        },
        "frechet_log_mel": mean_frechet_distance(
            [clip.log_mels for clip in clip_scores], statistics.log_mel
        ),
        "frechet_musicnn": mean_frechet_distance(
            [clip.musicnn_features for clip in clip_scores], statistics.musicnn
        ),
    }


def mean_frechet_distance(
    takes_by_clip: Sequence[Sequence[Float32Array]], reference: GaussianStatistics
) -> float:
    """Mean over seeds of the Frechet distance of one take per clip to the reference.

    The distance is biased upwards by a small number of takes. Takes of several seeds in one set
    would reduce the bias for systems with several seeds only.

    Args:
        takes_by_clip: features of each take, ``(features, frames)``, by clip and seed.
        reference: statistics of the reference set.
    """
    by_seed = zip(*takes_by_clip, strict=True)
    distances = [frechet_distance(fit_gaussian(takes), reference) for takes in by_seed]
    return float(np.mean(distances))


def _next_clip_of_style(clips: list[Clip], scored_clip: Clip) -> Clip:
    """Return the next unrelated clip of the same style, cyclically.

    Raises:
        InputError: there is none.
    """
    same = [clip for clip in clips if clip.genre == scored_clip.genre]
    first = same.index(scored_clip) + 1
    for clip in (*same[first:], *same[:first]):
        if not {*clip.all_groups} & {*scored_clip.all_groups}:
            return clip
    raise InputError(
        f"no clip of {scored_clip.genre!r} is unrelated to {scored_clip.id}",
        hint="use a data set with more sources of each style",
    )


def main() -> None:
    """Parse arguments, evaluate, and print the metrics as JSON."""
    parser = create_parser(__doc__, n_clips=50)
    add_sampling_arguments(parser)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", dest="n_seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--threads", dest="threads_per_worker", type=int, default=1)
    parser.add_argument("--sampler", choices=get_args(SamplerName), default="dpmpp-2m")
    parser.add_argument(
        "--conditioning", dest="conditionings", action="append", choices=CONDITIONINGS
    )
    parser.add_argument("--previous-model", help="Name or path of weights to compare with.")
    parser.add_argument("--previous-guidance", type=float, default=DEFAULT_GUIDANCE)
    parser.add_argument("--fluidsynth", action="store_true")
    parser.add_argument("--zimtohrli", action="store_true")
    args = parser.parse_args()
    names = [field.name for field in fields(GivenRhythmConfig)]
    metrics = evaluate_given_rhythm(
        GivenRhythmConfig(**{name: getattr(args, name) for name in names}),
        partition=args.partition,
        n_clips=args.clips,
        n_workers=args.jobs,
        reporter=NullReporter(),
    )
    print(json.dumps(metrics, indent=1))


if __name__ == "__main__":
    main()
