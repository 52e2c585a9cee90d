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
from loris_cli.system.atomic_files import printable
from loris_cli.video.frame_conversion import Pixels, Upright

from .containers import CONVERT, check_size, main_video, opened, ticks_of
from .probe import probe

Warn = Callable[[str], None]

MAX_READ_ERRORS = 100  # in a row


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One picture of a video.

    Args:
        time_s: seconds since the first shown frame.
        rgb: ``(height, width, 3)`` uint8, upright.
    """

    time_s: float
    rgb: Pixels


@dataclass(frozen=True, kw_only=True, eq=False)
class _Decoded:
    time_s: Fraction
    picture: av.VideoFrame
    aspect: Fraction | None
    tick_s: Fraction


class Watch:
    """One who sees every shown frame of a video, small, while another pass is made over it.

    Args:
        see: told each frame; False once it has seen enough.
        max_side_px: how large it needs them.
    """

    def __init__(self, see: "Callable[[Frame], bool]", *, max_side_px: int) -> None:
        """Begin before the first frame."""
        self._see, self._max_side_px = see, max_side_px
        self._upright: Upright | None = None
        self._awake = True

    def show(self, shown: _Decoded) -> None:
        """Show one frame, unless enough were seen."""
        if not self._awake:
            return
        if self._upright is None:
            self._upright = Upright(
                shown.picture, aspect=shown.aspect, max_side_px=self._max_side_px
            )
        self._awake = self._see(
            Frame(time_s=float(shown.time_s), rgb=self._upright(shown.picture))
        )


def frames(
    path: Path, *, max_side_px: int | None = None, on_warning: Warn | None = None
) -> Iterator[Frame]:
    """Every frame that is shown, once, in the order of showing.

    Args:
        path: a video.
        max_side_px: scale down until the long side is no more than this.
        on_warning: told once if parts of the file are damaged and were left out.

    Yields:
        Frames of one size, times strictly rising from 0.
    """
    upright: Upright | None = None
    for shown in _decoded(path, on_warning):
        if upright is None:
            upright = Upright(shown.picture, aspect=shown.aspect, max_side_px=max_side_px)
        yield Frame(time_s=float(shown.time_s), rgb=upright(shown.picture))


def frames_at(
    path: Path,
    fps: float,
    *,
    max_side_px: int | None = None,
    on_warning: Warn | None = None,
    watch: "Watch | None" = None,
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
        watch: sees every frame that is shown, at its own time, in the same pass.

    Yields:
        Frames of one size with ``time_s = k / fps``, for all ``k`` with ``k / fps`` below
        the duration.
    """
    step = 1 / Fraction(fps)
    n_frames = math.ceil(Fraction(probe(path).duration_s).limit_denominator(10**7) / step)
    upright: Upright | None = None
    shown: _Decoded | None = None
    k = 0
    for coming in _decoded(path, on_warning):
        if watch is not None:
            watch.show(coming)
        if shown is None or upright is None:
            upright = Upright(coming.picture, aspect=coming.aspect, max_side_px=max_side_px)
        else:
            until = min(n_frames, math.ceil((coming.time_s - coming.tick_s / 2) / step))
            if until > k:
                yield from _held(upright(shown.picture), range(k, until), step)
                k = until
        if k == n_frames:
            return
        shown = coming
    assert upright is not None
    assert shown is not None
    yield from _held(upright(shown.picture), range(k, n_frames), step)


def _held(rgb: Pixels, ticks: range, step: Fraction) -> Iterator[Frame]:
    """One picture at several ticks; each time the caller's own, to draw on."""
    for k in ticks:
        yield Frame(time_s=float(k * step), rgb=rgb if k == ticks[-1] else rgb.copy())


def _decoded(path: Path, on_warning: Warn | None) -> Iterator[_Decoded]:
    """Shown frames in order; damaged packets are left out and told of once."""
    damage = _Damage(path, on_warning)
    with opened(path) as container:
        stream = main_video(container, path)
        stream.thread_type = "AUTO"
        tick = stream.time_base
        assert tick is not None
        start: int | None = None
        before: int | None = None
        for packet in _packets(container, stream, damage):
            try:
                pictures = packet.decode()
            except av.FFmpegError:
                damage.tell()
                continue
            for picture in pictures:
                assert isinstance(picture, av.VideoFrame)
                ticks = ticks_of(picture)
                if ticks is None or (before is not None and ticks <= before):
                    damage.tell()
                    continue
                if start is None:
                    start = ticks
                    check_size(picture.width, picture.height, path)
                before = ticks
                yield _Decoded(
                    time_s=(ticks - start) * tick,
                    picture=picture,
                    aspect=stream.sample_aspect_ratio,
                    tick_s=tick,
                )
    if start is None:
        raise InputError(
            f"no frame of {printable(path)} can be decoded",
            hint=CONVERT.format(printable(path)),
        )


def _packets(
    container: av.container.InputContainer, stream: av.VideoStream, damage: "_Damage"
) -> "Iterator[av.Packet[av.VideoStream]]":
    """The packets of a stream, then the one that empties the decoder, over damaged places."""
    errors = 0
    while errors < MAX_READ_ERRORS:
        try:
            for packet in container.demux(stream):
                errors = 0
                yield packet
        except av.FFmpegError:
            errors += 1
            damage.tell()
        else:
            return


class _Damage:
    """Says once that a file is damaged."""

    def __init__(self, path: Path, on_warning: Warn | None) -> None:
        self._path = path
        self._on_warning = on_warning

    def tell(self) -> None:
        if self._on_warning is not None:
            self._on_warning(f"{printable(self._path)} is damaged: some frames are left out")
            self._on_warning = None
