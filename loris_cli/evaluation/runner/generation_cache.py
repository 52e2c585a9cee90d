"""Generate the takes of systems for clips, cached by system, settings and seed.

    clip -> features of its video -> system -> float WAV in the cache, and its cost

An interrupted run resumes from the cached takes. Shards of the clips can be generated on
several machines with a shared cache folder.
"""

import hashlib
import json
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
from loris_cli.evaluation.runner.scores import GenerationCost
from loris_cli.evaluation.runner.systems import System
from loris_cli.models.generator_interface import ClipFeatures, MusicGenerator
from loris_cli.models.mini_checkpoint import reconstruct_through_latent
from loris_cli.soundtrack.pipeline import generate_wav
from loris_cli.system.atomic_files import atomic_write
from loris_cli.system.device import read_peak_memory_mib
from loris_cli.system.progress import Reporter


@dataclass(frozen=True, kw_only=True)
class SystemRunner:
    """Generation of a system's takes into the cache."""

    name: str
    system: System
    data_dir: Path
    cache_dir: Path
    ignore_cache: bool = False
    """Regenerate audio that is in the cache."""

    def generate_takes(
        self, clips: Sequence[EvalClip], seeds: Sequence[int], *, reporter: Reporter
    ) -> tuple[dict[tuple[str, int], RecordedAudio], GenerationCost]:
        """Generate the takes of clips, or read them from the cache.

        Args:
            clips: clips of a manifest.
            seeds: one take per clip and seed; a deterministic system uses the first seed only.
            reporter: receives progress and warnings.

        Returns:
            takes by clip id and seed; their total cost.
        """
        takes, costs, n_without_visual = {}, [], 0
        seeds = seeds if self.system.is_stochastic else seeds[:1]
        with reporter.stage(f"generate: {self.name}", len(clips) * len(seeds)) as advance:
            for clip in clips:
                assert clip.manifest_clip is not None
                features = read_clip_features(self.data_dir, clip.manifest_clip)
                generator = self.system.get_generator(clip)
                n_without_visual += features.visual is None
                for seed in seeds:
                    path, cost = self._generate_take(generator, features, seed)
                    takes[clip.id, seed] = RecordedAudio(path=path)
                    costs.append(cost)
                    advance(1)
        if n_without_visual and self.system.uses_visual_features:
            lacking = f"but {n_without_visual} clips have none and were generated without them"
            reporter.warn(f"{self.name} was trained on visual features, {lacking}")
        return takes, sum_costs(costs)

    def reconstruct_references(
        self, clips: Sequence[EvalClip], *, reporter: Reporter
    ) -> dict[str, RecordedAudio]:
        """Encode and decode the references with the latent model; return them by clip id."""
        assert self.system.load_latent_model is not None
        model = self.system.load_latent_model()
        recorded = {}
        with reporter.stage("latent reconstruction", len(clips)) as advance:
            for clip in clips:
                assert clip.reference is not None
                samples = read_audio_file(clip.reference.path)
                sha256 = hashlib.sha256(samples.tobytes()).hexdigest()
                path = self._cache_path({"latent": model.sha256_prefix, "samples": sha256})
                if self.ignore_cache or not path.exists():
                    decoded = reconstruct_through_latent(model, samples)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with atomic_write(path, overwrite=True) as temporary:
                        soundfile.write(temporary, decoded, SAMPLE_RATE_HZ, subtype="FLOAT")
                recorded[clip.id] = RecordedAudio(path=path)
                advance(1)
        return recorded

    def _generate_take(
        self, generator: MusicGenerator, features: ClipFeatures, seed: int
    ) -> tuple[Path, GenerationCost]:
        inputs = {"seed": seed, "features": hash_features(features)}
        path = self._cache_path({**self.system.generation_settings, **inputs})
        cost_path = path.with_suffix(".json")
        known = None if self.ignore_cache or not path.exists() else _read_cost(cost_path)
        if known is not None:
            return path, known
        path.parent.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        with atomic_write(path, overwrite=True) as temporary:
            generate_wav(generator, features, temporary, seed=seed, advance=lambda n=1.0: None)
        cost = GenerationCost(
            n_takes=1,
            network_evaluations=self.system.count_network_evaluations(features.duration_s),
            generation_s=time.perf_counter() - start,
            peak_memory_mib=read_peak_memory_mib(),
        )
        with atomic_write(cost_path, overwrite=True) as temporary:
            temporary.write_text(json.dumps(vars(cost)), encoding="utf-8")
        return path, cost

    def _cache_path(self, cache_key: dict[str, Any]) -> Path:
        # A hash, because clip ids are untrusted and not safe as file names.
        name = hashlib.sha256(json.dumps(cache_key, sort_keys=True).encode()).hexdigest()[:32]
        return self.cache_dir / f"{name}.wav"


def read_clip_features(data_dir: Path, clip: Clip) -> ClipFeatures:
    """Return the features of a clip as extracted from a video: no chords, notes or jitter."""
    features = read_pose_features(data_dir, clip)
    if features is None:
        return read_rhythm_features(data_dir, clip)
    # The chords, the notes and the timing jitter are unknown for a video.
    return replace(features, harmony=None, arrangement=None, timing_jitter=0.0)


def hash_features(features: ClipFeatures) -> str:
    """Return a hash of all conditioning inputs of a generator."""
    values = f"{features.duration_s} {features.genre} {features.timing_jitter}"
    hashed = hashlib.sha256(values.encode())
    arrays = [features.peaks_s, features.strengths, features.energy, features.keypoints]
    for array in arrays if features.visual is None else [*arrays, features.visual]:
        x = np.zeros(0) if array is None else np.ascontiguousarray(array)
        hashed.update(f"{x.shape}{x.dtype}".encode() + x.tobytes())
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


def _read_cost(path: Path) -> GenerationCost | None:
    """Read a cached cost; None if it is missing or damaged."""
    try:
        return GenerationCost(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
