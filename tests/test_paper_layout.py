"""Reports in the layout of the paper's tables 2 to 4."""

import json
from pathlib import Path

import pytest
from click_dataset import write_click_dataset
from conftest import RunLoris

from loris_cli.errors import InputError, UsageError


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_click_dataset(folder)
    return folder


@pytest.fixture
def report(loris: RunLoris, data: Path, tmp_path: Path) -> Path:
    path = tmp_path / "fe50.json"
    result = loris(
        "eval", "--data", data, "--split", "fe50", "--model", "none", "--method", "drums",
        "--bound", "click_1hz", "--takes", "1", "--no-strict", "--format", "json", "-o", path,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    return path


def test_published_scores_have_columns_of_their_own(
    loris: RunLoris, report: Path, tmp_path: Path
) -> None:
    other = json.loads(report.read_text()) | {"title": "fe25"}
    (tmp_path / "fe25.json").write_text(json.dumps(other))
    result = loris("eval", "tables", report, tmp_path / "fe25.json", "--format", "md")
    assert result.exit_code == 0, result.stderr
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in result.stdout.splitlines()
        if line.startswith("|") and "---" not in line
    ]
    heads = rows[0]
    assert heads[:3] == ["system", "subset", "n"]
    assert heads[-5:] == ["paper BCS", "paper CSD", "paper BHS", "paper HSD", "paper F1"]
    lines = {(row[0], row[1]): row for row in rows[1:]}
    # Table 3 of the paper, published scores of CMT on FE50; the method was not evaluated.
    assert lines["CMT", "fe50"][2:] == ["-"] * 7 + ["42.3", "32.0", "53.8", "31.7", "47.4"]
    assert lines["CMT", "fe25"][-1] == "51.3"
    drums = next(s for s in other["systems"] if s["id"] == "drums")
    assert lines["drums", "fe50"][7] == f"{100 * drums['official']['F1']:.1f}"
    assert lines["drums", "fe50"][-5:] == ["-"] * 5


def test_eval_prints_the_layout_of_one_subset(loris: RunLoris, data: Path) -> None:
    options = (
        "eval", "--data", data, "--split", "fe50", "--model", "none", "--bound", "click_1hz",
        "--no-strict", "--tables", "paper",
    )  # fmt: skip
    result = loris(*options)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("Table 3, floor exercise")
    assert loris(*options, "--format", "json").exit_code == UsageError.exit_code
    assert loris(*options[:-1], "paper", "--split", "x").exit_code == UsageError.exit_code


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"schema": 1}', '{"schema": 2, "title": "fe25"}', "\udcff"]
)
def test_other_files_are_refused(loris: RunLoris, tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    result = loris("eval", "tables", path)
    assert result.exit_code == InputError.exit_code
    assert "loris eval --format json" in result.stderr


def test_two_reports_of_one_subset_are_refused(loris: RunLoris, report: Path) -> None:
    assert loris("eval", "tables", report, report).exit_code == UsageError.exit_code


def test_reports_are_not_overwritten_unasked(loris: RunLoris, report: Path) -> None:
    before = report.read_bytes()
    result = loris("eval", "tables", report, "-o", report, "--overwrite")
    assert result.exit_code == UsageError.exit_code
    assert report.read_bytes() == before
