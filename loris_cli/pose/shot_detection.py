"""Where a film changes its shot, told from one picture to the next."""

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

THUMBNAIL_SIZE_PX = (64, 36)
# Mean difference of two thumbnails, 0..255. Three dance clips at 16 fps: at most 7.1 within a
# shot (a camera in the hand, its median 4.3), at least 7.4 between two of them.
MIN_CUT_DIFFERENCE = 6.0
# ... and this many times what is usual at the moment, so that a moving camera is no cut.
MIN_DIFFERENCE_RATIO = 3.0
# ... or this share of the colours is another: a pan keeps them. Within a shot of the three
# clips at least 0.93 is kept, in a zoom on the same dancer 0.78.
MAX_HISTOGRAM_OVERLAP = 0.5
MEDIAN_WINDOW_FRAMES = 8
# What is usual where nothing is known yet: a camera in the hand.
INITIAL_MEDIAN_DIFFERENCE = 4.0


class ShotDetector:
    """Tells cuts in a stream of pictures; keeps one thumbnail."""

    def __init__(self) -> None:
        """Start before the first picture."""
        self._last: tuple[Array, Array] | None = None
        self._recent: deque[float] = deque(maxlen=MEDIAN_WINDOW_FRAMES)

    def is_cut(self, rgb: Array) -> bool:
        """Whether a picture looks like the first of a new shot.

        A flash of light looks like one too: only a body that stays where it was can tell.

        Args:
            rgb: the next picture, ``(height, width, 3)`` uint8.
        """
        import cv2

        small = cv2.resize(rgb, THUMBNAIL_SIZE_PX, interpolation=cv2.INTER_AREA)
        colours = _colour_histogram(small)
        last, self._last = self._last, (small, colours)
        if last is None:
            return False
        difference = float(np.abs(small.astype(float) - last[0]).mean())
        kept = float(np.minimum(colours, last[1]).sum())
        usual = (
            sorted(self._recent)[(len(self._recent) - 1) // 2]
            if self._recent
            else INITIAL_MEDIAN_DIFFERENCE
        )
        # A cut counts as usual too: when cut follows cut, it is the camera that shakes.
        self._recent.append(difference)
        surprising = difference > MIN_DIFFERENCE_RATIO * usual or kept < MAX_HISTOGRAM_OVERLAP
        return difference > MIN_CUT_DIFFERENCE and surprising


def _colour_histogram(image: Array) -> Array:
    """Share of the pixels in each of 8 x 8 x 8 colours, ``(512,)``."""
    red, green, blue = (image.reshape(-1, 3) // 32).astype(int).T
    shares: Array = np.bincount(64 * red + 8 * green + blue, minlength=512) / red.size
    return shares
