"""Compound words of CMT: notes on a grid, and examples for training."""

from dataclasses import replace

import numpy as np
import pytest
from builders import make_features
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import TINY_CMT

from loris_cli.baselines.bar_grid import TICKS_PER_BAR, BarGrid
from loris_cli.baselines.cmt.grid_notes import (
    CHANNELS,
    build_arrangement,
    quantize_arrangement,
)
from loris_cli.baselines.cmt.method import CMT, draw_example, prepare_clip
from loris_cli.baselines.cmt.words import (
    BAR,
    N_TIMES,
    VOCABULARY_SIZES,
    Column,
    GridNotes,
    Track,
    WordType,
    decode_words,
    encode_words,
)
from loris_cli.baselines.learned_method import TrainingClip
from loris_cli.composition.arrangement import TIMPANI_CHANNEL, Arrangement
from loris_cli.composition.chords import Harmony
from loris_cli.composition.styles import STYLES_BY_NAME
from loris_cli.errors import InputError
from loris_cli.synthetic.composer import compose_score

N_BARS = 3
CLIP_S = 12.0


@st.composite
def draw_grid_notes(draw: st.DrawFn) -> GridNotes:
    """Notes in three bars with different keys, in order of tick, track and pitch."""
    keys = draw(
        st.lists(
            st.tuples(
                st.integers(0, N_BARS * TICKS_PER_BAR - 1),
                st.integers(1, 5),
                st.integers(0, 127),
            ),
            max_size=40,
            unique=True,
        )
    )
    rows = [(*key, draw(st.integers(1, 16))) for key in sorted(keys)]
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


def make_training_clip(seed: int = 0, genre: str = "house") -> TrainingClip:
    """Clip of a composed piece; the tempo of the default is steady."""
    score = compose_score(seed, STYLES_BY_NAME[genre], CLIP_S)
    return TrainingClip(
        clip_id="clip",
        features=make_features(CLIP_S, genre=genre),
        read_samples=lambda: np.zeros(0, dtype=np.float32),
        arrangement=score.arrangement,
        harmony=score.harmony,
    )


@settings(deadline=None, max_examples=60)
@given(notes=draw_grid_notes())
def test_notes_are_restored_from_their_words(notes: GridNotes) -> None:
    words = encode_words(notes, n_bars=N_BARS, n_ticks=N_BARS * TICKS_PER_BAR)
    np.testing.assert_array_equal(decode_words(words), notes)


@settings(deadline=None, max_examples=60)
@given(notes=draw_grid_notes())
def test_words_announce_the_ticks_and_notes_that_follow(notes: GridNotes) -> None:
    words = encode_words(notes, n_bars=N_BARS, n_ticks=N_BARS * TICKS_PER_BAR)

    assert (words[:, :7] < np.array(VOCABULARY_SIZES)).all()
    assert (words >= 0).all()
    assert words[:, Column.TIME].max() < N_TIMES
    assert words[-1, Column.TYPE] == WordType.END
    bars = np.flatnonzero(words[:, Column.BEAT] == BAR)
    assert len(bars) == N_BARS
    for first, end in zip(bars, [*bars[1:], len(words) - 1], strict=True):
        bar = words[first:end]
        beats = bar[1:][bar[1:, Column.TYPE] == WordType.METER]
        ticks = np.unique(beats[:, Column.BEAT])
        assert bar[0, Column.DENSITY] - 1 == len(ticks)
        later = [int((ticks > beat).sum()) for beat in beats[:, Column.BEAT]]
        assert (beats[:, Column.DENSITY] - 1).tolist() == later
        assert beats[:, Column.STRENGTH].sum() == (bar[:, Column.TYPE] == WordType.NOTE).sum()


def test_equal_notes_are_merged_and_large_chords_are_limited() -> None:
    chord = np.array([[4, Track.PIANO, pitch, 2] for pitch in range(60, 85)])
    repeated = np.array([[4, Track.PIANO, 60, 8]])

    words = encode_words(np.concatenate([chord, repeated]), n_bars=1, n_ticks=16)

    notes = decode_words(words)
    assert len(notes) == VOCABULARY_SIZES[Column.STRENGTH] - 1
    assert notes[0].tolist() == [4, Track.PIANO, 60, 8]


def test_quantized_notes_are_on_the_ticks_of_the_beats() -> None:
    beats_s = np.arange(0.3, 6.0, 0.5)
    onset_s = np.array([0.3, 0.3 + 0.25 + 0.01, 0.3 + 2.0 - 0.02, 0.05, 5.925])
    notes = np.stack([onset_s, [0.125, 5.0, 0.01, 0.2, 0.5], [9, 0, 3, 1, 2]], axis=1)
    notes = np.column_stack([notes, [36, 40, 72, 55, 60], [90, 90, 90, 90, 90]])

    grid_notes, n_ticks = quantize_arrangement(
        Arrangement(note_array=notes, channel_programs={}), beats_s, duration_s=7.0
    )

    expected = [
        [16, Track.DRUMS, 36, 1],
        [18, Track.BASS, 40, 16],
        [32, Track.GUITAR, 72, 1],
        [14, Track.STRINGS, 55, 2],
        [61, Track.PIANO, 60, 4],
    ]
    assert grid_notes.tolist() == expected
    assert n_ticks == 16 + round((7.0 - 0.3) / 0.125)


def test_grid_without_a_pickup_starts_with_the_first_beat() -> None:
    notes = np.array([[0.0, 0.5, 9.0, 36.0, 90.0]])
    arrangement = Arrangement(note_array=notes, channel_programs={})
    grid_notes, n_ticks = quantize_arrangement(
        arrangement, np.arange(0, 4, 0.5), duration_s=4.0
    )
    assert grid_notes[0, 0] == 0
    assert n_ticks == 32


