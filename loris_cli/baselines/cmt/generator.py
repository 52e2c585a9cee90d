"""Generator of CMT: notes from a video, played by the synthesizer.

    features -> control -> words -> arrangement -> samples

The piece has the length of the clip; there are no windows.
"""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from loris_cli.array_types import Samples
from loris_cli.baselines.cmt.grid_notes import CHANNELS, build_arrangement
from loris_cli.baselines.cmt.network import N_INITIAL_TOKENS, CmtNetwork
from loris_cli.baselines.cmt.official_sampling import sample_as_released
from loris_cli.baselines.cmt.sampling import CONTROL_PROBABILITY, ControlledSampler
from loris_cli.baselines.cmt.video_control import control_from_video
from loris_cli.baselines.cmt.word_context import SamplingSettings
from loris_cli.baselines.cmt.words import Track, decode_words
from loris_cli.baselines.learned_method import Compat
from loris_cli.composition.arrangement import Arrangement, programs_by_channel
from loris_cli.composition.mix import MixSettings
from loris_cli.composition.styles import STYLES_BY_NAME
from loris_cli.composition.synthesis import BLOCK_S, SYNTHESIZER_LATENCY_S, synthesize_blocks
from loris_cli.composition.synthesizer_settings import DEFAULT_SYNTHESIZER, SynthesizerSettings
from loris_cli.config import GENRES
from loris_cli.models.generator_interface import ProgressCallback, VideoFeatures

N_CHANNELS = 2
DEFAULT_GENRE = "pop"
"""Style whose instruments play clips without a genre."""
RELEASED_GENRE = 5
"""Genre of all pieces in the released code: Pop (docs/differences.md, C1)."""
RELEASED_PROGRAMS = {
    Track.DRUMS: 0,
    Track.PIANO: 0,
    Track.GUITAR: 24,
    Track.BASS: 33,
    Track.STRINGS: 48,
}
"""General MIDI programs of the released code. Its strings are a viola, which the built-in
soundfont lacks; here they are an ensemble."""


def build_initial_tokens(
    genre: str | None, tracks: Collection[int], *, compat: Compat
) -> NDArray[np.int64]:
    """Return the initial tokens of a piece.

    Args:
        genre: one of `config.GENRES`, or None.
        tracks: tracks with notes.
        compat: ``official`` has the same tokens for all pieces.

    Returns:
        ``(7, 3)``: genre, key and track of each token, of which at most one is not 0.
    """
    tokens = np.zeros((N_INITIAL_TOKENS, 3), dtype=np.int64)
    tokens[0, 0] = GENRES.index(genre) + 1 if genre in GENRES else 0
    for index, track in enumerate(Track):
        tokens[2 + index, 2] = track if track in tracks or compat == "official" else 0
    if compat == "official":
        tokens[0, 0] = RELEASED_GENRE
    return tokens


@dataclass(frozen=True, kw_only=True)
class CmtGenerator:
    """A trained network as a `MusicGenerator`, in stereo."""

    network: CmtNetwork
    synthesizer: SynthesizerSettings = DEFAULT_SYNTHESIZER
    control_probability: float = CONTROL_PROBABILITY
    sampling: SamplingSettings = field(default_factory=SamplingSettings)

    def compose(
        self, features: VideoFeatures, seed: int, *, progress: ProgressCallback | None = None
    ) -> Arrangement:
        """Compose the notes of a clip.

        Args:
            features: features of the entire clip.
            seed: seed of the take.
            progress: called during sampling.
        """
        compat = self.network.config.compat
        control = control_from_video(features, compat=compat)
        rng = np.random.default_rng([seed, 41])
        programs = _draw_programs(features.genre, rng, compat=compat)
        sampler = ControlledSampler(
            network=self.network,
            control=control,
            initial=build_initial_tokens(features.genre, tuple(Track), compat=compat),
            rng=rng,
            control_probability=self.control_probability,
            settings=self.sampling,
        )
        report = progress or (lambda done, total: None)
        if compat == "official":
            words = sample_as_released(sampler, report)
        else:
            words = sampler.sample(report)
        return build_arrangement(
            decode_words(words),
            control.grid,
            duration_s=features.duration_s,
            programs=programs,
        )

    def generate(
        self, features: VideoFeatures, *, seed: int, progress: ProgressCallback
    ) -> Iterator[Samples]:
        """Compose and play the music of a clip, in consecutive blocks.

        Args:
            features: features of the entire clip.
            seed: seed of the take.
            progress: called during sampling and after each block of audio.

        Yields:
            ``(2, samples)`` blocks at 22,050 Hz, ``round(duration_s * 22050)`` samples in all.

        Raises:
            InputError: the soundfont is damaged or lacks an instrument.
            MissingDependencyError: fluidsynth is not installed.
        """
        n_blocks = max(math.ceil(features.duration_s / BLOCK_S), 1)
        n_total = 0

        def report(n_done: int, n_steps: int) -> None:
            nonlocal n_total
            n_total = n_steps + n_blocks
            progress(n_done, n_total)

        arrangement = self.compose(features, seed, progress=report)
        blocks = synthesize_blocks(
            arrangement.shift(-SYNTHESIZER_LATENCY_S),
            MixSettings(),
            duration_s=features.duration_s,
            n_channels=N_CHANNELS,
            synthesizer=self.synthesizer,
        )
        for index, block in enumerate(blocks):
            progress(n_total - n_blocks + min(index + 1, n_blocks), n_total)
            yield block


def _draw_programs(
    genre: str | None, rng: np.random.Generator, *, compat: Compat
) -> dict[int, int]:
    """Return the General MIDI program of each channel: instruments of the style."""
    if compat == "official":
        return {CHANNELS[track]: program for track, program in RELEASED_PROGRAMS.items()}
    style = STYLES_BY_NAME[genre if genre in STYLES_BY_NAME else DEFAULT_GENRE]
    programs = programs_by_channel(style)
    return {channel: int(rng.choice(programs[channel])) for channel in CHANNELS.values()}
