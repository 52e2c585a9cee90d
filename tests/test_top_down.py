"""Top-down pose estimation: batched person detection, weights files, and mmpose networks."""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RunLoris
from numpy.typing import NDArray

from loris_cli.array_types import Array
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

# Joints of a standing person in px, in an image of (160, 120).
STANDING_JOINTS = np.array(
    [
        (80, 20), (77, 17), (83, 17), (74, 19), (86, 19), (68, 35), (92, 35), (62, 50),
        (98, 50), (60, 64), (100, 64), (72, 66), (88, 66), (71, 88), (89, 88), (70, 110),
        (90, 110),
    ], float,
)  # fmt: skip
N_FRAMES = 18
SPEED_PX = 2.0


def make_numbered_frames(n_frames: int) -> list[Frame]:
    """Grey images with their frame index in the first pixel."""
    images = [np.full((120, 160, 3), 90, np.uint8) for _ in range(n_frames)]
    for k, image in enumerate(images):
        image[0, 0] = k
    return [Frame(time_s=k / 16, rgb=image) for k, image in enumerate(images)]


def make_moving_keypoints(frame_index: int, score: float = 1.0) -> NDArray[np.float32]:
    """Keypoints of a person moving to the right, ``(17, 3)``."""
    joints = STANDING_JOINTS + np.array([SPEED_PX * frame_index, 0])
    return np.column_stack([joints, np.full(17, score)]).astype(np.float32)


class FakeNetwork:
    """Keypoint network that returns the known keypoints and records its batches."""

    def __init__(self, score: float = 0.9) -> None:
        self.score = score
        self.batches: list[tuple[list[int], list[Array]]] = []

    def estimate_keypoints(
        self, images: Sequence[Array], boxes: Sequence[Array]
    ) -> list[NDArray[np.float32]]:
        indices = [int(image[0, 0, 0]) for image in images]
        self.batches.append((indices, list(boxes)))
        return [
            np.repeat(make_moving_keypoints(k, self.score)[None], len(image_boxes), axis=0)
            for k, image_boxes in zip(indices, boxes, strict=True)
        ]


class FakeDetector:
    """Person detector that finds the person in all frames or in one, and counts its calls."""

    def __init__(self, *, only_frame: int | None = None) -> None:
        self.only_frame = only_frame
        self.n_calls = 0

    def detect_people(self, image: ImagePyramid, region: Array | None = None) -> list[Crop]:
        self.n_calls += region is None
        k = int(image.select_level(1)[0, 0, 0])
        if self.only_frame not in (None, k):
            return []
        return [keypoints_to_crop(make_moving_keypoints(k))]


def estimate_batched(network: FakeNetwork, detector: FakeDetector) -> Poses:
    estimator = BatchedPoseEstimator(network, detector)
    buffered = estimator.prefetch_frames(make_numbered_frames(N_FRAMES))
    return estimate_poses(buffered, fps=16, size=(160, 120), estimator=estimator)


def check_moving_person(poses: Poses) -> None:
    """Check that the person was tracked through all frames, at the known joints."""
    assert poses.n_frames == N_FRAMES
    assert poses.detected_fraction == 1
    assert len(poses.cuts) == 0
    expected = np.stack([make_moving_keypoints(k) for k in range(N_FRAMES)])
    np.testing.assert_allclose(poses.keypoints[..., :2], expected[..., :2], atol=1e-3)


def test_person_detected_every_four_frames_is_tracked_in_each_frame() -> None:
    network, detector = FakeNetwork(), FakeDetector()

    check_moving_person(estimate_batched(network, detector))

    assert detector.n_calls == 1 + 4 + 1  # the first frame, every fourth, and the last
    largest_batch = max(len(indices) for indices, _ in network.batches)
    assert largest_batch == BOX_DETECTION_INTERVAL_FRAMES


