"""Rhythm of a video from optical flow, where no person is detected.

    frames -> optical flow -> trajectories of cells -> rhythm

Davis and Agrawala (2018) take their directogram from optical flow; LORIS (App. C) replaces
flow by poses because it is cheaper. Here flow is the fallback where there is no pose. The frame
is cut into cells, and the trajectory of the flow through a cell replaces a joint: everything
after that is the same as for poses.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from loris_cli.array_types import Array, Float32Array
from loris_cli.config import POSE_FPS
from loris_cli.errors import InputError
from loris_cli.rhythm.directogram import normalize_by_max
from loris_cli.rhythm.rhythm_file import Rhythm
from loris_cli.rhythm.trajectories import detect_trajectory_peaks, resample_positions
from loris_cli.video.frames import Frame

GreyImage = NDArray[np.uint8]

FLOW_WIDTH_PX = 128
"""Width of the image that flow is computed on."""

CELL_PX = 8
"""Side of a cell: 16 by 9 cells in a frame of 16:9."""

MIN_MOTION_PX = 0.25
"""A video whose fastest cells never move farther than this in 1/16 s does not move: of white
noise of 10 grey levels cells move by less than 0.1 pixels (docs/rhythm.md)."""


def rhythm_from_flow(frames: Iterable[Frame], *, fps: float = POSE_FPS) -> Rhythm:
    """Return the rhythm of the motion in a video.

    One pass over the frames; two small grey images are held at a time.

    Args:
        frames: of rising times, at ``fps`` or any other rate.
        fps: values of the envelope a second.

    Returns:
        Peaks and an envelope with one value at each ``k / fps``.

    Raises:
        InputError: there are fewer than three frames, or nothing moves.
    """
    trajectories = FlowTrajectories()
    for frame in frames:
        trajectories.add_frame(frame)
    return trajectories.compute_rhythm(fps=fps)


class FlowTrajectories:
    """Accumulated optical flow in each cell since the first frame.

    Frames are added one by one by the code that decodes them. Each belongs at its own time:
    a repeated frame would look like a stop.
    """

    def __init__(self) -> None:
        """Start before the first frame."""
        import cv2

        self._solver = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        # The preset stops at a quarter of the resolution and halves small displacements.
        self._solver.setFinestScale(1)
        self._times_s: list[float] = []
        self._displacements: list[Float32Array] = []
        self._previous_image: GreyImage | None = None

    def add_frame(self, frame: Frame) -> None:
        """Add the next frame; one that is not later than the one before is ignored.

        The median flow is the camera's and is subtracted.

        Raises:
            InputError: the frame size changes.
        """
        if self._times_s and frame.time_s <= self._times_s[-1]:
            return
        image, previous = _downscale_to_grey(frame.rgb), self._previous_image
        rows, columns = (side // CELL_PX for side in image.shape)
        if previous is None or previous.shape != image.shape:
            displacements = np.zeros((rows * columns, 2), dtype=np.float32)
        else:
            initial = np.zeros((*image.shape, 2), dtype=np.float32)
            flow = self._solver.calc(previous, image, initial)
            flow = flow - np.median(flow, axis=(0, 1))
            cells = flow[: rows * CELL_PX, : columns * CELL_PX]
            cells = cells.reshape(rows, CELL_PX, columns, CELL_PX, 2)
            displacements = cells.mean(axis=(1, 3)).reshape(-1, 2)
        if self._displacements and displacements.shape != self._displacements[0].shape:
            raise InputError("the frame size changes in the video", hint="convert the video")
        self._times_s.append(frame.time_s)
        self._displacements.append(displacements)
        self._previous_image = image

    def trajectories(self) -> tuple[Array, Array]:
        """Return px of the small image, ``(frames, cells, 2)``, and seconds, ``(frames,)``."""
        displacements = np.array(self._displacements, dtype=np.float64)
        return np.cumsum(displacements, axis=0), np.array(self._times_s)

    def compute_rhythm(self, *, fps: float = POSE_FPS) -> Rhythm:
        """Return the rhythm of the frames so far, as `rhythm_from_flow` does."""
        trajectories, times = self.trajectories()
        if len(times) < 3:
            raise InputError(f"{len(times)} frames are too few", hint="give a longer video")
        times -= times[0]
        n_frames = int(np.floor(times[-1] * fps + 1e-6)) + 1
        positions = resample_positions(trajectories, times, n_frames=n_frames, fps=fps)
        steps = np.linalg.norm(np.diff(positions, axis=0), axis=-1) * fps / POSE_FPS
        if not steps.size or float(np.quantile(steps, 0.98, axis=1).max()) < MIN_MOTION_PX:
            raise InputError("nothing moves in this video", hint="give a video with motion")
        # The frame replaces the performer: an arm's length is about a tenth of it.
        times_s, strengths, onsets = detect_trajectory_peaks(
            positions, np.ones(positions.shape[:2]), body_size=MIN_MOTION_PX * 10, fps=fps
        )
        return Rhythm(
            times_s=times_s,
            strengths=strengths,
            envelope=normalize_by_max(onsets),
            envelope_rate_hz=fps,
            method="flow",
            compat="paper",
            duration_s=n_frames / fps,
        )


def _downscale_to_grey(rgb: NDArray[np.uint8]) -> GreyImage:
    import cv2

    height, width = rgb.shape[:2]
    rows = max(round(height * FLOW_WIDTH_PX / width), 2 * CELL_PX)
    small = cv2.resize(rgb, (FLOW_WIDTH_PX, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
