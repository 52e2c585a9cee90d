"""Built-in synthesizer: plays an arrangement with the samples of a soundfont.

    notes -> voices (zones that sound) -> waveform of each zone and pitch -> envelopes -> mix

Follows fluidsynth where the SoundFont specification leaves a choice: 0.4 of the written
attenuation, amplitude proportional to the squares of velocity and volume, sine pan law, cubic
interpolation, envelopes linear in dB except for the attack. Notes begin on the nearest sample.

Not supported, because no arrangement uses them: pitch bend, sustain pedal, controllers other
than volume, chorus, the release phase of the modulation envelope, and loops that end with the
note. Reverb is applied to the mix (`loris_cli.composition.mix`).
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from loris_cli.array_types import Array, Float32Array, Samples
from loris_cli.composition.arrangement import DRUM_CHANNEL, Arrangement, end_repeated_notes
from loris_cli.composition.soundfont import DRUM_BANK, SoundFont
from loris_cli.composition.soundfont_zones import Amounts, Generator, Zone
from loris_cli.composition.synthesizer_voice import (
    compute_volume_envelope,
    render_waveform,
    timecents_to_s,
)
from loris_cli.errors import InputError

G = Generator

MASTER_GAIN = 0.5
"""Gain of a note with full velocity and volume; that of fluidsynth in the training music."""
DEFAULT_VOLUME = 110 / 127
"""Channel volume, 0..1: MIDI controller 7."""
ENVELOPE_RANGE_DB = 96.0
SILENCE_DBFS = -80.0
"""A released voice ends at this level, some 60 dB below the music."""
MIN_GAIN = 1e-6
"""A voice at one side of the stereo image has a smaller gain on the other side."""
EXCLUSIVE_RELEASE_S = 0.06
"""Longest release of a voice that another one of its exclusive class ends."""
NEVER = 1 << 62
"""Later than all samples."""
MAX_VOICES_PER_NOTE = 64
"""Maximum number of zones that sound for one note; the bundled soundfont has at most 4."""


class _WaveformKey(NamedTuple):
    """Identity of a waveform before the level of the note is applied."""

    bank: int
    program: int
    zone: int
    pitch: int
    velocity: int
    """0 unless the zone has modulators of generators other than the attenuation."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Voice:
    """One zone sounding for one note; times in samples."""

    key: _WaveformKey
    amounts: Amounts
    start: int
    n_held: int
    n_until_cut: int = NEVER
    """Samples until another voice of the exclusive class begins, at least ``n_held``."""
    release_db: float
    cut_db: float
    """Decay per sample of the release, before and after the cut."""
    gains: tuple[float, ...]
    """Gain of each output channel."""

    @cached_property
    def n_total(self) -> int:
        """Samples until the end of the release."""
        audible_db = max(20 * np.log10(max(*self.gains, MIN_GAIN)) - SILENCE_DBFS, 0.0)
        n_release = audible_db / self.release_db
        n_before_cut = self.n_until_cut - self.n_held
        if n_release > n_before_cut:
            n_release = (
                n_before_cut + (audible_db - n_before_cut * self.release_db) / self.cut_db
            )
        return self.n_held + int(n_release) + 1

    def compute_release(self, first: int, end: int) -> Float32Array:
        """Return the gain in a range after ``n_held``, relative to the level at the release."""
        elapsed = np.arange(first + 1 - self.n_held, end + 1 - self.n_held, dtype=np.float32)
        decay_db = elapsed * np.float32(self.release_db)
        if end > self.n_until_cut:
            since_cut = np.maximum(elapsed - (self.n_until_cut - self.n_held), 0)
            decay_db += since_cut * np.float32(self.cut_db - self.release_db)
        gain: Float32Array = np.exp(decay_db * np.float32(-np.log(10) / 20))
        return gain


def synthesize(
    arrangement: Arrangement,
    soundfont: SoundFont,
    *,
    duration_s: float,
    rate_hz: int,
    n_channels: int,
    channel_volumes: Array | None = None,
) -> Samples:
    """Synthesize an arrangement.

    Args:
        arrangement: notes and instruments. Notes may begin before time 0.
        soundfont: the instruments.
        duration_s: duration of the audio; later notes and releases are truncated.
        rate_hz: sampling rate.
        n_channels: 1 or 2; mono is the mean of left and right.
        channel_volumes: volume of each MIDI channel, ``(16,)``, 0..1; default 0.87.

    Returns:
        Audio, ``(channels, round(duration_s * rate_hz))``; dense passages may exceed 1.

    Raises:
        InputError: the soundfont is damaged or lacks an instrument.
    """
    n_samples = round(duration_s * rate_hz)
    renderer = ScoreRenderer(
        arrangement,
        soundfont,
        rate_hz=rate_hz,
        n_channels=n_channels,
        channel_volumes=channel_volumes,
    )
    return renderer.render(0, n_samples)


