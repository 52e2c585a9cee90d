"""Zones of a soundfont: samples with their generators and modulators.

Numbers, units, ranges and defaults of the generators are those of the SoundFont Technical
Specification 2.04 (E-mu, 2006).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

VELOCITY_SOURCE = 2
"""Number of the velocity among the controllers of a modulator (section 8.2.1)."""
N_CURVES = 4
"""Linear, concave, convex and switch."""
ATTENUATION_SCALE = 0.4
"""Effective part of the written attenuation, as in EMU's hardware and fluidsynth."""
MAX_ATTENUATION_CB = 1440


class Generator(IntEnum):
    """Generators of a zone (section 8.1.2) that the synthesizer uses."""

    START_OFFSET = 0
    END_OFFSET = 1
    LOOP_START_OFFSET = 2
    LOOP_END_OFFSET = 3
    START_OFFSET_COARSE = 4
    MOD_LFO_TO_PITCH = 5
    VIBRATO_LFO_TO_PITCH = 6
    MOD_ENVELOPE_TO_PITCH = 7
    FILTER_CUTOFF = 8
    FILTER_Q = 9
    MOD_LFO_TO_FILTER = 10
    MOD_ENVELOPE_TO_FILTER = 11
    END_OFFSET_COARSE = 12
    MOD_LFO_TO_VOLUME = 13
    PAN = 17
    MOD_LFO_DELAY = 21
    MOD_LFO_FREQUENCY = 22
    VIBRATO_LFO_DELAY = 23
    VIBRATO_LFO_FREQUENCY = 24
    MOD_DELAY = 25
    MOD_ATTACK = 26
    MOD_HOLD = 27
    MOD_DECAY = 28
    MOD_SUSTAIN = 29
    KEY_TO_MOD_HOLD = 31
    KEY_TO_MOD_DECAY = 32
    VOLUME_DELAY = 33
    VOLUME_ATTACK = 34
    VOLUME_HOLD = 35
    VOLUME_DECAY = 36
    VOLUME_SUSTAIN = 37
    VOLUME_RELEASE = 38
    KEY_TO_VOLUME_HOLD = 39
    KEY_TO_VOLUME_DECAY = 40
    INSTRUMENT = 41
    KEY_RANGE = 43
    VELOCITY_RANGE = 44
    LOOP_START_OFFSET_COARSE = 45
    FIXED_KEY = 46
    FIXED_VELOCITY = 47
    ATTENUATION = 48
    LOOP_END_OFFSET_COARSE = 50
    COARSE_TUNE = 51
    FINE_TUNE = 52
    SAMPLE = 53
    SAMPLE_MODES = 54
    SCALE_TUNING = 56
    EXCLUSIVE_CLASS = 57
    ROOT_KEY = 58


G = Generator
Amounts = Mapping[int, int]
"""Amount of each generator, in its unit."""

