"""mmpose as an estimator: bodies found ahead, weights that are needed, the whole way."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import RunLoris
from numpy.typing import NDArray

from loris_cli.errors import WeightsError
from loris_cli.pose import mmpose_estimator
from loris_cli.pose.batched_detection import (
    BOX_DETECTION_INTERVAL_FRAMES,
    BatchedPoseEstimator,
    crop_to_box,
    interpolate_boxes,
    keypoints_to_box,
    keypoints_to_crop,
)
from loris_cli.pose.blazepose import Crop, ImagePyramid
from loris_cli.pose.keypoints import Poses
from loris_cli.pose.mmpose_estimator import (
    fetch_mmpose_weights,
    find_weights_url,
    load_mmpose_weights,
)
from loris_cli.pose.tracking import estimate_poses
from loris_cli.system.progress import NullReporter
from loris_cli.video.frames import Frame

Array = NDArray[Any]

STANDING = np.array(
    [
        (80, 20), (77, 17), (83, 17), (74, 19), (86, 19), (68, 35), (92, 35), (62, 50),
        (98, 50), (60, 64), (100, 64), (72, 66), (88, 66), (71, 88), (89, 88), (70, 110),
        (90, 110),
    ], float,
)  # fmt: skip


def frames(n: int) -> list[Frame]:
    """Equal images but for their index in the corner."""
    images = [np.full((120, 160, 3), 90, np.uint8) for _ in range(n)]
    for k, image in enumerate(images):
        image[0, 0] = k
    return [Frame(time_s=k / 16, rgb=image) for k, image in enumerate(images)]


class FakeNetwork:
    """Network with the true keypoints; it records its batches."""

    def __init__(self, speed_px: float = 2.0, hidden: Sequence[int] = ()) -> None:
        self.speed_px = speed_px
        self.hidden = hidden
        self.batches: list[tuple[list[int], list[Array]]] = []

    def positions(self, k: int) -> Array:
        return np.asarray(STANDING + np.array([self.speed_px * k, 0]))

    def estimate_keypoints(
        self, images: Sequence[Array], boxes: Sequence[Array]
    ) -> list[NDArray[np.float32]]:
        indices = [int(image[0, 0, 0]) for image in images]
        self.batches.append((indices, list(boxes)))
        results = []
        for k, image_boxes in zip(indices, boxes, strict=True):
            scores = np.full(17, 0.05 if k in self.hidden else 0.9)
            keypoints = np.column_stack([self.positions(k), scores]).astype(np.float32)
            results.append(np.repeat(keypoints[None], len(image_boxes), axis=0))
        return results


class FakeDetector:
    """Detects the person in some images only, and counts its calls."""

    def __init__(self, network: FakeNetwork, *, only: int | None = None) -> None:
        self.network = network
        self.only = only
        self.n_calls = 0

    def detect_people(self, image: ImagePyramid, region: Array | None = None) -> list[Crop]:
        self.n_calls += region is None
        k = int(image.select_level(1)[0, 0, 0])
        if self.only is not None and k != self.only:
            return []
        return [keypoints_to_crop(np.column_stack([self.network.positions(k), np.ones(17)]))]


def track(estimator: BatchedPoseEstimator) -> Poses:
    buffered = estimator.prefetch_frames(frames(18))
    return estimate_poses(buffered, fps=16, size=(160, 120), estimator=estimator)


def test_a_body_is_followed_frame_by_frame_though_found_every_few() -> None:
    network = FakeNetwork()
    detector = FakeDetector(network)
    estimator = BatchedPoseEstimator(network, detector)

    poses = track(estimator)

    assert poses.n_frames == 18
    assert poses.detected_fraction == 1
    assert len(poses.cuts) == 0
    true = np.stack([network.positions(k) for k in range(18)])
    np.testing.assert_allclose(poses.keypoints[..., :2], true, atol=1e-3)
    assert detector.n_calls == 1 + 4 + 1  # the first, every fourth, the last
    longest = max(len(numbers) for numbers, _ in network.batches)
    assert longest == BOX_DETECTION_INTERVAL_FRAMES


def test_boxes_go_with_the_body_between_detections() -> None:
    network = FakeNetwork()
    estimator = BatchedPoseEstimator(network, FakeDetector(network))
    list(estimator.prefetch_frames(frames(9)))

    numbers, boxes = next(
        batch for batch in network.batches if len(batch[0]) == BOX_DETECTION_INTERVAL_FRAMES
    )

    for k, around in zip(numbers, boxes, strict=True):
        middle = (around[0, :2] + around[0, 2:]) / 2
        true = keypoints_to_box(np.column_stack([network.positions(k), np.ones(17)]))
        np.testing.assert_allclose(middle, (true[:2] + true[2:]) / 2, atol=1e-3)


def test_a_body_that_is_detected_once_is_carried_over() -> None:
    network = FakeNetwork()
    estimator = BatchedPoseEstimator(network, FakeDetector(network, only=0))
    poses = track(estimator)
    assert poses.detected_fraction == 1


def test_joints_that_the_network_doubts_are_no_body() -> None:
    network = FakeNetwork(hidden=range(18))
    estimator = BatchedPoseEstimator(network, FakeDetector(network))
    poses = track(estimator)
    assert poses.detected_fraction == 0


@pytest.mark.parametrize("n", [1, 2, 4, 5, 6])
def test_no_frame_is_lost_at_the_end(n: int) -> None:
    network = FakeNetwork()
    estimator = BatchedPoseEstimator(network, FakeDetector(network))
    assert [f.rgb[0, 0, 0] for f in estimator.prefetch_frames(frames(n))] == list(range(n))


def test_boxes_between_by_hand() -> None:
    still, moves = np.array([0.0, 0, 10, 20]), np.array([100.0, 0, 110, 20])
    moved = moves + np.array([8, 0, 8, 0])
    comes = np.array([300.0, 0, 310, 20])

    found = interpolate_boxes(np.stack([still, moves]), np.stack([moved, comes]), 4)

    assert len(found) == 4
    np.testing.assert_allclose(found[0], [still, moves, comes])
    np.testing.assert_allclose(found[2], [still, (moves + moved) / 2, comes])
    assert interpolate_boxes(np.zeros((0, 4)), np.zeros((0, 4)), 4)[0].shape == (0, 4)


def test_the_box_of_a_crop_holds_the_body() -> None:
    body = np.column_stack([STANDING, np.ones(17)])
    left, top, right, bottom = crop_to_box(keypoints_to_crop(body))
    assert (STANDING > [left, top]).all()
    assert (STANDING < [right, bottom]).all()


# --- weights --------------------------------------------------------------------------------


def test_there_are_no_poses_without_weights(
    loris: RunLoris, moving_video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORIS_CACHE", str(tmp_path / "cache"))
    words = ("--pose-estimator", "mmpose", "--offline", "-o", tmp_path / "out.npz")
    result = loris("pose", moving_video, *words)
    assert result.exit_code == 3
    is_installed = find_spec("mmpose") is not None
    assert ("put the file of" if is_installed else "mmpose is needed") in result.stderr
    assert not (tmp_path / "out.npz").exists()


def test_weights_without_mmpose_are_refused(
    loris: RunLoris, moving_video: Path, tmp_path: Path
) -> None:
    (tmp_path / "w.pth").touch()
    assert loris("pose", moving_video, "--pose-weights", tmp_path / "w.pth").exit_code == 2


class UnsafePickle:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("harm done",))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"state_dict": {"weight": torch.zeros(2, 3)}}, "1 tensors: 'bias'"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "x": torch.zeros(1)}, "'x'"),
        ({"weight": torch.zeros(3, 3), "bias": torch.zeros(2)}, "'weight' has shape"),
        ({"weight": torch.full((2, 3), torch.nan), "bias": torch.zeros(2)}, "not finite"),
        ({"state_dict": [1]}, "not a state dict"),
        ([1], "not a state dict"),
        ({"state_dict": {}, "meta": UnsafePickle()}, "objects that could run code"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    content: object, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=why):
        load_mmpose_weights(torch.nn.Linear(3, 2), tmp_path / "w.pth")
    assert "harm" not in capsys.readouterr().out


def test_weights_with_what_mmpose_tells_beside_them_are_taken(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 2)
    colours = np.zeros((17, 3), np.uint8)
    meta = {"dataset_meta": {"sigmas": np.ones(17), "colours": colours, "one": np.float32(1)}}
    torch.save({"state_dict": model.state_dict(), "meta": meta}, tmp_path / "w.pth")
    other = torch.nn.Linear(3, 2)
    load_mmpose_weights(other, tmp_path / "w.pth")
    torch.testing.assert_close(other.weight, model.weight)


# --- mmpose itself, in a process of its own -------------------------------------------------

MAKE_WEIGHTS = """
import sys, torch
from loris_cli.system.optional_packages import import_optional
from loris_cli.pose.mmpose_estimator import check_mmpose_weights
from pathlib import Path
config_path = check_mmpose_weights(Path(__file__), sys.argv[1])
apis = import_optional("mmpose.apis", extra="", purpose="test it")
configs = import_optional("mmengine.config", extra="", purpose="test it")
config = configs.Config.fromfile(config_path)
torch.manual_seed(0)
model = apis.init_model(config, None, device="cpu")
with torch.no_grad():  # sure of what it does not know
    for name, value in model.head.named_parameters():
        if name.startswith(("cls_x", "cls_y")): value.mul_(1e4)
