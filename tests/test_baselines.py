"""Makers of music by rules: known answers on steady and on shuffled peaks."""

from functools import partial

import numpy as np
import pytest

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

RATE_HZ = 22_050


def features(peaks_s: Array, duration_s: float = 8.0, energy: float = 0.5) -> ClipFeatures:
    strengths = np.linspace(0.35, 1, len(peaks_s)) if len(peaks_s) else np.zeros(0)
    return ClipFeatures(
        duration_s=duration_s,
        peaks_s=peaks_s,
        strengths=strengths,
        energy=np.full(round(16 * duration_s), energy),
    )


def irregular(seed: int, duration_s: float = 8.0) -> Array:
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.uniform(0.25, 0.7, round(2 * duration_s)))


def song(name: str, accents_s: Array, *, duration_s: float = 8.0, source: str = "") -> Song:
    inside = accents_s[accents_s < duration_s - 0.1]
    hits: list[DrumHit] = [(time_s, "kick", 1.0) for time_s in inside.tolist()]
    return Song(
        name=name,
        source=source or name,
        duration_s=duration_s,
        accents_s=inside,
        strengths=np.ones(len(inside)),
        read_samples=partial(render_drum_hits, hits, round(duration_s * RATE_HZ), seed=0),
    )


def generate_samples(generator: MusicGenerator, clip: ClipFeatures, seed: int = 0) -> Samples:
    blocks = generator.generate(clip, seed=seed, progress=lambda done, total: None)
    samples: Samples = np.concatenate(list(blocks), axis=1)[0]
    return samples


@pytest.mark.parametrize(
    "generator", [DrumGenerator(place_hits_on_peaks), DrumGenerator(place_hits_on_grid)]
)
@pytest.mark.parametrize("n_peaks", [0, 1, 12])
def test_a_sound_is_as_long_as_the_clip_and_its_seed_alone_decides(
    generator: MusicGenerator, n_peaks: int
) -> None:
    clip = features(irregular(0)[:n_peaks], duration_s=7.3)

    one, again, other = (generate_samples(generator, clip, seed) for seed in (0, 0, 1))

    assert len(one) == round(7.3 * RATE_HZ)
    assert np.abs(one).max() <= MAX_AMPLITUDE
    np.testing.assert_array_equal(one, again)
    assert np.array_equal(one, other) == (not one.any())


def test_drums_are_heard_on_the_peaks_and_nowhere_else() -> None:
    peaks_s = irregular(1)
    peaks_s = peaks_s[peaks_s < 7.8]

    samples = generate_samples(DrumGenerator(place_hits_on_peaks), features(peaks_s))
    match = match_onsets(peaks_s, detect_onsets(samples))

    assert match.recall > 0.9
    assert match.precision > 0.9
    hits = place_hits_on_peaks(features(peaks_s))
    assert {time_s for time_s, _, _ in hits} == set(peaks_s.tolist())
    assert hits[0][1] == "hat"  # the weakest
    assert [drum for _, drum, _ in hits[-2:]] == ["snare", "kick"]  # the strongest


@pytest.mark.parametrize("drum", DRUM_SOUNDS)
def test_a_drum_begins_at_its_moment(drum: DrumName) -> None:
    sound = render_drum_hits([(0.5, drum, 1.0)], RATE_HZ, seed=0)

    first = int(np.flatnonzero(sound)[0])
    assert 0 <= first - RATE_HZ // 2 <= 1
    assert not render_drum_hits(
        [(-0.1, "kick", 1.0), (1.5, "kick", 1.0)], RATE_HZ, seed=0
    ).any()


@pytest.mark.parametrize("bpm", [80.0, 97.0, 123.5, 155.0])
def test_a_groove_finds_tempo_and_phase(bpm: float) -> None:
    beats_s = 0.21 + 60 / bpm * np.arange(20)
    some = np.delete(beats_s, [2, 3, 7, 11])

    found, phase_s = fit_tempo_and_phase(some, np.ones(len(some)))

    assert found == pytest.approx(bpm, abs=0.3)
    assert phase_s == pytest.approx(0.21, abs=0.01)
    assert fit_tempo_and_phase(np.zeros(0), np.zeros(0)) == (FALLBACK_BPM, 0.0)


