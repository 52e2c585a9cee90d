"""Audio of an arrangement, by the built-in synthesizer or by fluidsynth.

arrangement, mix, synthesizer settings -> blocks of samples
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from loris_cli.array_types import Float32Array, Samples
from loris_cli.composition.arrangement import DRUM_CHANNEL, Arrangement
from loris_cli.composition.fluidsynth import synthesize_with_fluidsynth
from loris_cli.composition.mastering import draw_mastering, master
from loris_cli.composition.mix import MixEffects, MixSettings, draw_mix
from loris_cli.composition.production import describe_production
from loris_cli.composition.soundfont import DRUM_BANK, SoundFont, load_soundfont
from loris_cli.composition.synthesizer import ScoreRenderer
from loris_cli.composition.synthesizer_settings import (
    BUILTIN_SOUNDFONT,
    DEFAULT_SYNTHESIZER,
    SynthesizerSettings,
)
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import InputError

BLOCK_S = 60.0
"""Duration of the blocks of a long score."""
SYNTHESIZER_LATENCY_S = 0.0145
"""Median delay from a note to its detected onset (`audio.onsets`), over 36 pieces of all styles
played by the built-in synthesizer. Scores of soundtracks are played earlier by this delay."""
CHOICE_STREAM = 103
"""Second key of the random generator that chooses a synthesizer."""
DATASET_PEAK = 0.9
"""Peak of the pieces of a data set."""


def choose_synthesizer(
    synthesizers: Sequence[SynthesizerSettings], seed: int
) -> SynthesizerSettings:
    """Choose the synthesizer of a training piece by its seed."""
    rng = np.random.default_rng([seed, CHOICE_STREAM])
    return synthesizers[int(rng.integers(len(synthesizers)))]


def synthesize_blocks(
    arrangement: Arrangement,
    mix: MixSettings,
    *,
    duration_s: float,
    n_channels: int,
    synthesizer: SynthesizerSettings = DEFAULT_SYNTHESIZER,
    rate_hz: int = SAMPLE_RATE_HZ,
) -> Iterator[Samples]:
    """Synthesize an arrangement in consecutive blocks.

    Args:
        arrangement: notes and instruments.
        mix: mix settings.
        duration_s: duration of the audio; later notes are truncated.
        n_channels: 1 or 2.
        synthesizer: synthesizer and soundfont.
        rate_hz: sampling rate.

    Yields:
        Audio without level normalization, ``(channels, samples)``,
        ``round(duration_s * rate_hz)`` samples in all.

    Raises:
        InputError: the soundfont is damaged or lacks an instrument.
        MissingDependencyError: fluidsynth is not installed.
    """
    synthesizer.check()
    soundfont = load_soundfont(synthesizer.soundfont_path)
    _check_instruments(arrangement, soundfont)
    if synthesizer.name == "fluidsynth":
        effects = MixEffects(
            replace(mix, reverb_level=0.0), n_channels=n_channels, rate_hz=rate_hz
        )
        audio = synthesize_with_fluidsynth(
            arrangement,
            soundfont.path,
            mix=mix,
            duration_s=duration_s,
            rate_hz=rate_hz,
            n_channels=n_channels,
        )
        yield effects.process(audio)
        return
    effects = MixEffects(mix, n_channels=n_channels, rate_hz=rate_hz)
    renderer = ScoreRenderer(
        arrangement,
        soundfont,
        rate_hz=rate_hz,
        n_channels=n_channels,
        channel_volumes=mix.channel_volumes,
    )
    n_samples, n_block = round(duration_s * rate_hz), round(BLOCK_S * rate_hz)
    for first in range(0, n_samples, n_block):
        yield effects.process(renderer.render(first, min(n_block, n_samples - first)))


def synthesize_training_piece(
    arrangement: Arrangement,
    *,
    duration_s: float,
    seed: int,
    synthesizer: SynthesizerSettings = DEFAULT_SYNTHESIZER,
) -> Samples:
    """Synthesize an arrangement with random reverb, balance, tone and mastering.

    Args:
        arrangement: notes and instruments.
        duration_s: duration of the audio.
        seed: seed of the settings of mix and mastering.
        synthesizer: synthesizer and soundfont.

    Returns:
        Mono audio at 22,050 Hz, ``(round(duration_s * 22050),)``, with a peak of 0.9.

    Raises:
        InputError: the soundfont is damaged or lacks an instrument.
        MissingDependencyError: fluidsynth is not installed.
    """
    blocks = synthesize_blocks(
        arrangement,
        draw_mix(seed),
        duration_s=duration_s,
        n_channels=1,
        synthesizer=synthesizer,
    )
    mixed = np.concatenate([block[0] for block in blocks])
    mono = master(mixed, draw_mastering(seed), rate_hz=SAMPLE_RATE_HZ)
    return np.asarray(DATASET_PEAK * mono / max(float(np.abs(mono).max()), 1e-9))


def describe_training_piece(seed: int, synthesizer: SynthesizerSettings) -> Float32Array:
    """Return the production of `synthesize_training_piece`, see `composition.production`."""
    return describe_production(
        draw_mix(seed),
        draw_mastering(seed),
        bundled_soundfont=synthesizer.soundfont_path.samefile(BUILTIN_SOUNDFONT),
    )


def _check_instruments(arrangement: Arrangement, soundfont: SoundFont) -> None:
    """Raise if the soundfont lacks an instrument of the arrangement."""
    for channel, program in arrangement.channel_programs.items():
        is_drum_kit = channel == DRUM_CHANNEL
        if not soundfont.has_preset(DRUM_BANK if is_drum_kit else 0, program):
            name = f"drum kit {program}" if is_drum_kit else f"program {program}"
            raise InputError(
                f"soundfont {soundfont.path} has no {name}",
                hint="pass a General MIDI soundfont with --soundfont",
            )
