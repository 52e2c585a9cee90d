"""``loris eval`` as a user meets it: splits, folders, one file, and what is refused."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import RunLoris
from corpus import write_click_dataset
from media import make_click, write_video, write_wav

from loris_cli.dataset.manifest import write_manifest
from loris_cli.evaluation.report.json_report import OFFICIAL_METRICS
from loris_cli.evaluation.runner.systems import METHOD_DESCRIPTIONS

NULLS = (
    "click_1hz", "click_4hz", "white_noise", "density_matched", "tempo_click", "mismatched",
)  # fmt: skip
FEW = ("--bound", "click_1hz", "--bound", "mismatched", "--no-strict")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "data"
    write_click_dataset(folder)
    return folder


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of analyses and takes, shared by these tests alone."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["LORIS_CACHE"] = str(folder)
    return folder


@pytest.fixture
def folders(data: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Generated and true files of one name each: the first is its truth, the second is not."""
    made, true = tmp_path / "made", tmp_path / "true"
    made.mkdir()
    true.mkdir()
    for name, source in (("a", "0"), ("b", "1")):
        shutil.copy(data / "audio" / f"{source}.flac", true / f"{name}.flac")
        shutil.copy(data / "audio" / "0.flac", made / f"{name}.flac")
    return made, true


def test_a_fresh_machine_is_told_in_three_lines(loris: RunLoris, tmp_path: Path) -> None:
    result = loris("eval", "--split", "fe50", "--data", tmp_path / "nothing")

    assert result.exit_code == 4
    assert len(result.stderr.splitlines()) == 3
    assert "no data set" in result.stderr
    assert "loris dataset synthesize" in result.stderr


def test_the_list_tells_what_there_is(loris: RunLoris, data: Path) -> None:
    result = loris("eval", "list", "--data", data)

    assert result.exit_code == 0
    [line] = [line for line in result.stdout.splitlines() if line.startswith("fe50")]
    assert line.split() == ["fe50", "0", "0", "4", "66", "all"]
    assert "synthetic" in result.stdout


def test_a_model_is_scored_beside_the_rows_that_nobody_can_hide(
    loris: RunLoris, data: Path, small_model: Path, tmp_path: Path
) -> None:
    out, clips = tmp_path / "fe50.json", tmp_path / "clips.jsonl"
    words = ("eval", "--split", "fe50", "--data", data, "--model", small_model, "--device",
             "cpu", "--clips", 3, "--takes", 1, "--steps", 2, "--jobs", 1)  # fmt: skip

    output = loris(*words, "--format", "json", "-o", out, "--per-clip", clips)

    assert output.exit_code == 0, output.stderr
    result = json.loads(out.read_text())
    rows = {row["id"]: row for row in result["systems"]}
    assert set(rows) == {"small", *NULLS, "ground_truth", "latent_reconstruction"}
    assert rows["small"]["category"] == "model"
    assert rows["small"]["cost"]["n_takes"] == 3
    assert rows["small"]["cost"]["network_evaluations"] > 0
    assert rows["click_1hz"]["official"]["BHS"] == 1.0
    assert rows["ground_truth"]["official"]["F1"] == 1.0
    gap = rows["small"]["published"]["F1"]
    assert gap["difference"] == pytest.approx(rows["small"]["official"]["F1"] - 0.589)
    lines = [json.loads(line) for line in clips.read_text().splitlines()]
    assert len(lines) == 3 * len(rows)

    again = loris(*words, "--format", "json")  # everything is remembered

    repeated = {row["id"]: row for row in json.loads(again.stdout)["systems"]}
    assert repeated["small"] == rows["small"]


def test_other_makers_of_music_are_rows_too(loris: RunLoris, tmp_path: Path) -> None:
    data = tmp_path / "data"
    clips = write_click_dataset(data, n_clips=2)
    library = [
        replace(clip, id=f"t-{clip.id}", partition="train", source="elsewhere")
        for clip in clips
    ]
    write_manifest(data, [*clips, *library])
    words = ("eval", "--split", "fe50", "--data", data, "--model", "none", "--takes", 2,
             "--bound", "mismatched", "--bound", "latent_reconstruction", "--no-strict",
             "--jobs", 1, "--method", "drums", "--method", "groove", "--method", "retrieval",
             "--method", "retrieval-stretched", "--format", "json")  # fmt: skip

    output = loris(*words)

    assert output.exit_code == 0, output.stderr
    result = json.loads(output.stdout)
    rows = {row["id"]: row for row in result["systems"]}
    assert [rows[name]["category"] for name in METHOD_DESCRIPTIONS] == ["method"] * 4
    assert rows["retrieval"]["official"]["F1"] == 1.0  # the library has the very sound
    assert rows["retrieval-stretched"]["official"]["F1"] == 1.0
    assert rows["drums"]["official"]["F1"] > 0.9
    assert [rows[name]["seeds"] for name in METHOD_DESCRIPTIONS] == [[0, 1], [0, 1], [0], [0]]
    assert rows["groove"]["cost"]["network_evaluations"] == 0
    assert rows["retrieval"]["generation_settings"]["method"] == "retrieval"
    assert result["unavailable"]["latent_reconstruction"].startswith("no model")

    assert json.loads(loris(*words).stdout)["systems"] == result["systems"]  # from the cache