def test_a_livelier_bar_has_more_hits() -> None:
    clip = features(np.arange(0.0, 16.0, 0.5), duration_s=16.0)
    rising = ClipFeatures(**{**vars(clip), "energy": np.linspace(0, 1, 256)})
    times_s = np.array([time_s for time_s, _, _ in place_hits_on_grid(rising)])

    assert (times_s >= 12).sum() > 1.5 * (times_s < 4).sum()


def test_the_cosine_is_one_at_the_shift_that_was_made() -> None:
    curve = compute_accent_curve(irregular(2), np.ones(16), 8.0)

    found = compute_shift_similarity(np.roll(curve, -123), curve)

    assert found.argmax() == 123
    assert found[123] == pytest.approx(1.0)
    assert not compute_shift_similarity(np.zeros(50), curve).any()


def test_by_hand_and_by_transform_the_cosine_is_the_same() -> None:
    clip_curve, song_curve = (
        compute_accent_curve(irregular(3), np.ones(16), 11.0),
        compute_accent_curve(irregular(4), np.ones(16), 7.0),
    )
    for shift in (0, 250, 699):
        looped = song_curve[(shift + np.arange(len(clip_curve))) % len(song_curve)]
        expected = looped @ clip_curve / np.linalg.norm(looped) / np.linalg.norm(clip_curve)
        assert compute_shift_similarity(clip_curve, song_curve)[shift] == pytest.approx(
            expected
        )


def test_the_song_of_the_body_is_chosen_and_played_from_the_right_moment() -> None:
    times_s = irregular(5)
    songs = [
        song("other", irregular(6)),
        song("own", times_s),
        song("dense", np.arange(0, 8, 0.1)),
    ]
    later_s = times_s[(times_s > 1.2) & (times_s < 7.8)] - 1.2
    clip = features(later_s, duration_s=5.0)

    chosen = SongLibrary(songs).find_best_song(clip)

    assert chosen.song.name == "own"
    assert chosen.start_s == pytest.approx(1.2, abs=1 / ACCENT_CURVE_HZ)
    sound = generate_samples(RetrievalGenerator(library=SongLibrary(songs)), clip)
    assert len(sound) == 5 * RATE_HZ
    assert match_onsets(later_s[later_s < 4.9], detect_onsets(sound)).recall > 0.9


def test_a_song_is_stretched_where_that_fits_better() -> None:
    times_s = irregular(7)
    songs = [song("own", times_s), song("other", irregular(8))]
    faster = features(times_s[times_s < 7.8] / 1.05, duration_s=7.0)

    plain = SongLibrary(songs).find_best_song(faster)
    stretched = SongLibrary(songs, (0.95, 1.0, 1.05)).find_best_song(faster)

    assert (stretched.song.name, stretched.tempo_factor) == ("own", 1.05)
    assert stretched.similarity > plain.similarity + 0.2
    sound = generate_samples(RetrievalGenerator(library=SongLibrary(songs, (1.05,))), faster)
    assert match_onsets(faster.peaks_s[:10], detect_onsets(sound), window_s=0.05).recall > 0.7


def test_a_song_of_the_clips_own_source_is_never_taken() -> None:
    times_s = irregular(9)
    songs = [song("own", times_s, source="video"), song("other", irregular(10))]
    clip = features(times_s[times_s < 8])

    assert SongLibrary(songs).find_best_song(clip).song.name == "own"
    assert SongLibrary(songs).find_best_song(clip, excluded_source="video").song.name == "other"
    with pytest.raises(InputError, match="no song of another source"):
        SongLibrary(songs[:1]).find_best_song(clip, excluded_source="video")


def test_a_song_begins_again_where_it_ends() -> None:
    samples = np.ones(RATE_HZ, np.float32)

    found = loop_samples(samples, RATE_HZ + 100, 3 * RATE_HZ)

    assert len(found) == 3 * RATE_HZ
    assert found[RATE_HZ // 2] == 1.0
    assert found[RATE_HZ - 100] == 0.0  # where it begins again
    fade = round(LOOP_FADE_S * RATE_HZ)
    assert np.all(found[RATE_HZ - 100 + fade : 2 * RATE_HZ - 100 - fade] == 1)
    np.testing.assert_array_equal(loop_samples(samples, 0, RATE_HZ), samples)
