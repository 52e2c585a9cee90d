"""The listening kit: blind, as loud as each other, and answers that can be trusted."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import RunLoris
from corpus import write_click_dataset

from loris_cli.audio.loudness import measure_loudness
from loris_cli.dataset.manifest import read_manifest
from loris_cli.errors import InputError
from loris_cli.evaluation.report.listening_test import (
    TARGET_LUFS,
    make_listening_kit,
    score_answers,
)
from loris_cli.evaluation.runner.audio_analysis import AnalysisConfig
from loris_cli.evaluation.runner.clips import EvalClip, build_eval_clip
from loris_cli.evaluation.runner.run import EvaluationPlan, EvaluationResult, run_evaluation
from loris_cli.system.progress import NullReporter

HEAD = "question,first,second,answer\n"


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> EvaluationResult:
    data = tmp_path_factory.mktemp("kit") / "data"
    clips = write_click_dataset(data)
    cases = [build_eval_clip(data, clip) for clip in read_manifest(data)]
    plan = EvaluationPlan(
        title="fe50",
        clips=[case for case in cases if isinstance(case, EvalClip)],
        generated_files={clip.id: data / clips[0].audio for clip in clips},
        bounds=["ground_truth"],
        analysis_config=AnalysisConfig(strict_metrics=False),
    )
    return run_evaluation(plan, reporter=NullReporter())


@pytest.fixture(scope="module")
def kit(result: EvaluationResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "kit"
    make_listening_kit(result, folder, n_clips=2, seed=0, reporter=NullReporter())
    return folder


def key_of(kit: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((kit / "key.json").read_text())["sounds"]
    return result


def numbers(kit: Path, row: str) -> list[str]:
    """The sounds of a row, by clip."""
    key = key_of(kit)
    return sorted((n for n in key if key[n]["system"] == row), key=lambda n: key[n]["clip"])


def test_the_kit_tells_nothing_of_whose_a_sound_is(kit: Path) -> None:
    inside = sorted(
        path.relative_to(kit / "kit").as_posix() for path in kit.rglob("kit/**/*.*")
    )
    page = (kit / "kit" / "index.html").read_text()

    assert inside == ["index.html", *(f"sounds/{n}.flac" for n in range(1, 5))]
    assert not re.search("ground_truth|generated|clip-", page)
    assert "{{" not in page


def test_the_page_asks_of_every_sound_and_of_every_two_of_a_clip(kit: Path) -> None:
    page = (kit / "kit" / "index.html").read_text()
    found = re.search(r"const items = (\{.*\});", page)
    assert found
    items = json.loads(found[1])
    key = key_of(kit)

    assert sorted(items["sounds"]) == [1, 2, 3, 4]
    assert len(items["pairs"]) == 2
    for a, b in items["pairs"]:
        assert key[str(a)]["clip"] == key[str(b)]["clip"]
        assert key[str(a)]["system"] != key[str(b)]["system"]


def test_all_sounds_are_as_loud(kit: Path) -> None:
    for path in kit.rglob("*.flac"):
        assert measure_loudness(path).integrated_lufs == pytest.approx(TARGET_LUFS, abs=0.6)


def test_ratings_and_preferences_are_counted_by_row(kit: Path, tmp_path: Path) -> None:
    (true_a, true_b), (made_a, made_b) = numbers(kit, "ground_truth"), numbers(kit, "generated")
    answers = tmp_path / "a.csv"
    given = [
        f"rating-audio,{true_a},,5",
        f"rating-audio,{true_b},,4",
        f"rating-audio,{made_a},,2",
        f"preference-audio,{true_a},{made_a},first",
        f"preference-audio,{made_b},{true_b},second",
    ]
    answers.write_text(HEAD + "\n".join(given) + "\n")

    made, true, preferred = score_answers([answers], kit / "key.json")

    assert (made.system_id, made.mean, made.ci_low) == ("generated", 2.0, None)  # of one clip
    assert (true.system_id, true.mean, true.n_answers) == ("ground_truth", 4.5, 2)
    assert (preferred.system_id, preferred.other_system_id, preferred.mean) == (
        "generated",
        "ground_truth",
        0.0,
    )
    assert preferred.ci_high == pytest.approx(
        1 - 0.025**0.5
    )  # none of two, Clopper and Pearson


@pytest.mark.parametrize(
    "rows",
    ["rating-audio,1,,6\n", "rating-audio,99,,3\n", "rating-audio,1,,\n", "hearsay,1,,3\n"],
)
def test_answers_that_make_no_sense_are_refused(kit: Path, tmp_path: Path, rows: str) -> None:
    answers = tmp_path / "a.csv"
    answers.write_text(HEAD + rows)

    with pytest.raises(InputError):
        score_answers([answers], kit / "key.json")


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "\x00"])
def test_what_is_no_list_of_answers_is_refused(kit: Path, tmp_path: Path, text: str) -> None:
    answers = tmp_path / "a.csv"
    answers.write_text(text)

    with pytest.raises(InputError):
        score_answers([answers], kit / "key.json")
    with pytest.raises(InputError, match="no key"):
        score_answers([answers], answers)


def test_a_kit_is_made_and_its_answers_are_told(
    loris: RunLoris, kit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORIS_CACHE", str(tmp_path / "cache"))
    source = kit / "kit" / "sounds" / "1.flac"
    mine = tmp_path / "mine"

    made = loris("eval", "--generated", source, "--reference", source, "--bound",
                 "ground_truth", "--no-strict", "--jobs", 1, "--mos-kit", mine)  # fmt: skip
    [number] = numbers(mine, "generated")
    answers = tmp_path / "a.csv"
    answers.write_text(f"{HEAD}rating-audio,{number},,4\n")
    result = loris("eval", "mos-results", answers, "--key", mine / "key.json")

    assert made.exit_code == 0, made.stderr
    assert f"{mine}: 2 sounds" in made.stdout
    assert result.stdout.splitlines()[1].split() == ["generated", "audio", "1", "4.00", "-"]
    assert loris("eval", "mos-results", answers).exit_code == 2


def test_one_row_alone_is_no_test(result: EvaluationResult, tmp_path: Path) -> None:
    alone = replace(result, systems=[row for row in result.systems if row.category == "model"])
    with pytest.raises(InputError, match="two systems"):
        make_listening_kit(alone, tmp_path / "kit", n_clips=1, seed=0, reporter=NullReporter())
