"""Extraction of visual features with an action recognition network, two rows per second.

frames at 16 or 10 fps -> short side 256 px -> center crop -> clips -> rows

Inception I3D processes 400 frames at once and returns one row per 8 frames. I3D-R50 processes
eight frames over 2.1 s for each row; the clip of row ``k`` starts at ``k / 2`` s. Only the
frames of the current clip are held in memory, regardless of the duration of the video.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from loris_cli.array_types import Array
from loris_cli.config import POSE_FPS
from loris_cli.errors import UsageError, WeightsError
from loris_cli.models import i3d_resnet50
from loris_cli.models.i3d_inception import INPUT_SIZE_PX, InceptionI3D, load_inception_i3d
from loris_cli.models.i3d_resnet50 import I3DR50, find_i3d_r50_weights, load_i3d_r50
from loris_cli.soundtrack.visual_features import VISUAL_FPS, VisualSource, slice_rows
from loris_cli.system.device import resolve_device
from loris_cli.system.file_fingerprints import FileFingerprint, fingerprint_file
from loris_cli.system.progress import Reporter
from loris_cli.system.threads import map_rows
from loris_cli.video.frames import Frame, read_frames_at_fps
from loris_cli.video.probe import VideoInfo

Pixels = NDArray[np.uint8]
VisualEncoder = InceptionI3D | I3DR50

RESIZE_SHORT_SIDE_PX = 256
INCEPTION_CLIP_FRAMES = 400
"""Frames per clip of Inception I3D: 25 s, as in the released data."""
R50_FRAMES_PER_ROW = round(i3d_resnet50.INPUT_FPS / VISUAL_FPS)
"""Frames between the clips of consecutive rows of I3D-R50."""
R50_CLIP_SPAN_FRAMES = i3d_resnet50.FRAME_STRIDE * (i3d_resnet50.FRAMES_PER_CLIP - 1) + 1
"""Frames spanned by the clip of a row of I3D-R50."""
R50_GPU_BATCH_ROWS = 16
"""Batch size of I3D-R50 on a GPU. Batches larger than one are not faster on a CPU."""


def resolve_visual_weights(
    source: VisualSource, *, offline: bool, reporter: Reporter
) -> tuple[str, FileFingerprint]:
    """Return the network name and the weights file of a source of visual features.

    Args:
        source: source of the features.
        offline: do not download weights.
        reporter: receives progress and warnings.

    Raises:
        UsageError: the source is a feature file, which belongs to a single video.
        WeightsError: the weights were not found.
    """
    if source.network is None:
        raise UsageError(f"{source} is not an encoder", hint="pass i3d-r50 or i3d=FILE")
    if source.network == "i3d-r50":
        weights = find_i3d_r50_weights(source.path, offline=offline, reporter=reporter)
        return source.network, weights
    assert source.path is not None
    if not source.path.is_file():
        raise WeightsError(f"no such file: {source.path}", hint="pass i3d=FILE")
    return source.network, fingerprint_file(source.path)


@cache
def load_visual_encoder(network: str, weights: FileFingerprint, device: str) -> VisualEncoder:
    """Load a network for visual features; cached per process.

    Raises:
        MissingDependencyError: a required package is not installed.
        WeightsError: the weights are those of another network.
    """
    if network == "i3d-r50":
        return load_i3d_r50(weights, device=resolve_device(device))
    return load_inception_i3d(weights.path, device=resolve_device(device))


def extract_visual_features(
    info: VideoInfo,
    encoder: VisualEncoder,
    *,
    device: torch.device,
    reporter: Reporter,
    span_s: tuple[float, float] | None = None,
) -> Array:
    """Return the visual features of a video, ``(rows, width)``, two rows per second.

    Args:
        info: properties of the video.
        encoder: from `load_visual_encoder`.
        device: device of the encoder.
        reporter: receives progress and warnings.
        span_s: start and end time in seconds; None is the entire video. The start is rounded
            to the nearest frame, by at most 0.05 s.
    """
    is_r50 = isinstance(encoder, I3DR50)
    fps = i3d_resnet50.INPUT_FPS if is_r50 else POSE_FPS
    start_s, stop_s = span_s or (0.0, info.duration_s)
    first, last = round(start_s * fps), round(stop_s * fps)
    if span_s is None:
        last = first + int(np.ceil(info.duration_s * fps)) + 1  # includes the last frame
    elif is_r50:
        last += R50_CLIP_SPAN_FRAMES - R50_FRAMES_PER_ROW  # frames of the last rows' clips
    aspect_ratio = max(info.width, info.height) / min(info.width, info.height)
    side_px = round(RESIZE_SHORT_SIDE_PX * aspect_ratio)
    frames = read_frames_at_fps(info, fps, max_side_px=side_px, on_warning=reporter.warn)
    with reporter.stage("visual features", round((stop_s - start_s) * fps)) as advance:

        def with_progress(frames: Iterable[Frame]) -> Iterator[Frame]:
            for frame in frames:
                yield frame
                advance(1)

        span_frames = with_progress(islice(frames, first, last))
        if isinstance(encoder, I3DR50):
            rows = extract_r50_rows(span_frames, encoder, device=device)
        else:
            rows = extract_inception_rows(span_frames, encoder, device=device)
        features = np.concatenate(list(rows)).astype(np.float64)
    if span_s is None:
        return features
    return slice_rows(features, 0, round((stop_s - start_s) * VISUAL_FPS))


def extract_inception_rows(
    frames: Iterable[Frame], network: InceptionI3D, *, device: torch.device
) -> Iterator[Array]:
    """Yield feature rows of frames at 16 fps, one row per 8 frames, rounded up.

    Args:
        frames: video frames, read on demand; 400 at a time are in memory.
        network: Inception I3D.
        device: device of the network.

    Yields:
        ``(rows, 1024)`` for each 400 frames.
    """
    crops = (center_crop(frame.rgb) for frame in frames)
    clips = iter(lambda: list(islice(crops, INCEPTION_CLIP_FRAMES)), [])

    @torch.inference_mode()
    def encode(clip: list[Pixels]) -> Array:
        pixels = torch.from_numpy(np.stack(clip)).to(device).permute(3, 0, 1, 2)[None]
        return np.asarray(network(pixels.float() / 127.5 - 1)[0].cpu().numpy())

    yield from map_rows(encode, clips)


def extract_r50_rows(
    frames: Iterable[Frame], network: I3DR50, *, device: torch.device
) -> Iterator[Array]:
    """Yield feature rows of frames at 10 fps, one row per 5 frames.

    Args:
        frames: video frames, read on demand; only those of the current rows are in memory.
        network: I3D-R50.
        device: device of the network.

    Yields:
        ``(rows, 2048)``; clips that extend beyond the last frame repeat that frame.
    """
    clips = _r50_clips(center_crop(frame.rgb, i3d_resnet50.INPUT_SIZE_PX) for frame in frames)
    batch_size = 1 if device.type == "cpu" else R50_GPU_BATCH_ROWS
    batches = iter(lambda: list(islice(clips, batch_size)), [])

    @torch.inference_mode()
    def encode(batch: list[Pixels]) -> Array:
        pixels = torch.from_numpy(np.stack(batch)).to(device).permute(0, 4, 1, 2, 3)
        return np.asarray(network(pixels.float() / 255).cpu().numpy())

    yield from map_rows(encode, batches)


def _r50_clips(frames: Iterable[Pixels]) -> Iterator[Pixels]:
    """Yield the eight frames of each feature row, ``(8, height, width, 3)``."""
    buffer: list[Pixels] = []
    for frame in frames:
        buffer.append(frame)
        if len(buffer) == R50_CLIP_SPAN_FRAMES:
            yield np.stack(buffer[:: i3d_resnet50.FRAME_STRIDE])
            del buffer[:R50_FRAMES_PER_ROW]
    while buffer:
        padded = buffer + buffer[-1:] * (R50_CLIP_SPAN_FRAMES - len(buffer))
        yield np.stack(padded[:: i3d_resnet50.FRAME_STRIDE])
        del buffer[:R50_FRAMES_PER_ROW]


def center_crop(rgb: Pixels, side_px: int = INPUT_SIZE_PX) -> Pixels:
    """Scale the short side of a frame to 256 px, and return a center crop.

    Args:
        rgb: ``(height, width, 3)`` uint8.
        side_px: side length of the crop.

    Returns:
        ``(side_px, side_px, 3)`` uint8.
    """
    import cv2

    height, width = rgb.shape[:2]
    scale = RESIZE_SHORT_SIDE_PX / min(height, width)
    size = (max(round(width * scale), side_px), max(round(height * scale), side_px))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR)
    top, left = (small.shape[0] - side_px) // 2, (small.shape[1] - side_px) // 2
    center: Pixels = small[top : top + side_px, left : left + side_px].astype(np.uint8)
    return center
