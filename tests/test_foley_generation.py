"""Foley Music: generation of notes and audio."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from foley_clips import make_clip, make_features, make_network
from tiny_models import TINY_FOLEY

from loris_cli.array_types import Array
from loris_cli.baselines.foley.config import FoleyConfig
from loris_cli.baselines.foley.decoding import (
    EventGrammar,
    decode_greedily,
    draw_symbol,
    sample_events,
    search_events,
)
from loris_cli.baselines.foley.events import (
    END,
    NOTE_OFF,
    NOTE_ON,
    TIME_SHIFT,
    VELOCITY,
    decode_notes,
    encode_notes,
)
from loris_cli.baselines.foley.generator import FoleyGenerator
from loris_cli.baselines.foley.method import FOLEY, encode_window
from loris_cli.baselines.foley.poses import interpolate_pose
from loris_cli.composition.arrangement import KEYS_CHANNEL
from loris_cli.config import SAMPLE_RATE_HZ

CPU = torch.device("cpu")
OFFICIAL = replace(TINY_FOLEY, compat="official")


def compose(
    config: FoleyConfig = TINY_FOLEY, *, seed: int = 0, duration_s: float = 9.0
) -> Array:
    generator = FoleyGenerator(network=make_network(config), device=CPU)
    return generator.compose(make_features(duration_s), seed=seed).note_array


@pytest.mark.slow
def test_greedy_decoding_reproduces_an_overfitted_clip() -> None:
    prepared = FOLEY.prepare_clip(make_clip(6.0), TINY_FOLEY, None)
    symbols = encode_window(prepared["notes"], 0.0, TINY_FOLEY)
    batch = {
        "pose": torch.from_numpy(interpolate_pose(prepared["pose"], 0.0))[None],
        "symbols": torch.tensor([symbols]),
    }
    network = make_network()  # in evaluation mode: no dropout
    loss = FOLEY.build_loss(network, None)
    optimizer = torch.optim.Adam(network.parameters(), lr=8e-3)
    for _ in range(90):
        optimizer.zero_grad()
        loss(batch).backward()
        optimizer.step()

    generator = FoleyGenerator(network=network, device=CPU, temperature=0.0)
    composed = generator.compose(make_features(6.0), seed=0).note_array
    beam = FoleyGenerator(network=network, device=CPU, decoding="beam")
    searched = beam.compose(make_features(6.0), seed=0).note_array

    expected = decode_notes(symbols, compat="paper")
    np.testing.assert_allclose(composed[:, [0, 1, 3, 4]], expected)
    np.testing.assert_allclose(searched, composed)


@pytest.mark.parametrize("duration_s", [0.5, 6.0, 9.3])
@pytest.mark.parametrize("config", [TINY_FOLEY, OFFICIAL])
def test_notes_of_a_take_are_inside_the_clip(config: FoleyConfig, duration_s: float) -> None:
    notes = compose(config, duration_s=duration_s)
    assert len(notes) or duration_s < 1
    assert (notes[:, 0] >= 0).all()
    assert (notes[:, 1] > 0).all()
    assert (notes[:, :2].sum(axis=1) <= duration_s + 1e-9).all()
    assert set(notes[:, 2]) <= {KEYS_CHANNEL}
    assert ((notes[:, 3] >= 21) & (notes[:, 3] <= 108)).all()
    assert ((notes[:, 4] >= 1) & (notes[:, 4] <= 127)).all()


def test_audio_has_the_length_of_the_clip_and_equal_seeds_equal_bytes() -> None:
    generator = FOLEY.build_generator
    assert generator is not None
    features = make_features(7.123)
    progress: list[tuple[int, int]] = []

    def play(seed: int) -> bytes:
        music = generator(make_network(), None, CPU)
        blocks = list(
            music.generate(features, seed=seed, progress=lambda *n: progress.append(n))
        )
        audio = np.concatenate(blocks, axis=1)
        assert audio.shape == (1, round(7.123 * SAMPLE_RATE_HZ))
        assert np.isfinite(audio).all()
        assert audio.any()
        return audio.tobytes()

    assert play(1) == play(1)
    assert play(1) != play(2)
    assert progress[:2] == [(6000, 7123), (7123, 7123)]


def test_windows_with_too_many_events_leave_no_gap() -> None:
    """The network repeats a note of 20 ms and ends no window."""
    network = make_network(replace(TINY_FOLEY, max_events=64))
    with torch.no_grad():
        network.out.bias[NOTE_ON:] = -100.0
        network.out.bias[[NOTE_ON + 40, NOTE_OFF + 40, VELOCITY + 9, TIME_SHIFT + 9]] = 100.0
    notes = FoleyGenerator(network=network, device=CPU).compose(make_features(9.0), seed=0)
    onsets_s = notes.note_array[:, 0]
    assert np.diff(onsets_s, prepend=0, append=9.0).max() < 1.0


def test_takes_without_notes_are_silent() -> None:
    network = make_network()
    with torch.no_grad():
        network.out.bias[END] = 100.0
    generator = FoleyGenerator(network=network, device=CPU)
    blocks = list(generator.generate(make_features(2.0), seed=0, progress=lambda *_: None))
    audio = np.concatenate(blocks, axis=1)
    assert audio.shape == (1, 2 * SAMPLE_RATE_HZ)
    assert not audio.any()


def test_clips_without_poses_get_notes() -> None:
    generator = FoleyGenerator(network=make_network(), device=CPU)
    arrangement = generator.compose(make_features(3.0, has_pose=False), seed=0)
    assert len(arrangement.note_array)


def test_next_window_continues_the_last_events() -> None:
    """With the prefix, the notes of the first 6 s do not depend on later windows."""
    generator = FoleyGenerator(network=make_network(), device=CPU)
    features = make_features(10.0)
    long = generator.compose(features, seed=4).note_array
    window = generator.compose(replace(features, duration_s=6.0), seed=4).note_array
    first = window[window[:, 0] < 5.9]
    np.testing.assert_array_equal(long[: len(first), 3], first[:, 3])
    np.testing.assert_allclose(long[: len(first), 0], first[:, 0], atol=0.0155)


def test_sampled_events_follow_the_grammar_and_the_limit() -> None:
    network = make_network()
    tokens = network.encode_pose(torch.randn(1, 132, 17, 3)).detach()
    prefix = encode_notes(np.array([[0.5, 0.2, 60, 64.0]]), duration_s=6.0, compat="paper")
    for events in (
        sample_events(
            network, tokens, prefix, duration_s=6.0, generator=torch.Generator().manual_seed(0)
        ),
        search_events(network, tokens, prefix, duration_s=6.0),
    ):
        assert events[: len(prefix)] == prefix
        assert len(events) <= TINY_FOLEY.max_events
        grammar = EventGrammar()
        for event in events:
            assert grammar.find_valid_symbols()[event]
            grammar.push(event)


def test_search_with_one_beam_is_greedy() -> None:
    network = make_network()
    tokens = network.encode_pose(torch.randn(1, 132, 17, 3)).detach()
    greedy = sample_events(
        network, tokens, [], duration_s=2.0, generator=torch.Generator(), temperature=0.0
    )
    assert search_events(network, tokens, [], duration_s=2.0, n_beams=1) == greedy


def test_official_decoding_does_not_stop_at_the_end_symbol() -> None:
    network = make_network(OFFICIAL)
    with torch.no_grad():
        network.out.bias[END] = 100.0
    tokens = network.encode_pose(torch.randn(1, 132, 17, 3)).detach()
    assert decode_greedily(network, tokens) == [END] * OFFICIAL.max_events


def test_nucleus_excludes_improbable_symbols() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    generator = torch.Generator().manual_seed(0)
    drawn = [draw_symbol(logits, generator, 1.0, 0.9) for _ in range(400)]
    assert set(drawn) == {0, 1, 2}
    assert np.mean(np.array(drawn) == 0) == pytest.approx(0.5 / 0.95, abs=0.08)
    assert {draw_symbol(logits, generator, 1.0, 0.4) for _ in range(20)} == {0}
