"""The report: one file, no network, no name that becomes markup; in a real browser too."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from corpus import click_corpus

from loris_cli.dataset.manifest import read_manifest
from loris_cli.errors import InputError
from loris_cli.evaluation.report.figures import clip_figure, spread_figure
from loris_cli.evaluation.report.html import as_page
from loris_cli.evaluation.report.json_report import as_json
from loris_cli.evaluation.runner.audio_analysis import Ears
from loris_cli.evaluation.runner.clips import Case, case_of_clip
from loris_cli.evaluation.runner.run import Plan, Result, run
from loris_cli.system.progress import Silent

HOSTILE = '<img src=x onerror="document.title=1">&"a.mp4'
BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome")
     if (found := shutil.which(name))),
    None,
)  # fmt: skip


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    data = tmp_path_factory.mktemp("page") / "data"
    click_corpus(data)
    cases = [case_of_clip(data, clip) for clip in read_manifest(data)]
    plan = Plan(
        title=HOSTILE,
        cases=[case for case in cases if isinstance(case, Case)],
        rows=["click_1hz", "shuffled"],
        seeds=(0,),
        ears=Ears(strict=False),
    )
    return run(plan, reporter=Silent())


@pytest.fixture(scope="module")
def page(result: Result) -> str:
    told: dict[str, Any] = as_json(result, settings={})
    pictures = {
        "spread": spread_figure(result.rows),
        HOSTILE: clip_figure(result, "click_1hz", "clip-0"),
    }
    return as_page(told, pictures)


def test_names_are_escaped(page: str) -> None:
    assert HOSTILE not in page
    assert "&lt;img src=x onerror=" in page
    assert len(re.findall("<img ", page)) == 2


def test_nothing_is_fetched_and_nothing_runs(page: str) -> None:
    assert not re.search(r'(src|href)="(?!data:image/png;base64,)', page)
    assert "<script" not in page
    assert "default-src 'none'" in page


def test_a_clip_that_is_not_there_is_refused(result: Result) -> None:
    with pytest.raises(InputError, match="no clip"):
        clip_figure(result, "click_1hz", "nobody")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here; .ci/run installs one")
def test_a_browser_shows_it(page: str, tmp_path: Path) -> None:
    place = tmp_path / "report.html"
    place.write_text(page, encoding="utf-8")

    done = subprocess.run(
        [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
         f"--user-data-dir={tmp_path / 'profile'}", place.as_uri()],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip

    assert "<td>click_1hz</td>" in done.stdout
    assert "<title>loris eval: &lt;img" in done.stdout  # no handler has set it to 1
