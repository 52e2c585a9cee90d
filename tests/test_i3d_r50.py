"""I3D-R50: its rows in time, its weights, and pytorchvideo's network where it is installed."""

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
    """In the network's place: how bright each of the eight pictures is, 0..255."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[1:] == (3, 8, 256, 256)
        return 255 * images.mean(dim=(1, 3, 4))


def frames(n: int) -> Iterator[Frame]:
    """A film at 10 frames a second, each of the grey of its number."""
    for k in range(n):
        yield Frame(time_s=k / 10, rgb=np.full((30, 40, 3), k, np.uint8))


def rows(n_frames: int) -> np.ndarray:
    return np.concatenate(
        list(extract_r50_rows(frames(n_frames), BrightnessNetwork(), device=CPU))
    )


def test_a_row_is_of_eight_pictures_from_its_half_second_on() -> None:
    found = rows(60).round()
    assert found[0].tolist() == [0, 3, 6, 9, 12, 15, 18, 21]  # 0.3 s apart
    assert found[4].tolist() == [20, 23, 26, 29, 32, 35, 38, 41]  # from 2.0 s on
    assert found[11].tolist() == [55, 58, 59, 59, 59, 59, 59, 59]  # the last one stays


@pytest.mark.parametrize(("n_frames", "n_rows"), [(1, 1), (5, 1), (6, 2), (22, 5), (250, 50)])
def test_there_are_two_rows_a_second(n_frames: int, n_rows: int) -> None:
    assert len(rows(n_frames)) == n_rows


def test_no_more_frames_are_held_than_a_row_spans() -> None:
    taken = 0

    def counted() -> Iterator[Frame]:
        nonlocal taken
        for frame in frames(100):
            taken += 1
            yield frame

    next(extract_r50_rows(counted(), BrightnessNetwork(), device=CPU))
    assert taken == visual_encoder.R50_CLIP_SPAN_FRAMES == 22


def test_a_stretch_of_a_video_has_the_rows_of_the_whole(moving_video: Path) -> None:
    info, how = probe_video(moving_video), {"device": CPU, "reporter": NullReporter()}
    complete = extract_visual_features(info, BrightnessNetwork(), **how)  # type: ignore[arg-type]
    section = extract_visual_features(info, BrightnessNetwork(), span_s=(0.5, 1.5), **how)  # type: ignore[arg-type]
    assert len(complete) == 4
    np.testing.assert_array_equal(section, complete[1:3])


def test_a_stretch_beyond_the_end_repeats_the_last_row(moving_video: Path) -> None:
    info = probe_video(moving_video)
    found = extract_visual_features(
        info, BrightnessNetwork(), device=CPU, reporter=NullReporter(), span_s=(1.0, 4.0)
    )
    assert len(found) == 6
    np.testing.assert_array_equal(found[2:], found[1:2].repeat(4, axis=0))


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
def test_a_source_is_a_name_or_a_file(text: str, network: str | None, path: str | None) -> None:
    source = parse_visual_source(text)
    assert source == VisualSource(
        network=network,  # type: ignore[arg-type]
        path=None if path is None else Path(path),
    )
    assert parse_visual_source(str(source)) == source


@pytest.mark.parametrize("text", ["i3d", "i3d=", "i3d-r50=", ""])
def test_a_network_without_weights_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="names no weights"):
        parse_visual_source(text)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LORIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path / "cache"


class Hub:
    """In the place of pytorchvideo's module that names the address."""

    checkpoint_paths = {"i3d_r50": f"http://127.0.0.1:9/{WEIGHTS_FILE_NAME}"}  # noqa: RUF012


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(i3d_resnet50, "_import_pytorchvideo_hub", lambda submodule="": Hub)


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("offline", [True, False])
def test_without_weights_and_network_one_line_says_what_to_put_where(
    cache: Path, offline: bool
) -> None:
    with pytest.raises(WeightsError) as caught:
        find_i3d_r50_weights(None, offline=offline, reporter=NullReporter())
    url, path = Hub.checkpoint_paths["i3d_r50"], cache / "weights" / WEIGHTS_FILE_NAME
    assert caught.value.hint == f"put the file of {url} at {path}, or name it: i3d-r50=FILE"


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("folder", ["cache/weights", "torch/hub/checkpoints"])
def test_weights_that_are_there_are_taken(tmp_path: Path, folder: str) -> None:
    path = tmp_path / folder / WEIGHTS_FILE_NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    fingerprint = find_i3d_r50_weights(None, offline=True, reporter=NullReporter())
    assert fingerprint.path == path
    assert fingerprint.sha256 == hashlib.sha256(b"weights").hexdigest()


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no weights"):
        find_i3d_r50_weights(tmp_path / "none.pt", offline=False, reporter=NullReporter())


