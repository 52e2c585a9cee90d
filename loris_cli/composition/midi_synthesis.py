"""Synthesis of an arrangement with fluidsynth and a General MIDI soundfont.

The training music uses the soundfont FluidR3 GM (MIT licence; Debian package
``fluid-soundfont-gm``) and the program ``fluidsynth`` (Debian package of that name). Both are
required for training data only, not for generating soundtracks.
"""

import io
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import lfilter

from loris_cli.array_types import Array
from loris_cli.composition.arrangement import Arrangement
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import MissingDependencyError
from loris_cli.system.optional_packages import import_optional

TICKS_PER_S = 960
SYNTH_GAIN = 0.5
DEFAULT_SOUNDFONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
"""Path in the Debian package."""


@dataclass(frozen=True, kw_only=True)
class MixSettings:
    """Reverb, balance and tone of a mix."""

    reverb_level: float
    """0..1."""
    reverb_room_size: float
    """0..1."""
    channel_volumes: Array
    """Volume of each MIDI channel, ``(16,)``, 0..1."""
    spectral_tilt: float
    """Coefficient of a first-order filter; positive is darker, negative brighter."""


def render_score(arrangement: Arrangement, *, duration_s: float, seed: int) -> Array:
    """Synthesize an arrangement with random reverb, balance and tone.

    Args:
        arrangement: notes and instruments.
        duration_s: duration of the audio.
        seed: seed of the mix settings.

    Returns:
        Mono audio at 22,050 Hz, ``(round(duration_s * 22050),)``, with a peak of 0.9.

    Raises:
        MissingDependencyError: fluidsynth or the soundfont is not installed.
    """
    rng = np.random.default_rng([seed, 1])
    mix = MixSettings(
        reverb_level=rng.uniform(0.0, 0.5),
        reverb_room_size=rng.uniform(0.2, 0.8),
        channel_volumes=rng.uniform(0.65, 1.0, 16),
        spectral_tilt=rng.uniform(-0.35, 0.35),
    )
    mono = synthesize_arrangement(arrangement, mix, duration_s=duration_s)
    return np.asarray(0.9 * mono / max(float(np.abs(mono).max()), 1e-9))


def synthesize_arrangement(
    arrangement: Arrangement,
    mix: MixSettings,
    *,
    duration_s: float,
    soundfont: Path = DEFAULT_SOUNDFONT,
) -> Array:
    """Synthesize an arrangement without level normalization.

    Args:
        arrangement: notes and instruments.
        mix: mix settings.
        duration_s: duration of the audio; later notes are truncated.
        soundfont: an ``.sf2`` file.

    Returns:
        Mono audio at 22,050 Hz, ``(round(duration_s * 22050),)``.

    Raises:
        MissingDependencyError: fluidsynth or the soundfont is not installed.
    """
    program = shutil.which("fluidsynth")
    if program is None or not soundfont.exists():
        hint = "apt-get install fluidsynth fluid-soundfont-gm"
        raise MissingDependencyError("fluidsynth or its soundfont is not installed", hint=hint)
    settings = {
        "synth.gain": SYNTH_GAIN,
        "synth.reverb.level": mix.reverb_level,
        "synth.reverb.room-size": mix.reverb_room_size,
        "synth.chorus.active": 0,
        # The soundfont has 140 MB, of which a piece uses about 6 MB.
        "synth.dynamic-sample-loading": 1,
    }
    options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
    with tempfile.TemporaryDirectory() as folder:
        midi, wav = Path(folder, "score.mid"), Path(folder, "score.wav")
        midi.write_bytes(encode_midi(arrangement, channel_volumes=mix.channel_volumes))
        command = [program, "-niq", "-r", str(SAMPLE_RATE_HZ), *options, "-F", str(wav)]
        subprocess.run([*command, str(soundfont), str(midi)], check=True, capture_output=True)
        stereo, _ = soundfile.read(wav, always_2d=True)
    mono = np.zeros(round(duration_s * SAMPLE_RATE_HZ))
    n_samples = min(len(mono), len(stereo))
    mono[:n_samples] = stereo[:n_samples].mean(axis=1)
    return np.asarray(lfilter([1.0, mix.spectral_tilt], [1.0], mono))


def encode_midi(arrangement: Arrangement, *, channel_volumes: Array) -> bytes:
    """Encode an arrangement as a standard MIDI file with one track.

    Args:
        arrangement: notes and instruments.
        channel_volumes: volume of each MIDI channel, ``(16,)``, 0..1.
    """
    mido = import_optional("mido", extra="synthesis", purpose="write scores as MIDI")
    message, events = mido.Message, []
    for channel, program in sorted(arrangement.channel_programs.items()):
        volume = round(110 * channel_volumes[channel])
        events.append((0, 0, message("program_change", channel=channel, program=program)))
        events += [(0, 0, message("control_change", channel=channel, control=7, value=volume))]
    for onset_s, duration_s, *rest in arrangement.note_array.tolist():
        channel, pitch, velocity = map(int, rest)
        start, end = (round(t * TICKS_PER_S) for t in (onset_s, onset_s + duration_s))
        note = {"channel": channel, "note": pitch}
        events.append((start, 2, message("note_on", velocity=velocity, **note)))
        events.append((max(end, start + 1), 1, message("note_off", **note)))
    events.sort(key=lambda event: event[:2])
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=500_000)])
    previous_tick = 0
    for tick, _, event in events:
        track.append(event.copy(time=tick - previous_tick))
        previous_tick = tick
    # At 120 bpm this results in 960 ticks per second.
    file = mido.MidiFile(ticks_per_beat=TICKS_PER_S // 2, tracks=[track])
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()
