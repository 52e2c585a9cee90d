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

from loris_cli.audio.beat_tracking import Tracker, beats
from loris_cli.audio.onsets import DELAY_S, DETECTOR, HOP, detect_onsets
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import LorisError
from loris_cli.evaluation.metrics.loris_scores import (
    OFFICIAL,
    Flags,
    Protocol,
    flags,
    onset_times,
)
from loris_cli.evaluation.metrics.sync import Events
from loris_cli.evaluation.runner.audio_sources import Samples, Sound, samples_of
from loris_cli.system.atomic_files import replacing
from loris_cli.system.progress import Reporter, Silent
from loris_cli.system.worker_pool import Died, fan_out

Array = NDArray[np.float64]

SCHEMA = 1
"""Of what is kept; a change of what is heard raises it."""

WORTH_A_PROCESS = {True: 16, False: 200}
"""With fewer sounds than that to each, strictly heard or not, processes cost more than they
save: one takes some four seconds to begin, a sound 35 ms by the official protocol alone."""


@dataclass(frozen=True, kw_only=True)
class Ears:
    """What to listen for."""

    protocol: Protocol = OFFICIAL
    strict: bool = True
    """Fine onsets and beats too."""
    tracker: Tracker = "librosa"


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What was heard in a sound."""

    key: str
    """Hash of the samples."""
    n_samples: int
    onsets_s: Array
    """By the protocol's detector."""
    fine_onsets_s: Array
    """By `evaluation.onsets`; none unless listened for."""
    beats_s: Array
    n_cut: int = 0
    """Samples beyond the length that was asked for, which were not listened to."""

    @property
    def duration_s(self) -> float:
        """Length of the sound."""
        return self.n_samples / SAMPLE_RATE_HZ

    @property
    def flags(self) -> Flags:
        """Seconds with an onset, ``(seconds,)``."""
        return flags(self.onsets_s, self.n_samples)

    def events(self, until_s: float) -> Events:
        """Onsets and beats before a moment."""
        return Events(
            onsets_s=self.fine_onsets_s[self.fine_onsets_s < until_s],
            beats_s=self.beats_s[self.beats_s < until_s],
        )


@dataclass(frozen=True, kw_only=True)
class Unheard:
    """A sound that could not be listened to."""

    reason: str


def listen(sound: Sound, *, ears: Ears, cache: Path | None) -> Heard | Unheard:
    """Listen to one sound, or remember it.

    Args:
        sound: what to listen to.
        ears: what for.
        cache: folder of what was heard before; None remembers nothing.
    """
    try:
        samples, n_cut = samples_of(sound)
        key = hashlib.sha256(samples.tobytes()).hexdigest()
        place = None if cache is None else cache / f"{_name(key, ears)}.json"
        known = None if place is None else _remember(place, key)
        if known is not None:
            return replace(known, n_cut=n_cut)
        heard = _heard(samples, key, ears)
        if place is not None:
            place.parent.mkdir(parents=True, exist_ok=True)
            told = {
                name: value.tolist() if isinstance(value, np.ndarray) else value
                for name, value in vars(heard).items()
                if name != "n_cut"
            }
            with replacing(place, overwrite=True) as part:
                part.write_text(json.dumps(told), encoding="utf-8")
        return replace(heard, n_cut=n_cut)
    except LorisError as error:
        return Unheard(reason=str(error))


def listen_to_all(
    sounds: Sequence[Sound],
    *,
    ears: Ears,
    cache: Path | None,
    jobs: int,
    reporter: Reporter | None = None,
) -> list[Heard | Unheard]:
    """Listen to many sounds; one that is told twice is listened to once.

    Args:
        sounds: what to listen to.
        ears: what for.
        cache: folder of what was heard before.
        jobs: processes at most; 1 is this one, which does all where there is little to do.
        reporter: whom to tell.

    Returns:
        what was heard in each, in their order.
    """
    different = list(dict.fromkeys(sounds))
    work = partial(listen, ears=ears, cache=cache)
    found: dict[Sound, Heard | Unheard] = {}
    with (reporter or Silent()).stage("listening", len(different)) as advance:
        n_workers = min(jobs, len(different) // WORTH_A_PROCESS[ears.strict])
        if n_workers <= 1:
            for sound in different:
                found[sound] = work(sound)
                advance(1)
        else:
            with closing(fan_out(work, different, n_workers=n_workers)) as results:
                for index, result in results:
                    found[different[index]] = (
                        Unheard(reason=f"the listener died (exit code {result.exit_code})")
                        if isinstance(result, Died)
                        else result
                    )
                    advance(1)
    return [found[sound] for sound in sounds]


def _heard(samples: Samples, key: str, ears: Ears) -> Heard:
    fine_onsets_s = beats_s = np.zeros(0)
    if ears.strict:
        fine_onsets_s, beats_s = detect_onsets(samples), beats(samples, ears.tracker)
    return Heard(
        key=key,
        n_samples=len(samples),
        onsets_s=onset_times(samples, ears.protocol),
        fine_onsets_s=fine_onsets_s,
        beats_s=beats_s,
    )


def _name(key: str, ears: Ears) -> str:
    parameters = {**asdict(ears), "fine": [DETECTOR, HOP, DELAY_S], "schema": SCHEMA}
    told = json.dumps([key, version("librosa"), parameters], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _remember(place: Path, key: str) -> Heard | None:
    """What is kept at a place, or None; a damaged file is as good as none."""
    try:
        told = json.loads(place.read_text(encoding="utf-8"))
        known = Heard(
            key=told["key"],
            n_samples=int(told["n_samples"]),
            onsets_s=np.array(told["onsets_s"], dtype=np.float64),
            fine_onsets_s=np.array(told["fine_onsets_s"], dtype=np.float64),
            beats_s=np.array(told["beats_s"], dtype=np.float64),
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return known if known.key == key else None
