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
from loris_cli.models.i3d_inception import INPUT_SIZE_PX, InceptionI3D
from loris_cli.models.i3d_resnet50 import I3DR50
from loris_cli.soundtrack.visual_features import VISUAL_FPS
from loris_cli.system.progress import Reporter
from loris_cli.video.frames import Frame, read_frames_at_fps
from loris_cli.video.probe import VideoInfo

Array = NDArray[np.float64]
Pixels = NDArray[np.uint8]
VisualEncoder = InceptionI3D | I3DR50

RESIZE_SHORT_SIDE_PX = 256
INCEPTION_CLIP_FRAMES = 400
"""So many go through the network together: 25 s, as in the released data."""
R50_FRAMES_PER_ROW = round(i3d_resnet50.INPUT_FPS / VISUAL_FPS)
"""From the first picture of a row of I3D-R50 to that of the next."""
R50_CLIP_SPAN_FRAMES = i3d_resnet50.FRAME_STRIDE * (i3d_resnet50.FRAMES_PER_CLIP - 1) + 1
"""So many pictures such a row spans."""
R50_GPU_BATCH_ROWS = 16
"""Of I3D-R50 on a GPU. A CPU gains nothing by more than one."""


def extract_visual_features(
    info: VideoInfo,
    encoder: VisualEncoder,
    *,
    device: torch.device,
    reporter: Reporter,
    span_s: tuple[float, float] | None = None,
) -> Array:
    """Features of a video, ``(rows, width)``, two rows a second.

    Args:
        info: of the video.
        encoder: from `networks.i3d.load_i3d` or `networks.i3d_r50.load_i3d_r50`.
        device: where it is.
        reporter: whom to tell.
        span_s: from and to; None is the whole video. A start that is not on the clock of the
            frames is put on it: by 0.05 s at most.
    """
    resnet = isinstance(encoder, I3DR50)
    fps = i3d_resnet50.INPUT_FPS if resnet else POSE_FPS
    start_s, stop_s = span_s or (0.0, info.duration_s)
    first, last = round(start_s * fps), round(stop_s * fps)
    if span_s is None:
        last = first + int(np.ceil(info.duration_s * fps)) + 1  # as many as there are
    elif resnet:
        last += R50_CLIP_SPAN_FRAMES - R50_FRAMES_PER_ROW  # what the last rows still see
    longer = max(info.width, info.height) / min(info.width, info.height)
    shown = read_frames_at_fps(
        info.path,
        fps,
        max_side_px=round(RESIZE_SHORT_SIDE_PX * longer),
        on_warning=reporter.warn,
    )
    with reporter.stage("picture", round((stop_s - start_s) * fps)) as advance:

        def told(frames: Iterable[Frame]) -> Iterator[Frame]:
            for frame in frames:
                yield frame
                advance(1)

        seen = told(islice(shown, first, last))
        rows = (
            extract_r50_rows(seen, encoder, device=device)
            if isinstance(encoder, I3DR50)
            else extract_inception_rows(seen, encoder, device=device)
        )
        found = np.concatenate(list(rows)).astype(np.float64)
    return found if span_s is None else fit_rows_to_duration(found, stop_s - start_s)


def fit_rows_to_duration(rows: Array, duration_s: float) -> Array:
    """As many rows as a stretch has; the last stands for those that its end cost."""
    n_rows = round(duration_s * VISUAL_FPS)
    return rows[np.minimum(np.arange(n_rows), len(rows) - 1)]


def extract_inception_rows(
    video_frames: Iterable[Frame], network: InceptionI3D, *, device: torch.device
) -> Iterator[Array]:
    """Rows of frames at 16 a second, a row for every 8."""
    for clip in _inception_clips(video_frames):
        pictures = torch.from_numpy(clip).to(device).permute(3, 0, 1, 2)[None]
        with torch.inference_mode():
            yield network(pictures.float() / 127.5 - 1)[0].cpu().numpy()


def extract_r50_rows(
    video_frames: Iterable[Frame], network: I3DR50, *, device: torch.device
) -> Iterator[Array]:
    """Rows of frames at 10 a second, a row for every 5.

    Args:
        video_frames: as they come; no more than a row spans are held.
        network: of I3D-R50.
        device: where it is.

    Yields:
        ``(rows, 2048)``; a row that begins so late that its pictures end before it does sees
        the last one more than once.
    """
    spans = _r50_clips(
        center_crop(frame.rgb, i3d_resnet50.INPUT_SIZE_PX) for frame in video_frames
    )
    at_once = 1 if device.type == "cpu" else R50_GPU_BATCH_ROWS
    while some := list(islice(spans, at_once)):
        pictures = torch.from_numpy(np.stack(some)).to(device).permute(0, 4, 1, 2, 3)
        with torch.inference_mode():
            yield network(pictures.float() / 255).cpu().numpy()


def _r50_clips(pictures: Iterable[Pixels]) -> Iterator[Pixels]:
    """Eight pictures of each row, ``(8, rows, columns, 3)``."""
    held: list[Pixels] = []
    for picture in pictures:
        held.append(picture)
        if len(held) == R50_CLIP_SPAN_FRAMES:
            yield np.stack(held[:: i3d_resnet50.FRAME_STRIDE])
            del held[:R50_FRAMES_PER_ROW]
    while held:
        padded = held + held[-1:] * (R50_CLIP_SPAN_FRAMES - len(held))
        yield np.stack(padded[:: i3d_resnet50.FRAME_STRIDE])
        del held[:R50_FRAMES_PER_ROW]


def _inception_clips(video_frames: Iterable[Frame]) -> Iterator[Pixels]:
    """``(frames, 224, 224, 3)``, all of one length but the last."""
    clip: list[Pixels] = []
    for frame in video_frames:
        clip.append(center_crop(frame.rgb))
        if len(clip) == INCEPTION_CLIP_FRAMES:
            yield np.stack(clip)
            clip = []
    if clip:
        yield np.stack(clip)


def center_crop(rgb: Pixels, side_px: int = INPUT_SIZE_PX) -> Pixels:
    """The middle of a picture whose short side is scaled to 256 px, ``(side, side, 3)``."""
    import cv2

    height, width = rgb.shape[:2]
    scale = RESIZE_SHORT_SIDE_PX / min(height, width)
    size = (max(round(width * scale), side_px), max(round(height * scale), side_px))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR)
    top, left = (small.shape[0] - side_px) // 2, (small.shape[1] - side_px) // 2
    middle: Pixels = small[top : top + side_px, left : left + side_px].astype(np.uint8)
    return middle
