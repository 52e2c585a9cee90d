"""Synthesis of an arrangement with the program fluidsynth, on request.

arrangement -> MIDI file -> fluidsynth -> WAV -> samples
"""

import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from loris_cli.array_types import Samples
from loris_cli.composition.arrangement import Arrangement
from loris_cli.composition.midi_file import encode_midi
from loris_cli.composition.mix import MixSettings
from loris_cli.composition.synthesizer import MASTER_GAIN
from loris_cli.composition.synthesizer_settings import find_fluidsynth
from loris_cli.errors import InputError

PROGRAM_TIMEOUT_S = 3600.0
LATENCY_SAMPLES = 96
"""Delay of fluidsynth's notes at 22,050 and 44,100 Hz, measured against the built-in
synthesizer; these samples are dropped."""


def synthesize_with_fluidsynth(
    arrangement: Arrangement,
    soundfont: Path,
    *,
    mix: MixSettings,
    duration_s: float,
    rate_hz: int,
    n_channels: int,
) -> Samples:
    """Synthesize an arrangement with fluidsynth and its own reverb.

    Args:
        arrangement: notes and instruments; notes before time 0 begin at 0.
        soundfont: an ``.sf2`` or ``.sf3`` file.
        mix: mix settings; the tone filter is not applied.
        duration_s: duration of the audio.
        rate_hz: sampling rate.
        n_channels: 1 or 2; mono is the mean of left and right.

    Returns:
        Audio, ``(channels, round(duration_s * rate_hz))``.

    Raises:
        MissingDependencyError: fluidsynth is not installed.
        InputError: fluidsynth cannot play the soundfont.
    """
    settings = {
        "synth.gain": MASTER_GAIN,
        "synth.reverb.level": mix.reverb_level,
        "synth.reverb.room-size": mix.reverb_room_size,
        "synth.chorus.active": 0,
        # FluidR3 has 140 MB, of which a piece uses about 6 MB.
        "synth.dynamic-sample-loading": 1,
    }
    options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
    with tempfile.TemporaryDirectory() as folder:
        midi, wav = Path(folder, "score.mid"), Path(folder, "score.wav")
        midi.write_bytes(encode_midi(arrangement, channel_volumes=mix.channel_volumes))
        output = ["-T", "wav", "-O", "float", "-F", str(wav)]
        command = [find_fluidsynth(), "-niq", "-r", str(rate_hz), *options, *output]
        try:
            subprocess.run(
                [*command, str(soundfont.absolute()), str(midi)],
                check=True,
                capture_output=True,
                timeout=PROGRAM_TIMEOUT_S,
            )
            samples, _ = soundfile.read(
                wav, start=LATENCY_SAMPLES, dtype="float32", always_2d=True
            )
        except (subprocess.SubprocessError, soundfile.LibsndfileError) as error:
            raise InputError(
                f"fluidsynth cannot play soundfont {soundfont}",
                hint="pass another file with --soundfont",
            ) from error
    audio = np.zeros((n_channels, round(duration_s * rate_hz)), dtype=np.float32)
    n_samples = min(audio.shape[1], len(samples))
    stereo = samples[:n_samples].T
    audio[:, :n_samples] = stereo.mean(axis=0) if n_channels == 1 else stereo
    return audio
