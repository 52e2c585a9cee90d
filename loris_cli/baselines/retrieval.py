"""Retrieval baseline: of all songs the one whose accents match the visual peaks best.

    visual peaks, accents of a song -> two curves -> cosine at every shift, every tempo
    -> the best song, from the best start on, looped

The cosine is symmetric: accents without a peak cost as much as peaks without an accent,
so a dense song is no better than a sparse one. No network takes part.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from loris_cli.array_types import Array, Samples
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import InputError
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.system.librosa_import import librosa

ACCENT_CURVE_HZ = 100
"""Rate of the accent curves, and of the possible starts in a song."""
ACCENT_SIGMA_S = 0.05
"""Width of the bump at a peak: three frames at 60 fps, as in the beat alignment of AIST++."""
TEMPO_FACTORS = (0.9, 0.925, 0.95, 0.975, 1.0, 1.025, 1.05, 1.075, 1.1)
"""Tempo changes that stretched retrieval tries: a tenth either way, as DJs do."""
LOOP_FADE_S = 0.02
"""Fade at both ends of a looped song."""


@dataclass(frozen=True, kw_only=True)
class Song:
    """Audio of a library with its accents."""

    name: str
    source: str
    """Source group of its video."""
    duration_s: float
    accents_s: Array
    strengths: Array
    read_samples: Callable[[], Samples]
    """Mono, 22,050 Hz."""


@dataclass(frozen=True, kw_only=True)
class RetrievedSong:
    """A song, its tempo and its start."""

    song: Song
    tempo_factor: float
    """Tempo relative to the song's own."""
    start_s: float
    """Start within the song at that tempo."""
    similarity: float
    """Cosine of the accent curves, 0..1."""


class SongLibrary:
    """Songs at several tempi, with their accent curves."""

    def __init__(self, songs: Sequence[Song], tempo_factors: Sequence[float] = (1.0,)) -> None:
        """Compute the accent curves.

        Args:
            songs: the library.
            tempo_factors: tempi to try, relative to a song's own.
        """
        self.variants = [(song, tempo) for song in songs for tempo in tempo_factors]
        self.accent_curves = [
            compute_accent_curve(s.accents_s / tempo, s.strengths, s.duration_s / tempo)
            for s, tempo in self.variants
        ]

    def find_best_song(
        self, clip: ClipFeatures, *, excluded_source: str | None = None
    ) -> RetrievedSong:
        """Find the song, tempo and start of the highest similarity; the first of equals.

        Args:
            clip: features of the clip.
            excluded_source: source group whose songs are excluded.

        Raises:
            InputError: no song is left.
        """
        clip_curve = compute_accent_curve(clip.peaks_s, clip.strengths, clip.duration_s)
        best: RetrievedSong | None = None
        for (song, tempo), song_curve in zip(self.variants, self.accent_curves, strict=True):
            if song.source == excluded_source:
                continue
            similarity = compute_shift_similarity(clip_curve, song_curve)
            k = int(similarity.argmax())
            if best is None or similarity[k] > best.similarity:
                best = RetrievedSong(
                    song=song,
                    tempo_factor=tempo,
                    start_s=k / ACCENT_CURVE_HZ,
                    similarity=float(similarity[k]),
                )
        if best is None:
            hint = "retrieval uses the audio of the train partition of the subset"
            raise InputError("no song of another source to choose from", hint=hint)
        return best


@dataclass(frozen=True, kw_only=True)
class RetrievalGenerator:
    """A `MusicGenerator` by retrieval; deterministic: the seed changes nothing."""

    library: SongLibrary
    excluded_source: str | None = None
    """Source group whose songs are excluded: the clip's own."""

    def generate(
        self, features: ClipFeatures, *, seed: int, progress: Callable[[int, int], None]
    ) -> Iterator[Samples]:
        """Yield the audio of a clip, ``(1, samples)``, in one block."""
        best = self.library.find_best_song(features, excluded_source=self.excluded_source)
        samples = best.song.read_samples()
        if best.tempo_factor != 1:
            samples = librosa.effects.time_stretch(samples, rate=best.tempo_factor)
        n_samples = round(features.duration_s * SAMPLE_RATE_HZ)
        looped = loop_samples(samples, round(best.start_s * SAMPLE_RATE_HZ), n_samples)
        progress(1, 1)
        yield looped[None]


def compute_accent_curve(times_s: Array, weights: Array, duration_s: float) -> Array:
    """Compute a curve with a Gaussian bump of height ``weights`` at each time.

    Returns:
        ``(round(duration_s * ACCENT_CURVE_HZ),)``.
    """
    curve = np.zeros(max(round(duration_s * ACCENT_CURVE_HZ), 1))
    reach = round(4 * ACCENT_SIGMA_S * ACCENT_CURVE_HZ)
    index = np.round(times_s[:, None] * ACCENT_CURVE_HZ).astype(int)
    index = index + np.arange(-reach, reach + 1)
    distance = (index / ACCENT_CURVE_HZ - times_s[:, None]) / ACCENT_SIGMA_S
    bumps = weights[:, None] * np.exp(-0.5 * np.square(distance))
    inside = (index >= 0) & (index < len(curve))
    np.maximum.at(curve, index[inside], bumps[inside])
    return curve


def compute_shift_similarity(clip_curve: Array, song_curve: Array) -> Array:
    """Compute the similarity of a looped song and a clip, for every start in the song.

    Args:
        clip_curve: `compute_accent_curve` of the peaks of the clip.
        song_curve: that of the accents of the song, which is looped.

    Returns:
        cosine of the two over the clip, as many values as ``song_curve`` has, 0..1; 0 where one
        of them is zero.
    """
    product = _circular_correlation(song_curve, clip_curve)
    energy = _circular_correlation(np.square(song_curve), np.ones_like(clip_curve))
    norm = np.sqrt(np.maximum(energy, 0.0)) * np.linalg.norm(clip_curve)
    # The transforms leave rounding errors where the norm is zero.
    is_nonzero = norm > 1e-6
    cosine = np.where(is_nonzero, product / np.where(is_nonzero, norm, 1.0), 0.0)
    return cosine.clip(0, 1)


def loop_samples(samples: Samples, start_sample: int, n_samples: int) -> Samples:
    """Loop a song from a start sample on.

    Args:
        samples: ``(samples,)``.
        start_sample: first sample; may be beyond the end.
        n_samples: length of the result.

    Returns:
        ``(n_samples,)``; faded at the ends of the song if the result contains them.
    """
    start_sample %= len(samples)
    if start_sample + n_samples > len(samples):
        fade = min(round(LOOP_FADE_S * SAMPLE_RATE_HZ), len(samples) // 2)
        rise = np.linspace(0, 1, fade, dtype=np.float32)
        samples = samples.copy()
        samples[:fade] *= rise
        samples[len(samples) - fade :] *= rise[::-1]
    return np.asarray(samples[(start_sample + np.arange(n_samples)) % len(samples)])


def _circular_correlation(song: Array, clip: Array) -> Array:
    """Dot product of a clip of any length with the looped song, for every start in the song."""
    padded = np.pad(clip, (0, -len(clip) % len(song)))
    folded = padded.reshape(-1, len(song)).sum(axis=0)
    spectrum = np.fft.rfft(song) * np.conj(np.fft.rfft(folded))
    return np.fft.irfft(spectrum, len(song))