def test_a_library_is_the_train_part_of_the_split(loris: RunLoris, data: Path) -> None:
    result = loris(
        "eval", "--split", "fe50", "--data", data, "--model", "none", "--method", "retrieval"
    )

    assert result.exit_code == 4
    assert "no train clips of 'fe50'" in result.stderr


def test_a_share_is_made_and_not_scored(
    loris: RunLoris, data: Path, small_model: Path, cache: Path
) -> None:
    before = set(cache.rglob("*.wav"))

    result = loris("eval", "--split", "fe50", "--data", data, "--model", small_model,
                   "--device", "cpu", "--takes", 1, "--seed", 9, "--steps", 2,
                   "--shard", "2/2")  # fmt: skip

    assert result.exit_code == 0, result.stderr
    assert result.stdout == "small: 2 takes of 2 clips\n"
    assert len(set(cache.rglob("*.wav")) - before) == 2


def test_settings_are_swept_beside_the_paper(
    loris: RunLoris, data: Path, small_model: Path
) -> None:
    output = loris("eval", "--split", "fe50", "--data", data, "--model", small_model,
                   "--device", "cpu", "--clips", 2, "--takes", 1, "--sweep", "steps=2,3",
                   "--bound", "none", "--no-strict", "--jobs", 1,
                   "--format", "json")  # fmt: skip

    assert output.exit_code == 0, output.stderr
    result = json.loads(output.stdout)
    assert [row["id"] for row in result["systems"]] == ["small steps=2", "small steps=3"]
    [table] = result["paper_tables"]
    assert (table["number"], table["title"]) == (7, "sampling steps")
    ours = {line["name"]: line["system"] for line in table["lines"]}
    assert list(ours)[-3:] == ["steps=100", "steps=2", "steps=3"]
    assert (ours["steps=10"], ours["steps=2"]) == (None, "small steps=2")
    assert table["lines"][-1]["official"] == result["systems"][-1]["official"]
    assert table["lines"][0]["published"]["F1"] == 0.558
    assert loris("eval", "--split", "fe50", "--sweep", "steps=1.5").exit_code == 2


def test_folders_are_scored_and_a_bad_file_stops_nothing(
    loris: RunLoris, folders: tuple[Path, Path]
) -> None:
    made, true = folders
    for folder in folders:
        (folder / "bad.wav").write_bytes(b"RIFF nonsense")

    output = loris("eval", "--generated", made, "--reference", true, "--bound", "ground_truth",
                 "--jobs", 1, "--format", "json")  # fmt: skip

    assert output.exit_code == 1  # one clip failed, the others are done
    result = json.loads(output.stdout)
    [row, _] = result["systems"]
    assert (row["id"], row["n"]) == ("generated", 2)
    assert [one["clip_id"] for one in result["data"]["skipped"]] == ["bad"]


def test_a_longer_file_is_cut_and_a_shorter_one_cuts_the_truth(
    loris: RunLoris, tmp_path: Path
) -> None:
    true = write_wav(tmp_path / "true.wav", make_click(4.0, 1.5, rate_hz=22_050))
    longer = write_wav(tmp_path / "longer.wav", make_click(6.0, 1.5, rate_hz=22_050))
    shorter = write_wav(tmp_path / "shorter.wav", make_click(2.0, 1.5, rate_hz=22_050))
    for made, n_cut in ((longer, 1), (shorter, 0)):
        result = loris("eval", "--generated", made, "--reference", true, "--bound", "none",
                     "--format", "json", "--jobs", 1)  # fmt: skip
        [row] = json.loads(result.stdout)["systems"]
        assert row["n_truncated_takes"] == n_cut
        assert row["official"]["F1"] == 1.0


