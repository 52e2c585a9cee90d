"""CDCD: configuration, examples, network, loss, and generation with a tiny VQ-VAE."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from tiny_models import TINY_CDCD, TINY_CODEC
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import default_collate

from loris_cli.array_types import Samples
from loris_cli.baselines.cdcd import examples
from loris_cli.baselines.cdcd.condition import CdcdCondition
from loris_cli.baselines.cdcd.config import CONFIGS, TOKEN_HOP_SAMPLES, CdcdConfig
from loris_cli.baselines.cdcd.generator import CdcdGenerator, build_condition
from loris_cli.baselines.cdcd.loss import CdcdLoss
from loris_cli.baselines.cdcd.method import CDCD
from loris_cli.baselines.cdcd.network import Block, CdcdNetwork
from loris_cli.baselines.learned_method import Compat, Example, PreparedClip, TrainingClip
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import InputError, WeightsError
from loris_cli.models.checkpoint_format import read_config
from loris_cli.models.empty_networks import empty_networks
from loris_cli.models.generator_interface import VideoFeatures
from loris_cli.models.vqvae import VqVae

VARIANTS = {
    "paper": TINY_CDCD,
    "grouped": replace(TINY_CDCD, tokens_per_position=4),
    "visual": replace(TINY_CDCD, visual_width=6),
    "official": replace(TINY_CDCD, compat="official", visual_width=6),
}
CPU = torch.device("cpu")


def make_codec() -> VqVae:
    torch.manual_seed(0)
    codec = VqVae(TINY_CODEC)
    codec(torch.randn(1, 64 * TOKEN_HOP_SAMPLES))  # initializes the codebook
    return codec.eval()


def make_features(duration_s: float, *, seed: int = 0, visual: int = 0) -> VideoFeatures:
    rng = np.random.default_rng(seed)
    n_frames = round(16 * duration_s)
    keypoints = rng.uniform(0, 100, (n_frames, 17, 3))
    keypoints[..., 2] = 1
    return VideoFeatures(
        duration_s=duration_s,
        peaks_s=np.array([]),
        strengths=np.array([]),
        energy=np.zeros(n_frames),
        genre="pop",
        keypoints=keypoints,
        visual=rng.standard_normal((int(2 * duration_s) + 1, visual)) if visual else None,
    )


def make_prepared(config: CdcdConfig, *, seed: int = 0, n_codes: int = 80) -> PreparedClip:
    rng = np.random.default_rng(seed)
    return {
        "codes": rng.integers(config.n_codes, size=max(n_codes, config.n_tokens)).astype(
            np.int16
        ),
        "motion": rng.standard_normal((40, 68)).astype(np.float32),
        "visual": rng.standard_normal((6, config.visual_width)).astype(np.float32),
        "genre": np.array(seed % 12),
    }


def make_batch(config: CdcdConfig, *, size: int = 4, seed: int = 0) -> Example:
    rng = np.random.default_rng(seed)
    prepared = make_prepared(config)
    batch: Example = default_collate(
        [examples.draw_example(prepared, config, rng) for _ in range(size)]
    )
    return batch


def make_network(config: CdcdConfig) -> CdcdNetwork:
    torch.manual_seed(0)
    return CdcdNetwork(config)


def make_generator(config: CdcdConfig = TINY_CDCD, codec: VqVae | None = None) -> CdcdGenerator:
    assert CDCD.build_generator is not None
    generator = CDCD.build_generator(make_network(config), codec or make_codec(), CPU)
    return cast(CdcdGenerator, generator)


def generate(generator: CdcdGenerator, features: VideoFeatures, seed: int = 0) -> Samples:
    blocks = generator.generate(features, seed=seed, progress=lambda done, total: None)
    return np.concatenate(list(blocks), axis=1)


def count_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def train(
    config: CdcdConfig, draw_batch: Callable[[np.random.Generator], Example], n_steps: int
) -> CdcdLoss:
    loss_module = CdcdLoss(make_network(config))
    parameters = [p for p in loss_module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, 3e-3)
    rng = np.random.default_rng(0)
    for _ in range(n_steps):
        optimizer.zero_grad()
        loss_module(draw_batch(rng)).backward()
        nn.utils.clip_grad_norm_(parameters, 0.5)
        optimizer.step()
    return loss_module.eval()


@pytest.mark.parametrize(
    "change",
    [
        {"n_codes": 1}, {"n_tokens": 7}, {"n_steps": 1}, {"width": 2**20}, {"width": 34},
        {"depth": 0}, {"heads": 0}, {"n_sampling_steps": 11}, {"motion_hidden": 47},
        {"motion_channels": (8, 8)}, {"motion_channels": (8, 8, 10**6)},
        {"visual_width": -1}, {"n_negatives": -1}, {"tokens_per_position": 0},
        {"genre_features": 0},
    ],
    ids=lambda change: "-".join(f"{key}={value}" for key, value in change.items()),
)  # fmt: skip
def test_invalid_config_is_rejected(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change)).split("_")[0]):
        CdcdConfig(**{**asdict(TINY_CDCD), **change})


@pytest.mark.parametrize(
    ("compat", "transformer", "condition"),
    [("official", 407_198_720, 40_037_537), ("paper", 407_198_720, 21_461_248)],
)
def test_full_network_has_the_size_of_the_publication(
    compat: Compat, transformer: int, condition: int
) -> None:
    with empty_networks():
        network = CdcdNetwork(replace(CONFIGS["full"], compat=compat))
    n_condition = count_parameters(network.condition)
    assert n_condition == condition
    assert count_parameters(network) - n_condition == transformer


def test_compact_network_has_fewer_than_15_million_parameters() -> None:
    with empty_networks():
        network = CdcdNetwork(CONFIGS["compact"])
    assert 8e6 < count_parameters(network) < 15e6


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_gradients_reach_all_parameters_that_train(config: CdcdConfig) -> None:
    loss_module = CdcdLoss(make_network(config))
    batch = make_batch(config)
    batch["step_quantile"] = torch.tensor([0.0, 0.3, 0.6, 0.99])

    loss_module(batch).backward()

    for name, parameter in loss_module.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


def test_official_encoders_of_motion_and_genre_are_not_trained() -> None:
    condition = make_network(VARIANTS["official"]).condition
    frozen = {n.split(".")[0] for n, p in condition.named_parameters() if not p.requires_grad}
    assert frozen == {"motion", "genre"}
    assert all(p.requires_grad for p in make_network(TINY_CDCD).parameters())


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_network_returns_probabilities_of_all_tokens(config: CdcdConfig) -> None:
    network = make_network(config)
    batch = make_batch(config)
    condition = network.encode_condition(examples.batch_condition(batch))
    log_start = network(batch["codes"], condition, torch.tensor([0, 3, 5, 9]))
    assert log_start.shape == (4, 35, 16)
    torch.testing.assert_close(log_start.exp().sum(dim=2), torch.ones(4, 35))


def test_codes_of_similar_sound_begin_with_similar_embeddings() -> None:
    codec = make_codec()
    with torch.no_grad():
        codec.quantizer.codebook[1] = 1.01 * codec.quantizer.codebook[0]
        codec.quantizer.codebook[2] = -codec.quantizer.codebook[0]
    loss = CDCD.build_loss(make_network(TINY_CDCD), codec)
    assert isinstance(loss, CdcdLoss)
    for weight in (loss.network.tokens.weight, loss.network.logits.weight):
        near, far = (functional.cosine_similarity(weight[0], weight[k], dim=0) for k in (1, 2))
        assert near > 0.9 > far
        assert float(weight.detach().std()) == pytest.approx(0.02, rel=0.5)


def test_condition_has_a_token_per_frame_row_and_genre() -> None:
    batch = make_batch(VARIANTS["visual"])
    tokens = make_network(VARIANTS["visual"]).encode_condition(examples.batch_condition(batch))
    assert tokens.tokens.shape == (4, 3 + 1 + 1, 32)
    assert tokens.times is not None
    assert tokens.times.shape == (5, 32)

    batch = make_batch(VARIANTS["official"])
    network = make_network(VARIANTS["official"])
    tokens = network.encode_condition(examples.batch_condition(batch))
    assert tokens.tokens.shape == (4, 1, 32)
    assert tokens.times is None


def test_attention_to_the_condition_begins_at_the_same_time() -> None:
    config = replace(TINY_CDCD, n_tokens=1033)
    network = make_network(config)
    batch = make_batch(config, size=1)
    condition = network.encode_condition(examples.batch_condition(batch))
    assert condition.times is not None
    attention = cast(Block, network.blocks[0]).cross_attention

    query = attention.query(network.times)
    key = attention.key(condition.times[:-1])  # without the genre, which has no time

    frames = (query @ key.T).argmax(dim=1)
    expected = (torch.arange(1033) * TOKEN_HOP_SAMPLES / SAMPLE_RATE_HZ * 16).long()
    assert ((frames - expected).abs() <= 1).float().mean() > 0.95


@pytest.mark.parametrize("config", [*CONFIGS.values(), TINY_CDCD])
def test_configuration_survives_a_round_trip_through_json(config: CdcdConfig) -> None:
    assert read_config(CdcdConfig, json.dumps(asdict(config))) == config


def test_state_dict_restores_the_network() -> None:
    batch = make_batch(TINY_CDCD)
    network = make_network(TINY_CDCD)
    with empty_networks():
        restored = CdcdNetwork(TINY_CDCD)
    restored.load_state_dict(network.state_dict(), assign=True)
    steps = torch.tensor([0, 3, 5, 9])
    before, after = (
        n(batch["codes"], n.encode_condition(examples.batch_condition(batch)), steps)
        for n in (network, restored)
    )
    assert torch.equal(before, after)


def test_negative_samples_are_permuted_chunks() -> None:
    codes = torch.arange(35)[None]
    orders = torch.tensor([[[1, 0, 2, 3, 4, 5, 7, 6], [0, 1, 2, 3, 4, 5, 6, 7]]])
    permuted = examples.permute_chunks(codes, orders)[0]
    expected = [*range(4, 8), *range(4), *range(8, 24), *range(28, 32), *range(24, 28)]
    assert permuted[0].tolist() == [*expected, 32, 33, 34]
    assert permuted[1].tolist() == list(range(35))


def test_loss_combines_bound_auxiliary_and_contrast() -> None:
    loss_module = CdcdLoss(make_network(TINY_CDCD)).eval()
    batch = make_batch(TINY_CDCD)
    steps, probability = loss_module.choose_steps(batch["step_quantile"])
    terms = loss_module.compute_terms(batch, steps)
    weight = 1 + steps / 10
    expected = terms.bound + weight * (5e-4 * terms.auxiliary - 5e-5 * terms.contrast)
    torch.testing.assert_close(loss_module(batch), (expected / probability).mean() / 35)
    assert (terms.bound > 0).all()
    assert (terms.contrast > 0).all()
    assert probability.tolist() == pytest.approx([0.1] * 4)
    assert steps.tolist() == (batch["step_quantile"] * 10).long().tolist()


def test_loss_without_negatives_has_no_contrast() -> None:
    config = replace(TINY_CDCD, n_negatives=0)
    loss_module = CdcdLoss(make_network(config)).eval()
    terms = loss_module.compute_terms(make_batch(config), torch.tensor([0, 3, 5, 9]))
    assert terms.contrast.tolist() == [0, 0, 0, 0]


def test_history_changes_in_training_only_and_validation_is_fixed() -> None:
    loss_module = CdcdLoss(make_network(TINY_CDCD)).eval()
    batch = make_batch(TINY_CDCD)
    first = loss_module(batch)
    assert torch.equal(first, loss_module(batch))
    assert not loss_module.history.any()

    loss_module.train()
    steps, _ = loss_module.choose_steps(batch["step_quantile"])
    bound = loss_module.compute_terms(batch, steps).bound.detach()
    loss_module(batch)
    assert loss_module.counts.sum() == 4
    only_once = [k for k in range(4) if (steps == steps[k]).sum() == 1]
    assert only_once
    for k in only_once:
        torch.testing.assert_close(loss_module.history[steps[k]], 0.1 * bound[k] ** 2)

    loss_module.history.fill_(5).mul_(torch.arange(10))
    loss_module.counts.fill_(100)
    assert torch.equal(loss_module.eval()(batch), first)


def test_steps_are_drawn_in_proportion_to_their_bounds() -> None:
    loss_module = CdcdLoss(make_network(TINY_CDCD)).train()
    rms = torch.tensor([9.0, 1, 2, 3, 4, 1, 1, 1, 2, 4])
    loss_module.history.copy_(rms.square())
    quantile = (torch.arange(10_000) + 0.5) / 10_000
    uniform, _ = loss_module.choose_steps(quantile)  # before all steps occurred
    loss_module.counts.fill_(11)

    steps, probability = loss_module.choose_steps(quantile)

    rms[0] = rms[1]
    expected = rms / rms.sum()
    frequencies = torch.bincount(steps, minlength=10) / 10_000
    torch.testing.assert_close(frequencies, expected, rtol=0, atol=5e-4)
    torch.testing.assert_close(probability, expected[steps], rtol=0, atol=5e-4)
    assert torch.bincount(uniform).tolist() == pytest.approx([1000] * 10, abs=2)


def test_example_has_the_condition_of_its_window() -> None:
    prepared = make_prepared(TINY_CDCD)
    prepared["codes"] = np.arange(20_000).astype(np.int16)
    prepared["motion"] = np.ones((2000, 68), np.float32) * np.arange(2000)[:, None]
    prepared["visual"] = np.arange(300, dtype=np.float32)[:, None]

    example = examples.draw_example(prepared, TINY_CDCD, np.random.default_rng(5))
    again = examples.draw_example(prepared, TINY_CDCD, np.random.default_rng(5))

    start = int(example["codes"][0])
    assert start > 1000
    assert example["codes"].tolist() == list(range(start, start + 35))
    start_s = start * TOKEN_HOP_SAMPLES / SAMPLE_RATE_HZ
    first = round(16 * start_s)
    assert first / 16 == pytest.approx(start_s, abs=0.5 * TOKEN_HOP_SAMPLES / SAMPLE_RATE_HZ)
    # Three frames of a window of 0.203 s are 1.08 pose frames apart.
    expected = first + 16 * TINY_CDCD.window_s / 3 * np.arange(3)
    assert example["motion"][:, 0].tolist() == pytest.approx(expected)
    assert example["visual"][:, 0].tolist() == [round(2 * first / 16)]
    assert example["uniform"].shape == example["random_codes"].shape == (35,)
    assert torch.equal(example["chunk_orders"].sort(dim=1).values, torch.arange(8).expand(3, 8))
    assert all(torch.equal(value, again[key]) for key, value in example.items())


def make_clip(samples: Samples, features: VideoFeatures) -> TrainingClip:
    return TrainingClip(clip_id="clip-1", features=features, read_samples=lambda: samples)


def test_prepared_clip_has_codes_motion_and_genre() -> None:
    samples = np.random.default_rng(0).standard_normal(200 * 128).astype(np.float32)
    codec = make_codec()

    prepared = CDCD.prepare_clip(make_clip(samples, make_features(1.2)), TINY_CDCD, codec)

    expected = codec.encode(torch.from_numpy(samples)[None])[0]
    assert prepared["codes"].tolist() == expected.tolist()
    assert len(np.unique(prepared["codes"])) > 1
    assert prepared["motion"].shape == (19, 68)
    assert prepared["genre"] == 8


def test_short_clip_is_padded_to_a_window() -> None:
    clip = make_clip(np.ones(1000, np.float32), make_features(0.1))
    prepared = CDCD.prepare_clip(clip, TINY_CDCD, make_codec())
    assert len(prepared["codes"]) == 35
    example = examples.draw_example(prepared, TINY_CDCD, np.random.default_rng(0))
    assert example["motion"].shape == (3, 68)


@pytest.mark.parametrize("missing", ["poses", "music", "visual"])
def test_clip_without_training_data_is_rejected(missing: str) -> None:
    features = make_features(0.4, visual=0 if missing == "visual" else 6)
    if missing == "poses":
        features = replace(features, keypoints=None)
    samples = np.zeros(9000, np.float32) if missing == "music" else np.ones(9000, np.float32)
    with pytest.raises(InputError, match=rf"clip-1 .*{missing}"):
        CDCD.prepare_clip(make_clip(samples, features), VARIANTS["visual"], make_codec())


def test_visual_features_of_another_width_are_rejected() -> None:
    clip = make_clip(np.ones(9000, np.float32), make_features(0.4, visual=5))
    with pytest.raises(InputError, match="width 5"):
        CDCD.prepare_clip(clip, VARIANTS["visual"], make_codec())
    generator = make_generator(VARIANTS["visual"])
    with pytest.raises(InputError, match="width 5"):
        generate(generator, clip.features)


def test_codec_of_other_codes_is_rejected() -> None:
    network = make_network(replace(TINY_CDCD, n_codes=17))
    assert CDCD.build_generator is not None
    with pytest.raises(WeightsError, match="17"):
        CDCD.build_generator(network, make_codec(), CPU)


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("n_steps", [10, 4, 1])
def test_sampled_tokens_are_codes(config: CdcdConfig, n_steps: int) -> None:
    generator = replace(make_generator(config), n_steps=n_steps)
    condition = examples.batch_condition(make_batch(config, size=2))
    codes = generator.sample_codes(condition, torch.Generator().manual_seed(0))
    assert codes.shape == (2, 35)
    assert codes.min() >= 0
    assert codes.max() < 16  # no [MASK]


@pytest.mark.parametrize("compat", ["paper", "official"])
@pytest.mark.parametrize("duration_s", [0.1, 0.5])
def test_generated_audio_has_the_length_of_the_clip(compat: Compat, duration_s: float) -> None:
    generator = make_generator(replace(TINY_CDCD, compat=compat))
    samples = generate(generator, make_features(duration_s))
    assert samples.shape == (1, round(duration_s * SAMPLE_RATE_HZ))
    assert np.isfinite(samples).all()


def test_seed_determines_the_audio() -> None:
    generator = make_generator()
    features = make_features(0.4)
    first, again, other = (generate(generator, features, seed) for seed in (1, 1, 2))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


def test_video_without_poses_and_genre_has_music() -> None:
    features = replace(make_features(0.3), keypoints=None, genre=None)
    assert generate(make_generator(), features).any()


def test_windows_of_a_clip_differ() -> None:
    features = replace(make_features(0.4), keypoints=None)
    samples = generate(make_generator(replace(TINY_CDCD, compat="official")), features)[0]
    n_window = 35 * TOKEN_HOP_SAMPLES
    assert not np.array_equal(samples[1000:4000], samples[n_window + 1000 : n_window + 4000])


@pytest.mark.slow
def test_network_learns_the_codes_of_one_clip() -> None:
    prepared = make_prepared(TINY_CDCD, n_codes=35)

    def draw_batch(rng: np.random.Generator) -> Example:
        batch: Example = default_collate(
            [examples.draw_example(prepared, TINY_CDCD, rng) for _ in range(8)]
        )
        return batch

    untrained = CdcdLoss(make_network(TINY_CDCD)).eval()
    trained = train(TINY_CDCD, draw_batch, 90)

    batch = draw_batch(np.random.default_rng(9))
    assert float(trained(batch).detach()) < 0.3 * float(untrained(batch).detach())
    codes = sample_with(trained.network, examples.batch_condition(batch))
    assert (codes == batch["codes"]).float().mean() > 0.9


def sample_with(network: CdcdNetwork, condition: CdcdCondition) -> Tensor:
    generator = make_generator()
    return replace(generator, network=network).sample_codes(
        condition, torch.Generator().manual_seed(0)
    )


@pytest.mark.slow
def test_poses_choose_between_two_learned_clips() -> None:
    clips = [make_prepared(TINY_CDCD, seed=seed, n_codes=35) for seed in (0, 1)]
    clips[1]["genre"] = clips[0]["genre"]

    def draw_batch(rng: np.random.Generator) -> Example:
        batch: Example = default_collate(
            [examples.draw_example(clips[k % 2], TINY_CDCD, rng) for k in range(8)]
        )
        return batch

    network = train(TINY_CDCD, draw_batch, 150).network

    batch = draw_batch(np.random.default_rng(9))
    codes = sample_with(network, examples.batch_condition(batch))
    assert (codes == batch["codes"]).float().mean() > 0.85
    assert (codes == batch["codes"].roll(1, dims=0)).float().mean() < 0.3


def test_condition_of_a_window_is_that_of_training() -> None:
    config = VARIANTS["visual"]
    features = make_features(0.2, visual=6)
    window = build_condition(features, config)
    assert window.motion.shape == (1, 3, 68)
    assert window.visual.shape == (1, 1, 6)
    assert window.genre.tolist() == [8]
