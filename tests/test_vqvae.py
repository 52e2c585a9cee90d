"""VQ-VAE: shapes, codebook, training, and codes of an entire clip."""

import copy
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from test_baseline_windows import make_features
from tiny_models import TINY_VQVAE

from loris_cli.baselines import clip_codes
from loris_cli.baselines.clip_codes import encode_clip
from loris_cli.baselines.learned_method import TrainingClip
from loris_cli.baselines.spectral_distance import multi_resolution_loss
from loris_cli.baselines.vqvae_method import CROP_FRAMES, VQVAE, VqVaeLoss
from loris_cli.errors import InputError
from loris_cli.models.checkpoint_format import read_config
from loris_cli.models.ema_codebook import EMA_DECAY, EmaCodebook
from loris_cli.models.empty_networks import empty_networks
from loris_cli.models.vqvae import JUKEBOX_CONFIG, VqVae, VqVaeConfig


def make_tones(n_samples: int, batch: int = 2) -> torch.Tensor:
    times_s = torch.arange(n_samples) / 22_050
    return torch.stack([0.3 * torch.sin(times_s * 2000 * (k + 1)) for k in range(batch)])


def make_trained_vqvae(config: VqVaeConfig = TINY_VQVAE) -> VqVae:
    """Return a network whose codebook is initialized."""
    torch.manual_seed(3)
    network = VqVae(config)
    network.train()(make_tones(CROP_FRAMES * config.hop))
    return network.eval()


def count_vectors(codebook: EmaCodebook) -> int:
    """Return the number of different vectors in a codebook."""
    return len({tuple(row) for row in codebook.codebook.tolist()})


@pytest.mark.parametrize("config", [TINY_VQVAE, replace(JUKEBOX_CONFIG, n_codes=16, depth=1)])
def test_shapes_of_codes_vectors_and_samples(config: VqVaeConfig) -> None:
    network = make_trained_vqvae(config)
    samples = make_tones(5 * config.hop - 3)
    codes, vectors = network.encode(samples), network.encode_vectors(samples)
    assert codes.shape == (2, 5)
    assert codes.dtype == torch.int64
    assert vectors.shape == network.embed_codes(codes).shape == (2, config.code_width, 5)
    assert torch.equal(network.nearest_codes(vectors), codes)
    assert network.decode_codes(codes).shape == (2, 5 * config.hop)
    assert torch.equal(
        network.decode_codes(codes), network.decode_vectors(network.embed_codes(codes))
    )


def test_both_sizes_have_the_interface_of_jukebox() -> None:
    for config in VQVAE.configs.values():
        assert (config.hop, config.n_codes, config.code_width) == (128, 2048, 64)
    with empty_networks():
        network = VqVae(JUKEBOX_CONFIG)
    # Seven stages: 7 x 4 blocks of 32 x 32 x (3 + 1) weights, and strided convolutions of 4
    # taps from 1, 32 or 64 channels to 32; three projections of 3 taps; and all biases.
    blocks = 28 * (32 * 32 * 4 + 64)
    strided = 4 * 32 * (1 + 32 + 32 + 64 + 32 + 64 + 32) + 7 * 32
    projections = 3 * (3 * 32 * 64 + 64)
    assert sum(p.numel() for p in network.encoder.parameters()) == (
        blocks + strided + projections
    )


def test_margins_cover_the_receptive_field() -> None:
    torch.manual_seed(0)
    network = VqVae(replace(TINY_VQVAE, depth=3))
    margin, hop = network.config.receptive_margin_frames, network.config.hop
    samples = torch.randn(1, (4 * margin + 1) * hop, requires_grad=True)
    middle = 2 * margin
    network.encode_vectors(samples)[0, :, middle].sum().backward()  # type: ignore[no-untyped-call]
    assert samples.grad is not None
    frames = samples.grad.reshape(-1, hop).any(dim=1).nonzero()
    assert middle - margin <= frames.min() <= frames.max() <= middle + margin
    vectors = torch.randn(1, TINY_VQVAE.code_width, 4 * margin + 1, requires_grad=True)
    network.decode_vectors(vectors)[0, middle * hop : (middle + 1) * hop].sum().backward()  # type: ignore[no-untyped-call]
    assert vectors.grad is not None
    frames = vectors.grad[0].any(dim=0).nonzero()
    assert middle - margin <= frames.min() <= frames.max() <= middle + margin


