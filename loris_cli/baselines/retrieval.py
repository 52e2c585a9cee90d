"""Retrieval baseline: the song whose accents match the visual peaks best.

    visual peaks, accents of a song -> two curves -> cosine similarity at every shift and tempo
    -> best song, looped from the best start

The cosine similarity is symmetric: accents without a peak cost as much as peaks without an
accent, so dense songs have no advantage over sparse ones. No network is used.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from loris_cli.array_types import Array, Samples
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import InputError
from loris_cli.models.generator_interface import VideoFeatures
from loris_cli.system.librosa_import import librosa

ACCENT_CURVE_HZ = 100
"""Rate of the accent curves, and of candidate start times in a song."""
ACCENT_SIGMA_S = 0.05
"""Standard deviation of the Gaussian at each accent: three frames at 60 fps, as in the beat
alignment score of AIST++."""
TEMPO_FACTORS = (0.9, 0.925, 0.95, 0.975, 1.0, 1.025, 1.05, 1.075, 1.1)
"""Tempo factors for retrieval with time stretching: up to 10 % in both directions."""
LOOP_FADE_S = 0.02
"""Duration of the fades at both ends of a looped song."""


@dataclass(frozen=True, kw_only=True)
class Song:
    """Song of the library, with its accents."""

    name: str
    groups: frozenset[str]
    """Song, dancer, source and video of the clip that the audio is from."""
    duration_s: float
    accents_s: Array
    strengths: Array
    read_samples: Callable[[], Samples]
    """Function that reads the audio: mono, 22,050 Hz."""


@dataclass(frozen=True, kw_only=True)
class RetrievedSong:
    """Retrieval result: a song with tempo and start time."""

    song: Song
    tempo_factor: float
    """Tempo relative to the original."""
    start_s: float
    """Start time within the song at that tempo."""
    similarity: float
    """Cosine similarity of the accent curves, 0..1."""


class SongLibrary:
    """Songs with their accent curves at several tempi."""

    def __init__(self, songs: Sequence[Song], tempo_factors: Sequence[float] = (1.0,)) -> None:
        """Compute the accent curves.

        Args:
            songs: songs of the library.
            tempo_factors: candidate tempi, relative to the original.
        """
        self.variants = [(song, tempo) for song in songs for tempo in tempo_factors]
        self.accent_curves = [
            compute_accent_curve(s.accents_s / tempo, s.strengths, s.duration_s / tempo)
            for s, tempo in self.variants
        ]

    def find_best_song(
        self, clip: VideoFeatures, *, excluded_groups: frozenset[str] = frozenset()
    ) -> RetrievedSong:
        """Find the song, tempo and start time with the highest similarity.

        Args:
            clip: features of the clip.
            excluded_groups: groups whose songs are excluded.

        Returns:
            The best match; the first one if several are equal.

        Raises:
            InputError: there are no songs after the exclusion.
        """
        clip_curve = compute_accent_curve(clip.peaks_s, clip.strengths, clip.duration_s)
        best: RetrievedSong | None = None
        for (song, tempo), song_curve in zip(self.variants, self.accent_curves, strict=True):
            if song.groups & excluded_groups:
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
            hint = "retrieval uses the audio of unrelated clips of the train partition"
            raise InputError("no songs from other sources for retrieval", hint=hint)
        return best


@dataclass(frozen=True, kw_only=True)
class RetrievalGenerator:
    """A `MusicGenerator` that retrieves songs; it is deterministic and ignores the seed."""

    library: SongLibrary
    excluded_groups: frozenset[str] = frozenset()
    """Groups whose songs are excluded, usually those of the clip."""

    def generate(
        self, features: VideoFeatures, *, seed: int, progress: Callable[[int, int], None]
    ) -> Iterator[Samples]:
        """Yield the audio for a clip in one block, ``(1, samples)`` at 22,050 Hz."""
        best = self.library.find_best_song(features, excluded_groups=self.excluded_groups)
        samples = best.song.read_samples()
        if best.tempo_factor != 1:
            samples = librosa.effects.time_stretch(samples, rate=best.tempo_factor)
        n_samples = round(features.duration_s * SAMPLE_RATE_HZ)
        looped = loop_samples(samples, round(best.start_s * SAMPLE_RATE_HZ), n_samples)
        progress(1, 1)
        yield looped[None]


def compute_accent_curve(times_s: Array, weights: Array, duration_s: float) -> Array:
    """Compute a curve with a Gaussian at each accent.

    Args:
        times_s: accent times, ``(accents,)``.
        weights: peak heights of the Gaussians, ``(accents,)``, at least 0.
        duration_s: duration of the curve.

    Returns:
        ``(round(duration_s * ACCENT_CURVE_HZ),)``; overlaps are combined by maximum.
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
    """Compute the similarity of a clip and a looped song, for every start time in the song.

    Args:
        clip_curve: accent curve of the clip's peaks at 100 Hz, ``(clip_frames,)``.
        song_curve: accent curve of the song, which is looped, ``(song_frames,)``.

    Returns:
        Cosine similarity over the clip, ``(song_frames,)``, 0..1; 0 where one of the curves is
        zero.
    """
    product = _circular_correlation(song_curve, clip_curve)
    energy = _circular_correlation(np.square(song_curve), np.ones_like(clip_curve))
    norm = np.sqrt(np.maximum(energy, 0.0)) * np.linalg.norm(clip_curve)
    # The FFT leaves rounding errors where the norm is zero.
    is_nonzero = norm > 1e-6
    cosine = np.where(is_nonzero, product / np.where(is_nonzero, norm, 1.0), 0.0)
    return cosine.clip(0, 1)


def loop_samples(samples: Samples, start_sample: int, n_samples: int) -> Samples:
    """Loop a song, beginning at a start sample.

    Args:
        samples: mono audio at 22,050 Hz, ``(samples,)``, not empty.
        start_sample: first sample, taken modulo the length of the song.
        n_samples: length of the result.

    Returns:
        ``(n_samples,)``. If the song wraps around, both of its ends are faded.
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
    """Return the dot product of a clip and the looped song, for every start in the song."""
    padded = np.pad(clip, (0, -len(clip) % len(song)))
    folded = padded.reshape(-1, len(song)).sum(axis=0)
    spectrum = np.fft.rfft(song) * np.conj(np.fft.rfft(folded))
    return np.fft.irfft(spectrum, len(song))
