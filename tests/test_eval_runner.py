"""Evaluation runs: bounds, chance level, confidence intervals, clips and the JSON report."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import make_clip
from click_dataset import CLIP_S, write_click_dataset

from loris_cli.audio.onsets import match_onsets
from loris_cli.config import SAMPLE_RATE_HZ
from loris_cli.dataset.manifest import SYNTHETIC_SOURCE, read_manifest, write_manifest
from loris_cli.dataset.partitions import label_clusters, share_groups
from loris_cli.dataset.source_names import derive_groups
from loris_cli.errors import InputError
from loris_cli.evaluation.metrics.loris_scores import f1_score, score_clip
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
from loris_cli.evaluation.report.tables import format_text
from loris_cli.evaluation.runner import audio_analysis
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
from loris_cli.evaluation.runner.scores import SystemScores
from loris_cli.system.progress import NullReporter

N_SAMPLES = round(CLIP_S * SAMPLE_RATE_HZ)
AUDIO_NAME = "audio/clip-0.flac"
NULL_SYSTEMS = [name for name, bound in BOUNDS.items() if bound.category == "null"]
OFFICIAL_ONLY = AnalysisConfig(strict_metrics=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_click_dataset(folder)
    return folder


def read_eval_clips(data: Path) -> list[EvalClip]:
    clips = [build_eval_clip(data, clip) for clip in read_manifest(data)]
    return [clip for clip in clips if isinstance(clip, EvalClip)]


@pytest.fixture(scope="module")
def result(data: Path) -> EvaluationResult:
    """Evaluation of all null systems and the reference, with strict metrics."""
    plan = EvaluationPlan(
        title="fe50",
        clips=read_eval_clips(data),
        bounds=[*NULL_SYSTEMS, "ground_truth", "other_performance"],
        seeds=(0, 1),
    )
    return run_evaluation(plan, reporter=NullReporter())


def get_scores(result: EvaluationResult, system_id: str) -> SystemScores:
    scores = result.get_system(system_id)
    assert scores is not None
    return scores


def analyze_source(
    source: AudioSource | None,
    *,
    config: AnalysisConfig = OFFICIAL_ONLY,
    cache_dir: Path | None = None,
) -> AudioAnalysis:
    assert source is not None
    analysis = analyze_audio(source, config=config, cache_dir=cache_dir)
    assert isinstance(analysis, AudioAnalysis)
    return analysis


def test_reference_audio_has_perfect_scores(result: EvaluationResult) -> None:
    scores = get_scores(result, "ground_truth")
    assert scores.official is not None
    assert (scores.official.bcs, scores.official.bhs, scores.official.f1) == (1.0, 1.0, 1.0)
    assert (scores.strict["onset_f"], scores.strict["beat_f"]) == (1.0, 1.0)


@pytest.mark.parametrize("name", ["click_1hz", "click_4hz"])
def test_clicks_in_every_second_have_full_recall(result: EvaluationResult, name: str) -> None:
    scores = get_scores(result, name)
    assert scores.official is not None
    precision = float(
        np.mean([a.onset_flags.mean() for a in result.reference_analyses.values()])
    )
    assert scores.official.bhs == 1.0
    assert scores.official.bcs == pytest.approx(precision)
    assert scores.official.f1 == pytest.approx(2 * precision / (1 + precision))


def test_density_matched_clicks_keep_the_density_but_not_the_times(data: Path) -> None:
    n_shuffled = 0
    for clip in read_eval_clips(data):
        reference = analyze_source(clip.reference)
        request = BoundRequest(clips=[clip], reference_analyses={clip.id: reference}, seeds=[0])
        [source] = build_bound_sources("density_matched", request).values()
        assert isinstance(source, ClickTrain)
        n_flagged = int(analyze_source(source).onset_flags.sum())
        assert abs(n_flagged - int(reference.onset_flags.sum())) <= 1
        click_times_s, onsets_s = np.array(source.click_times_s), reference.protocol_onsets_s
        # Whole seconds are permuted, so the times within their seconds are unchanged.
        np.testing.assert_allclose(np.sort(click_times_s % 1), np.sort(onsets_s % 1))
        n_shuffled += not np.allclose(click_times_s, onsets_s)
    assert n_shuffled > 0


def test_chance_level_equals_the_mean_over_all_pairs_of_sources() -> None:
    rng = np.random.default_rng(1)
    lengths = [5, 7, 6, 7]
    groups = ["a", "a", "b", "c"]
    generated = [rng.random(n) < 0.6 for n in lengths]
    reference = [rng.random(n + k % 2) < 0.6 for k, n in enumerate(lengths)]
    pairs = [
        (i, score_clip(reference[j], generated[i][: len(reference[j])]))
        for i in range(4)
        for j in range(4)
        if groups[i] != groups[j]
    ]

    chance = chance_precision_recall(generated, reference, share_groups([[g] for g in groups]))

    for values, name in zip(chance, ("bcs", "bhs"), strict=True):
        for clip, mean in enumerate(values):
            own = [getattr(pair, name) for i, pair in pairs if i == clip]
            assert mean == pytest.approx(np.mean(own))
    assert np.isnan(chance_precision_recall(generated, reference, np.ones((4, 4), bool))).all()


def test_reference_scores_higher_with_its_own_clip_than_with_others(
    result: EvaluationResult,
) -> None:
    own = get_scores(result, "ground_truth")
    onset_f = own.chance_values["onset_f"]
    first_source, *sources = own.source_groups
    expected = []
    for name, source in zip(own.clip_ids[1:], sources, strict=True):
        if source == first_source:
            continue
        pair = [result.reference_analyses[clip] for clip in (name, own.clip_ids[0])]
        match = match_onsets(*(audio.strict_onsets_s for audio in pair))
        expected.append(f1_score(match.precision, match.recall))

    assert onset_f[0] == pytest.approx(np.mean(expected))
    difference = own.chance_differences["onset_f"]
    assert difference.difference == pytest.approx(1 - onset_f.mean())
    assert difference.ci_low > 0
    assert own.strict["f1_chance"] == pytest.approx(
        f1_score(own.chance_values["BCS"].mean(), own.chance_values["BHS"].mean())
    )


def test_systems_of_other_references_have_no_chance_level(result: EvaluationResult) -> None:
    report = build_report(result, run_options={})
    with_chance = {row["id"] for row in report["systems"] if "chance" in row}
    assert with_chance == {*NULL_SYSTEMS, "ground_truth"} - {"mismatched"}
    assert "references of other clips" in format_text(report)


def test_mismatched_clips_are_from_another_source() -> None:
    groups = ["a", "a", "b", "c", "c"]
    for seed in range(20):
        partners = pick_mismatched_clips([[group] for group in groups], seed=seed)
        assert all(p is not None and groups[p] != groups[k] for k, p in enumerate(partners))
    assert pick_mismatched_clips([["a"], ["a"]], seed=0) == [None, None]


def test_interval_over_sources_is_wider_than_over_independent_clips() -> None:
    values = np.repeat([0.0, 1.0, 0.0, 1.0], 10)
    by_source = ClusterBootstrap(np.repeat(list("abcd"), 10).tolist())
    by_clip = ClusterBootstrap([str(k) for k in range(40)])

    wide = by_source.confidence_interval(by_source.resample_means(values))
    narrow = by_clip.confidence_interval(by_clip.resample_means(values))

    assert wide is not None
    assert narrow is not None
    assert wide[0] < narrow[0] < 0.5 < narrow[1] < wide[1]
    assert ClusterBootstrap(["a"] * 3).confidence_interval(np.full(3, 0.5)) is None


def test_resampled_means_ignore_undefined_values() -> None:
    bootstrap = ClusterBootstrap(["a", "b", "c"])
    values = np.array([0.5, np.nan, 0.5])

    means = bootstrap.resample_means(values)

    assert np.nanmax(means) == np.nanmin(means) == 0.5
    assert np.isnan(means).any()  # resamples that consist of b only


def test_paired_test_separates_a_shift_from_noise() -> None:
    rng = np.random.default_rng(0)
    groups = [str(k) for k in range(60)]
    base = rng.random(60)
    equal = compare_paired((base,), (base + rng.normal(0, 0.1, 60),), groups, np.asarray)
    above = compare_paired((base + 0.2,), (base + rng.normal(0, 0.1, 60),), groups, np.asarray)

    assert equal is not None
    assert above is not None
    assert equal.p_value > 0.05 > 0.001 > above.p_value
    assert above.ci_low < 0.2 < above.ci_high
    assert compare_paired((base,), (base,), ["a"] * 60, np.asarray) is None


def test_equal_scores_have_no_difference_and_a_p_value_of_one() -> None:
    values = np.random.default_rng(0).random(8)
    paired = compare_paired((values, values), (values, values), list("abcdefgh"), f1_of_means)

    assert paired is not None
    assert (paired.difference, paired.p_value) == (0.0, 1.0)


def test_cached_analysis_is_bit_identical(data: Path, tmp_path: Path) -> None:
    source, config = RecordedAudio(path=data / AUDIO_NAME), AnalysisConfig()
    computed = analyze_source(source, config=config, cache_dir=tmp_path)
    [entry] = tmp_path.iterdir()
    content = entry.read_bytes()
    cached = analyze_source(source, config=config, cache_dir=tmp_path)

    assert len(computed.beats_s) > 0
    for name in ("protocol_onsets_s", "strict_onsets_s", "beats_s"):
        np.testing.assert_array_equal(getattr(computed, name), getattr(cached, name))
    entry.write_text("{")
    analyze_source(source, config=config, cache_dir=tmp_path)
    assert entry.read_bytes() == content  # the damaged entry is replaced


@pytest.mark.slow
def test_worker_processes_return_the_results_of_one_process(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio_analysis, "MIN_SOURCES_PER_WORKER", 1)
    sources: list[AudioSource] = [
        RecordedAudio(path=data / AUDIO_NAME),
        RecordedAudio(path=data / "audio" / "missing.flac"),
        ClickTrain(click_times_s=(1.0, 2.0), n_samples=3 * SAMPLE_RATE_HZ),
    ]

    serial, parallel = (
        analyze_audio_sources(
            sources, config=OFFICIAL_ONLY, cache_dir=None, max_workers=n_workers
        )
        for n_workers in (1, 2)
    )

    assert isinstance(serial[1], AnalysisFailure)
    assert serial[1] == parallel[1]
    for k in (0, 2):
        a, b = serial[k], parallel[k]
        assert isinstance(a, AudioAnalysis)
        assert isinstance(b, AudioAnalysis)
        assert a.samples_sha256 == b.samples_sha256
        np.testing.assert_array_equal(a.protocol_onsets_s, b.protocol_onsets_s)


def test_truncated_samples_are_counted(data: Path) -> None:
    max_samples = N_SAMPLES - 22_050
    source = RecordedAudio(path=data / AUDIO_NAME, max_samples=max_samples)
    analysis = analyze_source(source)

    assert (analysis.n_samples, analysis.n_truncated_samples) == (max_samples, 22_050)
    assert analysis.protocol_onsets_s.max() < max_samples / SAMPLE_RATE_HZ


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"audio": "audio/missing.flac"}, ["audio/missing.flac"]),
        ({"rhythm": "rhythm/bare.npz"}, ["rhythm/bare.npz", "pose_peaks_s"]),
        ({"rhythm": "rhythm/nan.npz"}, ["rhythm/nan.npz", "pose_peaks_s"]),
        ({"poses": "poses/missing.npz"}, ["poses/missing.npz"]),
        ({"poses": ""}, ["poses"]),
    ],
    ids=["no audio", "no pose rhythm", "NaN", "missing poses", "no poses"],
)
def test_a_clip_with_a_missing_or_damaged_file_is_skipped(
    fields: dict[str, Any], names: list[str], data: Path
) -> None:
    [clip, *_] = read_manifest(data)
    with np.load(data / clip.rhythm) as arrays:
        rhythm: dict[str, Any] = dict(arrays)
    annotated = {name: rhythm[name] for name in ("accents_s", "strengths", "energy", "beats_s")}
    np.savez(data / "rhythm" / "bare.npz", **annotated)
    np.savez(data / "rhythm" / "nan.npz", **{**rhythm, "pose_peaks_s": np.array([np.nan])})

    skipped = build_eval_clip(data, replace(clip, **fields))

    assert isinstance(skipped, SkippedClip)
    assert skipped.clip_id == clip.id
    assert all(name in skipped.reason for name in names)


def test_a_partition_without_clips_is_an_error(data: Path) -> None:
    with pytest.raises(InputError, match="'fe50'") as error:
        read_subset_clips(data, "fe50", partition="val")
    assert "val" in str(error.value)


def test_json_report_has_the_documented_fields(result: EvaluationResult) -> None:
    report = build_report(result, run_options={})

    assert report["protocol"] == "loris-official-v1"
    assert report["title"] == "fe50"
    assert [row["id"] for row in report["systems"]] == [*NULL_SYSTEMS, "ground_truth"]
    assert list(report["unavailable"]) == ["other_performance"]
    for row in report["systems"]:
        assert row["category"] == BOUNDS[row["id"]].category
        assert set(row["official"]) == set(OFFICIAL_METRICS)
        assert all(0 <= row["official"][name] <= 1 for name in OFFICIAL_METRICS)
        strict = {name: v for name, v in row["strict"].items() if name != "f1_chance_corrected"}
        assert all(0 <= value <= 1 for value in strict.values())
    assert report["published"][-1]["F1"] == 0.589
    assert len(build_clip_records(result)) == 4 * 7  # clips, systems


def test_one_clip_has_no_deviation_and_no_interval(data: Path) -> None:
    plan = EvaluationPlan(
        title="fe50",
        clips=read_eval_clips(data)[:1],
        bounds=["click_1hz", "mismatched"],
        analysis_config=OFFICIAL_ONLY,
    )

    report = build_report(run_evaluation(plan, reporter=NullReporter()), run_options={})

    [row] = report["systems"]
    assert row["official"]["CSD"] is None
    assert row["intervals"] == {}
    assert list(report["unavailable"]) == ["mismatched"]


def touch_files(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).touch()
    return folder


def test_files_of_two_folders_are_paired_by_stem(tmp_path: Path) -> None:
    generated = touch_files(
        tmp_path / "generated", "generated_1.wav", "b.loris.mp4", "x.wav", "notes.txt"
    )
    reference = touch_files(tmp_path / "reference", "gt_1.wav", "b.mp4", "y.flac")

    pairs, unpaired = pair_files(generated, reference)

    assert pairs == [
        ("1", generated / "generated_1.wav", reference / "gt_1.wav"),
        ("b", generated / "b.loris.mp4", reference / "b.mp4"),
    ]
    reasons = {clip.clip_id: clip.reason for clip in unpaired}
    assert reasons.keys() == {"x", "y"}
    assert "reference" in reasons["x"]
    assert "generated" in reasons["y"]


def test_ambiguous_file_pairs_are_rejected(tmp_path: Path) -> None:
    generated = touch_files(tmp_path / "generated", "b.loris.mp4", "b.wav")
    reference = touch_files(tmp_path / "reference", "b.mp4")

    with pytest.raises(InputError, match=r"b\.loris\.mp4.*b\.wav"):
        pair_files(generated, reference)
    with pytest.raises(InputError, match=re.escape(str(reference / "b.mp4"))):
        pair_files(generated, reference / "b.mp4")


def test_all_cameras_of_a_performance_are_one_source(data: Path) -> None:
    [clip, *_] = read_manifest(data)
    groups = [
        replace(clip, source=f"gBR_sFM_c0{camera}_d04_mBR0_ch01.mp4").all_groups
        for camera in (1, 9)
    ]

    assert groups[0] == groups[1] == (
        "performance:gBR_sFM_d04_mBR0_ch01", "music:mBR0", "dancer:d04",
    )  # fmt: skip


def test_synthetic_clips_of_the_manifest_are_marked(tmp_path: Path) -> None:
    clips = write_click_dataset(tmp_path, n_clips=2)
    write_manifest(tmp_path, [replace(clips[0], synthetic=True), clips[1]])

    assert [clip.is_synthetic for clip in read_eval_clips(tmp_path)] == [True, False]


def test_another_performance_to_the_same_music_is_a_ceiling(data: Path) -> None:
    clips = [
        replace(clip, groups=derive_groups(f"gBR_sFM_c01_d0{k}_mBR{k // 3}_ch01"))
        for k, clip in enumerate(read_eval_clips(data))
    ]
    plan = EvaluationPlan(
        title="da25", clips=clips, bounds=["other_performance"], analysis_config=OFFICIAL_ONLY
    )

    scores = get_scores(run_evaluation(plan, reporter=NullReporter()), "other_performance")

    assert scores.clip_ids == ("clip-0", "clip-1", "clip-2")  # clip-3 alone has mBR1


def test_every_published_f1_but_the_misprint_matches_bcs_and_bhs() -> None:
    misprints = {
        (misprint["subset"], misprint["id"], misprint["column"])
        for misprint in load_published_tables()["misprints"]
    }
    for subset in PAPER_SUBSETS:
        assert len(get_published_scores(subset)) == 5
        for method in get_published_scores(subset):
            assert set(SCORE_COLUMNS) <= set(method)
            expected = 2 * method["BCS"] * method["BHS"] / (method["BCS"] + method["BHS"])
            matches = abs(expected - method["F1"]) < 0.001
            assert matches != ((subset, method["id"], "F1") in misprints)
    assert get_published_scores("synthetic") == []


def test_the_full_model_has_the_same_scores_in_all_published_tables() -> None:
    tables = load_published_tables()["tables"]
    assert {table["table"] for table in tables} == {2, 3, 4, 5, 6, 7, 8}
    scores = {
        tuple(row[name] for name in OFFICIAL_METRICS)
        for table in tables
        for row in table["rows"]
        if (table["table"] > 4 and row["id"] in ("full", "steps=50", "guidance=20"))
        or (table["subset"] == "fe25" and row["id"] == "loris")
    }
    assert scores == {(58.8, 19.4, 67.1, 21.1, 62.7)}


def test_music_without_a_video_is_a_source_of_its_own(data: Path) -> None:
    groups = label_clusters([clip.groups for clip in read_eval_clips(data)])
    assert groups == [f"video:video-{k}" for k in (0, 0, 1, 1)]
    music = make_clip(source=SYNTHETIC_SOURCE, audio=AUDIO_NAME, rhythm="rhythm/clip-0.npz")
    eval_clip = build_eval_clip(data, music, rhythm_from_reference=True)
    assert isinstance(eval_clip, EvalClip)
    assert (eval_clip.groups, eval_clip.is_synthetic) == (("clip:a",), True)
