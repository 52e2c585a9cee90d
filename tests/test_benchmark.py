"""Rows, chance and intervals: known answers on clicks, and two ways that agree."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from corpus import click_corpus

from loris_cli.dataset.aist_names import performance_of
from loris_cli.dataset.manifest import Clip, read_manifest
from loris_cli.errors import InputError
from loris_cli.evaluation.metrics.loris_scores import score
from loris_cli.evaluation.metrics.significance import Resampler, by_chance, compared
from loris_cli.evaluation.report.json_report import OFFICIAL, as_json, clips_as_json
from loris_cli.evaluation.runner import audio_analysis as hearing
from loris_cli.evaluation.runner.audio_analysis import (
    Ears,
    Heard,
    Unheard,
    listen,
    listen_to_all,
)
from loris_cli.evaluation.runner.audio_sources import Clicks, Recorded, Sound
from loris_cli.evaluation.runner.bounds import CEILINGS, NULLS, rival, strangers
from loris_cli.evaluation.runner.clips import (
    Case,
    Skipped,
    case_of_clip,
    clips_of_split,
    marked_made_up,
    paired,
)
from loris_cli.evaluation.runner.paper_tables import COLUMNS, SUBSETS, methods_of, published
from loris_cli.evaluation.runner.run import Plan, Result, run
from loris_cli.system.progress import Silent

N = 22_050 * 6


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    click_corpus(folder)
    return folder


def cases_of(data: Path) -> list[Case]:
    found = [case_of_clip(data, clip) for clip in read_manifest(data)]
    return [case for case in found if isinstance(case, Case)]


@pytest.fixture(scope="module")
def result(data: Path) -> Result:
    plan = Plan(title="fe50", cases=cases_of(data), rows=[*NULLS, "ground_truth", "other_take"])
    return run(plan, reporter=Silent())


def heard(case: Case) -> Heard:
    assert case.reference is not None
    found = listen(case.reference, ears=Ears(), cache=None)
    assert isinstance(found, Heard)
    return found


def test_the_truth_against_itself_is_perfect(result: Result) -> None:
    row = result.row("ground_truth")
    assert row is not None
    assert row.official is not None
    assert (row.official.bcs, row.official.bhs, row.official.f1) == (1.0, 1.0, 1.0)
    assert (row.strict["onset_f"], row.strict["beat_f"]) == (1.0, 1.0)


@pytest.mark.parametrize("name", ["click_1hz", "always_on"])
def test_a_metronome_has_all_the_recall_and_f1_by_the_formula(
    result: Result, name: str
) -> None:
    row = result.row(name)
    assert row is not None
    assert row.official is not None
    p = float(np.mean([truth.flags.mean() for truth in result.truths.values()]))
    assert row.official.bhs == 1.0
    assert row.official.bcs == pytest.approx(p)
    assert row.official.f1 == pytest.approx(2 * p / (1 + p))


def test_the_density_is_kept_and_the_places_are_not(data: Path) -> None:
    for case in cases_of(data):
        truth = heard(case)
        sound = rival("density_matched", case, truth, seed=0)
        assert isinstance(sound, Clicks)
        made = listen(sound, ears=Ears(), cache=None)
        assert isinstance(made, Heard)
        assert abs(int(made.flags.sum()) - int(truth.flags.sum())) <= 1
        assert len(sound.times_s) == len(truth.onsets_s)


def test_chance_is_what_all_pairs_of_strangers_give_one_by_one() -> None:
    rng = np.random.default_rng(1)
    lengths = [5, 7, 6, 7]
    groups = ["a", "a", "b", "c"]
    made = [rng.random(n) < 0.6 for n in lengths]
    true = [rng.random(n + k % 2) < 0.6 for k, n in enumerate(lengths)]
    pairs = [
        score(true[j], made[i][: len(true[j])])
        for i in range(4)
        for j in range(4)
        if groups[i] != groups[j]
    ]

    found = by_chance(made, true, groups)

    assert found is not None
    assert found[0] == pytest.approx(np.mean([pair.bcs for pair in pairs]))
    assert found[1] == pytest.approx(np.mean([pair.bhs for pair in pairs]))
    assert by_chance(made, true, ["a"] * 4) is None


def test_strangers_are_of_another_source() -> None:
    groups = ["a", "a", "b", "c", "c"]
    for seed in range(20):
        others = strangers(groups, seed=seed)
        assert all(o is not None and groups[o] != groups[k] for k, o in enumerate(others))
    assert strangers(["a", "a"], seed=0) == [None, None]


def test_an_interval_over_sources_is_wider_than_over_their_clips() -> None:
    values = np.repeat([0.0, 1.0, 0.0, 1.0], 10)
    wide = Resampler(np.repeat(list("abcd"), 10).tolist())
    narrow = Resampler([str(k) for k in range(40)])

    low, high = wide.interval(wide.means(values)) or (0, 0)
    inner_low, inner_high = narrow.interval(narrow.means(values)) or (0, 0)

    assert low < inner_low < 0.5 < inner_high < high
    assert Resampler(["a"] * 3).interval(np.full(3, 0.5)) is None


def test_resampled_means_leave_out_what_is_not_there() -> None:
    resampler = Resampler(["a", "b", "c"])
    values = np.array([0.5, np.nan, 0.5])

    means = resampler.means(values)

    assert np.nanmax(means) == np.nanmin(means) == 0.5
    assert np.isnan(means).any()  # draws of b alone


def test_a_difference_is_told_from_chance() -> None:
    rng = np.random.default_rng(0)
    groups = [str(k) for k in range(60)]
    base = rng.random(60)
    same = compared((base,), (base + rng.normal(0, 0.1, 60),), groups, "onset_f")
    above = compared((base + 0.2,), (base + rng.normal(0, 0.1, 60),), groups, "onset_f")

    assert same is not None
    assert above is not None
    assert same.p > 0.05 > 0.001 > above.p
    assert above.low < 0.2 < above.high
    assert compared((base,), (base,), ["a"] * 60, "onset_f") is None


def test_equal_rows_have_no_difference_and_p_of_one() -> None:
    values = np.random.default_rng(0).random(8)
    found = compared((values, values), (values, values), list("abcdefgh"), "F1")

    assert found is not None
    assert (found.difference, found.p) == (0.0, 1.0)


def test_a_sound_is_remembered_to_the_last_bit(data: Path, tmp_path: Path) -> None:
    sound = Recorded(path=data / "audio" / "0.flac")
    first = listen(sound, ears=Ears(), cache=tmp_path)
    [kept] = tmp_path.iterdir()
    again = listen(sound, ears=Ears(), cache=tmp_path)

    assert isinstance(first, Heard)
    assert isinstance(again, Heard)
    np.testing.assert_array_equal(first.onsets_s, again.onsets_s)
    np.testing.assert_array_equal(first.beats_s, again.beats_s)
    kept.write_text("{")  # damaged: made anew
    assert isinstance(listen(sound, ears=Ears(), cache=tmp_path), Heard)


def test_two_processes_hear_what_one_hears(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hearing, "WORTH_A_PROCESS", {False: 1})
    sounds: list[Sound] = [
        Recorded(path=data / "audio" / "0.flac"),
        Recorded(path=data / "audio" / "gone.flac"),
        Clicks(times_s=(1.0, 2.0), n_samples=N),
    ]
    ears = Ears(strict=False)

    one = listen_to_all(sounds, ears=ears, cache=None, jobs=1)
    two = listen_to_all(sounds, ears=ears, cache=None, jobs=2)

    assert isinstance(one[1], Unheard)
    assert isinstance(two[1], Unheard)
    for k in (0, 2):
        a, b = one[k], two[k]
        assert isinstance(a, Heard)
        assert isinstance(b, Heard)
        np.testing.assert_array_equal(a.onsets_s, b.onsets_s)


def test_a_longer_sound_is_cut_and_told_of(data: Path) -> None:
    sound = Recorded(path=data / "audio" / "0.flac", most_samples=N - 22_050)
    found = listen(sound, ears=Ears(), cache=None)

    assert isinstance(found, Heard)
    assert (found.n_samples, found.n_cut) == (N - 22_050, 22_050)


def test_a_clip_without_its_files_is_skipped_with_the_reason(data: Path) -> None:
    [clip, *_] = read_manifest(data)

    lost = case_of_clip(data, replace(clip, audio="audio/gone.flac"))

    bodiless = case_of_clip(data, replace(clip, poses=clip.rhythm))
    posed = case_of_clip(data, replace(clip, poses="poses/0.npz"))

    assert isinstance(lost, Skipped)
    assert "audio/gone.flac" in lost.reason
    assert isinstance(bodiless, Skipped)
    assert "lacks seen_peaks_s" in bodiless.reason
    assert posed == Skipped(id=clip.id, reason="poses/0.npz is not there")


def test_a_split_that_is_not_there_is_refused(data: Path) -> None:
    with pytest.raises(InputError, match="no val clips"):
        clips_of_split(read_manifest(data), "fe50", part="val")


def test_the_json_is_the_contract(result: Result) -> None:
    told = as_json(result, settings={})

    assert told["protocol"] == "loris-official-v1"
    assert told["split"] == "fe50"
    assert [row["id"] for row in told["rows"]] == [*NULLS, "ground_truth"]
    assert told["left_out"] == {
        "other_take": "no two clips are known to be of one piece of music"
    }
    for row in told["rows"]:
        assert row["kind"] == ("ceiling" if row["id"] in CEILINGS else "null")
        assert set(row["official"]) == set(OFFICIAL)
        assert all(0 <= row["official"][name] <= 1 for name in OFFICIAL)
        others = {name: v for name, v in row["strict"].items() if name != "f1_corrected"}
        assert all(0 <= value <= 1 for value in others.values())
    assert told["published"][-1]["F1"] == 0.589
    assert len(clips_as_json(result)) == 4 * 7


def test_one_clip_has_neither_deviation_nor_interval(data: Path) -> None:
    plan = Plan(title="fe50", cases=cases_of(data)[:1], rows=["click_1hz", "shuffled"])

    [row] = as_json(run(plan, reporter=Silent()), settings={})["rows"]

    assert row["official"]["CSD"] is None
    assert row["intervals"] == {}


def test_folders_are_paired_by_name(tmp_path: Path) -> None:
    made, true = tmp_path / "made", tmp_path / "true"
    for folder, names in (
        (made, ["generated_1.wav", "b.loris.mp4", "x.wav", "notes.txt"]),
        (true, ["gt_1.wav", "b.mp4", "y.flac"]),
    ):
        folder.mkdir()
        for name in names:
            (folder / name).touch()

    pairs, alone = paired(made, true)

    assert [stem for stem, _, _ in pairs] == ["1", "b"]
    assert {(one.id, one.reason) for one in alone} == {
        ("x", "has no reference"),
        ("y", "was not generated"),
    }
    (made / "b.wav").touch()
    with pytest.raises(InputError, match="one name"):
        paired(made, true)
    with pytest.raises(InputError, match="a folder and a file"):
        paired(made, true / "gt_1.wav")


def test_music_of_aist_is_known_by_name() -> None:
    name = "gBR_sFM_c01_d04_mBR0_ch01-1a2b3c4d-da25-0"

    assert performance_of(name) == performance_of(name.replace("c01", "c09"))
    assert performance_of(name) == ("mBR0", "d04", "ch01")
    assert performance_of("skate.mp4") is None


def test_the_cameras_of_a_performance_are_one_source(data: Path) -> None:
    [clip, *_] = read_manifest(data)
    names = [f"gBR_sFM_c0{k}_d04_mBR0_ch01.mp4" for k in (1, 9)]

    groups = {
        case.group
        for name in names
        if isinstance(case := case_of_clip(data, replace(clip, source=name)), Case)
    }

    assert groups == {"gBR_sFM_c00_d04_mBR0_ch01.mp4"}


def test_a_row_that_says_so_is_made_up(tmp_path: Path) -> None:
    rows = [{"id": "a", "made_up": True}, {"id": "b"}, {"id": "c", "made_up": "no"}]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "manifest.jsonl").write_text(text)

    assert marked_made_up(tmp_path) == {"a"}


def test_another_dancer_to_the_same_music_is_a_ceiling(data: Path) -> None:
    named = [
        replace(case, group=f"gBR_sFM_c01_d0{k}_mBR{k // 3}_ch01")
        for k, case in enumerate(cases_of(data))
    ]
    plan = Plan(title="da25", cases=named, rows=["other_take"], ears=Ears(strict=False))

    row = run(plan, reporter=Silent()).row("other_take")

    assert row is not None
    assert row.clips == ("clip-0", "clip-1", "clip-2")  # nobody else dances to mBR1


def test_every_published_f1_is_of_its_row_but_the_misprint() -> None:
    wrong = {(slip["split"], slip["row"], slip["column"]) for slip in published()["misprints"]}
    for split in SUBSETS:
        assert len(methods_of(split)) == 5
        for method in methods_of(split):
            assert set(COLUMNS) <= set(method)
            expected = 2 * method["BCS"] * method["BHS"] / (method["BCS"] + method["BHS"])
            near = abs(expected - method["F1"]) < 0.001
            assert near != ((split, method["id"], "F1") in wrong)
    assert methods_of("synthetic") == []


def test_all_tables_of_the_paper_are_there() -> None:
    assert sorted({table["table"] for table in published()["tables"]}) == [2, 3, 4, 5, 6, 7, 8]
    [full] = {
        tuple(row[name] for name in OFFICIAL)
        for table in published()["tables"]
        for row in table["rows"]
        if (table["table"] > 4 and row["id"] in ("full", "steps=50", "guidance=20"))
        or (table["split"] == "fe25" and row["id"] == "loris")
    }
    assert full == (58.8, 19.4, 67.1, 21.1, 62.7)


def test_a_clip_of_a_manifest_keeps_its_source(data: Path) -> None:
    groups = [case.group for case in cases_of(data)]
    assert groups == ["video-0", "video-0", "video-1", "video-1"]
    made = Clip(
        id="a", subset="synthetic", split="test", duration_s=6.0, genre="pop",
        source="synthesised", audio="audio/0.flac", rhythm="rhythm/0.npz",
    )  # fmt: skip
    case = case_of_clip(data, made)
    assert isinstance(case, Case)
    assert (case.group, case.made_up) == ("a", True)
