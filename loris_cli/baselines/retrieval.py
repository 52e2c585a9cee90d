"""Music that is there already: of all songs the one whose accents fit a body's best.

    peaks of the body, accents of a song -> two curves -> cosine at every shift, every tempo
    -> the best song, from the best moment on, repeated where it ends

The cosine counts both ways: accents that no peak meets cost as much as peaks that no accent
meets, so a dense song is no better than a sparse one. It is what a patient editor does with a
library; no network takes part.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import InputError
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.system.librosa_import import librosa

Samples = NDArray[np.float32]
Array = NDArray[np.float64]

CURVE_HZ = 100
"""Of the curves; a song may begin at any of these moments."""
SIGMA_S = 0.05
"""Of the bump at a peak: three frames at 60 fps, as in the beat alignment of AIST++."""
TEMPI = (0.9, 0.925, 0.95, 0.975, 1.0, 1.025, 1.05, 1.075, 1.1)
"""How much faster a song may be played, where it may: a tenth either way, as DJs do."""
FADE_S = 0.02
"""At both ends of a song that is repeated."""


@dataclass(frozen=True, kw_only=True)
class Song:
    """A sound of a library, and when its accents are."""

    name: str
    source: str
    """Whose dance, or whose video, it was with."""
    duration_s: float
    accents_s: Array
    strengths: Array
    read: Callable[[], Samples]
    """Mono, 22,050 Hz."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A song and how it is played."""

    song: Song
    tempo: float
    """Times its own."""
    shift_s: float
    """Second of the song, at that tempo, with which it begins."""
    fit: float
    """The cosine, 0..1."""


class Library:
    """Songs, each at some tempi, and their curves."""

    def __init__(self, songs: Sequence[Song], tempi: Sequence[float] = (1.0,)) -> None:
        """Draw the curves.

        Args:
            songs: there may be thousands.
            tempi: that may be tried, times a song's own.
        """
        self.played = [(song, tempo) for song in songs for tempo in tempi]
        self.curves = [
            curve(song.accents_s / tempo, song.strengths, song.duration_s / tempo)
            for song, tempo in self.played
        ]

    def choose(self, features: ClipFeatures, *, but_for: str | None = None) -> Choice:
        """The song, the tempo and the moment to begin with that fit best; the first of equals.

        Args:
            features: of the clip.
            but_for: a source whose songs may not be taken.

        Raises:
            InputError: no song is left.
        """
        body = curve(features.peaks_s, features.strengths, features.duration_s)
        best: Choice | None = None
        for (song, tempo), song_curve in zip(self.played, self.curves, strict=True):
            if song.source == but_for:
                continue
            fit = fits(body, song_curve)
            at = int(fit.argmax())
            if best is None or fit[at] > best.fit:
                best = Choice(song=song, tempo=tempo, shift_s=at / CURVE_HZ, fit=float(fit[at]))
        if best is None:
            raise InputError(
                "no song of another source to choose from",
                hint="retrieval takes the sounds of the train part of the split",
            )
        return best


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Retrieval as a `MusicGenerator`; it is not random: a seed changes nothing."""

    library: Library
    but_for: str | None = None
    """A source whose songs may not be taken: the clip's own."""

    def generate(
        self, features: ClipFeatures, *, seed: int, progress: Callable[[int, int], None]
    ) -> Iterator[Samples]:
        """Sound for a clip, ``(1, samples)``, in one block."""
        chosen = self.library.choose(features, but_for=self.but_for)
        samples = chosen.song.read()
        if chosen.tempo != 1:
            samples = librosa.effects.time_stretch(samples, rate=chosen.tempo)
        n_samples = round(features.duration_s * SAMPLE_RATE_HZ)
        sound = repeated(samples, round(chosen.shift_s * SAMPLE_RATE_HZ), n_samples)
        progress(1, 1)
        yield sound[None]


def curve(moments_s: Array, weights: Array, duration_s: float) -> Array:
    """A bump at each moment, as high as its weight, ``(moments,)`` at `CURVE_HZ`."""
    found = np.zeros(max(round(duration_s * CURVE_HZ), 1))
    reach = np.arange(-round(4 * SIGMA_S * CURVE_HZ), round(4 * SIGMA_S * CURVE_HZ) + 1)
    index = np.round(moments_s[:, None] * CURVE_HZ).astype(int) + reach
    away = (index / CURVE_HZ - moments_s[:, None]) / SIGMA_S
    bumps = weights[:, None] * np.exp(-0.5 * np.square(away))
    inside = (index >= 0) & (index < len(found))
    np.maximum.at(found, index[inside], bumps[inside])
    return found


def fits(body: Array, song: Array) -> Array:
    """How well a song that is repeated fits a clip, for every moment to begin with.

    Args:
        body: `curve` of the peaks of the clip.
        song: that of the accents of the song; it begins again where it ends.

    Returns:
        cosine of the two over the clip, as many values as ``song`` has, 0..1; 0 where one of
        them is nothing.
    """
    heard = _correlated(song, _folded(body, len(song)))
    energy = _correlated(np.square(song), _folded(np.ones_like(body), len(song)))
    size = np.sqrt(np.maximum(energy, 0.0)) * np.linalg.norm(body)
    # Rounding of the transforms leaves a little where there is nothing.
    there = size > 1e-6
    found: Array = np.where(there, heard / np.where(there, size, 1.0), 0.0)
    return found.clip(0, 1)


def repeated(samples: Samples, start: int, n_samples: int) -> Samples:
    """A song from one of its samples on, beginning again where it ends.

    Args:
        samples: ``(samples,)``.
        start: first sample; may be beyond the end.
        n_samples: wanted.

    Returns:
        ``(n_samples,)``; faded at the ends of the song if these are heard.
    """
    start %= len(samples)
    if start + n_samples > len(samples):
        fade = min(round(FADE_S * SAMPLE_RATE_HZ), len(samples) // 2)
        rise = np.linspace(0, 1, fade, dtype=np.float32)
        samples = samples.copy()
        samples[:fade] *= rise
        samples[len(samples) - fade :] *= rise[::-1]
    found: Samples = samples[(start + np.arange(n_samples)) % len(samples)]
    return found


def _folded(curve: Array, period: int) -> Array:
    """What falls on each moment of a period, summed."""
    whole = np.pad(curve, (0, -len(curve) % period))
    summed: Array = whole.reshape(-1, period).sum(axis=0)
    return summed


def _correlated(song: Array, clip: Array) -> Array:
    """Sum over a clip of a song that begins at each moment, going round."""
    spectrum = np.fft.rfft(song) * np.conj(np.fft.rfft(clip))
    found: Array = np.fft.irfft(spectrum, len(song))
    return found