def test_a_clip_is_encoded_in_blocks_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    network = make_trained_vqvae()
    samples = np.random.default_rng(0).normal(0, 0.2, 2001).astype(np.float32)
    codes, vectors = encode_clip(network, samples)
    monkeypatch.setattr(clip_codes, "BLOCK_FRAMES", 7)
    block_codes, block_vectors = encode_clip(network, samples)
    assert len(codes) == vectors.shape[1] == -(-2001 // network.config.hop)
    np.testing.assert_array_equal(codes, block_codes)
    np.testing.assert_allclose(vectors, block_vectors, atol=1e-3)


def test_nearest_code_is_that_with_the_smallest_distance() -> None:
    network = make_trained_vqvae()
    vectors = torch.randn(2, TINY_VQVAE.code_width, 9)
    distances = torch.cdist(vectors.transpose(1, 2), network.quantizer.codebook[None])
    assert torch.equal(network.nearest_codes(vectors), distances.argmin(dim=2))
    codes = torch.arange(TINY_VQVAE.n_codes)[None]
    assert count_vectors(network.quantizer) == TINY_VQVAE.n_codes
    assert torch.equal(network.nearest_codes(network.embed_codes(codes)), codes)


def test_codebook_converges_to_the_means_of_clusters() -> None:
    torch.manual_seed(0)
    codebook = EmaCodebook(2, 1, compat="paper")
    vectors = torch.cat([torch.full((1, 1, 30), -1.0), torch.full((1, 1, 30), 3.0)], dim=2)
    codebook.train()(vectors + torch.tensor([-0.5, 0.5]).repeat(30))
    codebook.codebook.copy_(torch.tensor([[-2.0], [2.0]]))
    for _ in range(200):
        codebook(vectors + torch.tensor([-0.5, 0.5]).repeat(30))
    torch.testing.assert_close(
        codebook.codebook.flatten(), torch.tensor([-1.0, 3.0]), rtol=0, atol=0.05
    )


def test_first_batch_initializes_the_codebook_with_its_vectors() -> None:
    torch.manual_seed(0)
    codebook = EmaCodebook(8, 4, compat="paper")
    vectors = torch.randn(1, 4, 100)
    codebook._initialize(vectors)
    rows = vectors[0].T
    assert all((row == rows).all(dim=1).any() for row in codebook.codebook)
    assert count_vectors(codebook) == 8


@pytest.mark.parametrize("compat", ["paper", "official"])
def test_unused_codes_restart_at_vectors_of_the_batch(compat: str) -> None:
    torch.manual_seed(0)
    codebook = EmaCodebook(4, 2, compat=compat)  # type: ignore[arg-type]
    vectors = torch.randn(2, 2, 50)
    codebook.train()(vectors)
    codebook.codebook[3] = codebook.code_sums[3] = 1e6  # out of reach
    codebook.code_counts[3] = 1.0
    for _ in range(300):
        codebook(vectors)
        if codebook.codebook[3].max() < 1e5:
            break
    rows = vectors.transpose(1, 2).flatten(0, 1)
    assert (codebook.codebook[3] == rows).all(dim=1).any()
    codes = codebook.find_nearest(vectors)
    assert set(codes.flatten().tolist()) == {0, 1, 2, 3}


def test_codes_are_stable_with_fewer_vectors_than_codes() -> None:
    """With 20 vectors for 40 codes, the count of most codes is below Jukebox's threshold."""
    is_stable = {}
    for compat in ("paper", "official"):
        torch.manual_seed(0)
        codebook = EmaCodebook(40, 2, compat=compat).train()
        vectors = torch.randn(1, 2, 20)
        for _ in range(50):
            codebook(vectors)
        is_stable[compat] = torch.equal(codebook(vectors)[1], codebook(vectors)[1])
    assert is_stable == {"paper": True, "official": False}


def test_the_codebook_is_constant_in_evaluation_mode() -> None:
    network = make_trained_vqvae()
    before = copy.deepcopy(network.state_dict())
    VqVaeLoss(network).eval()({"samples": make_tones(CROP_FRAMES * network.config.hop)})
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_infinite_vectors_do_not_change_the_codebook() -> None:
    network = make_trained_vqvae().train()
    before = network.quantizer.codebook.clone()
    samples = make_tones(CROP_FRAMES * network.config.hop)
    samples[0, 0] = torch.inf
    network(samples)
    assert torch.equal(network.quantizer.codebook, before)


@pytest.mark.parametrize("compat", ["paper", "official"])
def test_training_reduces_the_loss_and_reaches_all_parameters(compat: str) -> None:
    torch.manual_seed(0)
    config = replace(TINY_VQVAE, compat=compat)  # type: ignore[arg-type]
    network = VqVae(config)
    loss_module = VqVaeLoss(network).train()
    batch = {"samples": make_tones(CROP_FRAMES * config.hop)}
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = loss_module(batch)
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())
    assert losses[-1] < 0.7 * losses[0]


