"""``loris soundtrack`` with ``--method score``, and MIDI files of takes of any generator."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import mido
import numpy as np
import pytest
import soundfile
import torch
from builders import make_features
from conftest import CliResult, RunLoris
from tiny_models import TINY_PAPER_CONFIG

from loris_cli.audio.onsets import compute_onset_deviations, detect_onsets, match_onsets
from loris_cli.composition import synthesis
from loris_cli.composition.arrangement import Arrangement, end_repeated_notes
from loris_cli.composition.midi_file import TRACK_NAMES
from loris_cli.composition.note_spectrogram import render_note_spectrogram
from loris_cli.composition.synthesizer_settings import BUILTIN_SOUNDFONT
from loris_cli.models import load_model as model_loading
from loris_cli.models.generator_interface import ClipFeatures
from loris_cli.models.mini_checkpoint import load_mini_checkpoint
from loris_cli.models.paper_checkpoint import save_released_format
from loris_cli.models.paper_unet import PaperModel
from loris_cli.soundtrack import latent_generator, score_generator, takes
from loris_cli.soundtrack.latent_generator import ATTACK_LATENCY_S, LatentGenerator
from loris_cli.soundtrack.score_generator import ScoreGenerator, encode_score
from loris_cli.system.file_fingerprints import compute_sha256

RATE_HZ = 22_050
CPU = torch.device("cpu")


@pytest.fixture
def video(tmp_path: Path, moving_video: Path) -> Path:
    """Copy of the moving video in an empty folder."""
    path = tmp_path / "work" / "dance.mp4"
    path.parent.mkdir()
    path.write_bytes(moving_video.read_bytes())
    return path


@pytest.fixture
def run_score(loris: RunLoris, video: Path, pose_file: Path) -> RunLoris:
    """``loris soundtrack`` of the video with the method ``score`` and existing poses."""

    def run(*arguments: object) -> CliResult:
        fixed = ("--poses", pose_file, "--method", "score")
        return loris("soundtrack", video, *fixed, *arguments)

    return run


@pytest.fixture(scope="module")
def paper_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a small model of the paper that count as trained."""
    path = tmp_path_factory.mktemp("weights") / "paper.pt"
    torch.manual_seed(0)
    network = PaperModel(TINY_PAPER_CONFIG)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if name.endswith(".g"):
                value.add_(0.1)
    save_released_format(path, network)
    return path


