"""Ablation settings of the paper's network: inputs used, gradients, cached attention."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_models import TINY_PAPER_CONFIG
from torch import Tensor

from loris_cli.models.paper_condition import PaperCondition
from loris_cli.models.paper_config import PaperConfig
from loris_cli.models.paper_unet import PaperModel, upsample_to_audio
from loris_cli.models.stgcn import PaperMotionEncoder

# Clips of 0.5 s.
FULL_CONFIG = replace(TINY_PAPER_CONFIG, visual_features=12, n_pose_frames=8, n_genres=10)
VARIANT_OVERRIDES: dict[str, dict[str, Any]] = {
    "full": {},
    "w/o V": {"visual_projection": "none"},
    "w/o R": {"rhythm_conditioning": "none"},
    "w/ M": {"motion_encoder": True},
    "M without V": {"motion_encoder": True, "visual_projection": "none"},
    "w/o LSTM": {"visual_projection": "linear"},
    "w/o Hawkes": {"hawkes_phase": "none"},
    "w/o PE": {"positional_encoding": False},
    "w/ rhymul": {"rhythm_conditioning": "multiply"},
    "aligned_rhythm": {"aligned_rhythm": True},
    "shared_rhythm_encoder": {"shared_rhythm_encoder": True},
}
# Changes of the inputs that change the output of each variant. "video order" and "rhythm shift"
# move values without changing them.
EFFECTIVE_CHANGES = {
    "full": {"video", "video order", "rhythm", "rhythm shift", "genre"},
    "w/o V": {"rhythm", "rhythm shift", "genre"},
    "w/o R": {"video", "video order", "genre"},
    "w/ M": {"video", "video order", "rhythm", "rhythm shift", "genre", "motion"},
    "M without V": {"rhythm", "rhythm shift", "genre", "motion"},
    # Attention ignores the order of its context. The LSTM and the positional encoding add it.
    "w/o LSTM": {"video", "rhythm", "rhythm shift", "genre"},
    "w/o Hawkes": {"video", "video order", "rhythm", "rhythm shift", "genre"},
    "w/o PE": {"video", "video order", "rhythm", "genre"},
    "w/ rhymul": {"video", "video order", "genre", "envelope"},
    "aligned_rhythm": {"video", "video order", "rhythm", "rhythm shift", "genre"},
    "shared_rhythm_encoder": {"video", "video order", "rhythm", "rhythm shift", "genre"},
}
INPUT_CHANGES: dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
    "video": lambda inputs: inputs | {"video": inputs["video"] + 1},
    "video order": lambda inputs: inputs | {"video": inputs["video"].flip(1)},
    "rhythm": lambda inputs: inputs | {"rhythm": 1 - inputs["rhythm"]},
    "rhythm shift": lambda inputs: inputs | {"rhythm": inputs["rhythm"].roll(1, 1)},
    "genre": lambda inputs: inputs | {"genre": inputs["genre"].flip(0)},
    "envelope": lambda inputs: inputs | {"envelope": inputs["envelope"].flip(1)},
    "motion": lambda inputs: inputs | {"motion": inputs["motion"] + 1},
}
C_NOISE = torch.tensor([0.3, -0.5])


def make_inputs() -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(1)
    rhythm = torch.zeros(2, 6)
    rhythm[:, ::4] = 1
    return {
        "video": torch.randn(2, 4, 12, generator=rng),
        "rhythm": rhythm,
        "genre": torch.tensor([1, 2]),
        "envelope": torch.rand(2, 6, generator=rng),
        "motion": torch.randn(2, 8, 17, 3, generator=rng),
    }


def make_model(variant: str) -> PaperModel:
    torch.manual_seed(0)
    return PaperModel(replace(FULL_CONFIG, **VARIANT_OVERRIDES[variant]))


def encode_conditions(model: PaperModel, inputs: dict[str, Tensor]) -> PaperCondition:
    return model.encode_conditions(
        inputs["video"],
        inputs["rhythm"],
        inputs["genre"],
        onset_envelope=inputs["envelope"],
        pose=inputs["motion"],
    )


def evaluate_model(
    model: PaperModel, inputs: dict[str, Tensor], drop_mask: tuple[bool, bool]
) -> Tensor:
    audio = torch.sin(0.05 * torch.arange(2 * 2 * 8192.0)).reshape(2, 2, 8192)
    output: Tensor = model(
        audio, C_NOISE, encode_conditions(model, inputs), torch.tensor(drop_mask)
    )
    return output


@pytest.mark.parametrize("variant", VARIANT_OVERRIDES)
@torch.no_grad()
def test_output_depends_on_exactly_the_inputs_of_the_variant(variant: str) -> None:
    model = make_model(variant).eval()
    output = evaluate_model(model, make_inputs(), (False, False))
    effective = {
        name
        for name, change in INPUT_CHANGES.items()
        if not torch.allclose(
            output,
            evaluate_model(model, change(make_inputs()), (False, False)),
            atol=2e-6,
            rtol=1e-5,
        )
    }
    assert effective == EFFECTIVE_CHANGES[variant]


@pytest.mark.parametrize("variant", VARIANT_OVERRIDES)
def test_every_parameter_gets_a_nonzero_gradient(variant: str) -> None:
    model = make_model(variant)
    loss = evaluate_model(model, make_inputs(), (False, True)).square().mean()
    torch.autograd.backward(loss)
    without_gradient = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert without_gradient == []


@pytest.mark.parametrize("variant", VARIANT_OVERRIDES)
@torch.no_grad()
def test_guidance_in_one_batch_with_cached_keys_equals_separate_calls(variant: str) -> None:
    model = make_model(variant).eval()
    condition = encode_conditions(model, make_inputs())
    null = model.unet.null_condition(condition)
    audio = torch.randn(2, 2, 8192)
    conditional = model.unet(audio, C_NOISE, condition=condition)
    unconditional = model.unet(audio, C_NOISE, condition=null)
    expected = unconditional + 3 * (conditional - unconditional)

    pair = condition.concat(null, cache_kv=True)
    for _ in range(2):  # the first call fills the cache, the second reads it
        guided = model.forward_guided(audio, C_NOISE, pair, guidance=3.0)
        torch.testing.assert_close(guided, expected, atol=1e-5, rtol=1e-5)
        unguided = model.forward_guided(audio, C_NOISE, pair, guidance=1.0)
        torch.testing.assert_close(unguided, conditional, atol=1e-5, rtol=1e-5)
    assert pair.kv_cache


def test_shared_rhythm_encoder_replaces_29_encoders_by_one() -> None:
    with torch.device("meta"):
        n_separate, n_shared = (
            sum(
                parameter.numel()
                for parameter in PaperModel(
                    PaperConfig(shared_rhythm_encoder=is_shared)
                ).parameters()
            )
            for is_shared in (False, True)
        )
    assert n_separate - n_shared == 28 * 8_396_288


def test_motion_encoder_has_2_547_003_parameters() -> None:
    with torch.device("meta"):
        encoder = PaperMotionEncoder(1024)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 2_547_003


def test_curve_upsampled_to_audio_is_linear_between_steps() -> None:
    steps = torch.tensor([[0.0, 0.0, 1.0, 0.0, 0.0, 0.5]])
    curve = upsample_to_audio(steps, 22_050)[0, 0]

    def read_at(frame: float) -> float:
        return float(curve[round(frame * 22_050 / 16)])

    assert read_at(2 + 2) == pytest.approx(1, abs=1e-3)
    assert read_at(2 + 2.5) == pytest.approx(0.5, abs=1e-3)
    assert read_at(2 + 4) == pytest.approx(0, abs=1e-3)
    assert read_at(15) == pytest.approx(0.5)
    assert upsample_to_audio(steps, 22_048, hop=32).shape == (1, 1, 689)


def test_aligned_rhythm_without_rhythm_conditioning_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"aligned_rhythm.*rhythm_conditioning"):
        PaperConfig(aligned_rhythm=True, rhythm_conditioning="none")
