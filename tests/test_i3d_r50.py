"""I3D-R50: times of its rows, its weights, and the network of pytorchvideo if installed."""

import hashlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from loris_cli.errors import MissingDependencyError, UsageError, WeightsError
from loris_cli.models import i3d_resnet50
from loris_cli.models.i3d_resnet50 import (
    I3DR50,
    WEIGHTS_FILE_NAME,
    find_i3d_r50_weights,
    load_i3d_r50,
)
from loris_cli.soundtrack import visual_encoder
from loris_cli.soundtrack.visual_encoder import extract_r50_rows, extract_visual_features
from loris_cli.soundtrack.visual_features import VisualSource, parse_visual_source
from loris_cli.system.file_fingerprints import fingerprint_file
from loris_cli.system.progress import NullReporter
from loris_cli.video.frames import Frame
from loris_cli.video.probe import probe_video

CPU = torch.device("cpu")


class BrightnessNetwork(I3DR50):
    """Replacement of I3D-R50 whose rows are the brightness values of eight frames, 0..255."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def forward(self, frames: Tensor) -> Tensor:
        assert frames.shape[1:] == (3, 8, 256, 256)
        return 255 * frames.mean(dim=(1, 3, 4))


def make_gray_frames(n_frames: int) -> Iterator[Frame]:
    """Frames at 10 fps whose gray level is their index."""
    for k in range(n_frames):
        yield Frame(time_s=k / 10, rgb=np.full((30, 40, 3), k, np.uint8))


def extract_brightness(n_frames: int) -> np.ndarray:
    frames = make_gray_frames(n_frames)
    return np.concatenate(list(extract_r50_rows(frames, BrightnessNetwork(), device=CPU)))


def test_row_has_eight_frames_from_its_half_second_on() -> None:
    rows = extract_brightness(60).round()
    assert rows[0].tolist() == [0, 3, 6, 9, 12, 15, 18, 21]  # every 0.3 s
    assert rows[4].tolist() == [20, 23, 26, 29, 32, 35, 38, 41]  # from 2.0 s on
    assert rows[11].tolist() == [55, 58, 59, 59, 59, 59, 59, 59]  # repeats the last frame


@pytest.mark.parametrize(("n_frames", "n_rows"), [(1, 1), (5, 1), (6, 2), (22, 5), (100, 20)])
def test_number_of_rows_is_two_per_second(n_frames: int, n_rows: int) -> None:
    rows = extract_brightness(n_frames)
    assert rows[:, 0].round().tolist() == [5 * row for row in range(n_rows)]


def test_only_the_frames_of_one_row_are_read_ahead() -> None:
    n_read = 0

    def count_frames() -> Iterator[Frame]:
        nonlocal n_read
        for frame in make_gray_frames(100):
            n_read += 1
            yield frame

    next(extract_r50_rows(count_frames(), BrightnessNetwork(), device=CPU))
    assert n_read == visual_encoder.R50_CLIP_SPAN_FRAMES == 22


def extract_video_rows(path: Path, span_s: tuple[float, float] | None = None) -> np.ndarray:
    return extract_visual_features(
        probe_video(path),
        BrightnessNetwork(),
        device=CPU,
        reporter=NullReporter(),
        span_s=span_s,
    )


def test_time_range_has_the_rows_of_the_whole_video(moving_video: Path) -> None:
    rows = extract_video_rows(moving_video)
    assert len(rows) == 4
    np.testing.assert_array_equal(extract_video_rows(moving_video, (0.5, 1.5)), rows[1:3])


def test_time_range_beyond_the_end_repeats_the_last_row(moving_video: Path) -> None:
    rows = extract_video_rows(moving_video, (1.0, 4.0))
    assert len(rows) == 6
    np.testing.assert_array_equal(rows[2:], rows[1:2].repeat(4, axis=0))


@pytest.mark.parametrize(
    ("text", "network", "path"),
    [
        ("a.npy", None, "a.npy"),
        ("rgb.pt", "i3d", "rgb.pt"),
        ("I3D_8x8_R50.pyth", "i3d-r50", "I3D_8x8_R50.pyth"),
        ("i3d=rgb.pt", "i3d", "rgb.pt"),
        ("i3d-r50", "i3d-r50", None),
        ("i3d-r50=a=b.pt", "i3d-r50", "a=b.pt"),
        ("./i3d-r50", "i3d", "i3d-r50"),
    ],
)
def test_visual_source_is_a_name_or_a_file(
    text: str, network: str | None, path: str | None
) -> None:
    source = parse_visual_source(text)
    assert source == VisualSource(
        network=network,  # type: ignore[arg-type]
        path=None if path is None else Path(path),
    )
    assert parse_visual_source(str(source)) == source


@pytest.mark.parametrize(
    "text", ["i3d", "i3d=", "i3d-r50=", ""], ids=["i3d", "i3d=", "i3d-r50=", "empty"]
)
def test_encoder_without_weights_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match=repr(text)):
        parse_visual_source(text)


@pytest.fixture(autouse=True)
def cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LORIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path / "cache"


class Hub:
    """Replacement of the pytorchvideo module that has the URL of the weights."""

    checkpoint_paths = {"i3d_r50": f"http://127.0.0.1:9/{WEIGHTS_FILE_NAME}"}  # noqa: RUF012


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(i3d_resnet50, "_import_pytorchvideo_hub", lambda submodule="": Hub)


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("offline", [True, False])
def test_missing_weights_error_has_url_and_path(cache_dir: Path, offline: bool) -> None:
    with pytest.raises(WeightsError) as caught:
        find_i3d_r50_weights(None, offline=offline, reporter=NullReporter())
    for value in (Hub.checkpoint_paths["i3d_r50"], cache_dir / "weights" / WEIGHTS_FILE_NAME):
        assert str(value) in caught.value.hint
    assert "i3d-r50=FILE" in caught.value.hint


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("folder", ["cache/weights", "torch/hub/checkpoints"])
def test_weights_are_found_in_the_cache_and_the_torch_hub(tmp_path: Path, folder: str) -> None:
    path = tmp_path / folder / WEIGHTS_FILE_NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    fingerprint = find_i3d_r50_weights(None, offline=True, reporter=NullReporter())
    assert fingerprint.path == path
    assert fingerprint.sha256 == hashlib.sha256(b"weights").hexdigest()


def test_missing_weights_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"none\.pt"):
        find_i3d_r50_weights(tmp_path / "none.pt", offline=False, reporter=NullReporter())


def test_missing_pytorchvideo_names_the_extra_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("torchvision", "pytorchvideo"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError) as caught:
        I3DR50()
    assert "loris[visual]" in caught.value.hint


@pytest.fixture
def weights(resnet_weights: Path, tmp_path: Path) -> Path:
    """Copy of the weights that a test may change."""
    return Path(shutil.copy(resnet_weights, tmp_path))


@pytest.mark.legacy
def test_features_are_the_input_of_the_classifier(weights: Path) -> None:
    network = load_i3d_r50(fingerprint_file(weights), device=CPU)
    images = torch.rand(1, 3, 8, 256, 256, generator=torch.manual_seed(1))

    with torch.inference_mode():
        features = network(images)
        repeated = network(images)
        normalized = (images - torch.tensor(0.45)) / torch.tensor(0.225)
        scores = network.network(normalized)
        scores_from_features = network.network.blocks[-1].proj(features)

    assert features.shape == (1, 2048)
    assert features.std() > 0
    assert torch.equal(features, repeated)
    torch.testing.assert_close(scores_from_features, scores, rtol=1e-4, atol=1e-5)


@pytest.mark.legacy
def test_streamed_rows_equal_rows_of_complete_clips(weights: Path) -> None:
    network = load_i3d_r50(fingerprint_file(weights), device=CPU)
    rng = np.random.default_rng(0)
    video = rng.integers(0, 256, (7, 256, 256, 3), dtype=np.uint8)
    frames = (Frame(time_s=k / 10, rgb=rgb) for k, rgb in enumerate(video))

    streamed = np.concatenate(list(extract_r50_rows(frames, network, device=CPU)))

    indices = np.minimum(5 * np.arange(2)[:, None] + 3 * np.arange(8), len(video) - 1)
    clips = torch.from_numpy(video[indices]).permute(0, 4, 1, 2, 3).float() / 255
    with torch.inference_mode():
        complete = network(clips).numpy()
    np.testing.assert_allclose(streamed, complete, rtol=1e-4, atol=1e-5)


@pytest.mark.legacy
def test_changed_weights_are_rejected_after_the_first_load(
    weights: Path, cache_dir: Path
) -> None:
    path = cache_dir / "weights" / WEIGHTS_FILE_NAME
    path.parent.mkdir(parents=True)
    weights.rename(path)
    first = find_i3d_r50_weights(None, offline=True, reporter=NullReporter())
    assert not first.is_recorded
    load_i3d_r50(first, device=CPU)
    assert find_i3d_r50_weights(None, offline=True, reporter=NullReporter()).is_recorded

    state = torch.load(path, weights_only=True)
    torch.save({**state, "epoch": 4}, path)
    with pytest.raises(WeightsError, match=first.sha256[:12]):
        find_i3d_r50_weights(None, offline=True, reporter=NullReporter())


@pytest.mark.legacy
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("untrained", "untrained"),
        ("missing tensor", r"'blocks\.6\.proj\.bias'"),
        ("text file", "checkpoint"),
    ],
)
def test_invalid_weights_are_rejected(weights: Path, change: str, message: str) -> None:
    state = torch.load(weights, weights_only=True)["model_state"]
    if change == "untrained":
        state = {k: v * 0 if k.endswith("running_mean") else v for k, v in state.items()}
    else:
        del state["blocks.6.proj.bias"]
    torch.save({"model_state": state}, weights)
    if change == "text file":
        weights.write_text("weights")
    with pytest.raises(WeightsError, match=rf"{WEIGHTS_FILE_NAME}.*{message}"):
        load_i3d_r50(fingerprint_file(weights), device=CPU)


@pytest.mark.legacy
def test_weights_in_the_format_before_torch_1_6_are_loaded(weights: Path) -> None:
    state = torch.load(weights, weights_only=True)
    torch.save(state, weights, _use_new_zipfile_serialization=False)
    network = load_i3d_r50(fingerprint_file(weights), device=CPU).network
    assert not network.training
    for key, value in network.state_dict().items():
        assert torch.equal(value, state["model_state"][key]), key
