"""Each ablation of the paper is a switch: it is built, it learns, and what is off is off."""

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

FULL = replace(
    TINY_PAPER_CONFIG,
    heads=2,
    head_features=8,
    visual_features=12,
    n_visual_frames=4,
    n_pose_frames=8,
    n_genres=10,
)
"""Of clips of half a second."""
ABLATIONS: dict[str, dict[str, Any]] = {
    "full": {},
    "w/o V": {"visual_projection": "none"},
    "w/o R": {"rhythm_conditioning": "none"},
    "w/ M": {"motion_encoder": True},
    "M alone": {"motion_encoder": True, "visual_projection": "none"},
    "w/o LSTM": {"visual_projection": "linear"},
    "w/o Hawkes": {"hawkes_phase": "none"},
    "w/o PE": {"positional_encoding": False},
    "w/ rhymul": {"rhythm_conditioning": "multiply"},
    "aligned_rhythm": {"aligned_rhythm": True},
    "shared": {"shared_rhythm_encoder": True},
}
LEVEL = torch.tensor([0.3, -0.5])
EXPECTED = {
    "full": {"video", "order", "rhythm", "shift", "genre"},
    "w/o V": {"rhythm", "shift", "genre"},
    "w/o R": {"video", "order", "genre"},
    "w/ M": {"video", "order", "rhythm", "shift", "genre", "motion"},
    "M alone": {"rhythm", "shift", "genre", "motion"},
    # Attention does not know the order of what it looks at: the LSTM and the positions tell.
    "w/o LSTM": {"video", "rhythm", "shift", "genre"},
    "w/o Hawkes": {"video", "order", "rhythm", "shift", "genre"},
    "w/o PE": {"video", "order", "rhythm", "genre"},
    "w/ rhymul": {"video", "order", "genre", "envelope"},
    "aligned_rhythm": {"video", "order", "rhythm", "shift", "genre"},
    "shared": {"video", "order", "rhythm", "shift", "genre"},
}
"""Inputs of each network; ``order`` and ``shift`` move values without changing them."""


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


CHANGES: dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
    "video": lambda inputs: inputs | {"video": inputs["video"] + 1},
    "order": lambda inputs: inputs | {"video": inputs["video"].flip(1)},
    "rhythm": lambda inputs: inputs | {"rhythm": 1 - inputs["rhythm"]},
    "shift": lambda inputs: inputs | {"rhythm": inputs["rhythm"].roll(1, 1)},
    "genre": lambda inputs: inputs | {"genre": inputs["genre"].flip(0)},
    "envelope": lambda inputs: inputs | {"envelope": inputs["envelope"].flip(1)},
    "motion": lambda inputs: inputs | {"motion": inputs["motion"] + 1},
}


def network(name: str) -> PaperModel:
    torch.manual_seed(0)
    return PaperModel(replace(FULL, **ABLATIONS[name]))


def encode(model: PaperModel, inputs: dict[str, Tensor]) -> PaperCondition:
    return model.encode_conditions(
        inputs["video"],
        inputs["rhythm"],
        inputs["genre"],
        onset_envelope=inputs["envelope"],
        pose=inputs["motion"],
    )


def evaluate(
    model: PaperModel, inputs: dict[str, Tensor], dropped: tuple[bool, bool]
) -> Tensor:
    audio = torch.sin(0.05 * torch.arange(2 * 2 * 8192.0)).reshape(2, 2, 8192)
    out: Tensor = model(audio, LEVEL, encode(model, inputs), torch.tensor(dropped))
    return out


@pytest.mark.parametrize("name", ABLATIONS)
@torch.no_grad()
def test_it_hears_what_it_is_built_for_and_nothing_else(name: str) -> None:
    model = network(name).eval()
    plain = evaluate(model, make_inputs(), (False, False))
    changed = {
        change
        for change, apply in CHANGES.items()
        if not torch.allclose(
            plain, evaluate(model, apply(make_inputs()), (False, False)), atol=2e-6, rtol=1e-5
        )
    }
    assert changed == EXPECTED[name]


@pytest.mark.parametrize("name", ABLATIONS)
def test_gradients_reach_all_that_should_train(name: str) -> None:
    model = network(name)
    torch.autograd.backward(evaluate(model, make_inputs(), (False, True)).square().mean())
    idle = [
        key
        for key, value in model.named_parameters()
        if value.grad is None or not value.grad.any()
    ]
    assert idle == []


@pytest.mark.parametrize("name", ABLATIONS)
@torch.no_grad()
def test_what_is_kept_changes_nothing(name: str) -> None:
    """Rhythm tokens, keys and values of a condition are made once; guidance is one batch."""
    model = network(name).eval()
    condition = encode(model, make_inputs())
    null = model.unet.null_condition(condition)
    audio, level = torch.randn(2, 2, 8192), LEVEL
    conditional = model.unet(audio, level, condition=condition)
    null_output = model.unet(audio, level, condition=null)
    separate = null_output + 3 * (conditional - null_output)
    pair = condition.concat(null, cache_kv=True)
    for _ in range(2):  # while it is made, and once it is kept
        guided = model.forward_guided(audio, level, pair, guidance=3.0)
        torch.testing.assert_close(guided, separate, atol=1e-5, rtol=1e-5)
        alone = model.forward_guided(audio, level, pair, guidance=1.0)
        torch.testing.assert_close(alone, conditional, atol=1e-5, rtol=1e-5)
    assert pair.kv_cache


def test_a_shared_encoder_saves_all_but_one_of_the_29() -> None:
    with torch.device("meta"):
        sizes = [
            sum(
                p.numel()
                for p in PaperModel(PaperConfig(shared_rhythm_encoder=shared)).parameters()
            )
            for shared in (False, True)
        ]
    assert sizes[0] - sizes[1] == 28 * 8_396_288


def test_the_motion_encoder_has_the_size_it_is_told_to_have() -> None:
    with torch.device("meta"):
        model = PaperMotionEncoder(1024)
    assert sum(p.numel() for p in model.parameters()) == 2_547_003


def test_a_curve_on_the_sound_is_at_its_step_and_straight_between() -> None:
    steps = torch.tensor([[0.0, 0.0, 1.0, 0.0, 0.0, 0.5]])
    curve = upsample_to_audio(steps, 22_050)[0, 0]

    def at(frame: float) -> float:
        return float(curve[round(frame * 22_050 / 16)])

    assert at(2 + 2) == pytest.approx(1, abs=1e-3)
    assert at(2 + 2.5) == pytest.approx(0.5, abs=1e-3)
    assert at(2 + 4) == pytest.approx(0, abs=1e-3)
    assert at(15) == pytest.approx(0.5)
    assert upsample_to_audio(steps, 22_048, hop=32).shape == (1, 1, 689)


def test_an_aligned_rhythm_needs_a_rhythm() -> None:
    with pytest.raises(ValueError, match="needs a rhythm"):
        PaperConfig(aligned_rhythm=True, rhythm_conditioning="none")
