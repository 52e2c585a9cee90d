"""The published scores, against worked examples and a plain reading of the script."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import librosa
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media import write_wav

from loris_cli.errors import InputError
from loris_cli.evaluation.metrics.loris_scores import (
    OFFICIAL_PROTOCOL,
    PROTOCOLS,
    ClipScores,
    OnsetFlags,
    detect_protocol_onsets,
    f1_score,
    flag_onset_seconds,
    score_clip,
    summarize_scores,
    with_onset_window,
)
from loris_cli.evaluation.runner.audio_sources import ClickTrain, load_samples, read_audio_file

RATE = 22_050
FLAGS = st.lists(st.booleans(), min_size=1, max_size=60)

# Spec 5.3: the truth, what was generated, BCS, BHS.
WORKED = [
    ("1011001010", "1110001000", 0.75, 0.6),
    ("0001100000", "1111110000", 1 / 3, 1.0),
    ("1111100000", "0000100000", 1.0, 0.2),
    ("0100000000", "0000000000", 0.0, 0.0),
]


def of(text: str) -> OnsetFlags:
    return np.array([character == "1" for character in text])


def clicks(*times_s: float, duration_s: float = 10.0) -> np.ndarray:
    sound, _ = load_samples(
        ClickTrain(click_times_s=times_s, n_samples=round(duration_s * RATE))
    )
    return sound


def plainly(true: list[int], made: list[int]) -> tuple[float, float]:
    """The scores of a clip, read off the description: list by list."""
    true = true[: len(made)]
    hits = sum(1 for a, b in zip(true, made, strict=True) if a == 1 and b == 1)
    return (hits / sum(made) if sum(made) else 0, hits / sum(true) if sum(true) else 0)


@pytest.mark.parametrize(("true", "made", "bcs", "bhs"), WORKED)
def test_a_clip_scores_as_in_the_worked_example(
    true: str, made: str, bcs: float, bhs: float
) -> None:
    assert score_clip(of(true), of(made)) == ClipScores(bcs=bcs, bhs=bhs)


def test_four_clips_sum_up_as_in_the_worked_example() -> None:
    found = summarize_scores([ClipScores(bcs=bcs, bhs=bhs) for _, _, bcs, bhs in WORKED])

    assert found.bcs == pytest.approx(0.5208333, abs=1e-7)
    assert found.csd == pytest.approx(0.4429227, abs=1e-7)
    assert found.bhs == pytest.approx(0.45, abs=1e-7)
    assert found.hsd == pytest.approx(0.4434712, abs=1e-7)
    assert found.f1 == pytest.approx(0.4828326, abs=1e-7)  # 0.375 is the mean of the F1


def test_the_older_coverage_exceeds_one() -> None:
    d2m = PROTOCOLS["d2m"]
    pairs = [score_clip(of(true), of(made), d2m) for true, made, _, _ in WORKED]

    assert [pair.bcs for pair in pairs] == [0.8, 3.0, 0.2, 0.0]
    assert summarize_scores(pairs, d2m).bcs == pytest.approx(1.0)
    assert summarize_scores(pairs, d2m).f1 is None


def test_click_tracks_are_found_where_librosa_finds_them() -> None:
    sound = clicks(0.5, 2.25, 2.75, 4.5, 7.2)

    found = detect_protocol_onsets(sound)

    np.testing.assert_allclose(found, [0.511, 2.276, 2.763, 4.528, 7.221], atol=5e-4)
    assert (
        "".join(str(int(flag)) for flag in flag_onset_seconds(found, len(sound)))
        == "1010100100"
    )


def test_two_click_tracks_share_half_of_their_seconds() -> None:
    true, made = clicks(0.5, 2.25, 2.75, 4.5, 7.2), clicks(0.5, 3.1, 4.5, 8.9)

    found = flag_onset_seconds(detect_protocol_onsets(made), len(made))

    assert "".join(str(int(flag)) for flag in found) == "1001100010"
    assert score_clip(
        flag_onset_seconds(detect_protocol_onsets(true), len(true)), found
    ) == ClipScores(bcs=0.5, bhs=0.5)


def test_silence_and_noise_are_nearly_nothing() -> None:
    silence = np.zeros(5 * RATE, np.float32)
    noise = np.random.default_rng(0).standard_normal(25 * RATE).astype(np.float32)

    assert not flag_onset_seconds(detect_protocol_onsets(silence), len(silence)).any()
    assert (
        flag_onset_seconds(detect_protocol_onsets(noise), len(noise)).sum() <= 2
    )  # blind to noise, as it is


def test_the_protocols_are_those_of_the_scripts() -> None:
    asked = {name: protocol.peak_picking_args for name, protocol in PROTOCOLS.items()}
    shared = {"delta": 0.2, "wait": 1}

    assert asked["official"] == shared | dict(pre_avg=3, post_avg=3, pre_max=3, post_max=3)
    assert asked["paper"] == shared | dict(pre_avg=2, post_avg=2, pre_max=3, post_max=3)
    # The older script leaves pre_max to librosa: 30 ms in whole hops.
    older = {"pre_avg": 1, "post_avg": 1, "pre_max": 0.03 * RATE // 512, "post_max": 1}
    assert asked["d2m"] == shared | older


def test_another_mean_is_another_protocol() -> None:
    assert with_onset_window(OFFICIAL_PROTOCOL, 2) == PROTOCOLS["paper"]
    assert with_onset_window(OFFICIAL_PROTOCOL, 3) is OFFICIAL_PROTOCOL
    assert with_onset_window(OFFICIAL_PROTOCOL, 5).id == "loris-official-v1-avg5"


@given(FLAGS)
def test_perfect_is_one(flags: list[bool]) -> None:
    scores = score_clip(np.array(flags), np.array(flags))

    expected = 1.0 if any(flags) else 0.0
    assert scores == ClipScores(bcs=expected, bhs=expected)


@given(FLAGS, FLAGS)
def test_a_clip_scores_as_the_plain_reading_does(one: list[bool], other: list[bool]) -> None:
    true, made = sorted((one, other), key=len, reverse=True)

    found = score_clip(np.array(true), np.array(made))

    assert (found.bcs, found.bhs) == plainly([int(x) for x in true], [int(x) for x in made])


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=40))
def test_sums_are_taken_in_the_order_of_the_script(scores: list[tuple[float, float]]) -> None:
    total_bcs = total_bhs = 0.0
    for bcs, bhs in scores:
        total_bcs += bcs
        total_bhs += bhs

    found = summarize_scores([ClipScores(bcs=bcs, bhs=bhs) for bcs, bhs in scores])

    assert found.bcs == total_bcs / len(scores)
    assert found.bhs == total_bhs / len(scores)
    assert found.csd == np.std([bcs for bcs, _ in scores], ddof=1)


@pytest.mark.parametrize(("true", "made"), [("101", ""), ("10", "101")])
def test_what_cannot_be_compared_is_refused(true: str, made: str) -> None:
    with pytest.raises(InputError, match="cannot be scored"):
        score_clip(of(true), of(made))


def test_no_clips_are_refused_and_one_has_no_deviation() -> None:
    with pytest.raises(InputError):
        summarize_scores([])

    alone = summarize_scores([ClipScores(bcs=0.5, bhs=0.25)])
    assert (alone.csd, alone.hsd) == (None, None)
    assert f1_score(0.0, 0.0) == 0.0


@pytest.mark.parametrize("sound", [np.zeros(0), np.zeros((2, 100)), np.full(100, np.nan)])
def test_what_is_no_mono_sound_is_refused(sound: np.ndarray) -> None:
    with pytest.raises(InputError):
        detect_protocol_onsets(sound.astype(np.float32))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what librosa.load imports
def test_files_are_read_as_the_script_reads_them(tmp_path: Path) -> None:
    stereo = np.random.default_rng(1).normal(size=(2, 48_000)).astype(np.float32) * 0.1
    path = write_wav(tmp_path / "a.wav", stereo, 48_000)

    np.testing.assert_array_equal(read_audio_file(path), librosa.load(path)[0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_220_random_pairs_score_as_by_the_plain_script_to_the_last_digit(
    tmp_path: Path,
) -> None:
    place = Path(__file__).parents[1] / "benchmarks" / "eval.py"
    spec = spec_from_file_location("plain_script", place)
    assert spec is not None
    assert spec.loader is not None
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    generated, reference = tmp_path / "generated", tmp_path / "reference"
    for folder, first in ((generated, 0), (reference, 1000)):
        folder.mkdir()
        for k in range(220):
            script.write_random_audio(
                folder / f"{k}.wav", first + k, seconds=2.5 + 1.5 * (first > 0)
            )

    def flag_onsets(path: Path) -> OnsetFlags:
        samples = read_audio_file(path)
        return flag_onset_seconds(detect_protocol_onsets(samples), len(samples))

    pairs = [
        score_clip(flag_onsets(reference / path.name), flag_onsets(path))
        for path in sorted(generated.iterdir())
    ]

    summary = summarize_scores(pairs)
    expected = script.score_plainly(generated, reference)
    assert [summary.bcs, summary.csd, summary.bhs, summary.hsd, summary.f1] == expected
