"""Losses of all stages: the same values and gradients however they are computed."""

import copy
from dataclasses import replace

import pytest
import torch
from tiny_models import TINY_DENOISER
from torch import Tensor

from loris_cli.errors import InputError
from loris_cli.models.mel_autoencoder import MelAutoencoder, MelAutoencoderConfig
from loris_cli.models.mini_unet import MiniDenoiser
from loris_cli.training.losses import (
    DenoiserLoss,
    LatentLoss,
    checkpoint_activations,
    count_parameters,
)
from loris_cli.training.mini_stages import pad_weights

SIZES = replace(TINY_DENOISER, note_latent_channels=32)


def batch() -> dict[str, Tensor]:
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
        "timing_jitter": draw(2, 1).abs(),
        "note_latent": draw(2, 32, 32),
    }


def make_loss() -> DenoiserLoss:
    torch.manual_seed(0)
    return DenoiserLoss(MiniDenoiser(SIZES))


def test_activations_that_are_computed_again_give_the_same_gradients() -> None:
    plain = make_loss()
    checkpointed = copy.deepcopy(plain)
    calls: list[int] = []
    checkpointed.denoiser.unet.bottleneck.pre_block.register_forward_hook(
        lambda *_: calls.append(1)
    )
    checkpoint_activations(checkpointed.denoiser)

    for loss in (plain, checkpointed):
        loss(batch()).backward()
    assert len(calls) == 2  # once forwards, once going back
    for (name, a), (_, b) in zip(
        plain.named_parameters(), checkpointed.named_parameters(), strict=True
    ):
        assert a.grad is not None, name
        assert b.grad is not None, name
        torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_half_precision_learns_about_the_same() -> None:
    loss = make_loss()
    full_loss = loss(batch())
    with torch.autocast("cpu", torch.bfloat16):
        half_loss = loss(batch())
    half_loss.backward()
    assert abs(half_loss.item() / full_loss.item() - 1) < 0.05
    assert all(torch.isfinite(p.grad).all() for p in loss.parameters() if p.grad is not None)


def test_a_latent_that_gives_back_what_it_got_has_next_to_no_loss() -> None:
    class Identity(MelAutoencoder):
        def encode_posterior(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
            return log_mel, torch.full_like(log_mel, -10.0)

        def decode_unnormalized(self, code: Tensor) -> Tensor:
            return code

    frames = torch.zeros(1, 128, 16)
    zeros = {"frames": frames, "noise": torch.zeros_like(frames)}
    config = MelAutoencoderConfig(width=16, latent_channels=8, n_blocks=1)
    assert LatentLoss(Identity(config))(zeros).item() < 0.002  # what the divergence weighs
    noisy = LatentLoss(Identity(config))({**zeros, "noise": torch.ones_like(frames) * 100})
    assert noisy.item() > 0.5


def test_parameters_that_do_not_learn_are_not_counted() -> None:
    loss = make_loss()
    n_parameters = count_parameters(loss)
    loss.denoiser.null_token.requires_grad_(False)
    assert count_parameters(loss) == n_parameters - 16


def test_a_network_that_is_told_more_begins_as_the_one_that_was_told_less() -> None:
    torch.manual_seed(0)
    small = MiniDenoiser(replace(SIZES, note_latent_channels=0))
    large = MiniDenoiser(SIZES)
    state = pad_weights(small.state_dict(), large.state_dict())
    large.load_state_dict(state)

    name = "unet.to_in.module_list.0.block.block1.project.weight"
    old, new = small.state_dict()[name], state[name]
    assert new.shape[1] == old.shape[1] + SIZES.note_latent_channels
    assert torch.equal(new[:, : old.shape[1]], old)
    assert not new[:, old.shape[1] :].any()
    assert all(
        torch.equal(state[key], value)
        for key, value in small.state_dict().items()
        if value.shape == state[key].shape
    )
    out = DenoiserLoss(large)(batch())
    out.backward()
    gradients = {key: parameter.grad for key, parameter in large.named_parameters()}
    first = gradients[name]
    assert first is not None
    assert first[:, old.shape[1] :].any()  # it learns to listen


def test_a_network_that_is_told_less_takes_no_weights_of_one_that_is_told_more() -> None:
    small = MiniDenoiser(replace(SIZES, note_latent_channels=0))
    with pytest.raises(InputError, match="not"):
        pad_weights(MiniDenoiser(SIZES).state_dict(), small.state_dict())