class ScoreRenderer:
    """Renderer of time ranges of an arrangement."""

    def __init__(
        self,
        arrangement: Arrangement,
        soundfont: SoundFont,
        *,
        rate_hz: int,
        n_channels: int,
        channel_volumes: Array | None = None,
    ) -> None:
        """Plan the voices of all notes; the arguments are those of `synthesize`.

        Raises:
            InputError: the soundfont is damaged or lacks an instrument.
        """
        self._soundfont, self._rate_hz, self._n_channels = soundfont, rate_hz, n_channels
        volumes = np.full(16, DEFAULT_VOLUME) if channel_volumes is None else channel_volumes
        self._voices = self._plan_voices(arrangement, volumes)

    def render(self, first: int, n_samples: int) -> Samples:
        """Render the samples from ``first``, ``(channels, n_samples)``."""
        mix = np.zeros((self._n_channels, n_samples), dtype=np.float32)
        voices_by_key: dict[_WaveformKey, list[_Voice]] = {}
        for voice in self._voices:
            if voice.start < first + n_samples and voice.start + voice.n_total > first:
                voices_by_key.setdefault(voice.key, []).append(voice)
        for key, voices in voices_by_key.items():
            needed = max(min(v.n_total, first + n_samples - v.start) for v in voices)
            waveform = render_waveform(
                voices[0].amounts,
                self._soundfont.get_sample,
                pitch=key.pitch,
                n_samples=needed,
                rate_hz=self._rate_hz,
            )
            n_held = min(max(v.n_held for v in voices), needed)
            envelope = compute_volume_envelope(
                voices[0].amounts, key.pitch, n_held, self._rate_hz
            )
            for voice in voices:
                self._add_voice(mix, first, voice, waveform, envelope)
        return mix

    def _add_voice(
        self,
        mix: Samples,
        first: int,
        voice: _Voice,
        waveform: Float32Array,
        envelope: Float32Array,
    ) -> None:
        n_voice = min(voice.n_total, len(waveform))
        start = max(first - voice.start, 0)
        stop = min(n_voice, first + mix.shape[1] - voice.start)
        if stop <= start:
            return
        n_held = min(max(voice.n_held, start), stop)
        sound = np.empty(stop - start, dtype=np.float32)
        np.multiply(waveform[start:n_held], envelope[start:n_held], out=sound[: n_held - start])
        if stop > n_held:  # the level at the release decays from there
            decay = voice.compute_release(n_held, stop)
            decay *= envelope[voice.n_held - 1]
            np.multiply(waveform[n_held:stop], decay, out=sound[n_held - start :])
        position = voice.start + start - first
        for channel, gain in enumerate(voice.gains):
            if gain > MIN_GAIN:
                mix[channel, position : position + len(sound)] += np.float32(gain) * sound

    def _plan_voices(self, arrangement: Arrangement, volumes: Array) -> list[_Voice]:
        """Return the voices of all notes in order of time."""
        voices: list[_Voice] = []
        class_members: dict[tuple[int, int], list[int]] = {}
        for onset_s, duration_s, *rest in end_repeated_notes(arrangement.note_array).tolist():
            channel, pitch, velocity = map(int, rest)
            start = round(onset_s * self._rate_hz)
            n_held = max(round((onset_s + duration_s) * self._rate_hz) - start, 1)
            bank = DRUM_BANK if channel == DRUM_CHANNEL else 0
            program, volume = arrangement.channel_programs[channel], float(volumes[channel])
            for zone in self._match_zones(bank, program, pitch, velocity):
                if exclusive := zone.amounts[G.EXCLUSIVE_CLASS]:
                    class_members.setdefault((channel, exclusive), []).append(len(voices))
                voice_pitch, voice_velocity = zone.resolve_note(pitch, velocity)
                modulated = voice_velocity if zone.modulators else 0
                release_s = max(timecents_to_s(zone.amounts[G.VOLUME_RELEASE]), 1e-3)
                release_db = ENVELOPE_RANGE_DB / release_s / self._rate_hz
                cut_db = ENVELOPE_RANGE_DB / EXCLUSIVE_RELEASE_S / self._rate_hz
                voices.append(
                    _Voice(
                        key=_WaveformKey(bank, program, zone.index, voice_pitch, modulated),
                        amounts=zone.amounts_at(voice_velocity),
                        start=start,
                        n_held=n_held,
                        release_db=release_db,
                        cut_db=max(cut_db, release_db),
                        gains=self._channel_gains(zone, voice_velocity, volume),
                    )
                )
        for members in class_members.values():
            starts = np.unique([voices[member].start for member in members])
            for member in members:
                voice = voices[member]
                after = int(np.searchsorted(starts, voice.start, side="right"))
                if after < len(starts):
                    n_until_cut = int(starts[after]) - voice.start
                    n_held = min(voice.n_held, n_until_cut)
                    voices[member] = replace(voice, n_held=n_held, n_until_cut=n_until_cut)
        return voices

    def _match_zones(self, bank: int, program: int, pitch: int, velocity: int) -> list[Zone]:
        """Return the zones that sound for a note."""
        zones = [
            zone
            for zone in self._soundfont.get_zones(bank, program)
            if pitch in zone.pitches and velocity in zone.velocities
        ]
        if len(zones) > MAX_VOICES_PER_NOTE:
            raise InputError(
                f"soundfont {self._soundfont.path} plays {len(zones)} samples for one note",
                hint="pass another file with --soundfont",
            )
        return zones

    def _channel_gains(self, zone: Zone, velocity: int, volume: float) -> tuple[float, ...]:
        amounts = zone.amounts_at(velocity)
        gain = MASTER_GAIN * volume**2 * 10 ** (-zone.attenuation_db_at(velocity) / 20)
        angle = (amounts[G.PAN] + 500) / 1000 * np.pi / 2
        left, right = gain * float(np.cos(angle)), gain * float(np.sin(angle))
        return ((left + right) / 2,) if self._n_channels == 1 else (left, right)
