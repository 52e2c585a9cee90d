"""Rhythm scores of the paper: worked examples and a plain reimplementation of the script."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media import write_wav

from loris_cli.array_types import Samples
from loris_cli.errors import InputError
from loris_cli.evaluation.metrics.loris_scores import (
    OFFICIAL_PROTOCOL,
    PROTOCOLS,
    ClipScores,
    OnsetFlags,
    detect_protocol_onsets,
    f1_score,
    flag_onset_seconds,
    replace_averaging_window,
    score_clip,
    summarize_scores,
)
from loris_cli.evaluation.runner.audio_sources import ClickTrain, load_samples, read_audio_file
from loris_cli.system.librosa_import import librosa

pytestmark = pytest.mark.numpy1

RATE = 22_050
FLAG_LISTS = st.lists(st.booleans(), min_size=1, max_size=60)

# Reference flags, generated flags, BCS, BHS.
WORKED_EXAMPLES = [
    ("1011001010", "1110001000", 0.75, 0.6),
    ("0001100000", "1111110000", 1 / 3, 1.0),
    ("1111100000", "0000100000", 1.0, 0.2),
    ("0100000000", "0000000000", 0.0, 0.0),
]


def parse_flags(text: str) -> OnsetFlags:
    """Flags from a string of 0 and 1."""
    return np.array([character == "1" for character in text])


def format_flags(flags: OnsetFlags) -> str:
    return "".join(str(int(flag)) for flag in flags)


def render_clicks(*times_s: float) -> Samples:
    """10 s of audio with clicks."""
    samples, _ = load_samples(ClickTrain(click_times_s=times_s, n_samples=10 * RATE))
    return samples


def detect_onset_flags(samples: Samples) -> OnsetFlags:
    return flag_onset_seconds(detect_protocol_onsets(samples), len(samples))


def score_plainly(reference: list[bool], generated: list[bool]) -> ClipScores:
    """Scores of a clip by counting, as the paper describes them."""
    reference = reference[: len(generated)]
    n_hits = sum(a and b for a, b in zip(reference, generated, strict=True))
    return ClipScores(
        bcs=n_hits / sum(generated) if any(generated) else 0,
        bhs=n_hits / sum(reference) if any(reference) else 0,
    )


@pytest.mark.parametrize(("reference", "generated", "bcs", "bhs"), WORKED_EXAMPLES)
def test_clip_scores_equal_the_worked_examples(
    reference: str, generated: str, bcs: float, bhs: float
) -> None:
    scores = score_clip(parse_flags(reference), parse_flags(generated))

    assert scores == ClipScores(bcs=bcs, bhs=bhs)


def test_summary_of_four_clips_equals_the_worked_example() -> None:
    summary = summarize_scores(
        [ClipScores(bcs=bcs, bhs=bhs) for _, _, bcs, bhs in WORKED_EXAMPLES]
    )

    assert summary.bcs == pytest.approx(0.5208333, abs=1e-7)
    assert summary.csd == pytest.approx(0.4429227, abs=1e-7)
    assert summary.bhs == pytest.approx(0.45, abs=1e-7)
    assert summary.hsd == pytest.approx(0.4434712, abs=1e-7)
    # F1 of the mean BCS and BHS; the mean of the clips' F1 is 0.375.
    assert summary.f1 == pytest.approx(0.4828326, abs=1e-7)


def test_d2m_protocol_has_coverage_above_one_and_no_f1() -> None:
    d2m = PROTOCOLS["d2m"]
    pairs = [
        score_clip(parse_flags(reference), parse_flags(generated), d2m)
        for reference, generated, _, _ in WORKED_EXAMPLES
    ]

    assert [pair.bcs for pair in pairs] == [0.8, 3.0, 0.2, 0.0]
    assert summarize_scores(pairs, d2m).bcs == pytest.approx(1.0)
    assert summarize_scores(pairs, d2m).f1 is None


def test_click_onsets_have_the_times_that_librosa_finds() -> None:
    samples = render_clicks(0.5, 2.25, 2.75, 4.5, 7.2)

    onsets_s = detect_protocol_onsets(samples)

    np.testing.assert_allclose(onsets_s, [0.511, 2.276, 2.763, 4.528, 7.221], atol=5e-4)
    assert format_flags(flag_onset_seconds(onsets_s, len(samples))) == "1010100100"


def test_click_tracks_with_half_of_their_seconds_in_common_score_one_half() -> None:
    reference = detect_onset_flags(render_clicks(0.5, 2.25, 2.75, 4.5, 7.2))
    generated = detect_onset_flags(render_clicks(0.5, 3.1, 4.5, 8.9))

    assert format_flags(generated) == "1001100010"
    assert score_clip(reference, generated) == ClipScores(bcs=0.5, bhs=0.5)


def test_silence_has_no_onsets_and_noise_at_most_two() -> None:
    noise = np.random.default_rng(0).standard_normal(25 * RATE).astype(np.float32)

    assert not detect_onset_flags(np.zeros(5 * RATE, np.float32)).any()
    assert detect_onset_flags(noise).sum() <= 2


def test_peak_picking_parameters_are_those_of_the_scripts() -> None:
    picking = {name: protocol.peak_picking_args for name, protocol in PROTOCOLS.items()}
    shared = {"delta": 0.2, "wait": 1}

    assert picking["official"] == shared | dict(pre_avg=3, post_avg=3, pre_max=3, post_max=3)
    assert picking["paper"] == shared | dict(pre_avg=2, post_avg=2, pre_max=3, post_max=3)
    # The script of D2M-GAN leaves pre_max to librosa: 30 ms in whole hops.
    d2m = {"pre_avg": 1, "post_avg": 1, "pre_max": 0.03 * RATE // 512, "post_max": 1}
    assert picking["d2m"] == shared | d2m


def test_averaging_window_is_part_of_the_protocol_id() -> None:
    assert replace_averaging_window(OFFICIAL_PROTOCOL, 2) == PROTOCOLS["paper"]
    assert replace_averaging_window(OFFICIAL_PROTOCOL, 3) is OFFICIAL_PROTOCOL
    assert replace_averaging_window(OFFICIAL_PROTOCOL, 5).id == "loris-official-v1-avg5"


@given(FLAG_LISTS)
def test_perfect_clip_scores_one_and_empty_clip_zero(flags: list[bool]) -> None:
    scores = score_clip(np.array(flags), np.array(flags))

    expected = 1.0 if any(flags) else 0.0
    assert scores == ClipScores(bcs=expected, bhs=expected)


@given(FLAG_LISTS, FLAG_LISTS)
def test_clip_scores_equal_scores_by_counting(one: list[bool], other: list[bool]) -> None:
    reference, generated = sorted((one, other), key=len, reverse=True)

    scores = score_clip(np.array(reference), np.array(generated))

    assert scores == score_plainly(reference, generated)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=40))
def test_means_are_summed_sequentially_as_in_the_script(
    scores: list[tuple[float, float]],
) -> None:
    total_bcs = total_bhs = 0.0
    for bcs, bhs in scores:
        total_bcs += bcs
        total_bhs += bhs

    summary = summarize_scores([ClipScores(bcs=bcs, bhs=bhs) for bcs, bhs in scores])

    assert summary.bcs == total_bcs / len(scores)
    assert summary.bhs == total_bhs / len(scores)
    assert summary.csd == np.std([bcs for bcs, _ in scores], ddof=1)


@pytest.mark.parametrize(
    ("reference", "generated"),
    [
        pytest.param("101", "", id="empty"),
        pytest.param("10", "101", id="longer than the reference"),
    ],
)
def test_generated_audio_of_unusable_length_is_rejected(reference: str, generated: str) -> None:
    lengths = rf"{len(generated)} s\b.*\b{len(reference)} s\b"
    with pytest.raises(InputError, match=lengths):
        score_clip(parse_flags(reference), parse_flags(generated))


def test_summary_without_clips_is_rejected() -> None:
    with pytest.raises(InputError):
        summarize_scores([])


def test_summary_of_one_clip_has_no_standard_deviation() -> None:
    alone = summarize_scores([ClipScores(bcs=0.5, bhs=0.25)])
    assert (alone.bcs, alone.bhs) == (0.5, 0.25)
    assert (alone.csd, alone.hsd) == (None, None)


def test_f1_of_zero_scores_is_zero() -> None:
    assert f1_score(0.0, 0.0) == 0.0


@pytest.mark.parametrize(
    "samples",
    [
        pytest.param(np.zeros(0), id="empty"),
        pytest.param(np.zeros((2, 100)), id="stereo"),
        pytest.param(np.full(100, np.nan), id="NaN"),
    ],
)
def test_audio_that_is_not_finite_mono_is_rejected(samples: np.ndarray) -> None:
    with pytest.raises(InputError):
        detect_protocol_onsets(samples.astype(np.float32))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # from imports of librosa.load
def test_audio_file_has_the_samples_that_librosa_loads(tmp_path: Path) -> None:
    stereo = np.random.default_rng(1).normal(size=(2, 48_000)).astype(np.float32) * 0.1
    path = write_wav(tmp_path / "a.wav", stereo, 48_000)

    np.testing.assert_array_equal(read_audio_file(path), librosa.load(path)[0])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scores_of_220_random_pairs_are_bit_identical_to_the_plain_script(
    tmp_path: Path,
) -> None:
    script_path = Path(__file__).parents[1] / "benchmarks" / "eval.py"
    spec = spec_from_file_location("plain_script", script_path)
    assert spec is not None
    assert spec.loader is not None
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    generated, reference = tmp_path / "generated", tmp_path / "reference"
    for folder, first_seed, duration_s in ((generated, 0, 2.5), (reference, 1000, 4.0)):
        folder.mkdir()
        for k in range(220):
            script.write_random_audio(folder / f"{k}.wav", first_seed + k, duration_s)

    summary = summarize_scores(
        [
            score_clip(
                detect_onset_flags(read_audio_file(reference / path.name)),
                detect_onset_flags(read_audio_file(path)),
            )
            for path in sorted(generated.iterdir())
        ]
    )

    expected = script.score_plainly(generated, reference)
    assert [summary.bcs, summary.csd, summary.bhs, summary.hsd, summary.f1] == expected
