"""``loris eval`` on the command line: subsets, folders, single files, and invalid options."""

import csv
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click_dataset import write_click_dataset
from conftest import RunLoris
from media import make_click, write_video, write_wav

from loris_cli.commands import dataset as dataset_commands
from loris_cli.dataset import synthetic_music
from loris_cli.dataset.manifest import write_manifest
from loris_cli.dataset.synthetic_videos import SyntheticTask
from loris_cli.evaluation.report.json_report import OFFICIAL_METRICS
from loris_cli.evaluation.runner.systems import METHOD_DESCRIPTIONS

NULL_SYSTEMS = (
    "click_1hz", "click_4hz", "white_noise", "density_matched", "tempo_click", "mismatched",
)  # fmt: skip
TWO_BOUNDS = ("--bound", "click_1hz", "--bound", "mismatched", "--no-strict", "--jobs", 1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clicks") / "data"
    write_click_dataset(folder)
    return folder


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Cache of analyses and takes, shared by the tests of this module."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORIS_CACHE", str(folder))
        yield folder


@pytest.fixture
def folders(data: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Generated and reference files ``a`` and ``b``; only the generated ``a`` is perfect."""
    generated, reference = tmp_path / "generated", tmp_path / "reference"
    generated.mkdir()
    reference.mkdir()
    for name, source in (("a", "clip-0"), ("b", "clip-1")):
        shutil.copy(data / "audio" / f"{source}.flac", reference / f"{name}.flac")
        shutil.copy(data / "audio" / "clip-0.flac", generated / f"{name}.flac")
    return generated, reference


@pytest.mark.parametrize(("subset", "n_videos"), [("fe50", 3 * 40), ("synthetic", 0)])
def test_hint_of_a_missing_data_set_is_the_command_that_creates_it(
    loris: RunLoris,
    tmp_path: Path,
    subset: str,
    n_videos: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    videos: list[SyntheticTask] = []
    pieces: list[Path] = []
    monkeypatch.setattr(
        dataset_commands, "prepare_and_report", lambda tasks, *_: videos.extend(tasks)
    )
    monkeypatch.setattr(
        synthetic_music, "generate_music_dataset", lambda folder, **_: pieces.append(folder)
    )
    missing = tmp_path / "a folder that is missing"

    result = loris("eval", "--split", subset, "--data", missing)

    assert result.exit_code == 4
    error, hint = result.stderr.splitlines()
    assert str(missing) in error
    program, *arguments = shlex.split(hint.removeprefix("hint: "))
    assert program == "loris"
    assert loris(*arguments).exit_code == 0
    assert len(videos) == n_videos
    assert all(task.source_path.is_relative_to(missing) for task in videos)
    assert pieces == [missing] * (n_videos == 0)


def test_eval_list_counts_the_clips_of_each_subset(loris: RunLoris, data: Path) -> None:
    result = loris("eval", "list", "--data", data)

    assert result.exit_code == 0
    rows = {line.split()[0]: line.split() for line in result.stdout.splitlines()}
    assert rows["fe50"] == ["fe50", "0", "0", "4", "66", "all"]
    assert rows["synthetic"][1:4] == ["0", "0", "0"]


@pytest.mark.slow
def test_a_model_is_scored_together_with_all_bounds(
    loris: RunLoris, data: Path, small_model: Path, tmp_path: Path
) -> None:
    out, per_clip = tmp_path / "fe50.json", tmp_path / "clips.jsonl"
    arguments = ("eval", "--split", "fe50", "--data", data, "--model", small_model, "--device",
                 "cpu", "--clips", 3, "--takes", 1, "--steps", 2, "--jobs", 1, "--format",
                 "json")  # fmt: skip

    result = loris(*arguments, "-o", out, "--per-clip", per_clip)

    assert result.exit_code == 0, result.stderr
    systems = {row["id"]: row for row in json.loads(out.read_text())["systems"]}
    assert set(systems) == {"small", *NULL_SYSTEMS, "ground_truth", "latent_reconstruction"}
    assert systems["small"]["category"] == "model"
    assert systems["small"]["cost"]["n_takes"] == 3
    assert systems["small"]["cost"]["network_evaluations"] > 0
    assert systems["click_1hz"]["official"]["BHS"] == 1.0
    assert systems["ground_truth"]["official"]["F1"] == 1.0
    assert "published" not in systems["small"]  # these are not the official test clips
    records = [json.loads(line) for line in per_clip.read_text().splitlines()]
    assert len(records) == 3 * len(systems)

    repeated = loris(*arguments)  # from the cache

    rows = {row["id"]: row for row in json.loads(repeated.stdout)["systems"]}
    assert rows["small"] == systems["small"]


def test_baselines_are_scored_and_cached(loris: RunLoris, tmp_path: Path) -> None:
    data = tmp_path / "data"
    clips = write_click_dataset(data, n_clips=2)
    library = [
        replace(clip, id=f"t-{clip.id}", partition="train", source="elsewhere")
        for clip in clips
    ]
    write_manifest(data, [*clips, *library])
    methods = [word for name in METHOD_DESCRIPTIONS for word in ("--method", name)]
    arguments = ("eval", "--split", "fe50", "--data", data, "--model", "none", "--takes", 2,
                 "--bound", "mismatched", "--bound", "latent_reconstruction", "--no-strict",
                 "--jobs", 1, *methods, "--format", "json")  # fmt: skip

    result = loris(*arguments)

    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    systems = {row["id"]: row for row in report["systems"]}
    assert {systems[name]["category"] for name in METHOD_DESCRIPTIONS} == {"method"}
    # The library contains the references.
    assert systems["retrieval"]["official"]["F1"] == 1.0
    assert systems["retrieval-stretched"]["official"]["F1"] == 1.0
    assert systems["drums"]["official"]["F1"] > 0.9
    assert systems["score"]["official"]["F1"] > 0.8
    seeds = {name: systems[name]["seeds"] for name in METHOD_DESCRIPTIONS}
    assert seeds == {
        "score": [0, 1], "drums": [0, 1], "groove": [0, 1], "retrieval": [0],
        "retrieval-stretched": [0],
    }  # fmt: skip
    assert systems["groove"]["cost"]["network_evaluations"] == 0
    assert systems["retrieval"]["generation_settings"]["method"] == "retrieval"
    assert set(report["unavailable"]) == {"mismatched", "latent_reconstruction"}

    assert json.loads(loris(*arguments).stdout)["systems"] == report["systems"]  # cached


@pytest.mark.slow
def test_bound_score_is_the_method_score_for_the_seeds_of_a_model(
    loris: RunLoris, data: Path, note_model: Path
) -> None:
    arguments = ("eval", "--split", "fe50", "--data", data, "--clips", 2, "--takes", 2,
                 "--seed", 5, "--no-strict", "--jobs", 1, "--device", "cpu", "--steps", 2,
                 "--bound", "score", "--format", "json")  # fmt: skip

    results = [
        loris(*arguments, "--model", note_model),
        loris(*arguments, "--model", note_model, "--method", "score"),
        loris(*arguments, "--model", "none", "--method", "score"),
    ]

    assert [result.exit_code for result in results] == [0, 0, 0]
    reports = [json.loads(result.stdout) for result in results]
    assert [[row["id"] for row in report["systems"]] for report in reports] == [
        ["notes", "score"], ["notes", "score"], ["score"],
    ]  # fmt: skip
    bound, next_to_model, alone = (report["systems"][-1] for report in reports)
    assert next_to_model == alone
    assert bound.keys() == alone.keys() - {"cost", "generation_settings"}
    assert bound == {name: alone[name] for name in bound}
    assert (bound["category"], bound["seeds"]) == ("method", [5, 6])
    assert [report["unavailable"] for report in reports] == [{}, {}, {}]


def test_bound_score_needs_a_model_with_notes(loris: RunLoris, data: Path) -> None:
    result = loris("eval", "--split", "fe50", "--data", data, "--model", "none", *TWO_BOUNDS,
                   "--bound", "score", "--format", "json")  # fmt: skip

    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert list(report["unavailable"]) == ["score"]
    assert [row["id"] for row in report["systems"]] == ["click_1hz", "mismatched"]


@pytest.mark.parametrize(
    ("options", "exit_code"),
    [
        (["--soundfont", "missing.sf2"], 4),
        (["--soundfont", "text.sf2"], 4),
        (["--synthesizer", "fluidsynth"], 3),
        (["--synthesizer", "timidity"], 2),
    ],
)
def test_unusable_synthesizers_are_errors_before_any_take(
    loris: RunLoris,
    data: Path,
    tmp_path: Path,
    options: list[str],
    exit_code: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.chdir(tmp_path)
    Path("text.sf2").write_text("no soundfont")

    result = loris("eval", "--split", "fe50", "--data", data, "--model", "none", "--method",
                   "score", *options)  # fmt: skip

    assert result.exit_code == exit_code
    assert "generate" not in result.stderr
    assert options[1] in result.stderr


def test_retrieval_needs_a_train_partition(loris: RunLoris, data: Path) -> None:
    result = loris(
        "eval", "--split", "fe50", "--data", data, "--model", "none", "--method", "retrieval"
    )

    assert result.exit_code == 4
    assert "train" in result.stderr
    assert "'fe50'" in result.stderr


def test_a_shard_is_generated_but_not_scored(
    loris: RunLoris, data: Path, small_model: Path, cache: Path
) -> None:
    before = set(cache.rglob("*.wav"))

    result = loris("eval", "--split", "fe50", "--data", data, "--model", small_model,
                   "--device", "cpu", "--takes", 1, "--seed", 9, "--steps", 2,
                   "--shard", "2/2")  # fmt: skip

    assert result.exit_code == 0, result.stderr
    name, _, text = result.stdout.partition(":")
    assert name == "small"
    assert re.findall(r"\d+", text) == ["2", "2"]  # takes, clips
    assert len(set(cache.rglob("*.wav")) - before) == 2


@pytest.mark.slow
def test_a_sweep_is_reported_in_the_table_of_the_paper(
    loris: RunLoris, data: Path, small_model: Path
) -> None:
    result = loris("eval", "--split", "fe50", "--data", data, "--model", small_model,
                   "--device", "cpu", "--clips", 2, "--takes", 1, "--sweep", "steps=2,3",
                   "--bound", "none", "--no-strict", "--jobs", 1,
                   "--format", "json")  # fmt: skip

    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert [row["id"] for row in report["systems"]] == ["small steps=2", "small steps=3"]
    [table] = report["paper_tables"]
    assert (table["number"], table["title"]) == (7, "sampling steps")
    systems = {line["name"]: line["system"] for line in table["lines"]}
    assert list(systems)[-3:] == ["steps=100", "steps=2", "steps=3"]
    assert (systems["steps=10"], systems["steps=2"]) == (None, "small steps=2")
    assert table["lines"][-1]["official"] == report["systems"][-1]["official"]
    assert table["lines"][0]["published"]["F1"] == 0.558


def test_folders_are_scored_without_the_damaged_file(
    loris: RunLoris, folders: tuple[Path, Path]
) -> None:
    generated, reference = folders
    for folder in folders:
        (folder / "bad.wav").write_bytes(b"RIFF nonsense")

    result = loris("eval", "--generated", generated, "--reference", reference, "--bound",
                   "ground_truth", "--no-strict", "--jobs", 1, "--format",
                   "json")  # fmt: skip

    assert result.exit_code == 1  # a clip was skipped
    report = json.loads(result.stdout)
    [row, _] = report["systems"]
    assert (row["id"], row["n"]) == ("generated", 2)
    assert [clip["clip_id"] for clip in report["data"]["skipped"]] == ["bad"]


@pytest.mark.parametrize(("duration_s", "n_truncated"), [(6.0, 1), (2.0, 0)])
def test_generated_and_reference_audio_are_cut_to_the_shorter(
    duration_s: float, n_truncated: int, loris: RunLoris, tmp_path: Path
) -> None:
    reference = write_wav(tmp_path / "reference.wav", make_click(4.0, 1.5, rate_hz=22_050))
    click = make_click(duration_s, 1.5, rate_hz=22_050)
    generated = write_wav(tmp_path / "generated.wav", click)

    result = loris("eval", "--generated", generated, "--reference", reference, "--bound",
                   "none", "--no-strict", "--format", "json", "--jobs", 1)  # fmt: skip

    [row] = json.loads(result.stdout)["systems"]
    assert row["n_truncated_takes"] == n_truncated
    assert row["official"]["F1"] == 1.0


@pytest.mark.slow
def test_a_silent_reference_video_has_scores_of_its_motion_only(
    loris: RunLoris, moving_video: Path, tmp_path: Path
) -> None:
    generated = write_wav(tmp_path / "a.wav", make_click(2.0, 0.6, rate_hz=22_050))
    plot = tmp_path / "a.png"

    result = loris("eval", "--generated", generated, "--reference", moving_video, "--format",
                   "json", "--jobs", 1, "--plot", plot)  # fmt: skip

    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout[: result.stdout.rindex("}") + 1])
    [row] = report["systems"]
    assert row["official"] is None
    assert set(row["strict"]) == {
        "audio_to_motion_alignment",
        "motion_to_audio_alignment",
        "av_align",
    }
    assert "click_1hz" in report["unavailable"]
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_audio_track_of_a_video_is_a_reference(loris: RunLoris, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    samples = make_click(2.0, 0.5) + rng.normal(0, 1e-4, (1, 2 * 44_100)).astype(np.float32)
    video = write_video(tmp_path / "a.mp4", n_frames=20, sound=samples)

    result = loris("eval", "--generated", video, "--reference", video, "--bound", "none",
                   "--no-strict", "--format", "json", "--jobs", 1)  # fmt: skip

    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["systems"][0]["official"]["F1"] == 1.0


@pytest.mark.parametrize("output_format", ["table", "csv", "md", "tex"])
def test_every_format_has_the_null_systems(
    loris: RunLoris, data: Path, output_format: str
) -> None:
    result = loris("eval", "--split", "fe50", "--data", data, "--model", "none", *TWO_BOUNDS,
                   "--format", output_format)  # fmt: skip

    assert result.exit_code == 0, result.stderr
    name = r"click\_1hz" if output_format == "tex" else "click_1hz"
    assert name in result.stdout
    if output_format == "csv":
        [row, _] = csv.DictReader(io.StringIO(result.stdout))
        assert float(row["BHS"]) == 1.0
    else:
        assert "100.0" in result.stdout
    if output_format in ("table", "md"):
        assert "D2M-GAN" in result.stdout


def test_misprints_of_the_paper_are_marked(loris: RunLoris, tmp_path: Path) -> None:
    write_click_dataset(tmp_path / "da25", n_clips=4, subset="da25")

    result = loris("eval", "--split", "da25", "--data", tmp_path / "da25", "--model", "none",
                   *TWO_BOUNDS)  # fmt: skip

    [row] = [line for line in result.stdout.splitlines() if "93.1*" in line]
    assert row.startswith("D2M-GAN")
    assert "D2M-GAN F1 93.1: 2 * 95.6 * 88.7 / (95.6 + 88.7) = 92.0" in result.stdout


def test_an_f1_below_the_minimum_ends_with_exit_code_1(
    loris: RunLoris, folders: tuple[Path, Path]
) -> None:
    generated, reference = folders
    arguments = ("eval", "--generated", generated, "--reference", reference, "--bound", "none",
                 "--no-strict", "--jobs", 1)  # fmt: skip

    assert loris(*arguments, "--min-f1", 0.1).exit_code == 0
    result = loris(*arguments, "--min-f1", 0.999)

    assert result.exit_code == 1
    assert "generated" in result.stderr
    assert "0.999" in result.stderr


@pytest.mark.slow
def test_quality_metrics_separate_the_reference_from_noise(loris: RunLoris, data: Path) -> None:
    result = loris("eval", "--split", "fe50", "--data", data, "--model", "none", "--clips", 2,
                   "--bound", "ground_truth", "--bound", "white_noise", "--takes", 1,
                   "--no-strict", "--quality", "--jobs", 1, "--format",
                   "json")  # fmt: skip

    assert result.exit_code == 0, result.stderr
    reference, noise = (row["quality"] for row in json.loads(result.stdout)["systems"])
    assert reference["frechet_log_mel"] == pytest.approx(0, abs=1e-3)
    assert reference["kl_tags"] == 0.0
    assert noise["frechet_log_mel"] > 10
    assert noise["kl_tags"] > 0.01
    assert noise["spectral_flatness"] > 10 * reference["spectral_flatness"]


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ("", "--split"),
        ("--split fe50 --generated a --reference b", "--split"),
        ("--generated a", "--reference"),
        ("--split fe50 --shard 3/2", "3/2"),
        ("--split fe50 --format xml", "xml"),
        ("--split fe50 --takes 0", "--takes"),
        ("--split fe50 --sweep steps=1.5", "steps=1.5"),
        ("--split fe50 --min-f1 60", "--min-f1"),  # a fraction, not percent
    ],
)
def test_invalid_options_are_usage_errors(arguments: str, value: str, loris: RunLoris) -> None:
    result = loris("eval", *arguments.split())

    assert result.exit_code == 2
    assert value in result.stderr


def test_the_system_to_compare_with_must_be_evaluated(loris: RunLoris, data: Path) -> None:
    result = loris("eval", "--split", "fe50", "--data", data, "--model", "none", *TWO_BOUNDS,
                   "--compare-to", "mini")  # fmt: skip

    assert result.exit_code == 2
    assert "'mini'" in result.stderr
    assert "click_1hz, mismatched" in result.stderr


def test_missing_files_subsets_and_models_have_their_exit_codes(
    loris: RunLoris, data: Path, tmp_path: Path
) -> None:
    audio = loris("eval", "--generated", tmp_path / "a.wav", "--reference", data)
    subset = loris("eval", "--split", "fs25", "--data", data)
    model = loris("eval", "--split", "fe50", "--data", data, "--model", tmp_path / "no.pt")

    assert (audio.exit_code, subset.exit_code, model.exit_code) == (4, 4, 3)
    assert "a.wav" in audio.stderr
    assert "'fs25'" in subset.stderr
    assert "fe50" in subset.stderr
    assert "no.pt" in model.stderr


def test_existing_results_are_not_overwritten(
    loris: RunLoris, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.json"
    out.write_text("old")

    result = loris("eval", "--split", "fe50", "--data", data, "-o", out)

    assert result.exit_code == 2
    assert out.read_text() == "old"


@pytest.mark.slow
def test_eval_runs_as_a_process_with_workers(data: Path) -> None:
    arguments = ("eval", "--split", "fe50", "--data", data, "--model", "none", *TWO_BOUNDS,
                 "--jobs", 2, "--format", "json")  # fmt: skip
    process = subprocess.run(
        [sys.executable, "-m", "loris_cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert process.returncode == 0, process.stderr
    [click_row, _] = json.loads(process.stdout)["systems"]
    assert set(click_row["official"]) == set(OFFICIAL_METRICS)
    assert click_row["official"]["BHS"] == 1.0


@pytest.mark.slow
def test_scoring_files_does_not_import_torch_or_mir_eval() -> None:
    code = """
import sys
from loris_cli.evaluation.report import json_report, tables
from loris_cli.evaluation.runner import plan, run
sys.exit(", ".join({"torch", "mir_eval", "scipy.stats"} & set(sys.modules)) or 0)
"""
    process = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    assert (process.returncode, process.stderr) == (0, "")
