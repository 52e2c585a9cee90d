"""Training examples, learning rate schedules and settings."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import make_features
from torch import nn

from loris_cli.array_types import Float32Array
from loris_cli.composition.chords import SCALES, Harmony
from loris_cli.errors import InputError, UsageError
from loris_cli.models.condition_routes import CONDITIONINGS, ROUTES
from loris_cli.models.mini_config import MiniDenoiserConfig
from loris_cli.training.datasets import (
    ClipAnnotations,
    DistributedBatchSampler,
    LatentDataset,
    clip_index,
    epoch_permutation,
    sample_condition,
    sample_routes,
)
from loris_cli.training.loop import count_optimizer_steps
from loris_cli.training.lr_schedule import build_parameter_groups, compute_lr
from loris_cli.training.settings import TrainingRecipe, TrainingSettings, resolve_settings

SCORE_FEATURES = make_features(
    24.0,
    np.arange(1.0, 23.0),
    energy=np.linspace(0, 1, 384),
    genre="house",
    harmony=Harmony(
        tonic=0,
        scale=SCALES["minor"],
        chord_starts_s=np.array([0.0]),
        chord_degrees=np.array([0]),
        subdivisions_s=np.arange(0, 24, 0.5),
    ),
    note_latent=np.random.default_rng(1).normal(size=(4, 517)).astype(np.float32),
)
POSE_FEATURES = replace(
    SCORE_FEATURES,
    peaks_s=SCORE_FEATURES.peaks_s + 0.03,
    keypoints=np.random.default_rng(0).uniform(0, 100, (384, 17, 3)),
)
ANNOTATIONS = ClipAnnotations(SCORE_FEATURES, POSE_FEATURES)


def list_examples_by_step(
    world_size: int, accumulate: int, steps: int, *, first_step: int = 0
) -> list[list[int]]:
    """Return the sorted example numbers that all processes of a run use in each step."""
    ranks = [
        list(
            islice(
                DistributedBatchSampler(
                    first_step=first_step,
                    batch_size=12,
                    rank=rank,
                    world_size=world_size,
                    accumulation_steps=accumulate,
                ),
                steps * accumulate,
            )
        )
        for rank in range(world_size)
    ]
    return [
        sorted(
            number
            for batches in ranks
            for batch in batches[k * accumulate : (k + 1) * accumulate]
            for number in batch
        )
        for k in range(steps)
    ]


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_examples_of_a_step_do_not_depend_on_the_processes(
    world_size: int, accumulate: int
) -> None:
    assert list_examples_by_step(world_size, accumulate, 5) == [
        list(range(12 * k, 12 * k + 12)) for k in range(5)
    ]
    resumed = list_examples_by_step(world_size, accumulate, 2, first_step=3)
    assert resumed == list_examples_by_step(1, 1, 5)[3:]


def test_each_epoch_has_every_clip_once_in_a_new_order() -> None:
    first, second = (
        [clip_index(7, number, 10) for number in range(start, start + 10)] for start in (0, 10)
    )
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert not np.array_equal(epoch_permutation(7, 0, 10), epoch_permutation(8, 0, 10))


def test_conditions_are_sampled_at_the_documented_rates() -> None:
    rng = np.random.default_rng(0)
    sampled = [sample_condition(ANNOTATIONS, rng) for _ in range(2000)]

    from_pose = np.mean([features.peaks_s[0] == 1.03 for features in sampled])
    without_pose = np.mean([features.keypoints is None for features in sampled])
    without_harmony = np.mean([features.harmony is None for features in sampled])
    without_notes = np.mean([features.note_latent is None for features in sampled])
    assert from_pose == pytest.approx(0.4, abs=0.04)
    assert without_pose == pytest.approx(0.1, abs=0.03)
    assert without_harmony == pytest.approx(0.1, abs=0.03)
    assert without_notes == pytest.approx(0.1 + 0.9 * 0.05, abs=0.03)
    assert all(features.note_latent is None for features in sampled if features.harmony is None)


def test_routes_are_those_of_a_conditioning_without_some() -> None:
    rng = np.random.default_rng(0)
    sampled = [sample_routes(rng, CONDITIONINGS) for _ in range(4000)]
    frequency = {name: np.mean([name in routes for routes in sampled]) for name in ROUTES}
    assert frequency["notes"] == pytest.approx(0.9 * 0.5, abs=0.03)
    assert frequency["aligned_rhythm"] == pytest.approx(0.9 * 0.75, abs=0.03)
    assert frequency["rhythm_tokens"] == pytest.approx(0.9, abs=0.03)
    only_tokens = np.mean([routes == {"rhythm_tokens"} for routes in sampled])
    assert only_tokens > 0.9 * 0.25
    score = [sample_routes(rng, ["score"]) for _ in range(200)]
    assert sum(routes == {*ROUTES} for routes in score) > 100


def test_clip_without_poses_is_sampled_without_keypoints() -> None:
    annotations, rng = ClipAnnotations(SCORE_FEATURES, None), np.random.default_rng(1)
    assert all(sample_condition(annotations, rng).keypoints is None for _ in range(20))


def make_dataset(
    latents: list[Float32Array] | None = None, *, condition_dropout: float = 0.1
) -> LatentDataset:
    rng = np.random.default_rng(3)
    return LatentDataset(
        latents=latents or [rng.normal(size=(4, 300)).astype(np.float32) for _ in range(3)],
        annotations=[ANNOTATIONS] * 3,
        config=MiniDenoiserConfig(window_frames=256, note_latent_channels=4),
        seed=0,
        condition_dropout=condition_dropout,
    )


def test_example_depends_only_on_its_number() -> None:
    first, repeated, other = make_dataset()[17], make_dataset()[17], make_dataset()[18]
    assert all(torch.equal(first[key], repeated[key]) for key in first)
    assert not torch.equal(first["noise"], other["noise"])
    assert first["clean"].shape == first["noise"].shape == (4, 256)
    assert first["pose"].shape[1:] == (17, 3)


def test_crop_has_the_note_latent_of_its_time_range() -> None:
    """The note latents equal the latents, so their crops are equal unless they are dropped."""
    assert SCORE_FEATURES.note_latent is not None
    dataset = make_dataset([SCORE_FEATURES.note_latent] * 3, condition_dropout=0.0)
    samples = [dataset[number] for number in range(60)]
    is_equal = [torch.equal(example["note_latent"], example["clean"]) for example in samples]
    is_dropped = [not example["note_latent"].any() for example in samples]
    assert 45 < sum(is_equal) < 60
    assert sum(is_equal) + sum(is_dropped) == 60


@pytest.mark.slow
def test_noise_levels_are_log_normal() -> None:
    dataset = make_dataset()
    log_sigmas = np.log([float(dataset[number]["sigma"]) for number in range(400)])
    assert log_sigmas.mean() == pytest.approx(-0.4, abs=0.2)
    assert log_sigmas.std() == pytest.approx(1.2, abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dropout", "n_examples", "tolerance"), [(0.0, 20, 0.0), (0.25, 400, 0.07), (1.0, 20, 0.0)]
)
def test_conditions_are_dropped_at_the_given_rate(
    dropout: float, n_examples: int, tolerance: float
) -> None:
    dataset = make_dataset(condition_dropout=dropout)
    is_dropped = [bool(dataset[number]["drop_mask"]) for number in range(n_examples)]
    assert np.mean(is_dropped) == pytest.approx(dropout, abs=tolerance)


def test_default_learning_rate_warms_up_and_decays_to_zero() -> None:
    settings = TrainingSettings(learning_rate=0.1, warmup_steps=5)
    rates = [compute_lr(settings, "new", step, 60) for step in range(61)]
    assert rates[0] == pytest.approx(0.02)
    assert set(rates[4:49]) == {0.1}
    assert rates[54] == pytest.approx(0.05)
    assert rates[60] == pytest.approx(0, abs=1e-9)


def test_learning_rates_equal_the_paper_and_the_released_code() -> None:
    def rate_at(recipe: str, group: str, step: int) -> float:
        settings = TrainingSettings(recipe=recipe)  # type: ignore[arg-type]
        return compute_lr(settings, group, step, 10_000)

    # Paper, Sec. 5.1: 2e-4 for all layers, then 3e-6 for the backbone and 3e-3 for new layers.
    assert [rate_at("paper", "backbone", k) for k in (0, 999, 1000)] == [2e-4, 2e-4, 3e-6]
    assert [rate_at("paper", "new", k) for k in (0, 999, 1000)] == [2e-4, 2e-4, 3e-3]
    # The released code raises the rate of the backbone to 2e-4; that of new layers is constant.
    assert [rate_at("official", "backbone", k) for k in (0, 500, 1000, 5000)] == pytest.approx(
        [3e-6, 1.015e-4, 2e-4, 2e-4]
    )
    assert {rate_at("official", "new", k) for k in (0, 500, 5000)} == {3e-3}


def test_parameters_are_grouped_into_backbone_and_new_layers() -> None:
    module = nn.ModuleDict({"old": nn.Linear(2, 2), "new": nn.Linear(2, 3)})
    groups = build_parameter_groups(
        TrainingSettings(recipe="paper"), module, ["old.weight", "old.bias"]
    )
    sizes = {name: sum(p.numel() for p in group) for name, group in groups.items()}
    assert sizes == {"backbone": 6, "new": 9}
    assert set(build_parameter_groups(TrainingSettings(), module, [])) == {"new"}


def test_recipe_without_its_backbone_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="backbone") as caught:
        build_parameter_groups(TrainingSettings(recipe="official"), nn.Linear(2, 2), [])
    assert "--stage unconditional" in caught.value.hint


@pytest.mark.parametrize(
    ("recipe", "subset", "expected"),
    [
        ("default", "da25", 10), ("default", "fs50", 8),
        ("paper", "fe25", 10), ("paper", "fe50", 10), ("paper", "fs25", 8),
        ("official", "da25", 10), ("official", "fs25", 8), ("official", "fe50", 4),
    ],
)  # fmt: skip
def test_batch_size_of_the_paper_depends_on_subset_and_processes(
    recipe: TrainingRecipe, subset: str, expected: int
) -> None:
    def resolve(world_size: int, *overrides: str) -> TrainingSettings:
        return resolve_settings(
            preset="paper",
            stage="conditional",
            recipe=recipe,
            subset=subset,
            world_size=world_size,
            overrides=overrides,
        )

    assert [resolve(n).batch_size for n in (1, 2, 8)] == [expected * n for n in (1, 2, 8)]
    assert resolve(8, "batch_size=16").batch_size == 16


def test_number_of_steps_follows_from_the_batch_of_all_processes() -> None:
    options = {"preset": "paper", "stage": "conditional", "recipe": "paper", "subset": "fs25"}
    one, eight = (resolve_settings(**options, world_size=n) for n in (1, 8))  # type: ignore[arg-type]
    assert count_optimizer_steps(one, 7726) == 241_438
    assert count_optimizer_steps(eight, 7726) == 30_180
    mini = resolve_settings(
        preset="mini", stage="conditional", recipe="default", subset="a", world_size=8
    )
    assert mini.batch_size == 6


def test_overrides_precede_the_config_file_and_the_recipe(tmp_path: Path) -> None:
    config_path = tmp_path / "run.toml"
    config_path.write_text("batch_size = 4\nloader_workers = 3\n[latent]\nbatch_size = 7\n")

    def resolve(stage: str, *overrides: str) -> TrainingSettings:
        return resolve_settings(
            preset="mini",
            stage=stage,  # type: ignore[arg-type]
            recipe="paper",
            subset="fe25",
            config_path=config_path,
            overrides=overrides,
        )

    conditional = resolve("conditional", "bf16=true")
    assert (conditional.epochs, conditional.weight_decay) == (200, 4.5e-2)
    values = (conditional.batch_size, conditional.loader_workers, conditional.bf16)
    assert values == (4, 3, True)
    latent = resolve("latent", "batch_size=9")
    assert (latent.batch_size, latent.recipe, latent.weight_decay) == (9, "default", 0.01)
    assert resolve("latent").batch_size == 7
    assert resolve("unconditional").condition_dropout == 1.0


@pytest.mark.parametrize(
    ("recipe", "subset", "epochs"),
    [("paper", "da25", 100), ("paper", "fs50", 250), ("official", "da25", 250)],
)
def test_recipe_and_subset_determine_the_epochs(recipe: str, subset: str, epochs: int) -> None:
    settings = resolve_settings(
        preset="mini",
        stage="conditional",
        recipe=recipe,  # type: ignore[arg-type]
        subset=subset,
    )
    assert settings.epochs == epochs


def resolve_mini_settings(*overrides: str, config_path: Path | None = None) -> TrainingSettings:
    return resolve_settings(
        preset="mini",
        stage="conditional",
        recipe="default",
        subset="a",
        config_path=config_path,
        overrides=overrides,
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("bach=3", r"'bach'"),
        ("batch", r"'batch'.*key=value"),
        ("batch_size=many", r"batch_size 'many'.*\bint\b"),
        ("batch_size=0", r"batch_size '0'.*\b1\b"),
        ("bf16=perhaps", r"bf16 'perhaps'.*\bbool\b"),
        ("stage=latent", r"'stage'"),
        ("learning_rate=nan", r"learning_rate 'nan'"),
    ],
    ids=["unknown", "no-value", "type", "range", "boolean", "fixed-setting", "nan"],
)
def test_invalid_override_is_a_usage_error(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        resolve_mini_settings(override)
    assert caught.value.hint


@pytest.mark.parametrize(
    "content",
    [None, b"batch = ", b"\xff\xfe\x00", b"conditional = 3\n"],
    ids=["missing", "invalid-toml", "not-utf8", "stage-is-no-table"],
)
def test_invalid_config_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "run.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"run\.toml"):
        resolve_mini_settings(config_path=path)
