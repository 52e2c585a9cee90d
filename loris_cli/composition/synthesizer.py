"""Built-in synthesizer: plays an arrangement with the samples of a soundfont.

    notes -> voices (zones that sound) -> waveform of each zone and pitch -> envelopes -> mix

Follows fluidsynth where the SoundFont specification leaves a choice: 0.4 of the written
attenuation, amplitude proportional to the squares of velocity and volume, sine pan law, cubic
interpolation, envelopes linear in dB except for the attack. Notes begin on the nearest sample.

Not supported, because no arrangement uses them: pitch bend, sustain pedal, controllers other
than volume, chorus, and the release phase of the modulation envelope. Reverb is applied to the
mix (`loris_cli.composition.mix`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from loris_cli.array_types import Array, Float32Array, Samples
from loris_cli.composition.arrangement import DRUM_CHANNEL, Arrangement, end_repeated_notes
from loris_cli.composition.soundfont import DRUM_BANK, SoundFont
from loris_cli.composition.soundfont_zones import Amounts, Generator
from loris_cli.composition.synthesizer_voice import (
    compute_volume_envelope,
    render_waveform,
    timecents_to_s,
)

G = Generator

MASTER_GAIN = 0.5
"""Gain of a note with full velocity and volume; that of fluidsynth in the training music."""
DEFAULT_VOLUME = 110 / 127
"""Channel volume, 0..1: MIDI controller 7."""
ATTENUATION_SCALE = 0.4
"""Effective part of the written attenuation, as in EMU's hardware and fluidsynth."""
ENVELOPE_RANGE_DB = 96.0
SILENCE_DBFS = -80.0
"""A released voice ends at this level, some 60 dB below the music."""
MIN_GAIN = 1e-6
"""A voice at one side of the stereo image has a smaller gain on the other side."""
EXCLUSIVE_RELEASE_S = 0.06
"""Longest release of a voice that another one of its exclusive class ends."""


class _WaveformKey(NamedTuple):
    """Identity of a waveform before the level of the note is applied."""

    bank: int
    program: int
    zone: int
    pitch: int
    velocity: int
    """0 unless the zone has modulators."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Voice:
    """One zone sounding for one note; times in samples."""

    key: _WaveformKey
    amounts: Amounts
    start: int
    n_held: int
    n_total: int
    """Samples until the end of the release."""
    release_db_per_s: float
    gains: tuple[float, ...]
    """Gain of each output channel."""


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
        """Plan the voices of all notes; the arguments are those of `synthesize`."""
        self._soundfont, self._rate_hz, self._n_channels = soundfont, rate_hz, n_channels
        volumes = np.full(16, DEFAULT_VOLUME) if channel_volumes is None else channel_volumes
        self._voices = list(self._plan_voices(arrangement, volumes))

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
            elapsed = np.arange(
                n_held + 1 - voice.n_held, stop + 1 - voice.n_held, dtype=np.float32
            )
            slope = np.float32(-np.log(10) / 20 * voice.release_db_per_s / self._rate_hz)
            decay = np.exp(slope * elapsed, out=elapsed)
            decay *= envelope[voice.n_held - 1]
            np.multiply(waveform[n_held:stop], decay, out=sound[n_held - start :])
        position = voice.start + start - first
        for channel, gain in enumerate(voice.gains):
            if gain > MIN_GAIN:
                mix[channel, position : position + len(sound)] += np.float32(gain) * sound

    def _plan_voices(self, arrangement: Arrangement, volumes: Array) -> Iterator[_Voice]:
        """Yield the voices of all notes in order of time."""
        notes = end_repeated_notes(arrangement.note_array)
        matches = []
        class_starts: dict[tuple[int, int], set[int]] = {}
        for onset_s, duration_s, *rest in notes.tolist():
            channel, pitch, velocity = map(int, rest)
            start = round(onset_s * self._rate_hz)
            n_held = max(round((onset_s + duration_s) * self._rate_hz) - start, 1)
            bank = DRUM_BANK if channel == DRUM_CHANNEL else 0
            program = arrangement.channel_programs[channel]
            for zone in self._soundfont.get_zones(bank, program):
                if pitch not in zone.pitches or velocity not in zone.velocities:
                    continue
                modulated = velocity if zone.modulators else 0
                key = _WaveformKey(bank, program, zone.index, pitch, modulated)
                amounts = zone.amounts_at(velocity) if zone.modulators else zone.amounts
                matches.append((key, amounts, start, n_held, channel, velocity))
                if exclusive := amounts[G.EXCLUSIVE_CLASS]:
                    class_starts.setdefault((channel, exclusive), set()).add(start)
        sorted_starts = {key: np.array(sorted(value)) for key, value in class_starts.items()}
        for key, amounts, start, n_held, channel, velocity in matches:
            release_s = max(timecents_to_s(amounts[G.VOLUME_RELEASE]), 1e-3)
            if exclusive := amounts[G.EXCLUSIVE_CLASS]:
                starts = sorted_starts[channel, exclusive]
                after = int(np.searchsorted(starts, start, side="right"))
                if after < len(starts) and starts[after] - start < n_held:
                    n_held = int(starts[after]) - start
                    release_s = min(release_s, EXCLUSIVE_RELEASE_S)
            slope = ENVELOPE_RANGE_DB / release_s
            gains = self._channel_gains(amounts, velocity, float(volumes[channel]))
            audible_db = max(20 * np.log10(max(*gains, MIN_GAIN)) - SILENCE_DBFS, 0.0)
            yield _Voice(
                key=key,
                amounts=amounts,
                start=start,
                n_held=n_held,
                n_total=n_held + int(audible_db / slope * self._rate_hz) + 1,
                release_db_per_s=slope,
                gains=gains,
            )

    def _channel_gains(
        self, amounts: Amounts, velocity: int, volume: float
    ) -> tuple[float, ...]:
        if amounts[G.FIXED_VELOCITY] >= 0:
            velocity = min(amounts[G.FIXED_VELOCITY], 127)
        attenuation_db = ATTENUATION_SCALE * amounts[G.ATTENUATION] / 10
        gain = MASTER_GAIN * (velocity / 127 * volume) ** 2 * 10 ** (-attenuation_db / 20)
        angle = (amounts[G.PAN] + 500) / 1000 * np.pi / 2
        left, right = gain * float(np.cos(angle)), gain * float(np.sin(angle))
        return ((left + right) / 2,) if self._n_channels == 1 else (left, right)
