"""The styles of made-up music: what tells one from another.

Instruments are General MIDI programs, counted from 0.
"""

from dataclasses import dataclass

from loris_cli.config import GENRES


@dataclass(frozen=True, kw_only=True)
class Style:
    """What tells one style from another, in General MIDI programs and chances."""

    name: str
    tempo_bpm: tuple[float, float]
    steady: float
    """Chance that accents lie on the beats of a steady tempo."""
    drums: float
    """Chance that a beat kit plays between accents."""
    bass: tuple[int, ...]
    pads: tuple[int, ...]
    keys: tuple[int, ...]
    leads: tuple[int, ...]
    scales: tuple[str, ...]
    swing: float = 0.5
    """Where the second half of a beat begins, from 0.5 (straight) to 0.67 (triplets)."""
    orchestral: bool = False
    """Strikes are timpani, cymbals and tutti chords rather than a beat kit."""


STYLES: tuple[Style, ...] = (
    Style(
        name="ballet-jazz",
        tempo_bpm=(76, 116),
        steady=0.5,
        drums=0.3,
        bass=(32, 43),
        pads=(48, 49),
        keys=(0, 46),
        leads=(73, 68, 40),
        scales=("major", "dorian"),
        swing=0.62,
    ),
    Style(
        name="lock",
        tempo_bpm=(100, 118),
        steady=0.7,
        drums=1.0,
        bass=(36, 33),
        pads=(61, 16),
        keys=(7, 4, 27),
        leads=(56, 65),
        scales=("dorian", "minor"),
        swing=0.54,
    ),
    Style(
        name="waack",
        tempo_bpm=(110, 130),
        steady=0.7,
        drums=1.0,
        bass=(33, 38),
        pads=(48, 50),
        keys=(4, 16),
        leads=(61, 11),
        scales=("minor", "dorian"),
    ),
    Style(
        name="middle-hip-hop",
        tempo_bpm=(84, 104),
        steady=0.7,
        drums=1.0,
        bass=(33, 38),
        pads=(89, 48),
        keys=(4, 5, 0),
        leads=(11, 73),
        scales=("minor", "dorian"),
        swing=0.58,
    ),
    Style(
        name="break",
        tempo_bpm=(104, 128),
        steady=0.7,
        drums=1.0,
        bass=(33, 36),
        pads=(61, 16),
        keys=(7, 27),
        leads=(65, 56),
        scales=("dorian", "minor"),
        swing=0.55,
    ),
    Style(
        name="la-hip-hop",
        tempo_bpm=(84, 104),
        steady=0.6,
        drums=1.0,
        bass=(38, 39),
        pads=(90, 89),
        keys=(5, 11),
        leads=(80, 81),
        scales=("minor",),
    ),
    Style(
        name="street-jazz",
        tempo_bpm=(84, 112),
        steady=0.6,
        drums=0.9,
        bass=(32, 33),
        pads=(48, 4),
        keys=(0, 4, 26),
        leads=(66, 56),
        scales=("dorian", "major"),
        swing=0.64,
    ),
    Style(
        name="house",
        tempo_bpm=(116, 128),
        steady=0.8,
        drums=1.0,
        bass=(38, 39),
        pads=(90, 50),
        keys=(16, 5),
        leads=(80, 81),
        scales=("minor", "dorian"),
    ),
    Style(
        name="pop",
        tempo_bpm=(92, 124),
        steady=0.7,
        drums=1.0,
        bass=(33, 34),
        pads=(48, 89),
        keys=(0, 4, 25),
        leads=(80, 73, 24),
        scales=("major", "minor"),
    ),
    Style(
        name="krump",
        tempo_bpm=(80, 100),
        steady=0.6,
        drums=1.0,
        bass=(38, 39),
        pads=(61, 90),
        keys=(55, 7),
        leads=(81, 87),
        scales=("minor",),
    ),
    Style(
        name="floor",
        tempo_bpm=(90, 140),
        steady=0.25,
        drums=0.5,
        bass=(32, 33, 43),
        pads=(48, 61),
        keys=(0, 46, 1),
        leads=(40, 56, 73),
        scales=("minor", "major"),
        orchestral=True,
    ),
    Style(
        name="skate",
        tempo_bpm=(66, 120),
        steady=0.2,
        drums=0.15,
        bass=(43, 42, 32),
        pads=(48, 49, 52),
        keys=(0, 46, 0),
        leads=(40, 68, 73, 71),
        scales=("minor", "major", "dorian"),
        orchestral=True,
    ),
)
assert tuple(style.name for style in STYLES) == GENRES
BY_NAME = {style.name: style for style in STYLES}
