"""The analysis of a video takes one pass over its frames."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loris_cli.errors import InputError
from loris_cli.pose.keypoints import Poses, read_poses
from loris_cli.rhythm.flow_rhythm import FlowTrajectories
from loris_cli.soundtrack import video_analysis
from loris_cli.soundtrack.video_analysis import analyze_video
from loris_cli.video import frames as decoding
from loris_cli.video.frames import Frame, FrameObserver, read_frames, read_frames_at_fps


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files in the order of their being decoded."""
    analysis: list[Path] = []
    decode = decoding._decode_frames

    def counted(path: Path, *more: Any) -> Iterator[Any]:
        analysis.append(path)
        yield from decode(path, *more)

    monkeypatch.setattr(decoding, "_decode_frames", counted)
    return analysis


def test_one_pass_is_enough_where_nobody_is_seen(
    moving_video: Path, passes: list[Path]
) -> None:
    analysis = analyze_video(moving_video)
    assert passes == [moving_video]
    assert analysis.poses is None

    separate = analyze_video(moving_video, method="flow")
    np.testing.assert_array_equal(analysis.rhythm.times_s, separate.rhythm.times_s)
    np.testing.assert_array_equal(analysis.rhythm.envelope, separate.rhythm.envelope)
    np.testing.assert_array_equal(analysis.energy, separate.energy)


def test_flow_is_followed_no_longer_once_a_body_leads(
    moving_video: Path, pose_file: Path, passes: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    followed: list[float] = []
    monkeypatch.setattr(
        FlowTrajectories, "add_frame", lambda self, frame: followed.append(frame.time_s)
    )

    def estimate(
        frames: Iterable[Frame], *, progress: Callable[[int, bool], None], **_: Any
    ) -> Poses:
        for k, _frame in enumerate(frames):
            progress(k + 1, True)
        return read_poses(pose_file)

    monkeypatch.setattr(video_analysis, "estimate_poses", estimate)
    analysis = analyze_video(moving_video)

    assert analysis.rhythm.method == "directogram"
    assert passes == [moving_video]
    assert 1 <= len(followed) <= 6  # 32 frames, a tenth of them and what is under way


def test_a_body_that_does_not_move_leaves_the_picture_to_lead(
    moving_video: Path, pose_file: Path, passes: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def estimate(
        frames: Iterable[Frame], *, progress: Callable[[int, bool], None], **_: Any
    ) -> Poses:
        for k, _frame in enumerate(frames):
            progress(k + 1, True)
        poses = read_poses(pose_file)
        at_rest = np.repeat(poses.keypoints[:1], poses.n_frames, axis=0)
        return replace(poses, keypoints=at_rest)

    monkeypatch.setattr(video_analysis, "estimate_poses", estimate)
    analysis = analyze_video(moving_video)

    assert analysis.rhythm.method == "flow"
    assert passes == [moving_video, moving_video]
    separate = analyze_video(moving_video, method="flow")
    np.testing.assert_array_equal(analysis.rhythm.times_s, separate.rhythm.times_s)
    with pytest.raises(InputError, match="no moving person"):
        analyze_video(moving_video, method="directogram")


def test_a_watcher_sees_every_frame_at_its_own_time_until_it_has_enough(
    moving_video: Path,
) -> None:
    analysis: list[Frame] = []

    def see(frame: Frame) -> bool:
        analysis.append(frame)
        return len(analysis) < 20

    ticks = list(
        read_frames_at_fps(moving_video, 4, observer=FrameObserver(see, max_side_px=80))
    )

    every = list(read_frames(moving_video, max_side_px=80))
    assert len(ticks) == 8
    assert [frame.time_s for frame in analysis] == [frame.time_s for frame in every[:20]]
    for actual, expected in zip(analysis, every, strict=False):
        np.testing.assert_array_equal(actual.rgb, expected.rgb)
