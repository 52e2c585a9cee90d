"""Detection of cuts in a video, frame by frame."""

from collections import deque
from statistics import median_low

import numpy as np

from loris_cli.pose.keypoints import Array

THUMBNAIL_SIZE_PX = (64, 36)
# Mean difference of two thumbnails, 0..255. Three dance clips at 16 fps: at most 7.1 within a
# shot (a camera in the hand, its median 4.3), at least 7.4 between two of them.
MIN_CUT_DIFFERENCE = 6.0
# ... and this many times the recent median, so that a moving camera is no cut.
MIN_DIFFERENCE_RATIO = 3.0
# ... or the colour histograms overlap by less: a pan keeps them. Within a shot of the three
# clips they overlap by at least 0.93, in a zoom on the same dancer by 0.78.
MAX_HISTOGRAM_OVERLAP = 0.5
MEDIAN_WINDOW_FRAMES = 8
# The median before the second frame: a camera in the hand.
INITIAL_MEDIAN_DIFFERENCE = 4.0


class ShotDetector:
    """Detects cuts in a stream of frames; keeps one thumbnail."""

    def __init__(self) -> None:
        """Start before the first frame."""
        self._last: tuple[Array, Array] | None = None
        self._recent: deque[float] = deque(maxlen=MEDIAN_WINDOW_FRAMES)

    def is_cut(self, rgb: Array) -> bool:
        """Whether a frame looks like the first of a new shot.

        So does a flash of light: the tracker rejects a cut where a person stays in place.

        Args:
            rgb: the next frame, ``(height, width, 3)`` uint8.
        """
        import cv2

        thumbnail = cv2.resize(rgb, THUMBNAIL_SIZE_PX, interpolation=cv2.INTER_AREA)
        histogram = _colour_histogram(thumbnail)
        last, self._last = self._last, (thumbnail, histogram)
        if last is None:
            return False
        difference = float(np.abs(thumbnail.astype(float) - last[0]).mean())
        overlap = float(np.minimum(histogram, last[1]).sum())
        median = median_low(self._recent) if self._recent else INITIAL_MEDIAN_DIFFERENCE
        # The difference at a cut is recorded too: repeated cuts are a shaking camera.
        self._recent.append(difference)
        unusual = difference > MIN_DIFFERENCE_RATIO * median or overlap < MAX_HISTOGRAM_OVERLAP
        return difference > MIN_CUT_DIFFERENCE and unusual


def _colour_histogram(image: Array) -> Array:
    """Fraction of the pixels in each of 8 x 8 x 8 colours, ``(512,)``."""
    red, green, blue = (image.reshape(-1, 3) // 32).astype(int).T
    return np.asarray(np.bincount(64 * red + 8 * green + blue, minlength=512) / red.size)
