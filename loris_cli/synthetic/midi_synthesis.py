"""A score as sound, through fluidsynth and a General MIDI soundfont.

The soundfont that the embedded model was trained with is FluidR3 GM (MIT licence), Debian's
``fluid-soundfont-gm``; the program is Debian's ``fluidsynth``. Neither is needed to make a
soundtrack: they are needed to make training data.
"""

import io
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import lfilter

from loris_cli.composition.arrangement import Arrangement
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import MissingDependencyError
from loris_cli.synthetic.composer import MusicalScore
from loris_cli.system.optional_packages import import_optional

Array = NDArray[np.float64]

TICKS_PER_S = 960
DEFAULT_SOUNDFONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
"""Where Debian's package puts it."""


@dataclass(frozen=True, kw_only=True)
class MixSettings:
    """How a piece is mixed."""

    gain: float
    reverb_level: float
    """Level of the room, 0..1."""
    reverb_room_size: float
    """Its size, 0..1."""
    channel_volumes: Array
    """Volume of each MIDI channel, ``(16,)``, 0..1."""
    spectral_tilt: float
    """Of a one-pole shelf: darker (positive) or brighter as a whole."""


def render_score(
    score: MusicalScore, *, seed: int, soundfont: Path = DEFAULT_SOUNDFONT
) -> Array:
    """Play a score, each seed with another room, balance and tone.

    Args:
        score: what to play.
        seed: of the mix.
        soundfont: an ``.sf2`` file.

    Returns:
        mono sound at 22,050 Hz, ``(round(duration_s * 22050),)``, peak 0.9.

    Raises:
        MissingDependencyError: fluidsynth or the soundfont is not installed.
    """
    rng = np.random.default_rng([seed, 1])
    mix = MixSettings(
        gain=0.5,
        reverb_level=rng.uniform(0.0, 0.5),
        reverb_room_size=rng.uniform(0.2, 0.8),
        channel_volumes=rng.uniform(0.65, 1.0, 16),
        spectral_tilt=rng.uniform(-0.35, 0.35),
    )
    mono = synthesize_arrangement(
        score.arrangement, mix, duration_s=score.duration_s, soundfont=soundfont
    )
    level: Array = 0.9 * mono / max(float(np.abs(mono).max()), 1e-9)
    return level


def synthesize_arrangement(
    arrangement: Arrangement,
    mix: MixSettings,
    *,
    duration_s: float,
    soundfont: Path = DEFAULT_SOUNDFONT,
) -> Array:
    """Play notes, as loud as they are.

    Args:
        arrangement: what to play.
        mix: how.
        duration_s: what is played later is cut off.
        soundfont: an ``.sf2`` file.

    Returns:
        mono sound at 22,050 Hz, ``(round(duration_s * 22050),)``.

    Raises:
        MissingDependencyError: fluidsynth or the soundfont is not installed.
    """
    program = shutil.which("fluidsynth")
    if program is None or not soundfont.exists():
        raise MissingDependencyError(
            "fluidsynth and its soundfont are needed to play scores",
            hint="apt-get install fluidsynth fluid-soundfont-gm",
        )
    settings = {
        "synth.gain": mix.gain,
        "synth.reverb.level": mix.reverb_level,
        "synth.reverb.room-size": mix.reverb_room_size,
        "synth.chorus.active": 0,
        "synth.dynamic-sample-loading": 1,  # the soundfont has 140 MB, a piece needs six
    }
    options = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
    with tempfile.TemporaryDirectory() as folder:
        midi, wav = Path(folder, "score.mid"), Path(folder, "score.wav")
        midi.write_bytes(encode_midi(arrangement, channel_volumes=mix.channel_volumes))
        command = [program, "-niq", "-r", str(SAMPLE_RATE_HZ), *options, "-F", str(wav)]
        subprocess.run([*command, str(soundfont), str(midi)], check=True, capture_output=True)
        stereo, _ = soundfile.read(wav, always_2d=True)
    n_samples = round(duration_s * SAMPLE_RATE_HZ)
    mono = np.zeros(n_samples)
    take = min(n_samples, len(stereo))
    mono[:take] = stereo[:take].mean(axis=1)
    toned: Array = lfilter([1.0, mix.spectral_tilt], [1.0], mono)
    return toned


def encode_midi(arrangement: Arrangement, *, channel_volumes: Array) -> bytes:
    """Notes as a standard MIDI file of one track.

    Args:
        arrangement: what to write.
        channel_volumes: volume of each MIDI channel, ``(16,)``, 0..1.
    """
    mido = import_optional("mido", extra="synthesis", purpose="write scores as MIDI")
    events = [
        (0, 0, mido.Message(kind, channel=channel, **values))
        for channel, program in sorted(arrangement.channel_programs.items())
        for kind, values in (
            ("program_change", {"program": program}),
            ("control_change", {"control": 7, "value": round(110 * channel_volumes[channel])}),
        )
    ]
    for note in arrangement.notes:
        start, end = (
            round(time * TICKS_PER_S) for time in (note.onset_s, note.onset_s + note.duration_s)
        )
        pitch = {"channel": note.channel, "note": note.pitch}
        events.append((start, 2, mido.Message("note_on", velocity=note.velocity, **pitch)))
        events.append((max(end, start + 1), 1, mido.Message("note_off", **pitch)))
    events.sort(key=lambda event: event[:2])
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=500_000)])
    now = 0
    for tick, _, message in events:
        track.append(message.copy(time=tick - now))
        now = tick
    file = mido.MidiFile(ticks_per_beat=TICKS_PER_S // 2)  # at 120 bpm: 960 ticks a second
    file.tracks.append(track)
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()
