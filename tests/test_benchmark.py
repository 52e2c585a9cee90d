"""Rows, chance and intervals: known answers on clicks, and two ways that agree."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from corpus import write_click_dataset

from loris_cli.dataset.manifest import Clip, read_manifest, write_manifest
from loris_cli.dataset.source_names import parse_aist_performance
from loris_cli.errors import InputError
from loris_cli.evaluation.metrics.loris_scores import score_clip
from loris_cli.evaluation.metrics.significance import (
    ClusterBootstrap,
    chance_precision_recall,
    compare_paired,
    f1_of_means,
)
from loris_cli.evaluation.report.json_report import (
    OFFICIAL_METRICS,
    build_clip_records,
    build_report,
)
from loris_cli.evaluation.runner import audio_analysis as hearing
from loris_cli.evaluation.runner.audio_analysis import (
    AnalysisConfig,
    AnalysisFailure,
    AudioAnalysis,
    analyze_audio,
    analyze_audio_sources,
)
from loris_cli.evaluation.runner.audio_sources import AudioSource, ClickTrain, RecordedAudio
from loris_cli.evaluation.runner.bounds import (
    BOUNDS,
    BoundRequest,
    build_bound_sources,
    pick_mismatched_clips,
)
from loris_cli.evaluation.runner.clips import (
    EvalClip,
    SkippedClip,
    build_eval_clip,
    pair_files,
    read_subset_clips,
)
from loris_cli.evaluation.runner.paper_tables import (
    PAPER_SUBSETS,
    SCORE_COLUMNS,
    get_published_scores,
    load_published_tables,
)
from loris_cli.evaluation.runner.run import EvaluationPlan, EvaluationResult, run_evaluation
from loris_cli.system.progress import NullReporter

N = 22_050 * 6
NULL_SYSTEMS = [name for name, bound in BOUNDS.items() if bound.category == "null"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_click_dataset(folder)
    return folder


def cases_of(data: Path) -> list[EvalClip]:
    found = [build_eval_clip(data, clip) for clip in read_manifest(data)]
    return [case for case in found if isinstance(case, EvalClip)]


@pytest.fixture(scope="module")
def result(data: Path) -> EvaluationResult:
    plan = EvaluationPlan(
        title="fe50",
        clips=cases_of(data),
        bounds=[*NULL_SYSTEMS, "ground_truth", "other_performance"],
    )
    return run_evaluation(plan, reporter=NullReporter())


def analyze_reference(case: EvalClip) -> AudioAnalysis:
    assert case.reference is not None
    analysis = analyze_audio(case.reference, config=AnalysisConfig(), cache_dir=None)
    assert isinstance(analysis, AudioAnalysis)
    return analysis


def test_the_truth_against_itself_is_perfect(result: EvaluationResult) -> None:
    row = result.get_system("ground_truth")
    assert row is not None
    assert row.official is not None
    assert (row.official.bcs, row.official.bhs, row.official.f1) == (1.0, 1.0, 1.0)
    assert (row.strict["onset_f"], row.strict["beat_f"]) == (1.0, 1.0)


@pytest.mark.parametrize("name", ["click_1hz", "click_4hz"])
def test_a_metronome_has_all_the_recall_and_f1_by_the_formula(
    result: EvaluationResult, name: str
) -> None:
    row = result.get_system(name)
    assert row is not None
    assert row.official is not None
    p = float(
        np.mean([truth.onset_flags.mean() for truth in result.reference_analyses.values()])
    )
    assert row.official.bhs == 1.0
    assert row.official.bcs == pytest.approx(p)
    assert row.official.f1 == pytest.approx(2 * p / (1 + p))


def test_the_density_is_kept_and_the_places_are_not(data: Path) -> None:
    for case in cases_of(data):
        truth = analyze_reference(case)
        request = BoundRequest(clips=[case], reference_analyses={case.id: truth}, seeds=[0])
        [sound] = build_bound_sources("density_matched", request).values()
        assert isinstance(sound, ClickTrain)
        made = analyze_audio(sound, config=AnalysisConfig(), cache_dir=None)
        assert isinstance(made, AudioAnalysis)
        assert abs(int(made.onset_flags.sum()) - int(truth.onset_flags.sum())) <= 1
        assert len(sound.click_times_s) == len(truth.protocol_onsets_s)


def test_chance_is_what_all_pairs_of_strangers_give_one_by_one() -> None:
    rng = np.random.default_rng(1)
    lengths = [5, 7, 6, 7]
    groups = ["a", "a", "b", "c"]
    made = [rng.random(n) < 0.6 for n in lengths]
    true = [rng.random(n + k % 2) < 0.6 for k, n in enumerate(lengths)]
    pairs = [
        score_clip(true[j], made[i][: len(true[j])])
        for i in range(4)
        for j in range(4)
        if groups[i] != groups[j]
    ]

    found = chance_precision_recall(made, true, groups)

    assert found is not None
    assert found[0] == pytest.approx(np.mean([pair.bcs for pair in pairs]))
    assert found[1] == pytest.approx(np.mean([pair.bhs for pair in pairs]))
    assert chance_precision_recall(made, true, ["a"] * 4) is None


def test_strangers_are_of_another_source() -> None:
    groups = ["a", "a", "b", "c", "c"]
    for seed in range(20):
        others = pick_mismatched_clips(groups, seed=seed)
        assert all(o is not None and groups[o] != groups[k] for k, o in enumerate(others))
    assert pick_mismatched_clips(["a", "a"], seed=0) == [None, None]


def test_an_interval_over_sources_is_wider_than_over_their_clips() -> None:
    values = np.repeat([0.0, 1.0, 0.0, 1.0], 10)
    wide = ClusterBootstrap(np.repeat(list("abcd"), 10).tolist())
    narrow = ClusterBootstrap([str(k) for k in range(40)])

    low, high = wide.confidence_interval(wide.resample_means(values)) or (0, 0)
    inner_low, inner_high = narrow.confidence_interval(narrow.resample_means(values)) or (0, 0)

    assert low < inner_low < 0.5 < inner_high < high
    assert ClusterBootstrap(["a"] * 3).confidence_interval(np.full(3, 0.5)) is None


def test_resampled_means_leave_out_what_is_not_there() -> None:
    resampler = ClusterBootstrap(["a", "b", "c"])
    values = np.array([0.5, np.nan, 0.5])

    means = resampler.resample_means(values)

    assert np.nanmax(means) == np.nanmin(means) == 0.5
    assert np.isnan(means).any()  # draws of b alone


def test_a_difference_is_told_from_chance() -> None:
    rng = np.random.default_rng(0)
    groups = [str(k) for k in range(60)]
    base = rng.random(60)
    same = compare_paired((base,), (base + rng.normal(0, 0.1, 60),), groups, np.asarray)
    above = compare_paired((base + 0.2,), (base + rng.normal(0, 0.1, 60),), groups, np.asarray)

    assert same is not None
    assert above is not None
    assert same.p_value > 0.05 > 0.001 > above.p_value
    assert above.ci_low < 0.2 < above.ci_high
    assert compare_paired((base,), (base,), ["a"] * 60, np.asarray) is None


def test_equal_rows_have_no_difference_and_p_of_one() -> None:
    values = np.random.default_rng(0).random(8)
    found = compare_paired((values, values), (values, values), list("abcdefgh"), f1_of_means)

    assert found is not None
    assert (found.difference, found.p_value) == (0.0, 1.0)


def test_a_sound_is_remembered_to_the_last_bit(data: Path, tmp_path: Path) -> None:
    sound = RecordedAudio(path=data / "audio" / "0.flac")
    first = analyze_audio(sound, config=AnalysisConfig(), cache_dir=tmp_path)
    [kept] = tmp_path.iterdir()
    again = analyze_audio(sound, config=AnalysisConfig(), cache_dir=tmp_path)

    assert isinstance(first, AudioAnalysis)
    assert isinstance(again, AudioAnalysis)
    np.testing.assert_array_equal(first.protocol_onsets_s, again.protocol_onsets_s)
    np.testing.assert_array_equal(first.beats_s, again.beats_s)
    kept.write_text("{")  # damaged: written again
    assert isinstance(
        analyze_audio(sound, config=AnalysisConfig(), cache_dir=tmp_path), AudioAnalysis
    )


def test_two_processes_hear_what_one_hears(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hearing, "MIN_SOURCES_PER_WORKER", 1)
    sounds: list[AudioSource] = [
        RecordedAudio(path=data / "audio" / "0.flac"),
        RecordedAudio(path=data / "audio" / "gone.flac"),
        ClickTrain(click_times_s=(1.0, 2.0), n_samples=N),
    ]
    ears = AnalysisConfig(strict_metrics=False)

    one = analyze_audio_sources(sounds, config=ears, cache_dir=None, max_workers=1)
    two = analyze_audio_sources(sounds, config=ears, cache_dir=None, max_workers=2)

    assert isinstance(one[1], AnalysisFailure)
    assert isinstance(two[1], AnalysisFailure)
    for k in (0, 2):
        a, b = one[k], two[k]
        assert isinstance(a, AudioAnalysis)
        assert isinstance(b, AudioAnalysis)
        np.testing.assert_array_equal(a.protocol_onsets_s, b.protocol_onsets_s)


def test_a_longer_sound_is_cut_and_told_of(data: Path) -> None:
    sound = RecordedAudio(path=data / "audio" / "0.flac", max_samples=N - 22_050)
    found = analyze_audio(sound, config=AnalysisConfig(), cache_dir=None)

    assert isinstance(found, AudioAnalysis)
    assert (found.n_samples, found.n_truncated_samples) == (N - 22_050, 22_050)


def test_a_clip_without_its_files_is_skipped_with_the_reason(data: Path) -> None:
    [clip, *_] = read_manifest(data)

    lost = build_eval_clip(data, replace(clip, audio="audio/gone.flac"))

    bodiless = build_eval_clip(data, replace(clip, poses=clip.rhythm))
    posed = build_eval_clip(data, replace(clip, poses="poses/0.npz"))

    assert isinstance(lost, SkippedClip)
    assert "audio/gone.flac" in lost.reason
    assert isinstance(bodiless, SkippedClip)
    assert "lacks pose_peaks_s" in bodiless.reason
    assert posed == SkippedClip(clip_id=clip.id, reason="poses/0.npz is not there")


def test_a_split_that_is_not_there_is_refused(data: Path) -> None:
    with pytest.raises(InputError, match="no val clips"):
        read_subset_clips(data, "fe50", partition="val")


def test_the_json_is_the_contract(result: EvaluationResult) -> None:
    report = build_report(result, run_options={})

    assert report["protocol"] == "loris-official-v1"
    assert report["title"] == "fe50"
    assert [row["id"] for row in report["systems"]] == [*NULL_SYSTEMS, "ground_truth"]
    assert report["unavailable"] == {
        "other_performance": "no two clips are known to be of one piece of music"
    }
    for row in report["systems"]:
        assert row["category"] == BOUNDS[row["id"]].category
        assert set(row["official"]) == set(OFFICIAL_METRICS)
        assert all(0 <= row["official"][name] <= 1 for name in OFFICIAL_METRICS)
        others = {name: v for name, v in row["strict"].items() if name != "f1_chance_corrected"}
        assert all(0 <= value <= 1 for value in others.values())
    assert report["published"][-1]["F1"] == 0.589
    assert len(build_clip_records(result)) == 4 * 7


def test_one_clip_has_neither_deviation_nor_interval(data: Path) -> None:
    plan = EvaluationPlan(
        title="fe50", clips=cases_of(data)[:1], bounds=["click_1hz", "mismatched"]
    )

    [row] = build_report(run_evaluation(plan, reporter=NullReporter()), run_options={})[
        "systems"
    ]

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

    pairs, alone = pair_files(made, true)

    assert [stem for stem, _, _ in pairs] == ["1", "b"]
    assert {(one.clip_id, one.reason) for one in alone} == {
        ("x", "has no reference"),
        ("y", "was not generated"),
    }
    (made / "b.wav").touch()
    with pytest.raises(InputError, match="one name"):
        pair_files(made, true)
    with pytest.raises(InputError, match="a folder and a file"):
        pair_files(made, true / "gt_1.wav")


def test_music_of_aist_is_known_by_name() -> None:
    name = "gBR_sFM_c01_d04_mBR0_ch01-1a2b3c4d-da25-0"

    assert parse_aist_performance(name) == parse_aist_performance(name.replace("c01", "c09"))
    assert parse_aist_performance(name) == ("mBR0", "d04", "ch01")
    assert parse_aist_performance("skate.mp4") is None


def test_the_cameras_of_a_performance_are_one_source(data: Path) -> None:
    [clip, *_] = read_manifest(data)
    names = [f"gBR_sFM_c0{k}_d04_mBR0_ch01.mp4" for k in (1, 9)]

    groups = {
        case.source_group
        for name in names
        if isinstance(case := build_eval_clip(data, replace(clip, source=name)), EvalClip)
    }

    assert groups == {"gBR_sFM_c00_d04_mBR0_ch01.mp4"}


def test_a_row_that_says_so_is_made_up(tmp_path: Path) -> None:
    clips = write_click_dataset(tmp_path, n_clips=2)
    write_manifest(tmp_path, [replace(clips[0], synthetic=True), clips[1]])

    cases = [build_eval_clip(tmp_path, clip) for clip in read_manifest(tmp_path)]
    assert [isinstance(c, EvalClip) and c.is_synthetic for c in cases] == [True, False]


def test_another_dancer_to_the_same_music_is_a_ceiling(data: Path) -> None:
    named = [
        replace(case, source_group=f"gBR_sFM_c01_d0{k}_mBR{k // 3}_ch01")
        for k, case in enumerate(cases_of(data))
    ]
    plan = EvaluationPlan(
        title="da25",
        clips=named,
        bounds=["other_performance"],
        analysis_config=AnalysisConfig(strict_metrics=False),
    )

    row = run_evaluation(plan, reporter=NullReporter()).get_system("other_performance")

    assert row is not None
    assert row.clip_ids == ("clip-0", "clip-1", "clip-2")  # no other clip has mBR1


def test_every_published_f1_is_of_its_row_but_the_misprint() -> None:
    wrong = {
        (slip["subset"], slip["id"], slip["column"])
        for slip in load_published_tables()["misprints"]
    }
    for split in PAPER_SUBSETS:
        assert len(get_published_scores(split)) == 5
        for method in get_published_scores(split):
            assert set(SCORE_COLUMNS) <= set(method)
            expected = 2 * method["BCS"] * method["BHS"] / (method["BCS"] + method["BHS"])
            near = abs(expected - method["F1"]) < 0.001
            assert near != ((split, method["id"], "F1") in wrong)
    assert get_published_scores("synthetic") == []


def test_all_tables_of_the_paper_are_there() -> None:
    assert sorted({table["table"] for table in load_published_tables()["tables"]}) == [
        2,
        3,
        4,
        5,
        6,
        7,
        8,
    ]
    [full] = {
        tuple(row[name] for name in OFFICIAL_METRICS)
        for table in load_published_tables()["tables"]
        for row in table["rows"]
        if (table["table"] > 4 and row["id"] in ("full", "steps=50", "guidance=20"))
        or (table["subset"] == "fe25" and row["id"] == "loris")
    }
    assert full == (58.8, 19.4, 67.1, 21.1, 62.7)


def test_a_clip_of_a_manifest_keeps_its_source(data: Path) -> None:
    groups = [case.source_group for case in cases_of(data)]
    assert groups == ["video-0", "video-0", "video-1", "video-1"]
    made = Clip(
        id="a", subset="synthetic", partition="test", duration_s=6.0, genre="pop",
        source="synthesised", audio="audio/0.flac", rhythm="rhythm/0.npz",
    )  # fmt: skip
    case = build_eval_clip(data, made)
    assert isinstance(case, EvalClip)
    assert (case.source_group, case.is_synthetic) == ("a", True)
