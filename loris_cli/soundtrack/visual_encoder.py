"""Features of a video's picture by a network for action recognition, 2 rows a second.

frames at 16 or 10 a second -> short side 256 px -> middle -> clip by clip -> rows

The Inception I3D sees 400 frames at once and makes a row of 8. I3D-R50 sees eight pictures of
2.1 s for each row: row ``k`` is of those from ``k / 2`` s on. Neither holds more than its clip,
however long the video is.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from loris_cli.config import POSE_FPS
from loris_cli.models import i3d_resnet50
from loris_cli.models.i3d_inception import SIDE_PX, InceptionI3D
from loris_cli.models.i3d_resnet50 import I3DR50
from loris_cli.soundtrack.visual_features import VISUAL_FPS
from loris_cli.system.progress import Reporter
from loris_cli.video.frames import Frame, frames_at
from loris_cli.video.probe import VideoInfo

Array = NDArray[np.float64]
Pixels = NDArray[np.uint8]
Seer = InceptionI3D | I3DR50

SHORT_SIDE_PX = 256
CLIP_FRAMES = 400
"""So many go through the network together: 25 s, as in the released data."""
ROW_PICTURES = round(i3d_resnet50.FPS / VISUAL_FPS)
"""From the first picture of a row of I3D-R50 to that of the next."""
REACH = i3d_resnet50.APART * (i3d_resnet50.PICTURES - 1) + 1
"""So many pictures such a row spans."""
ROWS_AT_ONCE = 16
"""Of I3D-R50 on a GPU. A CPU gains nothing by more than one."""


def features_of_picture(
    info: VideoInfo,
    network: Seer,
    *,
    device: torch.device,
    reporter: Reporter,
    span_s: tuple[float, float] | None = None,
) -> Array:
    """Features of a video, ``(rows, width)``, two rows a second.

    Args:
        info: of the video.
        network: from `networks.i3d.load_i3d` or `networks.i3d_r50.load_i3d_r50`.
        device: where it is.
        reporter: whom to tell.
        span_s: from and to; None is the whole video. A start that is not on the clock of the
            frames is put on it: by 0.05 s at most.
    """
    resnet = isinstance(network, I3DR50)
    fps = i3d_resnet50.FPS if resnet else POSE_FPS
    start_s, stop_s = span_s or (0.0, info.duration_s)
    first, last = round(start_s * fps), round(stop_s * fps)
    if span_s is None:
        last = first + int(np.ceil(info.duration_s * fps)) + 1  # as many as there are
    elif resnet:
        last += REACH - ROW_PICTURES  # what the last rows still see
    longer = max(info.width, info.height) / min(info.width, info.height)
    shown = frames_at(
        info.path,
        fps,
        max_side_px=round(SHORT_SIDE_PX * longer),
        on_warning=reporter.warn,
    )
    with reporter.stage("picture", round((stop_s - start_s) * fps)) as advance:

        def told(frames: Iterable[Frame]) -> Iterator[Frame]:
            for frame in frames:
                yield frame
                advance(1)

        seen = told(islice(shown, first, last))
        rows = (
            rows_of_resnet(seen, network, device=device)
            if isinstance(network, I3DR50)
            else rows_of_inception(seen, network, device=device)
        )
        found = np.concatenate(list(rows)).astype(np.float64)
    return found if span_s is None else whole(found, stop_s - start_s)


def whole(rows: Array, seconds: float) -> Array:
    """As many rows as a stretch has; the last stands for those that its end cost."""
    n_rows = round(seconds * VISUAL_FPS)
    return rows[np.minimum(np.arange(n_rows), len(rows) - 1)]


def rows_of_inception(
    shown: Iterable[Frame], network: InceptionI3D, *, device: torch.device
) -> Iterator[Array]:
    """Rows of frames at 16 a second, a row for every 8."""
    for clip in _clips(shown):
        pictures = torch.from_numpy(clip).to(device).permute(3, 0, 1, 2)[None]
        with torch.inference_mode():
            yield network(pictures.float() / 127.5 - 1)[0].cpu().numpy()


def rows_of_resnet(
    shown: Iterable[Frame], network: I3DR50, *, device: torch.device
) -> Iterator[Array]:
    """Rows of frames at 10 a second, a row for every 5.

    Args:
        shown: as they come; no more than a row spans are held.
        network: of I3D-R50.
        device: where it is.

    Yields:
        ``(rows, 2048)``; a row that begins so late that its pictures end before it does sees
        the last one more than once.
    """
    spans = _spans(middle_of(frame.rgb, i3d_resnet50.SIDE_PX) for frame in shown)
    at_once = 1 if device.type == "cpu" else ROWS_AT_ONCE
    while some := list(islice(spans, at_once)):
        pictures = torch.from_numpy(np.stack(some)).to(device).permute(0, 4, 1, 2, 3)
        with torch.inference_mode():
            yield network(pictures.float() / 255).cpu().numpy()


def _spans(pictures: Iterable[Pixels]) -> Iterator[Pixels]:
    """Eight pictures of each row, ``(8, rows, columns, 3)``."""
    held: list[Pixels] = []
    for picture in pictures:
        held.append(picture)
        if len(held) == REACH:
            yield np.stack(held[:: i3d_resnet50.APART])
            del held[:ROW_PICTURES]
    while held:
        padded = held + held[-1:] * (REACH - len(held))
        yield np.stack(padded[:: i3d_resnet50.APART])
        del held[:ROW_PICTURES]


def _clips(shown: Iterable[Frame]) -> Iterator[Pixels]:
    """``(frames, 224, 224, 3)``, all of one length but the last."""
    clip: list[Pixels] = []
    for frame in shown:
        clip.append(middle_of(frame.rgb))
        if len(clip) == CLIP_FRAMES:
            yield np.stack(clip)
            clip = []
    if clip:
        yield np.stack(clip)


def middle_of(rgb: Pixels, side_px: int = SIDE_PX) -> Pixels:
    """The middle of a picture whose short side is scaled to 256 px, ``(side, side, 3)``."""
    import cv2

    height, width = rgb.shape[:2]
    scale = SHORT_SIDE_PX / min(height, width)
    size = (max(round(width * scale), side_px), max(round(height * scale), side_px))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR)
    top, left = (small.shape[0] - side_px) // 2, (small.shape[1] - side_px) // 2
    middle: Pixels = small[top : top + side_px, left : left + side_px].astype(np.uint8)
    return middle
