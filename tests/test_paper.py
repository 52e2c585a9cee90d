"""The paper's network: parameters and outputs of the released code, and both variants."""

import hashlib
import math
import zlib
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from tiny_models import TINY_PAPER_CONFIG
from torch import Tensor, nn

from loris_cli.models.diffusion import precondition
from loris_cli.models.hawkes import HawkesEncoding
from loris_cli.models.paper_config import HawkesPhase, PaperConfig, to_official_config
from loris_cli.models.paper_unet import PaperModel, PaperUNet

# The golden numbers were computed by the released code at these sizes.
GOLDEN_CONFIG = to_official_config(
    PaperConfig(
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
)
GENRE_CONFIG = replace(TINY_PAPER_CONFIG, n_genres=10)
CLIP_25_S = PaperConfig()
CLIP_50_S = PaperConfig(n_visual_frames=100, n_pose_frames=800)


@pytest.mark.parametrize(
    ("config", "n_parameters"),
    [
        pytest.param(CLIP_25_S, 780_195_510, id="25s"),
        pytest.param(replace(CLIP_25_S, n_genres=10), 780_205_750, id="25s-genres"),
        pytest.param(CLIP_50_S, 780_247_110, id="50s"),
    ],
)
def test_parameter_count_equals_released_code(config: PaperConfig, n_parameters: int) -> None:
    with torch.device("meta"):
        model = PaperModel(to_official_config(config))
    assert sum(p.numel() for p in model.parameters()) == n_parameters
    assert config.stride == 16_384


@pytest.mark.parametrize(
    ("config", "digest"),
    [
        pytest.param(CLIP_50_S, "52a0a7e444787d7b", id="50s"),
        pytest.param(CLIP_25_S, "b99a2604cc70af9e", id="25s"),
    ],
)
def test_state_dict_names_and_shapes_equal_released_code(
    config: PaperConfig, digest: str
) -> None:
    """Compare a hash of all 1994 entries; the released code registers the U-Net twice."""
    with torch.device("meta"):
        state = PaperModel(to_official_config(config)).state_dict()
    second_unet = {
        key.replace("cond_diffusion.unet.", "cond_diffusion.diffusion.net."): value
        for key, value in state.items()
        if key.startswith("cond_diffusion.unet.")
    }
    entries = state | second_unet
    rows = sorted(f"{key}\t{tuple(value.shape)}" for key, value in entries.items())
    assert len(rows) == 1994
    assert hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16] == digest


class GoldenUNet(nn.Module):
    """U-Net with weights that are functions of the parameter names."""

    def __init__(self, config: PaperConfig) -> None:
        super().__init__()
        self.unet = PaperUNet(config)  # the names begin with `unet.`
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                index = torch.arange(parameter.numel(), dtype=torch.float64)
                value = 0.05 * torch.sin(0.1 * index + zlib.crc32(name.encode()) % 1000)
                value += name.endswith((".g", "groupnorm.weight"))
                parameter.copy_(value.float().reshape(parameter.shape))


