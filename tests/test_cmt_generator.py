"""Control of CMT by a video, sampling of words, and generation of music."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from builders import make_features
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cmt_words import make_training_clip
from tiny_models import TINY_CMT

from loris_cli.array_types import Array, Samples
from loris_cli.baselines.bar_grid import TICKS_PER_BAR, BarGrid
from loris_cli.baselines.cmt.generator import CmtGenerator, build_initial_tokens
from loris_cli.baselines.cmt.method import CMT
from loris_cli.baselines.cmt.network import CmtConfig, CmtNetwork
from loris_cli.baselines.cmt.official_sampling import sample_as_released
from loris_cli.baselines.cmt.sampling import (
    MAX_WORDS_PER_BAR,
    ControlledSampler,
    allow_beats,
)
from loris_cli.baselines.cmt.video_control import (
    MAX_TICK_COUNT,
    MIN_TICK_COUNT,
    STRENGTHS_BY_CLASS,
    BarControl,
    VideoControl,
    control_from_video,
    rank_values,
)
from loris_cli.baselines.cmt.word_context import SamplingSettings, WordContext
from loris_cli.baselines.cmt.words import (
    BAR,
    MAX_NOTES_PER_BEAT_WORD,
    N_TIMES,
    VOCABULARY_SIZES,
    Column,
    Track,
    Words,
    WordType,
    decode_words,
    encode_words,
)
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.models.generator_interface import ClipFeatures

BPM = 120.0
BAR_S = 2.0
GREEDY = SamplingSettings(nucleus=1e-9, beat_temperature=1e-6)


def make_network(**changes: Any) -> CmtNetwork:
    torch.manual_seed(0)
    return CmtNetwork(replace(TINY_CMT, **changes)).eval()


def make_generator(**changes: Any) -> CmtGenerator:
    return CmtGenerator(network=make_network(**changes))


def make_dance(
    duration_s: float = 8.0, *, phase_s: float = 0.25, **fields: Any
) -> ClipFeatures:
    """Features with a peak on every beat at 120 bpm, the first of each bar twice as strong."""
    peaks_s = np.arange(phase_s, duration_s, 0.5)
    strengths = np.where(np.arange(len(peaks_s)) % 4 == 0, 1.0, 0.5)
    defaults: dict[str, Any] = {"strengths": strengths, "genre": "house"}
    return make_features(duration_s, peaks_s, **{**defaults, **fields})


def make_sampler(
    control: VideoControl, *, seed: int = 0, probability: float = 1.0, **changes: Any
) -> ControlledSampler:
    return ControlledSampler(
        network=make_network(**changes),
        control=control,
        initial=build_initial_tokens("house", tuple(Track), compat="paper"),
        rng=np.random.default_rng(seed),
        control_probability=probability,
    )


def ignore_progress(done: int, total: int) -> None:
    assert 0 <= done <= total


def sample(control: VideoControl, **arguments: Any) -> Words:
    return make_sampler(control, **arguments).sample(ignore_progress)


def split_bars(words: Words) -> list[Words]:
    starts = np.flatnonzero(words[:, Column.BEAT] == BAR)
    return np.split(words, starts[1:])


def generate_samples(generator: CmtGenerator, features: ClipFeatures, seed: int = 0) -> Samples:
    blocks = list(generator.generate(features, seed=seed, progress=ignore_progress))
    return np.concatenate(blocks, axis=1)


# Rules


def test_bars_and_ticks_follow_the_visual_beats() -> None:
    control = control_from_video(make_dance(), compat="paper")
    grid = control.grid

    assert grid.tick_s == pytest.approx(0.125)
    assert grid.start_s == pytest.approx(0.25 - BAR_S)
    assert grid.start_s + grid.n_bars * grid.bar_s >= 8.0
    assert control.n_ticks == round((8.0 - grid.start_s) / grid.tick_s)
    for bar in control.bars[1:-1]:
        assert 0 in bar.strength_classes
        assert set(bar.strength_classes) <= {0, 4, 8, 12}


def test_bars_start_at_zero_in_the_official_mode() -> None:
    control = control_from_video(make_dance(), compat="official")
    assert control.grid.start_s == 0.0
    assert control.grid.n_bars == 4
    assert set(control.bars[1].strength_classes) == {2, 6, 10, 14}


def test_no_bar_precedes_the_clip() -> None:
    control = control_from_video(make_dance(phase_s=0.0), compat="paper")
    assert control.grid.start_s + control.grid.bar_s > 0.0


def test_more_motion_gives_more_ticks_with_notes() -> None:
    energy = np.repeat([0.1, 0.9, 0.3, 0.6], 32)
    for compat in ("paper", "official"):
        features = make_dance(phase_s=0.0, energy=energy)
        classes = [
            bar.density_class for bar in control_from_video(features, compat=compat).bars[-4:]
        ]
        assert np.argsort(classes).tolist() == [0, 2, 3, 1]
    assert BarControl(density_class=0, strength_classes={}).n_ticks == MIN_TICK_COUNT
    assert BarControl(density_class=16, strength_classes={}).n_ticks == MAX_TICK_COUNT


def test_stronger_visual_beats_have_higher_strength_classes() -> None:
    features = make_dance(strengths=np.linspace(0.1, 1.0, 16))
    control = control_from_video(features, compat="paper")
    classes = [strength for bar in control.bars for strength in bar.strength_classes.values()]
    assert classes == sorted(classes)
    assert len(classes) < 16  # the weakest class is omitted
    assert classes[0] == 1
    assert classes[-1] == 9
    assert all(len(table) == 10 for table in STRENGTHS_BY_CLASS.values())


def test_strongest_peak_of_a_tick_counts() -> None:
    features = make_features(4.0, [0.0, 1.0, 1.01, 2.0], strengths=np.array([0.2, 1, 0.3, 0.5]))
    control = control_from_video(features, compat="paper")
    assert max(bar for c in control.bars for bar in c.strength_classes.values()) == 8


def test_equal_values_have_the_median_rank() -> None:
    assert rank_values(np.full(5, 0.3)).tolist() == [0.5] * 5
    assert rank_values(np.array([3.0, 1.0, 2.0, 4.0])).tolist() == [0.625, 0.125, 0.375, 0.875]


def test_video_without_peaks_has_control() -> None:
    features = make_features(3.0, [], energy=np.zeros(48))
    for compat in ("paper", "official"):
        control = control_from_video(features, compat=compat)
        assert len(control.bars) >= 2
        assert not any(bar.strength_classes for bar in control.bars)


# Sampling


def test_draws_respect_nucleus_and_allowed_values() -> None:
    rng, logits = np.random.default_rng(0), np.log([0.5, 0.3, 0.15, 0.05])
    draw = SamplingSettings(nucleus=0.75).draw
    drawn = {draw(Column.PITCH, logits, rng) for _ in range(200)}
    allowed = np.array([False, True, True, True])
    masked = {draw(Column.PITCH, logits, rng, allowed=allowed) for _ in range(200)}
    beats = {draw(Column.BEAT, logits, rng) for _ in range(500)}
    assert drawn == {0, 1}
    assert masked == {1, 2}
    assert beats == {0, 1, 2, 3}


def test_temperature_flattens_the_draws_of_durations() -> None:
    rng, logits = np.random.default_rng(0), np.array([0.0, 2.0])
    draw = SamplingSettings(nucleus=1.0, duration_temperature=4.0).draw
    share = np.mean([draw(Column.DURATION, logits, rng) for _ in range(4000)])
    assert share == pytest.approx(1 / (1 + np.exp(-0.5)), abs=0.03)


@settings(deadline=None, max_examples=100)
@given(
    visual_ticks=st.sets(st.integers(0, 15), max_size=16),
    n_extra=st.integers(0, 16),
    seed=st.integers(0, 1000),
)
def test_every_bar_can_be_completed(visual_ticks: set[int], n_extra: int, seed: int) -> None:
    rng, visual_beats = np.random.default_rng(seed), dict.fromkeys(visual_ticks, 5)
    n_ticks = min(len(visual_ticks) + n_extra, TICKS_PER_BAR)
    ticks: list[int] = []
    for n_left in range(n_ticks, -1, -1):
        allowed = np.flatnonzero(allow_beats(ticks[-1] if ticks else -1, n_left, visual_beats))
        beat = int(rng.choice(allowed))
        if n_left == 0:
            assert beat == BAR
            break
        ticks.append(beat - 1)
    assert ticks == sorted(set(ticks))
    assert visual_ticks <= set(ticks)
    assert len(ticks) == n_ticks


@pytest.mark.parametrize("probability", [0.0, 0.7, 1.0])
def test_sampled_words_form_a_valid_piece(probability: float) -> None:
    control = control_from_video(make_dance(12.0), compat="paper")
    words = sample(control, probability=probability)

    assert (words[:, :7] < np.array(VOCABULARY_SIZES)).all()
    assert (words[:, Column.TIME] >= 1).all()
    assert (words[:, Column.TIME] < N_TIMES).all()
    assert (np.diff(words[:, Column.TIME]) >= 0).all()
    assert len(split_bars(words)) == len(control.bars)
    # A valid piece is what the notes that it stands for are encoded as.
    notes = decode_words(words)
    assert (notes[:, 3] >= 1).all()
    encoded = encode_words(notes, n_bars=len(control.bars), n_ticks=control.n_ticks)[:-1]
    has_pitch = encoded[:, Column.PITCH] > 0
    np.testing.assert_array_equal(encoded[~has_pitch], words[words[:, Column.PITCH] == 0])


@pytest.mark.parametrize("seed", [0, 1])
def test_with_full_control_the_words_are_those_of_the_video(seed: int) -> None:
    energy = np.repeat(np.linspace(0.1, 0.9, 6), 32)
    features = make_dance(12.0, phase_s=0.0, energy=energy)
    control = control_from_video(features, compat="paper")
    words = sample(control, seed=seed)

    densities = []
    for bar, expected in zip(split_bars(words), control.bars, strict=True):
        n_visual_beats = len(expected.strength_classes)
        densities.append(int(bar[0, Column.DENSITY]) - 1)
        assert densities[-1] == max(expected.n_ticks, n_visual_beats)
        beats = bar[bar[:, Column.STRENGTH] > 0]
        assert len(np.unique(beats[:, Column.BEAT])) == densities[-1]
        for tick, strength_class in expected.strength_classes.items():
            on_tick = beats[beats[:, Column.BEAT] == tick + 1]
            assert on_tick[0, Column.TRACK] == Track.DRUMS
            for word in on_tick:
                table = STRENGTHS_BY_CLASS[Track(word[Column.TRACK])]
                assert word[Column.STRENGTH] == table[strength_class]
    assert densities[-6:] == sorted(densities[-6:])
    assert densities[-1] > densities[-6]


def test_strong_visual_beats_have_more_drums() -> None:
    features = make_dance(12.0, strengths=np.tile([1.0, 0.4, 0.6, 0.4], 6))
    control = control_from_video(features, compat="paper")
    notes = decode_words(sample(control))
    drums = notes[notes[:, 1] == Track.DRUMS, 0]
    strong, weak = (
        [
            int((drums == bar * 16 + tick).sum())
            for bar, c in enumerate(control.bars)
            for tick, strength in c.strength_classes.items()
            if strength == (8 if is_strong else 2)
        ]
        for is_strong in (True, False)
    )
    assert min(strong) > max(weak)


def test_without_control_density_and_strength_are_drawn() -> None:
    control = control_from_video(make_dance(12.0), compat="paper")
    bars = split_bars(sample(control, probability=0.0))[1:]
    expected = [max(bar.n_ticks, len(bar.strength_classes)) for bar in control.bars[1:]]
    assert [int(bar[0, Column.DENSITY]) - 1 for bar in bars] != expected


def test_context_slides_and_equals_a_new_one() -> None:
    control = control_from_video(make_dance(10.0), compat="paper")
    words = sample(control)
    network = make_network()
    assert len(words) > 2 * network.config.context_words

    initial = build_initial_tokens("house", tuple(Track), compat="paper")
    context = WordContext(network, initial)
    lengths, logits = [], []
    for word in words:
        attributes = {Column(k): int(word[k]) for k in range(7) if word[k]}
        context.append(attributes, tick=int(word[Column.TICK]), time=int(word[Column.TIME]))
        lengths.append(len(context.rows) - context._first)
        logits.append(context.predict_attributes(WordType.NOTE)[Column.PITCH])

    assert max(lengths) == network.config.context_words
    np.testing.assert_array_equal(context.to_words(), words)
    recent = torch.from_numpy(words[context._first :].copy())[None]
    recent[..., Column.TICK] -= recent[0, 0, Column.TICK] // TICKS_PER_BAR * TICKS_PER_BAR
    types = torch.full(recent.shape[:2], int(WordType.NOTE))
    with torch.no_grad():
        at_once = network(torch.from_numpy(initial)[None], recent, types)[Column.PITCH][0]
    # The words before the last restart were predicted with an earlier context.
    n_after = len(lengths) - 1 - int(np.flatnonzero(np.diff(lengths) < 0)[-1])
    assert n_after > 1
    expected = np.stack(logits[-n_after:])
    np.testing.assert_allclose(expected, at_once[-n_after:], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["softmax", "linear"])
def test_sampling_in_steps_equals_one_pass(kind: str) -> None:
    network = make_network(attention=kind)
    words = CMT.prepare_clip(make_training_clip(), TINY_CMT, None)["words"][:80].astype(int)
    initial = build_initial_tokens("house", tuple(Track), compat="paper")
    context = WordContext(network, initial)
    logits = []
    for word in words:
        attributes = {Column(k): int(word[k]) for k in range(7)}
        context.append(attributes, tick=int(word[Column.TICK]), time=int(word[Column.TIME]))
        logits.append(np.concatenate(context.predict_attributes(WordType.METER)))
    types = torch.full((1, len(words)), int(WordType.METER))
    with torch.no_grad():
        at_once = network(torch.from_numpy(initial)[None], torch.from_numpy(words)[None], types)
    expected = torch.cat(at_once, dim=-1)[0].double().numpy()
    np.testing.assert_allclose(np.stack(logits), expected, rtol=1e-3, atol=1e-4)


def test_bars_end_if_the_network_prefers_large_chords() -> None:
    network = make_network()
    for column, value in ((Column.STRENGTH, MAX_NOTES_PER_BEAT_WORD), (Column.DENSITY, 17)):
        bias = network.get_parameter(f"heads.{int(column)}.bias")
        with torch.no_grad():
            bias[value] = 1e3
    control = control_from_video(make_dance(4.0), compat="paper")
    sampler = replace(make_sampler(control, probability=0.0), network=network)
    bars = split_bars(sampler.sample(ignore_progress))
    lengths = [len(bar) for bar in bars]
    assert max(lengths) > MAX_WORDS_PER_BAR
    assert max(lengths) <= MAX_WORDS_PER_BAR + MAX_NOTES_PER_BEAT_WORD + 2 * TICKS_PER_BAR


@pytest.mark.slow
def test_overfitted_network_reproduces_a_piece() -> None:
    prepared = CMT.prepare_clip(make_training_clip(seed=3), TINY_CMT, None)
    bars = split_bars(prepared["words"].astype(np.int64)[:-1])[1:3]
    n_ticks = len(bars) * TICKS_PER_BAR
    notes = decode_words(np.concatenate(bars))
    words = encode_words(notes, n_bars=len(bars), n_ticks=n_ticks)
    config = CmtConfig(layers=2, width=64, heads=2, feedforward=128, context_words=256)
    torch.manual_seed(0)
    network = CmtNetwork(config).eval()  # without dropout
    piece = {**prepared, "words": words}
    example = CMT.draw_example(piece, config, np.random.default_rng(0))
    batch = {
        "initial": example["initial"][None],
        **{
            name: example[name][None, : len(words) - 1] for name in ("words", "targets", "mask")
        },
    }
    loss_module = CMT.build_loss(network, None)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(140):
        loss = loss_module(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.01

    counts = [int(bar[0, Column.DENSITY]) - 1 for bar in bars]
    control = VideoControl(
        grid=BarGrid(start_s=0.0, tick_s=0.125, n_bars=len(bars)),
        bars=tuple(
            BarControl(density_class=2 * (count - MIN_TICK_COUNT), strength_classes={})
            for count in counts
        ),
        n_ticks=n_ticks,
    )
    assert [bar.n_ticks for bar in control.bars] == counts
    sampler = ControlledSampler(
        network=network,
        control=control,
        initial=prepared["initial"].astype(np.int64),
        rng=np.random.default_rng(0),
        control_probability=0.0,
        settings=GREEDY,
    )
    sampled = sampler.sample(ignore_progress)
    # No bar word follows the last tick in training, so the network may add notes to that tick.
    np.testing.assert_array_equal(sampled[: len(words) - 1], words[:-1])
    last_beat = words[:, Column.BEAT][words[:, Column.BEAT] > 0][-1]
    assert set(sampled[len(words) - 1 :, Column.BEAT].tolist()) <= {0, int(last_beat)}


# Released procedure


def test_official_words_have_three_tracks_on_each_visual_beat() -> None:
    control = control_from_video(make_dance(8.0), compat="official")
    sampler = make_sampler(control, compat="official")
    sampler = replace(sampler, initial=build_initial_tokens(None, (), compat="official"))
    words = sample_as_released(sampler, ignore_progress)

    assert (words[:, :7] < np.array(VOCABULARY_SIZES)).all()
    assert words[0, Column.BEAT] == BAR
    expected = [
        (tick + 1, track, strength + 1)
        for bar in control.bars
        for tick, strength in bar.strength_classes.items()
        for track in (1, 2, 3)
    ]
    columns = [Column.BEAT, Column.TRACK, Column.STRENGTH]
    remaining = iter(words[words[:, Column.TYPE] == WordType.METER][:, columns].tolist())
    if WordType.END not in words[:, Column.TYPE]:
        assert all(any(tuple(row) == key for row in remaining) for key in expected)


@pytest.mark.parametrize("seed", range(4))
def test_official_sampling_always_ends(seed: int) -> None:
    features = make_dance(4.0)
    arrangement = make_generator(compat="official").compose(features, seed)
    notes = arrangement.note_array
    assert ((notes[:, 0] >= 0) & (notes[:, 0] < 4.0)).all()


# Generator


@pytest.mark.parametrize("duration_s", [0.3, 1.0, 3.77])
@pytest.mark.parametrize("compat", ["paper", "official"])
def test_audio_of_cmt_has_the_length_of_the_clip(duration_s: float, compat: str) -> None:
    features = make_dance(duration_s, phase_s=0.1)
    samples = generate_samples(make_generator(compat=compat), features)
    assert samples.shape == (2, round(duration_s * SAMPLE_RATE_HZ))
    assert np.isfinite(samples).all()


def test_notes_of_cmt_are_inside_the_clip() -> None:
    features = make_dance(9.1)
    arrangement = make_generator().compose(features, 3)
    onset_s, length_s, channel, pitch, velocity = arrangement.note_array.T
    assert len(onset_s) > 20
    assert ((onset_s >= 0) & (onset_s < 9.1)).all()
    assert (length_s > 0).all()
    assert (onset_s + length_s <= 9.1 + 1e-9).all()
    assert ((pitch >= 0) & (pitch < 128)).all()
    assert ((velocity > 0) & (velocity < 128)).all()
    assert set(channel.astype(int).tolist()) <= set(arrangement.channel_programs)


def test_onsets_are_on_the_ticks_of_the_visual_tempo() -> None:
    onset_s = make_generator().compose(make_dance(phase_s=0.25), 0).note_array[:, 0]
    ticks = onset_s / 0.125
    assert np.abs(ticks - ticks.round()).max() < 1e-6


def test_seed_determines_the_music_of_cmt() -> None:
    features, generator = make_dance(1.5), make_generator()
    first, second = (generate_samples(generator, features, seed=5) for _ in range(2))
    other = generate_samples(generator, features, seed=6)
    assert first.tobytes() == second.tobytes()
    assert first.tobytes() != other.tobytes()


def test_global_random_state_is_not_used() -> None:
    features, generator = make_dance(1.5), make_generator()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = generator.compose(features, 5).note_array
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second = generator.compose(features, 5).note_array
    np.testing.assert_array_equal(first, second)


def test_genre_selects_instruments_and_initial_token() -> None:
    generator = make_generator()
    house, skate = (
        generator.compose(make_dance(1.0, genre=genre), 0) for genre in ("house", "skate")
    )
    assert house.channel_programs != skate.channel_programs
    assert house.note_array.tolist() != skate.note_array.tolist()
    without = generator.compose(make_dance(1.0, genre=None), 0)
    assert set(without.channel_programs) == set(house.channel_programs)


@pytest.mark.parametrize("compat", ["paper", "official"])
@pytest.mark.parametrize("duration_s", [0.3, 3.0])
def test_progress_of_cmt_reaches_its_total(duration_s: float, compat: str) -> None:
    reports: list[tuple[int, int]] = []
    features = make_features(duration_s, [], genre="house")
    blocks = make_generator(compat=compat).generate(
        features, seed=0, progress=lambda done, total: reports.append((done, total))
    )
    list(blocks)
    done: Array = np.array([report[0] for report in reports], dtype=float)
    assert (np.diff(done) >= 0).all()
    assert done.min() >= 0
    assert reports[-1][0] == reports[-1][1]
    assert len({total for _, total in reports}) == 1


def test_built_generator_is_in_evaluation_mode() -> None:
    assert CMT.build_generator is not None
    network = make_network().train()
    generator = CMT.build_generator(network, None, torch.device("cpu"))
    assert isinstance(generator, CmtGenerator)
    assert not network.training
