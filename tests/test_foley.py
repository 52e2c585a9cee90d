"""Foley Music: network, training examples, configuration."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from foley_clips import make_clip, make_network
from tiny_models import TINY_FOLEY

from loris_cli.baselines.foley.config import COMPACT_CONFIG, FULL_CONFIG, FoleyConfig
from loris_cli.baselines.foley.events import (
    END,
    N_SYMBOLS,
    PADDING,
    START,
)
from loris_cli.baselines.foley.method import FOLEY, FoleyLoss, encode_window
from loris_cli.baselines.foley.network import FoleyNetwork
from loris_cli.baselines.foley.poses import interpolate_pose, move_camera
from loris_cli.baselines.foley.relative_attention import (
    RelativeAttention,
    merge_heads,
    split_heads,
)
from loris_cli.config import POSE_FPS
from loris_cli.errors import InputError
from loris_cli.models.checkpoint_format import checkpoint_metadata, read_config
from loris_cli.models.empty_networks import empty_networks

OFFICIAL = replace(TINY_FOLEY, compat="official")


def make_batch(config: FoleyConfig, size: int = 2) -> dict[str, torch.Tensor]:
    prepared = FOLEY.prepare_clip(make_clip(), config, None)
    rng = np.random.default_rng(0)
    examples = [FOLEY.draw_example(prepared, config, rng) for _ in range(size)]
    return {key: torch.stack([example[key] for example in examples]) for key in examples[0]}


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
