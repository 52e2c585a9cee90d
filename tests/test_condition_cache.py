"""Encoders and keys of the conditions are evaluated once, before sampling."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from builders import make_features
from tiny_models import TINY_NOTES_AUTOENCODER, TINY_NOTES_DENOISER, TINY_PAPER_CONFIG
from torch import Tensor

from loris_cli.models.condition_routes import ROUTES
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.models.hawkes import MiniRhythmEncoder, PaperRhythmEncoder
from loris_cli.models.load_model import PaperCheckpoint
from loris_cli.models.mel_autoencoder import MelAutoencoder
from loris_cli.models.mini_checkpoint import MiniCheckpoint
from loris_cli.models.mini_unet import MiniCondition, MiniDenoiser
from loris_cli.models.paper_condition import PaperCondition
from loris_cli.models.paper_config import PaperConfig
from loris_cli.models.paper_unet import ConditionalResnetBlock, PaperModel, PaperUNet
from loris_cli.models.stgcn import MiniMotionEncoder, PaperMotionEncoder
from loris_cli.soundtrack import waveform_generator
from loris_cli.soundtrack.latent_generator import LatentGenerator
from loris_cli.soundtrack.waveform_generator import WaveformGenerator
from loris_cli.system import threads

CPU = torch.device("cpu")
CONFIG = replace(TINY_PAPER_CONFIG, visual_projection="none", motion_encoder=True)
MINI_CONFIG = replace(TINY_NOTES_DENOISER, motion_width=8)
GUIDANCES: list[dict[str, Any]] = [
    {"guidance": 1.0},
    {"guidance": 3.0},
    {"guidance": 3.0, "guidance_interval": (0.4, 0.7)},
    {"guidance": 3.0, "guidance_interval": (0.0, 0.5)},
]
PAPER_ROWS = [9, 18, 15, 14]
"""Network calls of nine evaluations: on a CPU, each half of guidance is a call."""


@pytest.fixture
def n_calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Number of calls of each encoder and U-Net."""
    counts: Counter[str] = Counter()
    classes = (PaperUNet, PaperRhythmEncoder, PaperMotionEncoder, MiniDenoiser)
    for module_class in (*classes, MiniRhythmEncoder, MiniMotionEncoder):

        def count_call(
            module: Any, *args: Any, forward: Any = module_class.forward, **options: Any
        ) -> Any:
            counts[type(module).__name__] += 1
            return forward(module, *args, **options)

        monkeypatch.setattr(module_class, "forward", count_call)
    return counts


def make_paper_generator(config: PaperConfig = CONFIG, **options: Any) -> WaveformGenerator:
    torch.manual_seed(0)
    network = PaperModel(config).eval().requires_grad_(False)
    model = PaperCheckpoint(network=network, name="a")
    settings = {"steps": 5, "sampler": "heun", **options}  # nine evaluations
    return WaveformGenerator(model=model, device=CPU, **settings)


def make_mini_generator(**options: Any) -> LatentGenerator:
    torch.manual_seed(0)
    model = MiniCheckpoint(
        autoencoder=MelAutoencoder(TINY_NOTES_AUTOENCODER).eval().requires_grad_(False),
        denoiser=MiniDenoiser(MINI_CONFIG).eval().requires_grad_(False),
        name="a",
    )
    return LatentGenerator(model=model, device=CPU, steps=5, **options)


def make_pose_features(duration_s: float) -> ClipFeatures:
    keypoints = np.random.default_rng(0).uniform(1, 100, (round(duration_s * 16), 17, 3))
    return make_features(duration_s, keypoints=keypoints)


def generate(generator: WaveformGenerator | LatentGenerator, duration_s: float) -> bytes:
    features = make_pose_features(duration_s)
    blocks = generator.generate(features, seed=1, progress=lambda done, total: None)
    return np.concatenate(list(blocks), axis=1).tobytes()


def count_blocks(network: PaperModel) -> int:
    return sum(isinstance(module, ConditionalResnetBlock) for module in network.modules())


@pytest.mark.parametrize(("options", "n_rows"), [*zip(GUIDANCES, PAPER_ROWS, strict=True)])
@pytest.mark.parametrize("shared", [False, True], ids=["per-block", "shared"])
def test_paper_encoders_run_once_for_all_evaluations(
    n_calls: Counter[str], options: dict[str, Any], n_rows: int, shared: bool
) -> None:
    config = replace(CONFIG, shared_rhythm_encoder=shared)
    generator = make_paper_generator(config, **options)
    generate(generator, 2.0)
    n_encoders = 1 if shared else count_blocks(generator.model.network)
    assert n_calls["PaperUNet"] == n_rows
    assert n_calls["PaperRhythmEncoder"] == n_encoders
    assert n_calls["PaperMotionEncoder"] == 1


@pytest.mark.slow
def test_paper_encoders_run_once_for_each_of_many_windows(n_calls: Counter[str]) -> None:
    generator = make_paper_generator(guidance=1.0)
    generate(generator, 18.0)
    n_windows = len(generator.compute_window_layout(18.0).starts)
    assert n_windows > 10
    assert n_calls["PaperUNet"] == 9 * n_windows
    assert n_calls["PaperRhythmEncoder"] == count_blocks(generator.model.network) * n_windows


