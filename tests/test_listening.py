"""Listening test: a blind kit with equal loudness, and scores of valid answers only."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click_dataset import write_click_dataset
from conftest import RunLoris

from loris_cli.audio.loudness import measure_loudness
from loris_cli.dataset.manifest import read_manifest
from loris_cli.errors import InputError
from loris_cli.evaluation.report.listening_test import (
    TARGET_LUFS,
    score_answers,
    write_listening_kit,
)
from loris_cli.evaluation.runner.audio_analysis import AnalysisConfig
from loris_cli.evaluation.runner.clips import EvalClip, build_eval_clip
from loris_cli.evaluation.runner.run import EvaluationPlan, EvaluationResult, run_evaluation
from loris_cli.system.progress import NullReporter

HEADER = "question,first,second,answer\n"


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> EvaluationResult:
    """Evaluation of the reference, and of files that all are the audio of one clip."""
    data = tmp_path_factory.mktemp("evaluation") / "data"
    clips = write_click_dataset(data)
    eval_clips = [build_eval_clip(data, clip) for clip in read_manifest(data)]
    plan = EvaluationPlan(
        title="fe50",
        clips=[clip for clip in eval_clips if isinstance(clip, EvalClip)],
        generated_files={clip.id: data / clips[0].audio for clip in clips},
        bounds=["ground_truth"],
        analysis_config=AnalysisConfig(strict_metrics=False),
    )
    return run_evaluation(plan, reporter=NullReporter())


@pytest.fixture(scope="module")
def kit(result: EvaluationResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Listening test with two clips of two systems."""
    folder = tmp_path_factory.mktemp("listening") / "kit"
    write_listening_kit(result, folder, n_clips=2, seed=0, reporter=NullReporter())
    return folder


def read_key(kit: Path) -> dict[str, Any]:
    """System and clip of each take, by take number."""
    key: dict[str, Any] = json.loads((kit / "key.json").read_text())["takes"]
    return key


def list_takes(kit: Path, system: str) -> list[str]:
    """Numbers of the takes of a system, sorted by clip."""
    key = read_key(kit)
    return sorted((n for n in key if key[n]["system"] == system), key=lambda n: key[n]["clip"])


def test_the_kit_does_not_reveal_systems_or_clips(kit: Path) -> None:
    names = sorted(path.relative_to(kit / "kit").as_posix() for path in kit.rglob("kit/**/*.*"))
    page = (kit / "kit" / "index.html").read_text()

    assert names == [*(f"audio/{n}.flac" for n in range(1, 5)), "index.html"]
    assert not re.search("ground_truth|generated|clip-", page)
    assert "{{" not in page


def test_the_page_has_every_take_and_every_pair_of_a_clip(kit: Path) -> None:
    page = (kit / "kit" / "index.html").read_text()
    match = re.search(r"const items = (\{.*\});", page)
    assert match
    items = json.loads(match[1])
    key = read_key(kit)

    assert sorted(items["takes"]) == [1, 2, 3, 4]
    assert len(items["pairs"]) == 2
    for a, b in items["pairs"]:
        assert key[str(a)]["clip"] == key[str(b)]["clip"]
        assert key[str(a)]["system"] != key[str(b)]["system"]


def test_all_takes_have_the_target_loudness(kit: Path) -> None:
    paths = list(kit.rglob("*.flac"))
    assert len(paths) == 4
    for path in paths:
        assert measure_loudness(path).integrated_lufs == pytest.approx(TARGET_LUFS, abs=0.6)


def test_ratings_and_preferences_are_averaged_by_system(kit: Path, tmp_path: Path) -> None:
    reference_a, reference_b = list_takes(kit, "ground_truth")
    generated_a, generated_b = list_takes(kit, "generated")
    answers = tmp_path / "a.csv"
    rows = [
        f"rating-audio,{reference_a},,5",
        f"rating-audio,{reference_b},,4",
        f"rating-audio,{generated_a},,2",
        f"preference-audio,{reference_a},{generated_a},first",
        f"preference-audio,{generated_b},{reference_b},second",
    ]
    answers.write_text(HEADER + "\n".join(rows) + "\n")

    generated, reference, preference = score_answers([answers], kit / "key.json")

    # Ratings of one clip have no interval.
    assert (generated.system_id, generated.mean, generated.ci_low) == ("generated", 2.0, None)
    assert (reference.system_id, reference.mean, reference.n_answers) == (
        "ground_truth",
        4.5,
        2,
    )
    assert (preference.system_id, preference.other_system_id, preference.mean) == (
        "generated",
        "ground_truth",
        0.0,
    )
    # Clopper-Pearson interval of 0 out of 2.
    assert preference.ci_high == pytest.approx(1 - 0.025**0.5)


@pytest.mark.parametrize(
    ("row", "value"),
    [
        ("rating-audio,1,,6\n", "'6'"),
        ("rating-audio,99,,3\n", "'99'"),
        ("rating-audio,1,,\n", "''"),
        ("comment-audio,1,,3\n", "'comment-audio'"),
    ],
    ids=["rating above 5", "unknown take", "no answer", "unknown question"],
)
def test_invalid_answers_are_rejected(row: str, value: str, kit: Path, tmp_path: Path) -> None:
    answers = tmp_path / "a.csv"
    answers.write_text(HEADER + row)

    with pytest.raises(InputError, match=r"a\.csv.*" + value):
        score_answers([answers], kit / "key.json")


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", "\x00"], ids=["empty", "other columns", "null byte"]
)
def test_files_of_another_format_are_not_answers_or_a_key(
    text: str, kit: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)

    with pytest.raises(InputError, match=r"a\.csv"):
        score_answers([path], kit / "key.json")
    with pytest.raises(InputError, match=r"a\.csv.* key "):
        score_answers([path], path)


def test_the_command_line_makes_a_kit_and_scores_its_answers(
    loris: RunLoris, kit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORIS_CACHE", str(tmp_path / "cache"))
    source = kit / "kit" / "audio" / "1.flac"
    new_kit = tmp_path / "kit"

    run = loris("eval", "--generated", source, "--reference", source, "--bound",
                "ground_truth", "--no-strict", "--jobs", 1, "--mos-kit", new_kit)  # fmt: skip
    [number] = list_takes(new_kit, "generated")
    answers = tmp_path / "a.csv"
    answers.write_text(f"{HEADER}rating-audio,{number},,4\n")
    scores = loris("eval", "mos-results", answers, "--key", new_kit / "key.json")

    assert run.exit_code == 0, run.stderr
    assert f"{new_kit}: 2 " in run.stdout
    assert scores.stdout.splitlines()[1].split() == ["generated", "audio", "1", "4.00", "-"]
    assert loris("eval", "mos-results", answers).exit_code == 2


def test_a_kit_needs_two_systems(result: EvaluationResult, tmp_path: Path) -> None:
    models = [system for system in result.systems if system.category == "model"]
    assert len(models) == 1
    folder = tmp_path / "kit"
    with pytest.raises(InputError):
        write_listening_kit(
            replace(result, systems=models), folder, n_clips=1, seed=0, reporter=NullReporter()
        )
    assert not folder.exists()
