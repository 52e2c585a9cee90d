"""Foley Music: network, training examples, generation."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from tiny_models import TINY_FOLEY

from loris_cli.array_types import Array
from loris_cli.baselines.foley.config import COMPACT_CONFIG, FULL_CONFIG, FoleyConfig
from loris_cli.baselines.foley.decoding import (
    EventGrammar,
    decode_greedily,
    draw_symbol,
    sample_events,
    search_events,
)
from loris_cli.baselines.foley.events import (
    END,
    N_SYMBOLS,
    PADDING,
    START,
    decode_notes,
    encode_notes,
)
from loris_cli.baselines.foley.generator import FoleyGenerator
from loris_cli.baselines.foley.method import FOLEY, FoleyLoss, encode_window
from loris_cli.baselines.foley.network import FoleyNetwork
from loris_cli.baselines.foley.poses import interpolate_pose, move_camera
from loris_cli.baselines.foley.relative_attention import (
    RelativeAttention,
    merge_heads,
    split_heads,
)
from loris_cli.baselines.learned_method import TrainingClip
from loris_cli.composition.arrangement import DRUM_CHANNEL, KEYS_CHANNEL, Arrangement
from loris_cli.config import POSE_FPS, SAMPLE_RATE_HZ
from loris_cli.errors import InputError
from loris_cli.models.checkpoint_format import checkpoint_metadata, read_config
from loris_cli.models.empty_networks import empty_networks
from loris_cli.models.generator_interface import VideoFeatures

CPU = torch.device("cpu")
OFFICIAL = replace(TINY_FOLEY, compat="official")


def make_features(duration_s: float, *, has_pose: bool = True) -> VideoFeatures:
    """Features of a person who moves at random."""
    n_frames = round(duration_s * POSE_FPS)
    steps = np.random.default_rng(3).normal(size=(n_frames, 17, 2))
    keypoints = np.concatenate([200 + steps.cumsum(axis=0), np.ones((n_frames, 17, 1))], axis=2)
    return VideoFeatures(
        duration_s=duration_s,
        peaks_s=np.empty(0),
        strengths=np.empty(0),
        energy=np.zeros(n_frames),
        keypoints=keypoints if has_pose else None,
    )


def make_clip(duration_s: float = 8.0, *, has_pose: bool = True) -> TrainingClip:
    """Clip with a rising scale of piano notes and a kick on every note."""
    onsets_s = np.arange(0.4, duration_s - 1, 0.5)
    rows = [(t, 0.3, KEYS_CHANNEL, 60 + k, 40 + 4 * k) for k, t in enumerate(onsets_s)]
    drums = [(t, 0.1, DRUM_CHANNEL, 36, 90) for t in onsets_s]
    arrangement = Arrangement(
        note_array=np.array(sorted(rows + drums), dtype=np.float64),
        channel_programs={KEYS_CHANNEL: 0, DRUM_CHANNEL: 0},
    )
    return TrainingClip(
        clip_id="scale",
        features=make_features(duration_s, has_pose=has_pose),
        read_samples=lambda: np.zeros(round(duration_s * SAMPLE_RATE_HZ), np.float32),
        arrangement=arrangement,
    )


def make_network(config: FoleyConfig = TINY_FOLEY, seed: int = 0) -> FoleyNetwork:
    torch.manual_seed(seed)
    return FoleyNetwork(config).eval()


def make_batch(config: FoleyConfig, size: int = 2) -> dict[str, torch.Tensor]:
    prepared = FOLEY.prepare_clip(make_clip(), config, None)
    rng = np.random.default_rng(0)
    examples = [FOLEY.draw_example(prepared, config, rng) for _ in range(size)]
    return {key: torch.stack([example[key] for example in examples]) for key in examples[0]}


def compose(
    config: FoleyConfig = TINY_FOLEY, *, seed: int = 0, duration_s: float = 9.0
) -> Array:
    generator = FoleyGenerator(network=make_network(config), device=CPU)
    return generator.compose(make_features(duration_s), seed=seed).note_array


def test_network_sizes_have_the_expected_parameter_counts() -> None:
    with empty_networks():
        full, compact = FoleyNetwork(FULL_CONFIG), FoleyNetwork(COMPACT_CONFIG)
    assert sum(p.numel() for p in full.parameters()) == 22_579_191
    assert sum(p.numel() for p in compact.parameters()) == 4_940_299
    assert FULL_CONFIG.n_pose_tokens == COMPACT_CONFIG.n_pose_tokens == 33


@pytest.mark.parametrize("config", [TINY_FOLEY, OFFICIAL])
def test_logits_have_the_documented_shape(config: FoleyConfig) -> None:
    network = make_network(config)
    pose = torch.randn(2, 132, 17, 3)
    assert network.encode_pose(pose).shape == (2, config.n_pose_tokens, config.features)
    logits = network(pose, torch.randint(0, N_SYMBOLS, (2, 9)))
    assert logits.shape == (2, 9, N_SYMBOLS)
    assert logits.isfinite().all()


def test_relative_attention_equals_the_direct_formula() -> None:
    torch.manual_seed(1)
    length, heads, max_length = 5, 2, 8
    attention = RelativeAttention(8, heads, max_length, 0.0).eval()
    x = torch.randn(3, length, 8)
    query, key, value = (split_heads(p, heads) for p in attention.qkv(x).chunk(3, dim=-1))
    weights = torch.zeros(3, heads, length, length)
    for i in range(length):
        for j in range(i + 1):
            distance = attention.distances[max_length - 1 - (i - j)]
            scores = (query[:, :, i] * (key[:, :, j] + distance)).sum(-1) / 2.0
            weights[:, :, i, j] = scores.exp()
    weights = weights / weights.sum(dim=-1, keepdim=True)
    expected = attention.out(merge_heads(weights @ value))
    torch.testing.assert_close(attention(x), expected)


def test_decoding_with_a_cache_equals_full_sequences() -> None:
    network = make_network()
    pose, symbols = torch.randn(2, 132, 17, 3), torch.randint(0, 240, (2, 12))
    with torch.no_grad():
        full = network(pose, symbols)
        cache = network.start_decoding(network.encode_pose(pose))
        parts = [network.decode(symbols[:, :5], cache)]
        parts += [network.decode(symbols[:, k : k + 1], cache) for k in range(5, 12)]
    torch.testing.assert_close(torch.cat(parts, dim=1), full, atol=1e-5, rtol=1e-4)


def test_logits_do_not_depend_on_later_symbols() -> None:
    network = make_network()
    pose, symbols = torch.randn(1, 132, 17, 3), torch.randint(0, 240, (1, 8))
    changed = symbols.clone()
    changed[0, 5:] = 7
    with torch.no_grad():
        logits, others = network(pose, symbols), network(pose, changed)
    torch.testing.assert_close(logits[:, :5], others[:, :5])
    assert not torch.allclose(logits[:, 5:], others[:, 5:])


def test_pose_tokens_have_positions_unless_official() -> None:
    """A person who stands still has equal tokens, except at the padded ends."""
    pose = torch.ones(1, 132, 17, 3)
    with torch.no_grad():
        paper = make_network().encode_pose(pose)[0, 12:20]
        official = make_network(OFFICIAL).encode_pose(pose)[0, 12:20]
    torch.testing.assert_close(official, official[:1].expand_as(official))
    assert (paper - paper[:1]).abs().max() > 0.1


@pytest.mark.parametrize("config", [TINY_FOLEY, OFFICIAL])
def test_gradients_reach_every_parameter(config: FoleyConfig) -> None:
    network = make_network(config).train()
    loss = FOLEY.build_loss(network, None)
    assert loss.network is network
    loss(make_batch(config)).backward()
    missing = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert not missing


def test_loss_ignores_padding() -> None:
    network = make_network()
    batch = make_batch(TINY_FOLEY, size=1)
    symbols = batch["symbols"]
    n_symbols = int((symbols != PADDING).sum())
    with torch.no_grad():
        logits = network(batch["pose"], symbols[:, : n_symbols - 1])
        log_probabilities = logits.log_softmax(-1)[0]
        picked = log_probabilities[torch.arange(n_symbols - 1), symbols[0, 1:n_symbols]]
        torch.testing.assert_close(FoleyLoss(network)(batch), -picked.mean())


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
    for _ in range(120):
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


def test_example_has_fixed_sizes_and_starts_and_ends() -> None:
    config = replace(TINY_FOLEY, max_events=128)
    batch = make_batch(config, size=3)
    assert batch["pose"].shape == (3, 132, 17, 3)
    assert batch["pose"].dtype == torch.float32
    assert batch["symbols"].shape == (3, config.max_events + 1)
    assert batch["symbols"].dtype == torch.int64
    assert (batch["symbols"][:, 0] == START).all()
    assert ((batch["symbols"] == END).sum(dim=1) == 1).all()


def test_truncated_examples_end_only_if_official() -> None:
    notes = FOLEY.prepare_clip(make_clip(), TINY_FOLEY, None)["notes"]
    short = replace(TINY_FOLEY, max_events=20)
    paper = encode_window(notes, 0.0, short)
    official = encode_window(notes, 0.0, replace(short, compat="official"))
    assert len(paper) == len(official) == 21
    assert END not in paper
    assert official[-1] == END


def test_equal_random_generators_draw_equal_examples() -> None:
    first, second = make_batch(TINY_FOLEY), make_batch(TINY_FOLEY)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_prepared_clip_has_pitched_notes_and_normalized_poses() -> None:
    prepared = FOLEY.prepare_clip(make_clip(), TINY_FOLEY, None)
    assert prepared["pose"].shape == (128, 17, 3)
    assert np.abs(prepared["pose"][..., :2]).max() <= 3
    assert prepared["notes"][:, 2].tolist() == list(range(60, 60 + len(prepared["notes"])))


def test_clip_without_poses_or_notes_is_rejected() -> None:
    with pytest.raises(InputError):
        FOLEY.prepare_clip(make_clip(has_pose=False), TINY_FOLEY, None)
    silent = replace(make_clip(), arrangement=None)  # silence has no notes
    with pytest.raises(InputError):
        FOLEY.prepare_clip(silent, TINY_FOLEY, None)


def test_poses_are_interpolated_to_22_hz() -> None:
    times_s = np.arange(160) / POSE_FPS
    pose = np.broadcast_to(times_s[:, None, None], (160, 17, 3))
    window = interpolate_pose(pose, 2.0)
    np.testing.assert_allclose(window[:, 0, 0], 2.0 + np.arange(132) / 22, atol=1e-5)
    late = interpolate_pose(pose, 8.0)
    np.testing.assert_allclose(late[-1], times_s[-1], atol=1e-5)


def test_moving_camera_is_affine_and_keeps_absent_joints() -> None:
    rng = np.random.default_rng(5)
    pose = rng.normal(size=(132, 17, 3)).astype(np.float32)
    pose[..., 2] = 1.0
    pose[:, 4] = 0.0
    moved = move_camera(pose, np.random.default_rng(1))
    assert (moved[:, 4] == 0).all()
    assert (moved[..., 2] == pose[..., 2]).all()
    lengths = np.linalg.norm(pose[:, 0, :2] - pose[:, 1, :2], axis=1)
    moved_lengths = np.linalg.norm(moved[:, 0, :2] - moved[:, 1, :2], axis=1)
    scales = moved_lengths / lengths
    other = np.linalg.norm(moved[:, 2, :2] - moved[:, 3, :2], axis=1)
    np.testing.assert_allclose(
        other, scales * np.linalg.norm(pose[:, 2, :2] - pose[:, 3, :2], axis=1), rtol=1e-4
    )
    assert 0.9 - 1e-4 <= scales.min() <= scales.max() <= 1.1 + 1e-4
    assert not np.allclose(moved, pose)


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
    assert progress[:2] == [(1, 2), (2, 2)]


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


def test_state_dict_round_trip_gives_equal_logits() -> None:
    network = make_network(seed=1)
    with empty_networks():
        loaded = FoleyNetwork(TINY_FOLEY)
    loaded.load_state_dict(network.state_dict(), assign=True)
    pose, symbols = torch.randn(1, 132, 17, 3), torch.randint(0, 240, (1, 5))
    with torch.no_grad():
        expected = network(pose, symbols)
        torch.testing.assert_close(loaded.eval()(pose, symbols), expected)


def test_configuration_survives_checkpoint_metadata() -> None:
    for config in (FULL_CONFIG, COMPACT_CONFIG, OFFICIAL):
        text = checkpoint_metadata("mini", foley=config)["loris.foley"]
        assert read_config(FoleyConfig, text) == config


@pytest.mark.parametrize(
    "change",
    [
        {"unit_channels": (4,)},
        {"unit_channels": (), "unit_strides": ()},
        {"unit_channels": (4, 4096)},
        {"unit_strides": (0, 2)},
        {"n_joints": 25},
        {"features": 15},
        {"features": 4096},
        {"heads": 3},
        {"heads": 0},
        {"n_layers": 100},
        {"ff_features": 0},
        {"max_events": 10**6},
        {"compat": "strict"},
    ],
)
def test_invalid_configurations_are_rejected(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        FoleyConfig(**{**asdict(TINY_FOLEY), **change})
