"""The paper's network: the sizes and numbers of the released one, and both readings of it."""

import hashlib
import math
import zlib
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from loris_cli.models.diffusion import precondition
from loris_cli.models.hawkes import HawkesEncoding
from loris_cli.models.paper_config import PaperConfig, to_official_config
from loris_cli.models.paper_unet import PaperModel, PaperUNet

SIZES = PaperConfig(
    channels=64,
    multipliers=(1, 1, 2),
    factors=(4, 2),
    num_blocks=(1, 2),
    attentions=(False, True),
    heads=4,
    head_features=16,
    context_features=64,
    visual_features=64,
    n_visual_frames=10,
    n_pose_frames=40,
)
TINY = to_official_config(SIZES)
GENRES = replace(SIZES, n_genres=10)


@pytest.mark.parametrize(
    ("config", "n_parameters"),
    [
        (PaperConfig(), 780_195_510),
        (PaperConfig(n_genres=10), 780_205_750),
        (PaperConfig(n_visual_frames=100, n_pose_frames=800), 780_247_110),
    ],
)
def test_it_has_as_many_parameters_as_the_released_one(
    config: PaperConfig, n_parameters: int
) -> None:
    with torch.device("meta"):
        model = PaperModel(to_official_config(config))
    assert sum(p.numel() for p in model.parameters()) == n_parameters
    assert config.stride == 16_384


@pytest.mark.parametrize(
    ("config", "digest"),
    [
        (PaperConfig(n_visual_frames=100, n_pose_frames=800), "52a0a7e444787d7b"),
        (PaperConfig(), "b99a2604cc70af9e"),
    ],
)
def test_every_name_and_shape_is_the_released_ones(config: PaperConfig, digest: str) -> None:
    """Of all 1994, the U-Net counted twice as it is registered there; the list is hashed."""
    with torch.device("meta"):
        state = PaperModel(to_official_config(config)).state_dict()
    twice = {
        key.replace("cond_diffusion.unet.", "cond_diffusion.diffusion.net."): value
        for key, value in state.items()
        if key.startswith("cond_diffusion.unet.")
    }
    rows = sorted(f"{key}\t{tuple(value.shape)}" for key, value in (state | twice).items())
    assert len(rows) == 1994
    assert hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16] == digest


class Named(nn.Module):
    """The U-Net under the name that the fixture's numbers were drawn by."""

    def __init__(self, config: PaperConfig) -> None:
        super().__init__()
        self.unet = PaperUNet(config)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                index = torch.arange(parameter.numel(), dtype=torch.float64)
                value = 0.05 * torch.sin(0.1 * index + zlib.crc32(name.encode()) % 1000)
                value += name.endswith((".g", "groupnorm.weight"))
                parameter.copy_(value.float().reshape(parameter.shape))