def make_inputs(config: PaperConfig) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two examples: audio, noise conditioning c_noise, visual features and rhythm."""
    n = torch.arange(1024.0)
    audio = torch.stack(
        [
            torch.stack([0.1 * torch.sin(0.01 * n * (b + 1) + c) for c in range(2)])
            for b in range(2)
        ]
    )
    size = (2, config.n_visual_frames, config.visual_features)
    visual = torch.sin(0.37 * torch.arange(float(math.prod(size)))).reshape(size)
    rhythm = torch.zeros(2, config.n_pose_frames - 2)
    rhythm[0, ::5] = 1
    rhythm[1, ::7] = 1
    return audio, torch.tensor([-0.575646, -1.151293]), visual, rhythm


def make_model(config: PaperConfig) -> PaperModel:
    torch.manual_seed(0)
    return PaperModel(config)


@torch.no_grad()
def test_outputs_equal_golden_numbers_of_released_code() -> None:
    golden = GoldenUNet(GOLDEN_CONFIG)
    assert sum(p.numel() for p in golden.parameters()) == 2_569_976
    assert 2 * len(golden.state_dict()) == 660
    x, c_noise, visual, rhythm = make_inputs(GOLDEN_CONFIG)
    model = PaperModel(GOLDEN_CONFIG)
    model.cond_diffusion.unet = golden.unet
    condition = model.encode_conditions(visual, rhythm)
    # The golden numbers are those of the U-Net, without the visual encoder.
    condition = replace(condition, visual_tokens=visual)

    output = golden.unet(x, c_noise, condition=condition)
    approx = pytest.approx
    assert float(output.mean()) == approx(0.10152940666080212, abs=1e-6)
    assert float(output.std()) == approx(0.241315874119587, abs=1e-6)
    assert output[0, 0, :4].tolist() == approx(
        [0.031904, 0.098042, 0.137616, 0.149505], abs=1e-5
    )
    assert output[1, 1, -4:].tolist() == approx(
        [0.281908, 0.274566, 0.213926, 0.120272], abs=1e-5
    )

    pair = condition.concat(golden.unet.null_condition(condition), cache_kv=True)
    for _ in range(2):  # the second pass uses the cached keys and values
        guided = model.forward_guided(x, c_noise, pair, guidance=3.0)
        assert float(guided.mean()) == approx(0.10114943600160586, abs=1e-6)
        assert float(guided.std()) == approx(0.24268848758670952, abs=1e-6)
        assert guided[0, 0, :4].tolist() == approx(
            [0.025143, 0.090389, 0.134, 0.152298], abs=1e-5
        )

    denoised = precondition(
        lambda scaled, level: model.forward_guided(scaled, level, pair, guidance=3.0),
        x,
        torch.tensor([0.1, 0.01]),
        sigma_data=0.1,
    ).clamp(-1, 1)
    assert float(denoised.mean()) == approx(0.011916289152104298, abs=1e-6)
    assert float(denoised.std()) == approx(0.07967667912693699, abs=1e-6)
    assert denoised[0, 0, :4].tolist() == approx(
        [0.00162, 0.007648, 0.012141, 0.014877], abs=1e-5
    )


@torch.no_grad()
def test_batch_of_two_equals_two_batches_of_one() -> None:
    model = make_model(TINY_PAPER_CONFIG).eval()
    x, c_noise, visual, rhythm = make_inputs(TINY_PAPER_CONFIG)
    single = [
        model(
            x[k : k + 1],
            c_noise[k : k + 1],
            model.encode_conditions(visual[k : k + 1], rhythm[k : k + 1]),
            torch.tensor([False]),
        )
        for k in range(2)
    ]
    batch = model(
        x, c_noise, model.encode_conditions(visual, rhythm), torch.tensor([False, False])
    )
    assert not torch.allclose(batch[0], batch[1], atol=1e-3)
    torch.testing.assert_close(torch.cat(single), batch, atol=1e-5, rtol=1e-4)


Inputs = dict[str, Tensor]
CHANGES: dict[str, Callable[[Inputs], Inputs]] = {
    "visual": lambda inputs: {**inputs, "visual": inputs["visual"].flip(1)},
    "rhythm": lambda inputs: {**inputs, "rhythm": inputs["rhythm"].roll(1, 1)},
    "genre": lambda inputs: {**inputs, "genre": inputs["genre"].flip(0)},
}


def is_output_changed(config: PaperConfig, name: str, *, drop: bool = False) -> bool:
    """Return whether the network's output depends on one of its conditions."""
    model = make_model(config).eval()
    x, c_noise, visual, rhythm = make_inputs(config)
    inputs = {"visual": visual, "rhythm": rhythm, "genre": torch.tensor([1, 2])}
    drop_mask = torch.tensor([drop, drop])
    with torch.no_grad():
        before, after = (
            model(
                x,
                c_noise,
                model.encode_conditions(c["visual"], c["rhythm"], c["genre"]),
                drop_mask,
            )
            for c in (inputs, CHANGES[name](inputs))
        )
    return not torch.allclose(before, after, atol=1e-7)


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_output_depends_on_each_condition_unless_dropped(name: str) -> None:
    assert is_output_changed(GENRE_CONFIG, name)
    assert not is_output_changed(GENRE_CONFIG, name, drop=True)