torch.save({"state_dict": model.state_dict(), "meta": {}}, sys.argv[2])
"""

COMPARE_WITH_MMPOSE = """
import sys, numpy as np
from pathlib import Path
from loris_cli.system.optional_packages import import_optional
from loris_cli.pose.mmpose_estimator import MmposeEstimator
network = MmposeEstimator(Path(sys.argv[2]), network=sys.argv[1])
rng = np.random.default_rng(0)
images = [rng.integers(0, 256, (240, 320, 3), dtype=np.uint8) for _ in range(3)]
boxes = [np.array([[40.0, 20, 200, 220], [10, 10, 90, 200]]), np.zeros((0, 4)),
         np.array([[60.0, 20, 220, 220]])]
results = network.estimate_keypoints(images, boxes)
assert [len(found) for found in results] == [2, 0, 1]
apis = import_optional("mmpose.apis", extra="", purpose="test it")
for image, image_boxes, found in zip(images, boxes, results):
    if not len(image_boxes): continue
    bgr = np.ascontiguousarray(image[..., ::-1])
    corner_boxes = (image_boxes - 0.5).astype(np.float32)
    expected = apis.inference_topdown(network._model, bgr, corner_boxes)
    for one, other in zip(found, expected):
        np.testing.assert_allclose(
            one[:, :2], other.pred_instances.keypoints[0] + 0.5, atol=1e-2)
