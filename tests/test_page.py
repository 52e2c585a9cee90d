"""The report: one file, no network, no name that becomes markup; in a real browser too."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from corpus import write_click_dataset

from loris_cli.dataset.manifest import read_manifest
from loris_cli.errors import InputError
from loris_cli.evaluation.report.figures import plot_clip, plot_clip_scores
from loris_cli.evaluation.report.html import render_html
from loris_cli.evaluation.report.json_report import build_report
from loris_cli.evaluation.runner.audio_analysis import AnalysisConfig
from loris_cli.evaluation.runner.clips import EvalClip, build_eval_clip
from loris_cli.evaluation.runner.run import EvaluationPlan, EvaluationResult, run_evaluation
from loris_cli.system.progress import NullReporter

HOSTILE = '<img src=x onerror="document.title=1">&"a.mp4'
BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome")
     if (found := shutil.which(name))),
    None,
)  # fmt: skip


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> EvaluationResult:
    data = tmp_path_factory.mktemp("page") / "data"
    write_click_dataset(data)
    cases = [build_eval_clip(data, clip) for clip in read_manifest(data)]
    plan = EvaluationPlan(
        title=HOSTILE,
        clips=[case for case in cases if isinstance(case, EvalClip)],
        bounds=["click_1hz", "mismatched"],
        seeds=(0,),
        analysis_config=AnalysisConfig(strict_metrics=False),
    )
    return run_evaluation(plan, reporter=NullReporter())


@pytest.fixture(scope="module")
def page(result: EvaluationResult) -> str:
    report: dict[str, Any] = build_report(result, run_options={})
    pictures = {
        "spread": plot_clip_scores(result.systems),
        HOSTILE: plot_clip(result, "click_1hz", "clip-0"),
    }
    return render_html(report, pictures)


def test_names_are_escaped(page: str) -> None:
    assert HOSTILE not in page
    assert "&lt;img src=x onerror=" in page
    assert len(re.findall("<img ", page)) == 2


def test_nothing_is_fetched_and_nothing_runs(page: str) -> None:
    assert not re.search(r'(src|href)="(?!data:image/png;base64,)', page)
    assert "<script" not in page
    assert "default-src 'none'" in page


def test_a_clip_that_is_not_there_is_refused(result: EvaluationResult) -> None:
    with pytest.raises(InputError, match="no clip"):
        plot_clip(result, "click_1hz", "missing")


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
