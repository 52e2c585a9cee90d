"""Frames of a video by presentation time: every displayed frame, or at a constant rate.

packets -> decoded frames in presentation order -> selected frames -> upright RGB
"""

import math
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial
from pathlib import Path

import av
import numpy as np

from loris_cli.errors import InputError, escape_unprintable
from loris_cli.video.frame_conversion import FrameConverter, RgbImage

from . import containers
from .containers import WarningCallback
from .probe import VideoInfo, estimate_last_duration
from .timestamps import decode_video

MAX_CONSECUTIVE_READ_ERRORS = 100


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One frame of a video.

    Args:
        time_s: seconds since the first displayed frame.
        rgb: ``(height, width, 3)`` uint8, upright.
        source_time_s: presentation time of the video frame that is displayed at ``time_s``;
            None if the frames are not resampled.
    """

    time_s: float
    rgb: RgbImage
    source_time_s: float | None = None


@dataclass(frozen=True, eq=False)
class _DecodedFrame:
    time_s: Fraction
    image: av.VideoFrame
    sample_aspect_ratio: Fraction | None
    time_base_s: Fraction

    @property
    def duration_s(self) -> float:
        return float((self.image.duration or 0) * self.time_base_s)

    def to_rgb(self, convert: FrameConverter) -> RgbImage:
        return convert(self.image, self.sample_aspect_ratio)

    def at(self, time_s: Fraction, rgb: RgbImage) -> Frame:
        """Return this frame, displayed at a time, with its converted image."""
        return Frame(time_s=float(time_s), rgb=rgb, source_time_s=float(self.time_s))


class FrameObserver:
    """Receiver of every displayed frame of a video, scaled down, while the video is read.

    Args:
        callback: called with each frame; returns False when it needs no more frames.
        max_side_px: maximum length of the long side of its frames.
    """

    def __init__(self, callback: Callable[[Frame], bool], *, max_side_px: int) -> None:
        """Create an observer that is active until its callback returns False."""
        self._callback, self._convert = callback, FrameConverter(max_side_px)
        self._active = True

    def notify(self, frame: _DecodedFrame) -> None:
        """Pass a frame to the callback while the observer is active."""
        if self._active:
            rgb = frame.to_rgb(self._convert)
            self._active = self._callback(frame.at(frame.time_s, rgb))


def read_frames(
    path: Path, *, max_side_px: int | None = None, on_warning: WarningCallback | None = None
) -> Iterator[Frame]:
    """Read every displayed frame once, in presentation order.

    Args:
        path: video file.
        max_side_px: maximum length of the long side; larger frames are scaled down.
        on_warning: called once if damaged parts of the file are skipped.

    Yields:
        Frames of one size, with strictly increasing times from 0.
    """
    convert = FrameConverter(max_side_px)
    for frame in _decode_frames(path, on_warning):
        yield frame.at(frame.time_s, frame.to_rgb(convert))


def read_frames_at_fps(
    video: Path | VideoInfo,
    fps: float,
    *,
    max_side_px: int | None = None,
    on_warning: WarningCallback | None = None,
    observer: FrameObserver | None = None,
) -> Iterator[Frame]:
    """Read the frames displayed at ``k / fps`` seconds.

    Each is the last frame whose time is not later. Containers round timestamps, Matroska to
    milliseconds, so half a tick of the container is tolerated. A frame is repeated over a gap;
    a frame between two output times is converted only for the observer. The file is read once.

    Args:
        video: video file, or its properties from `probe_video`, whose duration is then used
            even if frames at the end cannot be decoded.
        fps: frame rate of the result.
        max_side_px: maximum length of the long side; larger frames are scaled down.
        on_warning: called once if damaged parts of the file are skipped.
        observer: receives every displayed frame, at its own time, in the same pass.

    Yields:
        Frames of one size with ``time_s = k / fps``, for all ``k`` with ``k / fps`` below
        the duration.
    """
    step = 1 / Fraction(fps)
    path = video.path if isinstance(video, VideoInfo) else video
    n_frames = _count_ticks(video.duration_s, step) if isinstance(video, VideoInfo) else None
    convert = FrameConverter(max_side_px)
    displayed: _DecodedFrame | None = None
    times_s = array("d")
    k = 0
    for frame in _decode_frames(path, on_warning):
        times_s.append(float(frame.time_s))
        if observer is not None:
            observer.notify(frame)
        if displayed is not None:
            until = math.ceil((frame.time_s - frame.time_base_s / 2) / step)
            until = until if n_frames is None else min(n_frames, until)
            if until > k:
                yield from _repeat_frame(displayed, convert, range(k, until), step)
                k = until
        if k == n_frames:
            return
        displayed = frame
    assert displayed is not None
    if n_frames is None:
        intervals_s = np.diff(np.frombuffer(times_s)) if len(times_s) > 1 else np.ones(1)
        last_s = estimate_last_duration(displayed.duration_s, intervals_s)
        n_frames = _count_ticks(times_s[-1] + last_s, step)
    yield from _repeat_frame(displayed, convert, range(k, n_frames), step)


def record_source_times(frames: Iterable[Frame], times_s: list[float]) -> Iterator[Frame]:
    """Yield frames and append the presentation time of each source frame to a list."""
    for frame in frames:
        times_s.append(frame.time_s if frame.source_time_s is None else frame.source_time_s)
        yield frame


def _count_ticks(duration_s: float, step_s: Fraction) -> int:
    return math.ceil(Fraction(duration_s).limit_denominator(10**7) / step_s)


def _repeat_frame(
    frame: _DecodedFrame, convert: FrameConverter, ticks: range, interval_s: Fraction
) -> Iterator[Frame]:
    """Yield one frame at several ticks, each with a copy that the caller may modify."""
    rgb = frame.to_rgb(convert) if ticks else np.zeros((0, 0, 3), np.uint8)
    for k in ticks:
        yield frame.at(k * interval_s, rgb if k == ticks[-1] else rgb.copy())


def _decode_frames(path: Path, on_warning: WarningCallback | None) -> Iterator[_DecodedFrame]:
    """Decode the displayed frames in order; damaged packets are skipped, with one warning."""
    message = f"{escape_unprintable(path)} is damaged: some frames are skipped"
    warn_once = cache(partial(on_warning or (lambda text: None), message))
    with containers.open_container(path) as container:
        stream = containers.require_video_stream(container, path)
        stream.thread_type = "AUTO"
        tick = stream.time_base
        assert tick is not None
        start: int | None = None
        previous: int | None = None
        for ticks, image in decode_video(
            container, stream, on_damage=warn_once, max_read_errors=MAX_CONSECUTIVE_READ_ERRORS
        ):
            if previous is not None and ticks <= previous:
                warn_once()
                continue
            if start is None:
                start = ticks
                containers.check_frame_size(image.width, image.height, path)
            previous = ticks
            yield _DecodedFrame((ticks - start) * tick, image, stream.sample_aspect_ratio, tick)
    if start is None:
        hint = containers.format_convert_hint(path)
        raise InputError(f"no frame of {path} can be decoded", hint=hint)
