"""The twelve music styles for rule-based composition.

Instruments are zero-based General MIDI program numbers.
"""

from dataclasses import dataclass

from loris_cli.config import GENRES


@dataclass(frozen=True, kw_only=True)
class Style:
    """Tempo, instruments, scales and probabilities of a style."""

    name: str
    tempo_bpm: tuple[float, float]
    steady_tempo_probability: float
    """Probability that the piece has a steady tempo with accents on its beats."""
    drum_kit_probability: float
    """Probability that a drum kit plays between accents."""
    bass_programs: tuple[int, ...]
    pad_programs: tuple[int, ...]
    keys_programs: tuple[int, ...]
    lead_programs: tuple[int, ...]
    scales: tuple[str, ...]
    swing_ratio: float = 0.5
    """Position of the off-beat within a beat, from 0.5 (straight) to 0.67 (triplets)."""
    orchestral: bool = False
    """Whether accents are played by timpani, cymbals and tutti chords instead of a drum kit."""


# fmt: off
STYLES: tuple[Style, ...] = (
    Style(name="ballet-jazz", tempo_bpm=(76, 116), steady_tempo_probability=0.5,
          drum_kit_probability=0.3, scales=("major", "dorian"), swing_ratio=0.62,
          bass_programs=(32, 43), pad_programs=(48, 49), keys_programs=(0, 46),
          lead_programs=(73, 68, 40)),
    Style(name="lock", tempo_bpm=(100, 118), steady_tempo_probability=0.7,
          drum_kit_probability=1.0, scales=("dorian", "minor"), swing_ratio=0.54,
          bass_programs=(36, 33), pad_programs=(61, 16), keys_programs=(7, 4, 27),
          lead_programs=(56, 65)),
    Style(name="waack", tempo_bpm=(110, 130), steady_tempo_probability=0.7,
          drum_kit_probability=1.0, scales=("minor", "dorian"),
          bass_programs=(33, 38), pad_programs=(48, 50), keys_programs=(4, 16),
          lead_programs=(61, 11)),
    Style(name="middle-hip-hop", tempo_bpm=(84, 104), steady_tempo_probability=0.7,
          drum_kit_probability=1.0, scales=("minor", "dorian"), swing_ratio=0.58,
          bass_programs=(33, 38), pad_programs=(89, 48), keys_programs=(4, 5, 0),
          lead_programs=(11, 73)),
    Style(name="break", tempo_bpm=(104, 128), steady_tempo_probability=0.7,
          drum_kit_probability=1.0, scales=("dorian", "minor"), swing_ratio=0.55,
          bass_programs=(33, 36), pad_programs=(61, 16), keys_programs=(7, 27),
          lead_programs=(65, 56)),
    Style(name="la-hip-hop", tempo_bpm=(84, 104), steady_tempo_probability=0.6,
          drum_kit_probability=1.0, scales=("minor",),
          bass_programs=(38, 39), pad_programs=(90, 89), keys_programs=(5, 11),
          lead_programs=(80, 81)),
    Style(name="street-jazz", tempo_bpm=(84, 112), steady_tempo_probability=0.6,
          drum_kit_probability=0.9, scales=("dorian", "major"), swing_ratio=0.64,
          bass_programs=(32, 33), pad_programs=(48, 4), keys_programs=(0, 4, 26),
          lead_programs=(66, 56)),
    Style(name="house", tempo_bpm=(116, 128), steady_tempo_probability=0.8,
          drum_kit_probability=1.0, scales=("minor", "dorian"),
          bass_programs=(38, 39), pad_programs=(90, 50), keys_programs=(16, 5),
          lead_programs=(80, 81)),
    Style(name="pop", tempo_bpm=(92, 124), steady_tempo_probability=0.7,
          drum_kit_probability=1.0, scales=("major", "minor"),
          bass_programs=(33, 34), pad_programs=(48, 89), keys_programs=(0, 4, 25),
          lead_programs=(80, 73, 24)),
    Style(name="krump", tempo_bpm=(80, 100), steady_tempo_probability=0.6,
          drum_kit_probability=1.0, scales=("minor",),
          bass_programs=(38, 39), pad_programs=(61, 90), keys_programs=(55, 7),
          lead_programs=(81, 87)),
    Style(name="floor", tempo_bpm=(90, 140), steady_tempo_probability=0.25,
          drum_kit_probability=0.5, scales=("minor", "major"), orchestral=True,
          bass_programs=(32, 33, 43), pad_programs=(48, 61), keys_programs=(0, 46, 1),
          lead_programs=(40, 56, 73)),
    Style(name="skate", tempo_bpm=(66, 120), steady_tempo_probability=0.2,
          drum_kit_probability=0.15, scales=("minor", "major", "dorian"), orchestral=True,
          bass_programs=(43, 42, 32), pad_programs=(48, 49, 52), keys_programs=(0, 46, 0),
          lead_programs=(40, 68, 73, 71)),
)
# fmt: on
assert tuple(style.name for style in STYLES) == GENRES
STYLES_BY_NAME = {style.name: style for style in STYLES}
