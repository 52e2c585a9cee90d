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

ACCENT_CURVE_HZ = 100
"""Of the curves; a song may begin at any of these moments."""
ACCENT_SIGMA_S = 0.05
"""Of the bump at a peak: three frames at 60 fps, as in the beat alignment of AIST++."""
TEMPO_FACTORS = (0.9, 0.925, 0.95, 0.975, 1.0, 1.025, 1.05, 1.075, 1.1)
"""How much faster a song may be played, where it may: a tenth either way, as DJs do."""
LOOP_FADE_S = 0.02
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
    read_samples: Callable[[], Samples]
    """Mono, 22,050 Hz."""


@dataclass(frozen=True, kw_only=True)
class RetrievedSong:
    """A song and how it is played."""

    song: Song
    tempo_factor: float
    """Times its own."""
    start_s: float
    """Second of the song, at that tempo, with which it begins."""
    similarity: float
    """The cosine, 0..1."""


class SongLibrary:
    """Songs, each at some tempi, and their curves."""

    def __init__(self, songs: Sequence[Song], tempo_factors: Sequence[float] = (1.0,)) -> None:
        """Draw the curves.

        Args:
            songs: there may be thousands.
            tempo_factors: that may be tried, times a song's own.
        """
        self.variants = [(song, tempo) for song in songs for tempo in tempo_factors]
        self.accent_curves = [
            compute_accent_curve(
                song.accents_s / tempo, song.strengths, song.duration_s / tempo
            )
            for song, tempo in self.variants
        ]

    def find_best_song(
        self, features: ClipFeatures, *, excluded_source: str | None = None
    ) -> RetrievedSong:
        """The song, the tempo and the moment to begin with that fit best; the first of equals.

        Args:
            features: of the clip.
            excluded_source: a source whose songs may not be taken.

        Raises:
            InputError: no song is left.
        """
        body = compute_accent_curve(features.peaks_s, features.strengths, features.duration_s)
        best: RetrievedSong | None = None
        for (song, tempo), song_curve in zip(self.variants, self.accent_curves, strict=True):
            if song.source == excluded_source:
                continue
            fit = compute_shift_similarity(body, song_curve)
            at = int(fit.argmax())
            if best is None or fit[at] > best.similarity:
                best = RetrievedSong(
                    song=song,
                    tempo_factor=tempo,
                    start_s=at / ACCENT_CURVE_HZ,
                    similarity=float(fit[at]),
                )
        if best is None:
            raise InputError(
                "no song of another source to choose from",
                hint="retrieval takes the sounds of the train part of the split",
            )
        return best


@dataclass(frozen=True, kw_only=True)
class RetrievalGenerator:
    """Retrieval as a `MusicGenerator`; it is not random: a seed changes nothing."""

    library: SongLibrary
    excluded_source: str | None = None
    """A source whose songs may not be taken: the clip's own."""

    def generate(
        self, features: ClipFeatures, *, seed: int, progress: Callable[[int, int], None]
    ) -> Iterator[Samples]:
        """Sound for a clip, ``(1, samples)``, in one block."""
        chosen = self.library.find_best_song(features, excluded_source=self.excluded_source)
        samples = chosen.song.read_samples()
        if chosen.tempo_factor != 1:
            samples = librosa.effects.time_stretch(samples, rate=chosen.tempo_factor)
        n_samples = round(features.duration_s * SAMPLE_RATE_HZ)
        sound = loop_samples(samples, round(chosen.start_s * SAMPLE_RATE_HZ), n_samples)
        progress(1, 1)
        yield sound[None]


def compute_accent_curve(times_s: Array, weights: Array, duration_s: float) -> Array:
    """A bump at each moment, as high as its weight, ``(moments,)`` at `ACCENT_CURVE_HZ`."""
    found = np.zeros(max(round(duration_s * ACCENT_CURVE_HZ), 1))
    reach = np.arange(
        -round(4 * ACCENT_SIGMA_S * ACCENT_CURVE_HZ),
        round(4 * ACCENT_SIGMA_S * ACCENT_CURVE_HZ) + 1,
    )
    index = np.round(times_s[:, None] * ACCENT_CURVE_HZ).astype(int) + reach
    away = (index / ACCENT_CURVE_HZ - times_s[:, None]) / ACCENT_SIGMA_S
    bumps = weights[:, None] * np.exp(-0.5 * np.square(away))
    inside = (index >= 0) & (index < len(found))
    np.maximum.at(found, index[inside], bumps[inside])
    return found


def compute_shift_similarity(clip_curve: Array, song_curve: Array) -> Array:
    """How well a song that is repeated fits a clip, for every moment to begin with.

    Args:
        clip_curve: `compute_accent_curve` of the peaks of the clip.
        song_curve: that of the accents of the song; it begins again where it ends.

    Returns:
        cosine of the two over the clip, as many values as ``song_curve`` has, 0..1; 0 where one of
        them is nothing.
    """
    heard = _circular_correlation(song_curve, _fold_to_period(clip_curve, len(song_curve)))
    energy = _circular_correlation(
        np.square(song_curve), _fold_to_period(np.ones_like(clip_curve), len(song_curve))
    )
    size = np.sqrt(np.maximum(energy, 0.0)) * np.linalg.norm(clip_curve)
    # Rounding of the transforms leaves a little where there is nothing.
    there = size > 1e-6
    found: Array = np.where(there, heard / np.where(there, size, 1.0), 0.0)
    return found.clip(0, 1)


def loop_samples(samples: Samples, start_sample: int, n_samples: int) -> Samples:
    """A song from one of its samples on, beginning again where it ends.

    Args:
        samples: ``(samples,)``.
        start_sample: first sample; may be beyond the end.
        n_samples: wanted.

    Returns:
        ``(n_samples,)``; faded at the ends of the song if these are heard.
    """
    start_sample %= len(samples)
    if start_sample + n_samples > len(samples):
        fade = min(round(LOOP_FADE_S * SAMPLE_RATE_HZ), len(samples) // 2)
        rise = np.linspace(0, 1, fade, dtype=np.float32)
        samples = samples.copy()
        samples[:fade] *= rise
        samples[len(samples) - fade :] *= rise[::-1]
    found: Samples = samples[(start_sample + np.arange(n_samples)) % len(samples)]
    return found


def _fold_to_period(curve: Array, period: int) -> Array:
    """What falls on each moment of a period, summed."""
    whole = np.pad(curve, (0, -len(curve) % period))
    summed: Array = whole.reshape(-1, period).sum(axis=0)
    return summed


def _circular_correlation(song: Array, clip: Array) -> Array:
    """Sum over a clip of a song that begins at each moment, going round."""
    spectrum = np.fft.rfft(song) * np.conj(np.fft.rfft(clip))
    found: Array = np.fft.irfft(spectrum, len(song))
    return found