def test_arrangement_of_composed_piece_is_restored_to_half_a_tick() -> None:
    clip = make_training_clip()
    assert clip.arrangement is not None
    assert clip.harmony is not None
    beats_s = clip.harmony.beats_s
    notes, n_ticks = quantize_arrangement(clip.arrangement, beats_s, duration_s=CLIP_S)
    tick_s = float(np.diff(beats_s).mean()) / 4
    start_s = beats_s[0] - (16 * tick_s if beats_s[0] > tick_s / 2 else 0)
    grid = BarGrid(start_s=float(start_s), tick_s=tick_s, n_bars=-(-n_ticks // 16))
    words = encode_words(notes, n_bars=grid.n_bars, n_ticks=n_ticks)

    restored = build_arrangement(
        decode_words(words), grid, duration_s=CLIP_S, programs={}
    ).note_array

    original = clip.arrangement.note_array
    original = original[original[:, 2] != TIMPANI_CHANNEL]
    for channel in CHANNELS.values():
        before, after = (rows[rows[:, 2] == channel] for rows in (original, restored))
        assert len(after) <= len(before)
        for row in before.tolist():
            same_pitch = after[after[:, 3] == row[3]]
            assert np.abs(same_pitch[:, 0] - row[0]).min() <= tick_s * 0.51


def test_notes_outside_the_clip_are_cut() -> None:
    grid = BarGrid(start_s=-1.05, tick_s=0.125, n_bars=2)
    notes = np.array(
        [[0, 1, 36, 1], [7, 1, 35, 1], [8, 1, 38, 4], [22, 2, 60, 16], [25, 2, 60, 1]]
    )
    arrangement = build_arrangement(notes, grid, duration_s=2.0, programs={9: 0})
    assert arrangement.note_array[:, :2].round(6).tolist() == [[0.0, 0.5], [1.7, 0.3]]


def test_clips_without_notes_or_steady_tempo_are_refused() -> None:
    clip = make_training_clip()
    assert clip.arrangement is not None
    assert clip.harmony is not None
    free = replace(clip, harmony=replace(clip.harmony, beats_s=np.empty(0)))
    timpani = clip.arrangement.note_array.copy()
    timpani[:, 2] = TIMPANI_CHANNEL
    silent = replace(clip, arrangement=replace(clip.arrangement, note_array=timpani))
    for unusable in (
        replace(clip, arrangement=None),
        replace(clip, harmony=None),
        free,
        silent,
    ):
        with pytest.raises(InputError) as raised:
            prepare_clip(unusable, TINY_CMT)
        assert raised.value.hint


def test_initial_tokens_are_genre_and_tracks_of_the_piece() -> None:
    clip = make_training_clip()
    assert clip.arrangement is not None
    drums = clip.arrangement.note_array[clip.arrangement.note_array[:, 2] == 9]
    only_drums = replace(clip, arrangement=replace(clip.arrangement, note_array=drums))

    initial = prepare_clip(only_drums, TINY_CMT)["initial"]
    official = prepare_clip(only_drums, replace(TINY_CMT, compat="official"))["initial"]

    assert initial[:, 0].tolist() == [8, 0, 0, 0, 0, 0, 0]
    assert initial[:, 2].tolist() == [0, 0, 1, 0, 0, 0, 0]
    assert official[:, 0].tolist() == [5, 0, 0, 0, 0, 0, 0]
    assert official[:, 2].tolist() == [0, 0, 1, 2, 3, 4, 5]


def test_examples_are_crops_from_a_bar_on() -> None:
    prepared = CMT.prepare_clip(make_training_clip(), TINY_CMT, None)
    words, rng = prepared["words"], np.random.default_rng(0)
    starts = set()
    for _ in range(30):
        example = draw_example(prepared, TINY_CMT, rng)
        n_targets = int(example["mask"].sum())
        first = example["words"].numpy()
        assert first[0, Column.BEAT] == BAR
        assert first[0, Column.TICK] == 0
        matches = [
            start
            for start in range(len(words) - n_targets)
            if (words[start : start + n_targets, :8] == first[:n_targets, :8]).all()
        ]
        assert len(matches) == 1
        starts.add(matches[0])
        targets = words[matches[0] + 1 : matches[0] + 1 + n_targets, :7]
        np.testing.assert_array_equal(example["targets"][:n_targets], targets)
        ticks = first[:n_targets, Column.TICK] - first[0, Column.TICK]
        expected = words[matches[0] : matches[0] + n_targets, Column.TICK]
        np.testing.assert_array_equal(ticks, expected - expected[0])
    assert len(starts) > 3


def test_examples_of_a_short_piece_end_with_the_last_word() -> None:
    prepared = prepare_clip(make_training_clip(), TINY_CMT)
    config = replace(TINY_CMT, context_words=1024)
    n_words = len(prepared["words"])

    example = draw_example(prepared, config, np.random.default_rng(0))
    official = draw_example(
        prepared, replace(config, compat="official"), np.random.default_rng(0)
    )

    assert example["words"].shape == (1024, 9)
    assert int(example["mask"].sum()) == n_words - 1
    assert int(official["mask"].sum()) == n_words
    assert example["targets"][n_words - 2, Column.TYPE] == WordType.END
    assert (example["words"] >= 0).all()


def test_harmony_of_another_time_base_is_accepted() -> None:
    clip = make_training_clip()
    assert clip.harmony is not None
    assert isinstance(clip.harmony, Harmony)
    early = replace(clip, harmony=clip.harmony.shift(-3.0))
    words = prepare_clip(early, TINY_CMT)["words"]
    assert words[words[:, Column.TYPE] != WordType.END, Column.TICK].min() == 0
