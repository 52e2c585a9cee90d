"""Video analysis takes one pass over the frames and selects the method of the rhythm."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from builders import make_poses

from loris_cli.errors import InputError
from loris_cli.pose.keypoints import Poses, read_poses
from loris_cli.rhythm.flow_rhythm import FlowTrajectories
from loris_cli.soundtrack import video_analysis
from loris_cli.soundtrack.video_analysis import analyze_video
from loris_cli.system.progress import NullReporter
from loris_cli.system.threads import configure_threads, pool_size
from loris_cli.video import frames as frames_module
from loris_cli.video.frames import Frame, FrameObserver, read_frames, read_frames_at_fps


@pytest.fixture
def decoded_paths(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return a list that gets the path of each file when its decoding starts."""
    paths: list[Path] = []
    decode = frames_module._decode_frames

    def record_and_decode(path: Path, *args: Any) -> Iterator[Any]:
        paths.append(path)
        yield from decode(path, *args)

    monkeypatch.setattr(frames_module, "_decode_frames", record_and_decode)
    return paths


def patch_pose_estimation(monkeypatch: pytest.MonkeyPatch, poses: Poses) -> None:
    """Replace pose estimation by a function that reads all frames and returns these poses."""

    def estimate(
        frames: Iterable[Frame], *, progress: Callable[[int, bool], None], **_: Any
    ) -> Poses:
        for k, _frame in enumerate(frames):
            progress(k + 1, True)
        return poses

    monkeypatch.setattr(video_analysis, "estimate_poses", estimate)


@pytest.mark.slow
def test_flow_without_a_person_takes_one_pass_over_the_frames(
    moving_video: Path, decoded_paths: list[Path]
) -> None:
    analysis = analyze_video(moving_video)
    assert decoded_paths == [moving_video]
    assert analysis.poses is None

    separate = analyze_video(moving_video, method="flow")
    np.testing.assert_array_equal(analysis.rhythm.times_s, separate.rhythm.times_s)
    np.testing.assert_array_equal(analysis.rhythm.envelope, separate.rhythm.envelope)
    np.testing.assert_array_equal(analysis.energy, separate.energy)


def test_flow_tracking_stops_once_a_person_is_detected(
    moving_video: Path,
    pose_file: Path,
    decoded_paths: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flow_times_s: list[float] = []
    monkeypatch.setattr(
        FlowTrajectories, "add_frame", lambda self, frame: flow_times_s.append(frame.time_s)
    )
    patch_pose_estimation(monkeypatch, read_poses(pose_file))
    analysis = analyze_video(moving_video)

    assert analysis.rhythm.method == "directogram"
    assert decoded_paths == [moving_video]
    # A tenth of 32 frames, those that are decoded ahead, and those in progress.
    assert 1 <= len(flow_times_s) <= 4 + video_analysis.MAX_PREFETCHED_FRAMES + 3


def test_the_rhythm_is_from_flow_if_the_person_does_not_move(
    moving_video: Path,
    pose_file: Path,
    decoded_paths: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    poses = read_poses(pose_file)
    at_rest = np.repeat(poses.keypoints[:1], poses.n_frames, axis=0)
    patch_pose_estimation(monkeypatch, replace(poses, keypoints=at_rest))
    analysis = analyze_video(moving_video)

    assert analysis.rhythm.method == "flow"
    assert decoded_paths == [moving_video, moving_video]
    separate = analyze_video(moving_video, method="flow")
    np.testing.assert_array_equal(analysis.rhythm.times_s, separate.rhythm.times_s)
    with pytest.raises(InputError, match=moving_video.name) as caught:
        analyze_video(moving_video, method="directogram")
    assert "--rhythm flow" in caught.value.hint


def test_poses_use_the_threads_of_the_pool(
    moving_video: Path, pose_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_threads: list[int] = []

    def estimate(frames: Iterable[Frame], **options: Any) -> Poses:
        list(frames)
        n_threads.append(options["n_threads"])
        return read_poses(pose_file)

    monkeypatch.setattr(video_analysis, "estimate_poses", estimate)
    before = pool_size()
    for size in (1, 3):
        configure_threads(size)
        analyze_video(moving_video)
    configure_threads(before)

    assert n_threads == [1, 3]


@pytest.mark.parametrize("method", [None, "flow"])
def test_error_of_a_static_video_names_the_file(
    static_video: Path, method: Literal["flow"] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    poses = make_poses(np.zeros((32, 17, 2)), interpolated=True)
    patch_pose_estimation(monkeypatch, poses)
    with pytest.raises(InputError, match=static_video.name) as caught:
        analyze_video(static_video, method=method)
    assert caught.value.hint


def test_error_of_pose_estimation_names_the_file(
    moving_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(frames: Iterable[Frame], **_: Any) -> Poses:
        raise InputError("the video has no frames", hint="check it")

    monkeypatch.setattr(video_analysis, "estimate_poses", fail)
    with pytest.raises(InputError, match=moving_video.name) as caught:
        analyze_video(moving_video)
    assert caught.value.hint == "check it"


class RecordingReporter(NullReporter):
    """Reporter that records warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.mark.parametrize(
    ("height_px", "frame_px", "warned"), [(25, 160, True), (90, 160, False), (90, 5120, True)]
)
def test_person_too_small_for_reliable_poses_is_reported(
    moving_video: Path,
    pose_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    height_px: float,
    frame_px: int,
    warned: bool,
) -> None:
    poses = read_poses(pose_file)
    keypoints = poses.keypoints.copy()
    keypoints[..., :2] *= height_px / np.ptp(keypoints[0, :, 1])
    poses = replace(poses, keypoints=keypoints, size=(frame_px, frame_px))
    patch_pose_estimation(monkeypatch, poses)
    reporter = RecordingReporter()
    analyze_video(moving_video, reporter=reporter)

    assert any(moving_video.name in text for text in reporter.warnings) == warned


def test_an_observer_gets_each_frame_until_it_returns_false(
    moving_video: Path,
) -> None:
    observed: list[Frame] = []

    def observe(frame: Frame) -> bool:
        observed.append(frame)
        return len(observed) < 20

    observer = FrameObserver(observe, max_side_px=80)
    ticks = list(read_frames_at_fps(moving_video, 4, observer=observer))

    expected = list(read_frames(moving_video, max_side_px=80))[:20]
    assert [frame.time_s for frame in ticks] == [k / 4 for k in range(8)]
    assert [frame.time_s for frame in observed] == [frame.time_s for frame in expected]
    for actual, reference in zip(observed, expected, strict=True):
        np.testing.assert_array_equal(actual.rgb, reference.rgb)


def test_poses_at_another_frame_rate_are_refused(moving_video: Path, pose_file: Path) -> None:
    """The conditions of the networks count 16 poses per second."""
    poses = read_poses(pose_file)
    half_rate = replace(
        poses,
        keypoints=poses.keypoints[::2],
        times_s=np.arange(16) / 8,
        fps=8.0,
        interpolated=poses.interpolated[::2],
    )
    assert analyze_video(moving_video, poses=poses).poses is not None
    with pytest.raises(InputError, match="8 fps"):
        analyze_video(moving_video, poses=half_rate)
