"""Generate the takes of systems for clips, cached by system, settings and seed.

    clip -> features of its video -> system -> float WAV in the cache, and its cost

An interrupted run resumes from the cached takes. Shards of the clips can be generated on
several machines with a shared cache folder.
"""

import hashlib
import json
import pickle
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.dataset.read_clips import read_rhythm_features, read_video_features
from loris_cli.errors import LorisError
from loris_cli.evaluation.runner.audio_sources import RecordedAudio, read_audio_file
from loris_cli.evaluation.runner.clips import EvalClip
from loris_cli.evaluation.runner.scores import GenerationCost
from loris_cli.evaluation.runner.systems import System
from loris_cli.models.generator_interface import VideoFeatures
from loris_cli.soundtrack.pipeline import generate_wav
from loris_cli.system.atomic_files import atomic_write
from loris_cli.system.device import read_peak_memory_mib
from loris_cli.system.progress import Reporter
from loris_cli.system.threads import configure_threads, divide_pool, use_one_thread_per_call
from loris_cli.system.worker_pool import WorkerCrash, map_in_processes


@dataclass(frozen=True, kw_only=True)
class GenerationTask:
    """One take to generate. A worker process receives nothing else of a clip."""

    features: VideoFeatures
    excluded_groups: frozenset[str]
    """Groups of the clip; a system must not use their music."""
    seed: int
    path: Path
    """File in the cache."""

    @property
    def cost_path(self) -> Path:
        """File with the cost of the take."""
        return self.path.with_suffix(".json")

    def read_cached_cost(self) -> GenerationCost | None:
        """Return the cost of a cached take; None if it is missing or damaged."""
        if not self.path.exists():
            return None
        try:
            return GenerationCost(**json.loads(self.cost_path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None


@dataclass(frozen=True, kw_only=True)
class SystemRunner:
    """Generation of a system's takes into the cache."""

    name: str
    system: System
    data_dir: Path
    cache_dir: Path
    ignore_cache: bool = False
    """Regenerate audio that is in the cache."""
    max_workers: int = 1
    """Maximum number of worker processes."""

    def generate_takes(
        self, clips: Sequence[EvalClip], seeds: Sequence[int], *, reporter: Reporter
    ) -> tuple[dict[tuple[str, int], RecordedAudio], GenerationCost]:
        """Generate the takes of clips, or read them from the cache.

        The audio does not depend on the number of worker processes.

        Args:
            clips: clips of a manifest.
            seeds: one take per clip and seed; a deterministic system uses the first seed only.
            reporter: receives progress and warnings.

        Returns:
            takes by clip id and seed; their total cost.

        Raises:
            LorisError: a worker process crashed, or the system cannot generate a take.
        """
        seeds = seeds if self.system.is_stochastic else seeds[:1]
        keys, tasks = [], []
        for clip in clips:
            assert clip.manifest_clip is not None
            features = read_system_inputs(self.data_dir, clip)
            groups = frozenset(clip.manifest_clip.all_groups)
            for seed in seeds:
                keys.append((clip.id, seed))
                tasks.append(self._make_task(features, groups, seed))
        with reporter.stage(f"generate: {self.name}", len(tasks)) as advance:
            costs = self._run_tasks(tasks, lambda: advance(1))
        n_without_visual = sum(task.features.visual is None for task in tasks) // len(seeds)
        if n_without_visual and self.system.uses_visual_features:
            lacking = f"but {n_without_visual} clips have none and were generated without them"
            reporter.warn(f"{self.name} was trained on visual features, {lacking}")
        takes = {
            key: RecordedAudio(path=task.path) for key, task in zip(keys, tasks, strict=True)
        }
        return takes, sum_costs(costs)

    def _make_task(
        self, features: VideoFeatures, groups: frozenset[str], seed: int
    ) -> GenerationTask:
        inputs = {"seed": seed, "features": hash_features(features), "groups": sorted(groups)}
        return GenerationTask(
            features=features,
            excluded_groups=groups,
            seed=seed,
            path=self._cache_path({**self.system.generation_settings, **inputs}),
        )

    def _run_tasks(
        self, tasks: Sequence[GenerationTask], advance: Callable[[], None]
    ) -> list[GenerationCost]:
        """Generate the takes that are not cached; return the cost of each take."""
        costs = {
            k: cost
            for k, task in enumerate(tasks)
            if not self.ignore_cache and (cost := task.read_cached_cost()) is not None
        }
        for _ in costs:
            advance()
        missing = [k for k in range(len(tasks)) if k not in costs]
        n_workers = min(self.max_workers, len(missing) // self.system.min_takes_per_worker)
        results: Generator[tuple[int, GenerationCost | LorisError | WorkerCrash]]
        todo = [tasks[k] for k in missing]
        if n_workers <= 1 or not self.system.runs_in_parallel:
            results = ((k, generate_take(self.system, task)) for k, task in enumerate(todo))
        else:
            function = partial(_generate_in_worker, self.system.rebuild, divide_pool(n_workers))
            results = map_in_processes(function, todo, n_workers=n_workers)
        with closing(results):
            for k, result in results:
                if isinstance(result, WorkerCrash):
                    raise LorisError(
                        f"{self.name}: a worker process crashed (exit code {result.exit_code})",
                        hint="check the free memory, or use --jobs 1",
                    )
                if isinstance(result, LorisError):
                    raise result
                costs[missing[k]] = result
                advance()
        return [costs[k] for k in range(len(tasks))]

    def reconstruct_references(
        self, clips: Sequence[EvalClip], *, reporter: Reporter
    ) -> dict[str, RecordedAudio]:
        """Encode and decode the references with the codec; return them by clip id."""
        assert self.system.load_codec is not None
        codec = self.system.load_codec()
        recorded = {}
        with reporter.stage(f"{codec.name} reconstruction", len(clips)) as advance:
            for clip in clips:
                assert clip.reference is not None
                samples = read_audio_file(clip.reference.path)
                sha256 = hashlib.sha256(samples.tobytes()).hexdigest()
                path = self._cache_path({codec.name: codec.sha256_prefix, "samples": sha256})
                if self.ignore_cache or not path.exists():
                    decoded = codec.reconstruct(samples)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with atomic_write(path, overwrite=True) as temporary:
                        soundfile.write(temporary, decoded, SAMPLE_RATE_HZ, subtype="FLOAT")
                recorded[clip.id] = RecordedAudio(path=path)
                advance(1)
        return recorded

    def _cache_path(self, cache_key: dict[str, Any]) -> Path:
        # A hash, because clip ids are untrusted and not safe as file names.
        name = hashlib.sha256(json.dumps(cache_key, sort_keys=True).encode()).hexdigest()[:32]
        return self.cache_dir / f"{name}.wav"


def generate_take(system: System, task: GenerationTask) -> GenerationCost:
    """Generate one take into the cache and return its cost."""
    generator = system.get_generator(task.excluded_groups)
    task.path.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with atomic_write(task.path, overwrite=True) as temporary:
        generate_wav(
            generator, task.features, temporary, seed=task.seed, advance=lambda n=1.0: None
        )
    cost = GenerationCost(
        n_takes=1,
        network_evaluations=system.count_network_evaluations(task.features.duration_s),
        generation_s=time.perf_counter() - start,
        peak_memory_mib=read_peak_memory_mib(),
    )
    with atomic_write(task.cost_path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(vars(cost)), encoding="utf-8")
    return cost


_worker_systems: dict[bytes, System] = {}


def _generate_in_worker(
    rebuild: Callable[[], System], n_threads: int, task: GenerationTask
) -> GenerationCost | LorisError:
    """Generate a take in a worker process, which builds the system once."""
    use_one_thread_per_call()
    configure_threads(n_threads)
    try:
        key = pickle.dumps(rebuild)
        if key not in _worker_systems:
            _worker_systems[key] = rebuild()
        return generate_take(_worker_systems[key], task)
    except LorisError as error:
        return error


def read_system_inputs(data_dir: Path, clip: EvalClip) -> VideoFeatures:
    """Return all that a system receives of a clip: the features of its video.

    For a clip marked `EvalClip.rhythm_from_reference`, the rhythm of the reference audio
    replaces that of the video.
    """
    assert clip.manifest_clip is not None
    if clip.rhythm_from_reference:
        return read_rhythm_features(data_dir, clip.manifest_clip)
    features = read_video_features(data_dir, clip.manifest_clip)
    assert features is not None
    return features


def hash_features(features: VideoFeatures) -> str:
    """Return a hash of every field that a system receives."""
    if type(features) is not VideoFeatures:  # a subclass may carry the score of the reference
        raise TypeError(f"systems receive VideoFeatures, not {type(features).__name__}")
    hashed = hashlib.sha256()
    for field in fields(features):
        value = getattr(features, field.name)
        hashed.update(f"{field.name} ".encode())
        if isinstance(value, np.ndarray):
            hashed.update(f"{value.shape}{value.dtype}".encode())
            hashed.update(np.ascontiguousarray(value).tobytes())
        else:
            hashed.update(repr(value).encode())
    return hashed.hexdigest()


def sum_costs(costs: Sequence[GenerationCost]) -> GenerationCost:
    """Return the total cost. The peak memory is the maximum, the other fields are sums."""
    peaks = [cost.peak_memory_mib for cost in costs if cost.peak_memory_mib is not None]
    return GenerationCost(
        n_takes=sum(cost.n_takes for cost in costs),
        network_evaluations=sum(cost.network_evaluations for cost in costs),
        generation_s=sum(cost.generation_s for cost in costs),
        peak_memory_mib=max(peaks, default=None),
    )