def test_network_without_genres_ignores_the_genre() -> None:
    assert is_output_changed(TINY_PAPER_CONFIG, "rhythm")
    assert not is_output_changed(TINY_PAPER_CONFIG, "genre")


@pytest.mark.parametrize("hawkes_phase", ["interval", "kernel"])
def test_gradients_reach_all_parameters_in_paper_variant(hawkes_phase: HawkesPhase) -> None:
    config = replace(
        TINY_PAPER_CONFIG,
        multipliers=(1, 1, 2),
        factors=(4, 2),
        num_blocks=(1, 2),
        attentions=(False, True),
        n_genres=10,
        hawkes_phase=hawkes_phase,
    )
    model = make_model(config)
    x, c_noise, visual, rhythm = make_inputs(config)
    condition = model.encode_conditions(visual, rhythm, torch.tensor([0, 3]))
    model(x, c_noise, condition, torch.tensor([False, True])).square().mean().backward()
    without_gradient = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert without_gradient == []


def test_null_rhythm_is_untrained_in_official_variant_only() -> None:
    """Check the difference M9 of docs/differences.md."""
    gradients = {}
    for config in (TINY_PAPER_CONFIG, to_official_config(TINY_PAPER_CONFIG)):
        model = make_model(config)
        x, c_noise, visual, rhythm = make_inputs(config)
        condition = model.encode_conditions(visual, rhythm)
        model(x, c_noise, condition, torch.tensor([False, True])).square().mean().backward()
        gradients[config.compat] = model.unet.fixed_rhythm.embedding.weight.grad
    assert gradients["official"] is None
    assert gradients["paper"] is not None


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        ("constant", [1.0] * 16),
        ("interval", [k / 16 for k in (0, 0, 0, 0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 6)]),
        (
            "kernel",
            [
                sum(math.exp(-(n - peak) / 16 / 0.5) for peak in (3, 9) if n >= peak)
                for n in range(16)
            ],
        ),
    ],
    ids=["constant", "interval", "kernel"],
)
def test_hawkes_phase_offsets_equal_closed_form(
    phase: HawkesPhase, expected: list[float]
) -> None:
    rhythm = torch.zeros(1, 16)
    rhythm[0, [3, 9]] = 1
    offsets = HawkesEncoding(8, 20, phase).phase_offsets(rhythm)[0]
    assert offsets.tolist() == pytest.approx(expected, rel=1e-5)


def test_encoding_without_hawkes_is_sinusoidal_and_ignores_peaks() -> None:
    encoding = HawkesEncoding(8, 20, "none")
    no_peaks, all_peaks = encoding(torch.zeros(1, 16)), encoding(torch.ones(1, 16))
    assert torch.equal(no_peaks, all_peaks)
    expected = [math.sin(5 * 10_000 ** (-k / 4)) for k in range(4)]
    assert no_peaks[0, 5, :4].tolist() == pytest.approx(expected, abs=1e-6)


def test_seed_determines_initial_lstm_state_in_official_variant() -> None:
    """Check the difference M7 of docs/differences.md."""
    config = to_official_config(TINY_PAPER_CONFIG)
    model = make_model(config).eval()
    _, _, visual, rhythm = make_inputs(config)

    def encode_visual(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        condition = model.encode_conditions(visual, rhythm, generator=generator)
        assert condition.visual_tokens is not None
        return condition.visual_tokens

    with torch.no_grad():
        first, same_seed, other_seed = (encode_visual(seed) for seed in (3, 3, 4))
    assert torch.equal(first, same_seed)
    assert not torch.allclose(first[:, 0], other_seed[:, 0])