def fixture() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sound, its noise levels as the network sees them, video features and rhythm."""
    n = torch.arange(1024.0)
    x = torch.stack(
        [
            torch.stack([0.1 * torch.sin(0.01 * n * (b + 1) + c) for c in range(2)])
            for b in range(2)
        ]
    )
    video = torch.sin(0.37 * torch.arange(2 * 10 * 64.0)).reshape(2, 10, 64)
    rhythm = torch.zeros(2, 38)
    rhythm[0, ::5] = 1
    rhythm[1, ::7] = 1
    return x, torch.tensor([-0.575646, -1.151293]), video, rhythm


@torch.no_grad()
def test_its_numbers_are_the_released_codes() -> None:
    model = Named(TINY)
    assert sum(p.numel() for p in model.parameters()) == 2_569_976
    assert 2 * len(model.state_dict()) == 660
    x, c_noise, video, rhythm = fixture()
    paper = PaperModel(TINY)
    paper.cond_diffusion.unet = model.unet
    condition = paper.encode_conditions(video, rhythm)
    condition = replace(condition, visual_tokens=video)  # the fixture goes past the encoders

    output = model.unet(x, c_noise, condition=condition)
    close = pytest.approx
    assert float(output.mean()) == close(0.10152940666080212, abs=1e-6)
    assert float(output.std()) == close(0.241315874119587, abs=1e-6)
    assert output[0, 0, :4].tolist() == close(
        [0.031904, 0.098042, 0.137616, 0.149505], abs=1e-5
    )
    assert output[1, 1, -4:].tolist() == close(
        [0.281908, 0.274566, 0.213926, 0.120272], abs=1e-5
    )

    pair = condition.concat(model.unet.null_condition(condition), cache_kv=True)
    for _ in range(2):  # the second time with what the blocks kept
        guided = paper.forward_guided(x, c_noise, pair, guidance=3.0)
        assert float(guided.mean()) == close(0.10114943600160586, abs=1e-6)
        assert float(guided.std()) == close(0.24268848758670952, abs=1e-6)
        assert guided[0, 0, :4].tolist() == close(
            [0.025143, 0.090389, 0.134, 0.152298], abs=1e-5
        )

    denoised = precondition(
        lambda scaled, level: paper.forward_guided(scaled, level, pair, guidance=3.0),
        x,
        torch.tensor([0.1, 0.01]),
        sigma_data=0.1,
    ).clamp(-1, 1)
    assert float(denoised.mean()) == close(0.011916289152104298, abs=1e-6)
    assert float(denoised.std()) == close(0.07967667912693699, abs=1e-6)
    assert denoised[0, 0, :4].tolist() == close(
        [0.00162, 0.007648, 0.012141, 0.014877], abs=1e-5
    )


@torch.no_grad()
def test_one_is_a_batch_too() -> None:
    torch.manual_seed(0)
    paper = PaperModel(SIZES).eval()
    x, c_noise, video, rhythm = fixture()
    pair = [paper.encode_conditions(video[k : k + 1], rhythm[k : k + 1]) for k in range(2)]
    alone = [
        paper(x[k : k + 1], c_noise[k : k + 1], pair[k], torch.tensor([False]))
        for k in range(2)
    ]
    together = paper(
        x, c_noise, paper.encode_conditions(video, rhythm), torch.tensor([False, False])
    )
    torch.testing.assert_close(torch.cat(alone), together, atol=1e-5, rtol=1e-4)


def changes(
    config: PaperConfig, change: Callable[[dict[str, Tensor]], None], *, dropped: bool = False
) -> bool:
    """Whether the output of the network changes with its condition."""
    torch.manual_seed(0)
    paper = PaperModel(config).eval()
    x, c_noise, video, rhythm = fixture()
    inputs = {"visual": video, "rhythm": rhythm, "genre": torch.tensor([1, 2])}
    drop = torch.tensor([dropped, dropped])
    with torch.no_grad():
        one = paper(x, c_noise, paper.encode_conditions(**inputs, generator=seeded()), drop)
        change(inputs)
        other = paper(x, c_noise, paper.encode_conditions(**inputs, generator=seeded()), drop)
    return not torch.allclose(one, other, atol=1e-7)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


CHANGES: dict[str, Callable[[dict[str, Tensor]], None]] = {
    "video": lambda inputs: inputs.update(visual=inputs["visual"].flip(1)),
    "rhythm": lambda inputs: inputs.update(rhythm=inputs["rhythm"].roll(1, 1)),
    "genre": lambda inputs: inputs.update(genre=inputs["genre"].flip(0)),
}


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_what_is_told_is_heard_and_what_is_dropped_is_not(name: str) -> None:
    assert changes(GENRES, CHANGES[name])
    assert not changes(GENRES, CHANGES[name], dropped=True)
    assert changes(SIZES, CHANGES["rhythm"])
    assert not changes(SIZES, CHANGES["genre"])


@pytest.mark.parametrize("config", [GENRES, replace(GENRES, hawkes_phase="kernel")])
def test_gradients_reach_all_that_learns_in_the_papers_reading(config: PaperConfig) -> None:
    torch.manual_seed(0)
    paper = PaperModel(config)
    x, c_noise, video, rhythm = fixture()
    condition = paper.encode_conditions(video, rhythm, torch.tensor([0, 3]))
    paper(x, c_noise, condition, torch.tensor([False, True])).square().mean().backward()
    idle = [
        name
        for name, parameter in paper.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert idle == []


def test_in_the_released_reading_the_null_rhythm_never_learns() -> None:
    torch.manual_seed(0)
    paper = PaperModel(TINY)
    x, c_noise, video, rhythm = fixture()
    condition = paper.encode_conditions(video, rhythm, generator=seeded())
    paper(x, c_noise, condition, torch.tensor([False, True])).square().mean().backward()
    assert paper.unet.fixed_rhythm.embedding.weight.grad is None


def test_the_phase_follows_the_peaks_as_the_reading_says() -> None:
    rhythm = torch.zeros(1, 16)
    rhythm[0, [3, 9]] = 1

    def offsets(hawkes: str) -> list[float]:
        position = HawkesEncoding(8, 20, hawkes)  # type: ignore[arg-type]
        values: list[float] = position.phase_offsets(rhythm)[0].tolist()
        return values

    assert offsets("constant") == [1.0] * 16
    steps_since_peak = [0, 0, 0, 0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 6]
    assert offsets("interval") == pytest.approx([k / 16 for k in steps_since_peak])
    kernel = [
        sum(math.exp(-(n - peak) / 16 / 0.5) for peak in (3, 9) if n >= peak) for n in range(16)
    ]
    assert offsets("kernel") == pytest.approx(kernel, rel=1e-5)


def test_positions_without_hawkes_do_not_know_the_peaks() -> None:
    position = HawkesEncoding(8, 20, "none")
    one, other = position(torch.zeros(1, 16)), position(torch.ones(1, 16))
    assert torch.equal(one, other)
    expected = [math.sin(5 * 10_000 ** (-k / 4)) for k in range(4)]
    assert one[0, 5, :4].tolist() == pytest.approx(expected, abs=1e-6)


def test_the_released_lstm_begins_with_noise_that_a_seed_fixes() -> None:
    torch.manual_seed(0)
    paper = PaperModel(TINY).eval()
    _, _, video, rhythm = fixture()
    with torch.no_grad():
        one, again = (
            paper.encode_conditions(video, rhythm, generator=seeded()).visual_tokens
            for _ in range(2)
        )
        other = paper.encode_conditions(
            video, rhythm, generator=torch.Generator().manual_seed(4)
        ).visual_tokens
    assert one is not None
    assert again is not None
    assert other is not None
    assert torch.equal(one, again)
    assert not torch.allclose(one[:, 0], other[:, 0])