@pytest.mark.parametrize("options", GUIDANCES)
def test_paper_audio_does_not_depend_on_the_cache(
    monkeypatch: pytest.MonkeyPatch, n_calls: Counter[str], options: dict[str, Any]
) -> None:
    generator = make_paper_generator(**options)
    cached = generate(generator, 2.5)
    n_cached = n_calls["PaperRhythmEncoder"]
    monkeypatch.setattr(waveform_generator, "MAX_CACHE_BYTES", 0)
    assert generate(generator, 2.5) == cached
    assert n_calls["PaperRhythmEncoder"] > 4 * n_cached


def test_cache_size_is_that_of_all_keys_and_values() -> None:
    network = make_paper_generator().model.network
    condition = PaperCondition(
        visual_tokens=torch.zeros(1, 4, 16), rhythm=torch.zeros(1, 30), kv_cache={}
    )
    network.unet.fill_kv_cache(condition)
    n_blocks, n_tokens, width = count_blocks(network), 4 + 30, 64
    assert condition.cache_bytes == n_blocks * n_tokens * width * 2 * 4


@pytest.mark.parametrize(
    ("options", "n_rows"), list(zip(GUIDANCES, (5, 10, 8, 8), strict=True))
)
def test_mini_encoders_run_once_for_all_evaluations(
    n_calls: Counter[str], options: dict[str, Any], n_rows: int
) -> None:
    generate(make_mini_generator(**options), 2.0)
    calls = (n_calls[f"Mini{name}"] for name in ("Denoiser", "RhythmEncoder", "MotionEncoder"))
    assert list(calls) == [n_rows, 1, 1]  # each half of guidance is a row


@pytest.mark.parametrize("options", GUIDANCES)
def test_mini_audio_does_not_depend_on_when_conditions_are_encoded(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    generator = make_mini_generator(**options)
    once = generate(generator, 2.0)  # one window
    forward, encode = MiniDenoiser.forward, MiniDenoiser.encode_condition
    encoded: dict[int, MiniCondition] = {}

    def encode_later(network: MiniDenoiser, condition: MiniCondition) -> Any:
        result = encode(network, condition)
        encoded[len(encoded)] = MiniCondition(*(torch.cat([v, v]) for v in condition))
        return result

    def encode_again(
        network: MiniDenoiser, x: Tensor, c_noise: Tensor, condition: Any, drop: Tensor
    ) -> Tensor:
        (original,) = encoded.values()
        rows = MiniCondition(*(value[: len(x)] for value in original))
        output = forward(network, x, c_noise, encode(network, rows), drop)
        assert len(condition.tokens) == len(x)
        return output

    monkeypatch.setattr(MiniDenoiser, "encode_condition", encode_later)
    monkeypatch.setattr(MiniDenoiser, "forward", encode_again)
    assert generate(generator, 2.0) == once


def test_denoiser_accepts_raw_and_encoded_conditions() -> None:
    network = MiniDenoiser(MINI_CONFIG).eval()
    rng = torch.Generator().manual_seed(0)
    config = network.config

    def normal(*shape: int) -> Tensor:
        return torch.randn(2, *shape, generator=rng)

    condition = MiniCondition(
        aligned_rhythm=normal(config.rhythm_channels, 32),
        peaks=(normal(24) > 1).float(),
        time_since_peak_s=normal(24).abs(),
        genre=normal(config.n_genres),
        aligned_harmony=normal(config.harmony_channels, 32),
        pose=normal(24, 17, 3),
        production=normal(15),
        note_latent=normal(config.note_latent_channels, 32),
        known_routes=torch.ones(2, len(ROUTES)),
    )
    x, level, drop = normal(8, 32), torch.zeros(2), torch.tensor([False, True])
    raw = network(x, level, condition, drop)
    assert torch.equal(raw, network(x, level, network.encode_condition(condition), drop))


@pytest.mark.parametrize("duration_s", [2.0, 4.0])
def test_audio_of_the_paper_model_does_not_depend_on_the_pool(duration_s: float) -> None:
    n_before = threads.pool_size()
    generator = make_paper_generator(guidance=3.0)
    audio = []
    for n_threads in (1, 2, 3):
        threads.configure_threads(n_threads)
        audio.append(generate(generator, duration_s))
    threads.configure_threads(n_before)
    assert audio[0] == audio[1] == audio[2]


def test_the_paper_network_runs_on_the_device_of_the_model() -> None:
    """The meta device has no values, so reading a value or copying it to the CPU fails."""
    meta = torch.device("meta")
    generator = make_paper_generator(guidance=3.0)
    network = generator.model.network.to(meta)
    generator = replace(generator, model=replace(generator.model, network=network), device=meta)
    signal = generator._draw(make_pose_features(2.0), seed=1, progress=lambda done, total: None)
    assert signal.device == meta
    assert signal.shape == (2, generator.compute_window_layout(2.0).length)
