"""MIDI files of scores, read by two independent programs: mido and symusic."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import mido
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from symusic import Score

from loris_cli.array_types import Array
from loris_cli.composition.arrangement import Arrangement, compose_arrangement
from loris_cli.composition.chords import SCALES, Harmony, sample_rhythm_harmony
from loris_cli.composition.midi_file import TRACK_NAMES, encode_midi
from loris_cli.composition.styles import STYLES
from loris_cli.composition.tempo_map import MIN_PICKUP_S, TICKS_PER_BEAT, build_tempo_map
from loris_cli.config import POSE_FPS
from loris_cli.synthetic.composer import compose_score

MAX_ERROR_S = 1e-3
MIN_PEAK_DISTANCE_S = 2 / POSE_FPS
PLAUSIBLE_BPM = (40, 240)
"""Tempi from the second bar on, for peaks as far apart as those of the directogram."""
NO_NOTES = np.empty((0, 5))
LETTERS_BY_FIFTHS = "FCGDAEB"


@dataclass(frozen=True, kw_only=True)
class MidiContent:
    """Content of a MIDI file, as a reader returns it."""

    notes_by_track: dict[str, Array]
    """``(notes, 4)``: start s, end s, pitch, velocity; sorted."""
    programs: dict[str, int]
    tempi: Array
    """``(changes, 2)``: time s, bpm."""
    time_signatures: list[tuple[float, int, int]]
    keys: list[tuple[int, bool]]
    """Sharps, negative for flats, and whether the key is minor."""
    markers: list[tuple[float, str]]
    title: str


@cache
def read_with_mido(data: bytes) -> MidiContent:
    file = mido.MidiFile(file=io.BytesIO(data))
    names = {m.channel: t.name for t in file.tracks for m in t if m.type == "program_change"}
    notes: dict[str, list[tuple[float, ...]]] = {name: [] for name in names.values()}
    programs: dict[str, int] = {}
    open_notes: dict[tuple[int, int], tuple[float, int]] = {}
    events: dict[str, list[Any]] = {"tempo": [], "time": [], "key": [], "marker": []}
    time_s = 0.0
    for message in file:
        time_s += message.time
        if message.type == "note_on":
            open_notes[message.channel, message.note] = time_s, message.velocity
        elif message.type == "note_off":
            start_s, velocity = open_notes.pop((message.channel, message.note))
            notes[names[message.channel]].append((start_s, time_s, message.note, velocity))
        elif message.type == "program_change":
            programs[names[message.channel]] = message.program
        elif message.type == "set_tempo":
            events["tempo"].append((time_s, 60e6 / message.tempo))
        elif message.type == "time_signature":
            events["time"].append((time_s, message.numerator, message.denominator))
        elif message.type == "key_signature":
            events["key"].append((count_sharps(message.key), message.key.endswith("m")))
        elif message.type == "marker":
            events["marker"].append((time_s, message.text))
    assert not open_notes
    return MidiContent(
        notes_by_track={
            name: np.array(sorted(rows)).reshape(-1, 4) for name, rows in notes.items()
        },
        programs=programs,
        tempi=np.array(events["tempo"]),
        time_signatures=events["time"],
        keys=events["key"],
        markers=events["marker"],
        title=file.tracks[0].name,
    )


@cache
def read_with_symusic(data: bytes) -> MidiContent:
    score: Any = Score.from_midi(data, ttype="Second")  # its types lack all attributes
    notes = {
        track.name: np.array(
            sorted((n.time, n.time + n.duration, n.pitch, n.velocity) for n in track.notes)
        ).reshape(-1, 4)
        for track in score.tracks
    }
    return MidiContent(
        notes_by_track=notes,
        programs={track.name: track.program for track in score.tracks},
        tempi=np.array([(tempo.time, tempo.qpm) for tempo in score.tempos]),
        time_signatures=[(t.time, t.numerator, t.denominator) for t in score.time_signatures],
        keys=[(k.key, bool(k.tonality)) for k in score.key_signatures],
        markers=[(marker.time, marker.text) for marker in score.markers],
        title=mido.MidiFile(file=io.BytesIO(data)).tracks[0].name,  # symusic drops it
    )


READERS = [read_with_mido, read_with_symusic]


def count_sharps(key: str) -> int:
    """Return the number of sharps of a key such as ``Ebm``, negative for flats."""
    accidentals = key.count("#") - key.count("b")
    return LETTERS_BY_FIFTHS.index(key[0]) - 1 + 7 * accidentals - 3 * key.endswith("m")


def read_ticks(data: bytes, kind: str) -> list[tuple[int, mido.MetaMessage]]:
    """Return the events of one type in the first track, with their ticks."""
    tick, events = 0, []
    for message in mido.MidiFile(file=io.BytesIO(data)).tracks[0]:
        tick += message.time
        if message.type == kind:
            events.append((tick, message))
    return events


def read_tempo_changes(data: bytes) -> list[tuple[int, int]]:
    """Return tick and beat duration in microseconds of each tempo change."""
    return [(tick, message.tempo) for tick, message in read_ticks(data, "set_tempo")]


def ticks_to_s(ticks: NDArray[np.int64], changes: Sequence[tuple[int, int]]) -> Array:
    """Return the times of ticks with given tempo changes."""
    starts, beats_us = np.array(changes).T
    tick_s = beats_us / 1e6 / TICKS_PER_BEAT
    starts_s = np.append(0.0, np.cumsum(np.diff(starts) * tick_s[:-1]))
    part = np.searchsorted(starts, ticks, side="right") - 1
    return np.asarray(starts_s[part] + (ticks - starts[part]) * tick_s[part])


def list_bar_starts_s(data: bytes, end_s: float) -> Array:
    """Return the times of all bar lines of a file up to a time."""
    signatures = read_ticks(data, "time_signature")
    end = int(20 * TICKS_PER_BEAT * end_s)  # later than the last note at any tempo
    ticks = [
        np.arange(first, stop, 4 * TICKS_PER_BEAT * message.numerator // message.denominator)
        for (first, message), stop in zip(
            signatures, [*(tick for tick, _ in signatures[1:]), end], strict=True
        )
    ]
    bars_s = ticks_to_s(np.concatenate(ticks), read_tempo_changes(data))
    return bars_s[bars_s < end_s]


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """A score and its MIDI file."""

    arrangement: Arrangement
    harmony: Harmony
    peaks_s: Array
    duration_s: float
    data: bytes

    @property
    def markers_s(self) -> Array:
        """Times of the markers; a peak before time 0 has its marker at time 0."""
        return self.peaks_s.clip(min=0)


def sample_steady_peaks(rng: np.random.Generator, duration_s: float) -> Array:
    grid_s = np.arange(rng.uniform(0.1, 1.0), duration_s - 0.1, rng.uniform(0.42, 0.75))
    return np.asarray(grid_s + rng.normal(0, 0.012, len(grid_s)))


def sample_random_peaks(rng: np.random.Generator, duration_s: float) -> Array:
    n_most = int(duration_s / MIN_PEAK_DISTANCE_S)
    return np.asarray(rng.uniform(MIN_PEAK_DISTANCE_S, 1.6, n_most).cumsum())


def remove_middle(peaks_s: Array, duration_s: float) -> Array:
    """Remove the peaks in the middle two thirds of a piece."""
    return peaks_s[np.abs(peaks_s - duration_s / 2) > duration_s / 3]


PEAK_SAMPLERS: dict[str, Callable[[np.random.Generator, float], Array]] = {
    "steady": sample_steady_peaks,
    "random": sample_random_peaks,
    "none": lambda rng, duration_s: np.empty(0),
    "single": lambda rng, duration_s: rng.uniform(0, duration_s, 1),
    "from 0": lambda rng, duration_s: np.append(0.0, sample_random_peaks(rng, duration_s)),
    "before 0": lambda rng, duration_s: np.append(-5e-3, sample_random_peaks(rng, duration_s)),
    "near 0": lambda rng, duration_s: np.append(0.01, 0.1 + sample_steady_peaks(rng, 9.0)),
    "gap": lambda rng, duration_s: np.array([0.4, 1.1, duration_s - 0.7]),
    "steady with gap": lambda rng, duration_s: remove_middle(
        sample_steady_peaks(rng, duration_s), duration_s
    ),
}
RHYTHMS = [*PEAK_SAMPLERS, "composed"]


@cache
def make_piece(rhythm: str, seed: int, duration_s: float = 20.0) -> Piece:
    """Compose and encode a piece in the style of the seed; the peaks are its markers."""
    style = STYLES[seed % len(STYLES)]
    if rhythm == "composed":
        score = compose_score(seed, style, duration_s)
        arrangement, harmony, peaks_s = score.arrangement, score.harmony, score.accents_s
    else:
        rng = np.random.default_rng(seed)
        peaks_s = PEAK_SAMPLERS[rhythm](rng, duration_s)
        peaks_s = peaks_s[peaks_s < duration_s]
        peaks = peaks_s, rng.uniform(0.3, 1, len(peaks_s))
        harmony = sample_rhythm_harmony(*peaks, duration_s=duration_s, style=style, seed=seed)
        energy = rng.uniform(0.2, 1, round(duration_s * POSE_FPS))
        arrangement = compose_arrangement(
            *peaks, energy, harmony, duration_s=duration_s, style=style, rng=rng
        )
    markers = [(float(time_s), f"peak {k}") for k, time_s in enumerate(peaks_s)]
    return Piece(
        arrangement=arrangement,
        harmony=harmony,
        peaks_s=peaks_s,
        duration_s=duration_s,
        data=encode_midi(arrangement, harmony=harmony, markers=markers, title="piece"),
    )


def list_pieces(rhythm: str) -> list[Piece]:
    """Return four pieces of a rhythm; all styles occur among three rhythms."""
    first = 4 * RHYTHMS.index(rhythm)
    return [make_piece(rhythm, seed) for seed in range(first, first + 4)]


def assert_equal_notes(
    piece: Piece, content: MidiContent, *, max_error_s: float = MAX_ERROR_S
) -> None:
    """Assert that every note is in the file, and that the file has no others.

    Of notes of one key that begin within a millisecond the loudest remains, and a note ends
    when the next one of its key begins.
    """
    rows = piece.arrangement.note_array
    channels = set(rows[:, 2].astype(int).tolist())
    assert set(content.notes_by_track) == {TRACK_NAMES[channel] for channel in channels}
    for channel, pitch in {*map(tuple, rows[:, 2:4].astype(int).tolist())}:
        notes = rows[(rows[:, 2] == channel) & (rows[:, 3] == pitch)]
        track = content.notes_by_track[TRACK_NAMES[channel]]
        midi_notes = track[track[:, 2] == pitch]
        near = np.abs(notes[:, :1] - midi_notes[:, 0]) < max_error_s
        assert (near & (notes[:, 4:] <= midi_notes[:, 3])).any(axis=1).all()
        following_s = np.append(midi_notes[1:, 0], np.inf)
        ends_s = np.minimum(notes[:, :1] + notes[:, 1:2], following_s)
        same = near & (notes[:, 4:] == midi_notes[:, 3])
        assert (same & (np.abs(ends_s - midi_notes[:, 1]) < max_error_s)).any(axis=0).all()
    n_pitches = {name: {*track[:, 2]} for name, track in content.notes_by_track.items()}
    for channel in channels:
        assert n_pitches[TRACK_NAMES[channel]] == {*rows[rows[:, 2] == channel, 3]}


def assert_bars_line_up(piece: Piece) -> None:
    """Assert that bars begin on downbeats or, without a steady tempo, with every chord."""
    beats_s, chords_s = piece.harmony.beats_s, piece.harmony.chord_starts_s
    if len(beats_s) > 1:
        bars_s = list_bar_starts_s(piece.data, beats_s[-1] + MAX_ERROR_S)
        downbeats_s = beats_s[::4]
        after_first_s = downbeats_s[downbeats_s >= MIN_PICKUP_S]
        np.testing.assert_allclose(bars_s[1:], after_first_s, rtol=0, atol=MAX_ERROR_S)
    else:
        bars_s = list_bar_starts_s(piece.data, piece.duration_s)
        assert np.abs(chords_s[:, None] - bars_s).min(axis=1).max() < MAX_ERROR_S


def assert_plausible_tempi(piece: Piece) -> None:
    """Assert that tempi can be stored and, after the first bar, played by musicians."""
    changes = read_tempo_changes(piece.data)
    assert changes[0][0] == 0
    assert all(0 < beat_us < 1 << 24 for _, beat_us in changes)
    assert all(one[0] < other[0] and one[1] != other[1] for one, other in pairwise(changes))
    (_, first), *_ = read_ticks(piece.data, "time_signature")
    second_bar = 4 * TICKS_PER_BEAT * first.numerator // first.denominator
    tempi_bpm = [60e6 / beat_us for tick, beat_us in changes if tick >= second_bar]
    assert all(PLAUSIBLE_BPM[0] < bpm < PLAUSIBLE_BPM[1] for bpm in tempi_bpm)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("rhythm", RHYTHMS)
def test_notes_in_the_file_are_those_of_the_score(
    rhythm: str, read: Callable[[bytes], MidiContent]
) -> None:
    for piece in list_pieces(rhythm):
        content = read(piece.data)
        assert_equal_notes(piece, content)
        programs = piece.arrangement.channel_programs
        names = {TRACK_NAMES[channel]: program for channel, program in programs.items()}
        assert content.programs.items() <= names.items()


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("rhythm", RHYTHMS)
def test_markers_are_at_the_visual_peaks(
    rhythm: str, read: Callable[[bytes], MidiContent]
) -> None:
    for piece in list_pieces(rhythm):
        markers = read(piece.data).markers
        times_s = [time_s for time_s, _ in markers]
        np.testing.assert_allclose(times_s, piece.markers_s, rtol=0, atol=MAX_ERROR_S)
        assert [text for _, text in markers] == [f"peak {k}" for k in range(len(markers))]


@pytest.mark.parametrize("rhythm", RHYTHMS)
def test_bars_line_up_with_downbeats_or_chords(rhythm: str) -> None:
    for piece in list_pieces(rhythm):
        assert_bars_line_up(piece)


@pytest.mark.parametrize("rhythm", RHYTHMS)
def test_tempi_are_plausible_after_the_first_bar(rhythm: str) -> None:
    for piece in list_pieces(rhythm):
        assert_plausible_tempi(piece)


@pytest.mark.parametrize("rhythm", RHYTHMS)
def test_readers_agree_on_tempo_time_signature_and_key(rhythm: str) -> None:
    for piece in list_pieces(rhythm):
        one, other = (read(piece.data) for read in READERS)
        np.testing.assert_allclose(one.tempi, other.tempi, rtol=1e-4, atol=MAX_ERROR_S)
        assert [s[1:] for s in one.time_signatures] == [s[1:] for s in other.time_signatures]
        for (time_s, *_), (other_s, *_) in zip(
            one.time_signatures, other.time_signatures, strict=True
        ):
            assert time_s == pytest.approx(other_s, abs=MAX_ERROR_S)
        assert one.keys == other.keys


def test_pieces_of_the_tests_have_steady_and_free_tempi() -> None:
    n_steady = {
        name: sum(len(piece.harmony.beats_s) > 1 for piece in list_pieces(name))
        for name in RHYTHMS
    }
    assert n_steady["steady"] == n_steady["steady with gap"] == n_steady["near 0"] == 4
    assert n_steady["none"] == n_steady["single"] == n_steady["gap"] == n_steady["random"] == 0
    assert 0 < n_steady["composed"] < 4


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(rhythm=st.sampled_from(RHYTHMS), seed=st.integers(0, 2**31), duration_s=st.floats(2, 90))
def test_files_of_any_seed_and_length_match_their_scores(
    rhythm: str, seed: int, duration_s: float
) -> None:
    piece = make_piece.__wrapped__(rhythm, seed, duration_s)
    for read in READERS:
        assert_equal_notes(piece, read(piece.data))
    assert_bars_line_up(piece)
    assert_plausible_tempi(piece)


@pytest.mark.slow
@pytest.mark.parametrize("rhythm", ["steady", "random", "none", "gap", "composed"])
def test_files_of_ten_minutes_match_their_scores(rhythm: str) -> None:
    piece = make_piece.__wrapped__(rhythm, 7, 600.0)

    for read, max_error_s in ((read_with_mido, MAX_ERROR_S), (read_with_symusic, 5e-3)):
        content = read(piece.data)  # symusic adds up durations in single precision
        assert_equal_notes(piece, content, max_error_s=max_error_s)
        times_s = [time_s for time_s, _ in content.markers]
        np.testing.assert_allclose(times_s, piece.markers_s, rtol=0, atol=max_error_s)
    assert_bars_line_up(piece)
    assert_plausible_tempi(piece)


def make_harmony(**fields: Any) -> Harmony:
    """Harmony in C major: one chord, no subdivisions and no beats."""
    defaults: dict[str, Any] = {
        "tonic": 0,
        "scale": SCALES["major"],
        "chord_starts_s": np.zeros(1),
        "chord_degrees": np.zeros(len(fields.get("chord_starts_s", [0])), np.int64),
        "subdivisions_s": np.empty(0),
    }
    return Harmony(**{**defaults, **fields})


def make_arrangement(*notes: tuple[float, float, int, int, int]) -> Arrangement:
    """Arrangement of notes: onset s, duration s, channel, pitch, velocity."""
    return Arrangement(
        note_array=np.array(notes, dtype=np.float64).reshape(-1, 5),
        channel_programs={note[2]: 40 for note in notes},
    )


def read_note_ticks(data: bytes) -> list[tuple[int, int, int, int]]:
    """Return start, end, pitch and velocity of all notes, in order of their ends."""
    notes, open_notes = [], {}
    for track in mido.MidiFile(file=io.BytesIO(data)).tracks:
        tick = 0
        for message in track:
            tick += message.time
            if message.type == "note_on":
                assert (message.channel, message.note) not in open_notes
                open_notes[message.channel, message.note] = tick, message.velocity
            elif message.type == "note_off":
                start, velocity = open_notes.pop((message.channel, message.note))
                notes.append((start, tick, message.note, velocity))
    assert not open_notes
    return notes


def test_rounding_errors_of_tempi_do_not_add_up_in_ten_minutes() -> None:
    beats_s = 0.37 + np.cumsum(0.4612345678 + 1e-5 * np.arange(1300))
    tempo_map = build_tempo_map(make_harmony(beats_s=beats_s))

    ticks = tempo_map.to_ticks(beats_s)
    assert beats_s[-1] > 600
    np.testing.assert_array_equal(np.diff(ticks), TICKS_PER_BEAT)
    assert np.abs(ticks_to_s(ticks, tempo_map.changes) - beats_s).max() < 2e-6


def test_a_first_beat_after_one_second_has_a_pickup_bar() -> None:
    tempo_map = build_tempo_map(make_harmony(beats_s=1.0 + 0.5 * np.arange(20)))

    assert tempo_map.signatures == ((0, 8, 16), (1920, 4, 4))
    assert tempo_map.changes == ((0, 500_000),)
    np.testing.assert_array_equal(
        tempo_map.to_ticks(np.array([-1.0, 0.0, 1.0, 1.25, 1e3])), [0, 0, 1920, 2400, 1_920_000]
    )


def test_a_first_beat_at_0_begins_the_first_bar() -> None:
    tempo_map = build_tempo_map(make_harmony(beats_s=0.01 + 0.6 * np.arange(20)))

    assert tempo_map.signatures == ((0, 4, 4),)
    assert tempo_map.changes == ((0, 610_000), (960, 600_000))


def test_a_chord_without_a_steady_tempo_is_a_bar_of_eighths() -> None:
    harmony = make_harmony(
        chord_starts_s=np.array([0.0, 1.5, 3.0]),
        subdivisions_s=np.array([0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.3, 3.6, 3.9]),
    )
    tempo_map = build_tempo_map(harmony)

    assert tempo_map.signatures == ((0, 3, 8), (2880, 4, 8))
    assert tempo_map.changes == ((0, 1_000_000), (2880, 600_000))


def test_a_long_chord_is_divided_into_bars_of_eight_eighths() -> None:
    tempo_map = build_tempo_map(make_harmony(subdivisions_s=0.25 * np.arange(21)))
    assert tempo_map.signatures == ((0, 8, 8), (3840, 13, 8))


def test_tempi_of_extreme_intervals_are_in_the_range_of_midi() -> None:
    times_s = np.array([0.0, 100.0, 100.0000001, 100.0000002, 300.0, 301.0])
    harmony = make_harmony(subdivisions_s=times_s)
    arrangement = make_arrangement(*((t, 0.1, 2, 60 + k, 9) for k, t in enumerate(times_s)))

    data = encode_midi(arrangement, harmony=harmony)

    assert all(0 < beat_us < 1 << 24 for _, beat_us in read_tempo_changes(data))
    notes = read_with_mido(data).notes_by_track["Keys"]
    np.testing.assert_allclose(notes[:, 0], times_s, rtol=0, atol=0.01)  # ticks of 17 ms


def test_a_score_without_harmony_has_120_bpm_and_no_key() -> None:
    for read in READERS:
        content = read(encode_midi(make_arrangement((0.25, 0.5, 3, 60, 90))))
        np.testing.assert_array_equal(content.tempi, [(0, 120)])
        assert content.time_signatures == [(0, 4, 4)]
        assert content.keys == []
        np.testing.assert_allclose(content.notes_by_track["Lead"], [(0.25, 0.75, 60, 90)])


@pytest.mark.parametrize("scale", SCALES)
def test_key_signatures_have_the_pitch_classes_of_the_scale(scale: str) -> None:
    for tonic in range(12):
        harmony = make_harmony(tonic=tonic, scale=SCALES[scale])
        data = encode_midi(make_arrangement((0, 1, 2, 60, 90)), harmony=harmony)
        for read in READERS:
            [(n_sharps, is_minor)] = read(data).keys
            # C major is seven fifths from F on; a sharp moves them by a fifth.
            fifths = range(n_sharps - 1, n_sharps + 6)
            assert {7 * k % 12 for k in fifths} == {(tonic + s) % 12 for s in SCALES[scale]}
            assert is_minor == (scale == "minor")


def test_the_loudest_of_notes_on_one_tick_remains() -> None:
    data = encode_midi(
        make_arrangement(
            (1.0, 0.5, 2, 60, 80), (1.0001, 0.25, 2, 60, 99), (1.0002, 0.5, 2, 61, 70)
        )
    )
    assert read_note_ticks(data) == [(1920, 2400, 60, 99), (1920, 2880, 61, 70)]


def test_a_note_ends_when_its_key_is_repeated() -> None:
    data = encode_midi(make_arrangement((0.0, 3.0, 2, 60, 80), (1.0, 1e-9, 2, 60, 99)))
    assert read_note_ticks(data) == [(0, 1920, 60, 80), (1920, 1921, 60, 99)]


def test_notes_before_time_0_begin_at_tick_0() -> None:
    data = encode_midi(make_arrangement((-0.5, 1.0, 2, 60, 80), (-0.25, 0.5, 2, 60, 70)))
    assert read_note_ticks(data) == [(0, 960, 60, 80)]


@pytest.mark.parametrize("rhythm", RHYTHMS)
def test_no_two_notes_of_one_key_overlap(rhythm: str) -> None:
    for piece in list_pieces(rhythm):
        assert all(start < end for start, end, _, _ in read_note_ticks(piece.data))


def test_every_instrument_has_a_track_with_program_and_volume() -> None:
    piece = make_piece("composed", 8)
    volumes = np.linspace(0, 1, 16)

    data = encode_midi(piece.arrangement, harmony=piece.harmony, channel_volumes=volumes)

    file = mido.MidiFile(file=io.BytesIO(data))
    assert (file.type, file.ticks_per_beat) == (1, 960)
    channels = sorted(set(piece.arrangement.note_array[:, 2].astype(int).tolist()))
    assert [track.name for track in file.tracks[1:]] == [TRACK_NAMES[c] for c in channels]
    for track, channel in zip(file.tracks[1:], channels, strict=True):
        _, program, volume, *others = track
        assert {m.channel for m in track if not m.is_meta} == {channel}
        assert program.program == piece.arrangement.channel_programs[channel]
        assert (volume.control, volume.value) == (7, round(127 * volumes[channel]))
        assert not {"program_change", "control_change"} & {m.type for m in others}


def test_a_score_without_notes_is_a_valid_file() -> None:
    data = encode_midi(make_arrangement(), markers=[(1.5, "end")])
    for read in READERS:
        content = read(data)
        [(time_s, text)] = content.markers
        assert time_s == pytest.approx(1.5)
        assert text == "end"
        assert content.notes_by_track == {}


@pytest.mark.parametrize(
    "title", ["Café 音楽 🎹", "line\nbreak", "surrogate \udcff", "x" * 9999]
)
def test_titles_and_markers_of_any_characters_are_escaped(title: str) -> None:
    data = encode_midi(make_arrangement((0, 1, 2, 60, 9)), markers=[(0.5, title)], title=title)
    for read in READERS:
        content = read(data)
        [(_, text)] = content.markers
        for escaped in (content.title, text):
            assert escaped.isascii()
            assert escaped.encode().decode("unicode_escape") == title


def test_equal_scores_have_equal_bytes() -> None:
    piece = make_piece("random", 4)
    assert make_piece.__wrapped__("random", 4).data == piece.data
    assert make_piece.__wrapped__("random", 5).data != piece.data
