"""Foley Music as a generator: poses of a clip -> notes of windows -> synthesizer -> samples."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from loris_cli.array_types import Array, Samples
from loris_cli.baselines.foley.config import N_POSE_FRAMES, WINDOW_S
from loris_cli.baselines.foley.decoding import (
    NUCLEUS_MASS,
    TEMPERATURE,
    DecodingMethod,
    decode_greedily,
    sample_events,
    search_events,
)
from loris_cli.baselines.foley.events import (
    crop_notes,
    decode_notes,
    encode_notes,
    encode_time_shift,
    end_notes,
    sum_time_shifts,
)
from loris_cli.baselines.foley.network import FoleyNetwork
from loris_cli.baselines.foley.poses import interpolate_pose
from loris_cli.composition.arrangement import KEYS_CHANNEL, Arrangement, end_repeated_notes
from loris_cli.composition.mix import MixSettings
from loris_cli.composition.synthesis import synthesize_blocks
from loris_cli.composition.synthesizer_settings import DEFAULT_SYNTHESIZER, SynthesizerSettings
from loris_cli.models.generator_interface import ProgressCallback, VideoFeatures
from loris_cli.models.stgcn import N_JOINTS
from loris_cli.pose.normalization import normalize_keypoints

PREFIX_S = 2.0
"""Duration of the events at the end of a window that are the prefix of the next
(docs/differences.md, F12)."""
MIN_HOP_S = 1.0
"""Least time between windows, of which those with too many events end early."""
PIANO_PROGRAM = 0
"""General MIDI acoustic grand piano (released configuration)."""


@dataclass(frozen=True, kw_only=True)
class FoleyGenerator:
    """A trained network as a `MusicGenerator`."""

    network: FoleyNetwork
    device: torch.device
    synthesizer: SynthesizerSettings = DEFAULT_SYNTHESIZER
    decoding: DecodingMethod = "nucleus"
    """Ignored for networks of the mode ``official`` (docs/differences.md, F10)."""
    temperature: float = TEMPERATURE
    nucleus_mass: float = NUCLEUS_MASS

    def compose(
        self, features: VideoFeatures, *, seed: int, progress: ProgressCallback | None = None
    ) -> Arrangement:
        """Return the notes of a take.

        Args:
            features: features of the entire clip; without poses all keypoints are zero, as for
                frames in which no person is detected.
            seed: seed of the take.
            progress: called after each window, with milliseconds.

        Returns:
            Notes of a piano, all within the clip.
        """
        pose = normalize_keypoints(features.keypoints)
        notes, start_s, prefix = np.empty((0, 4)), 0.0, list[int]()
        for index in itertools.count():
            duration_s = min(WINDOW_S, features.duration_s - start_s)
            events = self._generate_events(pose, start_s, prefix, duration_s, (seed, index))
            window_notes = decode_notes(events, compat=self.network.config.compat)
            end_s = self._find_end(events)
            ended = end_notes(window_notes, min(end_s, duration_s))
            shifted = ended + np.array([start_s, 0, 0, 0])
            notes = np.concatenate([notes[notes[:, 0] < start_s], shifted])
            is_last = start_s + max(end_s, MIN_HOP_S) >= features.duration_s
            done_s = features.duration_s if is_last else start_s + end_s
            if progress is not None:
                progress(round(1000 * done_s), round(1000 * features.duration_s))
            if is_last:
                break
            hop_s = self._choose_hop(end_s)
            prefix = encode_prefix(window_notes, hop_s, end_s - hop_s)
            start_s += hop_s
        channel = np.full(len(notes), float(KEYS_CHANNEL))
        return Arrangement(
            note_array=end_repeated_notes(np.insert(notes, 2, channel, axis=1)),
            channel_programs={KEYS_CHANNEL: PIANO_PROGRAM},
        )

    def generate(
        self, features: VideoFeatures, *, seed: int, progress: ProgressCallback
    ) -> Iterator[Samples]:
        """Play the notes of a take.

        Args:
            features: features of the entire clip.
            seed: seed of the take.
            progress: called after each window, with milliseconds.

        Yields:
            ``(1, samples)`` blocks at 22,050 Hz, ``round(duration_s * 22050)`` samples in all.

        Raises:
            InputError: the soundfont is damaged or lacks a piano.
            MissingDependencyError: fluidsynth is not installed.
        """
        yield from synthesize_blocks(
            self.compose(features, seed=seed, progress=progress),
            MixSettings(),
            duration_s=features.duration_s,
            n_channels=1,
            synthesizer=self.synthesizer,
        )

    def _find_end(self, events: list[int]) -> float:
        """Return the time in a window up to which its events are complete."""
        config = self.network.config
        if config.compat == "official" or len(events) < config.max_events:
            return WINDOW_S
        return min(sum_time_shifts(events), WINDOW_S)

    def _choose_hop(self, end_s: float) -> float:
        """Return the time to the next window, if events are complete up to a time."""
        if self.network.config.compat == "official":
            return WINDOW_S
        return max(end_s - PREFIX_S, MIN_HOP_S)

    def _generate_events(
        self,
        pose: Array | None,
        start_s: float,
        prefix: list[int],
        duration_s: float,
        seeds: tuple[int, int],
    ) -> list[int]:
        """Return the events of a window."""
        window = np.zeros((N_POSE_FRAMES, N_JOINTS, 3), dtype=np.float32)
        if pose is not None:
            window = interpolate_pose(pose, start_s)
        with torch.inference_mode():
            tokens = self.network.encode_pose(torch.from_numpy(window)[None].to(self.device))
        if self.network.config.compat == "official":
            return decode_greedily(self.network, tokens)
        prefix = prefix[: self.network.config.max_events // 2]
        if self.decoding == "beam":
            return search_events(self.network, tokens, prefix, duration_s=duration_s)
        seed = int(np.random.SeedSequence(seeds).generate_state(1)[0])
        return sample_events(
            self.network,
            tokens,
            prefix,
            duration_s=duration_s,
            generator=torch.Generator().manual_seed(seed),
            temperature=self.temperature,
            nucleus_mass=self.nucleus_mass,
        )


def encode_prefix(notes: Array, start_s: float, duration_s: float) -> list[int]:
    """Return the events of the last notes of a window, the first ones of the next.

    Args:
        notes: notes of the window; those that sound at its end have infinite duration.
        start_s: start of the next window, relative to this one.
        duration_s: duration of the overlap; none if it is not positive.

    Returns:
        events with a time shift to the end of the overlap.
    """
    last_notes = crop_notes(notes, start_s, duration_s, compat="paper")
    events = encode_notes(last_notes, duration_s=duration_s, compat="paper")
    return events + encode_time_shift(duration_s - sum_time_shifts(events))