ADDITIVE_RANGES: Mapping[int, tuple[int, int, int]] = {
    G.MOD_LFO_TO_PITCH: (0, -12000, 12000),
    G.VIBRATO_LFO_TO_PITCH: (0, -12000, 12000),
    G.MOD_ENVELOPE_TO_PITCH: (0, -12000, 12000),
    G.FILTER_CUTOFF: (13500, 1500, 13500),
    G.FILTER_Q: (0, 0, 960),
    G.MOD_LFO_TO_FILTER: (0, -12000, 12000),
    G.MOD_ENVELOPE_TO_FILTER: (0, -12000, 12000),
    G.MOD_LFO_TO_VOLUME: (0, -960, 960),
    G.PAN: (0, -500, 500),
    G.MOD_LFO_DELAY: (-12000, -12000, 5000),
    G.MOD_LFO_FREQUENCY: (0, -16000, 4500),
    G.VIBRATO_LFO_DELAY: (-12000, -12000, 5000),
    G.VIBRATO_LFO_FREQUENCY: (0, -16000, 4500),
    G.MOD_DELAY: (-12000, -12000, 5000),
    G.MOD_ATTACK: (-12000, -12000, 8000),
    G.MOD_HOLD: (-12000, -12000, 5000),
    G.MOD_DECAY: (-12000, -12000, 8000),
    G.MOD_SUSTAIN: (0, 0, 1000),
    G.KEY_TO_MOD_HOLD: (0, -1200, 1200),
    G.KEY_TO_MOD_DECAY: (0, -1200, 1200),
    G.VOLUME_DELAY: (-12000, -12000, 5000),
    G.VOLUME_ATTACK: (-12000, -12000, 8000),
    G.VOLUME_HOLD: (-12000, -12000, 5000),
    G.VOLUME_DECAY: (-12000, -12000, 8000),
    G.VOLUME_SUSTAIN: (0, 0, 1440),
    G.VOLUME_RELEASE: (-12000, -12000, 8000),
    G.KEY_TO_VOLUME_HOLD: (0, -1200, 1200),
    G.KEY_TO_VOLUME_DECAY: (0, -1200, 1200),
    G.ATTENUATION: (0, 0, 1440),
    G.COARSE_TUNE: (0, -120, 120),
    G.FINE_TUNE: (0, -99, 99),
    G.SCALE_TUNING: (100, 0, 1200),
}
"""Default, minimum and maximum of generators to which a preset zone adds (section 8.1.3)."""
INSTRUMENT_DEFAULTS: Mapping[int, int] = {
    G.START_OFFSET: 0,
    G.END_OFFSET: 0,
    G.LOOP_START_OFFSET: 0,
    G.LOOP_END_OFFSET: 0,
    G.START_OFFSET_COARSE: 0,
    G.END_OFFSET_COARSE: 0,
    G.LOOP_START_OFFSET_COARSE: 0,
    G.LOOP_END_OFFSET_COARSE: 0,
    G.FIXED_KEY: -1,
    G.FIXED_VELOCITY: -1,
    G.SAMPLE_MODES: 0,
    G.EXCLUSIVE_CLASS: 0,
    G.ROOT_KEY: -1,
}
"""Generators that only an instrument zone may have, with their defaults."""
FULL_RANGE = 127 << 8


