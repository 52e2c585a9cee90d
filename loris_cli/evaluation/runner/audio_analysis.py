"""What is heard in a sound, once for each sound: in parallel, and kept.

    sounds -> those not heard before, in processes of their own -> onsets, beats -> cache

The long part of a benchmark is listening; all figures are made from what this module returns.
What is kept lies under the hash of the samples, of every parameter and of librosa's version.
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loris_cli.audio.beat_tracking import BeatTracker, track_beats
from loris_cli.audio.onsets import ONSET_DELAY_S, ONSET_HOP_LENGTH, PEAK_PICKING, detect_onsets
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import LorisError
from loris_cli.evaluation.metrics.loris_scores import (
    OFFICIAL_PROTOCOL,
    OnsetFlags,
    ScoringProtocol,
    detect_protocol_onsets,
    flag_onset_seconds,
)
from loris_cli.evaluation.metrics.sync import AudioEvents
from loris_cli.evaluation.runner.audio_sources import AudioSource, Samples, load_samples
from loris_cli.system.atomic_files import atomic_write
from loris_cli.system.progress import NullReporter, Reporter
from loris_cli.system.worker_pool import WorkerCrash, map_in_processes

Array = NDArray[np.float64]

ANALYSIS_SCHEMA = 1
"""Of what is kept; a change of what is heard raises it."""

MIN_SOURCES_PER_WORKER = {True: 16, False: 200}
"""With fewer sounds than that to each, strictly heard or not, processes cost more than they
save: one takes some four seconds to begin, a sound 35 ms by the official protocol alone."""


@dataclass(frozen=True, kw_only=True)
class AnalysisConfig:
    """What to listen for."""

    protocol: ScoringProtocol = OFFICIAL_PROTOCOL
    strict_metrics: bool = True
    """Fine onsets and beats too."""
    beat_tracker: BeatTracker = "librosa"


@dataclass(frozen=True, kw_only=True)
class AudioAnalysis:
    """What was heard in a sound."""

    samples_sha256: str
    """Hash of the samples."""
    n_samples: int
    protocol_onsets_s: Array
    """By the protocol's detector."""
    strict_onsets_s: Array
    """By `evaluation.onsets`; none unless listened for."""
    beats_s: Array
    n_truncated_samples: int = 0
    """Samples beyond the length that was asked for, which were not listened to."""

    @property
    def duration_s(self) -> float:
        """Length of the sound."""
        return self.n_samples / SAMPLE_RATE_HZ

    @property
    def onset_flags(self) -> OnsetFlags:
        """Seconds with an onset, ``(seconds,)``."""
        return flag_onset_seconds(self.protocol_onsets_s, self.n_samples)

    def crop_events(self, end_s: float) -> AudioEvents:
        """Onsets and beats before a moment."""
        return AudioEvents(
            onsets_s=self.strict_onsets_s[self.strict_onsets_s < end_s],
            beats_s=self.beats_s[self.beats_s < end_s],
        )


@dataclass(frozen=True, kw_only=True)
class AnalysisFailure:
    """A sound that could not be listened to."""

    reason: str


def analyze_audio(
    source: AudioSource, *, config: AnalysisConfig, cache_dir: Path | None
) -> AudioAnalysis | AnalysisFailure:
    """Listen to one sound, or remember it.

    Args:
        source: what to listen to.
        config: what for.
        cache_dir: folder of what was heard before; None remembers nothing.
    """
    try:
        samples, n_cut = load_samples(source)
        key = hashlib.sha256(samples.tobytes()).hexdigest()
        place = (
            None if cache_dir is None else cache_dir / f"{_hash_cache_key(key, config)}.json"
        )
        known = None if place is None else _read_cached_analysis(place, key)
        if known is not None:
            return replace(known, n_truncated_samples=n_cut)
        heard = _analyze_samples(samples, key, config)
        if place is not None:
            place.parent.mkdir(parents=True, exist_ok=True)
            told = {
                name: value.tolist() if isinstance(value, np.ndarray) else value
                for name, value in vars(heard).items()
                if name != "n_cut"
            }
            with atomic_write(place, overwrite=True) as part:
                part.write_text(json.dumps(told), encoding="utf-8")
        return replace(heard, n_truncated_samples=n_cut)
    except LorisError as error:
        return AnalysisFailure(reason=str(error))


def analyze_audio_sources(
    sources: Sequence[AudioSource],
    *,
    config: AnalysisConfig,
    cache_dir: Path | None,
    max_workers: int,
    reporter: Reporter | None = None,
) -> list[AudioAnalysis | AnalysisFailure]:
    """Listen to many sounds; one that is told twice is listened to once.

    Args:
        sources: what to listen to.
        config: what for.
        cache_dir: folder of what was heard before.
        max_workers: processes at most; 1 is this one, which does all where there is little to do.
        reporter: whom to tell.

    Returns:
        what was heard in each, in their order.
    """
    different = list(dict.fromkeys(sources))
    work = partial(analyze_audio, config=config, cache_dir=cache_dir)
    found: dict[AudioSource, AudioAnalysis | AnalysisFailure] = {}
    with (reporter or NullReporter()).stage("listening", len(different)) as advance:
        n_workers = min(
            max_workers, len(different) // MIN_SOURCES_PER_WORKER[config.strict_metrics]
        )
        if n_workers <= 1:
            for sound in different:
                found[sound] = work(sound)
                advance(1)
        else:
            with closing(map_in_processes(work, different, n_workers=n_workers)) as results:
                for index, result in results:
                    found[different[index]] = (
                        AnalysisFailure(
                            reason=f"the listener died (exit code {result.exit_code})"
                        )
                        if isinstance(result, WorkerCrash)
                        else result
                    )
                    advance(1)
    return [found[sound] for sound in sources]


def _analyze_samples(
    samples: Samples, samples_sha256: str, config: AnalysisConfig
) -> AudioAnalysis:
    fine_onsets_s = beats_s = np.zeros(0)
    if config.strict_metrics:
        fine_onsets_s, beats_s = (
            detect_onsets(samples),
            track_beats(samples, config.beat_tracker),
        )
    return AudioAnalysis(
        samples_sha256=samples_sha256,
        n_samples=len(samples),
        protocol_onsets_s=detect_protocol_onsets(samples, config.protocol),
        strict_onsets_s=fine_onsets_s,
        beats_s=beats_s,
    )


def _hash_cache_key(samples_sha256: str, config: AnalysisConfig) -> str:
    parameters = {
        **asdict(config),
        "fine": [PEAK_PICKING, ONSET_HOP_LENGTH, ONSET_DELAY_S],
        "schema": ANALYSIS_SCHEMA,
    }
    told = json.dumps([samples_sha256, version("librosa"), parameters], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _read_cached_analysis(cache_path: Path, samples_sha256: str) -> AudioAnalysis | None:
    """What is kept at a place, or None; a damaged file is as good as none."""
    try:
        told = json.loads(cache_path.read_text(encoding="utf-8"))
        known = AudioAnalysis(
            samples_sha256=told["key"],
            n_samples=int(told["n_samples"]),
            protocol_onsets_s=np.array(told["onsets_s"], dtype=np.float64),
            strict_onsets_s=np.array(told["fine_onsets_s"], dtype=np.float64),
            beats_s=np.array(told["beats_s"], dtype=np.float64),
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return known if known.samples_sha256 == samples_sha256 else None
