"""Inception I3D with random weights, and the visual features of a video."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from loris_cli.errors import InputError, WeightsError
from loris_cli.models.i3d_inception import InceptionI3D, load_inception_i3d, pad_same
from loris_cli.soundtrack.visual_encoder import center_crop, extract_visual_features
from loris_cli.soundtrack.visual_features import read_visual_features
from loris_cli.system.progress import NullReporter
from loris_cli.video.frames import read_frames
from loris_cli.video.probe import probe_video

CPU = torch.device("cpu")


def test_parameter_count_equals_published_network() -> None:
    """With a classifier of 400 classes (1024 x 400 + 400) it has 12,697,264 parameters."""
    with torch.device("meta"):
        network = InceptionI3D()
    assert sum(p.numel() for p in network.parameters()) == 12_697_264 - 410_000
    assert network.state_dict()["Mixed_4f.b2b.conv3d.weight"].shape == (128, 32, 3, 3, 3)


@pytest.mark.parametrize(("n_frames", "n_rows"), [(8, 1), (20, 3), (400, 50)])
def test_network_returns_one_row_per_eight_frames(n_frames: int, n_rows: int) -> None:
    with torch.device("meta"):
        rows = InceptionI3D()(torch.zeros(1, 3, n_frames, 224, 224))
    assert rows.shape == (1, n_rows, 1024)


def test_odd_padding_is_appended() -> None:
    x = torch.ones(1, 1, 2, 3, 4)
    padded = pad_same(x, (3, 3, 3), (2, 2, 2))
    assert padded.shape == (1, 1, 3, 5, 5)
    assert padded[0, 0, 0, :, 0].tolist() == [0, 1, 1, 1, 0]
    assert padded[0, 0, 0, 1].tolist() == [1, 1, 1, 1, 0]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """State dict as published: with a classifier, without batch-norm counters."""
    torch.manual_seed(0)
    state = InceptionI3D().state_dict()
    for key, value in state.items():
        if key.endswith("running_mean"):
            value.normal_(0, 0.1)  # as in a trained network
    published = {key: value for key, value in state.items() if not key.endswith("_tracked")}
    path = tmp_path_factory.mktemp("i3d") / "rgb.pt"
    torch.save({**published, "logits.conv3d.weight": torch.zeros(400, 1024, 1, 1, 1)}, path)
    return path


def test_published_weights_are_loaded_under_their_names(weights: Path) -> None:
    network = load_inception_i3d(weights, device=CPU)
    loaded, state = network.state_dict(), torch.load(weights, weights_only=True)
    del state["logits.conv3d.weight"]
    assert {key for key in loaded if not key.endswith("_tracked")} == state.keys()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())
    assert not network.training


def test_missing_tensor_is_named(weights: Path, tmp_path: Path) -> None:
    state = torch.load(weights, weights_only=True)
    del state["Mixed_5c.b0.bn.bias"]
    torch.save(state, tmp_path / "less.pt")
    with pytest.raises(WeightsError, match=r"less\.pt.*\b1\b.*'Mixed_5c\.b0\.bn\.bias'"):
        load_inception_i3d(tmp_path / "less.pt", device=CPU)


def test_untrained_weights_are_rejected(tmp_path: Path) -> None:
    torch.save(InceptionI3D().state_dict(), tmp_path / "new.pt")
    with pytest.raises(WeightsError, match="untrained"):
        load_inception_i3d(tmp_path / "new.pt", device=CPU)


class MeanColorNetwork(nn.Module):
    """Replacement of I3D whose rows are the mean colors of eight frames."""

    def forward(self, frames: Tensor) -> Tensor:
        groups = torch.split(frames.mean(dim=(3, 4)), 8, dim=2)
        return torch.stack([group.mean(dim=2) for group in groups], dim=1)


def test_video_of_two_seconds_has_four_rows(moving_video: Path) -> None:
    network: InceptionI3D = MeanColorNetwork()  # type: ignore[assignment]
    info = probe_video(moving_video)
    rows = extract_visual_features(info, network, device=CPU, reporter=NullReporter())

    frames = np.stack([frame.rgb for frame in read_frames(info.path)])
    groups = np.stack([center_crop(rgb) for rgb in frames]).reshape(4, 8, 224, 224, 3)
    expected = groups.mean(axis=(1, 2, 3)) / 127.5 - 1
    np.testing.assert_allclose(rows, expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(120, 160), (1080, 608), (224, 224), (30, 400)])
def test_crop_has_the_center_of_frames_of_any_shape(shape: tuple[int, int]) -> None:
    rgb = np.zeros((*shape, 3), np.uint8)
    rgb[shape[0] // 2 - 1 : shape[0] // 2 + 1, shape[1] // 2 - 1 : shape[1] // 2 + 1] = 255
    cropped = center_crop(rgb)
    assert cropped.shape == (224, 224, 3)
    bright = np.argwhere(cropped[..., 0] > 60).mean(axis=0)
    assert bright == pytest.approx((111.5, 111.5), abs=2)


def test_features_are_cut_or_padded_to_the_video(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.arange(12.0).reshape(6, 2, 1, 1))
    rows = read_visual_features(path, width=2, duration_s=2.2)
    assert rows.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    longer = read_visual_features(path, width=2, duration_s=4.0)
    assert longer[5:].tolist() == [[10, 11]] * 3


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (np.zeros(6), r"\brows\b"),
        (np.zeros((0, 2)), r"\brows\b"),
        (np.full((6, 2), np.nan), "NaN"),
        (np.array([["a", "b"]]), r"<U1"),
        (np.zeros((6, 3)), r"\b3\b.*\b2\b"),
        (np.zeros((1, 2)), r"\b0\.5 s\b.*\b3\.0 s\b"),
        (np.array([{}], dtype=object), r"\.npy array"),
        (b"no array", r"\.npy array"),
        (None, r"\.npy array"),
    ],
    ids=["1-d", "empty", "nan", "text", "width", "short", "objects", "not-npy", "missing"],
)
def test_invalid_feature_file_is_rejected(tmp_path: Path, stored: object, message: str) -> None:
    path = tmp_path / "features.npy"
    if isinstance(stored, bytes):
        path.write_bytes(stored)
    elif stored is not None:
        np.save(path, stored, allow_pickle=True)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=rf"features\.npy.*{message}"):
        read_visual_features(path, width=2, duration_s=3.0)