def test_one_file_is_scored_against_a_silent_video(
    loris: RunLoris, moving_video: Path, tmp_path: Path
) -> None:
    made = write_wav(tmp_path / "a.wav", make_click(2.0, 0.6, rate_hz=22_050))
    plot = tmp_path / "a.png"

    output = loris("eval", "--generated", made, "--reference", moving_video, "--format", "json",
                 "--jobs", 1, "--plot", plot)  # fmt: skip

    assert output.exit_code == 0, output.stderr
    result = json.loads(output.stdout[: output.stdout.rindex("}") + 1])
    [row] = result["systems"]
    assert row["official"] is None
    assert set(row["strict"]) == {
        "audio_to_motion_alignment",
        "motion_to_audio_alignment",
        "av_align",
    }
    assert result["unavailable"]["click_1hz"] == "no clip has reference audio"
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_video_with_sound_is_a_truth_too(loris: RunLoris, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sound = make_click(2.0, 0.5) + rng.normal(0, 1e-4, (1, 2 * 44_100)).astype(np.float32)
    video = write_video(tmp_path / "a.mp4", n_frames=20, sound=sound)

    result = loris("eval", "--generated", video, "--reference", video, "--bound", "none",
                 "--format", "json", "--jobs", 1)  # fmt: skip

    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["systems"][0]["official"]["F1"] == 1.0


@pytest.mark.parametrize("form", ["table", "csv", "md", "tex"])
def test_every_format_has_every_row(loris: RunLoris, data: Path, form: str) -> None:
    result = loris("eval", "--split", "fe50", "--data", data, "--model", "none", *FEW, "--jobs",
                 1, "--format", form)  # fmt: skip

    assert result.exit_code == 0, result.stderr
    name = r"click\_1hz" if form == "tex" else "click_1hz"
    assert name in result.stdout
    if form == "csv":
        [row, _] = csv.DictReader(io.StringIO(result.stdout))
        assert float(row["BHS"]) == 1.0
    elif form != "tex":
        assert "100.0" in result.stdout
        assert "D2M-GAN" in result.stdout


def test_misprints_of_the_paper_are_marked(loris: RunLoris, tmp_path: Path) -> None:
    write_click_dataset(tmp_path / "da25", n_clips=4, subset="da25")

    result = loris("eval", "--split", "da25", "--data", tmp_path / "da25", "--model", "none",
                 *FEW, "--jobs", 1)  # fmt: skip

    assert "93.1*" in result.stdout
    assert "misprint in table 2: D2M-GAN F1 93.1" in result.stdout


def test_a_score_below_the_least_ends_with_1(
    loris: RunLoris, folders: tuple[Path, Path]
) -> None:
    made, true = folders
    words = ("eval", "--generated", made, "--reference", true, "--bound", "none", "--no-strict",
             "--jobs", 1)  # fmt: skip

    assert loris(*words, "--min-f1", 0.1).exit_code == 0
    result = loris(*words, "--min-f1", 0.999)

    assert result.exit_code == 1
    assert "generated has F1" in result.stderr
    assert loris(*words, "--min-f1", 60).exit_code == 2  # a share, not percent


def test_quality_tells_the_truth_from_noise(loris: RunLoris, data: Path) -> None:
    result = loris("eval", "--split", "fe50", "--data", data, "--model", "none", "--clips", 2,
                 "--bound", "ground_truth", "--bound", "white_noise", "--takes", 1,
                 "--no-strict", "--quality", "--jobs", 1, "--format",
                 "json")  # fmt: skip

    assert result.exit_code == 0, result.stderr
    truth, noise = (row["quality"] for row in json.loads(result.stdout)["systems"])
    assert truth["frechet_log_mel"] == pytest.approx(0, abs=1e-3)
    assert truth["kl_tags"] == 0.0
    assert noise["frechet_log_mel"] > 10
    assert noise["kl_tags"] > 0.01
    assert noise["spectral_flatness"] > 10 * truth["spectral_flatness"]


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--split", "fe50", "--generated", "a", "--reference", "b"),
        ("--generated", "a"),
        ("--split", "fe50", "--shard", "3/2"),
        ("--split", "fe50", "--format", "xml"),
        ("--split", "fe50", "--takes", "0"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(loris: RunLoris, words: tuple[str, ...]) -> None:
    assert loris("eval", *words).exit_code == 2


def test_a_row_to_compare_with_must_be_there(loris: RunLoris, data: Path) -> None:
    result = loris("eval", "--split", "fe50", "--data", data, "--model", "none", *FEW,
                 "--compare-to", "mini")  # fmt: skip

    assert result.exit_code == 2
    assert "there are click_1hz, mismatched" in result.stderr


def test_what_is_not_there_is_one_line(loris: RunLoris, data: Path, tmp_path: Path) -> None:
    gone = loris("eval", "--generated", tmp_path / "a.wav", "--reference", data)
    other = loris("eval", "--split", "fs25", "--data", data)
    model = loris("eval", "--split", "fe50", "--data", data, "--model", tmp_path / "no.pt")

    assert (gone.exit_code, other.exit_code, model.exit_code) == (4, 4, 3)
    assert "no split 'fs25'" in other.stderr
    assert "it has fe50" in other.stderr


def test_results_are_not_overwritten(loris: RunLoris, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    out.write_text("mine")

    result = loris("eval", "--split", "fe50", "--data", data, "-o", out)

    assert result.exit_code == 2
    assert out.read_text() == "mine"


def test_the_program_itself_scores(data: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "loris_cli", "eval", "--split", "fe50", "--data", data,
         "--model", "none", *FEW, "--jobs", "2", "--format", "json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    [click_row, _] = json.loads(done.stdout)["systems"]
    assert set(click_row["official"]) == set(OFFICIAL_METRICS)


def test_files_that_are_there_are_scored_without_torch_and_mir_eval() -> None:
    code = """
import sys
from loris_cli.evaluation.report import json_report, tables
from loris_cli.evaluation.runner import plan, run
sys.exit(bool({"torch", "mir_eval", "scipy.stats"} & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