def test_boxes_between_detections_move_with_the_person() -> None:
    network = FakeNetwork()
    list(BatchedPoseEstimator(network, FakeDetector()).prefetch_frames(make_numbered_frames(9)))

    indices, boxes = next(
        batch for batch in network.batches if len(batch[0]) == BOX_DETECTION_INTERVAL_FRAMES
    )

    for k, (box,) in zip(indices, boxes, strict=True):
        expected = keypoints_to_box(make_moving_keypoints(k))
        np.testing.assert_allclose(
            box[:2] + box[2:], expected[:2] + expected[2:], atol=2e-3, err_msg=f"frame {k}"
        )


def test_person_detected_once_is_tracked_through_all_frames() -> None:
    check_moving_person(estimate_batched(FakeNetwork(), FakeDetector(only_frame=0)))


def test_person_with_low_keypoint_scores_is_discarded() -> None:
    poses = estimate_batched(FakeNetwork(score=0.05), FakeDetector())

    assert poses.detected_fraction == 0
    assert not poses.keypoints.any()


@pytest.mark.parametrize("n_frames", [1, 2, 4, 5, 6])
def test_prefetching_yields_every_frame_once(n_frames: int) -> None:
    estimator = BatchedPoseEstimator(FakeNetwork(), FakeDetector())

    frames = list(estimator.prefetch_frames(make_numbered_frames(n_frames)))

    assert [int(frame.rgb[0, 0, 0]) for frame in frames] == list(range(n_frames))


def test_boxes_are_interpolated_linearly_for_matched_people() -> None:
    static, start = np.array([0.0, 0, 10, 20]), np.array([100.0, 0, 110, 20])
    stop = start + np.array([8, 0, 8, 0])
    newcomer = np.array([300.0, 0, 310, 20])

    boxes = interpolate_boxes(np.stack([static, start]), np.stack([stop, newcomer]), 4)

    assert len(boxes) == 4
    np.testing.assert_allclose(boxes[0], [static, start, newcomer])
    np.testing.assert_allclose(boxes[2], [static, (start + stop) / 2, newcomer])


def test_interpolation_without_people_gives_empty_boxes() -> None:
    boxes = interpolate_boxes(np.zeros((0, 4)), np.zeros((0, 4)), 4)

    assert [box.shape for box in boxes] == [(0, 4)] * 4


def test_box_of_a_crop_contains_all_joints() -> None:
    left, top, right, bottom = crop_to_box(keypoints_to_crop(make_moving_keypoints(0)))

    assert (STANDING_JOINTS > [left, top]).all()
    assert (STANDING_JOINTS < [right, bottom]).all()


# --- weights --------------------------------------------------------------------------------


def test_mmpose_without_weights_is_refused(
    loris: RunLoris, moving_video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORIS_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "out.npz"

    result = loris("pose", moving_video, "--pose-estimator", "mmpose", "--offline", "-o", out)

    assert result.exit_code == 3
    is_installed = find_spec("mmpose") is not None
    assert ("--pose-weights" if is_installed else "pip install") in result.stderr
    assert not out.exists()


def test_pose_weights_without_mmpose_are_refused(
    loris: RunLoris, moving_video: Path, tmp_path: Path
) -> None:
    (tmp_path / "w.pth").touch()

    result = loris("pose", moving_video, "--pose-weights", tmp_path / "w.pth")

    assert result.exit_code == 2
    assert "--pose-estimator mmpose" in result.stderr


class UnsafePickle:
    """Object whose unpickling prints a text."""

    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("unpickled",))


