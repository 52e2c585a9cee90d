"""Rule-based baselines: drums on peaks, drum patterns on a grid, and song retrieval."""

from functools import partial

import numpy as np
import pytest
from builders import make_features

from loris_cli.array_types import Array, Samples
from loris_cli.audio.onsets import detect_onsets, match_onsets
from loris_cli.baselines.drum_kit import (
    DRUM_SOUNDS,
    MAX_AMPLITUDE,
    DrumGenerator,
    DrumHit,
    DrumName,
    render_drum_hits,
)
from loris_cli.baselines.drums import place_hits_on_peaks
from loris_cli.baselines.groove import place_hits_on_grid
from loris_cli.baselines.retrieval import (
    ACCENT_CURVE_HZ,
    LOOP_FADE_S,
    RetrievalGenerator,
    Song,
    SongLibrary,
    compute_accent_curve,
    compute_shift_similarity,
    loop_samples,
)
from loris_cli.errors import InputError
from loris_cli.models.generator_interface import ClipFeatures, MusicGenerator
from loris_cli.rhythm.tempo_fit import FALLBACK_BPM, fit_tempo_and_phase

pytestmark = pytest.mark.numpy1

RATE_HZ = 22_050


def make_clip_features(peaks_s: Array, duration_s: float = 8.0) -> ClipFeatures:
    """Features of a clip with ascending peak strengths."""
    return make_features(duration_s, peaks_s, strengths=np.linspace(0.35, 1, len(peaks_s)))


def draw_irregular_times(seed: int) -> Array:
    """16 times with intervals from 0.25 to 0.7 s."""
    return np.cumsum(np.random.default_rng(seed).uniform(0.25, 0.7, 16))


def make_song(name: str, accents_s: Array, *, source: str = "") -> Song:
    """Song of 8 s with a kick on every accent."""
    inside = accents_s[accents_s < 7.9]
    hits: list[DrumHit] = [(time_s, "kick", 1.0) for time_s in inside.tolist()]
    return Song(
        name=name,
        groups=frozenset([source or name]),
        duration_s=8.0,
        accents_s=inside,
        strengths=np.ones(len(inside)),
        read_samples=partial(render_drum_hits, hits, 8 * RATE_HZ, seed=0),
    )


def generate_samples(generator: MusicGenerator, clip: ClipFeatures, seed: int = 0) -> Samples:
    blocks = generator.generate(clip, seed=seed, progress=lambda done, total: None)
    samples: Samples = np.concatenate(list(blocks), axis=1)[0]
    return samples


@pytest.mark.parametrize(
    "generator",
    [
        pytest.param(DrumGenerator(place_hits_on_peaks), id="peaks"),
        pytest.param(DrumGenerator(place_hits_on_grid), id="grid"),
    ],
)
@pytest.mark.parametrize("n_peaks", [0, 1, 12])
def test_drum_audio_has_the_clip_length_and_depends_on_the_seed(
    generator: DrumGenerator, n_peaks: int
) -> None:
    clip = make_clip_features(draw_irregular_times(0)[:n_peaks], duration_s=7.3)

    first, repeated, other = (generate_samples(generator, clip, seed) for seed in (0, 0, 1))

    assert len(first) == round(7.3 * RATE_HZ)
    assert np.abs(first).max() <= MAX_AMPLITUDE
    np.testing.assert_array_equal(first, repeated)
    is_silent = not first.any()
    assert is_silent == (not len(generator.place_hits(clip)))
    assert np.array_equal(first, other) == is_silent


def test_drum_onsets_match_the_peaks_and_strength_selects_the_drum() -> None:
    peaks_s = draw_irregular_times(1)
    peaks_s = peaks_s[peaks_s < 7.8]
    clip = make_clip_features(peaks_s)

    samples = generate_samples(DrumGenerator(place_hits_on_peaks), clip)
    match = match_onsets(peaks_s, detect_onsets(samples))

    assert match.recall > 0.9
    assert match.precision > 0.9
    hits = place_hits_on_peaks(clip)
    assert {time_s for time_s, _, _ in hits} == set(peaks_s.tolist())
    assert hits[0][1] == "hat"  # the weakest
    assert [drum for _, drum, _ in hits[-2:]] == ["snare", "kick"]  # the strongest


@pytest.mark.parametrize("drum", DRUM_SOUNDS)
def test_drum_hit_starts_at_its_time(drum: DrumName) -> None:
    samples = render_drum_hits([(0.5, drum, 1.0)], RATE_HZ, seed=0)

    assert 0 <= np.flatnonzero(samples)[0] - RATE_HZ // 2 <= 1


def test_drum_hits_outside_the_clip_are_ignored() -> None:
    hits: list[DrumHit] = [(-0.1, "kick", 1.0), (1.5, "kick", 1.0)]

    assert not render_drum_hits(hits, RATE_HZ, seed=0).any()


