"""D2M-GAN: sizes, losses, training on one clip, and generation."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_baseline_windows import make_features
from tiny_models import TINY_CODEC, TINY_D2MGAN
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from loris_cli.baselines.d2mgan.config import FULL_CONFIG, D2mGanConfig
from loris_cli.baselines.d2mgan.discriminator import Discriminator, feature_matching_loss
from loris_cli.baselines.d2mgan.generator import D2mGanGenerator
from loris_cli.baselines.d2mgan.loss import D2mGanLoss
from loris_cli.baselines.d2mgan.method import D2MGAN
from loris_cli.baselines.d2mgan.motion import compute_motion, encode_genre, slice_motion
from loris_cli.baselines.d2mgan.networks import D2mGanNetwork
from loris_cli.baselines.learned_checkpoint import (
    convert_to_int8,
    export_learned_weights,
    load_learned_model,
)
from loris_cli.baselines.learned_method import Example, TrainingClip
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.errors import InputError, WeightsError
from loris_cli.models.checkpoint_format import read_config
from loris_cli.models.empty_networks import empty_networks
from loris_cli.models.generator_interface import VideoFeatures
from loris_cli.models.vqvae import VqVae
from loris_cli.models.weight_norm import WeightNormConv1d

CPU = torch.device("cpu")


def make_codec() -> VqVae:
    torch.manual_seed(4)
    codec = VqVae(TINY_CODEC).train()
    for _ in range(3):
        codec(0.3 * torch.randn(2, 64 * TINY_CODEC.hop))
    return codec.eval()


def make_dancer(
    duration_s: float, genre: str | None = "break", width: int = 0
) -> VideoFeatures:
    """Return features of a moving person."""
    rng = np.random.default_rng(0)
    features = make_features(duration_s)
    shape = (len(features.energy), 17, 2)
    keypoints = np.concatenate(
        [rng.normal(100, 30, shape).cumsum(axis=0) / 5, np.ones((*shape[:2], 1))], axis=2
    )
    visual = rng.normal(size=(round(2 * duration_s), width)) if width else None
    return replace(features, keypoints=keypoints, genre=genre, visual=visual)


def make_clip(features: VideoFeatures) -> TrainingClip:
    rng = np.random.default_rng(1)
    samples = rng.normal(0, 0.3, round(features.duration_s * SAMPLE_RATE_HZ))
    return TrainingClip(
        clip_id="clip", features=features, read_samples=lambda: samples.astype(np.float32)
    )


def make_batch(config: D2mGanConfig, codec: VqVae, n: int = 2) -> Example:
    prepared = D2MGAN.prepare_clip(
        make_clip(make_dancer(2.0, width=config.visual_width)), config, codec
    )
    rng = np.random.default_rng(2)
    examples = [D2MGAN.draw_example(prepared, config, rng) for _ in range(n)]
    return {key: torch.stack([example[key] for example in examples]) for key in examples[0]}


def make_loss(**changes: Any) -> tuple[D2mGanLoss, Example]:
    config = replace(TINY_D2MGAN, **changes)
    codec = make_codec()
    torch.manual_seed(5)
    loss_module = D2MGAN.build_loss(D2mGanNetwork(config), codec)
    assert isinstance(loss_module, D2mGanLoss)
    return loss_module, make_batch(config, codec)


def collect_gradients(module: nn.Module) -> set[str]:
    """Return the names of the parameters with a gradient other than zero."""
    return {
        name for name, p in module.named_parameters() if p.grad is not None and p.grad.any()
    }


def count_published_parameters() -> dict[str, int]:
    """Return the parameters of each network of the released code, from its layer sizes."""

    def conv(n_in: int, n_out: int, kernel: int, *, gain: bool = False) -> int:
        return n_in * n_out * kernel + n_out * (2 if gain else 1)

    def blocks(width: int) -> int:
        three, one = conv(width, width, 3, gain=True), conv(width, width, 1, gain=True)
        return 4 * (three + 2 * one)

    motion = [(120, 256, 6), (256, 512, 4), (512, 1024, 4)]
    encoder = sum(conv(*sizes) + blocks(sizes[1]) for sizes in motion) + conv(1024, 1, 4)
    encoder += 219 * 800 + 800 + 786 * 1024 + 1024
    stages = [(1, 32, 6), (32, 64, 41), (64, 128, 41), (128, 256, 41), (256, 512, 41)]
    generator = sum(conv(*sizes) + blocks(sizes[1]) for sizes in stages) + conv(512, 64, 40)
    generator += 3328 * 2058 + 2058 + 10 * 256
    strided = [(4, 128), (4, 512), (4, 1024), (4, 1024)]  # input channels of a group
    scale = conv(1, 32, 16, gain=True) + sum(conv(*s, 41, gain=True) for s in strided)
    scale += conv(1024, 512, 5, gain=True) + conv(512, 1, 3, gain=True)
    return {"encoder": encoder, "generator": generator, "discriminator": 3 * scale}


def test_full_size_has_the_parameters_of_the_released_code() -> None:
    published = replace(FULL_CONFIG, motion_width=219, n_genres=10)
    with empty_networks():
        network, discriminator = D2mGanNetwork(published), Discriminator(published)
    expected = count_published_parameters()

    def count(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    assert count(network.motion_encoder) == expected["encoder"]
    assert count(network) == expected["encoder"] + expected["generator"]
    assert count(discriminator) == expected["discriminator"]
    assert published.generator_input == 2058
    assert published.motion_length == 786


@pytest.mark.parametrize("visual_width", [0, 6])
def test_network_returns_vectors_of_a_window(visual_width: int) -> None:
    config = replace(TINY_D2MGAN, visual_width=visual_width)
    network = D2mGanNetwork(config)
    codec = make_codec()
    network.set_output_scale(codec.quantizer.codebook)
    batch = make_batch(config, codec, n=3)
    vectors = network(batch["motion"], batch["genre"], batch.get("visual"))
    assert vectors.shape == (3, config.code_width, config.n_frames) == batch["vectors"].shape
    limit = codec.quantizer.codebook.abs().amax(dim=0)[:, None]
    assert (vectors.abs() <= limit).all()
    codes = codec.nearest_codes(vectors)
    assert 0 <= codes.min() <= codes.max() < TINY_CODEC.n_codes


def test_official_scale_is_constant() -> None:
    network = D2mGanNetwork(replace(TINY_D2MGAN, compat="official"))
    network.set_output_scale(make_codec().quantizer.codebook)
    assert (network.output_scale == 100).all()


def test_output_depends_on_the_motion_before_training() -> None:
    torch.manual_seed(0)
    shares = {}
    for compat in ("paper", "official"):
        network = D2mGanNetwork(D2mGanConfig(compat=compat)).eval()
        motion = 0.3 * torch.randn(16, 120, 68)
        with torch.inference_mode():
            vectors = network(motion, torch.zeros(16, network.config.n_genres))
        shares[compat] = float(vectors.std(dim=0).mean() / vectors.std())
    assert shares["paper"] > 0.1
    assert shares["official"] < 0.05


@pytest.mark.parametrize("compat", ["paper", "official"])
def test_gradients_reach_every_trained_parameter(compat: str) -> None:
    loss_module, batch = make_loss(compat=compat, visual_width=6)
    for name, parameter in loss_module.discriminator.named_parameters():
        if name.endswith("layers.4.bias"):  # of the score
            # Within the hinge the gradients from real and generated vectors cancel.
            parameter.data.fill_(2.0)
    loss_module(batch).backward()
    trained = {name for name, p in loss_module.named_parameters() if p.requires_grad}
    assert collect_gradients(loss_module) == trained
    assert {name.split(".")[0] for name in trained} == {"network", "discriminator"}


def test_generator_and_discriminator_have_separate_gradients() -> None:
    loss_module, batch = make_loss()
    fake = loss_module.network(batch["motion"], batch["genre"])
    real_features = loss_module.discriminator(batch["vectors"])
    loss_module._compute_generator_loss(fake, real_features).backward()  # type: ignore[no-untyped-call]
    assert collect_gradients(loss_module.network)
    assert not collect_gradients(loss_module.discriminator)
    loss_module.zero_grad()
    loss_module(batch).backward()
    with_generator = [p.grad for p in loss_module.discriminator.parameters()]
    loss_module.zero_grad()
    # The discriminator's gradients do not depend on the losses of the generator.
    loss_module._compute_generator_loss = lambda fake, real: fake.sum()  # type: ignore[method-assign]
    loss_module(batch).backward()
    without_generator = [p.grad for p in loss_module.discriminator.parameters()]
    for a, b in zip(with_generator, without_generator, strict=True):
        assert a is not None
        assert b is not None
        torch.testing.assert_close(a, b)


def test_audio_losses_have_a_gradient_and_are_zero_for_the_reference() -> None:
    loss_module, batch = make_loss()
    reference = loss_module.codec.embed_codes(batch["codes"])
    assert float(loss_module._compute_audio_loss(reference, batch["codes"])) == 0
    fake = loss_module.network(batch["motion"], batch["genre"])
    loss = loss_module._compute_audio_loss(fake, batch["codes"])
    loss.backward()  # type: ignore[no-untyped-call]
    assert collect_gradients(loss_module.network)
    assert not collect_gradients(loss_module.codec)


def test_validation_loss_is_repeatable_and_leaves_the_codec_frozen() -> None:
    loss_module, batch = make_loss()
    before = loss_module.codec.quantizer.codebook.clone()
    loss_module.train()(batch)
    assert not loss_module.codec.training
    loss_module.eval()
    assert loss_module(batch).item() == loss_module(batch).item() > 0
    assert torch.equal(loss_module.codec.quantizer.codebook, before)


def test_feature_matching_is_the_mean_distance_with_published_weights() -> None:
    real = [[torch.zeros(1, 1, 4)] * 7] * 3
    fake = [[torch.full((1, 1, 4), 2.0)] * 7] * 3
    # 6 of 7 layers of 3 scales, distance 2, weights 4 / 5 / 3.
    assert float(feature_matching_loss(real, fake)) == pytest.approx(3 * 6 * 2 * 4 / 5 / 3)


def test_one_clip_is_overfitted() -> None:
    loss_module, batch = make_loss()
    loss_module.eval()
    before = float(loss_module(batch).detach())
    loss_module.train()
    parameters = [p for p in loss_module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3, betas=(0.5, 0.9))
    for _ in range(30):
        optimizer.zero_grad()
        loss_module(batch).backward()
        optimizer.step()
    loss_module.eval()
    assert float(loss_module(batch).detach()) < 0.7 * before


@pytest.mark.parametrize("compat", ["paper", "official"])
@pytest.mark.parametrize("duration_s", [0.1, 0.5, 1.3])
def test_soundtracks_have_the_exact_length(compat: str, duration_s: float) -> None:
    generator = make_generator(compat=compat)
    samples = generate(generator, make_dancer(duration_s))
    assert samples.shape == (1, round(duration_s * SAMPLE_RATE_HZ))
    assert np.isfinite(samples).all()
    assert samples.any()


def make_generator(**changes: Any) -> D2mGanGenerator:
    torch.manual_seed(6)
    config = replace(TINY_D2MGAN, **changes)
    codec = make_codec()
    network = D2mGanNetwork(config)
    network.set_output_scale(codec.quantizer.codebook)
    return D2mGanGenerator(network, codec, CPU)


def generate(generator: D2mGanGenerator, features: VideoFeatures, seed: int = 0) -> np.ndarray:
    blocks = generator.generate(features, seed=seed, progress=lambda done, total: None)
    return np.concatenate(list(blocks), axis=1)


def test_equal_videos_have_equal_bytes_for_every_seed() -> None:
    generator = make_generator()
    features = make_dancer(1.0)
    assert generate(generator, features).tobytes() == generate(generator, features).tobytes()
    # The method has no noise input.
    assert generate(generator, features).tobytes() == generate(generator, features, 7).tobytes()


def test_music_depends_on_motion_genre_and_visual_features() -> None:
    generator = make_generator(visual_width=6)
    features = make_dancer(0.5, width=6)
    music = generate(generator, features)
    assert features.keypoints is not None
    assert features.visual is not None
    # Random weights change the vectors little, so the inputs are compared before the codes.
    network, config = generator.network, generator.network.config
    motion = torch.from_numpy(slice_motion(compute_motion(features.keypoints), 0, config))
    arguments = {
        "motion": motion[None],
        "genre": encode_genre("break", config)[None],
        "visual": torch.ones(1, 6),
    }
    vectors = network(**arguments)
    for name in arguments:
        changed = arguments | {name: torch.zeros_like(arguments[name])}
        assert not torch.equal(network(**changed), vectors)
    assert music.shape == generate(generator, replace(features, keypoints=None)).shape
    assert music.shape == generate(generator, replace(features, visual=None)).shape


def test_weights_survive_a_round_trip() -> None:
    generator = make_generator()
    with empty_networks():
        loaded = D2mGanNetwork(TINY_D2MGAN)
    loaded.load_state_dict(generator.network.state_dict(), assign=True)
    other = D2mGanGenerator(loaded, generator.codec, CPU)
    features = make_dancer(0.6)
    assert generate(other, features).tobytes() == generate(generator, features).tobytes()


def test_weights_in_8_bits_generate_nearly_the_same_vectors(tmp_path: Path) -> None:
    generator = make_generator()
    tensors, metadata = export_learned_weights(D2MGAN, generator.network, generator.codec)
    save_file(tensors, tmp_path / "full.safetensors", metadata | {"loris.step": "1"})
    convert_to_int8(tmp_path / "full.safetensors", tmp_path / "d2mgan.safetensors")
    model = load_learned_model("d2mgan", tmp_path / "d2mgan.safetensors", device=CPU)
    batch = make_batch(TINY_D2MGAN, generator.codec)
    arguments = batch["motion"], batch["genre"]
    with torch.no_grad():
        vectors, expected = model.network(*arguments), generator.network(*arguments)
    assert float((vectors - expected).abs().max() / expected.abs().max()) < 0.05
    assert isinstance(model.codec, VqVae)
    assert model.codec.quantizer.is_initialized
    other = D2mGanGenerator(model.network, model.codec, CPU)
    assert generate(other, make_dancer(0.6)).any()


def test_weight_normalization_equals_that_of_torch() -> None:
    torch.manual_seed(0)
    conv = WeightNormConv1d(6, 4, 3, padding=1, groups=2)
    reference = weight_norm(nn.Conv1d(6, 4, 3, padding=1, groups=2))
    conv.gain.data.mul_(2)
    reference.parametrizations.weight.original0.data.copy_(conv.gain)
    reference.parametrizations.weight.original1.data.copy_(conv.weight)
    assert conv.bias is not None
    reference.bias.data.copy_(conv.bias)
    x = torch.randn(2, 6, 9)
    torch.testing.assert_close(conv(x), reference(x))


@pytest.mark.slow
def test_networks_without_weights_need_no_compiler() -> None:
    code = (
        "import sys; from loris_cli.baselines.d2mgan.networks import D2mGanNetwork;"
        " from loris_cli.baselines.d2mgan.config import D2mGanConfig;"
        " from loris_cli.models.empty_networks import empty_networks;"
        " from loris_cli.models.vqvae import VqVae, VqVaeConfig\n"
        "with empty_networks(): D2mGanNetwork(D2mGanConfig()), VqVae(VqVaeConfig())\n"
        "print({'sympy', 'torch._dynamo'} & {*sys.modules})"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


def test_motion_is_interpolated_with_velocities() -> None:
    keypoints = np.zeros((40, 17, 3))
    keypoints[..., 0] = np.arange(40)[:, None] / 16  # one height per second
    keypoints[..., 2] = 1
    keypoints[20, 3, 2] = 0
    motion = compute_motion(keypoints)
    assert motion.shape == (40, 68)
    velocities = motion[:, 34:].reshape(40, 17, 2)
    assert velocities[5, 0].tolist() == [1, 0]
    assert not velocities[[0, 20, 21], 3].any()
    config = replace(TINY_D2MGAN, n_frames=344, n_motion_frames=120)
    window = slice_motion(motion, 8, config)
    assert window.shape == (120, 68)
    times_s = 0.5 + np.arange(120) * config.window_s / 120
    np.testing.assert_allclose(window[:, 0], np.minimum(times_s, 39 / 16), atol=1e-5)


def test_examples_are_aligned_windows_of_the_clip() -> None:
    codec = make_codec()
    clip = make_clip(make_dancer(3.0, genre="krump"))
    prepared = D2MGAN.prepare_clip(clip, TINY_D2MGAN, codec)
    first_codes = set()
    for seed in range(4):
        example = D2MGAN.draw_example(prepared, TINY_D2MGAN, np.random.default_rng(seed))
        motion = prepared["motion"]
        first_pose = int(np.abs(motion - example["motion"][0].numpy()).sum(axis=1).argmin())
        first_code = round(first_pose / 16 * SAMPLE_RATE_HZ / TINY_CODEC.hop)
        expected = prepared["codes"][first_code : first_code + TINY_D2MGAN.n_frames]
        np.testing.assert_array_equal(example["codes"], expected)
        vectors = example["vectors"][None]
        assert torch.equal(codec.nearest_codes(vectors)[0, 3:5], example["codes"][3:5])
        first_codes.add(first_code)
    assert len(first_codes) > 1
    assert example["genre"].argmax() == 9
    assert example["genre"].sum() == 1


def test_clips_without_poses_music_or_visual_features_are_refused() -> None:
    codec = make_codec()
    features = make_dancer(1.0)
    silent = TrainingClip(
        clip_id="c", features=features, read_samples=lambda: np.zeros(22_050, np.float32)
    )
    without_poses = make_clip(replace(features, keypoints=None))
    for clip, config in [
        (silent, TINY_D2MGAN),
        (without_poses, TINY_D2MGAN),
        (make_clip(features), replace(TINY_D2MGAN, visual_width=6)),
    ]:
        with pytest.raises(InputError):
            D2MGAN.prepare_clip(clip, config, codec)


def test_a_codec_with_other_codes_is_refused() -> None:
    with pytest.raises(WeightsError):
        D2MGAN.build_loss(D2mGanNetwork(replace(TINY_D2MGAN, code_width=8)), make_codec())
    generator = make_generator()
    with pytest.raises(WeightsError):
        D2mGanGenerator(generator.network, VqVae(replace(TINY_CODEC, strides=(8, 2))), CPU)


@pytest.mark.parametrize(
    "changes",
    [
        {"motion_channels": (8, 8)}, {"generator_channels": (8,)}, {"n_blocks": 7},
        {"n_blocks": 0}, {"discriminator_channels": 6}, {"n_scales": 9}, {"hop": 0},
        {"motion_hidden": 10}, {"visual_width": -1}, {"compat": "other"},
        {"generator_channels": (8, 5000)}, {"n_frames": 1, "n_blocks": 2},
    ],
)  # fmt: skip
def test_invalid_sizes_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        replace(TINY_D2MGAN, **changes)


def test_configurations_survive_a_round_trip_through_json() -> None:
    for config in (*D2MGAN.configs.values(), TINY_D2MGAN):
        assert read_config(D2mGanConfig, json.dumps(asdict(config))) == config
