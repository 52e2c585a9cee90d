"""Sounds that are made for the clips of a split, kept by who made them, settings and seed.

    clip -> what its video tells -> entrant -> float WAV in the cache, and what it cost

A run that is stopped goes on where it was: what is kept is not made again. Shares of the clips
can be made on several machines into one folder.
"""

import hashlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.dataset.manifest import Clip
from loris_cli.dataset.read_clips import read_pose_features, read_rhythm_features
from loris_cli.evaluation.runner.audio_sources import RecordedAudio, read_audio_file
from loris_cli.evaluation.runner.clips import EvalClip
from loris_cli.evaluation.runner.systems import ModelSystem, System
from loris_cli.models.generator_interface import ClipFeatures, MusicGenerator
from loris_cli.models.mini_checkpoint import reconstruct_through_latent
from loris_cli.soundtrack.pipeline import write_generated_audio
from loris_cli.system.atomic_files import atomic_write
from loris_cli.system.progress import Reporter


@dataclass(frozen=True, kw_only=True)
class GenerationCost:
    """What the sounds of a row took to make, when they were made."""

    n_takes: int
    network_evaluations: int
    """Of the network, in all."""
    generation_s: float
    peak_memory_mib: float | None
    """Most memory of a process that made some; None where the system does not tell."""


@dataclass(frozen=True, kw_only=True)
class SystemRunner:
    """Who makes a row's sounds, and where these are kept."""

    name: str
    system: System
    data_dir: Path
    cache_dir: Path
    ignore_cache: bool = False
    """Make sounds anew that are kept."""

    @property
    def has_latent(self) -> bool:
        """Whether it works on a latent code, which sounds can be sent through."""
        return isinstance(self.system, ModelSystem) and self.system.has_latent

    def generate_takes(
        self, clips: Sequence[EvalClip], seeds: Sequence[int], *, reporter: Reporter
    ) -> tuple[dict[tuple[str, int], RecordedAudio], GenerationCost]:
        """Sounds of clips, made or remembered.

        Args:
            clips: with their rows of the manifest.
            seeds: one take of each clip for each; of who draws nothing the first alone.
            reporter: whom to tell.

        Returns:
            sounds by clip and seed, and what they cost.
        """
        made, costs, n_unseen = {}, [], 0
        seeds = seeds if self.system.is_stochastic else seeds[:1]
        with reporter.stage(f"music of {self.name}", len(clips) * len(seeds)) as advance:
            for case in clips:
                assert case.manifest_clip is not None
                told, music = (
                    read_clip_features(self.data_dir, case.manifest_clip),
                    self.system.get_generator(case),
                )
                n_unseen += told.visual is None
                for seed in seeds:
                    path, cost = self._generate_take(music, told, seed)
                    made[case.id, seed] = RecordedAudio(path=path)
                    costs.append(cost)
                    advance(1)
        if (
            n_unseen
            and isinstance(self.system, ModelSystem)
            and self.system.uses_visual_features
        ):
            reporter.warn(
                f"{self.name} was trained on features of the picture, and {n_unseen} clips have"
                " none: it was told of no picture there"
            )
        return made, sum_costs(costs)

    def reconstruct_references(
        self, clips: Sequence[EvalClip], *, reporter: Reporter
    ) -> dict[str, RecordedAudio]:
        """The true sounds, encoded and decoded by the model, which has a code, by clip."""
        assert isinstance(self.system, ModelSystem)
        model = self.system.latent_model
        found = {}
        with reporter.stage("truth through the latent", len(clips)) as advance:
            for case in clips:
                assert case.reference is not None
                samples = read_audio_file(case.reference.path)
                key = hashlib.sha256(samples.tobytes()).hexdigest()
                path = self._cache_path({"latent": model.sha256_prefix, "sound": key})
                if self.ignore_cache or not path.exists():
                    again = reconstruct_through_latent(model, samples)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with atomic_write(path, overwrite=True) as part:
                        soundfile.write(part, again, SAMPLE_RATE_HZ, subtype="FLOAT")
                found[case.id] = RecordedAudio(path=path)
                advance(1)
        return found

    def _generate_take(
        self, generator: MusicGenerator, features: ClipFeatures, seed: int
    ) -> tuple[Path, GenerationCost]:
        path = self._cache_path(
            {**self.system.generation_settings, "seed": seed, "told": hash_features(features)}
        )
        ledger = path.with_suffix(".json")
        known = None if self.ignore_cache or not path.exists() else _read_cost(ledger)
        if known is not None:
            return path, known
        path.parent.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        with atomic_write(path, overwrite=True) as part:
            write_generated_audio(
                generator, features, part, seed=seed, advance=lambda n=1.0: None
            )
        cost = GenerationCost(
            n_takes=1,
            network_evaluations=self.system.count_network_evaluations(features.duration_s),
            generation_s=time.perf_counter() - started,
            peak_memory_mib=read_peak_memory_mib(),
        )
        with atomic_write(ledger, overwrite=True) as part:
            part.write_text(json.dumps(vars(cost)), encoding="utf-8")
        return path, cost

    def _cache_path(self, cache_key: dict[str, Any]) -> Path:
        # A hash, never the clip's own name: that comes from outside.
        name = hashlib.sha256(json.dumps(cache_key, sort_keys=True).encode()).hexdigest()[:32]
        return self.cache_dir / f"{name}.wav"


def read_clip_features(data_dir: Path, clip: Clip) -> ClipFeatures:
    """What a generator is told of a clip: what the video shows, and no chords."""
    danced = read_pose_features(data_dir, clip)
    if danced is None:
        return read_rhythm_features(data_dir, clip)
    # As a video's own peaks are told: nobody knows there how loose they are.
    return replace(danced, harmony=None, timing_jitter=0.0)


def hash_features(features: ClipFeatures) -> str:
    """Hash of all that a generator is told."""
    hashed = hashlib.sha256(
        f"{features.duration_s} {features.genre} {features.timing_jitter}".encode()
    )
    arrays = [features.peaks_s, features.strengths, features.energy, features.keypoints]
    for array in arrays if features.visual is None else [*arrays, features.visual]:
        values = np.zeros(0) if array is None else np.ascontiguousarray(array)
        hashed.update(f"{values.shape}{values.dtype}".encode() + values.tobytes())
    return hashed.hexdigest()


def sum_costs(costs: Sequence[GenerationCost]) -> GenerationCost:
    """All costs together."""
    peaks = [cost.peak_memory_mib for cost in costs if cost.peak_memory_mib is not None]
    return GenerationCost(
        n_takes=sum(cost.n_takes for cost in costs),
        network_evaluations=sum(cost.network_evaluations for cost in costs),
        generation_s=sum(cost.generation_s for cost in costs),
        peak_memory_mib=max(peaks, default=None),
    )


def select_shard(clips: Sequence[EvalClip], shard: tuple[int, int]) -> list[EvalClip]:
    """The clips of one of several machines: ``(0, 4)`` is the first of four."""
    first, of = shard
    return list(clips[first::of])


def read_peak_memory_mib() -> float | None:
    """Most memory this process has held, MB; None where the system does not tell."""
    if sys.platform == "win32":
        return None
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


def _read_cost(cost_path: Path) -> GenerationCost | None:
    """What is kept of a cost, or None; a damaged ledger is as good as none."""
    try:
        return GenerationCost(**json.loads(cost_path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
