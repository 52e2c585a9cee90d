"""Speed of the built-in synthesizer, and its agreement with fluidsynth.

    python benchmarks/synthesizer.py

Plays one piece of 25 s of each style, with an empty cache of decoded samples. If fluidsynth and
its soundfont are installed, the same pieces without reverb are also played by it: the ratio of
the times, the mean difference of the log-mel spectrograms at equal level, and the F-measure of
the onsets (50 ms) of both.
"""

import time
from collections.abc import Callable
from functools import partial

import numpy as np

from loris_cli.array_types import Samples
from loris_cli.audio.mel import compute_log_mel
from loris_cli.audio.onsets import detect_onsets, match_onsets
from loris_cli.composition.arrangement import Arrangement
from loris_cli.composition.mix import MixSettings
from loris_cli.composition.soundfont import SoundFont
from loris_cli.composition.styles import STYLES
from loris_cli.composition.synthesis import synthesize_blocks
from loris_cli.composition.synthesizer import synthesize
from loris_cli.composition.synthesizer_settings import BUILTIN_SOUNDFONT, SynthesizerSettings
from loris_cli.errors import LorisError
from loris_cli.evaluation.metrics.loris_scores import f1_score
from loris_cli.synthetic.composer import compose_score

DURATION_S = 25.0
DRY_MIX = MixSettings(reverb_level=0.0)
FORMATS = ((22_050, 1), (22_050, 2), (44_100, 1), (44_100, 2))
"""Sampling rate and channels."""


def time_call_s(function: Callable[[], object]) -> float:
    """Return the duration of a call in seconds."""
    started_s = time.perf_counter()
    function()
    return time.perf_counter() - started_s


def play_dry(arrangement: Arrangement, synthesizer: SynthesizerSettings) -> Samples:
    """Play an arrangement without reverb, ``(samples,)`` at 22,050 Hz."""
    blocks = synthesize_blocks(
        arrangement,
        DRY_MIX,
        duration_s=DURATION_S,
        n_channels=1,
        synthesizer=synthesizer,
    )
    return np.concatenate([block[0] for block in blocks])


def compare(first: Samples, second: Samples) -> tuple[float, float]:
    """Return the mean log-mel difference at equal level, and the onset F-measure."""
    gain = np.sqrt(np.mean(first**2) / np.mean(second**2))
    spectra = [compute_log_mel(x.astype(np.float32)) for x in (first, second * gain)]
    difference = float(np.abs(spectra[0] - spectra[1]).mean())
    match = match_onsets(detect_onsets(first), detect_onsets(second))
    return difference, f1_score(match.recall, match.precision)


def time_formats_s(arrangement: Arrangement) -> list[float]:
    """Return the time to play an arrangement in each of `FORMATS`."""
    times_s = []
    for rate_hz, n_channels in FORMATS:
        soundfont = SoundFont(BUILTIN_SOUNDFONT)  # not cached, as in a new process
        play = partial(
            synthesize,
            arrangement,
            soundfont,
            duration_s=DURATION_S,
            rate_hz=rate_hz,
            n_channels=n_channels,
        )
        times_s.append(time_call_s(play))
    return times_s


def main() -> None:
    """Print the times and, with fluidsynth, the agreement."""
    builtin, fluidsynth = SynthesizerSettings(), SynthesizerSettings(name="fluidsynth")
    try:
        fluidsynth.check()
        has_fluidsynth = True
    except LorisError as error:
        print(f"no comparison: {error}")
        has_fluidsynth = False
    heads = [f"{rate_hz / 1000:g} kHz x {n}" for rate_hz, n in FORMATS]
    print(f"{'seconds for 25 s':18}", *(f"{head:>12}" for head in heads))
    times_s, agreements, ratios = [], [], []
    for style in STYLES:
        arrangement = compose_score(1, style, DURATION_S).arrangement
        times_s.append(time_formats_s(arrangement))
        print(f"{style.name:18}", *(f"{value:12.2f}" for value in times_s[-1]))
        if has_fluidsynth:
            pair = play_dry(arrangement, fluidsynth), play_dry(arrangement, builtin)
            agreements.append(compare(*pair))
            program_s = time_call_s(partial(play_dry, arrangement, fluidsynth))
            ratios.append(program_s / time_call_s(partial(play_dry, arrangement, builtin)))
    for name, function in (("median", np.median), ("maximum", np.max)):
        print(f"{name:18}", *(f"{value:12.2f}" for value in function(times_s, axis=0)))
    if has_fluidsynth:
        difference, f_measure = np.mean(agreements, axis=0)
        print(f"log-mel difference {difference:.3f} nats, onset F {f_measure:.3f}")
        print(f"time of fluidsynth / built-in (samples decoded): {np.median(ratios):.2f}")


if __name__ == "__main__":
    main()