def test_weights_and_codebook_survive_a_round_trip() -> None:
    network = make_trained_vqvae()
    with empty_networks():
        loaded = VqVae(TINY_VQVAE)
    loaded.load_state_dict(network.state_dict(), assign=True)
    samples = make_tones(777)
    assert torch.equal(loaded.eval().encode(samples), network.encode(samples))
    assert loaded.quantizer.is_initialized


def test_spectral_loss_is_zero_for_equal_audio_and_one_for_silence() -> None:
    tones = make_tones(4096)
    assert float(multi_resolution_loss(tones, tones, log_weight=1.0)) == 0
    silence = multi_resolution_loss(tones, torch.zeros_like(tones), log_weight=0.0)
    assert float(silence) == pytest.approx(1, abs=0.01)


def make_clip(samples: np.ndarray) -> TrainingClip:
    return TrainingClip(
        clip_id="c", features=make_features(2), read_samples=lambda: samples.astype(np.float32)
    )


def test_examples_are_random_crops_of_the_clip() -> None:
    ramp = np.linspace(0.1, 0.9, 4000)
    prepared = VQVAE.prepare_clip(make_clip(ramp), TINY_VQVAE, None)
    rng = np.random.default_rng(0)
    crops = [VQVAE.draw_example(prepared, TINY_VQVAE, rng)["samples"] for _ in range(5)]
    for crop in crops:
        steps = crop.diff()
        gain = float(steps.mean() / np.diff(ramp).mean())
        assert 0.5 <= gain <= 1
        start = round((float(crop[0]) / gain - 0.1) / np.diff(ramp).mean())
        expected = gain * ramp[start : start + len(crop)]
        np.testing.assert_allclose(crop, expected, atol=1e-3)
    assert len({float(crop[0]) for crop in crops}) == 5


def test_short_clips_are_padded_and_silent_ones_refused() -> None:
    prepared = VQVAE.prepare_clip(make_clip(np.full(100, 0.5)), TINY_VQVAE, None)
    example = VQVAE.draw_example(prepared, TINY_VQVAE, np.random.default_rng(0))
    assert len(example["samples"]) == CROP_FRAMES * TINY_VQVAE.hop
    assert not example["samples"][100:].any()
    for samples in (np.zeros(5000), np.ones(3)):
        with pytest.raises(InputError):
            VQVAE.prepare_clip(make_clip(samples), TINY_VQVAE, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"strides": ()}, {"strides": (3, 4)}, {"strides": (64, 128)}, {"widths": (8,)},
        {"levels": (1,)}, {"depth": 7}, {"depth": 0}, {"n_codes": 0}, {"code_width": 5000},
        {"widths": (8, 0)}, {"compat": "other"}, {"output_width": -1},
    ],
)  # fmt: skip
def test_invalid_sizes_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        replace(TINY_VQVAE, **changes)  # type: ignore[arg-type]


def test_configurations_survive_a_round_trip_through_json() -> None:
    for config in (TINY_VQVAE, JUKEBOX_CONFIG):
        assert read_config(VqVaeConfig, json.dumps(asdict(config))) == config


class ThreadCollectives:
    """Collective operations of `torch.distributed` between two threads, ranks 0 and 1."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(2)
        self.local = threading.local()
        self.tensors: dict[int, torch.Tensor] = {}

    def _exchange(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        self.tensors[self.local.rank] = tensor.clone()
        self.barrier.wait()
        tensors = [self.tensors[rank] for rank in (0, 1)]
        self.barrier.wait()
        return tensors

    def all_reduce(self, tensor: torch.Tensor) -> None:
        tensor.copy_(sum(self._exchange(tensor), torch.zeros_like(tensor)))

    def broadcast(self, tensor: torch.Tensor, src: int) -> None:
        tensor.copy_(self._exchange(tensor)[src])


def test_processes_have_equal_codebooks(monkeypatch: pytest.MonkeyPatch) -> None:
    collectives = ThreadCollectives()
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", collectives.all_reduce)
    monkeypatch.setattr(torch.distributed, "broadcast", collectives.broadcast)
    torch.manual_seed(0)
    vectors = torch.randn(2, 3, 1, 2, 30) + torch.tensor([0.0, 2.0]).reshape(2, 1, 1, 1, 1)

    def train_rank(rank: int) -> dict[str, torch.Tensor]:
        collectives.local.rank = rank
        codebook = EmaCodebook(8, 2, compat="paper").train()
        for step in range(3):
            codebook(vectors[rank, step])
        return codebook.state_dict()

    with ThreadPoolExecutor(2) as pool:
        states = list(pool.map(train_rank, (0, 1)))
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    # 60 vectors per step of both processes, and 8 at the start.
    expected = 60 + (8 - 60) * EMA_DECAY**3
    assert float(states[0]["code_counts"].sum()) == pytest.approx(expected)
