"""The rhythm of a picture in which nobody is seen.

    frames -> optical flow -> paths of cells -> rhythm

Davis and Agrawala (2018) take their directogram from optical flow; LORIS (App. C) replaces
flow by poses because it is cheaper. Without a body flow is what is left. The picture is cut
into cells, and the path that has flowed through a cell plays the part of a joint: all that
follows is the same as for a body.
"""

from collections.abc import Iterable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from loris_cli.config import POSE_FPS
from loris_cli.errors import InputError
from loris_cli.rhythm.directogram import normalize_by_max
from loris_cli.rhythm.rhythm_file import Rhythm
from loris_cli.rhythm.trajectories import detect_trajectory_peaks, resample_trajectories

Array = NDArray[np.float64]
GreyImage = NDArray[np.uint8]

FLOW_WIDTH_PX = 128
"""Width of the picture that flow is computed on."""

CELL_PX = 8
"""Side of a cell: 16 by 9 cells in a picture of 16:9."""

MIN_MOTION_PX = 0.25
"""A picture whose fastest cells never move farther than this in 1/16 s does not move: of white
noise of 10 grey levels cells move by less than 0.1 pixels (docs/rhythm.md)."""


class TimedFrame(Protocol):
    """A picture and the moment it is shown."""

    @property
    def time_s(self) -> float:
        """Seconds since the first picture."""

    @property
    def rgb(self) -> NDArray[np.uint8]:
        """``(height, width, 3)``."""


def rhythm_from_flow(frames: Iterable[TimedFrame], *, fps: float = POSE_FPS) -> Rhythm:
    """The moments at which the movement in a picture stops.

    One pass over the frames; two small grey pictures are held at a time.

    Args:
        frames: of rising times, at ``fps`` or any other rate.
        fps: values of the envelope a second.

    Returns:
        Peaks and an envelope with one value at each ``k / fps``.

    Raises:
        InputError: there are fewer than three frames, or nothing moves.
    """
    paths = FlowTrajectories()
    for frame in frames:
        paths.add_frame(frame)
    return paths.compute_rhythm(fps=fps)


class FlowTrajectories:
    """How far the picture has flowed through each of its cells since the first frame.

    Frames are handed over one by one, by whoever decodes them. Each belongs at its own time:
    one that is shown twice would look like a stop.
    """

    def __init__(self) -> None:
        """Begin before the first frame."""
        import cv2

        self._solver = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        # The preset stops at a quarter of the resolution and sees half of a small way.
        self._solver.setFinestScale(1)
        self._times_s: list[float] = []
        self._displacements: list[NDArray[np.float32]] = []
        self._previous_image: GreyImage | None = None

    def add_frame(self, frame: TimedFrame) -> None:
        """See the next frame; one that is not later than the one before is left out.

        The median flow is the camera's and is taken away.

        Raises:
            InputError: the picture changes its size.
        """
        if self._times_s and frame.time_s <= self._times_s[-1]:
            return
        now = _downscale_to_grey(frame.rgb)
        rows, columns = (side // CELL_PX for side in now.shape)
        if self._previous_image is None or self._previous_image.shape != now.shape:
            way = np.zeros((rows * columns, 2), dtype=np.float32)
        else:
            still = np.zeros((*now.shape, 2), dtype=np.float32)
            flow = self._solver.calc(self._previous_image, now, still)
            flow = flow - np.median(flow, axis=(0, 1))
            whole = flow[: rows * CELL_PX, : columns * CELL_PX]
            way = whole.reshape(rows, CELL_PX, columns, CELL_PX, 2).mean(axis=(1, 3))
            way = way.reshape(-1, 2)
        if self._displacements and way.shape != self._displacements[0].shape:
            raise InputError(
                "the picture changes its size on the way", hint="convert the video"
            )
        self._times_s.append(frame.time_s)
        self._displacements.append(way)
        self._previous_image = now

    def trajectories(self) -> tuple[Array, Array]:
        """Pixels of the small picture, ``(frames, cells, 2)``, and seconds, ``(frames,)``."""
        if not self._displacements:
            return np.zeros((0, 0, 2)), np.zeros(0)
        return np.cumsum(np.array(self._displacements, dtype=np.float64), axis=0), np.array(
            self._times_s
        )

    def compute_rhythm(self, *, fps: float = POSE_FPS) -> Rhythm:
        """The rhythm of what was seen, as `rhythm_from_flow` tells."""
        paths, times = self.trajectories()
        if len(times) < 3:
            raise InputError(
                f"{len(times)} frames are too few to see a movement", hint="give a longer video"
            )
        n_frames = int(np.floor((times[-1] - times[0]) * fps + 1e-6)) + 1
        positions = resample_trajectories(paths, times - times[0], n_frames=n_frames, fps=fps)
        ways = np.linalg.norm(np.diff(positions, axis=0), axis=-1) * fps / POSE_FPS
        if not ways.size or float(np.quantile(ways, 0.98, axis=1).max()) < MIN_MOTION_PX:
            raise InputError(
                "nothing moves in this video",
                hint="give a video in which somebody or something moves",
            )
        # The picture takes the place of the body: an arm's length is about a tenth of it.
        found, strengths, rise = detect_trajectory_peaks(
            positions, np.ones(positions.shape[:2]), body_size=MIN_MOTION_PX * 10, fps=fps
        )
        return Rhythm(
            times_s=found,
            strengths=strengths,
            envelope=normalize_by_max(rise),
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
    grey: GreyImage = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.uint8)
    return grey