@pytest.mark.parametrize("bpm", [80.0, 97.0, 123.5, 155.0])
def test_tempo_and_phase_are_found_with_missing_beats(bpm: float) -> None:
    beats_s = 0.21 + 60 / bpm * np.arange(20)
    peaks_s = np.delete(beats_s, [2, 3, 7, 11])

    fitted_bpm, phase_s = fit_tempo_and_phase(peaks_s, np.ones(len(peaks_s)))

    assert fitted_bpm == pytest.approx(bpm, abs=0.3)
    assert phase_s == pytest.approx(0.21, abs=0.01)


def test_tempo_without_peaks_is_the_fallback() -> None:
    assert fit_tempo_and_phase(np.zeros(0), np.zeros(0)) == (FALLBACK_BPM, 0.0)


def test_bars_with_higher_energy_have_more_drum_hits() -> None:
    clip = make_features(16.0, np.arange(0.0, 16.0, 0.5), energy=np.linspace(0, 1, 256))
    times_s = np.array([time_s for time_s, _, _ in place_hits_on_grid(clip)])

    assert (times_s >= 12).sum() > 1.5 * (times_s < 4).sum()


def test_similarity_is_one_at_the_true_shift_and_zero_without_peaks() -> None:
    curve = compute_accent_curve(draw_irregular_times(2), np.ones(16), 8.0)

    similarity = compute_shift_similarity(np.roll(curve, -123), curve)

    assert similarity.argmax() == 123
    assert similarity[123] == pytest.approx(1.0)
    assert not compute_shift_similarity(np.zeros(50), curve).any()


def test_similarity_by_fft_equals_the_direct_cosine() -> None:
    clip_curve, song_curve = (
        compute_accent_curve(draw_irregular_times(3), np.ones(16), 11.0),
        compute_accent_curve(draw_irregular_times(4), np.ones(16), 7.0),
    )
    for shift in (0, 250, 699):
        looped = song_curve[(shift + np.arange(len(clip_curve))) % len(song_curve)]
        expected = looped @ clip_curve / np.linalg.norm(looped) / np.linalg.norm(clip_curve)
        assert compute_shift_similarity(clip_curve, song_curve)[shift] == pytest.approx(
            expected
        )


def test_retrieval_finds_the_matching_song_and_start_time() -> None:
    times_s = draw_irregular_times(5)
    library = SongLibrary(
        [
            make_song("other", draw_irregular_times(6)),
            make_song("matching", times_s),
            make_song("dense", np.arange(0, 8, 0.1)),
        ]
    )
    peaks_s = times_s[(times_s > 1.2) & (times_s < 7.8)] - 1.2
    clip = make_clip_features(peaks_s, duration_s=5.0)

    best = library.find_best_song(clip)

    assert best.song.name == "matching"
    assert best.start_s == pytest.approx(1.2, abs=1 / ACCENT_CURVE_HZ)
    samples = generate_samples(RetrievalGenerator(library=library), clip)
    assert len(samples) == 5 * RATE_HZ
    assert match_onsets(peaks_s[peaks_s < 4.9], detect_onsets(samples)).recall > 0.9


def test_retrieval_stretches_a_song_if_the_tempo_then_matches_better() -> None:
    times_s = draw_irregular_times(7)
    songs = [make_song("matching", times_s), make_song("other", draw_irregular_times(8))]
    clip = make_clip_features(times_s[times_s < 7.8] / 1.05, duration_s=7.0)

    unstretched = SongLibrary(songs).find_best_song(clip)
    stretched = SongLibrary(songs, (0.95, 1.0, 1.05)).find_best_song(clip)

    assert (stretched.song.name, stretched.tempo_factor) == ("matching", 1.05)
    assert stretched.similarity > unstretched.similarity + 0.2
    samples = generate_samples(RetrievalGenerator(library=SongLibrary(songs, (1.05,))), clip)
    assert (
        match_onsets(clip.peaks_s[:10], detect_onsets(samples), tolerance_s=0.05).recall > 0.7
    )


def test_retrieval_excludes_songs_of_the_clips_source() -> None:
    times_s = draw_irregular_times(9)
    songs = [
        make_song("matching", times_s, source="video"),
        make_song("other", draw_irregular_times(10)),
    ]
    clip = make_clip_features(times_s[times_s < 8])
    library = SongLibrary(songs)

    assert library.find_best_song(clip).song.name == "matching"
    own = frozenset(["video", "dancer:d04"])
    assert library.find_best_song(clip, excluded_groups=own).song.name == "other"
    with pytest.raises(InputError):
        SongLibrary(songs[:1]).find_best_song(clip, excluded_groups=own)


def test_looped_song_fades_at_the_loop_point() -> None:
    samples = np.ones(RATE_HZ, np.float32)

    looped = loop_samples(samples, RATE_HZ + 100, 3 * RATE_HZ)

    assert len(looped) == 3 * RATE_HZ
    assert looped[RATE_HZ // 2] == 1.0
    assert looped[RATE_HZ - 100] == 0.0  # the loop point
    fade = round(LOOP_FADE_S * RATE_HZ)
    assert np.all(looped[RATE_HZ - 100 + fade : 2 * RATE_HZ - 100 - fade] == 1)
    np.testing.assert_array_equal(loop_samples(samples, 0, RATE_HZ), samples)