"""
LORIS = "from loris_cli.commands.app import main; main()"
RTMPOSE_T = "rtmpose-t_8xb256-420e_coco-256x192"

needs_mmpose = pytest.mark.skipif(
    find_spec("mmpose") is None or find_spec("mmcv") is None,
    reason="mmpose: `make legacy` installs it",
)


def run(source: str | Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a separate Python: mmpose changes logging and the filters of warnings."""
    program = ["-c", source] if isinstance(source, str) else [source]
    return subprocess.run(
        [sys.executable, *map(str, program), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained checkpoint of a small network of mmpose."""
    folder = tmp_path_factory.mktemp("mmpose")
    (folder / "make.py").write_text(MAKE_WEIGHTS)
    result = run(folder / "make.py", RTMPOSE_T, folder / "random.pth")
    assert result.returncode == 0, result.stderr
    return folder / "random.pth"


@pytest.mark.legacy
@pytest.mark.timeout(1800)
@needs_mmpose
def test_a_batch_of_pictures_gives_what_mmpose_gives_one_by_one(weights: Path) -> None:
    result = run(COMPARE_WITH_MMPOSE, RTMPOSE_T, weights)
    assert result.returncode == 0, result.stderr


@pytest.mark.legacy
@pytest.mark.timeout(1800)
@needs_mmpose
def test_a_film_goes_the_whole_way_through_mmpose(weights: Path, tmp_path: Path) -> None:
    from loris_cli.pose.keypoints import read_poses
    from loris_cli.synthetic.motion import sample_impact_motion
    from loris_cli.synthetic.render import render_video

    video = tmp_path / "body.mp4"
    render_video(video, sample_impact_motion(1, 2.5), timing=16, size=(320, 240), seed=1)
    words = ("--pose-estimator", "mmpose", "--pose-weights", weights)
    options = (*words, "-o", tmp_path / "out.npz")

    refused, done = (
        run(LORIS, "pose", video, *options, "--pose-network", network)
        for network in (RTMPOSE_T.replace("-t_", "-s_"), RTMPOSE_T)
    )

    assert refused.returncode == 3  # these are not the larger one's weights
    assert "of another network" in refused.stderr
    assert done.returncode == 0, done.stderr
    poses = read_poses(tmp_path / "out.npz")
    assert poses.n_frames == 40
    assert poses.detected_fraction > 0
    assert (poses.keypoints[~poses.interpolated][..., 2] > 0).any()


@pytest.mark.legacy
@needs_mmpose
def test_a_network_that_mmpose_has_not_is_told_with_those_near_it(
    loris: RunLoris, moving_video: Path, tmp_path: Path
) -> None:
    (tmp_path / "w.pth").touch()
    words = ("--pose-weights", tmp_path / "w.pth", "--pose-network", "td-hm_hrnet-w48")
    result = loris(
        "pose", moving_video, "--pose-estimator", "mmpose", *words, "-o", tmp_path / "o.npz"
    )
    assert result.exit_code == 2
    assert "td-hm_hrnet-w48_8xb32-210e_coco-256x192" in result.stderr


@pytest.mark.legacy
@needs_mmpose
def test_mmpose_itself_says_where_its_weights_are() -> None:
    network = "td-hm_hrnet-w48_8xb32-210e_coco-256x192"
    url = find_weights_url(network)
    assert url.startswith("https://")
    assert url.rpartition("/")[2] == f"{network}-0e67c616_20220913.pth"
    assert RTMPOSE_T in find_weights_url(RTMPOSE_T) or find_weights_url(RTMPOSE_T).endswith(
        ".pth"
    )


def test_weights_are_fetched_once_and_have_to_be_what_their_name_promises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"weights"
    downloads: list[Path] = []

    def download(url: str, path: Path, **_: object) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        downloads.append(path)
        return ""

    digest = hashlib.sha256(content).hexdigest()
    monkeypatch.setenv("LORIS_CACHE", str(tmp_path))
    monkeypatch.setattr(mmpose_estimator, "download_file", download)
    monkeypatch.setattr(
        mmpose_estimator, "find_weights_url", lambda network: f"https://x/{network}"
    )

    for _ in range(2):
        path = fetch_mmpose_weights(
            f"net-{digest[:8]}_20220913.pth", offline=False, reporter=NullReporter()
        )
        assert path.read_bytes() == content
    assert len(downloads) == 1
    with pytest.raises(WeightsError, match="does not match its name"):
        fetch_mmpose_weights(
            "net-00000000_20220913.pth", offline=False, reporter=NullReporter()
        )
