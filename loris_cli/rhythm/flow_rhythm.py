"""Rhythm of a video from optical flow, for videos in which no person is detected.

    frames -> optical flow -> trajectories of cells -> rhythm

Davis and Agrawala (2018) compute the directogram from optical flow. LORIS (App. C) uses poses
instead, because they are cheaper. Here, flow is the fallback for videos without poses. The
frame is divided into cells. The accumulated flow of a cell replaces the trajectory of a joint;
all later steps are the same as for poses.
"""

from array import array
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from loris_cli.array_types import Array, Float32Array
from loris_cli.config import POSE_FPS
from loris_cli.errors import InputError
from loris_cli.rhythm.block_matching import match_blocks
from loris_cli.rhythm.directogram import normalize_by_max
from loris_cli.rhythm.impact_refinement import WINDOW_PERIODS, refine_impact
from loris_cli.rhythm.rhythm_file import Rhythm
from loris_cli.rhythm.trajectories import detect_trajectory_peaks, resample_positions
from loris_cli.video.frames import Frame

GreyImage = NDArray[np.uint8]

FLOW_WIDTH_PX = 128
"""Width of the downscaled image used for optical flow."""

CELL_PX = 8
"""Side of a cell; a 16:9 frame has 16 by 9 cells."""

BLOCK_FRAMES = 1024
"""Frames that are resampled together, which limits the memory for long videos."""

MAX_FLOW_INTERVAL_S = 0.045
"""If frames are farther apart, block matching initializes the flow: of movements of 8 to 13 px,
optical flow alone recovers one in ten."""

MIN_MOTION_PX = 0.25
"""A video is static if its fastest cells never move farther than this in 1/16 s. White noise of
10 grey levels moves cells by less than 0.1 pixels (docs/experiments/rhythm.md)."""


def rhythm_from_flow(frames: Iterable[Frame], *, fps: float = POSE_FPS) -> Rhythm:
    """Compute the rhythm of the motion in a video.

    Reads the frames once and stores only two downscaled grey images at a time.

    Args:
        frames: frames with increasing times, at any rate.
        fps: rate of the envelope.

    Returns:
        Peaks, and an envelope with one value at each ``k / fps``.

    Raises:
        InputError: the video has fewer than three frames, or contains no motion.
    """
    trajectories = FlowTrajectories()
    for frame in frames:
        trajectories.add_frame(frame)
    return trajectories.compute_rhythm(fps=fps)


