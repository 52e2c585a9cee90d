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
from loris_cli.dataset.read_clips import read_danced, read_features
from loris_cli.evaluation.runner.audio_sources import Recorded, read
from loris_cli.evaluation.runner.clips import Case
from loris_cli.evaluation.runner.systems import Entrant, Sampled
from loris_cli.models.generator_interface import ClipFeatures, MusicGenerator
from loris_cli.models.mini_checkpoint import through_latent
from loris_cli.soundtrack.pipeline import play
from loris_cli.system.atomic_files import replacing
from loris_cli.system.progress import Reporter


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What the sounds of a row took to make, when they were made."""

    n_takes: int
    evaluations: int
    """Of the network, in all."""
    seconds: float
    peak_mb: float | None
    """Most memory of a process that made some; None where the system does not tell."""


@dataclass(frozen=True, kw_only=True)
class Maker:
    """Who makes a row's sounds, and where these are kept."""

    name: str
    entrant: Entrant
    data: Path
    cache: Path
    fresh: bool = False
    """Make sounds anew that are kept."""

    @property
    def has_code(self) -> bool:
        """Whether it works on a latent code, which sounds can be sent through."""
        return isinstance(self.entrant, Sampled) and self.entrant.has_code

    def make(
        self, cases: Sequence[Case], seeds: Sequence[int], *, reporter: Reporter
    ) -> tuple[dict[tuple[str, int], Recorded], Cost]:
        """Sounds of clips, made or remembered.

        Args:
            cases: with their rows of the manifest.
            seeds: one take of each clip for each; of who draws nothing the first alone.
            reporter: whom to tell.

        Returns:
            sounds by clip and seed, and what they cost.
        """
        made, costs, n_unseen = {}, [], 0
        seeds = seeds if self.entrant.seeded else seeds[:1]
        with reporter.stage(f"music of {self.name}", len(cases) * len(seeds)) as advance:
            for case in cases:
                assert case.clip is not None
                told, music = told_of(self.data, case.clip), self.entrant.music_of(case)
                n_unseen += told.visual is None
                for seed in seeds:
                    path, cost = self._take(music, told, seed)
                    made[case.id, seed] = Recorded(path=path)
                    costs.append(cost)
                    advance(1)
        if n_unseen and isinstance(self.entrant, Sampled) and self.entrant.sees_picture:
            reporter.warn(
                f"{self.name} was trained on features of the picture, and {n_unseen} clips have"
                " none: it was told of no picture there"
            )
        return made, total(costs)

    def latent(self, cases: Sequence[Case], *, reporter: Reporter) -> dict[str, Recorded]:
        """The true sounds, encoded and decoded by the model, which has a code, by clip."""
        assert isinstance(self.entrant, Sampled)
        model = self.entrant.code
        found = {}
        with reporter.stage("truth through the latent", len(cases)) as advance:
            for case in cases:
                assert case.reference is not None
                samples = read(case.reference.path)
                key = hashlib.sha256(samples.tobytes()).hexdigest()
                path = self._place({"latent": model.fingerprint, "sound": key})
                if self.fresh or not path.exists():
                    again = through_latent(model, samples)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with replacing(path, overwrite=True) as part:
                        soundfile.write(part, again, SAMPLE_RATE_HZ, subtype="FLOAT")
                found[case.id] = Recorded(path=path)
                advance(1)
        return found

    def _take(self, music: MusicGenerator, told: ClipFeatures, seed: int) -> tuple[Path, Cost]:
        path = self._place({**self.entrant.settings, "seed": seed, "told": fingerprint(told)})
        ledger = path.with_suffix(".json")
        known = None if self.fresh or not path.exists() else _cost_in(ledger)
        if known is not None:
            return path, known
        path.parent.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        with replacing(path, overwrite=True) as part:
            play(music, told, part, seed=seed, advance=lambda n=1.0: None)
        cost = Cost(
            n_takes=1,
            evaluations=self.entrant.evaluations(told.duration_s),
            seconds=time.perf_counter() - started,
            peak_mb=peak_memory_mb(),
        )
        with replacing(ledger, overwrite=True) as part:
            part.write_text(json.dumps(vars(cost)), encoding="utf-8")
        return path, cost

    def _place(self, key: dict[str, Any]) -> Path:
        # A hash, never the clip's own name: that comes from outside.
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
        return self.cache / f"{name}.wav"


def told_of(data: Path, clip: Clip) -> ClipFeatures:
    """What a generator is told of a clip: what the video shows, and no chords."""
    danced = read_danced(data, clip)
    if danced is None:
        return read_features(data, clip)
    # As a video's own peaks are told: nobody knows there how loose they are.
    return replace(danced, harmony=None, looseness=0.0)


def fingerprint(told: ClipFeatures) -> str:
    """Hash of all that a generator is told."""
    hashed = hashlib.sha256(f"{told.duration_s} {told.genre} {told.looseness}".encode())
    arrays = [told.peaks_s, told.strengths, told.energy, told.keypoints]
    for array in arrays if told.visual is None else [*arrays, told.visual]:
        values = np.zeros(0) if array is None else np.ascontiguousarray(array)
        hashed.update(f"{values.shape}{values.dtype}".encode() + values.tobytes())
    return hashed.hexdigest()


def total(costs: Sequence[Cost]) -> Cost:
    """All costs together."""
    peaks = [cost.peak_mb for cost in costs if cost.peak_mb is not None]
    return Cost(
        n_takes=sum(cost.n_takes for cost in costs),
        evaluations=sum(cost.evaluations for cost in costs),
        seconds=sum(cost.seconds for cost in costs),
        peak_mb=max(peaks, default=None),
    )


def share(cases: Sequence[Case], shard: tuple[int, int]) -> list[Case]:
    """The clips of one of several machines: ``(0, 4)`` is the first of four."""
    first, of = shard
    return list(cases[first::of])


def peak_memory_mb() -> float | None:
    """Most memory this process has held, MB; None where the system does not tell."""
    if sys.platform == "win32":
        return None
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


def _cost_in(ledger: Path) -> Cost | None:
    """What is kept of a cost, or None; a damaged ledger is as good as none."""
    try:
        return Cost(**json.loads(ledger.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
