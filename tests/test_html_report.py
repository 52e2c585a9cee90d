"""HTML report of `eval`: one file, no network, names escaped; checked in a browser too."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click_dataset import write_click_dataset

from loris_cli.dataset.manifest import read_manifest
from loris_cli.errors import InputError
from loris_cli.evaluation.report.figures import plot_clip, plot_clip_scores
from loris_cli.evaluation.report.html import render_html
from loris_cli.evaluation.report.json_report import build_report
from loris_cli.evaluation.runner.audio_analysis import AnalysisConfig
from loris_cli.evaluation.runner.clips import EvalClip, build_eval_clip
from loris_cli.evaluation.runner.run import EvaluationPlan, EvaluationResult, run_evaluation
from loris_cli.system.progress import NullReporter

HTML_IN_NAME = '<img src=x onerror="document.title=1">&"a.mp4'
BROWSER_PATH = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome")
     if (path := shutil.which(name))),
    None,
)  # fmt: skip


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> EvaluationResult:
    data = tmp_path_factory.mktemp("page") / "data"
    write_click_dataset(data, n_clips=2)
    clips = [build_eval_clip(data, clip) for clip in read_manifest(data)]
    plan = EvaluationPlan(
        title=HTML_IN_NAME,
        clips=[clip for clip in clips if isinstance(clip, EvalClip)],
        bounds=["click_1hz", "mismatched"],
        seeds=(0,),
        analysis_config=AnalysisConfig(strict_metrics=False),
    )
    return run_evaluation(plan, reporter=NullReporter())


@pytest.fixture(scope="module")
def page(result: EvaluationResult) -> str:
    report: dict[str, Any] = build_report(result, run_options={})
    plots = {
        "scores": plot_clip_scores(result.systems),
        HTML_IN_NAME: plot_clip(result, "click_1hz", "clip-0"),
    }
    return render_html(report, plots)


def test_html_in_names_is_escaped(page: str) -> None:
    assert HTML_IN_NAME not in page
    assert "&lt;img src=x onerror=" in page
    assert len(re.findall("<img ", page)) == 2


def test_the_page_has_no_scripts_and_no_external_resources(page: str) -> None:
    assert not re.search(r'(src|href)="(?!data:image/png;base64,)', page)
    assert "<script" not in page
    assert "default-src 'none'" in page


def test_a_plot_of_an_unknown_clip_is_refused(result: EvaluationResult) -> None:
    with pytest.raises(InputError, match="missing"):
        plot_clip(result, "click_1hz", "missing")


@pytest.mark.slow
@pytest.mark.skipif(
    BROWSER_PATH is None, reason="Chromium is not installed; .ci/run installs it"
)
def test_a_browser_renders_the_page_without_running_html_in_names(
    page: str, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")

    process = subprocess.run(
        [str(BROWSER_PATH), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
         f"--user-data-dir={tmp_path / 'profile'}", path.as_uri()],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip

    assert "<td>click_1hz</td>" in process.stdout
    title = re.search("<title>(.*?)</title>", process.stdout)
    assert title is not None
    assert "&lt;img" in title[1]  # the onerror handler would set it to 1
