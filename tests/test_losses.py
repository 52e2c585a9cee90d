"""Training losses: activation checkpointing, half precision, and padded weights."""

import copy
from dataclasses import replace

import pytest
import torch
from tiny_models import TINY_DENOISER, TINY_NOTES_AUTOENCODER
from torch import Tensor

from loris_cli.audio.magnitudes import invert_log_magnitude
from loris_cli.errors import InputError
from loris_cli.models.condition_routes import ROUTES
from loris_cli.models.mel_autoencoder import MelAutoencoder
from loris_cli.models.mini_unet import MiniDenoiser
from loris_cli.training.losses import (
    DenoiserLoss,
    LatentLoss,
    checkpoint_activations,
    count_parameters,
)
from loris_cli.training.mini_weights import pad_weights

CONFIG = replace(TINY_DENOISER, note_latent_channels=32)


def make_batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return {
        "clean": draw(2, 32, 32),
        "noise": draw(2, 32, 32),
        "sigma": torch.tensor([0.3, 2.0]),
        "drop_mask": torch.tensor([False, True]),
        "aligned_rhythm": draw(2, 20, 32),
        "peaks": (draw(2, 24) > 0.8).float(),
        "time_since_peak_s": draw(2, 24).abs(),
        "genre": torch.eye(12)[:2],
        "aligned_harmony": draw(2, 32, 32),
        "pose": draw(2, 24, 17, 3),
        "production": draw(2, 15),
        "note_latent": draw(2, 32, 32),
        "known_routes": torch.ones(2, len(ROUTES)),
    }


def make_loss() -> DenoiserLoss:
    torch.manual_seed(0)
    return DenoiserLoss(MiniDenoiser(CONFIG))


def test_gradients_with_activation_checkpointing_are_the_same() -> None:
    plain = make_loss()
    checkpointed = copy.deepcopy(plain)
    calls: list[int] = []
    checkpointed.denoiser.unet.bottleneck.pre_block.register_forward_hook(
        lambda *_: calls.append(1)
    )
    checkpoint_activations(checkpointed.denoiser)

    for loss in (plain, checkpointed):
        loss(make_batch()).backward()
    assert len(calls) == 2  # in the forward and in the backward pass
    for (name, expected), actual in zip(
        plain.named_parameters(), checkpointed.parameters(), strict=True
    ):
        assert expected.grad is not None, name
        torch.testing.assert_close(actual.grad, expected.grad, msg=name)


def test_loss_in_bf16_is_within_5_percent_and_has_finite_gradients() -> None:
    loss = make_loss()
    value = loss(make_batch())
    with torch.autocast("cpu", torch.bfloat16):
        bf16_value = loss(make_batch())
    bf16_value.backward()
    assert bf16_value.item() == pytest.approx(value.item(), rel=0.05)
    gradients = [parameter.grad for parameter in loss.parameters() if parameter.requires_grad]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_latent_loss_measures_the_decoded_bins() -> None:
    torch.manual_seed(0)
    loss = LatentLoss(MelAutoencoder(TINY_NOTES_AUTOENCODER))
    batch = {
        "samples": torch.randn(2, 16 * 256),
        "frames": torch.randn(2, 160, 16),
        "noise": torch.randn(2, 8, 4),
        "noise_level": torch.zeros(2),
        "log_magnitude": torch.randn(2, 769, 16),
    }
    value = loss(batch)
    value.backward()
    gradients = {name: p.grad for name, p in loss.named_parameters()}
    assert all(x is not None and x.isfinite().all() and x.any() for x in gradients.values())
    assert loss({**batch, "noise_level": torch.ones(2)}).item() != value.item()
    # With the decoder's output and its audio as the targets only the KL divergence remains.
    mean, log_variance = loss.autoencoder.encode_posterior(batch["frames"])
    latent = mean + batch["noise"] * (log_variance / 2).exp()
    decoded = loss.autoencoder.decode_unnormalized(latent).detach()
    samples = torch.nn.functional.pad(invert_log_magnitude(decoded), (0, 256))
    exact = {**batch, "log_magnitude": decoded, "samples": samples}
    assert loss(exact).item() < 0.01 * value.item()
    assert loss({**exact, "samples": 0.5 * samples}).item() > 5 * loss(exact).item()


def test_frozen_parameters_are_not_counted() -> None:
    loss = make_loss()
    n_parameters = count_parameters(loss)
    loss.denoiser.null_token.requires_grad_(False)
    assert count_parameters(loss) == n_parameters - 16


def test_padded_weights_ignore_new_channels_initially_and_train_them() -> None:
    torch.manual_seed(0)
    small = MiniDenoiser(replace(CONFIG, note_latent_channels=0))
    large = MiniDenoiser(CONFIG)
    state = pad_weights(small.state_dict(), large.state_dict())
    large.load_state_dict(state)

    name = "unet.to_in.module_list.0.block.block1.project.weight"
    old, new = small.state_dict()[name], state[name]
    assert new.shape[1] == old.shape[1] + CONFIG.note_latent_channels
    assert torch.equal(new[:, : old.shape[1]], old)
    assert not new[:, old.shape[1] :].any()
    assert all(
        torch.equal(state[key], value)
        for key, value in small.state_dict().items()
        if value.shape == state[key].shape
    )
    DenoiserLoss(large)(make_batch()).backward()
    gradient = dict(large.named_parameters())[name].grad
    assert gradient is not None
    assert gradient[:, old.shape[1] :].any()


def test_weights_with_more_channels_than_the_network_are_rejected() -> None:
    small = MiniDenoiser(replace(CONFIG, note_latent_channels=0))
    with pytest.raises(InputError, match=r"\(\d+,.*\).*\(\d+,.*\)"):
        pad_weights(MiniDenoiser(CONFIG).state_dict(), small.state_dict())