def test_without_pytorchvideo_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torchvision", "pytorchvideo"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError) as caught:
        I3DR50()
    assert "loris[visual]" in caught.value.hint


@pytest.fixture
def weights(resnet_weights: Path, tmp_path: Path) -> Path:
    """A copy, to be changed."""
    return Path(shutil.copy(resnet_weights, tmp_path))


@pytest.mark.legacy
def test_its_features_are_what_pytorchvideos_classifier_is_shown(weights: Path) -> None:
    network = load_i3d_r50(fingerprint_file(weights), device=CPU)
    images = torch.rand(1, 3, 8, 256, 256, generator=torch.manual_seed(1))

    with torch.inference_mode():
        features = network(images)
        again = network(images)
        normalized = (images - torch.tensor(0.45)) / torch.tensor(0.225)
        scores = network.network(normalized)
        scores_from_features = network.network.blocks[-1].proj(features)

    assert features.shape == (1, 2048)
    assert features.std() > 0
    assert torch.equal(features, again)
    torch.testing.assert_close(scores_from_features, scores, rtol=1e-4, atol=1e-5)


@pytest.mark.legacy
def test_a_stream_gives_what_the_whole_clip_gives(weights: Path) -> None:
    network = load_i3d_r50(fingerprint_file(weights), device=CPU)
    rng = np.random.default_rng(0)
    video = rng.integers(0, 256, (7, 256, 256, 3), dtype=np.uint8)
    normalized = (Frame(time_s=k / 10, rgb=rgb) for k, rgb in enumerate(video))

    streamed = np.concatenate(list(extract_r50_rows(normalized, network, device=CPU)))

    at = np.minimum(5 * np.arange(2)[:, None] + 3 * np.arange(8), len(video) - 1)
    clips = torch.from_numpy(video[at]).permute(0, 4, 1, 2, 3).float() / 255
    with torch.inference_mode():
        complete = network(clips).numpy()
    np.testing.assert_allclose(streamed, complete, rtol=1e-4, atol=1e-5)


@pytest.mark.legacy
def test_weights_are_noted_when_first_loaded_and_held_to_it_later(
    weights: Path, cache: Path
) -> None:
    path = cache / "weights" / WEIGHTS_FILE_NAME
    path.parent.mkdir(parents=True)
    weights.rename(path)
    first = find_i3d_r50_weights(None, offline=True, reporter=NullReporter())
    assert not first.is_recorded
    load_i3d_r50(first, device=CPU)
    assert find_i3d_r50_weights(None, offline=True, reporter=NullReporter()).is_recorded

    state = torch.load(path, weights_only=True)
    torch.save({**state, "epoch": 4}, path)
    with pytest.raises(WeightsError, match="another file than when it was first loaded"):
        find_i3d_r50_weights(None, offline=True, reporter=NullReporter())


@pytest.mark.legacy
@pytest.mark.parametrize(
    ("change", "message"),
    [("random", "untrained weights"), ("lacks", "lacks or adds 1"), ("text", "is not a")],
)
def test_other_weights_are_refused(weights: Path, change: str, message: str) -> None:
    state = torch.load(weights, weights_only=True)["model_state"]
    if change == "random":
        state = {k: v * 0 if k.endswith("running_mean") else v for k, v in state.items()}
    else:
        del state["blocks.6.proj.bias"]
    torch.save({"model_state": state}, weights)
    if change == "text":
        weights.write_text("weights")
    with pytest.raises(WeightsError, match=message):
        load_i3d_r50(fingerprint_file(weights), device=CPU)


@pytest.mark.legacy
def test_weights_of_before_torch_1_6_are_read_too(weights: Path) -> None:
    state = torch.load(weights, weights_only=True)
    torch.save(state, weights, _use_new_zipfile_serialization=False)
    assert (
        load_i3d_r50(fingerprint_file(weights), device=CPU).network.blocks[0].training is False
    )