class FlowTrajectories:
    """Optical flow of each cell, accumulated since the first frame.

    The decoding loop adds the frames one by one, at their original times: a frame repeated to
    reach a constant rate would appear as a stop.
    """

    def __init__(self) -> None:
        """Create empty trajectories."""
        import cv2

        self._solver = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        # The preset's finest scale is a quarter of the resolution, which halves small
        # displacements.
        self._solver.setFinestScale(1)
        self._times_s = array("d")
        self._displacements: list[Float32Array] = []
        self._previous_image: GreyImage | None = None

    def add_frame(self, frame: Frame) -> None:
        """Add the next frame; it is ignored if it is not later than the previous one.

        The median flow is subtracted as an estimate of camera motion.

        Raises:
            InputError: the frame size changed.
        """
        if self._times_s and frame.time_s <= self._times_s[-1]:
            return
        image, previous = _downscale_to_grey(frame.rgb), self._previous_image
        rows, columns = (side // CELL_PX for side in image.shape)
        if previous is None or previous.shape != image.shape:
            displacements = np.zeros((rows * columns, 2), dtype=np.float32)
        else:
            if frame.time_s - self._times_s[-1] > MAX_FLOW_INTERVAL_S:
                initial = match_blocks(previous, image, cell_px=CELL_PX)
            else:
                initial = np.zeros((*image.shape, 2), dtype=np.float32)
            flow = self._solver.calc(previous, image, initial)
            flow = flow - np.median(flow, axis=(0, 1))
            cells = flow[: rows * CELL_PX, : columns * CELL_PX]
            cells = cells.reshape(rows, CELL_PX, columns, CELL_PX, 2)
            displacements = cells.mean(axis=(1, 3)).reshape(-1, 2)
        if self._displacements and displacements.shape != self._displacements[0].shape:
            raise InputError("the frame size changes in the video", hint="re-encode the video")
        self._times_s.append(frame.time_s)
        self._displacements.append(displacements)
        self._previous_image = image

    def trajectories(self) -> tuple[Array, Array]:
        """Return positions and times of the frames.

        Returns:
            Positions in px of the downscaled image, ``(frames, cells, 2)``, and times in
            seconds, ``(frames,)``.
        """
        displacements = np.array(self._displacements, dtype=np.float64)
        return np.cumsum(displacements, axis=0), np.array(self._times_s)

    def resample(self, *, fps: float) -> tuple[Array, Array]:
        """Return positions at a constant rate, computed block by block.

        Args:
            fps: frame rate of the result.

        Returns:
            Positions in px of the downscaled image at ``k / fps`` after the first frame,
            ``(frames, cells, 2)`` float32, and the motion of the fastest cells in each
            interval, px, ``(frames - 1,)``.
        """
        times = np.array(self._times_s) - self._times_s[0]
        n_frames = int(np.floor(times[-1] * fps + 1e-6)) + 1
        positions = np.zeros((n_frames, *self._displacements[0].shape), np.float32)
        last = np.zeros(self._displacements[0].shape)
        for start in range(1, len(times), BLOCK_FRAMES):
            stop = min(start + BLOCK_FRAMES, len(times))
            steps = np.array([last, *self._displacements[start:stop]], dtype=np.float64)
            moved = np.cumsum(steps, axis=0)
            last = moved[-1]
            # From the first tick at or after the last frame of the previous block.
            first_tick = int(np.ceil(times[start - 1] * fps - 1e-9))
            n_ticks = n_frames if stop == len(times) else int(np.ceil(times[stop - 1] * fps))
            block_times = times[start - 1 : stop] - first_tick / fps
            if n_ticks > first_tick:
                positions[first_tick:n_ticks] = resample_positions(
                    moved, block_times, n_frames=n_ticks - first_tick, fps=fps
                )
        fastest = [
            np.quantile(np.linalg.norm(np.diff(block, axis=0), axis=-1), 0.98, axis=1)
            for k in range(0, n_frames - 1, BLOCK_FRAMES)
            for block in [positions[k : k + BLOCK_FRAMES + 1]]
        ]
        return positions, np.concatenate([np.zeros(0), *fastest])

    def compute_rhythm(self, *, fps: float = POSE_FPS) -> Rhythm:
        """Compute the rhythm of the frames added so far; see `rhythm_from_flow`."""
        if len(self._times_s) < 3:
            raise InputError(
                f"optical flow needs at least 3 frames, got {len(self._times_s)}",
                hint="use a longer video",
            )
        positions, fastest_px = self.resample(fps=fps)
        n_frames = len(positions)
        if float(fastest_px.max(initial=0.0)) * fps / POSE_FPS < MIN_MOTION_PX:
            raise InputError("no motion detected in this video", hint="use a video with motion")
        # There is no performer whose size could scale the thresholds. With this value the
        # minimum speed drop of the strongest peak is MIN_MOTION_PX.
        times_s, strengths, onsets = detect_trajectory_peaks(
            positions,
            np.broadcast_to(np.float32(1), positions.shape[:2]),
            body_size=MIN_MOTION_PX * 10,
            fps=fps,
        )
        times_s = self._refine_impacts(times_s, fps=fps)
        order = np.argsort(times_s, kind="stable")
        # Two peaks may be refined to the same impact.
        order = order[np.diff(times_s[order], prepend=-np.inf) > 0.5 / fps]
        return Rhythm(
            times_s=times_s[order],
            strengths=strengths[order],
            envelope=normalize_by_max(onsets),
            envelope_rate_hz=fps,
            method="flow",
            compat="paper",
            duration_s=n_frames / fps,
        )

    def _refine_impacts(self, impacts_s: Array, *, fps: float) -> Array:
        """Return the impacts at the resolution of the frames, ``(impacts,)``."""
        times_s = np.array(self._times_s) - self._times_s[0]
        reach_s = WINDOW_PERIODS / fps
        refined = []
        for impact_s in impacts_s.tolist():
            start, stop = np.searchsorted(times_s, [impact_s - reach_s, impact_s + reach_s])
            steps = np.array(self._displacements[start:stop], dtype=np.float64)
            positions = np.cumsum(steps, axis=0)
            refined.append(refine_impact(impact_s, positions, times_s[start:stop], fps=fps))
        return np.array(refined).clip(0, times_s[-1])


def _downscale_to_grey(rgb: NDArray[np.uint8]) -> GreyImage:
    import cv2

    height, width = rgb.shape[:2]
    rows = max(round(height * FLOW_WIDTH_PX / width), 2 * CELL_PX)
    small = cv2.resize(rgb, (FLOW_WIDTH_PX, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