def read_folder(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder with their content; folders have empty content."""
    return {
        path.relative_to(folder).as_posix(): b"" if path.is_dir() else path.read_bytes()
        for path in folder.rglob("*")
    }


def list_new_files(video: Path) -> list[str]:
    """Return the files in the folder of the video other than the video, sorted."""
    return sorted(read_folder(video.parent).keys() - {video.name})


def count_errors(result: CliResult) -> int:
    return sum(line.startswith("loris: error:") for line in result.stderr.splitlines())


def read_midi_notes(path: Path) -> list[tuple[float, str, int, int]]:
    """Return onset, track name, pitch and velocity of the notes of a MIDI file, sorted."""
    file = mido.MidiFile(path)
    names = {m.channel: t.name for t in file.tracks for m in t if m.type == "program_change"}
    time_s, notes = 0.0, []
    for message in file:
        time_s += message.time
        if message.type == "note_on":
            row = (time_s, names[message.channel], message.note, message.velocity)
            notes.append(row)
    return sorted(notes)


def list_score_notes(arrangement: Arrangement) -> list[tuple[float, str, int, int]]:
    """Return the notes of an arrangement in the form of `read_midi_notes`."""
    return sorted(
        (onset_s, TRACK_NAMES[int(channel)], int(pitch), int(velocity))
        for onset_s, _, channel, pitch, velocity in end_repeated_notes(arrangement.note_array)
    )


def assert_equal_notes(path: Path, arrangement: Arrangement) -> None:
    midi_notes, expected = read_midi_notes(path), list_score_notes(arrangement)
    order = [
        sorted(notes, key=lambda note: (note[1:], note[0])) for notes in (midi_notes, expected)
    ]
    assert [note[1:] for note in order[0]] == [note[1:] for note in order[1]]
    onsets_s = [[note[0] for note in notes] for notes in order]
    np.testing.assert_allclose(np.array(onsets_s[0]), onsets_s[1], rtol=0, atol=1e-3)


def render(features: ClipFeatures, *, seed: int = 0) -> np.ndarray:
    """Play the score of a clip, ``(2, samples)``."""
    blocks = ScoreGenerator().generate(features, seed=seed, progress=lambda done, total: None)
    samples: np.ndarray = np.concatenate(list(blocks), axis=1)
    return samples


def test_output_has_stereo_audio_of_the_length_of_the_video(
    run_score: RunLoris, video: Path
) -> None:
    out = video.with_name("out.wav")

    result = run_score("-o", out)

    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{out}\n"
    assert list_new_files(video) == ["out.wav"]
    samples, rate_hz = soundfile.read(out)
    assert (samples.shape, rate_hz) == ((2 * RATE_HZ, 2), RATE_HZ)
    assert not np.array_equal(samples[:, 0], samples[:, 1])
    assert (np.abs(samples).max(axis=0) > 0.1).all()


@pytest.mark.slow
def test_audio_depends_on_the_seed_alone(run_score: RunLoris, video: Path) -> None:
    paths = [video.with_name(name) for name in ("one.wav", "again.wav", "other.wav")]
    for path, seed in zip(paths, (3, 3, 4), strict=True):
        assert run_score("-o", path, "--seed", seed).exit_code == 0

    one, again, other = (path.read_bytes() for path in paths)
    assert one == again
    assert one != other


def test_metadata_of_a_video_has_the_method_and_the_seed(
    run_score: RunLoris, video: Path
) -> None:
    assert run_score("--seed", 5).exit_code == 0
    with av.open(str(video.with_name("dance.loris.mp4"))) as output:
        assert output.streams.audio[0].channels == 2
        comment = output.metadata["comment"]
    assert "method score" in comment
    assert "seed 5" in comment


def test_json_row_describes_the_method(run_score: RunLoris, video: Path) -> None:
    out, midi = video.with_name("out.wav"), video.with_name("score.mid")

    result = run_score("-o", out, "--midi", midi, "--json", "--seed", 2, "--genre", "house")

    row = json.loads(result.stdout)
    assert (row["status"], row["output"], row["midi"]) == ("done", str(out), str(midi))
    assert (row["method"], row["synthesizer"]) == ("score", "builtin")
    assert row["soundfont"] == compute_sha256(BUILTIN_SOUNDFONT)[:12]
    assert (row["seed"], row["genre"], row["duration_s"]) == (2, "house", pytest.approx(2))
    assert row["integrated_lufs"] < 0
    assert not row.keys() & {"model", "fingerprint", "steps", "guidance", "sampler"}


def test_no_model_is_loaded(
    run_score: RunLoris, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(model_loading, "load_mini_checkpoint", fail)
    monkeypatch.setattr(model_loading, "load_paper_checkpoint", fail)

    assert run_score("-o", video.with_name("out.wav")).exit_code == 0
    assert run_score("--dry-run").exit_code == 0


@pytest.mark.parametrize("genre", ["house", "pop", "skate"])
def test_detected_onsets_are_at_the_peaks(genre: str) -> None:
    peaks_s = 0.5 + np.random.default_rng(1).uniform(0.35, 1.2, 8).cumsum()
    features = make_features(float(peaks_s[-1]) + 0.5, peaks_s, genre=genre)

    onsets_s = detect_onsets(render(features).mean(axis=0))

    assert match_onsets(peaks_s, onsets_s).recall == 1
    assert abs(np.median(compute_onset_deviations(peaks_s, onsets_s))) < 0.01


def test_blocks_are_joined_without_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    features = make_features(3.3, genre="pop")
    expected = render(features)
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(synthesis, "BLOCK_S", 0.7)

    generator = ScoreGenerator()
    blocks = list(
        generator.generate(features, seed=0, progress=lambda *values: calls.append(values))
    )

    assert [block.shape[1] for block in blocks[:-1]] == [15_435] * 4
    joined = np.concatenate(blocks, axis=1)
    assert joined.shape == (2, round(3.3 * RATE_HZ))
    np.testing.assert_allclose(joined, expected, rtol=0, atol=1e-4)
    ends = np.cumsum([block.shape[1] for block in blocks])
    assert calls == [(end, round(3.3 * RATE_HZ)) for end in ends.tolist()]


def test_ten_minutes_are_played_one_block_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis, "BLOCK_S", 0.5)
    calls: list[tuple[int, int]] = []

    features = make_features(600.0, np.arange(1.0, 599.0, 7.0), genre="skate")
    blocks = ScoreGenerator().generate(
        features, seed=0, progress=lambda *values: calls.append(values)
    )

    n_block, n_samples = RATE_HZ // 2, 600 * RATE_HZ
    assert [next(blocks).shape for _ in range(2)] == [(2, n_block)] * 2
    assert calls == [(n_block, n_samples), (2 * n_block, n_samples)]


@pytest.mark.parametrize("duration_s", [0.05, 1.0, 2.00001, 2.02])
def test_audio_has_the_duration_of_the_clip(
    duration_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthesis, "BLOCK_S", 1.0)
    peaks_s = np.array([0.02, 1.5])
    features = make_features(duration_s, peaks_s[peaks_s < duration_s], genre="house")

    assert render(features).shape == (2, round(duration_s * RATE_HZ))


@pytest.mark.slow
def test_workers_write_the_same_files_as_one_process(
    loris: RunLoris, video: Path, tmp_path: Path
) -> None:
    video.with_name("second.mp4").write_bytes(video.read_bytes())
    folders = []
    for n_jobs in (1, 2):
        folders.append(tmp_path / f"jobs-{n_jobs}")
        result = loris(
            "soundtrack", video.parent, "-o", folders[-1], "--midi", folders[-1], "--method",
            "score", "--rhythm", "flow", "--jobs", n_jobs,
        )  # fmt: skip
        assert result.exit_code == 0, result.stderr

    one, two = map(read_folder, folders)
    assert sorted(one) == ["dance.loris.mp4", "dance.mid", "second.loris.mp4", "second.mid"]
    assert one == two


def test_midi_file_is_written_beside_the_audio(run_score: RunLoris, video: Path) -> None:
    out, midi = video.with_name("out.wav"), video.with_name("score.mid")

    result = run_score("-o", out, "--midi", midi)

    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{out}\n{midi}\n"
    assert list_new_files(video) == ["out.wav", "score.mid"]


@pytest.mark.parametrize(
    "missing",
    [
        "score.mid",
        *(pytest.param(x, marks=pytest.mark.slow) for x in ("out.wav", "rhythm.png")),
    ],
)
def test_skip_existing_writes_only_the_missing_file_of_a_take(
    run_score: RunLoris, video: Path, missing: str
) -> None:
    paths = [video.with_name(name) for name in ("out.wav", "score.mid", "rhythm.png")]
    arguments = ("-o", paths[0], "--midi", paths[1], "--plot", paths[2], "--skip-existing")
    assert run_score(*arguments).exit_code == 0
    contents = [path.read_bytes() for path in paths]
    video.with_name(missing).unlink()
    modified = {path: path.stat().st_mtime_ns for path in paths if path.exists()}

    result = run_score(*arguments, "--json")

    assert json.loads(result.stdout)["status"] == "done"
    assert [path.read_bytes() for path in paths] == contents
    assert {path: path.stat().st_mtime_ns for path in modified} == modified
    assert json.loads(run_score(*arguments, "--json").stdout)["status"] == "skipped"


def test_midi_file_has_the_score_that_is_played(
    run_score: RunLoris, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded: list[Arrangement] = []

    def record(arrangement: Arrangement, *arguments: Any, **options: Any) -> Any:
        recorded.append(arrangement)
        return synthesis.synthesize_blocks(arrangement, *arguments, **options)

    monkeypatch.setattr(score_generator, "synthesize_blocks", record)
    out, midi = video.with_name("out.wav"), video.with_name("score.mid")

    result = run_score("-o", out, "--midi", midi, "--seed", 6, "--json")

    [arrangement] = recorded
    assert_equal_notes(midi, arrangement.shift(synthesis.SYNTHESIZER_LATENCY_S))
    file = mido.MidiFile(midi)
    assert "method score" in file.tracks[0].name
    time_s, markers_s = 0.0, []
    for message in file:
        time_s += message.time
        if message.type == "marker":
            markers_s.append(time_s)
    peaks_s = json.loads(result.stdout)["peaks_s"]
    np.testing.assert_allclose(markers_s, peaks_s, rtol=0, atol=0.011)  # delay of detection


def test_output_with_a_midi_suffix_is_the_only_file(run_score: RunLoris, video: Path) -> None:
    take, other = video.with_name("take.mid"), video.with_name("score.mid")

    result = run_score("-o", take, "--json")

    row = json.loads(result.stdout)
    assert (row["output"], row["midi"], row["genre"]) == (str(take), None, "floor")
    assert list_new_files(video) == ["take.mid"]
    assert run_score("-o", video.with_name("out.wav"), "--midi", other).exit_code == 0
    assert take.read_bytes() == other.read_bytes()


def test_midi_output_and_midi_option_write_two_files(run_score: RunLoris, video: Path) -> None:
    one, other = video.with_name("one.mid"), video.with_name("other.mid")

    result = run_score("-o", one, "--midi", other)

    if result.exit_code == 0:
        assert one.read_bytes() == other.read_bytes()
    else:
        assert (result.exit_code, list_new_files(video)) == (2, [])


def test_midi_takes_are_numbered_and_existing_ones_skipped(
    run_score: RunLoris, video: Path
) -> None:
    take = video.with_name("take.mid")
    assert run_score("-o", take, "--takes", 2).exit_code == 0
    assert list_new_files(video) == ["take-1.mid", "take-2.mid"]
    first, second = (video.with_name(f"take-{k}.mid") for k in (1, 2))
    assert first.read_bytes() != second.read_bytes()
    content = second.read_bytes()
    first.write_bytes(b"mine")
    second.unlink()

    result = run_score("-o", take, "--takes", 2, "--skip-existing", "--json")

    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(row["status"], row["output"], row["seed"]) for row in rows] == [
        ("skipped", str(first), 0),
        ("done", str(second), 1),
    ]
    assert (first.read_bytes(), second.read_bytes()) == (b"mine", content)


@pytest.mark.slow
def test_midi_folder_has_the_takes_of_all_inputs(
    loris: RunLoris, video: Path, tmp_path: Path
) -> None:
    video.with_name("second.mkv").write_bytes(video.read_bytes())
    scores = tmp_path / "scores"

    result = loris(
        "soundtrack", video.parent, "-o", tmp_path / "takes", "--midi", scores, "--takes", 2,
        "--method", "score", "--rhythm", "flow",
    )  # fmt: skip

    assert result.exit_code == 0, result.stderr
    assert sorted(read_folder(scores)) == [
        "dance-1.mid", "dance-2.mid", "second-1.mid", "second-2.mid",
    ]  # fmt: skip
    assert sorted(read_folder(tmp_path / "takes")) == [
        "dance-1.loris.mp4", "dance-2.loris.mp4", "second-1.loris.mp4", "second-2.loris.mp4",
    ]  # fmt: skip
    one, other = (read_midi_notes(scores / f"dance-{k}.mid") for k in (1, 2))
    assert one != other
    assert one == read_midi_notes(scores / "second-1.mid")  # the same video and seed


def test_existing_midi_files_are_replaced_only_with_overwrite(
    run_score: RunLoris, video: Path
) -> None:
    midi, second = video.with_name("score.mid"), video.with_name("score-2.mid")
    midi.write_bytes(b"mine")
    second.write_bytes(b"mine too")
    before = read_folder(video.parent)
    for arguments in (
        ["-o", video.with_name("out.wav"), "--midi", midi],
        ["-o", midi],
        ["--midi", midi, "--takes", 2],
    ):
        result = run_score(*arguments)
        assert (result.exit_code, count_errors(result)) == (2, 1)
        assert read_folder(video.parent) == before

    assert run_score("-o", midi, "--overwrite").exit_code == 0

    assert len(read_midi_notes(midi)) > 10
    assert second.read_bytes() == b"mine too"


@pytest.mark.parametrize(
    "words",
    [
        "-o link.mid",
        "--midi link.mid",
        "--midi link.mid --overwrite",
        "-o a.mid --midi a.mid",
        "-o a.mid --midi A/../a.mid",
        "--midi a.wav",
        "--midi a.png --plot a.png",
        "--midi missing/a.mid",
        "--midi a.mid --report a.mid",
        "-o a.mid --report a.mid",
        "--midi list.mid --soundfont list.mid --overwrite",
    ],
)
def test_paths_that_a_midi_file_may_not_have_are_usage_errors(
    run_score: RunLoris, video: Path, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(video.parent)
    Path("link.mid").symlink_to(video)
    Path("list.mid").write_bytes(b"soundfont")
    Path("A").mkdir()
    before = read_folder(video.parent)

    result = run_score(*words.split())

    assert (result.exit_code, count_errors(result)) == (2, 1)
    assert read_folder(video.parent) == before


def test_one_midi_file_for_several_inputs_is_a_usage_error(
    loris: RunLoris, video: Path
) -> None:
    video.with_name("second.mp4").write_bytes(video.read_bytes())
    before = read_folder(video.parent)

    result = loris(
        "soundtrack", video.parent, "--midi", video.with_name("a.mid"), "--method", "score"
    )

    assert result.exit_code == 2
    assert read_folder(video.parent) == before


@pytest.mark.parametrize("option", ["--midi", "-o"])
@pytest.mark.parametrize("model", ["small_model", "paper_model"])
def test_midi_files_of_models_without_notes_are_usage_errors(
    loris: RunLoris,
    video: Path,
    model: str,
    option: str,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise AssertionError("the video was analyzed")

    monkeypatch.setenv("LORIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(takes, "analyze_video", fail)
    weights = request.getfixturevalue(model)

    result = loris("soundtrack", video, "--model", weights, option, video.with_name("a.mid"))

    assert (result.exit_code, count_errors(result)) == (2, 1)
    assert weights.name in result.stderr
    assert list_new_files(video) == []


@pytest.mark.parametrize(
    "words",
    [
        "--model mini",
        "--steps 4",
        "--guidance 1",
        "--sampler heun",
        "--visual-features x.npy",
        "--compile",
        "--inpaint x.wav --inpaint-range 0.5 1",
    ],
)
def test_options_of_models_are_usage_errors(
    run_score: RunLoris, video: Path, words: str
) -> None:
    result = run_score(*words.split())

    assert (result.exit_code, count_errors(result)) == (2, 1)
    assert words.split()[0] in result.stderr
    assert list_new_files(video) == []


def test_dry_run_estimates_without_windows_and_writes_nothing(
    run_score: RunLoris, video: Path
) -> None:
    arguments = ["--dry-run", "--takes", 3, "--midi", video.with_name("scores")]

    result = run_score(*arguments, "--json")

    row = json.loads(result.stdout)
    assert (row["status"], len(row["output"])) == ("estimated", 3)
    assert (row["n_windows"], row["n_network_evaluations"]) == (0, 0)
    assert row["estimated_s"] > 0
    assert "network" not in run_score(*arguments).stdout
    assert list_new_files(video) == []


def test_dry_run_uses_the_speed_of_the_last_run(
    run_score: RunLoris, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORIS_CACHE", str(tmp_path / "cache"))

    def estimate_s() -> float:
        result = run_score("--dry-run", "--json")
        return float(json.loads(result.stdout)["estimated_s"])

    default_s = estimate_s()
    done = run_score("--json", "-o", tmp_path / "a.wav")
    assert estimate_s() == pytest.approx(json.loads(done.stdout)["elapsed_s"], abs=0.06)
    speeds = tmp_path / "cache" / "speeds.json"
    slower = {key: 100 * value for key, value in json.loads(speeds.read_text()).items()}
    speeds.write_text(json.dumps(slower))
    assert estimate_s() > 20 * default_s
    speeds.write_text("[1, 2")
    assert estimate_s() == default_s


def write_text_file(path: Path) -> None:
    path.write_text("no soundfont")


def write_empty_file(path: Path) -> None:
    path.touch()


def write_truncated_soundfont(path: Path) -> None:
    content = BUILTIN_SOUNDFONT.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def write_soundfont_without_programs(path: Path) -> None:
    """Write the bundled soundfont with all presets in a bank that no score uses."""
    content = bytearray(BUILTIN_SOUNDFONT.read_bytes())
    start = content.index(b"phdr") + 8
    size = int.from_bytes(content[start - 4 : start], "little")
    for record in range(start, start + size, 38):
        content[record + 22 : record + 24] = (77).to_bytes(2, "little")
    path.write_bytes(content)


def write_nothing(path: Path) -> None:
    pass


@pytest.mark.parametrize(
    "write",
    [
        write_text_file,
        write_empty_file,
        write_truncated_soundfont,
        write_soundfont_without_programs,
        write_nothing,
        Path.mkdir,
    ],
)
def test_unusable_soundfonts_end_with_exit_code_4(
    run_score: RunLoris, video: Path, tmp_path: Path, write: Callable[[Path], None]
) -> None:
    soundfont = tmp_path / "font.sf2"
    write(soundfont)

    result = run_score("--soundfont", soundfont, "-o", video.with_name("new"))

    assert (result.exit_code, count_errors(result), result.stdout) == (4, 1, "")
    assert "font.sf2" in result.stderr
    assert "--soundfont" in result.stderr
    assert list_new_files(video) == []


def test_a_take_that_fails_leaves_no_midi_file(
    run_score: RunLoris, video: Path, tmp_path: Path
) -> None:
    soundfont = tmp_path / "font.sf2"
    write_soundfont_without_programs(soundfont)

    result = run_score("--soundfont", soundfont, "--midi", video.with_name("score.mid"))

    assert result.exit_code == 4
    assert list_new_files(video) == []


def test_a_missing_synthesizer_program_ends_with_exit_code_3(
    run_score: RunLoris, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")

    result = run_score("--synthesizer", "fluidsynth")

    assert (result.exit_code, count_errors(result)) == (3, 1)
    assert "fluidsynth" in result.stderr
    assert list_new_files(video) == []


@pytest.mark.slow
def test_midi_file_of_a_model_has_the_notes_of_its_condition(
    loris: RunLoris,
    video: Path,
    pose_file: Path,
    note_model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    conditions: list[Arrangement] = []

    def record(arrangement: Arrangement, first: int, n_frames: int) -> Any:
        conditions.append(arrangement)
        return render_note_spectrogram(arrangement, first, n_frames)

    monkeypatch.setattr(latent_generator, "render_note_spectrogram", record)
    midi = video.with_name("score.mid")

    result = loris("soundtrack", video, "--model", note_model, "--steps", 2, "--poses",
                   pose_file, "--midi", midi, "-o", video.with_name("out.wav"),
                   "--seed", 4)  # fmt: skip

    assert result.exit_code == 0, result.stderr
    [arrangement] = conditions
    assert len(arrangement.note_array) > 10
    assert_equal_notes(midi, arrangement.shift(ATTACK_LATENCY_S))
    assert "notes.safetensors" in mido.MidiFile(midi).tracks[0].name


class RecordedConditionError(Exception):
    """Raised in place of sampling."""


def test_composed_notes_are_those_of_the_condition_later_by_the_latency(
    note_model: Path,
) -> None:
    conditions: list[ClipFeatures] = []

    class RecordingGenerator(LatentGenerator):
        def _draw(self, features: ClipFeatures, **options: Any) -> torch.Tensor:
            conditions.append(features)
            raise RecordedConditionError

    model = load_mini_checkpoint(str(note_model), device=CPU)
    generator = RecordingGenerator(model=model, device=CPU)
    features = make_features(2.5, [0.01, 0.9, 1.7], genre="krump")
    for seed in range(3):
        composed = generator.compose(features, seed=seed)
        with pytest.raises(RecordedConditionError):
            next(generator.generate(features, seed=seed, progress=lambda done, total: None))
        condition = conditions.pop()

        assert composed.arrangement is not None
        assert condition.arrangement is not None
        later = condition.arrangement.shift(ATTACK_LATENCY_S)
        np.testing.assert_array_equal(composed.arrangement.note_array, later.note_array)
        assert composed.arrangement.channel_programs == later.channel_programs
        assert composed.harmony is not None
        assert condition.harmony is not None
        harmony = condition.harmony.shift(ATTACK_LATENCY_S)
        np.testing.assert_array_equal(composed.harmony.chord_starts_s, harmony.chord_starts_s)
        np.testing.assert_array_equal(composed.peaks_s, features.peaks_s)


def test_peak_strengths_are_in_the_markers() -> None:
    features = make_features(4.0, [1.0, 2.5], strengths=np.array([0.25, 1.0]), genre="pop")
    data = encode_score(ScoreGenerator().compose(features, seed=0), title="two peaks")

    file = mido.MidiFile(file=io.BytesIO(data))
    markers = [message.text for message in file.tracks[0] if message.type == "marker"]
    assert [text.split()[-1] for text in markers] == ["0.25", "1.00"]
    assert file.tracks[0].name == "two peaks"


@pytest.mark.slow
def test_the_installed_program_writes_a_midi_file(video: Path, pose_file: Path) -> None:
    arguments = ("soundtrack", video, "--poses", pose_file, "--method", "score", "-o",
                 video.with_name("take.mid"))  # fmt: skip
    process = subprocess.run(
        [sys.executable, "-W", "error", "-m", "loris_cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=video.parent,
    )

    assert (process.returncode, process.stdout) == (0, f"{video.with_name('take.mid')}\n")
    assert process.stderr == ""
    assert list_new_files(video) == ["take.mid"]


@pytest.mark.parametrize(
    "arguments", [("--guidance-interval", 0.2, 0.8), ("--precision", "bf16")]
)
def test_score_method_refuses_settings_of_networks(
    run_score: RunLoris, arguments: tuple[object, ...]
) -> None:
    result = run_score(*arguments)

    assert result.exit_code == 2
    assert f"{arguments[0]} cannot be used with --method score" in result.stderr
