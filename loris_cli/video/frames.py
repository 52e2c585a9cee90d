"""Every shown frame once, or the frame on screen at each tick of a clock; one pass, in order.

packets -> decoded frames in time -> the ones asked for -> upright RGB
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.container

from loris_cli.errors import InputError
from loris_cli.system.atomic_files import printable_path
from loris_cli.video.frame_conversion import FrameConverter, RgbImage

from .containers import (
    CONVERT_HINT,
    check_frame_size,
    open_container,
    presentation_ticks,
    require_video_stream,
)
from .probe import probe_video

WarningCallback = Callable[[str], None]

MAX_CONSECUTIVE_READ_ERRORS = 100  # in a row


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One picture of a video.

    Args:
        time_s: seconds since the first shown frame.
        rgb: ``(height, width, 3)`` uint8, upright.
    """

    time_s: float
    rgb: RgbImage


@dataclass(frozen=True, kw_only=True, eq=False)
class _DecodedFrame:
    time_s: Fraction
    image: av.VideoFrame
    sample_aspect_ratio: Fraction | None
    time_base_s: Fraction


class FrameObserver:
    """One who sees every shown frame of a video, small, while another pass is made over it.

    Args:
        callback: told each frame; False once it has seen enough.
        max_side_px: how large it needs them.
    """

    def __init__(self, callback: "Callable[[Frame], bool]", *, max_side_px: int) -> None:
        """Begin before the first frame."""
        self._see, self._max_side_px = callback, max_side_px
        self._upright: FrameConverter | None = None
        self._active = True

    def notify(self, frame: _DecodedFrame) -> None:
        """Show one frame, unless enough were seen."""
        if not self._active:
            return
        if self._upright is None:
            self._upright = FrameConverter(
                frame.image,
                sample_aspect_ratio=frame.sample_aspect_ratio,
                max_side_px=self._max_side_px,
            )
        self._active = self._see(
            Frame(time_s=float(frame.time_s), rgb=self._upright(frame.image))
        )


def read_frames(
    path: Path, *, max_side_px: int | None = None, on_warning: WarningCallback | None = None
) -> Iterator[Frame]:
    """Every frame that is shown, once, in the order of showing.

    Args:
        path: a video.
        max_side_px: scale down until the long side is no more than this.
        on_warning: told once if parts of the file are damaged and were left out.

    Yields:
        Frames of one size, times strictly rising from 0.
    """
    upright: FrameConverter | None = None
    for shown in _decode_frames(path, on_warning):
        if upright is None:
            upright = FrameConverter(
                shown.image,
                sample_aspect_ratio=shown.sample_aspect_ratio,
                max_side_px=max_side_px,
            )
        yield Frame(time_s=float(shown.time_s), rgb=upright(shown.image))


def read_frames_at_fps(
    path: Path,
    fps: float,
    *,
    max_side_px: int | None = None,
    on_warning: WarningCallback | None = None,
    observer: "FrameObserver | None" = None,
) -> Iterator[Frame]:
    """Frame ``k`` is the one on screen at ``k / fps`` seconds.

    That is the last one whose time is not later. Containers round their times, Matroska to
    milliseconds, so a frame that is late by half a tick of its container is not late. A frame
    is held over a gap; one that falls between two ticks of the clock is converted only for
    those who watch every frame.

    Args:
        path: a video.
        fps: frames per second wanted.
        max_side_px: scale down until the long side is no more than this.
        on_warning: told once if parts of the file are damaged and were left out.
        observer: sees every frame that is shown, at its own time, in the same pass.

    Yields:
        Frames of one size with ``time_s = k / fps``, for all ``k`` with ``k / fps`` below
        the duration.
    """
    step = 1 / Fraction(fps)
    n_frames = math.ceil(Fraction(probe_video(path).duration_s).limit_denominator(10**7) / step)
    upright: FrameConverter | None = None
    shown: _DecodedFrame | None = None
    k = 0
    for coming in _decode_frames(path, on_warning):
        if observer is not None:
            observer.notify(coming)
        if shown is None or upright is None:
            upright = FrameConverter(
                coming.image,
                sample_aspect_ratio=coming.sample_aspect_ratio,
                max_side_px=max_side_px,
            )
        else:
            until = min(n_frames, math.ceil((coming.time_s - coming.time_base_s / 2) / step))
            if until > k:
                yield from _repeat_frame(upright(shown.image), range(k, until), step)
                k = until
        if k == n_frames:
            return
        shown = coming
    assert upright is not None
    assert shown is not None
    yield from _repeat_frame(upright(shown.image), range(k, n_frames), step)


def _repeat_frame(rgb: RgbImage, ticks: range, interval_s: Fraction) -> Iterator[Frame]:
    """One picture at several ticks; each time the caller's own, to draw on."""
    for k in ticks:
        yield Frame(time_s=float(k * interval_s), rgb=rgb if k == ticks[-1] else rgb.copy())


def _decode_frames(path: Path, on_warning: WarningCallback | None) -> Iterator[_DecodedFrame]:
    """Shown frames in order; damaged packets are left out and told of once."""
    damage = _DamageWarning(path, on_warning)
    with open_container(path) as container:
        stream = require_video_stream(container, path)
        stream.thread_type = "AUTO"
        tick = stream.time_base
        assert tick is not None
        start: int | None = None
        before: int | None = None
        for packet in _demux_packets(container, stream, damage):
            try:
                pictures = packet.decode()
            except av.FFmpegError:
                damage.warn_once()
                continue
            for picture in pictures:
                assert isinstance(picture, av.VideoFrame)
                ticks = presentation_ticks(picture)
                if ticks is None or (before is not None and ticks <= before):
                    damage.warn_once()
                    continue
                if start is None:
                    start = ticks
                    check_frame_size(picture.width, picture.height, path)
                before = ticks
                yield _DecodedFrame(
                    time_s=(ticks - start) * tick,
                    image=picture,
                    sample_aspect_ratio=stream.sample_aspect_ratio,
                    time_base_s=tick,
                )
    if start is None:
        raise InputError(
            f"no frame of {printable_path(path)} can be decoded",
            hint=CONVERT_HINT.format(printable_path(path)),
        )


def _demux_packets(
    container: av.container.InputContainer, stream: av.VideoStream, damage: "_DamageWarning"
) -> "Iterator[av.Packet[av.VideoStream]]":
    """The packets of a stream, then the one that empties the decoder, over damaged places."""
    errors = 0
    while errors < MAX_CONSECUTIVE_READ_ERRORS:
        try:
            for packet in container.demux(stream):
                errors = 0
                yield packet
        except av.FFmpegError:
            errors += 1
            damage.warn_once()
        else:
            return


class _DamageWarning:
    """Says once that a file is damaged."""

    def __init__(self, path: Path, on_warning: WarningCallback | None) -> None:
        self._path = path
        self._on_warning = on_warning

    def warn_once(self) -> None:
        if self._on_warning is not None:
            self._on_warning(
                f"{printable_path(self._path)} is damaged: some frames are left out"
            )
            self._on_warning = None