@pytest.mark.parametrize(
    ("content", "value"),
    [
        pytest.param({"state_dict": {"weight": torch.zeros(2, 3)}}, "'bias'", id="missing"),
        pytest.param(
            {"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "x": torch.zeros(1)},
            "'x'",
            id="unexpected",
        ),
        pytest.param(
            {"weight": torch.zeros(3, 3), "bias": torch.zeros(2)},
            r"'weight'.*\(3, 3\).*\(2, 3\)",
            id="shape",
        ),
        pytest.param(
            {"weight": torch.full((2, 3), torch.nan), "bias": torch.zeros(2)},
            "'weight'.*NaN",
            id="NaN",
        ),
        pytest.param({"state_dict": [1]}, "state dict", id="nested list"),
        pytest.param([1], "state dict", id="list"),
        pytest.param({"state_dict": {}, "meta": UnsafePickle()}, "code", id="unsafe pickle"),
    ],
)
def test_invalid_weights_files_are_refused(
    content: object, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(content, tmp_path / "w.pth")

    with pytest.raises(WeightsError, match=value):
        load_mmpose_weights(torch.nn.Linear(3, 2), tmp_path / "w.pth")
    assert "unpickled" not in capsys.readouterr().out


def test_weights_with_metadata_of_mmpose_are_loaded(tmp_path: Path) -> None:
    model, loaded = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    colours = np.zeros((17, 3), np.uint8)
    meta = {"dataset_meta": {"sigmas": np.ones(17), "colours": colours, "one": np.float32(1)}}
    torch.save({"state_dict": model.state_dict(), "meta": meta}, tmp_path / "w.pth")

    load_mmpose_weights(loaded, tmp_path / "w.pth")

    for name, value in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, rtol=0, atol=0)


# --- mmpose, in separate processes ----------------------------------------------------------

MAKE_WEIGHTS = """
import sys, torch
from loris_cli.system.optional_packages import import_optional
from loris_cli.pose.mmpose_estimator import check_mmpose_weights
from pathlib import Path
config_path = check_mmpose_weights(Path(__file__), sys.argv[1])
apis = import_optional("mmpose.apis", extra="", purpose="test mmpose")
configs = import_optional("mmengine.config", extra="", purpose="test mmpose")
config = configs.Config.fromfile(config_path)
torch.manual_seed(0)
model = apis.init_model(config, None, device="cpu")
with torch.no_grad():  # raise the scores of the untrained network
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
assert [len(people) for people in results] == [2, 0, 1]
apis = import_optional("mmpose.apis", extra="", purpose="test mmpose")
for image, image_boxes, people in zip(images, boxes, results):
    if not len(image_boxes): continue
    bgr = np.ascontiguousarray(image[..., ::-1])
    corner_boxes = (image_boxes - 0.5).astype(np.float32)
    expected = apis.inference_topdown(network._model, bgr, corner_boxes)
    for keypoints, sample in zip(people, expected, strict=True):
        np.testing.assert_allclose(
            keypoints[:, :2], sample.pred_instances.keypoints[0] + 0.5, atol=1e-2)
"""
LORIS_MAIN = "from loris_cli.commands.app import main; main()"
RTMPOSE_T = "rtmpose-t_8xb256-420e_coco-256x192"

needs_mmpose = pytest.mark.skipif(
    find_spec("mmpose") is None or find_spec("mmcv") is None,
    reason="mmpose: `make legacy` installs it",
)


def run_python(source: str | Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run code or a script in another process: mmpose changes logging and warning filters."""
    program = ["-c", source] if isinstance(source, str) else [source]
    return subprocess.run(
        [sys.executable, *map(str, program), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.fixture(scope="module")
def rtmpose_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights file of an untrained RTMPose network."""
    folder = tmp_path_factory.mktemp("mmpose")
    (folder / "make.py").write_text(MAKE_WEIGHTS)
    result = run_python(folder / "make.py", RTMPOSE_T, folder / "random.pth")
    assert result.returncode == 0, result.stderr
    return folder / "random.pth"


@pytest.mark.legacy
@pytest.mark.timeout(1800)
@needs_mmpose
def test_batched_keypoints_match_those_of_mmpose(rtmpose_weights: Path) -> None:
    result = run_python(COMPARE_WITH_MMPOSE, RTMPOSE_T, rtmpose_weights)

    assert result.returncode == 0, result.stderr


@pytest.mark.legacy
@pytest.mark.timeout(1800)
@needs_mmpose
def test_pose_command_runs_mmpose_with_matching_weights_only(
    rtmpose_weights: Path, tmp_path: Path
) -> None:
    from loris_cli.pose.keypoints import read_poses
    from loris_cli.synthetic.motion import sample_impact_motion
    from loris_cli.synthetic.render import render_video

    video, out = tmp_path / "dancer.mp4", tmp_path / "out.npz"
    render_video(video, sample_impact_motion(1, 2.5), timing=16, size=(320, 240), seed=1)
    options = ("--pose-estimator", "mmpose", "--pose-weights", rtmpose_weights, "-o", out)

    small_network = RTMPOSE_T.replace("-t_", "-s_")
    refused = run_python(LORIS_MAIN, "pose", video, *options, "--pose-network", small_network)
    accepted = run_python(LORIS_MAIN, "pose", video, *options, "--pose-network", RTMPOSE_T)

    assert refused.returncode == 3
    assert rtmpose_weights.name in refused.stderr
    assert accepted.returncode == 0, accepted.stderr
    poses = read_poses(out)
    assert poses.n_frames == 40
    assert poses.detected_fraction > 0
    assert (poses.keypoints[~poses.interpolated][..., 2] > 0).any()


@pytest.mark.legacy
@needs_mmpose
def test_unknown_mmpose_network_is_refused_with_similar_names(
    loris: RunLoris, moving_video: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "w.pth"
    weights.touch()
    options = ("--pose-estimator", "mmpose", "--pose-weights", weights)

    result = loris(
        "pose",
        moving_video,
        *options,
        "--pose-network",
        "td-hm_hrnet-w48",
        "-o",
        tmp_path / "o.npz",
    )

    assert result.exit_code == 2
    assert "td-hm_hrnet-w48_8xb32-210e_coco-256x192" in result.stderr


@pytest.mark.legacy
@needs_mmpose
@pytest.mark.parametrize(
    ("network", "file_name"),
    [
        (
            "td-hm_hrnet-w48_8xb32-210e_coco-256x192",
            "td-hm_hrnet-w48_8xb32-210e_coco-256x192-0e67c616_20220913.pth",
        ),
        (
            RTMPOSE_T,
            "rtmpose-tiny_simcc-coco_pt-aic-coco_420e-256x192-e613ba3f_20230127.pth",
        ),
    ],
    ids=["hrnet-w48", "rtmpose-t"],
)
def test_weights_url_is_read_from_the_model_index(network: str, file_name: str) -> None:
    url = find_weights_url(network)

    assert url.startswith("https://")
    assert url.rpartition("/")[2] == file_name


CONTENT = b"weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()[:8]


@pytest.fixture
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Paths of the files that are downloaded, each with ``CONTENT``."""
    paths: list[Path] = []

    def write_content(url: str, path: Path, **_: object) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(CONTENT)
        paths.append(path)
        return ""

    monkeypatch.setenv("LORIS_CACHE", str(tmp_path))
    monkeypatch.setattr(mmpose_estimator, "download_file", write_content)
    monkeypatch.setattr(
        mmpose_estimator, "find_weights_url", lambda network: f"https://x/{network}"
    )
    return paths


def test_weights_are_downloaded_once(downloads: list[Path]) -> None:
    name = f"net-{DIGEST}_20220913.pth"

    paths = [
        fetch_mmpose_weights(name, offline=False, reporter=NullReporter()) for _ in range(2)
    ]

    assert paths[0] == paths[1]
    assert paths[0].read_bytes() == CONTENT
    assert len(downloads) == 1


def test_weights_with_another_hash_than_in_their_name_are_refused(
    downloads: list[Path],
) -> None:
    name = "net-00000000_20220913.pth"

    with pytest.raises(WeightsError, match=rf"{re.escape(name)}.*{DIGEST}"):
        fetch_mmpose_weights(name, offline=False, reporter=NullReporter())
    assert len(downloads) == 1
