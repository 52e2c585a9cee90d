"""Features of a video's picture by the user's I3D: 16 pictures a second in, 2 rows out.

frames -> short side 256 px -> middle 224 x 224 -> clip by clip through the network -> rows
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from loris_cli.config import POSE_FPS
from loris_cli.networks.i3d import SIDE_PX, InceptionI3D
from loris_cli.reporting import Reporter
from loris_cli.video.frames import Frame, frames_at
from loris_cli.video.probe import VideoInfo

Array = NDArray[np.float64]
Pixels = NDArray[np.uint8]

SHORT_SIDE_PX = 256
CLIP_FRAMES = 400
"""So many go through the network together: 25 s, as in the released data."""


def features_of_picture(
    info: VideoInfo, network: InceptionI3D, *, device: torch.device, reporter: Reporter
) -> Array:
    """Features of a whole video, ``(rows, 1024)``, a row for every 8 frames at 16 a second.

    Args:
        info: of the video.
        network: from `loris_cli.networks.i3d.load_i3d`.
        device: where it is.
        reporter: whom to tell.
    """
    longer = max(info.width, info.height) / min(info.width, info.height)
    shown = frames_at(
        info.path,
        POSE_FPS,
        max_side_px=round(SHORT_SIDE_PX * longer),
        on_warning=reporter.warn,
    )
    rows = []
    with reporter.stage("picture", round(info.duration_s * POSE_FPS)) as advance:
        for clip in _clips(shown):
            pictures = torch.from_numpy(clip).to(device).permute(3, 0, 1, 2)[None]
            with torch.inference_mode():
                rows.append(network(pictures.float() / 127.5 - 1)[0].cpu().numpy())
            advance(len(clip))
    return np.concatenate(rows).astype(np.float64)


def _clips(shown: Iterator[Frame]) -> Iterator[Pixels]:
    """``(frames, 224, 224, 3)``, all of one length but the last."""
    clip: list[Pixels] = []
    for frame in shown:
        clip.append(middle_of(frame.rgb))
        if len(clip) == CLIP_FRAMES:
            yield np.stack(clip)
            clip = []
    if clip:
        yield np.stack(clip)


def middle_of(rgb: Pixels) -> Pixels:
    """The middle of a picture whose short side is scaled to 256 px, ``(224, 224, 3)``."""
    import cv2

    height, width = rgb.shape[:2]
    scale = SHORT_SIDE_PX / min(height, width)
    size = (max(round(width * scale), SIDE_PX), max(round(height * scale), SIDE_PX))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR)
    top, left = (small.shape[0] - SIDE_PX) // 2, (small.shape[1] - SIDE_PX) // 2
    middle: Pixels = small[top : top + SIDE_PX, left : left + SIDE_PX].astype(np.uint8)
    return middle