@dataclass(frozen=True)
class Modulator:
    """Change of a generator by the velocity of a note (section 8.2)."""

    source: int
    """Index, polarity and curve of the controller, as in section 8.2.1."""
    destination: int
    amount: int
    amount_source: int
    """Second controller, which scales the amount; 0 is none."""

    def evaluate(self, velocity: int) -> float:
        """Return the change of the destination at a velocity, in its unit."""
        return (
            self.amount
            * _map_velocity(self.source, velocity)
            * (_map_velocity(self.amount_source, velocity) if self.amount_source else 1.0)
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Zone:
    """Sample with its parameters, for a range of pitches and velocities."""

    index: int
    """Position in the preset."""
    pitches: range
    velocities: range
    amounts: Amounts
    """Amount of every generator, within its range."""
    modulators: tuple[Modulator, ...]
    """Modulators of the generators other than the attenuation."""
    attenuation_modulators: tuple[Modulator, ...]

    def resolve_note(self, pitch: int, velocity: int) -> tuple[int, int]:
        """Return the pitch and velocity with which a note sounds; a zone may fix them."""
        fixed_pitch, fixed_velocity = (
            self.amounts[kind] for kind in (G.FIXED_KEY, G.FIXED_VELOCITY)
        )
        return (
            fixed_pitch if 0 <= fixed_pitch <= 127 else pitch,
            fixed_velocity if 0 <= fixed_velocity <= 127 else velocity,
        )

    def amounts_at(self, velocity: int) -> Amounts:
        """Return the amounts of the generators for a note of a velocity.

        The attenuation is that of velocity 127; `attenuation_db_at` includes the velocity.
        """
        if not self.modulators:
            return self.amounts
        amounts = dict(self.amounts)
        for modulator in self.modulators:
            amounts[modulator.destination] += round(modulator.evaluate(velocity))
        return _clip_amounts(amounts)

    def attenuation_db_at(self, velocity: int) -> float:
        """Return the attenuation of a note of a velocity, 0..144.

        As in fluidsynth, modulators of the attenuation are not scaled.
        """
        attenuation_cb = ATTENUATION_SCALE * self.amounts[G.ATTENUATION] + sum(
            modulator.evaluate(velocity) for modulator in self.attenuation_modulators
        )
        return min(max(attenuation_cb, 0.0), MAX_ATTENUATION_CB) / 10


def merge_zone(
    index: int, inner: Amounts, outer: Amounts, modulators: Sequence[Modulator]
) -> Zone:
    """Combine an instrument zone with the preset zone that refers to it."""
    amounts = {kind: inner.get(kind, default) for kind, default in INSTRUMENT_DEFAULTS.items()}
    amounts[G.SAMPLE] = inner[G.SAMPLE] & 0xFFFF
    for kind, (default, _, _) in ADDITIVE_RANGES.items():
        amounts[kind] = inner.get(kind, default) + outer.get(kind, 0)
    pitches, velocities = (
        range(max(a[0], b[0]), min(a[1], b[1]) + 1)
        for a, b in (
            [divmod(zone.get(kind, FULL_RANGE) & 0xFFFF, 256)[::-1] for zone in (inner, outer)]
            for kind in (G.KEY_RANGE, G.VELOCITY_RANGE)
        )
    )
    return Zone(
        index=index,
        pitches=pitches,
        velocities=velocities,
        amounts=_clip_amounts(amounts),
        modulators=tuple(m for m in modulators if m.destination != G.ATTENUATION),
        attenuation_modulators=tuple(m for m in modulators if m.destination == G.ATTENUATION),
    )


def _clip_amounts(amounts: Mapping[int, int]) -> Amounts:
    return {
        kind: min(max(amount, ADDITIVE_RANGES[kind][1]), ADDITIVE_RANGES[kind][2])
        if kind in ADDITIVE_RANGES
        else amount
        for kind, amount in amounts.items()
    }


def parse_modulator(row: tuple[int, ...]) -> tuple[tuple[int, ...], Modulator]:
    """Return a modulator and its identity: sources and destination (section 9.5.1)."""
    source, destination, amount, amount_source, _ = row
    return (source, destination, amount_source), Modulator(
        source=source, destination=destination, amount=amount, amount_source=amount_source
    )


DEFAULT_MODULATORS = dict([parse_modulator((0x0502, G.ATTENUATION, 960, 0, 0))])
"""Attenuation by velocity (section 8.4.1): amplitude is proportional to its square.

The default modulator of the filter by velocity is omitted, as in fluidsynth.
"""


def has_effect(modulator: Modulator) -> bool:
    """Return whether the synthesizer applies a modulator."""
    sources = (modulator.source, modulator.amount_source or VELOCITY_SOURCE)
    return (
        modulator.amount != 0
        and modulator.destination in ADDITIVE_RANGES
        and all(
            source & 0xFF == VELOCITY_SOURCE and source >> 10 < N_CURVES for source in sources
        )
    )


def _map_velocity(source: int, velocity: int) -> float:
    """Return the output of a velocity controller, 0..1 or, if bipolar, -1..1.

    Curves as in fluidsynth: concave and convex cover 96 dB of squared amplitude; bipolar ones
    are point-symmetric.
    """
    is_reversed, is_bipolar, curve = source >> 8 & 1, source >> 9 & 1, source >> 10
    value = 127 - velocity if is_reversed else velocity
    sign = -1.0 if is_bipolar and value < 64 else 1.0
    distance = abs(2 * value - 128) if is_bipolar else value
    if curve == 1:  # concave
        level = 1.0 if distance >= 127 else -40 / 96 * math.log10((127 - distance) / 127)
    elif curve == 2:  # convex
        level = 0.0 if distance == 0 else 1 + 40 / 96 * math.log10(distance / 127)
    elif curve == 3:  # switch
        level = float(is_bipolar or value >= 64)
    else:
        level = distance / 128
    return sign * min(max(level, 0.0), 1.0)
