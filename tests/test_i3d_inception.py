"""I3D (Inception) and the features of a video, with random weights."""

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
from loris_cli.video.probe import probe_video


def test_it_has_the_size_of_the_published_one() -> None:
    """12,697,264 parameters with a classifier of 400 (1024 x 400 + 400)."""
    with torch.device("meta"):
        network = InceptionI3D()
    assert sum(p.numel() for p in network.parameters()) == 12_697_264 - 410_000
    assert network.state_dict()["Mixed_4f.b2b.conv3d.weight"].shape == (128, 32, 3, 3, 3)


@pytest.mark.parametrize(("n_frames", "n_rows"), [(8, 1), (20, 3), (400, 50)])
def test_a_row_is_eight_frames(n_frames: int, n_rows: int) -> None:
    with torch.device("meta"):
        rows = InceptionI3D()(torch.zeros(1, 3, n_frames, 224, 224))
    assert rows.shape == (1, n_rows, 1024)


def test_padding_puts_the_odd_zero_behind() -> None:
    x = torch.ones(1, 1, 2, 3, 4)
    padded = pad_same(x, (3, 3, 3), (2, 2, 2))
    assert padded.shape == (1, 1, 3, 5, 5)
    assert padded[0, 0, 0, :, 0].tolist() == [0, 1, 1, 1, 0]
    assert padded[0, 0, 0, 1].tolist() == [1, 1, 1, 1, 0]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As they are passed around: with a classifier, without counters."""
    torch.manual_seed(0)
    state = InceptionI3D().state_dict()
    for key, value in state.items():
        if key.endswith("running_mean"):
            value.normal_(0, 0.1)  # a network that has seen something
    without_counters = {
        key: value for key, value in state.items() if not key.endswith("_tracked")
    }
    path = tmp_path_factory.mktemp("i3d") / "rgb.pt"
    logits = {"logits.conv3d.weight": torch.zeros(400, 1024, 1, 1, 1)}
    torch.save({**without_counters, **logits}, path)
    return path


def test_weights_are_found_by_their_usual_names(weights: Path, tmp_path: Path) -> None:
    network = load_inception_i3d(weights, device=torch.device("cpu"))
    state = torch.load(weights, weights_only=True)
    assert torch.equal(
        network.state_dict()["Mixed_5c.b0.bn.bias"], state["Mixed_5c.b0.bn.bias"]
    )

    del state["Mixed_5c.b0.bn.bias"]
    torch.save(state, tmp_path / "less.pt")
    with pytest.raises(
        WeightsError, match=r"lacks or adds 1 tensors: 'Mixed_5c\.b0\.bn\.bias'"
    ):
        load_inception_i3d(tmp_path / "less.pt", device=torch.device("cpu"))


def test_a_network_that_nobody_trained_is_refused(tmp_path: Path) -> None:
    torch.save(InceptionI3D().state_dict(), tmp_path / "new.pt")
    with pytest.raises(WeightsError, match="untrained weights"):
        load_inception_i3d(tmp_path / "new.pt", device=torch.device("cpu"))


class Mean(nn.Module):
    """In the I3D's place: the mean colour of every eight frames."""

    def forward(self, frames: Tensor) -> Tensor:
        groups = torch.split(frames.mean(dim=(3, 4)), 8, dim=2)
        return torch.stack([group.mean(dim=2) for group in groups], dim=1)


def test_a_video_has_two_rows_a_second(moving_video: Path) -> None:
    info = probe_video(moving_video)
    network: InceptionI3D = Mean()  # type: ignore[assignment]
    rows = extract_visual_features(
        info, network, device=torch.device("cpu"), reporter=NullReporter()
    )
    assert rows.shape == (4, 3)
    assert (np.abs(rows) < 1).all()  # of the middle of the picture, -1..1
    assert rows.std(axis=0).max() < 0.2


@pytest.mark.parametrize("shape", [(120, 160), (1080, 608), (224, 224), (30, 400)])
def test_the_middle_is_taken_of_any_shape(shape: tuple[int, int]) -> None:
    rgb = np.zeros((*shape, 3), np.uint8)
    rgb[shape[0] // 2 - 1 : shape[0] // 2 + 1, shape[1] // 2 - 1 : shape[1] // 2 + 1] = 255
    middle = center_crop(rgb)
    assert middle.shape == (224, 224, 3)
    bright = np.argwhere(middle[..., 0] > 60).mean(axis=0)
    assert bright == pytest.approx((111.5, 111.5), abs=2)


def test_features_cover_the_video_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.arange(12.0).reshape(6, 2, 1, 1))
    rows = read_visual_features(path, width=2, duration_s=2.2)
    assert rows.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    longer = read_visual_features(path, width=2, duration_s=4.0)
    assert longer[5:].tolist() == [[10, 11]] * 3


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (np.zeros(6), "holds no rows"),
        (np.zeros((0, 2)), "holds no rows"),
        (np.full((6, 2), np.nan), "not finite"),
        (np.array([["a", "b"]]), "no numbers"),
        (np.zeros((6, 3)), "rows of 3 values; this model was trained on 2"),
        (np.array([{}], dtype=object), "is not a .npy array"),
        (b"no array", "is not a .npy array"),
        (None, "is not a .npy array"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, stored: object, message: str) -> None:
    path = tmp_path / "a.npy"
    if isinstance(stored, bytes):
        path.write_bytes(stored)
    elif stored is not None:
        np.save(path, stored, allow_pickle=True)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        read_visual_features(path, width=2, duration_s=3.0)
